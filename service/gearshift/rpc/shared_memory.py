"""Shared memory: the regions that callers registered, and the tensors that lie in them.

System shared memory is read and written through its file (`pread`, `pwrite`) and never mapped. It
stays its owner's: whoever made it may cut it shorter at any moment, also between a check and the
use, and a mapped page that is gone ends the process with SIGBUS; so does one that a full /dev/shm
cannot give. Through the file the first is a short read and the second an error of one request.
It costs one copy, at the speed of memory, into bytes that belong to the request; a tensor inside
a message is copied several times on its way.

An input is read once, when its request arrives: what the caller writes later changes nothing, and
what it writes at that very moment is read as a mixture, by this request alone. An output is
written once, when its request is answered: not for one that failed or whose caller has left.

All of this runs on the event loop, so nothing is locked.
"""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from gearshift.core.rights import ANONYMOUS
from gearshift.errors import (
    Forbidden,
    InvalidInput,
    RegionExists,
    RegionNotFound,
    RegionUnusable,
    TooManyRegions,
)
from gearshift.rpc.cuda_memory import CudaRegion

FOLDER = "/dev/shm"
"""Where POSIX shared memory objects are files, on Linux."""

MOST_REGIONS = 256
"""Registered at the same time, if nothing else is said; each holds a file descriptor."""

LONGEST_NAME = 255
"""Characters of a region's name; and bytes of a key, as the file system has it."""

LARGEST_INPUT = 1 << 30
"""Bytes of one input. A short message makes the server read it all, and one read takes no more
than 2 GiB."""

REGION, BYTE_SIZE, OFFSET = (
    "shared_memory_region",
    "shared_memory_byte_size",
    "shared_memory_offset",
)
PARAMETERS = (REGION, BYTE_SIZE, OFFSET)
"""Of an input or a requested output; the offset is 0 where it is left out."""


class Region:
    """A part of a shared memory object, registered under a name.

    The file is closed with the last reference: an answer that is under way is still written
    when its region is unregistered meanwhile.
    """

    hint = f"is there room in {FOLDER}?"
    """Asked of whoever cannot be written for."""

    __slots__ = ("__weakref__", "_file", "byte_size", "key", "name", "offset")

    def __init__(self, name: str, key: str, file: int, offset: int, byte_size: int) -> None:
        self.name = name
        self.key = key
        self.offset = offset
        self.byte_size = byte_size
        self._file = file
        weakref.finalize(self, os.close, file)

    def __str__(self) -> str:
        return f"shared memory region {self.name!r} (key {self.key!r})"

    def size_now(self) -> int:
        """Bytes of the whole object as it is now; its owner can change it."""
        return os.fstat(self._file).st_size

    def read(self, offset: int, byte_size: int) -> bytes:
        """Fewer bytes where the object has become shorter."""
        return os.pread(self._file, byte_size, self.offset + offset)

    def write(self, offset: int, data: bytes | memoryview) -> int:
        """How many bytes were written."""
        return os.pwrite(self._file, data, self.offset + offset)


