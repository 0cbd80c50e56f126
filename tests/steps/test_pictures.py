"""Pictures to pixels: round trips, the order of everything, and what is refused before decoding."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, PngImagePlugin

from gearshift.core.catalog import TensorSpec
from gearshift.steps import Picture

SHAPE = (6, 5, 3)
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
PIXELS = arrays.arrays(np.uint8, SHAPE)


def step(
    shape: tuple[int, ...] = SHAPE,
    datatype: str = "UINT8",
    most_bytes: int = 2**20,
    most_pixels: int = 2**16,
    **changes,
) -> Picture:
    options = {"layout": "HWC", "channels": "RGB", "fit": "stretch", "mean": [], "scale": []}
    spec = TensorSpec("pixels", datatype, shape)
    return Picture("picture", spec, most_bytes, most_pixels, **{**options, **changes})


def encoded(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    held = BytesIO()
    Image.fromarray(pixels).save(held, kind, **options)
    return held.getvalue()


def in_mode(mode: str, kind: str = "PNG") -> bytes:
    held = BytesIO()
    Image.new(mode, (5, 6)).save(held, kind)
    return held.getvalue()


@given(PIXELS)
def test_a_picture_of_the_networks_size_is_what_was_encoded(pixels):
    """As the faces were that the cards of `face` were measured with: 8 bits, no loss."""
    (found,) = step().row(encoded(pixels))
    assert found.dtype == np.uint8
    assert np.array_equal(found, pixels)


@given(PIXELS, st.sampled_from(["RGB", "BGR"]), st.sampled_from(["HWC", "CHW"]))
def test_channels_layout_mean_and_scale(pixels, channels, layout):
    mean, scale = [1.0, 2.0, 3.0], [4.0, 5.0, 255.0]
    shape = SHAPE if layout == "HWC" else (3, 6, 5)
    (found,) = step(shape, "FP32", channels=channels, layout=layout, mean=mean, scale=scale).row(
        encoded(pixels)
    )
    ordered = pixels if channels == "RGB" else pixels[..., ::-1]
    expected = (ordered.astype(np.float32) - np.float32(mean)) / np.float32(scale)
    assert np.array_equal(found, expected if layout == "HWC" else expected.transpose(2, 0, 1))
    assert found.dtype == np.float32


def test_grey_with_and_without_an_axis_of_channels():
    grey = np.arange(30, dtype=np.uint8).reshape(6, 5)
    (flat,) = step((6, 5), layout="HW", channels="grey").row(encoded(grey))
    (deep,) = step((1, 6, 5), layout="CHW", channels="grey").row(encoded(grey))
    assert np.array_equal(flat, grey)
    assert np.array_equal(deep, grey[None])


def test_jpeg_is_as_near_as_jpeg_gets():
    smooth = np.repeat(np.arange(64, dtype=np.uint8)[:, None] * 3, 64, axis=1)
    pixels = np.stack([smooth] * 3, axis=-1)
    (found,) = step((64, 64, 3)).row(encoded(pixels, "JPEG", quality=95))
    assert np.abs(found.astype(int) - pixels).max() <= 8


def test_stretching_takes_all_of_it_and_cropping_its_middle():
    # Red, green and blue thirds, beside each other.
    pixels = np.zeros((30, 90, 3), np.uint8)
    for place in range(3):
        pixels[:, 30 * place : 30 * place + 30, place] = 200
    (stretched,) = step((6, 6, 3)).row(encoded(pixels))
    (cropped,) = step((6, 6, 3), fit="crop").row(encoded(pixels))
    assert stretched[3, 0].tolist() == [200, 0, 0]
    assert stretched[3, 5].tolist() == [0, 0, 200]
    assert np.all(cropped[1:-1, 1:-1] == [0, 200, 0])


def test_cropping_a_tall_one():
    pixels = np.zeros((90, 30, 3), np.uint8)
    pixels[30:60] = 100
    (found,) = step((6, 6, 3), fit="crop").row(encoded(pixels))
    assert np.all(found[1:-1] == 100)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_modes_that_are_read(mode):
    assert step().row(in_mode(mode))[0].shape == SHAPE


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (in_mode("I;16"), "mode I;16; expected grey"),
        (in_mode("CMYK", "JPEG"), "mode CMYK"),
        (in_mode("RGB", "GIF"), "is no picture that is read here: PNG or JPEG"),
        (in_mode("RGB", "BMP"), "is no picture that is read here"),
        (in_mode("RGB", "TIFF"), "is no picture that is read here"),
        (in_mode("RGB", "WEBP"), "is no picture that is read here"),
        (b"", "is no picture that is read here"),
        (b"\x89PNG\r\n\x1a\n", "is no PNG"),
        (b"\xff\xd8\xff\xe0", "is no JPEG"),
        (encoded(NOISE)[:-600], "cannot be decoded"),
        (encoded(np.zeros((64, 64, 3), np.uint8), "JPEG")[:-40], "cannot be decoded"),
    ],
)
def test_what_is_no_such_picture(content, told):
    with pytest.raises(ValueError, match=told):
        step().row(content)


def bomb(width: int, height: int, packed: bytes = b"") -> bytes:
    """A PNG that says how large it is, and holds `packed`."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("sides", [(30_000, 30_000), (2**31 - 1, 2**31 - 1), (2**16, 2)])
def test_a_bomb_is_known_by_its_header(sides, monkeypatch):
    def decoded(self):
        raise AssertionError("pixels are decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", decoded)
    with pytest.raises(ValueError, match=r"pixels; at most 65536 are decoded \(max_pixels"):
        step().row(bomb(*sides, zlib.compress(bytes(2**20))))


def test_a_picture_that_is_all_length():
    with pytest.raises(ValueError, match="16384 on a side"):
        step().row(bomb(20_000, 1))


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 40), height=st.integers(1, 40), most=st.integers(1, 1_600))
def test_the_limit_is_the_limit(width, height, most):
    picture = encoded(np.zeros((height, width, 3), np.uint8))
    if width * height <= most:
        assert step(most_pixels=most).row(picture)[0].shape == SHAPE
    else:
        with pytest.raises(ValueError, match=f"at most {most} are decoded"):
            step(most_pixels=most).row(picture)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: step((5, 3)), "is no RGB picture in the layout HWC"),
        (lambda: step((6, 5, 1)), "is no RGB picture"),
        (lambda: step((6, 5, 3), channels="grey"), "is no grey picture"),
        (lambda: step((3, 6, 5, 1)), "is no RGB picture"),
        (lambda: step((0, 5, 3)), "sides beyond 1"),
        (lambda: step(datatype="INT64"), "pictures need UINT8"),
        (lambda: step(mean=[1.0]), "takes pixels as they are"),
        (lambda: step(datatype="FP32", scale=[1.0, 2.0]), "scale has 2 numbers"),
    ],
)
def test_inputs_that_take_no_pictures(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_a_missing_package_is_said_with_what_to_do(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ValueError, match=r"pip install 'gearshift\[steps\]'"):
        step()
