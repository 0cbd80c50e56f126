"""`gearshift serve`: options in, a server until it is told to stop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gearshift.app.settings import load_settings
from gearshift.app.signals import NUMBERS, end_at_once
from gearshift.cli.options import Config, Provider, Repository, StateDir, Workers
from gearshift.cli.running import configure_logs, failing_clearly, progress_bar, run_to_the_end
from gearshift.errors import ConfigurationInvalid


def serve(
    repository: Repository = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="gRPC port, 0 for a free one.  [default: 8001]")
    ] = None,
    http_port: Annotated[
        int | None,
        typer.Option(
            help="Port of the page at /, of /metrics, /healthz and /readyz; 0: a free one."
            "  [default: 8002]"
        ),
    ] = None,
    workers: Workers = None,
    processes: Annotated[
        int | None,
        typer.Option(
            help="Serving processes behind the one port; cores and workers are divided among"
            " them.  [default: 1]"
        ),
    ] = None,
    watch: Annotated[
        bool | None,
        typer.Option(
            help="Whether models are loaded anew when their files change, and unloaded when their"
            " folder is gone.  [default: no]"
        ),
    ] = None,
    state_dir: StateDir = None,
    provider: Provider = None,
    on_time_bonus: Annotated[
        float | None,
        typer.Option(
            help="What being in time is worth beside the accuracy, as a share of the best one:"
            " under overload, more trades accuracy for answers in time.  [default: 0]"
        ),
    ] = None,
    drain_seconds: Annotated[
        float | None,
        typer.Option(help="How long admitted requests may take at shutdown.  [default: 30]"),
    ] = None,
    connection_age_seconds: Annotated[
        float | None,
        typer.Option(
            help="How long a connection lives before its caller is told to connect anew, at no"
            " cost to any request: who balances by himself finds added replicas then."
            "  [default: 0, for ever]"
        ),
    ] = None,
    shared_memory: Annotated[
        bool | None,
        typer.Option(
            help="Whether callers may register shared memory, which lets them read and write what"
            " the server may in /dev/shm.  [default: where only this machine can call]"
        ),
    ] = None,
    shadow_share: Annotated[
        float | None,
        typer.Option(
            help="Share of lesser answers that are run again on the best variant, in spare time."
            "  [default: 0.01]"
        ),
    ] = None,
    drift: Annotated[
        bool | None,
        typer.Option(
            help="Whether a sample of the inputs is compared with the held-out samples of their"
            " model.  [default: yes]"
        ),
    ] = None,
    feedback: Annotated[
        bool | None,
        typer.Option(
            help="Whether answers are kept for a while, so that what was true can be reported."
            "  [default: yes]"
        ),
    ] = None,
    feedback_url: Annotated[
        str | None,
        typer.Option(
            help="Database of answers and labels, as in postgresql://USER@HOST/DATABASE."
            "  [default: a SQLite file in the state dir]"
        ),
    ] = None,
    feedback_rows: Annotated[
        int | None,
        typer.Option(help="Rows of answers that are kept, and as many labels.  [default: 1000000]"),
    ] = None,
    feedback_days: Annotated[
        float | None, typer.Option(help="Days that they are kept.  [default: 30]")
    ] = None,
    otel_endpoint: Annotated[
        str | None,
        typer.Option(
            help="Where traces are sent by OTLP over gRPC, as in http://localhost:4317."
            "  [default: what OTEL_EXPORTER_OTLP_ENDPOINT says, if anything]"
        ),
    ] = None,
    trace_ratio: Annotated[
        float | None,
        typer.Option(
            help="Share of the requests that are traced where the caller's trace does not decide"
            " it.  [default: 0.01]"
        ),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error.  [default: info]")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(help="console (for people) or json.  [default: console]")
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(help="Certificate of the server and its chain, in PEM; TLS is spoken then."),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Key of the certificate, in PEM.")] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(help="Authority of client certificates, in PEM; who has none is turned away."),
    ] = None,
    access: Annotated[
        Path | None,
        typer.Option(
            help="File of the clients and what each may do (docs/security.md)."
            "  [default: all may do all]"
        ),
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option(
            "--insecure",
            help="Let other machines call without TLS, where the network keeps others out.",
        ),
    ] = None,
    others: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting, as in feedback_days=7. May be repeated."),
    ] = None,
    config: Config = None,
) -> None:
    """Serve a repository over gRPC until SIGTERM or Ctrl-C.

    The first start measures how fast each variant is on this machine (seconds, with a
    progress bar) and keeps the result; later starts reuse it. When everything has answered
    once, one line names both addresses.
    """
    for number in NUMBERS:
        end_at_once(number)  # Until it serves, when there is something to drain.
    with failing_clearly():
        named = {
            "repository": repository,
            "host": host,
            "grpc_port": grpc_port,
            "http_port": http_port,
            "workers": workers,
            "processes": processes,
            "watch": watch,
            "state_dir": state_dir,
            "providers": provider,
            "on_time_bonus": on_time_bonus,
            "drain_seconds": drain_seconds,
            "connection_age_seconds": connection_age_seconds,
            "shared_memory": shared_memory,
            "shadow_share": shadow_share,
            "drift": drift,
            "feedback": feedback,
            "feedback_url": feedback_url,
            "feedback_rows": feedback_rows,
            "feedback_days": feedback_days,
            "otel_endpoint": otel_endpoint,
            "trace_ratio": trace_ratio,
            "log_level": log_level,
            "log_format": log_format,
            "tls_certificate": tls_certificate,
            "tls_key": tls_key,
            "tls_client_ca": tls_client_ca,
            "access": access,
            "insecure": insecure,
        }
        settings = load_settings(config, **{**named, **_others(others or [])})
        configure_logs(settings)
        with progress_bar() as on_progress:

            def announce(grpc_address: str, http_address: str) -> None:
                on_progress.close()
                print(  # noqa: T201 - the one line that scripts wait for
                    f"gearshift is ready: gRPC on {grpc_address}, metrics on"
                    f" {http_address}/metrics",
                    flush=True,
                )

            if settings.processes > 1:
                from gearshift.app.supervise import supervise

                run_to_the_end(lambda: supervise(settings, announce))
            else:
                from gearshift.app import server

                run_to_the_end(lambda: server.serve(settings, on_progress, announce))


def _others(given: Sequence[str]) -> dict[str, str]:
    """Settings of `--set name=value`; ConfigurationInvalid for what is not of that form."""
    others = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise ConfigurationInvalid(f"--set {each}: expected name=value, as in feedback_days=7")
        others[name.strip().replace("-", "_")] = value
    return others
