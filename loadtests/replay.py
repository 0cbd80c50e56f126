"""Held-out payments replayed with labels that come late: is the live accuracy right, and does a
variant that was broken on purpose lose its traffic?

    python -m loadtests.replay --out docs/results

First, each variant of `fraud` answers all held-out rows, pinned, through stock tritonclient. The
labels follow by the Feedback RPC: seconds late, out of order, some twice, some for requests that
never were, each with the weight of its row. Then the accuracies on /metrics are compared with those
of the artifacts, computed here.

Second, the best variant is replaced by itself with its weights shuffled. Its card claims what it
did before (with the new file's hash: the repository refuses one of another file). How many labels
does it take until that is noticed, who answers then, and how well?

Exits with a message if a figure is not what it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from loadtests.peers.environment import command_line, described, environment
from loadtests.peers.peer import ROOT
from loadtests.replaying import (
    LATE,
    MODEL,
    NEVER,
    PATIENCE,
    TWICE,
    Answer,
    Caller,
    Server,
    calling,
    serving,
)
from onnx import numpy_helper

from gearshift.compress import evaluate
from gearshift.core.accuracy import average_precision
from gearshift.demo.traffic import Samples

PACE = 50.0
"""Requests a second to the broken variant, so that what is noticed late shows."""
LOOK_EVERY = 20
"""Requests after which it is asked whether it has been noticed."""
NOTICED = 500
"""Labelled requests within which it must be noticed."""
GIVE_UP = 3_000
SAME = 1e-3
"""By how much a live accuracy may differ from that of the artifact over the same rows."""
RECOVERED = 0.01
"""By how much the answers may be worse in the end than those of the second best variant."""
LABELS = "gearshift_feedback_labels"


def precision(answers: Sequence[Answer], samples: Samples) -> float:
    """The model's metric over answers, each row with its weight."""
    rows = [answer.row for answer in answers]
    scores = [(answer.score,) for answer in answers]
    return average_precision(scores, samples.labels[rows].tolist(), samples.weights[rows].tolist())


