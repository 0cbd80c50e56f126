"""A comparison as tables: headings and rows of text, and all of them as one Markdown page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from gearshift.simulate.compare import Comparison
from gearshift.simulate.result import Figures, Result

BOUND = "upper bound"


@dataclass(frozen=True, slots=True)
class Grid:
    """One table: what it shows in a sentence, its headings, its rows."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def accuracy_text(value: float | None, scale: float) -> str:
    """An accuracy with the digits that its scale deserves; `scale` is the largest there is."""
    if value is None:
        return "-"
    return f"{value:.2f}" if scale > 1 else f"{value:.4f}"


def percent(share: float) -> str:
    """A share in per cent, with more digits near the ends, where they matter."""
    value = 100 * share
    return f"{value:.1f}" if 1 < value < 99 else f"{value:.2f}"


def grids(comparison: Comparison, scale: float) -> list[Grid]:
    """Effective accuracy and violations; share of the bound; classes; cost of decisions."""
    results = comparison.results
    found = [_overview(comparison, scale)]
    if comparison.bounds:
        found.append(_share_of_bound(comparison))
    classes = list(dict.fromkeys(name for result in results for name in result.per_class))
    if len(classes) > 1:
        found.append(_classes(results, classes))
    if results[0].loading is not None:
        found.append(_loading(results))
    found.append(_cost(results))
    return found


def _policies(results: Iterable[Result]) -> list[str]:
    return list(dict.fromkeys(result.conditions.policy for result in results))


def _loads(results: Iterable[Result]) -> list[float]:
    return list(dict.fromkeys(result.conditions.speed_up for result in results))


def _mean(
    results: Sequence[Result], policy: str, load: float, value: Callable[[Result], float]
) -> float:
    """The mean over seeds."""
    chosen = [
        value(result)
        for result in results
        if result.conditions.policy == policy and result.conditions.speed_up == load
    ]
    return sum(chosen) / len(chosen)


def _headings(first: str, loads: Sequence[float]) -> tuple[str, ...]:
    return (first, *(f"{load:g}x" for load in loads))


def _by_policy(
    results: Sequence[Result], cell: Callable[[str, float], str]
) -> Iterator[tuple[str, ...]]:
    """A row for each policy, its name first, then `cell(policy, load)` at every load."""
    loads = _loads(results)
    for policy in _policies(results):
        yield (policy, *(cell(policy, load) for load in loads))


def _overview(comparison: Comparison, scale: float) -> Grid:
    results = comparison.results
    loads = _loads(results)

    def cell(policy: str, load: float) -> str:
        effective = _mean(results, policy, load, lambda r: r.total.effective_accuracy)
        attained = _mean(results, policy, load, lambda r: r.total.attainment)
        return f"{accuracy_text(effective, scale)} / {percent(1 - attained)}"

    rows = []
    if comparison.bounds:
        bounds = [comparison.bounds[load].effective_accuracy for load in loads]
        rows.append((BOUND, *(accuracy_text(bound, scale) for bound in bounds)))
    rows += _by_policy(results, cell)
    return Grid("Effective accuracy / violations in %", _headings("policy", loads), tuple(rows))


def _share_of_bound(comparison: Comparison) -> Grid:
    results = comparison.results

    def cell(policy: str, load: float) -> str:
        effective = _mean(results, policy, load, lambda r: r.total.effective_accuracy)
        bound = comparison.bounds[load].effective_accuracy
        return f"{100 * effective / bound:.2f}" if bound else "-"

    return Grid(
        "Effective accuracy in % of the bound",
        _headings("policy", _loads(results)),
        tuple(_by_policy(results, cell)),
    )


