"""The face family's steps: the published network, and files of it with ever fewer bits.

Nothing here learns from labels: who is in a picture is only asked when it is measured.
"""

from __future__ import annotations

import numpy as np
import torch

from gearshift.compress.families import face_export, face_train
from gearshift.compress.families.face_data import INPUT, Pixels
from gearshift.compress.families.face_net import MobileFaceNet, mobilefacenet, turn_steep_slopes
from gearshift.compress.made import Made, Workshop
from gearshift.compress.rounding import round_network

TOOLS = ("torch", "onnx", "onnxruntime", "onnxscript")
ROUNDED_ON = 2
"""Every second training face is enough to round by."""


def published(shop: Workshop) -> Made:
    """MobileFaceNet as published, linear pairs of convolutions merged, in float32."""
    net = _network(shop)
    content = face_export.to_onnx(net, _training(shop)[:8])
    return _made(content, net, "MobileFaceNet as published, linear pairs merged, float32")


def int8(shop: Workshop, *, of: str) -> Made:
    """Static int8 on 7-bit weights, scales from the calibration people."""
    source = shop.made[of]
    content = face_export.to_int8(source.artifact, _calibration(shop))
    return Made(
        artifact=content,
        parameters=source.parameters,
        about=f"{of}, static int8 (QDQ, weights per channel)",
        tools=("onnx", "onnxruntime"),
    )


def few_bits(shop: Workshop, *, of: str, pointwise: int, others: int) -> Made:
    """Weights of 1x1 convolutions on `pointwise` bits, of all others on `others`; int8 inside.

    Rounded layer after layer on training faces (`rounding`), packed in ordinary operators that
    ONNX Runtime folds when it loads the file (`packing`).
    """
    source = shop.made[of]

    def bits(shape: tuple[int, ...]) -> int:
        return pointwise if tuple(shape[2:]) == (1, 1) else others

    faces = {INPUT: _training(shop)[::ROUNDED_ON]}
    content, rounded = round_network(source.artifact, faces, bits, shop.report)
    return Made(
        artifact=face_export.to_packed(content, _calibration(shop), rounded),
        parameters=source.parameters,
        about=f"{of}, weights of {pointwise} bits ({others} where not 1x1), packed; int8 inside",
        tools=("onnx", "onnxruntime"),
    )


def pruned(shop: Workshop, *, share: float, steps: int = 0) -> Made:
    """Without `share` of the inner channels' parameters, fitted, then distilled for `steps`."""
    teacher = _network(shop)
    faces = torch.from_numpy(_training(shop))
    net = face_train.pruned(teacher, faces[::ROUNDED_ON], share, shop.report)
    if steps:
        schedule = face_train.Schedule(steps=steps, peak_rate=5e-4)
        face_train.distil(net, teacher, faces, schedule, seed=shop.seed, report=shop.report)
    content = face_export.to_onnx(net, _training(shop)[:8])
    return _made(
        content,
        net,
        f"without {share:.0%} of the inner channels' parameters, fitted to the whole network"
        + (f", distilled for {steps} steps" if steps else "")
        + ", float32",
    )


def _network(shop: Workshop) -> MobileFaceNet:
    net = mobilefacenet(shop.cache, shop.report)
    turn_steep_slopes(net)
    return net


def _made(content: bytes, net: MobileFaceNet, about: str) -> Made:
    return Made(artifact=content, parameters=face_train.count(net), about=about, tools=TOOLS)


def _training(shop: Workshop) -> Pixels:
    return np.asarray(shop.data.training.inputs[INPUT], np.uint8)


def _calibration(shop: Workshop) -> Pixels:
    return np.asarray(shop.data.calibration.inputs[INPUT], np.uint8)
