"""Settings of who may connect, and who may do what."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings


class AccessSettings(BaseSettings):
    """Part of `Settings`."""

    tls_certificate: Path | None = Field(
        None, description="Certificate of the server and its chain, in PEM; with it TLS is spoken."
    )
    tls_key: Path | None = Field(None, description="Key of the certificate, in PEM.")
    tls_client_ca: Path | None = Field(
        None, description="Authority of client certificates, in PEM; with it they are asked for."
    )
    tls_client_required: bool = Field(
        True, description="Whether who has no client certificate is turned away, or only unnamed."
    )
    http_host: str = Field(
        "", description="Address that the HTTP port listens on; empty is that of `host`."
    )
    http_tls: bool = Field(
        True, description="Whether the HTTP port speaks TLS where the gRPC port does."
    )
    http_hosts: list[str] = Field(
        default_factory=list,
        description="Names by which browsers may call an HTTP port that listens on this machine"
        " only, beside localhost: those of a proxy before it.",
    )
    access: Path | None = Field(
        None, description="File of the clients and what each may do; without it all may do all."
    )
    audit_log: Path | None = Field(
        None, description="File of control actions and refused callers; else they are logged."
    )
    insecure: bool = Field(
        False, description="Whether other machines may call without TLS, where the network is safe."
    )


def only_this_machine(host: str) -> bool:
    """Whether nobody else can call what listens there. A name that is no address might be any."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