def _classes(results: Sequence[Result], classes: Sequence[str]) -> Grid:
    """Which class pays: the attainment of each, because a mean hides the small ones."""
    loads = _loads(results)
    rows = []
    for name in classes:
        for policy in _policies(results):

            def attainment(result: Result, name: str = name) -> float:
                figures: Figures | None = result.per_class.get(name)
                return figures.attainment if figures else 0.0

            cells = (percent(_mean(results, policy, load, attainment)) for load in loads)
            rows.append((name, policy, *cells))
    headings = ("class", *_headings("policy", loads))
    return Grid("Answered in time, % of each class", headings, tuple(rows))


def _loading(results: Sequence[Result]) -> Grid:
    def cell(policy: str, load: float) -> str:
        loads = _mean(results, policy, load, lambda r: r.loading.loads if r.loading else 0)
        seconds = _mean(results, policy, load, lambda r: r.loading.seconds if r.loading else 0.0)
        return f"{loads:g} / {seconds:.0f}"

    return Grid(
        "Variants loaded while requests came / seconds that it took",
        _headings("policy", _loads(results)),
        tuple(_by_policy(results, cell)),
    )


def _cost(results: Sequence[Result]) -> Grid:
    def cell(policy: str, load: float) -> str:
        p50 = _mean(results, policy, load, lambda r: r.decision_us.p50)
        p99 = _mean(results, policy, load, lambda r: r.decision_us.p99)
        return f"{p50:.0f} / {p99:.0f}"

    return Grid(
        "Microseconds of one decision, p50 / p99, on the machine that made this page",
        _headings("policy", _loads(results)),
        tuple(_by_policy(results, cell)),
    )


def markdown(comparison: Comparison, scale: float, command: str, picture: str) -> str:
    """The page: the command that made it, its inputs, the picture, the tables."""
    first = comparison.results[0]
    conditions = first.conditions
    seeds = sorted({result.conditions.seed for result in comparison.results})
    workers = ", ".join(f"{count} {device}" for device, count in first.workers.items())
    lines = [
        f"# Policies compared on {first.files['workload']['name']}",
        "",
        f"Made by `{command}`: {first.total.requests} requests, workers {workers}, service times"
        f" with a CV of {100 * conditions.noise:g} %, seed(s) {', '.join(map(str, seeds))}"
        f" (cells are means over them).",
        "",
        *(
            f"- {role}: `{source['name']}`, SHA-256 `{source['sha256']}`"
            for role, source in first.files.items()
        ),
        "",
        "Effective accuracy is the mean over all requests, one that was not answered in time"
        " counting as 0; a violation is a request not answered in time, for whatever reason."
        " The bound holds for service times without noise, and with noise for the mean.",
        *_holding(first),
        "",
        f"![Attainment against served accuracy]({picture})",
    ]
    for grid in grids(comparison, scale):
        lines += ["", f"## {grid.title}", "", *_table(grid)]
    return "\n".join(lines) + "\n"


def _holding(result: Result) -> list[str]:
    """What the policies hold, in words."""
    if result.loading is None:
        return [
            "`infaas` and `proteus` hold one variant a worker and change it at no cost; the others"
            " hold all of them. `proteus` plans every 30 s, `proteus-1s` every second, as if the"
            " solver took no time."
        ]
    limits = ", ".join(f"{size:g} MB on {name}" for name, size in result.loading.limits.items())
    return [
        f"Memory is limited: {limits}, which all workers of the device share; one variant at a time"
        " is loaded. `gearshift` changes what is loaded as demand does, as if its solver took no"
        " time; `accurate-first` and `smallest-first` load in that order what fits, once and for"
        " all, with the same scheduler over it.",
        "The bound is that of a linear program with the same limits, in which a variant may be"
        " loaded in part and exchanged in every step for what can be loaded in its time: it is"
        " above what could be reached, and by how much is not known.",
    ]


def _table(grid: Grid) -> list[str]:
    labels = sum(heading in ("policy", "class") for heading in grid.headings)
    rule = ["---"] * labels + ["---:"] * (len(grid.headings) - labels)
    return [f"| {' | '.join(cells)} |" for cells in (grid.headings, rule, *grid.rows)]
