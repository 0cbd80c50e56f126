"""Looking at an ONNX file before ONNX Runtime does.

Its parser is C++ that trusts what it reads more than a model from elsewhere deserves. What is
checked here, over the bytes and without any parser's help: the wire format, nesting, how many nodes
and tensors there are, also when functions have been put in place of their calls, that tensors hold
what their shapes say, that operators come from known domains and none of them opens files, and that
weights outside the file lie in files beside it. Field numbers are those of onnx.proto
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gearshift.artifacts.functions import Call, expanded
from gearshift.artifacts.protobuf import BYTES, FIXED32, FIXED64, VARINT, Field, Malformed, Wire

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})
"""Of operators that ONNX Runtime brings along, and that do nothing but compute."""

REFUSED = frozenset({"EPContext", "ATen", "PythonOp", "PythonOpGrad", "ExternalGraph", "Snpe"})
"""Operators of these domains that run what is no ONNX, or read files that they name."""

MOST_FIELDS = 5_000_000
MOST_NODES = 200_000
MOST_TENSORS = 100_000
MOST_FUNCTIONS = 10_000
MOST_ENDS = 1_000
"""Inputs or outputs of the whole graph."""
DEEPEST = 16
"""Graphs in attributes of nodes of graphs."""
LARGEST_RANK = 32
LARGEST_DENSE = 2**30
"""Bytes of a sparse tensor once it is written out."""

_BITS = {
    **dict.fromkeys((25, 26), 2),
    **dict.fromkeys((21, 22, 23), 4),
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((7, 11, 13, 14), 64),
    15: 128,
}
"""Of one element, by TensorProto.DataType."""
_LISTS = frozenset({7, 8, 9})
"""The numbers and texts of an attribute: those of a forest of trees are millions."""
_STRING = 8
_COMPLEX = (14, 15)

_BESIDE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(/[A-Za-z0-9_][A-Za-z0-9_.\-]*)*\Z")
"""A file in the folder of the model or below it: no part of it is hidden or leads upwards."""
LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class External:
    """Bytes of a tensor that lie in a file beside the model: `size` of them from `offset` on."""

    file: str
    offset: int
    size: int
    tensor: str

    def check(self, there: int) -> None:
        """ValueError if the file, of `there` bytes, is too short for them."""
        if self.offset + self.size > there:
            raise ValueError(
                f"tensor {self.tensor!r} lies in bytes {self.offset} to"
                f" {self.offset + self.size} of {self.file!r}, which has {there}"
            )


def examine(content: bytes) -> Sequence[External]:
    """The tensors that lie in other files. ValueError with a sentence if this is no ONNX file, or
    one that is not given to ONNX Runtime."""
    try:
        return _Examination(content).model()
    except Malformed as error:
        raise ValueError(f"is no ONNX file, or a damaged one: it {error}") from None


class _Examination:
    def __init__(self, content: bytes) -> None:
        self._wire = Wire(content, MOST_FIELDS)
        self._end = len(content)
        self._outside: list[External] = []
        self._tensors = self._nodes = 0
        self._domains: set[str] = set()

    def model(self) -> Sequence[External]:
        graphs, functions = [], []
        for field in self._wire.fields(0, self._end):
            if field.wire == BYTES and field.number == 7:
                graphs.append(field)
            elif field.wire == BYTES and field.number == 25:
                functions.append(field)
            elif field.number == 20:
                raise ValueError("holds training graphs, which are not served")
        if not graphs:
            raise ValueError("holds no graph; it is no ONNX model, or an empty one")
        if len(functions) > MOST_FUNCTIONS:
            raise ValueError(f"has {len(functions)} functions; {MOST_FUNCTIONS} are the most")
        bodies: dict[Call, Counter[Call]] = {}
        for function in functions:
            named, calls = self._function(function)
            bodies.setdefault(named, Counter()).update(calls)
        local = {domain for domain, _ in bodies}
        main: Counter[Call] = Counter()
        for graph in graphs:
            self._graph(graph, 0, main, whole=True)
        unknown = self._domains - DOMAINS - local
        if unknown:
            raise ValueError(
                f"uses operators of the domain {min(unknown)[:80]!r}; known here are"
                f" {', '.join(repr(domain) for domain in sorted(DOMAINS) if domain)}"
            )
        nodes = expanded(main, bodies, MOST_NODES)
        if nodes > MOST_NODES:
            raise ValueError(
                f"comes to more than {MOST_NODES} nodes with its functions written out"
            )
        return self._outside

    def _function(self, place: Field) -> tuple[Call, Counter[Call]]:
        name = domain = ""
        calls: Counter[Call] = Counter()
        for field in self._wire.fields(place.begin, place.end):
            if field.wire != BYTES:
                continue
            if field.number == 1:
                name = self._wire.text(field)
            elif field.number == 10:
                domain = self._wire.text(field)
            elif field.number == 7:
                self._node(field, 1, calls)
            elif field.number == 11:
                self._attribute(field, 1, calls)
        return (domain, name), calls

    def _graph(self, place: Field, depth: int, calls: Counter[Call], *, whole: bool) -> None:
        """`whole`: of the model, not of a node."""
        if depth > DEEPEST:
            raise ValueError(f"holds graphs within graphs more than {DEEPEST} deep")
        ends: Counter[int] = Counter()
        for field in self._wire.fields(place.begin, place.end):
            if field.wire != BYTES:
                continue
            if field.number == 1:
                self._node(field, depth, calls)
            elif field.number == 5:
                self._tensor(field, may_lie_outside=whole)
            elif field.number == 15:
                self._sparse(field)
            elif field.number in (11, 12):
                ends[field.number] += 1
                # Older files list every initializer as an input, too.
                if ends[field.number] > MOST_ENDS + self._tensors:
                    raise ValueError(f"has more than {MOST_ENDS} inputs or outputs")

    def _node(self, place: Field, depth: int, calls: Counter[Call]) -> None:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise ValueError(f"has more than {MOST_NODES} nodes")
        kind = domain = ""
        for field in self._wire.fields(place.begin, place.end):
            if field.wire != BYTES:
                continue
            if field.number == 4:
                kind = self._wire.text(field)
            elif field.number == 7:
                domain = self._wire.text(field)
                self._domains.add(domain)
            elif field.number == 5:
                self._attribute(field, depth, calls)
        if kind in REFUSED and domain in DOMAINS:
            raise ValueError(
                f"uses the operator {kind!r}, which runs what is no ONNX or reads other files;"
                " export the model itself"
            )
        calls[domain, kind] += 1

    def _attribute(self, place: Field, depth: int, calls: Counter[Call]) -> None:
        for field in self._wire.fields(place.begin, place.end, _LISTS):
            if field.wire != BYTES:
                continue
            if field.number in (5, 10):
                self._tensor(field, may_lie_outside=False)
            elif field.number in (6, 11):
                self._graph(field, depth + 1, calls, whole=False)
            elif field.number in (22, 23):
                self._sparse(field)

    def _sparse(self, place: Field) -> None:
        elements = 1
        for field in self._wire.fields(place.begin, place.end):
            if field.number in (1, 2) and field.wire == BYTES:
                self._tensor(field, may_lie_outside=False)
            elif field.number == 3:
                elements *= math.prod(self._wire.varints(field))
        if elements * 16 > LARGEST_DENSE:
            raise ValueError(f"holds a sparse tensor of {elements} elements, which is too large")

    def _tensor(self, place: Field, *, may_lie_outside: bool) -> None:
        self._tensors += 1
        if self._tensors > MOST_TENSORS:
            raise ValueError(f"has more than {MOST_TENSORS} tensors")
        held = _Tensor()
        for field in self._wire.fields(place.begin, place.end):
            held.take(field, self._wire)
        held.check()
        if held.outside or held.location:
            if not may_lie_outside:
                raise ValueError(
                    f"tensor {held.name!r} lies in another file, which only weights of the main"
                    " graph may"
                )
            self._outside.append(held.external())


class _Tensor:
    """What one TensorProto says of itself."""

    def __init__(self) -> None:
        self.name = ""
        self.kind = 0
        self.outside = False
        self.location: dict[str, str] = {}
        self._dims: list[int] = []
        self._raw: int | None = None
        self._bytes = self._numbers = self._texts = 0

    def take(self, field: Field, wire: Wire) -> None:
        number, size = field.number, field.end - field.begin
        if number == 1:
            self._dims += wire.varints(field)
            if len(self._dims) > LARGEST_RANK:
                raise ValueError(f"holds a tensor of more than {LARGEST_RANK} dimensions")
        elif number == 2 and field.wire == VARINT:
            self.kind = field.value
        elif number == 3:
            raise ValueError("holds a tensor in segments, which nobody writes any more")
        elif number in (4, 10) and field.wire in (BYTES, FIXED32, FIXED64):
            self._bytes += size
        elif number in (5, 7, 11):
            # A number ends with the byte that does not say that it goes on.
            content = wire.data[field.begin : field.end]
            self._numbers += sum(len(part) for part in _LAST.findall(content))
        elif number == 6:
            self._texts += 1
        elif number == 8 and field.wire == BYTES:
            self.name = wire.text(field)[:LONGEST_NAME]
        elif number == 9 and field.wire == BYTES:
            self._raw = size
        elif number == 13 and field.wire == BYTES:
            self._entry(field, wire)
        elif number == 14:
            self.outside = field.value != 0

    def _entry(self, place: Field, wire: Wire) -> None:
        key = value = ""
        for field in wire.fields(place.begin, place.end):
            if field.number == 1:
                key = wire.text(field)
            elif field.number == 2:
                value = wire.text(field)
        if key in self.location:
            raise ValueError(f"tensor {self.name!r} says twice where it lies")
        self.location[key] = value

    @property
    def _size(self) -> int:
        """Bytes that the shape and the type ask for."""
        return (math.prod(self._dims) * _BITS[self.kind] + 7) // 8

    def check(self) -> None:
        """ValueError unless it holds what its shape says."""
        where = f"tensor {self.name!r}"
        if self.kind != _STRING and self.kind not in _BITS:
            raise ValueError(f"{where} has elements of the unknown type {self.kind}")
        elements = math.prod(self._dims)
        if any(size >= 2**63 for size in self._dims) or elements >= 2**63:
            raise ValueError(f"{where} has the shape {self._dims}")
        if self.outside or self.location:
            return
        if self.kind == _STRING:
            sound = elements == self._texts
        elif self._raw is not None:
            sound = self._raw == self._size
        elif self._bytes:
            parts = 2 * elements if self.kind in _COMPLEX else elements
            width = 8 if self.kind in (11, 15) else 4
            sound = self._bytes == parts * width
        else:
            packed = max(1, 8 // _BITS[self.kind])
            sound = self._numbers == -(-elements // packed) or self._numbers == elements
        if not sound:
            raise ValueError(f"{where} does not hold what its shape {self._dims} says")

    def external(self) -> External:
        """Where its bytes lie; ValueError where that is no place for them."""
        where = f"tensor {self.name!r}"
        file = self.location.get("location", "")
        if not _BESIDE.match(file) or len(file) > LONGEST_NAME:
            raise ValueError(
                f"{where} lies in {file[:80]!r}; expected the name of a file in the folder of the"
                " model, or in one below that"
            )
        if self.kind == _STRING or not self.outside:
            raise ValueError(f"{where} says that it lies in another file, and that it does not")
        numbers = {}
        for key, default in (("offset", 0), ("length", self._size)):
            text = self.location.get(key, str(default))
            if not (text.isascii() and text.isdigit()) or len(text) > 18:
                raise ValueError(f"{where}: {key} {text[:40]!r} is no number of bytes")
            numbers[key] = int(text)
        if numbers["length"] != self._size:
            raise ValueError(
                f"{where} has {numbers['length']} bytes in another file, but its shape"
                f" {self._dims} takes {self._size}"
            )
        return External(file, numbers["offset"], self._size, self.name)


_LAST = re.compile(rb"[\x00-\x7f]+")
