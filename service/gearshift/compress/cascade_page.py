"""The report on cascades, `cascade.md`, and a picture of each model's frontier with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gearshift.compress import metrics
from gearshift.compress.cascade import curve
from gearshift.compress.cascade_model import Learning, Tried, verdict
from gearshift.compress.machine import machine
from gearshift.compress.page import duration, table
from gearshift.compress.picture import Curve, Dot, draw
from gearshift.core.card import CascadeCard

PAGE = "cascade.md"
DRAWN = tuple(i / 100 for i in (0, 0.5, 1, 1.5, 2, 3, 4, 5, 7, 10, 13, 16, 20, 25, 30, 40, 50))


@dataclass(frozen=True, slots=True)
class Learned:
    """One model: all pairs that were tried, and the cards of those that are shipped."""

    known: Learning
    tried: Sequence[Tried]
    cards: Sequence[CascadeCard]

    def of(self, card: CascadeCard) -> Tried:
        """The pair behind a card."""
        return next(
            tried
            for tried in self.tried
            if (tried.first.name, tried.then.name) == (card.first, card.then)
        )


def publish(pages: Sequence[Learned], command: str, within: float, results: Path) -> list[Path]:
    """Write the page and the pictures; the paths of all."""
    results.mkdir(parents=True, exist_ok=True)
    written = [results / PAGE]
    parts = [
        "# Cascades\n",
        f"Written by `{command}`; do not edit by hand. Machine: {machine()}. A quick variant"
        " answers every row, and rows of which it is less sure than the threshold go on to a"
        f" better one. The threshold is the one that sends the fewest rows on while the whole"
        f" stays within {within:g} points of the better variant; accuracy and the share that goes"
        " on are cross-fitted: every row was answered with a threshold that was chosen by other"
        " rows. Cost: the mean worker time of a row as a share of the better variant's, from"
        " medians of ONNX Runtime on one thread, the variants taking turns, and with the time that"
        " it takes to see how sure answers are; what goes on is taken to run in batches of the"
        " same size. A cascade pays if it is cheaper than its better"
        " variant and no single variant is as accurate and no dearer.\n",
    ]
    for learned in pages:
        model = learned.known.model.name
        picture = results / f"cascade-{model}.png"
        _draw(learned, picture)
        written.append(picture)
        parts += [
            f"## {model}\n",
            f"On {learned.known.rows.about}.\n",
            f"![accuracy against time]({picture.name})\n",
            _shipped(learned),
            _tried(learned),
        ]
    written[0].write_text("\n".join(part for part in parts if part), encoding="utf-8")
    return written


def _shipped(learned: Learned) -> str:
    if not learned.cards:
        return "None is shipped.\n"
    body = []
    for card in learned.cards:
        tried, apart = learned.of(card), card.difference
        body.append(
            (
                f"`{card.cascade}`",
                f"`{card.first}`, then `{card.then}`",
                f"{card.threshold:.4f}",
                f"{card.escalated:.2%}",
                f"{card.accuracy.value:.4f} ({card.accuracy.low:.4f} to {card.accuracy.high:.4f})",
                f"{apart.value:+.4f} ({apart.low:+.4f} to {apart.high:+.4f})",
                *(f"{cost.share:.2f}" for cost in card.costs),
                *(
                    duration(cost.share * learned.known.latency[cost.batch][tried.then.name])
                    for cost in card.costs
                ),
            )
        )
    batches = [cost.batch for cost in learned.cards[0].costs]
    heads = (
        *("cascade", "variants", "threshold", "go on"),
        *(learned.known.model.metric, "beside the second"),
        *(f"cost, batch {batch}" for batch in batches),
        *(f"time, batch {batch}" for batch in batches),
    )
    method = f"Difference: {learned.cards[0].difference.method}.\n"
    return f"Shipped:\n\n{table(heads, body, text=(0, 1))}\n{method}"


def _tried(learned: Learned) -> str:
    body = []
    for tried in learned.tried:
        fit, pair = tried.fit, f"`{tried.first.name}`, then `{tried.then.name}`"
        if fit is None:
            body.append((pair, *[""] * (3 + len(tried.costs)), verdict(tried, learned.tried)))
            continue
        apart = fit.accuracy - learned.known.alone[tried.then.name]
        body.append(
            (
                pair,
                f"{fit.escalated:.2%}",
                f"{fit.accuracy:.4f}",
                f"{apart:+.4f}",
                *(f"{cost:.2f}" for _, cost in sorted(tried.costs.items())),
                verdict(tried, learned.tried),
            )
        )
    costs = (f"cost, batch {batch}" for batch in learned.known.latency)
    heads = ("pair", "go on", learned.known.model.metric, "beside the second", *costs, "pays")
    return f"All pairs:\n\n{table(heads, body, text=(0, 6))}"


def _draw(learned: Learned, path: Path) -> None:
    known = learned.known
    batch = max(known.latency)
    taken = {name: seconds / batch * 1e3 for name, seconds in known.latency[batch].items()}
    dots = [
        Dot(v.name, taken[v.name], known.alone[v.name], v.artifact_bytes)
        for v in known.model.variants
        if v.name in known.alone
    ]
    drawn = [(card.cascade, learned.of(card)) for card in learned.cards]
    curves = [
        Curve(
            name,
            [
                (
                    known.seconds(batch, tried.first.name, tried.then.name, step.share)
                    / batch
                    * 1e3,
                    step.accuracy,
                )
                for step in curve(tried.pair, DRAWN)
            ],
            None
            if tried.fit is None
            else (tried.cost * taken[tried.then.name], tried.fit.accuracy),
        )
        for name, tried in drawn
    ]
    draw(
        dots,
        path,
        title=f"{known.model.name}: variants and cascades",
        across=f"worker time of a row in batches of {batch}, one thread, ms",
        up=metrics.shown(known.model.metric),
        curves=curves,
    )
