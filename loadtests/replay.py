"""Held-out payments replayed with labels that come late: is the live accuracy right, and does a
variant that was broken on purpose lose its traffic, and a new one get what it deserves?

    python -m loadtests.replay --out docs/results

First, each variant of `fraud` answers all held-out rows, pinned, through stock tritonclient. The
labels follow by the Feedback RPC: seconds late, out of order, some twice, some contradicted, some
for requests that never were, each with the weight of its row. Then the accuracies on /metrics are
compared with those of the artifacts, computed here.

Second, the best variant is broken: once replaced by itself with its weights shuffled and the
server started anew, once under the running server. How many labels does it take until that is
noticed, who answers then, and how well?

Third, a new variant is a canary: as good as its card says, and not.

Exits with a message if a figure is not what it must be. Takes about ten minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from loadtests.breaking import disturb
from loadtests.peers.peer import ROOT
from loadtests.replay_orders import other_orders, scores_of
from loadtests.replay_records import CANARY, PACE, SAME, Found, Look, Story, Trial, precision
from loadtests.replaying import MODEL, PATIENCE, Answer, Caller, Server, calling, serving

from gearshift.demo.traffic import Samples
from loadtests import replay_page

LOOK_EVERY = 10
"""Requests after which it is asked whether it has been noticed."""
BEFORE, AFTER = 500, 700
"""Requests at that pace before it breaks, and after another one answers."""
GIVE_UP = 3_000
CANARY_GIVE_UP = 80_000
CHUNK = 400
"""Requests between two looks at a canary's standing."""
LABELS = "gearshift_feedback_labels"
INTERVAL = "gearshift_variant_accuracy_interval"
STANDING = "gearshift_variant_standing"
USED = "gearshift_variant_accuracy_used"


def offline(repository: Path, samples: Samples) -> dict[str, float]:
    """What the artifacts are worth on the held-out rows, the best first."""
    found = {}
    for artifact in sorted((repository / MODEL).glob("*/model.onnx")):
        scores = scores_of(artifact, samples)
        answers = [Answer(row, "", score) for row, score in enumerate(scores)]
        found[artifact.parent.name] = precision(answers, samples)
    return dict(sorted(found.items(), key=lambda each: -each[1]))


# --- one: is it right? ------------------------------------------------------------------


async def compare(server: Server, samples: Samples, expected: Mapping[str, float]) -> Found:
    async with calling(server, samples, "pinned", seed=1) as caller:
        for number, variant in enumerate(expected):
            order = np.random.default_rng(number).permutation(len(samples.labels)).tolist()
            await caller.ask_all(order, variant)
            print(f"{variant}: asked", flush=True)
        await caller.post.deliver(everything=True)
        wanted = dict.fromkeys(expected, float(len(samples.labels)))
        await _until(lambda: _alone(server.figures(LABELS), expected) == wanted, "labels counted")
        counted = server.figures("gearshift_feedback_total")
        outcomes = {name: int(count) for name, count in counted.items() if count}
        if outcomes != dict(caller.post.outcomes):
            raise SystemExit(f"/metrics says {outcomes}, the answers {dict(caller.post.outcomes)}")
        return Found(
            expected,
            server.figures("gearshift_variant_accuracy", source="live"),
            server.figures(INTERVAL, bound="low"),
            server.figures(INTERVAL, bound="high"),
            _alone(server.figures(LABELS), expected),
            outcomes,
        )


def _alone(figures: Mapping[str, float], names: Mapping[str, float]) -> dict[str, float]:
    return {name: figures.get(name, 0.0) for name in names}


async def _until(is_so: Callable[[], bool], what: str) -> None:
    end = asyncio.get_running_loop().time() + PATIENCE
    while not await asyncio.to_thread(is_so):
        if asyncio.get_running_loop().time() > end:
            raise SystemExit(f"not so within {PATIENCE:g} s: {what}")
        await asyncio.sleep(0.5)


# --- two: a broken variant --------------------------------------------------------------


