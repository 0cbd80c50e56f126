"""Every study runs from end to end at a tiny size, on made-up data."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from gearshift.compress.families.garment import INPUT
from gearshift.compress.families.garment_nets import convolutions
from gearshift.compress.studies import batch_normalization_runs, sparsity_runs
from gearshift.compress.studies.catalog import STUDIES, Kept, StudyError, carry_out, publish
from gearshift.compress.studies.checkpointing import Layout
from gearshift.compress.studies.checkpointing_runs import stepper
from gearshift.compress.studies.toy import stripes
from gearshift.compress.studies.transfer_runs import few
from gearshift.compress.studies.transfer_text import PLAN, words

LAYERS = [(8, 2, 1), (16, 1, 0)]


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_becomes_a_page_and_a_picture(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Libraries about one another; the figures mean nothing.
        result = carry_out(name, tmp_path, lambda line: None, quick=True)
    found = Kept(result, "a machine", f"gearshift study {name} --quick")
    text, picture = publish(name, found, tmp_path / "results")
    page = text.read_text(encoding="utf-8")
    assert f"`gearshift study {name} --quick`" in page
    assert f"](study-{name}.png)" in page
    assert "nan" not in page
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_unknown_study_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no study is named 'speed'; there are checkpointing, "):
        carry_out("speed", tmp_path, lambda line: None)


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_a_step_with_checkpoints_has_the_loss_of_one_without(segments: int) -> None:
    layout = Layout(name="small", layers=LAYERS, batch=8, segments=(segments,))
    plain, saving = stepper(layout, 0), stepper(layout, segments)
    for _ in range(3):
        assert saving() == pytest.approx(plain(), rel=1e-4)


def test_zeros_stay_zeros_while_the_network_learns_on() -> None:
    torch.manual_seed(0)
    net = sparsity_runs.with_zeros(convolutions(LAYERS), 0.6)
    rows = stripes(32, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        logits = net(torch.from_numpy(rows.inputs[INPUT]))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(rows.labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net = sparsity_runs._settled(net)
    zeros = sum(int((layer.weight == 0).sum()) for layer in sparsity_runs._layers(net))
    assert zeros / sparsity_runs.weights(net) == pytest.approx(0.6, abs=0.01)


def test_the_twin_without_normalization_has_none_and_takes_the_same_pictures() -> None:
    net = batch_normalization_runs.without_norms(convolutions(LAYERS))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert all(m.bias is not None for m in net.modules() if isinstance(m, nn.Conv2d))
    assert net(torch.from_numpy(stripes(4, 1).inputs[INPUT])).shape == (4, 10)


def test_an_export_can_keep_its_normalizations() -> None:
    pixels = torch.from_numpy(stripes(8, 1).inputs[INPUT])
    raw = batch_normalization_runs.with_operators(convolutions(LAYERS).eval(), pixels)
    kept = batch_normalization_runs._constants_folded(raw)
    for content in (raw, kept):
        nodes = onnx.load_from_string(content).graph.node
        assert sum(node.op_type == "BatchNormalization" for node in nodes) == 4


def test_few_labels_are_so_many_of_each_class_and_follow_their_seed() -> None:
    rows = stripes(200, 1)
    found = few(rows, 3, seed=1)
    assert np.bincount(found.labels).tolist() == [3] * 10
    assert found.sha256() == few(rows, 3, seed=1).sha256()
    assert found.sha256() != few(rows, 3, seed=2).sha256()


def test_words_that_tell_the_classes_apart_are_found() -> None:
    ham, spam = ["lunch at noon today", "notes of the meeting"], ["win money now", "money for you"]
    found = words([*ham, *spam], np.array([0, 0, 1, 1]), ["money", "lunch today"], np.array([1, 0]))
    assert found == 1.0


@pytest.mark.parametrize(("rows", "epochs"), [(40, 13), (200, 3), (3_518, 1)])
def test_few_mails_are_learned_as_long_as_many(rows: int, epochs: int) -> None:
    assert PLAN.schedule(rows, 1e-4, 0).epochs == epochs
