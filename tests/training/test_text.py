"""The text encoder, its students and their training, on tiny networks and made-up rows.

Needs PyTorch, so it runs where models are made (`make models`), not in `make test`.
"""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from gearshift.compress import quantization
from gearshift.compress.dataset import Part
from gearshift.compress.evaluate import predict, session
from gearshift.compress.export import to_onnx
from gearshift.compress.families import text_net, text_train
from gearshift.compress.families.text_net import Classifier, Embedder, Encoder, Shape
from gearshift.compress.families.text_train import Distillation, LossError, Schedule
from gearshift.compress.networks import Answering

SHAPE = Shape(layers=3, width=32, heads=4, inner=64, words=200, tokens=12)
SCHEDULE = Schedule(epochs=6, peak_rate=3e-3, batch=16)


def rows(n: int = 256, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of different lengths; those of class 1 hold the word 7 or 8 somewhere."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (n,), generator=generator)
    ids = torch.randint(110, 200, (n, 12), generator=generator)
    lengths = torch.randint(5, 13, (n,), generator=generator)
    for row, label in enumerate(labels.tolist()):
        ids[row, 0] = 101
        if label:
            ids[row, 1 + row % 3] = 7 + row % 2
        ids[row, lengths[row] - 1] = 102
        ids[row, lengths[row] :] = 0
    return ids, labels


def classifier(seed: int = 0, shape: Shape = SHAPE) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(Encoder(shape)).eval()


def trained(seed: int = 0) -> Classifier:
    return text_train.fine_tune(classifier(seed), *rows(), SCHEDULE, seed=seed, report=quiet)


@pytest.fixture(scope="module")
def teacher() -> Classifier:
    return trained()


def quiet(line: str) -> None:
    """Training tells how it gets on; nobody listens here."""


def bert_weights() -> dict[str, torch.Tensor]:
    """Random weights of a BERT of two layers of width 8, by the names of `transformers`."""
    generator = torch.Generator().manual_seed(0)

    def random(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator) * 0.5

    weights = {f"embeddings.LayerNorm.{kind}": random(8) for kind in ("weight", "bias")}
    for name, count in (("word", 50), ("position", 20), ("token_type", 2)):
        weights[f"embeddings.{name}_embeddings.weight"] = random(count, 8)
    dense = {"attention.output.dense": (8, 8), "intermediate.dense": (16, 8)}
    dense |= {f"attention.self.{part}": (8, 8) for part in ("query", "key", "value")}
    for layer in range(2):
        for name, (outputs, inputs) in (dense | {"output.dense": (8, 16)}).items():
            weights[f"encoder.layer.{layer}.{name}.weight"] = random(outputs, inputs)
            weights[f"encoder.layer.{layer}.{name}.bias"] = random(outputs)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            for kind in ("weight", "bias"):
                weights[f"encoder.layer.{layer}.{name}.{kind}"] = random(8)
    return weights


def bert_by_hand(weights: dict[str, torch.Tensor], ids: list[int], heads: int) -> np.ndarray:
    """BERT on one row without padding, in NumPy, straight from the paper."""
    w = {name: value.double().numpy() for name, value in weights.items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-12)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(2):
        at = f"encoder.layer.{layer}"
        query, key, value = (
            np.split(dense(x, f"{at}.attention.self.{p}"), heads, axis=1)
            for p in ("query", "key", "value")
        )
        mixed = []
        for q, k, v in zip(query, key, value, strict=True):
            scores = np.exp(q @ k.T / math.sqrt(q.shape[1]))
            mixed.append(scores / scores.sum(1, keepdims=True) @ v)
        attended = dense(np.concatenate(mixed, axis=1), f"{at}.attention.output.dense")
        x = norm(x + attended, f"{at}.attention.output.LayerNorm")
        inner = dense(x, f"{at}.intermediate.dense")
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = norm(x + dense(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    return x


def test_the_encoder_is_bert_and_padding_changes_nothing() -> None:
    weights, ids = bert_weights(), [4, 9, 30, 9, 49]
    encoder = text_net.from_bert(weights, heads=2, tokens=10)
    with torch.inference_mode():
        found = encoder(torch.tensor([ids]))[0].numpy()
        padded = encoder(torch.tensor([[*ids, 0, 0, 0]]))[0, :5].numpy()
    np.testing.assert_allclose(found, bert_by_hand(weights, ids, 2), atol=1e-5)
    np.testing.assert_allclose(padded, found, atol=1e-5)


def test_safetensors_are_read_by_name_and_place() -> None:
    first, second = np.arange(6, dtype="<f4").reshape(2, 3), np.ones(2, "<f4")
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "ids": {"dtype": "I64", "shape": [1], "data_offsets": [32, 40]},
        }
    ).encode()
    content = len(header).to_bytes(8, "little") + header + second.tobytes() + first.tobytes()
    found = text_net.read_safetensors(content + bytes(8))
    assert sorted(found) == ["a", "b"]
    np.testing.assert_array_equal(found["a"].numpy(), first)
    np.testing.assert_array_equal(found["b"].numpy(), second)


def test_an_embedding_is_the_mean_over_real_tokens_and_has_length_one() -> None:
    ids, _ = rows(4)
    encoder = classifier().encoder
    with torch.inference_mode():
        states = encoder(ids)
        expected = torch.stack([s[i != 0].mean(0) for s, i in zip(states, ids, strict=True)])
        found = Embedder(encoder)(ids)
    assert torch.allclose(text_net.mean_over_tokens(states, ids), expected, atol=1e-6)
    assert torch.allclose(found, expected / expected.norm(dim=1, keepdim=True), atol=1e-6)


def test_checkpointing_gives_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = text_net.checkpoint
    monkeypatch.setattr(text_net, "checkpoint", lambda *a, **k: (calls.append(1), real(*a, **k))[1])
    gradients = []
    for checkpointing in (False, True):
        net = classifier().train()
        net.encoder.checkpointing = checkpointing
        torch.manual_seed(5)  # The dropout of both passes over a block must be the same.
        net(rows(8)[0]).square().sum().backward()
        gradients.append([p.grad for p in net.parameters()])
    assert len(calls) == SHAPE.layers
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_frequent_ids_are_counted_by_row() -> None:
    ids = np.array([[101, 5, 5, 5, 102], [101, 6, 9, 102, 0], [101, 6, 7, 102, 0]])
    assert text_net.frequent(ids, 2).tolist() == [0, 6, 100, 101, 102]


def test_a_student_of_all_layers_and_words_is_its_teacher(teacher: Classifier) -> None:
    ids, _ = rows(16)
    same = text_net.student(
        teacher, layers=range(3), width=32, vocabulary=np.arange(200, dtype=np.int64)
    )
    with torch.inference_mode():
        assert torch.allclose(same(ids), teacher(ids), atol=1e-5)


def test_a_student_keeps_the_parts_that_were_asked_for(teacher: Classifier) -> None:
    before = copy.deepcopy(teacher.state_dict())
    vocabulary = np.array([0, 7, 8, 100, 101, 102, 150], np.int64)
    student = text_net.student(teacher, layers=(0, 2), width=16, vocabulary=vocabulary)
    assert student.encoder.shape == Shape(layers=2, width=16, heads=2, inner=32, words=7, tokens=12)
    assert [*student.encoder.blocks[1].narrow.weight.shape] == [16, 32]
    wide = text_net.student(teacher, layers=(0, 2), vocabulary=vocabulary).encoder.words.weight.data
    assert torch.equal(wide[1], teacher.encoder.words.weight.data[7])
    rest = np.setdiff1d(np.arange(200), vocabulary)
    unknown = teacher.encoder.words.weight.data[torch.from_numpy(rest)].mean(0)
    assert torch.allclose(wide[3], unknown)
    kept = (wide**2).mean(0).topk(16).indices.sort().values
    assert torch.equal(student.encoder.words.weight.data, wide[:, kept])
    ids = torch.tensor([[101, 7, 160, 102, 0]])
    other = torch.tensor([[101, 7, 199, 102, 0]])
    with torch.inference_mode():
        assert torch.equal(student.eval()(ids), student(other))  # Both words are unknown.
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("width", [12, 0, 64])
def test_an_impossible_width_is_an_error(teacher: Classifier, width: int) -> None:
    with pytest.raises(ValueError, match="multiple of 8 up to 32"):
        text_net.student(teacher, layers=(0,), width=width)


def test_a_vocabulary_without_the_special_ids_is_an_error(teacher: Classifier) -> None:
    with pytest.raises(ValueError, match="special ids"):
        text_net.student(teacher, layers=(0,), vocabulary=np.arange(50, dtype=np.int64))


def test_the_rate_rises_once_and_falls_to_zero() -> None:
    rates = [text_train.rate_at(SCHEDULE, step / 100) for step in range(101)]
    assert (rates[0], rates[-1]) == (0, pytest.approx(0))
    assert rates.index(max(rates)) == 10
    assert max(rates) == pytest.approx(SCHEDULE.peak_rate)


def test_fine_tuning_learns_and_the_same_seed_gives_the_same_net(teacher: Classifier) -> None:
    assert text_train.accuracy(teacher, *rows(200, seed=3)) > 0.95
    for one, other in zip(teacher.parameters(), trained().parameters(), strict=True):
        assert torch.equal(one, other)
    assert not teacher.training


def test_frozen_stages_stay_and_all_can_be_trained_again_after() -> None:
    net = classifier()
    before = copy.deepcopy(net)
    schedule = Schedule(epochs=1, peak_rate=1e-3, frozen=2)
    text_train.fine_tune(net, *rows(64), schedule, seed=0, report=quiet)

    def same(part: str) -> bool:
        pairs = zip(
            net.get_submodule(part).parameters(),
            before.get_submodule(part).parameters(),
            strict=True,
        )
        return all(torch.equal(one, other) for one, other in pairs)

    assert same("encoder.words")
    assert same("encoder.blocks.0")
    assert not same("encoder.blocks.1")
    assert all(p.requires_grad for p in net.parameters())


def test_only_the_first_tokens_are_seen_when_asked() -> None:
    seen = []
    net = classifier()
    net.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    schedule = Schedule(epochs=1, peak_rate=1e-3, tokens=6)
    text_train.fine_tune(net, *rows(64), schedule, seed=0, report=quiet)
    assert max(seen) == 6


def test_a_loss_that_is_no_number_is_an_error() -> None:
    net = classifier()
    nn.init.constant_(net.head.weight, float("nan"))
    with pytest.raises(LossError, match="lower peak_rate"):
        text_train.fine_tune(net, *rows(64), SCHEDULE, seed=0, report=quiet)


@pytest.mark.parametrize("width", [32, 16])
def test_a_student_learns_from_its_teacher_without_labels(teacher: Classifier, width: int) -> None:
    ids, _ = rows()
    lessons = text_train.lessons_of(teacher, ids, states=True)
    student = text_net.student(teacher, layers=(0, 2), width=width)
    wrong = torch.zeros(len(ids), dtype=torch.int64)
    text_train.teach(
        student, ids, wrong, lessons, SCHEDULE, Distillation(logits=1.0), seed=0, report=quiet
    )
    assert text_train.accuracy(student, *rows(200, seed=3)) > 0.95


def test_the_embeddings_and_states_of_the_teacher_are_learned(teacher: Classifier) -> None:
    ids, labels = rows()
    lessons = text_train.lessons_of(teacher, ids, states=True)
    assert lessons.states is not None

    def distances(distillation: Distillation) -> tuple[float, float]:
        student = text_net.student(teacher, layers=(0,))
        text_train.teach(
            student, ids, labels, lessons, SCHEDULE, distillation, seed=0, report=quiet
        )
        own = text_train.lessons_of(student, ids, states=True)
        cosine = nn.functional.cosine_similarity(own.embeddings, lessons.embeddings)
        difference = (own.states.float() - lessons.states.float()) * (ids != 0).unsqueeze(2)
        return 1 - float(cosine.mean()), float(difference.square().mean())

    alone = distances(Distillation(embeddings=0, states=0))
    assert distances(Distillation(embeddings=5, states=0))[0] < 0.5 * alone[0]
    assert distances(Distillation(embeddings=0, states=5))[1] < 0.5 * alone[1]


def test_few_rows_of_each_class_by_seed() -> None:
    labels = torch.tensor([0, 1, 0, 0, 1, 1, 0, 0])
    chosen = text_train.few(labels, 2, seed=1)
    assert labels[chosen].bincount().tolist() == [2, 2]
    assert torch.equal(chosen, text_train.few(labels, 2, seed=1))
    with pytest.raises(ValueError, match="class 1 has 3 rows, not 4"):
        text_train.few(labels, 4, seed=1)


def exported(net: Classifier, ids: np.ndarray) -> bytes:
    part = Part({"input_ids": ids}, np.zeros(len(ids), np.int64))
    return to_onnx(net, part, activation="softmax", output="probabilities")


def test_the_exported_file_computes_what_the_net_computes_at_any_batch(
    teacher: Classifier,
) -> None:
    ids = rows(16, seed=2)[0]
    vocabulary = np.union1d(np.arange(0, 150), text_net.SPECIAL).astype(np.int64)
    student = text_net.student(teacher, layers=(0, 2), width=16, vocabulary=vocabulary)
    served = Answering(student, "softmax").eval()
    content = exported(student, ids.numpy())
    with torch.inference_mode():
        expected = served(ids).numpy()
    for batch in (1, 5, 16):
        np.testing.assert_allclose(
            predict(content, {"input_ids": ids.numpy()}, batch), expected, atol=2e-4
        )
    graph = session(content)
    entry, answer = graph.get_inputs()[0], graph.get_outputs()[0]
    assert (entry.name, entry.type, entry.shape[1:]) == ("input_ids", "tensor(int64)", [12])
    assert (answer.name, answer.type, answer.shape[1:]) == ("probabilities", "tensor(float)", [2])
    assert onnx.load_from_string(content).ir_version == 8


def test_int8_is_smaller_and_nearly_agrees(teacher: Classifier) -> None:
    ids = rows(200, seed=4)[0].numpy()
    content = exported(teacher, ids)
    part = Part({"input_ids": ids}, np.zeros(len(ids), np.int64))
    full = predict(content, part.inputs)
    for small in (
        quantization.dynamic(content).content,
        quantization.dynamic(content, per_channel=False).content,
        quantization.static(content, part.rows(slice(0, 64)), method="minmax").content,
    ):
        floats = sum(
            np.prod(tensor.dims)
            for tensor in onnx.load_from_string(small).graph.initializer
            if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2
        )
        assert floats <= 12 * 32  # The positions only.
        answers = predict(small, part.inputs)
        assert not np.array_equal(answers, full)
        assert (answers.argmax(1) == full.argmax(1)).mean() > 0.97
