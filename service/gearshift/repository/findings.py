"""Collecting mistakes: every one with its file, its key and a sentence that helps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ValidationError

from gearshift.errors import Problem
from gearshift.repository.schema import NAME_RULE

Location = tuple[int | str, ...]

_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
_MISSING = ("missing", "missing_argument")
_WRONG_TYPE = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "a string",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "dataclass_type": "a table",
    "model_attributes_type": "a table",
    "finite_number": "a finite number",
}


LONGEST_KEY = 200
LONGEST_MESSAGE = 4_000


@dataclass(slots=True)
class Findings:
    """The mistakes found so far; loading goes on after each, to report all at once."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    """What is no mistake, and should be known: it was passed over."""

    def note(self, file: str, key: str, message: str) -> None:
        """As `add`."""
        self.notes.append(Problem(file, _cut(key, LONGEST_KEY), _cut(message, LONGEST_MESSAGE)))

    def add(self, file: str, key: str, message: str) -> None:
        """One mistake: `file` relative to the root, `key` inside it or "". What is in a file may be
        of any length, what is said about it is not."""
        self.problems.append(Problem(file, _cut(key, LONGEST_KEY), _cut(message, LONGEST_MESSAGE)))

    def add_invalid(
        self,
        file: str,
        error: ValidationError,
        schema: type[BaseModel],
        within: Location = (),
        under: str = "",
    ) -> None:
        """Every mistake of a validation; `within` is the part of its places to leave out, `under`
        the key of what was validated, where that is a part of the file."""
        for detail in error.errors(include_url=False):
            place: Location = detail["loc"][len(within) :]
            key = key_of(place)
            self.add(file, f"{under}.{key}" if under else key, _sentence(detail, schema))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."


def key_of(location: Iterable[int | str]) -> str:
    """`("variants", 1, "version")` as a person writes it: `variants[1].version`."""
    key = ""
    for part in location:
        if part == "[key]":  # pydantic's marker that the key itself is wrong, not its value
            continue
        if isinstance(part, int):
            key += f"[{part}]"
        else:
            key += f".{part}" if key else part
    return key


def shown(value: object) -> str:
    """A value inside a message; long ones are cut."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits refuses to be written out
        return "this number"
    return text if len(text) <= 60 else text[:57] + "..."


def _sentence(detail: Mapping[str, Any], schema: type[BaseModel]) -> str:
    location: Location = detail["loc"]
    kind: str = detail["type"]
    if kind in _UNKNOWN_KEY:
        return _unknown_key(str(location[-1]), _keys_at(location[:-1], schema))
    expected = _description_at(location, schema)
    if kind in _MISSING:
        return f"missing; expected {expected}" if expected else "missing; this key is required"
    value = shown(detail["input"])
    if location[-1:] == ("[key]",):
        return f"{value} is not a good name; expected {NAME_RULE}"
    if kind in _WRONG_TYPE:
        complaint = f"{value} is not {_WRONG_TYPE[kind]}"
    elif kind == "too_short":
        complaint = "nothing is declared here"
    else:
        message = str(detail["msg"])
        complaint = f"{value}: {message[:1].lower()}{message[1:]}"
    return f"{complaint}; expected {expected}" if expected else complaint


def _unknown_key(key: str, known: Iterable[str]) -> str:
    known = list(known)
    near = get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown key; {hint}known here: {', '.join(known)}"


def _walk(location: Location, schema: type[Any]) -> tuple[type[Any] | None, str]:
    """The type that stands at a location, and the description of the field there."""
    current: Any = schema
    description = ""
    for part in location:
        fields = _fields(current)
        if isinstance(part, str) and part in fields:
            current, description = fields[part]
        else:  # an index into a list, or a name in a table of tables
            inner = [arg for arg in get_args(current) if _fields(arg)]
            current = inner[-1] if inner else None
            description = ""
    return current, description


def _fields(kind: Any) -> dict[str, tuple[Any, str]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {
            name: (info.annotation, info.description or "")
            for name, info in kind.model_fields.items()
        }
    if isinstance(kind, type) and is_dataclass(kind):
        return {name: (hint, "") for name, hint in get_type_hints(kind).items()}
    return {}


def _keys_at(location: Location, schema: type[BaseModel]) -> list[str]:
    kind, _ = _walk(location, schema)
    return list(_fields(kind))


def _description_at(location: Location, schema: type[BaseModel]) -> str:
    return _walk(location, schema)[1]
