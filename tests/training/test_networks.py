"""Training on tiny data: what is learned is repeatable, and the export computes the same.

Needs PyTorch, so it runs where models are made (`make models`), not in `make test`.
"""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from gearshift.compress import export, learning, networks, pruning
from gearshift.compress.dataset import Part
from gearshift.compress.evaluate import predict
from gearshift.compress.export import to_onnx
from gearshift.compress.families import garment
from gearshift.compress.families import garment_nets as nets
from gearshift.compress.graph_file import ExportError
from gearshift.compress.learning import LossError, Task, fit, rate_at
from gearshift.compress.recipe import Learning, Teaching

LAYERS = [(16, 2, 0), (32, 1, 0), (64, 2, 0)]
SMALL = [12, 24]
TASK = Task(activation="softmax")


def stripes(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Ten classes that a tiny net can tell apart: a bright band at a height of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (n,), generator=generator)
    pixels = torch.randint(0, 60, (n, 28, 28), generator=generator, dtype=torch.uint8)
    for row, label in enumerate(labels.tolist()):
        pixels[row, 4 + 2 * label : 6 + 2 * label] += 180
    return pixels, labels


def part(n: int = 64, seed: int = 0) -> Part:
    pixels, labels = stripes(n, seed)
    return Part({"pixels": pixels.numpy()}, labels.numpy())


def quiet(line: str) -> None:
    """Training tells each epoch; nobody listens here."""


def trained(seed: int = 0, epochs: int = 6, state: Path | None = None) -> nn.Module:
    torch.manual_seed(seed)
    pixels, labels = stripes(512)
    schedule = Learning(epochs=epochs, rate=0.1, batch=32)
    net = nets.tiny(SMALL)
    return fit(net, (pixels,), labels, schedule, TASK, seed=seed, report=quiet, state=state)


def right(net: nn.Module, n: int = 200, seed: int = 5) -> float:
    pixels, labels = stripes(n, seed)
    with torch.inference_mode():
        return float((net(pixels).argmax(1) == labels).float().mean())


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = itertools.zip_longest(one.state_dict().values(), other.state_dict().values())
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_rate_rises_once_and_falls_to_zero() -> None:
    schedule = Learning(epochs=3, rate=0.1)
    rates = [rate_at(schedule, step / 100) for step in range(101)]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@pytest.mark.parametrize(
    "change",
    [garment.changed, garment.changed_more, garment.changed_less, garment.changed_least],
)
def test_augmentation_keeps_shape_and_type_and_follows_its_seed(change) -> None:
    pixels, _ = stripes(16)
    first, second, other = (
        change((pixels,), torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)
    )
    assert first.shape == (16, 28, 28)
    assert first.dtype == torch.uint8
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_net_learns_and_the_same_seed_gives_the_same_net() -> None:
    net, again = trained(), trained()
    assert right(net) > 0.9
    assert same(net, again)


def test_a_killed_training_goes_on_to_the_same_net(tmp_path: Path, monkeypatch) -> None:
    state = tmp_path / "net.state"
    whole = trained(epochs=4)
    keep = learning._keep

    def killed(place, net, optimizer, generator, extra, epochs):
        keep(place, net, optimizer, generator, extra, epochs)
        if epochs == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(learning, "_keep", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(epochs=4, state=state)
    monkeypatch.setattr(learning, "_keep", keep)
    lines: list[str] = []
    torch.manual_seed(0)
    pixels, labels = stripes(512)
    schedule = Learning(epochs=4, rate=0.1, batch=32)
    resumed = fit(
        *(nets.tiny(SMALL), (pixels,), labels, schedule, TASK),
        seed=0,
        report=lines.append,
        state=state,
    )
    assert [line.split()[1] for line in lines] == ["3/4", "4/4"]
    assert same(whole, resumed)


def test_a_state_of_another_kind_of_device_is_not_gone_on_from(tmp_path: Path) -> None:
    state = tmp_path / "net.state"
    whole = trained(epochs=2, state=state)
    kept = torch.load(state, weights_only=True)
    torch.save({**kept, "device": "cuda", "epochs": 1}, state)
    assert same(whole, trained(epochs=2, state=state))


def test_half_precision_can_be_asked_for_and_changes_the_net_a_little() -> None:
    def run(half: bool | None) -> nn.Module:
        torch.manual_seed(0)
        pixels, labels = stripes(64)
        schedule = Learning(epochs=1, rate=0.05, batch=32)
        net = nets.tiny(SMALL)
        return fit(net, (pixels,), labels, schedule, TASK, seed=0, report=quiet, half=half)

    exact, rounded = run(False), run(True)
    assert not same(exact, rounded)
    fresh, _ = stripes(16, seed=1)
    with torch.inference_mode():
        assert torch.allclose(exact(fresh), rounded(fresh), atol=0.1)


def test_a_loss_that_runs_away_is_an_error() -> None:
    pixels, labels = stripes(128)
    wild = Learning(epochs=4, rate=1e6, batch=32)
    with pytest.raises(LossError, match="a lower rate than 1e.06"):
        fit(nets.tiny(SMALL), (pixels,), labels, wild, TASK, seed=0, report=quiet)


def test_embeddings_have_no_labels_to_learn_from() -> None:
    pixels, labels = stripes(32)
    with pytest.raises(LossError, match="give the step a `teaching` table"):
        fit(
            *(nets.tiny(SMALL), (pixels,), labels, Learning(epochs=1), Task(activation="none")),
            seed=0,
            report=quiet,
        )


@pytest.mark.parametrize("learn", ["logits", "embeddings"])
@pytest.mark.parametrize("hard_share", [0.0, 0.1])
def test_a_student_comes_closer_to_its_teacher_than_to_chance(learn, hard_share) -> None:
    teacher = trained()
    torch.manual_seed(3)
    pixels, labels = stripes(256)
    teaching = Teaching(teacher="t", learn=learn, hard_share=hard_share)
    student = fit(
        nets.tiny(SMALL),
        (pixels,),
        labels,
        Learning(epochs=8, rate=0.1, batch=32),
        Task(activation="softmax", teaching=teaching, teacher=lambda given: teacher(*given)),
        seed=3,
        report=quiet,
    )
    fresh, _ = stripes(200, seed=9)
    with torch.inference_mode():
        agreed = student(fresh).argmax(1) == teacher(fresh).argmax(1)
    assert float(agreed.float().mean()) > 0.8


def test_checkpointing_changes_memory_and_nothing_else() -> None:
    def run(checkpoints: bool) -> nn.Module:
        torch.manual_seed(0)
        pixels, labels = stripes(64)
        schedule = Learning(epochs=2, rate=0.05, batch=16, checkpoints=checkpoints)
        net = nets.convolutions(LAYERS)
        return fit(net, (pixels,), labels, schedule, TASK, seed=0, report=quiet)

    plain, saving = run(False), run(True)
    for (name, one), other in zip(
        plain.state_dict().items(), saving.state_dict().values(), strict=True
    ):
        if "num_batches" not in name:  # The second pass counts, too; nothing reads the count.
            assert torch.allclose(one, other, atol=1e-5), name


def test_checkpointing_needs_to_know_the_segments() -> None:
    pixels, labels = stripes(32)
    schedule = Learning(epochs=1, checkpoints=True)
    with pytest.raises(LossError, match="needs a method `segments"):
        fit(
            *(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), (pixels.float(),), labels),
            *(schedule, TASK),
            seed=0,
            report=quiet,
        )


