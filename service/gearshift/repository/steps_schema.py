"""The format of the tables `[[before]]` and `[[after]]` in `model.toml`, one class for each kind of
step. As in `schema`, a key's description is the second half of the message about it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from gearshift.repository.schema import Strict

TensorName = Annotated[str, StringConstraints(min_length=1, max_length=256)]

FileName = Annotated[
    str, StringConstraints(pattern=r"\A[A-Za-z0-9][A-Za-z0-9\-_.]*\z", max_length=128)
]

MOST_TEXT, MOST_PICTURE, MOST_PIXELS = 2**20, 64 * 2**20, 2**26

_HERE = "the name of a file beside model.toml: letters, digits, '-', '_' and '.'"
_INPUT = "the name of the input that callers send"
_OF = "the name of the output that is read"
_OUTPUT = "the name of the output that is made"


class FileEntry(Strict):
    """A step with a file."""

    file: FileName | None = Field(None, description=_HERE)
    sha256: str = Field("", description="the SHA-256 of the file, in hex digits")


class TokenizeEntry(FileEntry):
    """`step = "tokenize"`: a text becomes the ids of its tokens."""

    step: Literal["tokenize"]
    input: TensorName = Field(description=_INPUT)
    file: FileName = Field(description=f"{_HERE}; a tokenizer.json")
    ids: TensorName = Field(description="the network's input for the ids")
    mask: TensorName | None = Field(
        None, description="the network's input for 1 where there is a token, if it has one"
    )
    types: TensorName | None = Field(
        None, description="the network's input for the ids of the text's parts, if it has one"
    )
    max_bytes: int = Field(
        2**16, ge=1, le=MOST_TEXT, description=f"bytes of a text, from 1 to {MOST_TEXT}"
    )


class ImageEntry(Strict):
    """`step = "image"`: a PNG or JPEG becomes pixels."""

    step: Literal["image"]
    input: TensorName = Field(description=_INPUT)
    makes: TensorName = Field(description="the network's input for the pixels")
    layout: Literal["HWC", "CHW", "HW"] = Field(
        description='the order of the axes: "HWC", "CHW" or "HW"'
    )
    channels: Literal["RGB", "BGR", "grey"] = Field(
        "RGB", description='the order of the channels: "RGB", "BGR" or "grey"'
    )
    fit: Literal["stretch", "crop"] = Field(
        "stretch",
        description='what is done with other proportions: "stretch", or "crop" for the middle',
    )
    mean: list[float] = Field(
        default=[], description="what is taken off each channel, one number or one for each"
    )
    scale: list[Annotated[float, Field(gt=0)]] = Field(
        default=[],
        description="what each channel is then divided by, one number above 0 or one for each",
    )
    max_bytes: int = Field(
        4 * 2**20, ge=1, le=MOST_PICTURE, description=f"bytes of a file, from 1 to {MOST_PICTURE}"
    )
    max_pixels: int = Field(
        2**24, ge=1, le=MOST_PIXELS, description=f"pixels of a picture, from 1 to {MOST_PIXELS}"
    )


class SoftmaxEntry(Strict):
    """`step = "softmax"`: scores become probabilities."""

    step: Literal["softmax"]
    of: TensorName = Field(description=_OF)
    output: TensorName = Field(description=_OUTPUT)


class NormalizeEntry(Strict):
    """`step = "normalize"`: vectors become vectors of length one."""

    step: Literal["normalize"]
    of: TensorName = Field(description=_OF)
    output: TensorName = Field(description=_OUTPUT)


class ThresholdEntry(Strict):
    """`step = "threshold"`: numbers become true or false."""

    step: Literal["threshold"]
    of: TensorName = Field(description=_OF)
    output: TensorName = Field(description=_OUTPUT)
    at: float = Field(description="the least number that is true")


class LabelsEntry(FileEntry):
    """`step = "labels"`: the names of the largest numbers."""

    step: Literal["labels"]
    of: TensorName = Field(description=_OF)
    output: TensorName = Field(description=_OUTPUT)
    labels: list[Annotated[str, StringConstraints(min_length=1, max_length=256)]] | None = Field(
        None, max_length=4_096, description="a name for each number of the output, in its order"
    )
    file: FileName | None = Field(None, description=f"{_HERE}, with a label in each line")
    top: int = Field(1, ge=1, le=1_024, description="how many labels, from 1 to 1024")
