"""From an encoded picture to the numbers that a network takes, by Pillow (extra `steps`).

A picture is foreign: only PNG and JPEG are read, by what the bytes begin with and by the reader of
that format alone; how large it will be is known from its header and refused before a pixel of it is
decoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from gearshift.core.catalog import TensorSpec
from gearshift.core.steps import Before
from gearshift.ports import Array
from gearshift.steps.texts import pip

LARGEST_SIDE = 16_384
"""Pixels. To shrink a side, its length times some bytes are taken for each pixel that is left."""

SIGNATURES: Mapping[bytes, str] = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
"""What the formats that are read begin with."""

MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"})
"""Pillow's names for grey, a palette and colours of 8 bits, with or without transparency."""

CHANNELS: Mapping[str, int] = {"RGB": 3, "BGR": 3, "grey": 1}
LAYOUTS = ("HWC", "CHW", "HW")


class Picture(Before):
    """A PNG or JPEG becomes an array of the network's shape: brought to its height and width
    (`stretch`: as it is, `crop`: its middle, in the network's proportions; bilinear over all pixels
    that become one), in its order of channels, `(value - mean) / scale` for each channel where its
    numbers are floating-point. Transparency is dropped, and what the file says of its orientation
    is not followed."""

    kind = "image"

    def __init__(
        self,
        input: str,
        makes: TensorSpec,
        most_bytes: int,
        most_pixels: int,
        *,
        layout: str,
        channels: str,
        fit: str,
        mean: Sequence[float],
        scale: Sequence[float],
    ) -> None:
        """ValueError with a sentence where the network's input is none for such pictures, and
        where the package is missing."""
        try:
            from PIL import JpegImagePlugin, PngImagePlugin
        except ImportError:
            raise ValueError(pip("pillow")) from None
        self._readers = {
            "PNG": PngImagePlugin.PngImageFile,
            "JPEG": JpegImagePlugin.JpegImageFile,
        }
        self.takes = TensorSpec(input, "BYTES", (1,))
        self.makes = (makes,)
        self.most_bytes, self._most_pixels = most_bytes, most_pixels
        self._layout, self._channels, self._crop = layout, channels, fit == "crop"
        self._height, self._width = _sides(makes, layout, channels)
        self._dtype = np.dtype(triton_to_np_dtype(makes.datatype))
        count = CHANNELS[channels]
        self._mean = _per_channel(mean, count, 0.0, "mean")
        self._scale = _per_channel(scale, count, 1.0, "scale")
        changed = bool(np.any(self._mean != 0.0) or np.any(self._scale != 1.0))
        if makes.datatype == "UINT8" and changed:
            raise ValueError(
                f"input {makes.name!r} is UINT8 and takes pixels as they are: leave out mean and"
                " scale"
            )
        if makes.datatype not in ("UINT8", "FP16", "FP32", "FP64"):
            raise ValueError(
                f"input {makes.name!r} is {makes.datatype}; pictures need UINT8, FP16, FP32 or FP64"
            )

    def row(self, sent: bytes) -> Sequence[Array]:
        picture = self._opened(sent)
        try:
            pixels = self._fitted(picture)
        except Exception as error:  # noqa: BLE001 - Pillow's decoders raise many kinds
            raise ValueError(f"cannot be decoded: {_told(error)}") from None
        if self._channels == "BGR":
            pixels = pixels[..., ::-1]
        if self._dtype != np.uint8:
            pixels = (pixels.astype(np.float32) - self._mean) / self._scale
        if self._layout == "CHW":
            pixels = pixels.transpose(2, 0, 1)
        elif self._layout == "HW":
            pixels = pixels[..., 0]
        return [pixels.astype(self._dtype)]

    def _opened(self, sent: bytes) -> Any:
        """The picture, of which nothing but the header has been read, and which is no larger than
        allowed."""
        known = (name for begin, name in SIGNATURES.items() if sent.startswith(begin))
        name = next(known, None)
        if name is None:
            raise ValueError(f"is no picture that is read here: {' or '.join(self._readers)}")
        try:
            picture = self._readers[name](BytesIO(sent))
        except Exception as error:  # noqa: BLE001 - as above
            raise ValueError(f"is no {name}: {_told(error)}") from None
        width, height = picture.size
        if width * height > self._most_pixels:
            raise ValueError(
                f"has {width} x {height} pixels; at most {self._most_pixels} are decoded"
                " (max_pixels of the model's step)"
            )
        if max(width, height) > LARGEST_SIDE:
            raise ValueError(
                f"has {width} x {height} pixels; at most {LARGEST_SIDE} on a side are decoded"
            )
        if picture.mode not in MODES:
            raise ValueError(
                f"is a picture of mode {picture.mode}; expected grey, a palette, RGB or RGBA with 8"
                " bits a channel"
            )
        return picture

    def _fitted(self, picture: Any) -> Array:
        """(height, width, channels) of 8 bits."""
        from PIL.Image import Resampling

        mode = "L" if self._channels == "grey" else "RGB"
        if picture.mode != mode:
            picture = picture.convert(mode)
        width, height = picture.size
        if (width, height) != (self._width, self._height):
            box = None
            if self._crop:
                # As much of it as has the network's proportions.
                across = min(width, height * self._width / self._height)
                down = min(height, width * self._height / self._width)
                left, top = (width - across) / 2, (height - down) / 2
                box = (left, top, left + across, top + down)
            picture = picture.resize((self._width, self._height), Resampling.BILINEAR, box)
        return np.asarray(picture).reshape(self._height, self._width, -1)


def _sides(makes: TensorSpec, layout: str, channels: str) -> tuple[int, int]:
    """Height and width of a row of the network's input."""
    sizes = dict(zip(layout, makes.shape, strict=False))
    if len(layout) != len(makes.shape) or sizes.get("C", 1) != CHANNELS[channels]:
        raise ValueError(
            f"input {makes.name!r} has shape {list(makes.shape)}, which is no {channels} picture in"
            f" the layout {layout}"
        )
    height, width = sizes["H"], sizes["W"]
    if not 1 <= min(height, width) <= max(height, width) <= LARGEST_SIDE:
        raise ValueError(f"input {makes.name!r} has sides beyond 1 to {LARGEST_SIDE} pixels")
    return height, width


def _per_channel(given: Sequence[float], count: int, default: float, name: str) -> Array:
    if len(given) not in (0, 1, count):
        raise ValueError(f"{name} has {len(given)} numbers; give one, or one for each of {count}")
    return np.array(given or [default], np.float32)


def _told(error: Exception) -> str:
    """Pillow's reason, which is short; not that of the exception's own kind."""
    return (str(error) or type(error).__name__).splitlines()[0][:120]
