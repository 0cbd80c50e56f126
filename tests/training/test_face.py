"""The face network, smaller forms of it and their export, on faces that nobody has.

Needs PyTorch, so it runs where models are made (`make models`), not in `make test`. Nothing is
downloaded: the weights are random, in the names and layout of the published file.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from gearshift.compress.dataset import DataError
from gearshift.compress.evaluate import predict
from gearshift.compress.families import face_train
from gearshift.compress.families.archives import fetched, member
from gearshift.compress.families.face_export import (
    convolutions,
    to_int8,
    to_onnx,
    to_packed,
)
from gearshift.compress.families.face_net import (
    MEMBER,
    PACKAGE,
    Block,
    MobileFaceNet,
    Padded,
    mobilefacenet,
    scaled,
    turn_steep_slopes,
    with_weights,
)
from gearshift.compress.graph_file import ExportError
from gearshift.compress.packing import round_weights


def quiet(line: str) -> None:
    """Training tells its progress; nobody listens here."""


def stored_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Constants as the published file names and lays them out, of lively but tame size."""
    rng = np.random.default_rng(seed)
    top, inner = "MobileFaceNet", "MobileFaceNet/MobileFaceNet"
    found: dict[str, np.ndarray] = {}

    def conv(weight: str, bias: str, *shape: int) -> None:
        fan = shape[1] * shape[2] * (1 if shape[0] == 1 else shape[3])
        found[weight] = rng.normal(0, 1 / np.sqrt(fan), shape).astype(np.float32)
        out = shape[3] if shape[0] == 1 else shape[0]
        found[bias] = rng.normal(0, 0.1, out).astype(np.float32)

    def separable(index: int) -> str:
        return f"{top}/SeparableConv2d{f'_{index}' if index else ''}/depthwise_weights/read"

    conv(f"{top}/Conv2d_0/weights/read", f"{inner}/Conv2d_0/Conv2D_bias", 64, 3, 3, 3)
    conv(separable(0), f"{inner}/SeparableConv2d/depthwise_bias", 1, 3, 3, 64)
    conv(f"{top}/Conv/weights/read", f"{inner}/Conv/Conv2D_bias", 64, 1, 1, 64)
    slopes = {f"{inner}/Conv2d_0": 64, f"{inner}/SeparableConv2d": 64}
    index, channels = 0, 64
    for stage, blocks, wide, out in (
        ("2", 5, 128, 64),
        ("3", 1, 256, 128),
        ("4", 6, 256, 128),
        ("5", 1, 512, 128),
        ("6", 2, 256, 128),
    ):
        for block in range(blocks):
            name = f"{inner}/Conv2d_{stage}_InvResBlock_{block}"
            expand, project = (f"{top}/Conv_{2 * index + k}/weights/read" for k in (1, 2))
            conv(expand, f"{name}/Conv/Conv2D_bias", wide, 1, 1, channels)
            conv(separable(index + 1), f"{name}/SeparableConv2d/depthwise_bias", 1, 3, 3, wide)
            conv(project, f"{name}/Conv_1/Conv2D_bias", out, 1, 1, wide)
            slopes |= {f"{name}/Conv": wide, f"{name}/SeparableConv2d": wide}
            index, channels = index + 1, out
    conv(f"{top}/Conv2d_7/weights/read", f"{inner}/Conv2d_7/Conv2D_bias", 512, 1, 1, 128)
    slopes[f"{inner}/Conv2d_7"] = 512
    pool = f"{top}/Logits/SeparableConv2d"
    conv(f"{pool}/depthwise_weights/read", f"{pool}/depthwise_bias", 1, 7, 7, 512)
    for name, out in (("Conv", 512), ("LinearConv1x1", 192)):
        layer = f"{top}/Logits/{name}"
        conv(f"{layer}/weights/read", f"{layer}/Conv2D_bias", out, 1, 1, 512)
    for name, size in slopes.items():
        # Stored at half: below zero, the file multiplies x - |x| = 2 x.
        found[f"{name}/mul"] = rng.uniform(-0.7, 1.0, size).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def net() -> MobileFaceNet:
    return with_weights(stored_weights())


