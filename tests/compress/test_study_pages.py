"""What the studies found becomes pages and pictures; the statistics behind them are right."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from gearshift.compress.studies import (
    batch_normalization,
    calibration,
    checkpointing,
    distillation,
    sparsity,
    transfer,
)
from gearshift.compress.studies.catalog import Kept, StudyError, carry_out, keep, kept, publish
from gearshift.compress.studies.figures import Spread, estimate, in_turns, paired, points
from gearshift.compress.studies.story import Result
from gearshift.compress.studies.toy import some, stripes

RUNS = "gearshift.compress.studies.checkpointing_runs"
ONE = Spread(1.0, 0.9, 1.2)


def half(spread: Spread, times: float = 0.5) -> Spread:
    return Spread(spread.median * times, spread.low * times, spread.high * times)


def checkpoints() -> checkpointing.Checkpointing:
    layout = checkpointing.Layout(name="Net", layers=((8, 1, 2),), batch=4, segments=(1, 2))
    many = Spread(200.0, 190.0, 210.0)
    curve = [
        checkpointing.Point(0, many, ONE),
        checkpointing.Point(1, half(many), half(ONE, 1.5)),
        checkpointing.Point(2, half(many, 0.6), half(ONE, 1.4)),
    ]
    return checkpointing.Checkpointing([checkpointing.Measured(layout, curve)], 3, 12)


def scales() -> calibration.Calibrations:
    def form(name: str, top1: float, size: int, same: str = "") -> calibration.Form:
        ms = {1: ONE, 64: half(ONE, 60.0)}
        return calibration.Form(
            name=name, top1=top1, low=top1 - 0.01, high=top1 + 0.01, size=size, ms=ms, same_as=same
        )

    forms = [
        form("float32", 0.94, 4_000),
        form("minmax, channel", 0.935, 1_000),
        form("minmax, tensor", 0.9, 990),
        form("entropy, tensor", 0.9, 990, same="minmax, tensor"),
    ]
    precision = calibration.Precision(False, ONE, half(ONE, 9.0))
    refused = {"`net`, dynamic, tensor": "ConvInteger is not there"}
    return calibration.Calibrations({"net": forms}, refused, 1_024, 10_000, precision)


def pruned(kind: str, gone: float, top1: float, size: int, ms: float) -> sparsity.Pruned:
    return sparsity.Pruned(
        kind=kind,
        wanted=gone,
        gone=gone,
        top1=[top1 - 0.01, top1 + 0.01],
        low=top1 - 0.02,
        high=top1 + 0.02,
        size=size,
        zipped=size // 2,
        single=ONE,
        many=half(ONE, ms),
    )


def zeros() -> sparsity.Sparsity:
    plan = sparsity.Plan(layers=[(8, 2, 0)], epochs=2, again=1, seeds=[1, 2], rounds=3)
    both = [
        pruned("structured", 0.5, 0.88, 500, 2.0),
        pruned("unstructured", 0.5, 0.9, 1_000, 4.0),
    ]
    return sparsity.Sparsity(pruned("before", 0.0, 0.9, 1_000, 4.0), both, plan, 64, 100)


def taught() -> distillation.Distillation:
    trial = distillation.Trial(
        model="garment",
        metric="top-1",
        arms=[
            distillation.Arm("labels", [0.80, 0.82, 0.81]),
            distillation.Arm("teacher", [0.83, 0.85, 0.85]),
        ],
        pairs=[distillation.Pair("a teacher", "teacher", "labels")],
        method="Three seeds.",
    )
    return distillation.Distillation([trial])


def norms() -> batch_normalization.BatchNormalization:
    runs = [
        batch_normalization.Run(norms=kind, rate=rate, seed=seed, curve=curve)
        for rate in (0.1, 0.5)
        for seed in (1, 2)
        for kind, curve in (
            ("with", [0.7, 0.8 + seed / 100]),
            ("without", [0.5, 0.7] if rate < 0.5 else []),
        )
    ]
    times = {form: half(ONE, 1.0 + index) for index, form in enumerate(batch_normalization.FORMS)}
    folding = batch_normalization.Folding(
        "net", dict.fromkeys(batch_normalization.FORMS, 9), {1: times, 64: times}, 1e-7
    )
    return batch_normalization.BatchNormalization(runs, 2, 64, 64, [folding])


def moved() -> transfer.Transfer:
    values = {arm: [0.5 + i / 10, 0.52 + i / 10] for i, arm in enumerate(transfer.ARMS)}
    once = {arm: [0.6 + i / 10] for i, arm in enumerate(transfer.ARMS)}
    target = transfer.Target(
        name="digits",
        backbone="garments",
        classes=10,
        n=597,
        counts=[
            transfer.Count(5, values),
            transfer.Count(20, values),
            transfer.Count(1_500, once, every=True),
        ],
        method="Small networks.",
    )
    return transfer.Transfer([target], 2)


SAID = {
    "checkpointing": [
        "Net: -50 % peak memory (200.0 to 100.0 MiB) with 1 segments, for +50 % time a step",
        "| 2 | 120.0 | 114.0 to 126.0 | -40 % | 1400 | 1260 to 1680 | +40 % |",
    ],
    "calibration": [
        "`net`: the best form (minmax, channel) is -0.50 points from float32",
        "Scales a channel instead of a tensor: +3.50 (minmax) points.",
        "`entropy, tensor` is byte for byte the file of `minmax, tensor` for `net`.",
        "| entropy, tensor (= minmax, tensor) |",
        "`net`, dynamic, tensor cannot be served: ConvInteger is not there.",
        "imitated, a step of training a small residual net was measured 9.0 times as long",
    ],
    "sparsity": [
        "Without 50% of the weights: channels removed, -2.00 points, 0.50 of the bytes and 2.00 "
        "times the speed at batch 64; set to zero, +0.00 points, 1.00 of the bytes",
    ],
    "distillation": [
        "garment, a teacher: +3.33 (+1.90 to +4.77) points of top-1 over 3 seeds.",
        "| a teacher | teacher | labels | +3.33 (+1.90 to +4.77) | yes |",
    ],
    "batch-normalization": [
        "Each at its own best rate (0.1 with, 0.1 without): ",
        "ran away",
        "The answers differ by 1.0e-07 of the largest at most.",
    ],
    "transfer": [
        "digits, pretrained, all layers tuned, against network from scratch, points: 5 labels a "
        "class +10.00 (+10.00 to +10.00); 20 labels a class +10.00 (+10.00 to +10.00); "
        "all (1,500 on average) labels a class +10.00 (one seed).",
        "| all (1,500 on average) | 0.6000 (one seed) | 0.7000 (one seed) |",
        "Small networks.",
    ],
}
RESULTS = {
    "checkpointing": checkpoints,
    "calibration": scales,
    "sparsity": zeros,
    "distillation": taught,
    "batch-normalization": norms,
    "transfer": moved,
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_told_on_a_page_with_a_picture(name: str, tmp_path: Path) -> None:
    result: Result = RESULTS[name]()
    keep(name, Kept(result, "a machine, 2 cores", f"gearshift study {name}"), tmp_path)
    text, picture = publish(name, kept(name, tmp_path), tmp_path)
    page = text.read_text(encoding="utf-8")
    for line in (
        *SAID[name],
        f"Written by `gearshift study {name}`",
        "Machine: a machine, 2 cores.",
    ):
        assert line in page, line
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_study_without_its_libraries_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, RUNS, raising=False)
    with pytest.raises(StudyError, match=r"needs torch: pip install 'gearshift\[compress\]'"):
        carry_out("checkpointing", tmp_path, lambda line: None, quick=True)


def test_what_was_never_measured_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="carry out the study first"):
        kept("transfer", tmp_path)


def test_a_mean_has_students_interval() -> None:
    found = estimate([1.0, 2.0, 3.0])
    assert found.mean == pytest.approx(2.0)
    assert found.high - found.mean == pytest.approx(4.303 / np.sqrt(3), rel=1e-3)
    assert estimate([0.5]) == type(found)(0.5, 0.5, 0.5, 1)


def test_what_twins_have_in_common_drops_out() -> None:
    found = paired([0.91, 0.81, 0.71], [0.90, 0.80, 0.70])
    assert found.differs
    assert points(found) == "+1.00 (+1.00 to +1.00)"
    assert not paired([0.9, 0.8], [0.8, 0.9]).differs


def test_each_call_has_its_turns_and_its_own_time() -> None:
    calls: list[str] = []
    found = in_turns(
        {"a": lambda: calls.append("a"), "b": lambda: sum(range(20_000)) or calls.append("b")},
        rounds=7,
        warm=2,
    )
    assert calls.count("a") == 9
    assert found["b"].median > found["a"].median
    assert found["b"].low <= found["b"].median <= found["b"].high


def test_a_call_that_had_its_share_of_time_gets_no_more_than_five_rounds() -> None:
    calls: list[int] = []
    in_turns({"slow": lambda: calls.append(sum(range(20_000)))}, rounds=50, longest=0.0)
    assert len(calls) == 6


def test_drawn_rows_follow_their_seed_and_keep_their_order() -> None:
    whole = stripes(40, 1)
    drawn = some(whole, 10, seed=3)
    assert len(drawn) == 10
    assert drawn.sha256() == some(whole, 10, seed=3).sha256()
    assert some(whole, 99, seed=3).sha256() == whole.sha256()
