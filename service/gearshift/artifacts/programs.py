"""Looking at a PyTorch program (`.pt2`, as `torch.export.save` writes it) before PyTorch does.

`torch.export.load` trusts what it reads: it unpickles, gives texts to SymPy, which evaluates them
as Python, and looks functions up by whatever name it finds (torch/_export/serde/serialize.py and
torch/export/pt2_archive/_package.py of torch 2.13). What is checked here, over the bytes: that the
archive holds one program and nothing pickled beside its sample inputs, that the bytes of each
weight are there, that expressions are arithmetic of symbols, and that all it calls are operators
which only compute.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gearshift.artifacts.expressions import check_expression
from gearshift.artifacts.onnx import External

MOST_MEMBERS = 100_000
LARGEST_JSON = 32 * 2**20
"""Bytes of what describes the program, or its weights."""

PAYLOADS = {"weights": "weight_", "constants": "tensor_"}
"""By folder, how the members begin that hold bytes of tensors."""

_MEMBER = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
    r"|\.format_version|\.storage_alignment"
    r"|models/\w+\.json|data/sample_inputs/\w+\.pt"
    r"|data/weights/(weight_\d+|\w+_weights_config\.json)"
    r"|data/constants/(tensor_\d+|\w+_constants_config\.json)"
)
_LIBRARY = re.compile(r"torch\.ops\.(aten|prims|quantized|quantized_decomposed)\.(\w+)(\.\w+)?")
_ARITHMETIC = re.compile(
    r"_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pos|pow|abs|eq|ne|lt|le|gt|ge|and_|or_"
    r"|xor|not_|getitem)"
    r"|math\.(ceil|floor|trunc|sqrt)"
    r"|torch\.(sym_int|sym_float|sym_max|sym_min|sym_not|sym_ite|sym_sum|_sym_sqrt)"
    r"|torch\.ops\.higher_order\.(cond|map_impl|scan|while_loop|wrap_with_set_grad_enabled)"
)
REFUSED = frozenset({"from_file", "_print"})
"""Operators of those libraries that do more than compute."""

_FOREIGN = frozenset({"as_custom_obj", "as_opaque_obj", "as_script_object"})
"""Values that are objects of classes which others have defined."""

_BYTES = {
    **dict.fromkeys((1, 2, 12, 29, 30, 31, 32, 33), 1),
    **dict.fromkeys((3, 6, 13, 28), 2),
    **dict.fromkeys((4, 7, 9, 34), 4),
    **dict.fromkeys((5, 8, 10, 35), 8),
    11: 16,
}
"""Of one element, by ScalarType (torch/_export/serde/schema.py)."""


_FIRST = b"PK\x03\x04"
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_LOCATOR = struct.Struct("<4sLQL")
_LOCATOR_SIGNATURE = b"PK\x06\x07"
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_SIGNATURE = b"PK\x06\x06"
_SATURATED = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
"""What stands in the narrow fields where the wide ones count."""


@dataclass(frozen=True, slots=True)
class Program:
    """What has to be known of an archive beyond that it is sound."""

    samples: bytes = field(repr=False)
    """The sample inputs, pickled: to be read with `weights_only`, or not at all."""


def examine_program(content: bytes) -> Sequence[External]:
    """Nothing lies beside it. ValueError with a sentence if this is no program, or one that is not
    given to PyTorch."""
    checked_program(content)
    return ()


def checked_program(content: bytes) -> Program:
    """ValueError as for `examine_program`."""
    try:
        _check_ends(content)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _checked(archive)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error, struct.error) as error:
        raise ValueError(
            f"is nothing that torch.export.save has written: {error or type(error).__name__}"
        ) from None
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"describes no program: {type(error).__name__}: {error}") from None
    except RecursionError:
        raise ValueError("is nested too deeply to be a program") from None


def _checked(archive: zipfile.ZipFile) -> Program:
    members = _members(archive)
    programs = [name for name in members if name.startswith("models/")]
    if len(programs) != 1:
        raise ValueError(f"holds {len(programs)} programs; expected one")
    name = programs[0].removeprefix("models/").removesuffix(".json")
    _check_graph(_json(archive, members[programs[0]]))
    for folder, prefix in PAYLOADS.items():
        config = f"data/{folder}/{name}_{folder}_config.json"
        if config not in members:
            raise ValueError(
                f"lacks {config}; write it with torch.export.save of torch 2.9 or newer"
            )
        within = f"data/{folder}/"
        sizes = {
            member.removeprefix(within): info.file_size
            for member, info in members.items()
            if member.startswith(within + prefix)
        }
        _check_payloads(_json(archive, members[config])["config"], sizes)
    samples = members.get(f"data/sample_inputs/{name}.pt")
    if samples is None:
        raise ValueError("lacks its sample inputs; write it with torch.export.save")
    return Program(archive.read(samples))


def _check_ends(content: bytes) -> None:
    """That it is an archive from its first byte to its last: readers differ in what they make of
    bytes before, between and after, and PyTorch's must see what is checked here. (APPNOTE.TXT of
    PKWARE, 4.3.14 to 4.3.16)"""
    signature, _, _, _, count, size, offset, comment = _END.unpack_from(content, -_END.size)
    directory_end = len(content) - _END.size
    found = (count, size, offset)
    if content[: len(_FIRST)] != _FIRST or signature != _END_SIGNATURE or comment:
        raise zipfile.BadZipFile("bytes before or after the archive")
    locator = directory_end - _LOCATOR.size
    if locator >= 0 and content[locator : locator + 4] == _LOCATOR_SIGNATURE:
        _, _, record, _ = _LOCATOR.unpack_from(content, locator)
        directory_end = locator - _END64.size
        if record != directory_end or record < 0:
            raise zipfile.BadZipFile("its directory is not where its end says")
        signature, *_, count64, size64, offset64 = _END64.unpack_from(content, record)
        wide = (count64, size64, offset64)
        narrow = all(
            old in (new, full) for old, new, full in zip(found, wide, _SATURATED, strict=True)
        )
        if signature != _END64_SIGNATURE or not narrow:
            raise zipfile.BadZipFile("it has two ends that differ")
        found = wide
    if found[1] + found[2] != directory_end:
        raise zipfile.BadZipFile("its directory is not where its end says")


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """By their names below the archive's own folder."""
    listed = archive.infolist()
    if len(listed) > MOST_MEMBERS:
        raise ValueError(f"holds {len(listed)} files; {MOST_MEMBERS} are the most")
    members: dict[str, zipfile.ZipInfo] = {}
    folders = set()
    for info in listed:
        folder, _, name = info.filename.partition("/")
        folders.add(folder)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ValueError(
                f"{name[:100]!r} in it is compressed or encrypted, which none should be"
            )
        if _MEMBER.fullmatch(name) is None:
            what = "machine code" if name.startswith("data/aotinductor/") else repr(name[:100])
            raise ValueError(
                f"holds {what}, which is not served; export the model alone, with tensors as its"
                " parameters, buffers and constants, and no objects of other classes"
            )
        if name in members:
            raise ValueError(f"holds {name!r} twice")
        members[name] = info
    if len(folders) != 1:
        raise ValueError("holds more than one folder, or none")
    return members


