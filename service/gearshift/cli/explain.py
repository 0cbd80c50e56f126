"""`gearshift explain`: ask a running server which variant such a request would get, and why."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gearshift.cli.calling import ClientCertificate, ClientKey, Tls, TlsCa, TokenFile, calling
from gearshift.cli.running import err, failing_clearly

if TYPE_CHECKING:
    from gearshift.v1 import gearshift_pb2 as pb

WITHIN = 5.0
"""Seconds that the server may take."""

out = Console()


def explain(
    model: Annotated[str, typer.Argument(help="The model, such as garment.")],
    budget_ms: Annotated[
        float | None, typer.Option(help="Latency budget in milliseconds.", show_default=False)
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(help="The least accuracy that is accepted.", show_default=False),
    ] = None,
    service_class: Annotated[
        str, typer.Option(help="Service class whose defaults apply.", show_default=False)
    ] = "",
    variant: Annotated[
        str, typer.Option(help="Pin this variant by name.", show_default=False)
    ] = "",
    rows: Annotated[int, typer.Option(help="Rows in the request.", min=1)] = 1,
    address: Annotated[
        str, typer.Option(help="HOST:PORT of the server's gRPC port.")
    ] = "127.0.0.1:8001",
    tls: Tls = False,
    tls_ca: TlsCa = None,
    client_certificate: ClientCertificate = None,
    client_key: ClientKey = None,
    token_file: TokenFile = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer as JSON, as protobuf writes it.")
    ] = False,
) -> None:
    """Say what would answer such a request at this moment, and why not the others.

    Nothing runs and nothing is counted. Exit code 0 also where the request would be refused: the
    question was answered. 1: the server cannot be reached, or there is no such model, class or
    variant.
    """
    import grpc

    from gearshift.v1 import gearshift_pb2 as pb
    from gearshift.v1 import gearshift_pb2_grpc

    request = pb.ExplainRequest(
        model=model,
        latency_budget_ms=budget_ms,
        min_accuracy=min_accuracy,
        service_class=service_class,
        variant=variant,
        rows=rows,
    )
    with failing_clearly():
        caller = calling(
            address,
            tls=tls,
            ca=tls_ca,
            certificate=client_certificate,
            key=client_key,
            token_file=token_file,
        )
    try:
        with caller.channel(address) as channel:
            stub = gearshift_pb2_grpc.GearshiftStub(channel)
            response: pb.ExplainResponse = stub.Explain(
                request, timeout=WITHIN, metadata=caller.metadata
            )
    except grpc.RpcError as error:
        _fail(_sentence(error, address))
    if as_json:
        from google.protobuf.json_format import MessageToJson

        print(MessageToJson(response))  # noqa: T201 - for programs, not for people
        return
    out.print(_table(response))
    out.print(_conclusion(response), highlight=False, markup=False, soft_wrap=True)


def _fail(sentence: str) -> None:
    err.print(f"gearshift: {sentence}", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(1)


def _sentence(error: Any, address: str) -> str:
    import grpc

    code = error.code()
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return f"no server answers at {address} ({code.name}: {error.details()}); is it running?"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"the server at {address} cannot explain: it is no gearshift, or an old one"
    return f"{error.details()} ({code.name})"


def _table(response: pb.ExplainResponse) -> Table:
    table = Table(title=f"{response.model}, class {response.service_class}: {_wishes(response)}")
    for heading in ("", "gear"):
        table.add_column(heading)
    for heading in ("accuracy", "wait", "p50", "p99"):
        table.add_column(heading, justify="right")
    for heading in ("verdict", "why"):
        table.add_column(heading)
    for gear in response.candidates:
        chosen = gear.name == response.chosen
        table.add_row(
            "→" if chosen else "",
            gear.name,
            f"{gear.accuracy:.4f} ({gear.accuracy_source})",
            *(_ms(value) for value in (gear.wait_ms, gear.p50_ms, gear.p99_ms)),
            gear.Verdict.Name(gear.verdict).removeprefix("VERDICT_").lower().replace("_", " "),
            Text(gear.why),
            style="bold" if chosen else "",
        )
    return table


def _wishes(response: pb.ExplainResponse) -> str:
    limited = response.HasField("budget_ms")
    budget = f"budget {response.budget_ms:.3g} ms" if limited else "no budget"
    floor = "no floor" if response.floor == -math.inf else f"floor {response.floor:.4f}"
    return f"{budget}, {floor}"


def _conclusion(response: pb.ExplainResponse) -> str:
    if response.refused_status:
        return f"Would be refused with {response.refused_status}: {response.refused_message}"
    (why,) = [gear.why for gear in response.candidates if gear.name == response.chosen]
    return f"{response.chosen} would answer (reason {response.reason}): {why}."


def _ms(value: float) -> str:
    return "-" if value == math.inf else f"{value:.3g} ms"