def offline(repository: Path, samples: Samples) -> dict[str, float]:
    """What the artifacts are worth on the held-out rows, the best first."""
    found = {}
    for artifact in sorted((repository / MODEL).glob("*/model.onnx")):
        name = evaluate.session(artifact).get_inputs()[0].name
        scores = evaluate.predict(artifact, {name: samples.inputs}).ravel()
        answers = [Answer(row, "", float(score)) for row, score in enumerate(scores)]
        found[artifact.parent.name] = precision(answers, samples)
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def disturb(artifact: Path, seed: int = 0) -> None:
    """Shuffle the weights of an ONNX file, and tell its card and cascades of the new file."""
    random = np.random.default_rng(seed)
    model = onnx.load(artifact)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        shuffled = random.permutation(values.ravel()).reshape(values.shape)
        tensor.CopyFrom(numpy_helper.from_array(shuffled, tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "target_weights":  # the leaves of trees
                attribute.floats[:] = random.permutation(np.array(attribute.floats)).tolist()
    artifact.write_bytes(model.SerializeToString())
    card = artifact.with_name("card.json")
    told = json.loads(card.read_text())
    before = told["artifact_sha256"]
    told["artifact_sha256"] = hashlib.sha256(artifact.read_bytes()).hexdigest()
    told["artifact_bytes"] = artifact.stat().st_size
    card.write_text(json.dumps(told, indent=2))
    for cascade in artifact.parents[1].glob("*/cascade.json"):
        cascade.write_text(cascade.read_text().replace(before, told["artifact_sha256"]))


@dataclass(slots=True)
class Found:
    """What the two halves showed."""

    offline: Mapping[str, float]
    live: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    labels: dict[str, float]
    outcomes: Mapping[str, int]


async def compare(server: Server, samples: Samples, expected: Mapping[str, float]) -> Found:
    async with calling(server, samples, "pinned", seed=1) as caller:
        for number, variant in enumerate(expected):
            order = np.random.default_rng(number).permutation(len(samples.labels)).tolist()
            await caller.ask_all(order, variant)
            print(f"{variant}: asked", flush=True)
        await caller.post.deliver(everything=True)
        end = asyncio.get_running_loop().time() + PATIENCE
        wanted = dict.fromkeys(expected, float(len(samples.labels)))
        while (labels := server.figures(LABELS)) != wanted:
            if asyncio.get_running_loop().time() > end:
                raise SystemExit(f"labels counted: {labels}, expected {wanted}")
            await asyncio.sleep(0.5)
        await asyncio.sleep(2.0)  # the last ones are looked at
        interval = "gearshift_variant_accuracy_interval"
        counted = server.figures("gearshift_feedback_total")
        outcomes = {name: int(count) for name, count in counted.items() if count}
        if outcomes != dict(caller.post.outcomes):
            raise SystemExit(f"/metrics says {outcomes}, the answers {dict(caller.post.outcomes)}")
        return Found(
            expected,
            server.figures("gearshift_variant_accuracy", source="live"),
            server.figures(interval, bound="low"),
            server.figures(interval, bound="high"),
            labels,
            outcomes,
        )


async def until_another_answers(
    caller: Caller, server: Server, order: Sequence[int], broken: str
) -> tuple[list[Answer], int]:
    """At a pace, until `broken` is known to have fallen and no longer answers: the answers,
    and how many of its labels were counted when it was known."""
    answers: list[Answer] = []
    noticed = 0
    while len(answers) < GIVE_UP:
        answers.append(await caller.ask(order[len(answers) % len(order)]))
        await caller.post.deliver()
        await asyncio.sleep(1.0 / PACE)
        if not noticed and len(answers) % LOOK_EVERY == 0:
            fallen = await asyncio.to_thread(server.figures, "gearshift_variant_fallen")
            noticed = caller.post.counted[broken] if fallen.get(broken) else 0
        if noticed and answers[-1].variant != broken:
            return answers, noticed
    raise SystemExit(f"{GIVE_UP} requests, and {broken} still answers")


async def served(server: Server, samples: Samples, seed: int) -> list[Answer]:
    """All rows, answered by whom the server chooses."""
    async with calling(server, samples, "before", seed) as caller:
        order = np.random.default_rng(seed).permutation(len(samples.labels)).tolist()
        answers = await caller.ask_all(order)
        await caller.post.deliver(everything=True)
        return answers


async def survive(
    server: Server, samples: Samples, broken: str
) -> tuple[list[Answer], int, list[Answer]]:
    """Until the broken variant is out, and all rows after that."""
    async with calling(server, samples, "broken", seed=3) as caller:
        order = np.random.default_rng(3).permutation(len(samples.labels)).tolist()
        answers, noticed = await until_another_answers(caller, server, order, broken)
        return answers, noticed, await caller.ask_all(order)


# --- the page ---------------------------------------------------------------------------


def who(answers: Sequence[Answer]) -> str:
    counted = Counter(answer.variant for answer in answers)
    return ", ".join(f"{name} {count}" for name, count in counted.most_common())


def page(
    found: Found,
    samples: Samples,
    broken: str,
    noticed: int,
    phases: Mapping[str, Sequence[Answer]],
) -> Iterator[str]:
    yield "# Feedback: held-out payments replayed, their labels late\n"
    yield f"Made by `{command_line('loadtests.replay')}` on {described(environment())}.\n"
    yield (
        f"Every variant answered {len(samples.labels)} held-out payments (pinned). Labels came"
        f" {LATE:g} s late on average, in no order, with the weights of their rows;"
        f" {TWICE:.0%} of them twice, and {NEVER:.0%} for requests that never were. What became of"
        f" them: {', '.join(f'{name} {count}' for name, count in found.outcomes.items())}.\n"
    )
    yield "| variant | artifact, computed here | live, from /metrics | 95 % interval | labels |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name, value in found.offline.items():
        yield (
            f"| {name} | {value:.4f} | {found.live[name]:.4f}"
            f" | {found.low[name]:.3f} to {found.high[name]:.3f} | {found.labels[name]:g} |"
        )
    yield (
        f"\n## A broken variant\n\nThe weights of `{broken}` were shuffled and the server started"
        f" again; its card still claims what it was. It was known to have fallen after"
        f" **{noticed} labels**.\n"
    )
    yield "| | answered by | average precision of the answers |\n| --- | --- | ---: |"
    for title, answers in phases.items():
        yield f"| {title} | {who(answers)} | {precision(answers, samples):.3f} |"
    yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    samples = Samples(ROOT / "model_repo", MODEL)
    with tempfile.TemporaryDirectory() as made:
        repository, state = Path(made) / "model_repo", Path(made) / "state"
        shutil.copytree(ROOT / "model_repo" / MODEL, repository / MODEL)
        expected = offline(repository, samples)
        broken, second = list(expected)[:2]
        with serving(repository, state) as server:
            found = asyncio.run(compare(server, samples, expected))
            before = asyncio.run(served(server, samples, seed=2))
        disturb(repository / MODEL / broken / "model.onnx")
        with serving(repository, state) as server:
            during, noticed, after = asyncio.run(survive(server, samples, broken))
    phases = {"before": before, "broken, until it was out": during, "after": after}
    lines = list(page(found, samples, broken, noticed, phases))
    print("\n".join(lines))
    for name, value in expected.items():
        if abs(found.live[name] - value) > SAME:
            raise SystemExit(f"{name}: live {found.live[name]}, but the artifact has {value}")
    if noticed > NOTICED:
        raise SystemExit(f"noticed after {noticed} labels, later than {NOTICED}")
    if precision(after, samples) < expected[second] - RECOVERED:
        raise SystemExit("the answers are not as good again as those of the second best")
    (arguments.out / "feedback.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
