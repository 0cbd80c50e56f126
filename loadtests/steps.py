"""The steps of `text` and `face` on the data that their cards were measured with.

    python -m loadtests.steps --out docs/results

Every held-out mail goes to `text` as a text and as the ids that its network was evaluated with,
every face of ORL to `face` as a PNG and as pixels: are inputs and answers the same, and is the
accuracy that of the card? Then what steps cost, one row after the other in one thread, and how much
memory the largest picture takes on its way. The data are fetched as for `make models`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from loadtests.peers.environment import environment, stolen, stolen_since
from PIL import Image

from gearshift.compress.families import face_data, text_data
from gearshift.core.catalog import Model, TensorSpec
from gearshift.executors.onnx import OnnxExecutor
from gearshift.ports import BYTES
from gearshift.repository import load
from gearshift.steps import Picture, made

REPOSITORY = Path("model_repo")
BATCH = 16
SIDE = 4_096
"""Of the largest picture that is decoded by default: 16 megapixels."""


def column(sent: Sequence[bytes]) -> Any:
    found = np.empty((len(sent), 1), BYTES)
    found[:, 0] = sent
    return found


def compared(
    executor: OnnxExecutor, model: Model, name: str, sent: Sequence[bytes], tensors: Any
) -> tuple[int, int, Mapping[str, list[Any]], list[float]]:
    """Rows whose inputs are the same, and whose answers are; the answers of each variant; and the
    milliseconds of each row's steps."""
    (spec,) = model.signature.inputs
    output = model.signature.outputs[0].name
    inputs_alike = answers_alike = 0
    answers: dict[str, list[Any]] = {variant.name: [] for variant in model.variants}
    times = []
    for first in range(0, len(sent), BATCH):
        rows = []
        for each in sent[first : first + BATCH]:
            row, seconds = made(model, {name: column([each])}, lambda: True)
            rows.append(row[spec.name])
            times.append(seconds * 1e3)
        by_steps = np.concatenate(rows)
        given = tensors[first : first + BATCH]
        same = (by_steps == given).reshape(len(given), -1).all(axis=1)
        inputs_alike += int(same.sum())
        agreed = np.ones(len(given), bool)
        for variant in model.variants:
            one = executor.run_here(model, variant, {spec.name: by_steps})[output]
            other = executor.run_here(model, variant, {spec.name: given})[output]
            agreed &= (one == other).all(axis=1)
            answers[variant.name].append(one)
        answers_alike += int(agreed.sum())
    return inputs_alike, answers_alike, answers, times


def encoded(pixels: Any, kind: str, **options: Any) -> bytes:
    held = BytesIO()
    Image.fromarray(pixels).save(held, kind, **options)
    return held.getvalue()


def cost(times: Sequence[float]) -> str:
    ordered = sorted(times)
    return f"{statistics.median(ordered):.2f} | {ordered[int(len(ordered) * 0.99)]:.2f}"


PEAK = """
import sys
from loadtests.steps import largest, peak
step, sent = largest(sys.argv[1])
before = peak()
if sys.argv[2] == "decoded":
    step.row(sent)
print(peak() - before)
"""


def largest(kind: str) -> tuple[Picture, bytes]:
    """A step, and the largest picture that it decodes."""
    spec = TensorSpec("pixels", "UINT8", (112, 112, 3))
    step = Picture(
        "p", spec, 64 * 2**20, SIDE * SIDE, layout="HWC", channels="RGB", fit="stretch", mean=[],
        scale=[],
    )  # fmt: skip
    return step, Path(f"build/steps/{kind}").read_bytes()


def peak() -> float:
    """MiB of memory that this process had at most; `getrusage` would tell of its parent, too."""
    told = Path("/proc/self/status").read_text()
    return int(told.partition("VmHWM:")[2].split()[0]) / 1024