@pytest.mark.parametrize("make", [lambda: nets.convolutions(LAYERS), lambda: nets.tiny(SMALL)])
def test_the_exporter_folds_batch_normalization_and_changes_nothing(make) -> None:
    torch.manual_seed(0)
    net = make()
    net.train()
    net(stripes(32)[0])  # running statistics that are not those of a fresh net
    net.eval()
    content = to_onnx(net, part(), activation="softmax", output="probabilities")
    assert not any(
        node.op_type == "BatchNormalization" for node in onnx.load_from_string(content).graph.node
    )
    pixels = stripes(64, seed=2)[0]
    with torch.inference_mode():
        expected = net(pixels).softmax(1).numpy()
    for batch in (1, 3, 64):
        found = predict(content, {"pixels": pixels.numpy()}, batch)
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_an_export_that_computes_something_else_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(export, "predict", lambda *arguments: np.zeros((64, 10), np.float32))
    with pytest.raises(ExportError, match="differs by"):
        to_onnx(nets.tiny(SMALL), part(), activation="softmax", output="p")


def test_an_ensemble_is_the_mean_of_members_every_second_on_the_mirror_image() -> None:
    members = [trained(seed, epochs=2) for seed in (0, 1, 2)]
    pixels = stripes(8)[0]
    pixels[:, :, :14] = 0  # Bands on one side only: no image is its own mirror image.
    with torch.inference_mode():
        views = [pixels, pixels.flip(2), pixels]
        answers = [member(view).softmax(1) for member, view in zip(members, views, strict=True)]
        found = nets.Ensemble(members)(pixels).softmax(1)
        unmirrored = sum(member(pixels).softmax(1) for member in members) / 3
    assert torch.allclose(found, sum(answers) / 3, atol=1e-5)
    assert not torch.allclose(found, unmirrored, atol=1e-5)


@pytest.mark.parametrize("importance", ["taylor", "magnitude"])
def test_pruning_really_removes_channels_and_weights_rebuild_the_net(importance) -> None:
    torch.manual_seed(0)
    net = nets.convolutions([(16, 2, 0), (32, 1, 1), (64, 2, 0)])
    pixels, labels = stripes(64)
    smaller = pruning.without_channels(
        copy.deepcopy(net),
        (pixels,),
        0.5,
        loss=nn.functional.cross_entropy,
        targets=labels,
        importance=importance,
    )
    assert networks.count(smaller) < 0.5 * networks.count(net)
    convolutions = [m for m in smaller.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.out_channels % 8 == 0 for m in convolutions)
    again = networks.fill(
        nets.convolutions([(16, 2, 0), (32, 1, 1), (64, 2, 0)]), smaller.state_dict()
    )
    assert torch.equal(again(pixels), smaller.eval()(pixels))
    assert [m.out_channels for m in again.modules() if isinstance(m, nn.Conv2d)] == [
        m.out_channels for m in convolutions
    ]


def test_a_net_too_narrow_to_prune_says_so() -> None:
    pixels, labels = stripes(64)
    with pytest.raises(pruning.PruningError, match="nothing could be removed"):
        pruning.without_channels(
            *(nets.tiny([8, 8]), (pixels,), 0.3),
            loss=nn.functional.cross_entropy,
            targets=labels,
        )
    with pytest.raises(pruning.PruningError, match="keep names body.x, .* it has net"):
        pruning.without_channels(
            *(nets.tiny([16, 16]), (pixels,), 0.5),
            loss=nn.functional.cross_entropy,
            targets=labels,
            keep=["body.x"],
        )


def test_weights_are_taken_where_name_and_shape_fit() -> None:
    source, target = nets.tiny([12, 24]), nets.tiny([12, 32])
    taken, own = networks.take_weights(target, source.state_dict())
    assert 0 < taken < own
    assert torch.equal(target.net.body[0].weight, source.net.body[0].weight)
