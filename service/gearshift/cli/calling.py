"""How commands call a server: the same options for each of them."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gearshift.errors import ConfigurationInvalid

if TYPE_CHECKING:
    import grpc

    from gearshift.app.settings import Settings

TOKEN_VARIABLE = "GEARSHIFT_TOKEN"

Tls = Annotated[
    bool,
    typer.Option("--tls", help="Speak TLS, and trust the authorities of this machine."),
]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        envvar="GEARSHIFT_TLS_CA",
        help="Speak TLS, and trust the authorities in this file (PEM).",
    ),
]
ClientCertificate = Annotated[
    Path | None,
    typer.Option(help="Certificate to show, in PEM, where the server asks for one."),
]
ClientKey = Annotated[Path | None, typer.Option(help="Key of that certificate, in PEM.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        envvar="GEARSHIFT_TOKEN_FILE",
        help=f"File with the token to show.  [default: what {TOKEN_VARIABLE} says, if anything]",
    ),
]


@dataclass(frozen=True)
class Calling:
    """What a caller shows and trusts; plain text and no token where nothing is given."""

    tls: bool = False
    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    token: str = ""
    name: str = ""
    """That the server's certificate must be for, where it is not the one that is called."""

    def channel(self, address: str) -> AbstractContextManager[grpc.Channel]:
        """To be closed. A proxy that is meant for the way out is not asked for."""
        import grpc

        options: list[tuple[str, Any]] = [("grpc.enable_http_proxy", 0)]
        if not self.tls:
            return grpc.insecure_channel(address, options)
        if self.name:
            options.append(("grpc.ssl_target_name_override", self.name))
        credentials = grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)
        return grpc.secure_channel(address, credentials, options)

    @property
    def metadata(self) -> Sequence[tuple[str, str]]:
        """What goes with each call."""
        return [("authorization", f"Bearer {self.token}")] if self.token else []


def calling(
    address: str,
    *,
    tls: bool,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    token_file: Path | None,
) -> Calling:
    """ConfigurationInvalid for files that cannot be read, and where a token would go over the
    network in plain text."""
    if (certificate is None) != (key is None):
        raise ConfigurationInvalid(
            "--client-certificate and --client-key go together: give both, or neither"
        )
    secure = tls or ca is not None or certificate is not None
    token = (
        _read(token_file, "token file").decode(errors="replace").strip()
        if token_file is not None
        else os.environ.get(TOKEN_VARIABLE, "").strip()
    )
    if token and not (token.isascii() and token.isprintable()):
        raise ConfigurationInvalid("the token is no token: it has characters that none has")
    if token and not secure and not _near(address):
        raise ConfigurationInvalid(
            f"the token would go to {address} in plain text, for all on the way to read; give"
            f" --tls or --tls-ca"
        )
    return Calling(
        secure,
        None if ca is None else _read(ca, "authorities"),
        None if certificate is None else _read(certificate, "certificate"),
        None if key is None else _read(key, "key"),
        token,
    )


def own(settings: Settings) -> Calling:
    """For a server on this machine with these settings: what it shows is what is trusted."""
    if settings.tls_certificate is None:
        return Calling()
    from cryptography import x509

    text = _read(settings.tls_certificate, "certificate")
    try:
        certificate = x509.load_pem_x509_certificate(text)
    except ValueError:
        raise ConfigurationInvalid(
            f"certificate {settings.tls_certificate}: no certificate in PEM"
        ) from None
    return Calling(tls=True, ca=text, name=_name_in(certificate))


def _name_in(certificate: Any) -> str:
    from cryptography import x509

    try:
        kind = x509.SubjectAlternativeName
        names = certificate.extensions.get_extension_for_class(kind).value
        found = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        found = []
    # A certificate for all names below one is for any of them.
    return str(found[0]).replace("*", "any", 1) if found else ""


def _near(address: str) -> bool:
    """Whether it is on this machine."""
    if address.startswith("unix:"):
        return True
    host = address.removeprefix("dns:///").rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationInvalid(f"{what} {path}: {error.strerror}") from None