def memory(report: Any) -> list[str]:
    """What the largest pictures take while they are decoded, each in a process of its own."""
    folder = Path("build/steps")
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 32, (SIDE, SIDE, 3), np.uint8)
    lines = []
    for kind, told, options in (
        ("PNG", "PNG, RGBA", {"compress_level": 1}),
        ("JPEG", "JPEG", {"quality": 75, "subsampling": 0}),
        (
            "progressive",
            "JPEG, progressive",
            {"quality": 75, "subsampling": 0, "progressive": True},
        ),
    ):
        report(f"a picture of {SIDE} x {SIDE}: {told}")
        pixels = np.dstack([noise, noise[..., :1]]) if kind == "PNG" else noise
        content = encoded(pixels, "PNG" if kind == "PNG" else "JPEG", **options)
        (folder / kind).write_bytes(content)
        command = [sys.executable, "-c", PEAK, kind, "decoded"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        step, sent = largest(kind)
        begun = time.perf_counter()
        step.row(sent)
        taken = time.perf_counter() - begun
        lines.append(
            f"| {told} | {len(content) / 2**20:.1f} | {float(done.stdout):.0f} | {taken:.2f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--cache", type=Path, default=Path("build/compress"))
    asked = parser.parse_args()

    def report(what: str) -> None:
        print(what, flush=True)

    before = stolen()
    executor = OnnxExecutor(("CPUExecutionProvider",))
    models = load(REPOSITORY, {"onnx": executor.inspect}, only=["text", "face"]).models
    for model in models.values():
        for variant in model.variants:
            executor.load(model, variant)

    report("text: the held-out mails")
    mails = text_data.spam_mails(asked.cache, report)[2]
    text = models["text"]
    sent = [mail.text.encode() for mail in mails]
    encoder = text_data.tokenizer(asked.cache, report)
    found_ids = [encoding.ids for encoding in encoder.encode_batch([mail.text for mail in mails])]
    ids = np.array([text_data.windows_of(each, text_data.TOKENS, 1)[0] for each in found_ids])
    same, agreed, answers, text_times = compared(executor, text, "text", sent, ids)
    (labels,) = text.after
    (found,) = [np.concatenate(rows) for rows in answers.values()]
    named = [row[0] == (b"spam" if mail.spam else b"ham")
             for row, mail in zip(labels.rows(found), mails, strict=True)]  # fmt: skip
    accuracy = sum(named) / len(named)
    (card,) = [variant.card for variant in text.variants]
    assert card is not None

    report("face: the pictures of ORL")
    faces, _ = face_data.aligned(asked.cache, report)
    face = models["face"]
    pictures = [encoded(each, "PNG") for each in faces]
    same_faces, agreed_faces, _, png_times = compared(executor, face, "picture", pictures, faces)
    photographs = [encoded(each, "JPEG", quality=90) for each in faces]
    *_, jpeg_times = compared(executor, face, "picture", photographs[:BATCH], faces[:BATCH])
    executor.close()
    lines = memory(report)

    told = environment()
    page = f"""# Steps: texts and pictures beside tensors

Made by `python -m loadtests.steps` on {told["cores"]} cores of {told["cpu"]}, Python \
{told["python"]}, Pillow {version("pillow")}, tokenizers {version("tokenizers")}, gearshift at \
{told["gearshift"]}; the host took {stolen_since(*before)} of the cores, and \
{os.getloadavg()[2]:.0f} programs wanted them at a time.

{(__doc__ or "").partition("docs/results")[2].strip()}

| model | sent | rows | inputs alike | answers alike, all variants |
| --- | --- | ---: | ---: | ---: |
| `text` | held-out mails as texts | {len(sent):,} | {same:,} | {agreed:,} |
| `face` | faces of ORL as PNG | {len(pictures)} | {same_faces} | {agreed_faces} |

The label that `text` gives is right for {accuracy:.4f} of the mails; its card says \
{card.accuracy.value:.4f} ({card.accuracy.low:.4f} to {card.accuracy.high:.4f}). \
As int8 its answers depend a little on the
other rows of a batch, which were others there; in the table above they were the same.

## What a row costs

With whatever else the machine did: see above how many programs wanted its cores.

| step | ms, p50 | ms, p99 |
| --- | ---: | ---: |
| a mail (longest {max(map(len, sent)):,} bytes) to 128 tokens | {cost(text_times)} |
| a PNG of 112 x 112 to pixels | {cost(png_times)} |
| a JPEG of 112 x 112 to pixels ({BATCH} rows only) | {cost(jpeg_times)} |

## The largest picture

{SIDE} x {SIDE} pixels of noise, the most that is decoded by default (`max_pixels`), to 112 x 112. \
Memory beyond that before, in a process of its own.

| picture | MiB encoded | MiB of memory | s |
| --- | ---: | ---: | ---: |
{chr(10).join(lines)}
"""
    (asked.out / "steps.md").write_text(page)
    report(page)


if __name__ == "__main__":
    main()
