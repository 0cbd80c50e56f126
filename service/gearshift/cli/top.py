"""`gearshift top`: the frontier of a running server in the terminal, by WatchFrontier."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import grpc
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gearshift.cli.calling import (
    Calling,
    ClientCertificate,
    ClientKey,
    Tls,
    TlsCa,
    TokenFile,
    calling,
)
from gearshift.cli.running import failing_clearly
from gearshift.errors import GearshiftError

CONNECTED_WITHIN = 5.0
"""Seconds until the first figures must be there."""

ADDRESS = "127.0.0.1:8001"

BAR = 12
"""Cells of a whole bar."""

_EIGHTHS = " ▏▎▍▌▋▊▉"

WIDE = 92
"""Columns of a terminal from which on everything has room."""


class NotWatched(GearshiftError):
    """The server is not there, or does not tell."""


def top(
    address: Annotated[str, typer.Option(help="gRPC address of the server, HOST:PORT.")] = ADDRESS,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Only this model; may be given several times.  [default: all]"),
    ] = None,
    interval: Annotated[
        float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")
    ] = 1.0,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    client_certificate: ClientCertificate = None,
    client_key: ClientKey = None,
    token_file: TokenFile = None,
    once: Annotated[
        bool, typer.Option("--once", help="Print one look and end; needs no terminal.")
    ] = False,
) -> None:
    """Watch a running server: each variant's accuracy, latency and share of the answers, and
    how many requests of each service class are answered in time.

    The figures are those of the page at / and of /metrics. Ctrl-C ends it.
    """
    out = Console()
    with failing_clearly():
        caller = calling(
            address,
            tls=tls,
            ca=tls_ca,
            certificate=client_certificate,
            key=client_key,
            token_file=token_file,
        )
        looks = _looks(caller, address, model or [], interval)
        if once or not out.is_terminal:
            out.print(picture(next(looks), out.width))
            return
        # The first before the screen is taken: whoever cannot be reached must be read about.
        first = next(looks)
        with (
            _ctrl_c() as pressed,
            suppress(KeyboardInterrupt),
            Live(picture(first, out.width), console=out, auto_refresh=False, screen=True) as live,
        ):
            for look in looks:
                if pressed.is_set():
                    break
                live.update(picture(look, out.width), refresh=True)


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """Set once Ctrl-C was pressed, which also raises KeyboardInterrupt: that may be lost where it
    meets a callback of the gRPC library, and the screen would stay taken for ever."""
    pressed = threading.Event()

    def leave(number: int, frame: object) -> None:
        pressed.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, leave)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _looks(caller: Calling, address: str, models: list[str], interval: float) -> Iterator[Any]:
    """What WatchFrontier tells, until the server ends. NotWatched if it cannot be had."""
    from gearshift.v1 import gearshift_pb2 as pb
    from gearshift.v1 import gearshift_pb2_grpc

    request = pb.WatchFrontierRequest(models=models, interval_ms=round(interval * 1e3))
    with caller.channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(CONNECTED_WITHIN)
        except grpc.FutureTimeoutError:
            raise NotWatched(
                f"no server answers at {address}; is `gearshift serve` running there? Its first"
                " line names its gRPC address, which --address takes"
            ) from None
        try:
            stub = gearshift_pb2_grpc.GearshiftStub(channel)
            yield from stub.WatchFrontier(request, metadata=caller.metadata)
        except grpc.RpcError as error:
            code, text = error.code(), error.details() or "the connection was lost"
            raise NotWatched(f"the server at {address} says {code.name}: {text}") from None
    raise NotWatched(f"the server at {address} has ended the watch")


def picture(look: Any, width: int) -> RenderableType:
    """One WatchFrontierResponse for a terminal of so many columns."""
    when = time.strftime("%H:%M:%S", time.localtime(look.time))
    head = Text.assemble(("gearshift", "bold"), f"  {when}, last {look.window_seconds:.0f} s")
    parts: list[RenderableType] = [head]
    for model in look.models:
        wide = width >= WIDE
        parts += [Text(), _variants(model, wide), Text(), _classes(model, wide)]
    return Group(*parts)


def _variants(model: Any, wide: bool) -> Table:
    table = _table(f"{model.name} ({model.metric})")
    table.add_column("variant", overflow="fold", min_width=12, ratio=3)
    for heading in ("accuracy", "p50", "p99") if wide else ("accuracy", "p50"):
        table.add_column(heading, justify="right", no_wrap=True)
    live = wide and any(point.HasField("live_accuracy") for point in model.variants)
    if live:
        table.add_column("live, 95 % interval", justify="right", no_wrap=True)
    if wide:
        table.add_column("answers/s", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True, min_width=BAR)
    table.add_column("share", justify="right", no_wrap=True)
    for point in model.variants:
        cells = [
            point.name if point.version else f"{point.name} (cascade)",
            f"{point.accuracy:.4f}",
            _ms(point.p50_ms),
        ]
        if wide:
            cells.append(_ms(point.p99_ms))
        if live:
            cells.append(_live(point))
        if wide:
            cells += [_rate(point.rate), bar(point.share)]
        table.add_row(*cells, _percent(point.share))
    return table


def _classes(model: Any, wide: bool) -> Table:
    table = _table(None)
    table.add_column("class", overflow="fold", min_width=12, ratio=3)
    whole = ("in time", "in time/s", "accuracy", "deficit", "waiting")
    for heading in whole if wide else ("in time", "/s", "accuracy", "wait"):
        table.add_column(heading, justify="right", no_wrap=True)
    for state in model.classes:
        cells = [
            _percent(state.attainment) if state.HasField("attainment") else "-",
            _rate(state.goodput),
            f"{state.served_accuracy:.4f}" if state.HasField("served_accuracy") else "-",
        ]
        if wide:
            deficit = f"{state.accuracy_deficit:.4f}" if state.HasField("accuracy_deficit") else "-"
            cells.append(deficit)
        table.add_row(state.name, *cells, str(state.waiting))
    return table


def _table(title: str | None) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=None, expand=True, pad_edge=False
    )


def bar(share: float) -> str:
    """A share from 0 to 1 as a bar of eighths of a cell; none at all only for zero."""
    eighths = round(share * BAR * 8)
    if share > 0:
        eighths = max(1, eighths)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def _percent(share: float) -> str:
    """100 only where it is all of them, 0 only where it is none."""
    text = f"{share:.1%}"
    if text == "100.0%":
        return "100%" if share == 1 else ">99.9%"
    if text == "0.0%":
        return "<0.1%" if share else "0%"
    return text


def _ms(ms: float) -> str:
    if not ms:
        return "-"
    return f"{ms * 1e3:.3g} µs" if ms < 1 else f"{ms:.3g} ms" if ms < 1e3 else f"{ms / 1e3:.3g} s"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _live(point: Any) -> str:
    if not point.HasField("live_accuracy"):
        return "-"
    return f"{point.live_accuracy:.4f} ({point.live_low:.4f} to {point.live_high:.4f})"
