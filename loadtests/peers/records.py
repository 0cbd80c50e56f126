"""What was measured, as it is kept in results.json, and what is made of it: medians and ratios."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    least: float
    most: float


def spread(values: Iterable[float]) -> Spread | None:
    """None of nothing: a server that failed has no figure."""
    found = sorted(values)
    return Spread(statistics.median(found), found[0], found[-1]) if found else None


@dataclass(frozen=True, slots=True)
class Closed:
    """One server, one model, so many callers, in one round."""

    server: str
    model: str
    callers: int
    round: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """Of the server's whole process tree, a request."""
    failed: int
    wrong: int


@dataclass(frozen=True, slots=True)
class Open:
    """One server and model under Poisson arrivals at `offered` a second."""

    server: str
    model: str
    offered: float
    deadline_ms: float
    answered: float
    """Right answers a second; `in_time` is their share of what was sent that met the deadline."""
    in_time: float
    p50_ms: float
    p99_ms: float
    lag_p99_ms: float


@dataclass(frozen=True, slots=True)
class Server:
    title: str
    memory_mb: float = 0.0
    idle_percent: float = 0.0
    """Of one core, while nothing asks."""
    absent: str = ""


@dataclass(slots=True)
class Results:
    command: str
    environment: dict[str, str]
    rounds: int
    servers: dict[str, Server] = field(default_factory=dict)
    closed: list[Closed] = field(default_factory=list)
    open: list[Open] = field(default_factory=list)
    alone: dict[str, list[float]] = field(default_factory=dict)
    """ONNX Runtime's rows a second, by model, a figure a round."""
    alone_how: dict[str, str] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    """How often a server crashed or hung while it was asked."""
    ceiling: dict[int, tuple[float, float]] = field(default_factory=dict)
    """By callers: requests a second against the empty server, the client's CPU us a request."""

    def present(self) -> list[str]:
        return [name for name, server in self.servers.items() if not server.absent]

    def cells(self, server: str, model: str, callers: int) -> list[Closed]:
        return [
            cell
            for cell in self.closed
            if (cell.server, cell.model, cell.callers) == (server, model, callers)
        ]

    def best(self, server: str, model: str, callers: Sequence[int]) -> dict[int, float]:
        """By round: requests a second at the number of callers that suited it best."""
        best: dict[int, float] = {}
        for cell in self.closed:
            if (cell.server, cell.model) == (server, model) and cell.callers in callers:
                best[cell.round] = max(best.get(cell.round, 0.0), cell.rate)
        return best

    def ratio(self, ours: str, other: str, model: str, callers: Sequence[int]) -> Spread | None:
        """Ours over the other's, round by round: what the machine does meets both alike."""
        mine, its = (self.best(name, model, callers) for name in (ours, other))
        return spread(mine[r] / its[r] for r in mine.keys() & its.keys() if its[r] > 0)

    def of_alone(self, server: str, model: str, callers: Sequence[int]) -> Spread | None:
        """The share of ONNX Runtime's own rows a second, round by round."""
        best = self.best(server, model, callers)
        alone = self.alone.get(model, [])
        return spread(rate / alone[r] for r, rate in best.items() if r < len(alone))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))


def read(path: Path) -> Results:
    told = json.loads(path.read_text())
    return Results(
        command=told["command"],
        environment=told["environment"],
        rounds=told["rounds"],
        servers={name: Server(**server) for name, server in told["servers"].items()},
        closed=[Closed(**cell) for cell in told["closed"]],
        open=[Open(**cell) for cell in told["open"]],
        alone=told["alone"],
        alone_how=told["alone_how"],
        ended=told["ended"],
        ceiling={int(n): (rate, cpu) for n, (rate, cpu) in told["ceiling"].items()},
    )