def faces(n: int = 6, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures: pixels that know their neighbours, as photographs do."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.rand(n, 3, 8, 8, generator=generator) * 255
    smooth = nn.functional.interpolate(rough, size=(112, 112), mode="bilinear")
    return smooth.permute(0, 2, 3, 1).round().to(torch.uint8).contiguous()


def answers(net: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = net(pictures)
    return found


def test_embeddings_have_length_one(net: MobileFaceNet) -> None:
    found = answers(net, faces())
    assert found.shape == (6, 192)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(6))


def test_a_missing_or_left_over_constant_is_an_error() -> None:
    weights = stored_weights()
    with pytest.raises(DataError, match="does not use"):
        with_weights({**weights, "more": np.zeros(1, np.float32)})
    del weights["MobileFaceNet/Conv_7/weights/read"]
    with pytest.raises(DataError, match="Conv_7"):
        with_weights(weights)


@pytest.mark.parametrize("stride", [1, 2])
def test_padding_is_that_of_tensorflow(stride: int) -> None:
    conv = Padded(1, 1, 3, stride=stride, bias=False)
    conv.weight.data.fill_(1.0)
    picture = torch.zeros(1, 1, 8, 8)
    picture[0, 0, 1, 1] = 1.0
    with torch.inference_mode():
        found = conv(picture)
    assert found.shape == (1, 1, 8 // stride, 8 // stride)
    # With stride 2 windows begin at pixels 0, 2, ...: the second pixel is in the first only.
    assert int(found.sum()) == (9 if stride == 1 else 1)


def test_slopes_and_layout_are_those_of_the_file(net: MobileFaceNet) -> None:
    weights = stored_weights()
    slope = weights["MobileFaceNet/MobileFaceNet/Conv2d_0/mul"]
    np.testing.assert_allclose(net.stemmed.weight.detach().numpy(), 2 * slope)
    block = net.blocks[3]
    assert isinstance(block, Block)
    stored = weights["MobileFaceNet/SeparableConv2d_4/depthwise_weights/read"]
    np.testing.assert_array_equal(block.depthwise.weight.detach().numpy()[5, 0], stored[0, :, :, 5])
    assert [b.residual for b in net.blocks] == [False] + [True] * 4 + [False] + [True] * 6 + [
        False,
        True,
        True,
    ]


def test_turned_slopes_compute_the_same(net: MobileFaceNet) -> None:
    turned = copy.deepcopy(net)
    assert turn_steep_slopes(turned) > 100
    slopes = [m.weight.detach() for m in turned.modules() if isinstance(m, nn.PReLU)]
    assert max(float(each.max()) for each in slopes) <= 1
    torch.testing.assert_close(answers(turned, faces()), answers(net, faces()), atol=1e-5, rtol=0)


def test_the_last_two_layers_merged_compute_the_same(net: MobileFaceNet) -> None:
    merged = copy.deepcopy(net)
    face_train.merge_last(merged)
    assert face_train.count(merged) < face_train.count(net) - 200_000
    torch.testing.assert_close(answers(merged, faces()), answers(net, faces()), atol=1e-5, rtol=0)


def test_important_channels_are_those_whose_loss_moves_the_embedding(net: MobileFaceNet) -> None:
    pictures = faces(4)
    scores = face_train.importance(net, pictures)
    groups = face_train.inner_channels(net)
    assert [len(each) for each in scores] == [group.size for group in groups]
    reader, each = groups[2].reader, scores[2]
    moved = []
    for channel in (int(each.argmax()), int(each.argmin())):
        changed = copy.deepcopy(net)
        face_train.inner_channels(changed)[2].reader.weight.data[:, channel] = 0
        moved.append(float((answers(changed, pictures) - answers(net, pictures)).norm()))
    assert reader.in_channels == len(each)
    assert moved[0] > 3 * moved[1]


def test_the_asked_share_of_parameters_goes(net: MobileFaceNet) -> None:
    groups = face_train.inner_channels(net)
    scores = [
        torch.rand(group.size, generator=torch.Generator().manual_seed(0)) for group in groups
    ]
    kept = face_train.kept_channels(groups, scores, 0.4)
    total = sum(group.cost * group.size for group in groups)
    left = sum(group.cost * len(each) for group, each in zip(groups, kept, strict=True))
    assert left / total == pytest.approx(0.6, abs=0.02)
    for group, each, score in zip(groups, kept, scores, strict=True):
        assert len(each) % 8 == 0
        assert len(each) >= group.size * face_train.LEAST_SHARE
        assert set(each.tolist()) == set(score.topk(len(each)).indices.tolist())


def test_channels_that_say_nothing_can_go(net: MobileFaceNet) -> None:
    mute = copy.deepcopy(net)
    kept = []
    for group in face_train.inner_channels(mute):
        group.reader.weight.data[:, ::2] = 0
        kept.append(torch.arange(1, group.size, 2))
    expected = answers(mute, faces())
    face_train.remove_channels(mute, kept)
    assert face_train.count(mute) < 0.7 * face_train.count(net)
    torch.testing.assert_close(answers(mute, faces()), expected, atol=1e-5, rtol=0)


def test_fitting_makes_good_a_part_of_what_was_removed(net: MobileFaceNet) -> None:
    teacher = copy.deepcopy(net)
    face_train.merge_last(teacher)
    groups = face_train.inner_channels(teacher)
    kept = face_train.kept_channels(groups, face_train.importance(teacher, faces(8)), 0.3)
    small = copy.deepcopy(teacher)
    face_train.remove_channels(small, kept)
    unseen = faces(8, seed=1)
    plain = float((answers(small, unseen) - answers(teacher, unseen)).square().mean())
    face_train.refit(small, teacher, faces(24), ridge=1e-3)
    fitted = float((answers(small, unseen) - answers(teacher, unseen)).square().mean())
    assert fitted < 0.5 * plain


def test_fitting_alone_changes_nothing(net: MobileFaceNet) -> None:
    same = copy.deepcopy(net)
    face_train.refit(same, net, faces(8), ridge=1e-3)
    torch.testing.assert_close(answers(same, faces()), answers(net, faces()), atol=1e-3, rtol=0)


def test_torch_pruning_can_prune_it(net: MobileFaceNet) -> None:
    import torch_pruning

    small = copy.deepcopy(net)
    graph = torch_pruning.DependencyGraph().build_dependency(small, faces(1).float())
    block = small.blocks[0]
    assert isinstance(block, Block)
    group = graph.get_pruning_group(
        block.expand, torch_pruning.prune_conv_out_channels, list(range(8))
    )
    group.prune()
    assert block.project.in_channels == block.depthwise.groups == 120
    assert answers(small, faces()).shape == (6, 192)


def test_augmented_faces_differ_from_the_originals_and_repeat() -> None:
    pictures = faces()
    first, second = (
        face_train.augment(pictures, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert first.shape == pictures.shape
    assert 0 <= float(first.min()) <= float(first.max()) <= 255
    torch.testing.assert_close(first, second)
    assert float((first - pictures.float()).abs().mean()) > 5


def test_distillation_brings_the_student_nearer_and_repeats(net: MobileFaceNet) -> None:
    student = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.1 * parameter.abs().mean() * torch.randn_like(parameter)
    schedule = face_train.Schedule(steps=6, batch=4, peak_rate=3e-4, decay=0.5)
    results = []
    for _ in range(2):
        trained = copy.deepcopy(student)
        face_train.distil(trained, net, faces(8), schedule, seed=0, report=quiet)
        results.append(answers(trained, faces(8)))
    torch.testing.assert_close(results[0], results[1])
    wanted = answers(net, faces(8))
    before = float((answers(student, faces(8)) * wanted).sum(dim=1).mean())
    assert float((results[0] * wanted).sum(dim=1).mean()) > before


def test_fewer_faces_than_a_batch_are_refused(net: MobileFaceNet) -> None:
    schedule = face_train.Schedule(steps=1, batch=4)
    with pytest.raises(ValueError, match="fewer than a batch"):
        face_train.distil(net, net, faces(3), schedule, seed=0, report=quiet)


def test_export_quantization_and_packing_keep_the_embeddings(net: MobileFaceNet) -> None:
    gentle = copy.deepcopy(net)
    turn_steep_slopes(gentle)
    pictures = faces(8).numpy()
    content = to_onnx(gentle, pictures)
    # The two linear pairs are merged: 52 convolutions become 50, and no PRelu is left.
    kinds = [node.op_type for node in onnx.load_from_string(content).graph.node]
    assert kinds.count("Conv") == len(convolutions(content)) == 50
    assert "PRelu" not in kinds
    expected = answers(gentle, faces(8)).numpy()
    int8 = to_int8(content, pictures)
    rounded = {name: round_weights(weight, 7) for name, weight in convolutions(content).items()}
    packed = to_packed(content, pictures, rounded)
    assert len(packed) < len(int8) < 0.31 * len(content)
    for small in (int8, packed):
        cosines = (predict(small, {"faces": pictures}, 3) * expected).sum(axis=1)
        assert cosines.min() > 0.97


def test_an_export_that_computes_something_else_is_refused(
    net: MobileFaceNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = MobileFaceNet.raw
    monkeypatch.setattr(
        MobileFaceNet, "raw", lambda self, x: exact(self, x) + torch.rand_like(x[:, 0, 0, :1])
    )
    with pytest.raises(ExportError, match="differs"):
        to_onnx(copy.deepcopy(net), faces().numpy())


def test_scaling_is_that_of_the_published_network() -> None:
    pictures = torch.tensor([0, 127, 255], dtype=torch.uint8).expand(1, 1, 1, 3)
    expected = torch.tensor([-127.5, -0.5, 127.5]) / 128
    torch.testing.assert_close(scaled(pictures).flatten(), expected)


@pytest.mark.skipif("FACE_CACHE" not in os.environ, reason="needs the published file, once fetched")
def test_the_network_is_the_published_one() -> None:
    """Against LiteRT on the file itself: `FACE_CACHE=build/compress pytest tests/training`."""
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    cache = Path(os.environ["FACE_CACHE"])
    content = member(fetched(PACKAGE, cache, quiet), MEMBER)
    interpreter = interpreters.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    pictures = faces(2)
    given = (pictures.numpy().astype(np.float32) - 127.5) / 128
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given)
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    with torch.inference_mode():
        found = mobilefacenet(cache, quiet).raw(scaled(pictures)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
