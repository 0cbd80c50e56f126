"""Training on tiny data: what is learned is repeatable, and the export computes the same.

Needs PyTorch, so it runs where models are made (`make models`), not in `make test`.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from gearshift.compress import garment_nets as nets
from gearshift.compress import garment_train
from gearshift.compress.evaluate import predict
from gearshift.compress.garment_export import ExportError, folded, to_int8, to_onnx
from gearshift.compress.training import (
    Distillation,
    LossError,
    Schedule,
    augment,
    fit,
    log_probabilities,
    rate_at,
    top1,
)

SCHEDULE = Schedule(epochs=3, peak_rate=0.1, batch=32, hole_share=0.25)


def stripes(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Ten classes that a tiny net can tell apart: a bright band at a height of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (n,), generator=generator)
    pixels = torch.randint(0, 60, (n, 28, 28), generator=generator, dtype=torch.uint8)
    for row, label in enumerate(labels.tolist()):
        pixels[row, 4 + 2 * label : 6 + 2 * label] += 180
    return pixels, labels


def images(n: int = 256) -> garment_train.Images:
    pixels, labels = stripes(n)
    return garment_train.Images(pixels, labels, *stripes(100, seed=1))


def quiet(line: str) -> None:
    """Training tells each epoch; nobody listens here."""


def trained(seed: int = 0, epochs: int = 6) -> nn.Module:
    torch.manual_seed(seed)
    pixels, labels = stripes(512)
    schedule = Schedule(epochs=epochs, peak_rate=0.1, batch=32, shift=0, hole_share=0.0)
    return fit(nets.tiny(), pixels, labels, schedule, seed=seed, report=quiet)


def test_the_rate_rises_once_and_falls_to_zero() -> None:
    rates = [rate_at(SCHEDULE, step / 100) for step in range(101)]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(SCHEDULE.peak_rate)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_augmentation_keeps_shape_and_range_and_follows_its_seed() -> None:
    pixels, _ = stripes(16)
    first, second, other = (
        augment(pixels, SCHEDULE, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == (16, 1, 28, 28)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_net_learns_and_the_same_seed_gives_the_same_net() -> None:
    pixels, labels = stripes(200, seed=5)
    net, again = trained(), trained()
    assert top1(log_probabilities(net, pixels), labels) > 0.9
    for one, other in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_loss_that_runs_away_is_an_error() -> None:
    pixels, labels = stripes(128)
    wild = Schedule(epochs=4, peak_rate=1e6, batch=32)
    with pytest.raises(LossError, match="lower peak_rate"):
        fit(nets.tiny(), pixels, labels, wild, seed=0, report=quiet)


def test_a_student_comes_closer_to_its_teacher_than_to_chance() -> None:
    teacher = trained()
    torch.manual_seed(3)
    pixels, labels = stripes(256)
    student = fit(
        nets.tiny(),
        pixels,
        labels,
        Schedule(epochs=6, peak_rate=0.1, batch=32, shift=0, hole_share=0.0),
        seed=3,
        report=quiet,
        distillation=Distillation(teacher=lambda batch: teacher(batch).log_softmax(dim=1)),
    )
    fresh, _ = stripes(200, seed=9)
    agreed = log_probabilities(student, fresh).argmax(1) == log_probabilities(
        teacher, fresh
    ).argmax(1)
    assert float(agreed.float().mean()) > 0.8


@pytest.mark.parametrize("layout", [nets.teacher, nets.student, nets.tiny])
def test_folding_changes_nothing(layout) -> None:
    torch.manual_seed(0)
    net = layout()
    pixels, _ = stripes(8)
    scaled = pixels.unsqueeze(1).float() / nets.WHITE
    net.train()
    net(scaled)  # running statistics that are not those of a fresh net
    net.eval()
    with torch.inference_mode():
        expected = net(scaled)
        found = folded(net)(pixels.unsqueeze(1).float())
    assert torch.allclose(found, expected, atol=1e-4)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded(net).modules())


def test_the_exported_file_computes_what_the_net_computes_at_any_batch() -> None:
    net = trained()
    pixels = stripes(64)[0].numpy()
    served = nets.Served(folded(net))
    content = to_onnx(served, pixels)
    with torch.inference_mode():
        expected = served(torch.from_numpy(pixels)).numpy()
    for batch in (1, 3, 64):
        np.testing.assert_allclose(predict(content, pixels, batch), expected, atol=2e-4)
    assert not any(
        node.op_type == "BatchNormalization" for node in onnx.load_from_string(content).graph.node
    )


def test_an_export_that_computes_something_else_is_refused(monkeypatch) -> None:
    from gearshift.compress import garment_export

    monkeypatch.setattr(
        garment_export, "predict", lambda *arguments: np.zeros((64, 10), np.float32)
    )
    with pytest.raises(ExportError, match="differs by"):
        to_onnx(nets.Served(folded(trained(epochs=2))), stripes(64)[0].numpy())


def test_an_ensemble_is_the_mean_over_members_and_mirror_images() -> None:
    members = [folded(trained(seed)) for seed in (0, 1)]
    pixels = stripes(8)[0]
    with torch.inference_mode():
        views = [pixels, pixels.flip(2)]
        expected = sum(nets.Served(m)(view) for m in members for view in views) / 4
        found = nets.Ensemble(members, mirrored=True)(pixels)
    assert torch.allclose(found, expected, atol=1e-5)


def test_int8_is_smaller_and_nearly_agrees() -> None:
    torch.manual_seed(0)
    pixels, labels = stripes(512)
    net = fit(
        nets.student(),
        pixels,
        labels,
        Schedule(epochs=3, peak_rate=0.1, batch=32, shift=0, hole_share=0.0),
        seed=0,
        report=quiet,
    )
    content = to_onnx(nets.Served(folded(net)), pixels.numpy())
    small = to_int8(content, pixels.numpy())
    assert len(small) < 0.6 * len(content)
    fresh = stripes(200, seed=4)[0].numpy()
    agreed = predict(small, fresh).argmax(1) == predict(content, fresh).argmax(1)
    assert agreed.mean() > 0.95


def test_pruning_really_removes_channels() -> None:
    torch.manual_seed(0)
    net = nets.student()
    smaller = garment_train._without_channels(copy.deepcopy(net), images(), 0.5)
    assert garment_train.count(smaller) < 0.5 * garment_train.count(net)
    widths = [m.out_channels for m in smaller.modules() if isinstance(m, nn.Conv2d)]
    assert all(width % 8 == 0 for width in widths)
    assert smaller(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_weights_are_kept_by_recipe(tmp_path: Path) -> None:
    calls = []

    def train() -> nn.Module:
        calls.append(1)
        return trained(epochs=1)

    first = garment_train.cached(tmp_path, "net", "recipe", nets.tiny(), train)
    again = garment_train.cached(tmp_path, "net", "recipe", nets.tiny(), train)
    assert len(calls) == 1
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    garment_train.cached(tmp_path, "net", "another recipe", nets.tiny(), train)
    assert len(calls) == 2
