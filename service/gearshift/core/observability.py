"""How much a server tells of itself: which lines are logged, which requests are traced.

The settings and their names are those of Triton's logging and trace extensions
(https://github.com/triton-inference-server/server/tree/main/docs/protocol, extension_logging.md and
extension_trace.md). What has no counterpart here can be asked for, and not be set.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gearshift.errors import InvalidInput, NotServed

LogValue = bool | int | str
LogValues = Mapping[str, LogValue | None]
TraceValues = Mapping[str, Sequence[str]]

LARGEST = 2**32 - 1
"""Of both kinds of numbers."""

OFF, TIMESTAMPS, TENSORS = "OFF", "TIMESTAMPS", "TENSORS"
OPENTELEMETRY, NO_LIMIT, ISO8601 = "opentelemetry", "-1", "ISO8601"

KINDS = ("log_info", "log_warning", "log_error")
LOGS = (*KINDS, "log_verbose_level", "log_format", "log_file")
TRACES = ("trace_level", "trace_rate", "trace_count", "trace_mode")

LONGEST = 100
"""Characters of what is not understood that a message repeats."""


@dataclass(frozen=True, slots=True)
class Traced:
    """What is set of traces; of one model None where that is as of all models."""

    traced: bool | None = None
    rate: int | None = None


AS_ALL = Traced()


@dataclass(frozen=True, slots=True)
class Observability:
    """Lines of these kinds are logged, those of the level debug where `verbose` is above 0. Where
    `traced`, one of `rate` requests is, beside those whose callers say so; 0 for only those.
    `models` are those with settings of their own."""

    info: bool = True
    warning: bool = True
    error: bool = True
    verbose: int = 0
    traced: bool = False
    rate: int = 0
    models: Mapping[str, Traced] = field(default_factory=dict)

    def of(self, model: str) -> tuple[bool, int]:
        """Whether requests for this model are traced, and at which rate."""
        own = self.models.get(model, AS_ALL)
        return (
            self.traced if own.traced is None else own.traced,
            self.rate if own.rate is None else own.rate,
        )

    def pack(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> Observability:
        models = {name: Traced(**own) for name, own in packed["models"].items()}
        return cls(**{**packed, "models": models})


@dataclass(frozen=True, slots=True)
class Beginning:
    """How a server was started, which what is changed may go back to. Spans can be sent somewhere
    where `traceable`; `rate_fixed` where the environment says which requests are traced."""

    state: Observability
    traceable: bool = False
    rate_fixed: bool = False


# --- logs -------------------------------------------------------------------------------------


def log_settings(state: Observability) -> dict[str, LogValue]:
    """As they are told."""
    return {
        "log_file": "",
        "log_info": state.info,
        "log_warning": state.warning,
        "log_error": state.error,
        "log_verbose_level": state.verbose,
        "log_format": ISO8601,
    }


def with_logs(state: Observability, changes: LogValues) -> Observability:
    """The state with these changes, all or none: InvalidInput or NotServed if one cannot be."""
    for name, value in changes.items():
        if name == "log_file":
            raise NotServed(
                "log_file cannot be set: lines go to standard error, for whoever runs the server to"
                " put where they belong"
            )
        if name in KINDS:
            if not isinstance(value, bool):
                raise InvalidInput(f"{name} must be true or false, got {value!r:.100}")
            shown: dict[str, Any] = {name.removeprefix("log_"): value}
            state = replace(state, **shown)
        elif name == "log_verbose_level":
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
                raise InvalidInput(
                    f"log_verbose_level must be a whole number, 0 for no lines of the level debug,"
                    f" got {value!r:.100}"
                )
            state = replace(state, verbose=value)
        elif name == "log_format":
            if value == "default":
                raise NotServed(
                    f"log_format cannot be default: times are written as {ISO8601} has them; lines"
                    " for people or as JSON are chosen at the start (setting log_format)"
                )
            if value != ISO8601:
                raise InvalidInput(f"log_format must be {ISO8601}, got {value!r:.100}")
        else:
            raise _unknown("log", name, LOGS)
    return state


# --- traces -----------------------------------------------------------------------------------


def trace_settings(state: Observability, model: str = "") -> dict[str, Sequence[str]]:
    """As they are told: what holds for this model, or for all without settings of their own."""
    traced, rate = state.of(model)
    return {
        "trace_level": [TIMESTAMPS if traced else OFF],
        "trace_rate": [str(rate)],
        "trace_count": [NO_LIMIT],
        "trace_mode": [OPENTELEMETRY],
    }


def with_traces(
    state: Observability, begun: Beginning, changes: TraceValues, model: str = ""
) -> Observability:
    """The state with these changes, all or none: InvalidInput or NotServed if one cannot be.
    A setting without values is again as it was at the start; of a `model`, as it is of all."""
    if model:
        own, back = state.models.get(model, AS_ALL), AS_ALL
    else:
        own = Traced(state.traced, state.rate)
        back = Traced(begun.state.traced, begun.state.rate)
    for name, values in changes.items():
        if name == "trace_level":
            own = replace(own, traced=_level(values) if values else back.traced)
            if own.traced and not begun.traceable:
                raise InvalidInput(
                    f"trace_level cannot be {TIMESTAMPS}: spans would go nowhere; start the server"
                    " with the setting otel_endpoint"
                )
        elif name == "trace_rate":
            own = replace(own, rate=_rate(values) if values else back.rate)
            if begun.rate_fixed and own.rate not in (None, begun.state.rate):
                raise NotServed(
                    "trace_rate cannot be set: the environment says which requests are traced"
                    " (OTEL_TRACES_SAMPLER)"
                )
        elif name == "trace_count":
            if values and _only(name, values) != NO_LIMIT:
                raise NotServed(f"trace_count can only be {NO_LIMIT}: spans are not counted down")
        elif name == "trace_mode":
            if values and _only(name, values) != OPENTELEMETRY:
                raise NotServed(f"trace_mode can only be {OPENTELEMETRY}")
        elif name in ("trace_file", "log_frequency"):
            raise NotServed(f"{name} cannot be set: spans go to a collector and into no file")
        else:
            raise _unknown("trace", name, TRACES)
    if not model:
        return replace(state, traced=bool(own.traced), rate=own.rate or 0)
    models = {name: each for name, each in state.models.items() if name != model}
    return replace(state, models=models if own == AS_ALL else {**models, model: own})


def _level(levels: Sequence[str]) -> bool:
    if TENSORS in levels:
        raise NotServed(f"trace_level cannot be {TENSORS}: what is in tensors is not traced")
    if OFF in levels and len(levels) > 1:
        raise InvalidInput(f"trace_level: {OFF} excludes all others")
    for level in levels:
        if level not in (OFF, TIMESTAMPS):
            raise InvalidInput(
                f"trace_level: {level[:LONGEST]!r} is none; there are {OFF} and {TIMESTAMPS}"
            )
    return OFF not in levels


def _rate(values: Sequence[str]) -> int:
    text = _only("trace_rate", values)
    rate = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0
    if not 1 <= rate <= LARGEST:
        raise InvalidInput(
            f"trace_rate: {text[:LONGEST]!r} must be a whole number from 1: one of so many requests"
            " is traced"
        )
    return rate


def _only(name: str, values: Sequence[str]) -> str:
    if len(values) != 1:
        raise InvalidInput(f"{name} takes one value, got {len(values)}")
    return values[0]


def _unknown(kind: str, name: str, known: Collection[str]) -> InvalidInput:
    return InvalidInput(f"unknown {kind} setting {name[:LONGEST]!r}; there are {', '.join(known)}")