async def paced(
    caller: Caller, server: Server, story: Story, order: Sequence[int], requests: int
) -> None:
    """So many more requests at the pace; the story goes on."""
    for _ in range(requests):
        story.answers.append(await caller.ask(order[len(story.answers) % len(order)]))
        await caller.post.deliver()
        await asyncio.sleep(1.0 / PACE)
        if len(story.answers) % LOOK_EVERY == 0:
            used = await asyncio.to_thread(server.figures, USED)
            fallen = await asyncio.to_thread(server.figures, "gearshift_variant_fallen")
            look = Look(len(story.answers), used, bool(fallen.get(story.broken)))
            story.looks.append(look)


async def until_another_answers(
    caller: Caller, server: Server, story: Story, order: Sequence[int]
) -> None:
    """Until the broken variant is known to have fallen and no longer answers."""
    while len(story.answers) - story.broke < GIVE_UP:
        await paced(caller, server, story, order, LOOK_EVERY)
        if not story.noticed and story.looks[-1].fallen:
            story.noticed = story.looks[-1].at
            story.labels = caller.post.counted[story.broken]
        if story.noticed and story.answers[-1].variant != story.broken:
            return
    raise SystemExit(f"{GIVE_UP} requests, and {story.broken} still answers")


async def survive(
    caller: Caller, server: Server, story: Story, order: Sequence[int], samples: Samples
) -> None:
    """From the moment that it is broken."""
    story.broke = len(story.answers)
    caller.post.begin()
    await until_another_answers(caller, server, story, order)
    await paced(caller, server, story, order, AFTER)
    # The last time: should it ever come back, that counts.
    story.left = 1 + max(n for n, a in enumerate(story.answers) if a.variant == story.broken)
    story.after = await caller.ask_all(order)
    await caller.post.deliver(everything=True)
    # Every answer says what routing goes by, the pinned one as well.
    told, used = await caller.ask(order[0], story.broken), server.figures(USED)
    if abs(told.accuracy - used[story.broken]) > SAME:
        raise SystemExit(f"an answer says {told.accuracy}, /metrics {used[story.broken]}")
    for command in (("explain", MODEL, "--budget-ms", "10"), ("top", "--once", "--model", MODEL)):
        words = [sys.executable, "-m", "gearshift", *command, "--address", server.grpc]
        done = await asyncio.to_thread(
            subprocess.run,
            words,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
            env={**os.environ, "COLUMNS": "130"},
        )
        story.said[f"gearshift {' '.join(command)}"] = done.stdout


async def restarted(made: Path, samples: Samples, broken: str) -> Story:
    """The file is replaced, and the server started anew; and once more, to see what it keeps."""
    story = Story("Its file replaced, the server started again", broken)
    order = np.random.default_rng(3).permutation(len(samples.labels)).tolist()
    log, state = made / "restarted.log", made / "state"
    with serving(made / "good", state, log) as server:
        async with calling(server, samples, "before", 2) as caller:
            await paced(caller, server, story, order, BEFORE)
            await caller.post.deliver(everything=True)
    with serving(made / "bad", state, log) as server:
        async with calling(server, samples, "after", 3) as caller:
            await survive(caller, server, story, order, samples)
    with serving(made / "bad", state, log) as server:
        async with calling(server, samples, "again", 4) as caller:
            fallen = "gearshift_variant_fallen"
            await _until(lambda: server.figures(fallen)[broken] == 1.0, "a restart reads all back")
            if (first := (await caller.ask(order[0])).variant) == broken:
                raise SystemExit(f"after a restart {first} answers again")
    return story


async def swapped(made: Path, samples: Samples, broken: str) -> Story:
    """It answers wrongly from one moment on, under the same file."""
    story = Story("Broken under the running server", broken)
    order = np.random.default_rng(5).permutation(len(samples.labels)).tolist()
    artifact = str(made / "bad" / MODEL / broken / "model.onnx")
    with serving(
        made / "good", made / "state", made / "swapped.log", MODEL, broken, artifact
    ) as server:
        async with calling(server, samples, "swapped", 5) as caller:
            await paced(caller, server, story, order, BEFORE)
            server.process.send_signal(signal.SIGUSR1)
            await survive(caller, server, story, order, samples)
    return story


