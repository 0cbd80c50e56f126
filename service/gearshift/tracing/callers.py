"""The caller's trace, from a call's metadata: W3C Trace Context, or what OTEL_PROPAGATORS names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, TextMapPropagator

Metadata = Sequence[tuple[str, str | bytes]]
Carrier = Mapping[str, list[str]]

PARENT = "traceparent"
NOBODY = Context()
LONGEST = 128
"""Characters that are told of one that cannot be read."""


class _Values(Getter[Carrier]):
    def get(self, carrier: Carrier, key: str) -> list[str] | None:
        return carrier.get(key)

    def keys(self, carrier: Carrier) -> list[str]:
        return list(carrier)


VALUES = _Values()


class Callers:
    """Reads contexts."""

    def __init__(self, propagator: TextMapPropagator) -> None:
        self._propagator = propagator
        self._fields = frozenset(propagator.fields) | {PARENT}

    def named(self, metadata: Metadata) -> Carrier:
        """The fields of a trace context in there, mostly none."""
        fields = self._fields
        found: dict[str, list[str]] = {}
        for name, value in metadata:
            if name in fields and isinstance(value, str):
                found.setdefault(name, []).append(value)
        return found

    def context(self, carrier: Carrier) -> Context:
        """Empty for one that cannot be read: such a caller counts as one without a trace."""
        if len(carrier.get(PARENT, ())) > 1:
            # Whose would it be? (W3C Trace Context, section 3.2: one field only.)
            carrier = {name: values for name, values in carrier.items() if name != PARENT}
        return self._propagator.extract(carrier, NOBODY, VALUES)


def unreadable(carrier: Carrier) -> str:
    """What stood in the place of a trace context, for people to see."""
    return ", ".join(carrier.get(PARENT, ()))[:LONGEST]
