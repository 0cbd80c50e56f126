"""The protocol's messages as JSON that is not protobuf's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from gearshift.http.rest.asking import Mistake

LEVELS = "trace_level"
"""The setting that is a list."""

LONGEST = 50
"""Characters of what is not understood that a message repeats."""


def json_of(kind: Any, message: bytes) -> dict[str, Any]:
    """As the protocol names its fields; whole numbers of 64 bits as numbers."""
    found = json_format.MessageToDict(
        kind.FromString(message),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    widened: dict[str, Any] = _numbers(found, kind.DESCRIPTOR)
    return widened


def _numbers(value: Any, descriptor: Any) -> Any:
    """Protobuf's JSON has whole numbers of 64 bits as texts, the protocol's as numbers."""
    if not isinstance(value, dict):
        return value
    wide = {field.name: field for field in descriptor.fields}
    return {name: _number(each, wide.get(name)) for name, each in value.items()}


def _number(value: Any, field: Any) -> Any:
    if field is None:
        return value
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        within = field.message_type.fields_by_name["value"]
        return {key: _number(each, within) for key, each in value.items()}
    if isinstance(value, list):
        return [_number(each, field) for each in value]
    if field.message_type is not None:
        return _numbers(value, field.message_type)
    if isinstance(value, str) and field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
        return int(value)
    return value


# --- settings of traces and logs --------------------------------------------------------------


def with_trace_settings(asked: Any, given: Mapping[str, Any]) -> None:
    """Texts, lists of texts for levels, or null for what was at the start. Mistake otherwise."""
    for name, value in given.items():
        values = [value] if isinstance(value, str) else value
        if values is None:
            values = []
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise Mistake(f"{name[:LONGEST]} must be a text, a list of texts, or null")
        asked.settings[name].value.extend(values)


def with_log_settings(asked: Any, given: Mapping[str, Any]) -> None:
    """Truth values, whole numbers and texts. Mistake otherwise."""
    for name, value in given.items():
        setting = asked.settings[name]
        if isinstance(value, bool):
            setting.bool_param = value
        elif isinstance(value, int) and 0 <= value < 2**32:
            setting.uint32_param = value
        elif isinstance(value, str):
            setting.string_param = value
        else:
            raise Mistake(
                f"{name[:LONGEST]} must be a truth value, a whole number from 0, or a text"
            )


def settings_of(answer: Any) -> dict[str, Any]:
    """By name: of traces texts, and a list of levels; of logs what each is."""
    found: dict[str, Any] = {}
    for name, told in answer.settings.items():
        if "value" in told.DESCRIPTOR.fields_by_name:
            values = list(told.value)
            found[name] = values if name == LEVELS else ", ".join(values)
        else:
            found[name] = getattr(told, told.WhichOneof("parameter_choice"))
    return found
