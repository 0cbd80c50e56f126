"""`gearshift health`: does the server take requests? For health checks that can only run a command.

Kubernetes asks by itself (`grpc:` probes); Docker, Compose and systemd run a program.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

import typer

from gearshift.app.settings import Settings, load_settings
from gearshift.cli.calling import (
    Calling,
    ClientCertificate,
    ClientKey,
    Tls,
    TlsCa,
    calling,
    own,
)
from gearshift.cli.options import Config
from gearshift.cli.running import failing_clearly
from gearshift.errors import GearshiftError


class Unhealthy(GearshiftError):
    """The server does not serve, does not know the service, or is not there."""


def health(
    service: Annotated[
        str,
        typer.Argument(
            help="A model, or `live`: whether the process runs, also while it drains."
            "  [default: the whole server]",
            show_default=False,
        ),
    ] = "",
    address: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of the server's gRPC port.  [default: where `gearshift serve` listens"
            " with these settings]"
        ),
    ] = None,
    within: Annotated[
        float, typer.Option(min=0.1, max=60, help="Seconds that the server may take.")
    ] = 5.0,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    client_certificate: ClientCertificate = None,
    client_key: ClientKey = None,
    config: Config = None,
) -> None:
    """Ask a server whether it takes requests, by the gRPC health protocol.

    Exit code 0: it serves. 1: it does not yet, no longer, or does not answer; one line says
    which. Meant for health checks that run a command; Kubernetes can ask by itself.
    """
    with failing_clearly():
        if address is None:
            settings = load_settings(config)
            asked, caller = own_address(settings), own(settings)
        else:
            asked, caller = address, Calling()
        # Health is open to all: no token is needed for it.
        if tls or tls_ca is not None or client_certificate is not None:
            caller = calling(
                asked,
                tls=tls,
                ca=tls_ca,
                certificate=client_certificate,
                key=client_key,
                token_file=None,
            )
        status = _status(caller, service, asked, within)
        what = f"{service!r} at {asked}" if service else asked
        if status != "SERVING":
            raise Unhealthy(f"{what}: {status}")
        print(f"{what}: SERVING")  # noqa: T201 - for programs, not for people


def own_address(settings: Settings) -> str:
    """Where a server with these settings is reached from its own machine."""
    host = settings.host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"{host}:{settings.grpc_port}"
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    return (
        f"[{host}]:{settings.grpc_port}" if address.version == 6 else f"{host}:{settings.grpc_port}"
    )


def _status(caller: Calling, service: str, address: str, within: float) -> str:
    """The name of the status. Unhealthy where there is none."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    request = health_pb2.HealthCheckRequest(service=service)
    try:
        with caller.channel(address) as channel:
            answer: Any = health_pb2_grpc.HealthStub(channel).Check(request, timeout=within)
    except grpc.RpcError as error:
        raise Unhealthy(_sentence(error, service, address)) from None
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def _sentence(error: Any, service: str, address: str) -> str:
    import grpc

    code = error.code()
    if code is grpc.StatusCode.NOT_FOUND:
        return f"the server at {address} has no service {service!r}: name a model, or live"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"the server at {address} does not speak grpc.health.v1: it is no gearshift"
    return f"no server answers at {address} ({code.name}: {error.details()})"