AnyRegion = Region | CudaRegion
Kind = TypeVar("Kind", Region, CudaRegion)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tensor lies: bytes of a region, all inside it. `where` names the tensor."""

    where: str
    region: AnyRegion
    offset: int
    byte_size: int

    def read(self) -> bytes:
        """What lies there now."""
        if self.byte_size > LARGEST_INPUT:
            raise InvalidInput(
                f"{self.where} has {self.byte_size} bytes in shared memory; an input has at most"
                f" {LARGEST_INPUT}"
            )
        try:
            data = self.region.read(self.offset, self.byte_size)
        except OSError as error:
            raise InvalidInput(
                f"{self.where}: {self.region} cannot be read ({error.strerror or error})"
            ) from None
        if len(data) != self.byte_size:
            raise self._shorter()
        return data

    def write(self, data: bytes | memoryview) -> None:
        """Put a tensor there, from the beginning on."""
        size = memoryview(data).nbytes
        if size > self.byte_size:
            raise InvalidInput(
                f"{self.where} takes {size} bytes, but its {BYTE_SIZE} is {self.byte_size}"
            )
        # Writing behind the end would make the object longer again.
        if self.region.size_now() < self.region.offset + self.offset + size:
            raise self._shorter()
        try:
            written = self.region.write(self.offset, data)
        except OSError as error:
            raise self._full(error.strerror or str(error)) from None
        if written != size:
            raise self._full(f"{written} of {size} bytes fitted")

    def _shorter(self) -> InvalidInput:
        return InvalidInput(
            f"{self.where}: {self.region} is shorter than it was when it was registered, its"
            f" object has {self.region.size_now()} bytes now; unregister it, and register it as"
            f" it is"
        )

    def _full(self, why: str) -> InvalidInput:
        return InvalidInput(
            f"{self.where}: {self.region} cannot be written ({why}); {self.region.hint}"
        )


class SharedMemory:
    """The registered regions of one server, by name; none, unless that is `allowed`."""

    def __init__(self, *, allowed: bool = True, most: int = MOST_REGIONS) -> None:
        self.allowed = allowed
        self._most = most
        self._regions: dict[str, AnyRegion] = {}
        self._owners: dict[str, SharedMemory] = {ANONYMOUS: self}

    def of(self, client: str) -> SharedMemory:
        """The regions of this client: nobody reads or writes what another has registered."""
        known = self._owners.get(client)
        if known is None:
            known = SharedMemory(allowed=self.allowed, most=self._most)
            known._owners = self._owners
            # Who only asks for regions that are not there leaves nothing behind.
            if self.allowed:
                self._owners[client] = known
        return known

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Take in `byte_size` bytes from `offset` on of the object that `key` names."""
        self.check(name)
        region = Region(name, key, _open(key), offset, byte_size)
        size = region.size_now()
        if byte_size < 1 or offset < 0 or offset + byte_size > size:
            raise InvalidInput(
                f"{region}: {byte_size} bytes from offset {offset} on, but the object has {size};"
                f" register at least 1 byte, and all of them inside"
            )
        self._regions[name] = region

    def add(self, region: CudaRegion) -> None:
        """Take it in. Raises as `check` does."""
        self.check(region.name)
        self._regions[region.name] = region

    def check(self, name: str) -> None:
        """Whether a region of this name may be registered; raises what is against it."""
        if not self.allowed:
            raise Forbidden(
                "shared memory is off on this server; --shared-memory"
                " (GEARSHIFT_SHARED_MEMORY=true) with one process turns it on, for callers who may"
                " read and write all that the server may in /dev/shm"
            )
        if not 1 <= len(name) <= LONGEST_NAME:
            raise InvalidInput(
                f"the name of a shared memory region has 1 to {LONGEST_NAME} characters, not"
                f" {len(name)}"
            )
        if name in self._regions:
            raise RegionExists(
                f"shared memory region {name!r} is registered already; unregister it first, or"
                f" take another name"
            )
        if sum(len(each._regions) for each in self._owners.values()) >= self._most:
            raise TooManyRegions(
                f"{self._most} shared memory regions are registered, which is the most (setting"
                f" max_shared_memory_regions); unregister those that are not used any more"
            )

    def unregister(self, kind: type[AnyRegion], name: str) -> None:
        """One of this kind that is not known is no mistake, as for Triton; without a name, all of
        them."""
        for each in list(self._regions.values()):
            if isinstance(each, kind) and name in ("", each.name):
                del self._regions[each.name]

    def named(self, kind: type[Kind], name: str) -> Iterable[Kind]:
        """The region of this kind and that name; without a name, all of this kind."""
        found = self._region(name) if name else None
        if name and not isinstance(found, kind):
            raise _unknown(name)
        every = self._regions.values() if found is None else (found,)
        return [each for each in every if isinstance(each, kind)]

    def place(self, parameters: Mapping[str, Any], where: str) -> Place | None:
        """Where the parameters of a tensor say that it lies; None if they do not."""
        given = [name for name in PARAMETERS if name in parameters]
        if not given:
            return None
        for needed in (REGION, BYTE_SIZE):
            if needed not in given:
                raise InvalidInput(f"{where} has {given[0]} without {needed}; give both")
        name = parameters[REGION]
        if name.WhichOneof("parameter_choice") != "string_param":
            raise InvalidInput(f"{where}: {REGION} is not a string_param, the name of a region")
        try:
            region = self._region(name.string_param)
        except RegionNotFound as error:
            raise RegionNotFound(f"{where}: {error}") from None
        byte_size = _count(parameters[BYTE_SIZE], BYTE_SIZE, where)
        offset = _count(parameters[OFFSET], OFFSET, where) if OFFSET in given else 0
        if offset + byte_size > region.byte_size:
            raise InvalidInput(
                f"{where}: {byte_size} bytes from offset {offset} on, but {region} has"
                f" {region.byte_size}"
            )
        return Place(where, region, offset, byte_size)

    def _region(self, name: str) -> AnyRegion:
        region = self._regions.get(name)
        if region is None:
            raise _unknown(name)
        return region


def _unknown(name: str) -> RegionNotFound:
    return RegionNotFound(
        f"no shared memory region {name!r} is registered here; register it with"
        f" SystemSharedMemoryRegister or CudaSharedMemoryRegister"
    )


def _count(parameter: Any, name: str, where: str) -> int:
    """Whole and not negative, or InvalidInput."""
    choice = parameter.WhichOneof("parameter_choice")
    if choice not in ("int64_param", "uint64_param"):
        raise InvalidInput(f"{where}: {name} is not an int64_param, a number of bytes")
    value: int = getattr(parameter, choice)
    if value < 0:
        raise InvalidInput(f"{where}: {name} is {value}; it is a number of bytes, 0 or more")
    return value


def _open(key: str) -> int:
    """The file of a shared memory object, as shm_open would find it.

    Only a name directly in the folder, and only a regular file, not behind a link: a key is a
    caller's text, and must not reach any other file that this server may open.
    """
    name = key.removeprefix("/")
    if name in ("", ".", "..") or "/" in name or "\0" in name or len(name.encode()) > LONGEST_NAME:
        raise RegionUnusable(
            f"{key[:LONGEST_NAME]!r} is not the key of a shared memory object: a name of at most"
            f" {LONGEST_NAME} bytes, with one '/' at most and that in front"
        )
    if name.startswith("sem."):
        # glibc's named semaphores: whoever writes into one breaks the programs that share it.
        raise RegionUnusable(f"{key!r} is a semaphore, not a shared memory object")
    try:
        file = os.open(f"{FOLDER}/{name}", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise RegionUnusable(
            f"shared memory object {key!r} cannot be opened ({error.strerror}): it must exist"
            f" on the server's machine, readable and writable for the server"
        ) from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise RegionUnusable(f"{key!r} is not a shared memory object")
    return file
