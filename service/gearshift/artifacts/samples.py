"""`samples.npz`: arrays as numpy.savez writes them, bounded before anything is unpacked, and never
unpickled."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gearshift.artifacts.files import reason, regular

LARGEST_SAMPLES = 2**30
"""Bytes of one array once it is unpacked; and of the whole file."""

MOST_ARRAYS = 64
LARGEST_DIRECTORY = 64 * 1024
"""Bytes of the list of what a zip file holds, which is read at once."""

_END = b"PK\x05\x06"
_END_SIZE, _LONGEST_COMMENT = 22, 2**16 - 1

Header = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and element type of an array."""

_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

NOT_SAVEZ = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class SamplesFile:
    """The arrays of one file, by name. Opened once: what was looked at is what is read.

    Every method raises ValueError with a sentence about what is wrong, KeyError for an array that
    is not there."""

    def __init__(self, path: Path) -> None:
        try:
            opened = regular(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            raise ValueError(f"cannot be read: {reason(error)}") from None
        self._file = os.fdopen(opened, "rb")
        try:
            self._check_directory()
            self._archive = zipfile.ZipFile(self._file)
            if len(self._archive.infolist()) > MOST_ARRAYS:
                raise ValueError(f"holds more than {MOST_ARRAYS} arrays")
        except (*NOT_SAVEZ, UnicodeDecodeError) as error:
            self._file.close()
            raise ValueError(f"is not a file of numpy.savez: {reason(error)}") from None
        except OSError as error:
            self._file.close()
            raise ValueError(f"cannot be read: {reason(error)}") from None
        except ValueError:
            self._file.close()
            raise

    def __enter__(self) -> SamplesFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._archive.close()
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return f"{name}.npy" in self._archive.NameToInfo

    def header(self, name: str) -> Header:
        """Shape and type of an array that can be read: its bytes are as many as they ask for."""
        with self._open(name) as stream:
            return self._header(stream, self._size(name))

    def array(self, name: str) -> npt.NDArray[Any]:
        """The array itself."""
        self.header(name)
        with self._open(name) as stream:
            try:
                read: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            except (*NOT_SAVEZ, OSError) as error:
                raise ValueError(f"is damaged: {reason(error)}") from None
        return read

    def _check_directory(self) -> None:
        """Before it is read whole: the list of a small file may have millions of entries."""
        size = self._file.seek(0, os.SEEK_END)
        if size > LARGEST_SAMPLES:
            raise ValueError(f"has {size} bytes; {LARGEST_SAMPLES} are the most")
        self._file.seek(max(0, size - _END_SIZE - _LONGEST_COMMENT))
        tail = self._file.read()
        at = tail.rfind(_END)
        if at < 0 or len(tail) - at < _END_SIZE:
            raise zipfile.BadZipFile("file is not a zip file")
        if int.from_bytes(tail[at + 12 : at + 16], "little") > LARGEST_DIRECTORY:
            raise ValueError(f"lists more than {MOST_ARRAYS} arrays")
        self._file.seek(0)

    def _size(self, name: str) -> int:
        size = self._archive.getinfo(f"{name}.npy").file_size
        if size > LARGEST_SAMPLES:
            raise ValueError(f"has {size} bytes unpacked; {LARGEST_SAMPLES} are the most")
        return size

    def _open(self, name: str) -> IO[bytes]:
        info = self._archive.getinfo(f"{name}.npy")
        try:
            return self._archive.open(info)
        except (*NOT_SAVEZ, OSError) as error:
            raise ValueError(f"is damaged: {reason(error)}") from None

    def _header(self, stream: IO[bytes], size: int) -> Header:
        try:
            reader = _READERS.get(np.lib.format.read_magic(stream))
            if reader is None:
                raise ValueError("an array format that is not read here")
            shape, _, dtype = reader(stream)
        except (ValueError, *NOT_SAVEZ, OSError) as error:
            raise ValueError(f"is not an array of numpy.savez: {reason(error)}") from None
        if dtype.hasobject:
            raise ValueError("holds Python objects, which are never loaded; save plain numbers")
        if stream.tell() + math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"is cut off: {size} bytes do not hold {shape} of {dtype}")
        return shape, dtype
