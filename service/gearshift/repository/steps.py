"""Reading the steps of a model: what model.toml declares before and after its network, with the
files that they need from the model's folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gearshift.artifacts import Allowance, read_inside
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.core.steps import After, Before
from gearshift.repository.files import Root
from gearshift.repository.findings import Findings, shown
from gearshift.repository.steps_schema import (
    FileEntry,
    ImageEntry,
    LabelsEntry,
    NormalizeEntry,
    SoftmaxEntry,
    ThresholdEntry,
    TokenizeEntry,
)
from gearshift.steps import Labels, Normalize, Picture, Softmax, Threshold, Tokenize
from gearshift.steps.answers import MOST_LABELS, MOST_VALUES
from gearshift.steps.texts import LARGEST_FILE

BEFORE: Mapping[str, type[BaseModel]] = {"tokenize": TokenizeEntry, "image": ImageEntry}
AFTER: Mapping[str, type[BaseModel]] = {
    "softmax": SoftmaxEntry,
    "normalize": NormalizeEntry,
    "threshold": ThresholdEntry,
    "labels": LabelsEntry,
}
LARGEST_LABELS = 2**20
"""Bytes of a file of labels."""

Step = TypeVar("Step", Before, After)


class StepsLoader:
    """Makes the steps of one model; what it cannot use it writes into the findings."""

    def __init__(
        self, root: Root, folder: Path, file: str, findings: Findings, allowance: Allowance
    ) -> None:
        """`file` is how messages name the model.toml in `folder`; what is read of other files is
        taken off the `allowance`."""
        self._root = root
        self._folder = folder
        self._file = file
        self._findings = findings
        self._allowance = allowance

    def before(
        self, declared: Sequence[Mapping[str, Any]], signature: Signature | None
    ) -> tuple[Before, ...]:
        """Those before a network of this signature; with None their tables are checked alone."""
        found: list[Before] = []
        inputs = {} if signature is None else {spec.name: spec for spec in signature.inputs}
        taken = set(inputs)
        for index, table in enumerate(declared):
            where = f"before[{index}]"
            entry = self._entry(table, BEFORE, where)
            if entry is None or signature is None:
                continue
            step = self._made(where, partial(self._before, entry, inputs))
            if step is None:
                continue
            if step.takes.name in taken:
                self._clash(f"{where}.input", step.takes.name, "input")
            taken.add(step.takes.name)
            for spec in step.makes:
                if inputs.pop(spec.name, None) is None:
                    text = f"input {spec.name!r} is made by a step already"
                    self._findings.add(self._file, where, text)
            found.append(step)
        return tuple(found)

    def after(
        self, declared: Sequence[Mapping[str, Any]], signature: Signature | None, rows: int
    ) -> tuple[After, ...]:
        """The same behind it; `rows` are the most in a batch."""
        found: list[After] = []
        outputs = {} if signature is None else {spec.name: spec for spec in signature.outputs}
        for index, table in enumerate(declared):
            where = f"after[{index}]"
            entry = self._entry(table, AFTER, where)
            if entry is None or signature is None:
                continue
            step = self._made(where, partial(self._after, entry, outputs, rows))
            if step is None:
                continue
            if step.makes.name in outputs:
                self._clash(f"{where}.output", step.makes.name, "output")
            outputs[step.makes.name] = step.makes
            found.append(step)
        return tuple(found)

    def _clash(self, key: str, name: str, what: str) -> None:
        text = f"there is an {what} {name!r} already; give this one a name of its own"
        self._findings.add(self._file, key, text)

    def _entry(
        self, table: Mapping[str, Any], kinds: Mapping[str, type[BaseModel]], where: str
    ) -> BaseModel | None:
        """The table, once it is one of a kind that there is."""
        kind = table.get("step")
        schema = kinds.get(kind) if isinstance(kind, str) else None
        if schema is None:
            near = get_close_matches(str(kind), kinds, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            known = ", ".join(repr(name) for name in kinds)
            told = "missing" if kind is None else f"{shown(kind)} is no such step"
            self._findings.add(self._file, f"{where}.step", f"{told}; {hint}known: {known}")
            return None
        try:
            return schema.model_validate(dict(table))
        except ValidationError as error:
            self._findings.add_invalid(self._file, error, schema, under=where)
            return None

    def _made(self, where: str, make: Callable[[], Step]) -> Step | None:
        try:
            return make()
        except ValueError as error:
            self._findings.add(self._file, where, str(error))
            return None

    def _before(self, entry: BaseModel, inputs: Mapping[str, TensorSpec]) -> Before:
        if isinstance(entry, TokenizeEntry):
            return Tokenize(
                entry.input,
                self._content(entry, LARGEST_FILE),
                entry.max_bytes,
                ids=_known(entry.ids, inputs, "input"),
                mask=None if entry.mask is None else _known(entry.mask, inputs, "input"),
                types=None if entry.types is None else _known(entry.types, inputs, "input"),
            )
        assert isinstance(entry, ImageEntry)
        return Picture(
            entry.input,
            _known(entry.makes, inputs, "input"),
            entry.max_bytes,
            entry.max_pixels,
            layout=entry.layout,
            channels=entry.channels,
            fit=entry.fit,
            mean=entry.mean,
            scale=entry.scale,
        )

    def _after(self, entry: BaseModel, outputs: Mapping[str, TensorSpec], rows: int) -> After:
        assert isinstance(entry, SoftmaxEntry | NormalizeEntry | ThresholdEntry | LabelsEntry)
        of = _known(entry.of, outputs, "output")
        size = rows
        for axis in of.shape:
            size *= axis
        if size > MOST_VALUES:
            raise ValueError(
                f"output {of.name!r} has {size} numbers in a batch of {rows}; a step reads at most"
                f" {MOST_VALUES}: let the network do it"
            )
        if isinstance(entry, SoftmaxEntry):
            return Softmax(of, entry.output)
        if isinstance(entry, NormalizeEntry):
            return Normalize(of, entry.output)
        if isinstance(entry, ThresholdEntry):
            return Threshold(of, entry.output, entry.at)
        if entry.top * rows > MOST_LABELS:
            raise ValueError(
                f"top is {entry.top} in a batch of {rows}; at most {MOST_LABELS} labels are given"
            )
        return Labels(of, entry.output, self._labels(entry), entry.top)

    def _labels(self, entry: LabelsEntry) -> Sequence[str]:
        if (entry.labels is None) == (entry.file is None):
            raise ValueError("give `labels`, or a `file` with one in each line")
        if entry.labels is not None:
            return entry.labels
        try:
            text = self._content(entry, LARGEST_LABELS).decode()
        except UnicodeDecodeError:
            raise ValueError(f"{entry.file}: is not UTF-8 text; save it as UTF-8") from None
        return text.removesuffix("\n").split("\n")

    def _content(self, entry: FileEntry, largest: int) -> bytes:
        """What is in the file that a step names, in the model's folder, if it has the hash that it
        should have."""
        assert entry.file is not None
        most, _ = self._allowance.most()
        try:
            content = read_inside(self._root.path, self._folder / entry.file, min(most, largest))
        except ValueError as error:
            raise ValueError(f"{entry.file}: {error}") from None
        self._allowance.spend(len(content))
        found = hashlib.sha256(content).hexdigest()
        if entry.sha256 != found:
            raise ValueError(
                f"{entry.file} has the SHA-256 {found}, and `sha256` is"
                f" {entry.sha256 or 'not given'}; the accuracy of the variants was measured with"
                " one such file"
            )
        return content


def _known(name: str, there: Mapping[str, TensorSpec], what: str) -> TensorSpec:
    spec = there.get(name)
    if spec is None:
        names = ", ".join(repr(known) for known in there) or "none"
        raise ValueError(f"there is no {what} {name!r} for it; there are: {names}")
    return spec
