"""The garment family: an ensemble of teachers down to a net of some thousand parameters.

Every accuracy is that of the exported artifact on the 10,000 test images. Choices (which
member becomes the teacher) are made on 5,000 images split off the training part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gearshift.compress import data
from gearshift.compress import garment_nets as nets
from gearshift.compress import garment_train as train
from gearshift.compress.evaluate import content_sha256, predict, require_disjoint, unseen
from gearshift.compress.garment_export import folded, to_int8, to_onnx
from gearshift.compress.metrics import measure
from gearshift.compress.publish import MAX_SAMPLES, Draft, publish, publish_samples
from gearshift.compress.training import log_probabilities, top1
from gearshift.core.card import DataSource

MODEL = "garment"
THREADS = 2
"""Fixed, because the number of threads is part of what makes a training repeatable."""
SAMPLE_SEED = 28
SOURCES = (
    "data",
    "evaluate",
    "garment",
    "garment_export",
    "garment_nets",
    "garment_train",
    "metrics",
    "training",
)
TOOLS = ("torch", "onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True, slots=True)
class Bench:
    """What every variant of the family is measured on and described by."""

    repository: Path
    test: data.ImageSet
    source: DataSource
    report: data.Report

    def put(
        self,
        variant: str,
        artifact: bytes,
        parameters: int,
        description: str,
        tools: tuple[str, ...] = TOOLS,
    ) -> None:
        """Measure the artifact on the test images and publish it."""
        probabilities = predict(artifact, self.test.pixels)
        accuracy = measure("top1", self.test.labels, probabilities)
        draft = Draft(
            model=MODEL,
            variant=variant,
            artifact=artifact,
            parameters=parameters,
            description=description,
            accuracy=accuracy,
            further=(),
            data=self.source,
            tools=tools,
            sources=SOURCES,
        )
        publish(self.repository, draft)
        self.report(
            f"garment: {variant}: top-1 {accuracy.value:.4f} "
            f"[{accuracy.low:.4f}, {accuracy.high:.4f}], {len(artifact)} bytes"
        )


def build(repository: Path, cache: Path, report: data.Report) -> None:
    """Train, compress, measure and publish all variants, smallest first, then the samples."""
    torch.set_num_threads(THREADS)
    training, test = data.fashion_mnist(cache, report)
    bench = _bench(repository, training, test, report)
    images = train.split(training)
    folder = cache / MODEL
    calibration = training.pixels[: -train.VALIDATION]

    tiny = train.train_tiny(images, 1, folder, report)
    bench.put("tiny", _export(tiny, test), train.count(tiny), "two convolutions and a linear layer")
    members = [
        train.train_teacher(images, seed, folder, report) for seed in range(1, train.MEMBERS + 1)
    ]
    teacher = _best(members, images)
    teacher_onnx = _export(teacher, test)
    size = train.count(teacher)
    bench.put("teacher", teacher_onnx, size, "residual net of seven convolutions, float32")
    bench.put(
        "teacher-int8",
        to_int8(teacher_onnx, calibration),
        size,
        "teacher, static int8 (QDQ, weights per channel), 1,024 training images to calibrate",
    )
    ensemble = nets.Ensemble([folded(member) for member in members], mirrored=True)
    bench.put(
        "ensemble",
        to_onnx(ensemble, test.pixels),
        sum(train.count(member) for member in members),
        f"{len(members)} teachers on the image and its mirror image, mean probability",
    )
    student = train.train_student(teacher, images, 1, folder, report)
    bench.put(
        "student-int8",
        to_int8(_export(student, test), calibration),
        train.count(student),
        "four convolutions, distilled from the teacher, then static int8",
    )
    pruned = train.train_pruned(teacher, images, 1, folder, report)
    pruned_onnx = _export(pruned, test)
    tools = (*TOOLS, "torch-pruning")
    bench.put(
        "pruned",
        pruned_onnx,
        train.count(pruned),
        "teacher without half of its channels, fine-tuned by distillation, float32",
        tools,
    )
    bench.put(
        "pruned-int8",
        to_int8(pruned_onnx, calibration),
        train.count(pruned),
        "pruned, static int8 (QDQ, weights per channel)",
        tools,
    )
    _publish_samples(repository, bench.test)


def _bench(
    repository: Path, training: data.ImageSet, test: data.ImageSet, report: data.Report
) -> Bench:
    kept = unseen(test.pixels, training.pixels)
    report(
        f"garment: {len(training.labels)} images to train and choose, {int(kept.sum())} held out, "
        f"{int((~kept).sum())} left out because they also occur in training"
    )
    held_out = data.ImageSet(test.pixels[kept], test.labels[kept])
    require_disjoint(held_out.pixels, training.pixels)
    source = DataSource(
        name=data.FASHION_ORIGIN.name,
        source=data.FASHION_ORIGIN.source,
        licence=data.FASHION_ORIGIN.licence,
        training_sha256=content_sha256(training.pixels, training.labels),
        evaluation_sha256=content_sha256(held_out.pixels, held_out.labels),
    )
    return Bench(repository, held_out, source, report)


def _best(members: list[nn.Module], images: train.Images) -> nn.Module:
    """The member with the best validation accuracy."""
    return max(
        members,
        key=lambda net: top1(
            log_probabilities(net, images.validation_pixels), images.validation_labels
        ),
    )


def _export(net: nn.Module, test: data.ImageSet) -> bytes:
    return to_onnx(nets.Served(folded(net)), test.pixels)


def _publish_samples(repository: Path, test: data.ImageSet) -> None:
    n = len(test.labels)
    rows = np.sort(np.random.default_rng(SAMPLE_SEED).choice(n, MAX_SAMPLES, replace=False))
    weights = np.full(MAX_SAMPLES, n / MAX_SAMPLES)
    publish_samples(repository, MODEL, test.pixels[rows], test.labels[rows], weights)
