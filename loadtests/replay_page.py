"""The page and the picture of the replay."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import matplotlib as mpl
from loadtests.peers.environment import command_line, described, environment
from loadtests.replay_orders import MOST, ORDERS, Sooner
from loadtests.replay_records import CANARY, PACE, Found, Story, Trial, precision
from loadtests.replaying import LATE, NEVER, OTHERWISE, TWICE, Answer

from gearshift.demo.traffic import Samples

mpl.use("Agg")
import matplotlib.pyplot as plt

INTRODUCTION = """\
# Feedback: held-out payments replayed, their labels late

Made by `{command}` on {environment}. The server is the real one with the shipped model `fraud`, \
asked one payment a request through stock tritonclient (class `batch`), told by the RPC Feedback.

## Is the live accuracy right?

Every variant answered the same {rows} held-out payments ({frauds} of them fraud; those that are \
not stand for up to {heaviest:.0f} payments each). The label of each came {late:g} s later on \
average, in no order, with its weight; {twice:.0%} came twice, {otherwise:.0%} were contradicted \
once they were counted, and {never:.0%} more were for requests that never were. Each became what \
the proto says: {outcomes}; no answer was counted twice.
"""

LIMITS = """\
## What this does not show

- One machine, one model, one kind of damage (weights shuffled among themselves), and rows with \
far more frauds than there are: one payment in {one_in:.0f} here, one in about 600 outside. What \
is needed are frauds, ten of them; where labels come for all payments alike, ten take about \
6,000. The drift watch says, rightly, that these inputs are not those of the shop.
- The interval reaches far down: few payments that are not fraud were looked into, and each \
stands for {mean:.0f} on average. One more of them above all frauds, and the average precision \
would be near the lower end. So a fall shows soon, but that a variant is as good as it says takes \
the whole window.
- The rows are those that the cards were made with. That the two agree shows that nothing is lost \
or counted twice on the way, not that the cards hold for payments of tomorrow.
- A variant that has fallen answers nobody, and so gets no labels: it stays out until its file is \
replaced, or callers who pin it report that it is good again.
- Labels are looked at once a second: at {pace:g} requests a second the counts above are exact to \
about so many.
"""


def who(answers: Sequence[Answer]) -> str:
    counted = Counter(answer.variant for answer in answers)
    return ", ".join(f"{name} {count}" for name, count in counted.most_common())


def page(
    found: Found,
    stories: Sequence[Story],
    trials: Sequence[Trial],
    orders: Sequence[Sooner],
    samples: Samples,
    logs: Mapping[str, str],
) -> Iterator[str]:
    frauds, rows = int(samples.labels.sum()), len(samples.labels)
    yield INTRODUCTION.format(
        command=command_line("loadtests.replay"),
        environment=described(environment()),
        rows=rows,
        frauds=frauds,
        heaviest=samples.weights.max(),
        late=LATE,
        twice=TWICE,
        otherwise=OTHERWISE,
        never=NEVER,
        outcomes=", ".join(f"{count} {name}" for name, count in found.outcomes.items()),
    )
    yield "| variant | artifact, computed here | live, from /metrics | 95 % interval | labels |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name, value in found.offline.items():
        yield (
            f"| {name} | {value:.4f} | {found.live[name]:.4f}"
            f" | {found.low[name]:.3f} to {found.high[name]:.3f} | {found.labels[name]:g} |"
        )
    yield from _broken(stories, samples)
    yield from _orders(orders, stories[0].broken)
    yield from _trials(trials)
    yield from _said(stories[0], logs)
    mean = samples.weights[samples.labels == 0].mean()
    yield LIMITS.format(one_in=rows / frauds, mean=mean, pace=PACE)


def _broken(stories: Sequence[Story], samples: Samples) -> Iterator[str]:
    broken = stories[0].broken
    yield (
        f"\n## A broken variant\n\nThe weights of `{broken}` were shuffled; its card claims what it"
        " did before. Once the file was replaced and the server started again, once the weights"
        " were swapped under the running server, which knew the variant as sound by the 2,000"
        " labels of its full window. The precision is the true one of what callers got, judged by"
        " them.\n"
    )
    yield "| | answered by | average precision of the answers |\n| --- | --- | ---: |"
    for story in stories:
        yield f"| **{story.title}** | | |"
        for title, answers in story.phases.items():
            yield f"| {title} | {who(answers)} | {precision(answers, samples):.3f} |"
    yield ""
    for story in stories:
        yield (
            f"- {story.title}: noticed once **{story.labels} labels** of its wrong answers were"
            f" counted, {story.noticed - story.broke} requests after it broke (labels come"
            f" {LATE:g} s late); it gave {story.left - story.broke} wrong answers in all."
        )
    yield "\n![What callers got, and from whom](replay.png)\n"


def _orders(orders: Sequence[Sooner], broken: str) -> Iterator[str]:
    yield (
        f"One run is one draw. The same rules on the same rows in {ORDERS} other orders, without"
        f" the server, and for a `{broken}` that is damaged less. What stays within its card's"
        " interval has not fallen; what falls by a part takes longer to be sure of:\n"
    )
    yield (
        "| weights shuffled | average precision | noticed after labels: new file | same file,"
        " after 2,000 good ones |"
    )
    yield "| ---: | ---: | ---: | ---: |"
    for each in orders:
        yield (
            f"| {each.share:.0%} | {each.value:.3f} | {_after(each.fresh)} | {_after(each.full)} |"
        )
    yield ""


def _after(found: Sequence[int | None]) -> str:
    counts = [count for count in found if count is not None]
    if not counts:
        return f"never within {MOST:,}"
    text = f"median {median(counts):g}, at most {max(counts)}"
    missed = len(found) - len(counts)
    return f"{text}; in {missed} of {len(found)} never within {MOST:,}" if missed else text


def _trials(trials: Sequence[Trial]) -> Iterator[str]:
    yield (
        f"## A canary\n\n`{trials[0].variant}` as a new variant with `canary = {CANARY}`, in a"
        " database without labels; rows drawn at random.\n"
    )
    yield (
        "| | standing in the end | after requests | of which it answered | labels of those counted"
        " | live | its share of the requests after |"
    )
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for trial in trials:
        yield (
            f"| {trial.title} | {trial.standing} | {trial.requests:,} | {trial.its:,}"
            f" | {trial.labels:,} | {trial.live:.3f} | {trial.after:.0%} |"
        )
    yield "\nStarted again, the server knows both verdicts before it is asked anything.\n"


def _said(story: Story, logs: Mapping[str, str]) -> Iterator[str]:
    yield "## What the server says\n\nAll lines of its logs, but those of draining:\n\n```"
    for name, log in logs.items():
        for line in log.splitlines():
            if "draining" not in line:
                line = re.sub(r"file=\S+/profiles/\S+?/", "file=.../", line)
                yield f"{name}: {re.sub(r' {2,}', ' ', line)}"
    yield "```\n"
    for command, text in story.said.items():
        yield f"`{command}`, while `{story.broken}` is out:\n\n```\n{text.rstrip()}\n```\n"


# --- the picture ------------------------------------------------------------------------

LEAST, STEP = 60, 20
"""Answers behind the first point of the curve, and between two."""
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#7f7f7f")


def draw(stories: Sequence[Story], samples: Samples, path: Path) -> None:
    """One column a story: how good the answers were, and who gave them."""
    names = list(dict.fromkeys(a.variant for story in stories for a in story.answers))
    colours = dict(zip(names, COLOURS, strict=False))
    figure, axes = plt.subplots(
        2,
        len(stories),
        figsize=(6.2 * len(stories), 6.4),
        sharex="col",
        sharey="row",
        height_ratios=(2, 1),
        layout="constrained",
        squeeze=False,
    )
    for (above, below), story in zip(axes.T, stories, strict=True):
        _quality(above, story, samples)
        _shares(below, story, colours)
        for axis in (above, below):
            axis.axvline(story.broke, color="#d62728", linewidth=1.2)
            axis.axvline(story.left, color="#777777", linewidth=1.2, linestyle="--")
            axis.set_xlim(0, len(story.answers))
            axis.grid(alpha=0.25)
        above.set_title(story.title)
        above.text(story.broke - 8, 1.01, "breaks", ha="right", color="#d62728")
        above.text(story.left + 8, 1.01, f"out, after {story.labels} labels", ha="left")
        below.set_xlabel("requests")
    axes[0][0].set_ylabel("average precision")
    axes[1][0].set_ylabel("share of the answers")
    axes[0][0].set_ylim(-0.04, 1.08)
    axes[1][0].set_ylim(0, 1)
    named = [axis.get_legend_handles_labels() for axis in axes[:, 0]]
    handles, labels = ([*named[0][part], *named[1][part]] for part in (0, 1))
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _quality(axis: mpl.axes.Axes, story: Story, samples: Samples) -> None:
    edges = [0, story.broke, story.left, len(story.answers)]
    label = "what callers got, of all answers since the last line"
    for begin, end in pairwise(edges):
        ends = [*range(min(begin + LEAST, end), end, STEP), end]
        values = [precision(story.answers[begin:e], samples) for e in ends]
        axis.plot(ends, values, color="#222222", linewidth=2.4, label=label, zorder=3)
        label = "_"
    places = [look.at for look in story.looks]
    used = [look.used[story.broken] for look in story.looks]
    axis.plot(
        places,
        used,
        color="#d62728",
        linewidth=1.4,
        drawstyle="steps-post",
        label=f"what routing takes {story.broken} for",
    )


def _shares(axis: mpl.axes.Axes, story: Story, colours: Mapping[str, str]) -> None:
    begins = list(range(0, len(story.answers), STEP))
    parts = [story.answers[b : b + STEP] for b in begins]
    shares = {
        name: [sum(a.variant == name for a in part) / len(part) for part in parts]
        for name in colours
    }
    axis.stackplot(
        [*begins, len(story.answers)],
        *([*each, each[-1]] for each in shares.values()),
        labels=list(shares),
        colors=list(colours.values()),
        step="post",
        alpha=0.75,
    )