# --- three: a canary --------------------------------------------------------------------


async def tried(repository: Path, state: Path, samples: Samples, trial: Trial) -> Trial:
    log = state.with_suffix(".log")
    with serving(repository, state, log) as server:
        async with calling(server, samples, state.name, seed=6) as caller:
            random = np.random.default_rng(6)
            while trial.standing == "canary":
                if trial.requests >= CANARY_GIVE_UP:
                    raise SystemExit(f"{trial.title}: no verdict after {trial.requests} requests")
                order = random.integers(len(samples.labels), size=CHUNK).tolist()
                answers = await caller.ask_all(order)
                trial.requests += len(answers)
                trial.its += sum(answer.variant == trial.variant for answer in answers)
                for standing in ("canary", "serving", "withdrawn"):
                    if server.figures(STANDING, standing=standing)[trial.variant]:
                        trial.standing = standing
            trial.labels = caller.post.counted[trial.variant]
            trial.live = server.figures("gearshift_variant_accuracy", source="live")[trial.variant]
            answers = await caller.ask_all(list(range(len(samples.labels))))
            trial.after = sum(a.variant == trial.variant for a in answers) / len(answers)
    with serving(repository, state, log) as server:
        name = trial.standing
        await _until(
            lambda: server.figures(STANDING, standing=name)[trial.variant] == 1.0,
            "a restart knows the verdict",
        )
    return trial


def as_canary(repository: Path, variant: str) -> None:
    file = repository / MODEL / "model.toml"
    line = f'name = "{variant}"\n'
    file.write_text(file.read_text().replace(line, f"{line}canary = {CANARY}\n", 1))


async def canaries(made: Path, samples: Samples, variant: str) -> list[Trial]:
    found = []
    for folder, title, wanted in (
        ("good", "as good as its card", "serving"),
        ("bad", "its weights shuffled", "withdrawn"),
    ):
        repository = made / f"canary-{folder}"
        shutil.copytree(made / folder, repository)
        as_canary(repository, variant)
        state = made / f"canary-{folder}-state"
        trial = await tried(repository, state, samples, Trial(title, variant))
        print(trial, flush=True)
        if trial.standing != wanted:
            raise SystemExit(f"{title}: {trial.standing} instead of {wanted}")
        found.append(trial)
    return found


async def replayed(made: Path, samples: Samples) -> tuple[Found, list[Story], list[Trial]]:
    expected = offline(made / "good", samples)
    broken, second = list(expected)[:2]
    shutil.copytree(made / "good", made / "bad")
    disturb(made / "bad" / MODEL / broken / "model.onnx")
    with serving(made / "good", made / "state", made / "pinned.log") as server:
        found = await compare(server, samples, expected)
    found.check()
    stories = [await restarted(made, samples, broken), await swapped(made, samples, broken)]
    for story in stories:
        print(story.title, story.labels, story.broke, story.noticed, story.left, flush=True)
        story.check(samples, expected[second])
    return found, stories, await canaries(made, samples, broken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    samples = Samples(ROOT / "model_repo", MODEL)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        shutil.copytree(ROOT / "model_repo" / MODEL, made / "good" / MODEL)
        try:
            found, stories, trials = asyncio.run(replayed(made, samples))
        finally:
            logs = {file.stem: file.read_text() for file in sorted(made.glob("*.log"))}
            for name, log in logs.items():
                print(f"--- {name}\n{log}", flush=True)
    broken = stories[0].broken
    orders = other_orders(samples, broken)
    lines = replay_page.page(found, stories, trials, orders, samples, logs)
    (arguments.out / "replay.md").write_text("\n".join(lines))
    replay_page.draw(stories, samples, arguments.out / "replay.png")


if __name__ == "__main__":
    main()
