"""What a caller asks for, and the ticket it becomes: parameters read, defaults applied.

The rules are those of the wire: the budget is the smallest of the gRPC deadline, the
`latency_budget_ms` and `timeout` parameters and the class's default, which `service_class` names
or `priority` stands for; a parameter nobody knows is an error, because a misspelt budget must not
be ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gearshift.core.catalog import Late, Model, ServiceClass
from gearshift.errors import InvalidInput

Parameter = bool | int | float | str

KNOWN_PARAMETERS = ("latency_budget_ms", "min_accuracy", "service_class", "variant")
TRITON_PARAMETERS = (
    "timeout",
    "priority",
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "binary_data_output",
    "headers",
    "triton_enable_empty_final_response",
)

LONGEST_BUDGET = 7 * 86_400.0
"""Seconds. A gRPC deadline or budget above a week is no deadline: a client without one
reports centuries remaining."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One inference request as the wire gave it, without its tensors.

    `version` is empty when the server may choose; `rows` is the size of the batch
    dimension; `remaining` is the caller's gRPC deadline in seconds from arrival.
    """

    model: str
    rows: int
    version: str = ""
    parameters: Mapping[str, Parameter] = ()  # type: ignore[assignment]
    remaining: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One admitted request inside the scheduler: ids and numbers, no tensors.

    Times are seconds on the engine's clock. `variant` is the pinned variant's name, or
    None; `deadline` is `math.inf` when the budget is unlimited.
    """

    id: int
    model: str
    service_class: str
    arrival: float
    deadline: float
    floor: float
    rows: int = 1
    variant: str | None = None
    late: Late = Late.DROP
    weight: float = 1.0
    fallback: bool = False
    """It has an answer already, and is dropped without anybody losing one."""
    without: str | None = None
    """It is a second chance, and may have any variant but this one, which failed it
    (`gearshift.core.second_chance`)."""
    generation: int = 1
    """That of the model which admitted it: no other one answers it."""

    @property
    def budget(self) -> float:
        return self.deadline - self.arrival


def ticket_for(request: Request, model: Model, ticket_id: int, arrival: float) -> Ticket:
    """Read the request's parameters against `model`; InvalidInput or VariantNotFound if wrong."""
    parameters = dict(request.parameters)
    for name in parameters:
        _check_known(name)
    service_class = _service_class(
        parameters.get("service_class"), _by_priority(parameters.get("priority"), model), model
    )
    budget = min(
        request.remaining if request.remaining < LONGEST_BUDGET else math.inf,
        service_class.budget,
        _latency_budget(parameters.get("latency_budget_ms")),
        _timeout(parameters.get("timeout")),
    )
    return Ticket(
        id=ticket_id,
        model=model.name,
        service_class=service_class.name,
        arrival=arrival,
        deadline=arrival + budget,
        floor=_floor(parameters.get("min_accuracy"), service_class),
        rows=request.rows,
        variant=_pinned(request.version, parameters.get("variant"), model),
        late=service_class.late,
        weight=service_class.weight,
        generation=model.generation,
    )


def _check_known(name: str) -> None:
    if name in KNOWN_PARAMETERS or name in TRITON_PARAMETERS:
        return
    raise InvalidInput(
        f"unknown parameter {name!r}; gearshift knows {', '.join(KNOWN_PARAMETERS)}"
        f" and takes Triton's {', '.join(TRITON_PARAMETERS)}"
    )


def _service_class(
    value: Parameter | None, by_priority: ServiceClass | None, model: Model
) -> ServiceClass:
    if value is None or value == "":
        return by_priority or model.classes[model.default_class]
    service_class = model.classes.get(value) if isinstance(value, str) else None
    if service_class is None:
        raise InvalidInput(
            f"parameter service_class: model {model.name!r} has no class {value!r};"
            f" it has {', '.join(sorted(model.classes))}"
        )
    if by_priority is not None and by_priority is not service_class:
        raise InvalidInput(
            f"parameter service_class says {value!r}, but priority is that of class"
            f" {by_priority.name!r}; give one of the two"
        )
    return service_class


def _pinned(version: str, name: Parameter | None, model: Model) -> str | None:
    by_version = None
    if version:
        if not (version.isascii() and version.isdigit()):
            raise InvalidInput(
                f"model_version {version!r} is not a whole number; leave it empty to let"
                f" the server choose, or give one of"
                f" {', '.join(str(v.version) for v in model.variants)}"
            )
        by_version = model.by_version(int(version)).name
    if name is None or name == "":
        return by_version
    if not isinstance(name, str):
        raise InvalidInput(f"parameter variant: {name!r} is not a string")
    if any(cascade.name == name for cascade in model.cascades):
        by_name = name
    else:
        by_name = model.by_name(name).name
    if by_version is not None and by_version != by_name:
        raise InvalidInput(
            f"model_version {version} is variant {by_version!r}, but the parameter variant"
            f" says {by_name!r}; give one of the two"
        )
    return by_name


def _number(name: str, value: Parameter) -> float:
    """A number given as int64, uint64, double or a numeric string."""
    if isinstance(value, bool):
        raise InvalidInput(f"parameter {name}: {value!r} is not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise InvalidInput(f"parameter {name}: {value!r} is not a number") from None
    if not math.isfinite(number):
        raise InvalidInput(f"parameter {name}: {value!r} is not a finite number")
    return number


def _latency_budget(value: Parameter | None) -> float:
    if value is None:
        return math.inf
    milliseconds = _number("latency_budget_ms", value)
    if milliseconds <= 0:
        raise InvalidInput(f"parameter latency_budget_ms: {value!r} must be above 0 milliseconds")
    if milliseconds / 1e3 > LONGEST_BUDGET:
        raise InvalidInput(
            f"parameter latency_budget_ms: {value!r} is more than a week"
            f" ({LONGEST_BUDGET * 1e3:.0f} ms); leave it out for the class's default"
        )
    return milliseconds / 1e3


def _timeout(value: Parameter | None) -> float:
    """Triton's own `timeout` parameter: microseconds, an integer; 0 means none."""
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidInput(
            f"parameter timeout: {value!r} must be a whole number of microseconds, 0 for none"
        )
    return value / 1e6 if 0 < value / 1e6 < LONGEST_BUDGET else math.inf


def _by_priority(value: Parameter | None, model: Model) -> ServiceClass | None:
    """The class that Triton's `priority` means; None for 0 and for those that nobody has declared,
    which Triton takes as the default."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidInput(f"parameter priority: {value!r} must be a whole number, 0 or more")
    return next((each for each in model.classes.values() if each.priority == value), None)


def _floor(value: Parameter | None, service_class: ServiceClass) -> float:
    """The request's own floor; it can raise the class's, never lower it."""
    if value is None:
        return service_class.floor
    floor = _number("min_accuracy", value)
    if floor < 0:
        raise InvalidInput(f"parameter min_accuracy: {value!r} must be 0 or more")
    return max(floor, service_class.floor)