def _json(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    if info.file_size > LARGEST_JSON:
        raise ValueError(
            f"{info.filename[-100:]!r} in it has {info.file_size} bytes;"
            f" {LARGEST_JSON} are the most"
        )
    try:
        return json.loads(archive.read(info))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{info.filename[-100:]!r} in it is no JSON: {error}") from None


# --- the program ------------------------------------------------------------------------------


def _check_graph(program: Any) -> None:
    for each in _dictionaries(program):
        if "target" in each and "inputs" in each:
            _check_target(each["target"])
        if each.get("as_operator") is not None:
            _check_target(each["as_operator"])
        if each.get("expr_str") is not None:
            check_expression(each["expr_str"])
        if any(each.get(kind) is not None for kind in _FOREIGN):
            raise ValueError("holds objects of other classes than tensors; export it without them")
        for text in each.values():
            # torch.utils._pytree imports the module that such a text names.
            if isinstance(text, str) and "__enum__" in text:
                raise ValueError(
                    "has an enumeration among its inputs or outputs; let it take and give tensors"
                )


def _dictionaries(value: Any) -> Iterator[Mapping[str, Any]]:
    """All that are anywhere in it."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            yield each
            left += each.values()
        elif isinstance(each, list):
            left += each


def _check_target(target: Any) -> None:
    found = _LIBRARY.fullmatch(str(target))
    if found is not None and found[2] not in REFUSED and not found[2].startswith("__"):
        return
    if _ARITHMETIC.fullmatch(str(target)) is None:
        raise ValueError(
            f"calls {str(target)[:200]!r}; called may be operators of torch.ops.aten, prims and"
            " quantized that only compute"
        )


# --- its tensors ------------------------------------------------------------------------------


def _check_payloads(config: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    for name, payload in config.items():
        if payload["use_pickle"]:
            raise ValueError(
                f"tensor {name[:200]!r} is pickled, as those of other tensor classes are; export it"
                " with plain tensors"
            )
        member, meta = payload["path_name"], payload["tensor_meta"]
        if member not in sizes:
            raise ValueError(
                f"tensor {name[:200]!r} lies in {str(member)[:100]!r}, which is not there"
            )
        needed = _bytes_of(meta)
        if needed > sizes[member]:
            raise ValueError(
                f"tensor {name[:200]!r} needs {needed} bytes of {member!r}, which has"
                f" {sizes[member]}"
            )
        if meta["device"]["type"] != "cpu":
            raise ValueError(
                f"tensor {name[:200]!r} lies on {str(meta['device']['type'])[:20]!r}; export the"
                " model on the processor: it is brought to where it runs"
            )


def _bytes_of(meta: Mapping[str, Any]) -> int:
    """From the beginning of its storage to its last element."""
    element = _BYTES.get(meta["dtype"])
    if element is None:
        raise ValueError(f"has a tensor of type {meta['dtype']!r}, which is not known")
    sizes = [_whole(size) for size in meta["sizes"]]
    strides = [_whole(stride) for stride in meta["strides"]]
    if len(sizes) != len(strides):
        raise ValueError("has a tensor with other numbers of sizes and strides")
    if 0 in sizes:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    return (_whole(meta["storage_offset"]) + last + 1) * element


def _whole(number: Mapping[str, Any]) -> int:
    value = number["as_int"]
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"has a tensor with the size {str(value)[:50]!r}")
    return value
