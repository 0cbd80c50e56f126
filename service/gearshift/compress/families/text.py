"""The text family's steps: MiniLM fine-tuned to tell spam, and smaller networks taught by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gearshift.compress.export import to_onnx
from gearshift.compress.families import text_net, text_train
from gearshift.compress.families.text_data import INPUT
from gearshift.compress.families.text_net import Classifier
from gearshift.compress.made import Made, Workshop, network_of

TOOLS = ("torch", "onnx", "onnxruntime", "onnxscript")


def untrained(shop: Workshop, **settings: Any) -> nn.Module:
    """MiniLM with a new head: the layout of `tuned`."""
    return Classifier(text_net.minilm(shop.cache, shop.report))


def tuned(shop: Workshop, *, stages: list[dict[str, Any]]) -> Made:
    """MiniLM fine-tuned on the labels, in `stages` of a `text_train.Schedule` each."""
    torch.manual_seed(shop.seed)
    net = Classifier(text_net.minilm(shop.cache, shop.report))
    ids, labels = _rows(shop)
    for number, stage in enumerate(stages):
        schedule = text_train.Schedule(**stage)
        seed = shop.seed + number
        text_train.fine_tune(net, ids, labels, schedule, seed=seed, report=shop.report)
    return _made(net, "MiniLM, six layers, fine-tuned, float32", shop)


def smaller(shop: Workshop, *, of: str, layers: list[int], width: int, least: int) -> nn.Module:
    """Some layers and coordinates of the network behind `of`, and the words of `least` mails."""
    teacher = network_of(of, shop)
    assert isinstance(teacher, Classifier)
    words = text_net.frequent(shop.data.training.inputs[INPUT].astype(np.int64), least)
    return text_net.student(teacher, layers=layers, width=width, vocabulary=words)


def taught(
    shop: Workshop, *, schedule: dict[str, Any], distillation: dict[str, Any], **shape: Any
) -> Made:
    """The network `smaller(**shape)`, taught by the one that it was cut from."""
    teacher = network_of(shape["of"], shop)
    assert isinstance(teacher, Classifier)
    torch.manual_seed(shop.seed)
    student = smaller(shop, **shape)
    assert isinstance(student, Classifier)
    ids, labels = _rows(shop)
    shop.report("asking the teacher")
    lessons = text_train.lessons_of(teacher, ids, states=True)
    text_train.teach(
        student,
        ids,
        labels,
        lessons,
        text_train.Schedule(**schedule),
        text_train.Distillation(**distillation),
        seed=shop.seed,
        report=shop.report,
    )
    shape_of = student.encoder.shape
    about = (
        f"{shape_of.layers} layers of width {shape_of.width}, {shape_of.words:,} words, taught by "
        f"{shape['of']}, float32"
    )
    return _made(student, about, shop)


def _rows(shop: Workshop) -> tuple[Tensor, Tensor]:
    part = shop.data.training
    return torch.from_numpy(part.inputs[INPUT].astype(np.int64)), torch.from_numpy(part.labels)


def _made(net: Classifier, about: str, shop: Workshop) -> Made:
    output = shop.output
    artifact = to_onnx(net, shop.data.training, activation=output.activation, output=output.name)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Made(artifact=artifact, parameters=parameters, about=about, tools=TOOLS, network=net)
