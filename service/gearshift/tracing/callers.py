"""The caller's trace, from a call's metadata (W3C Trace Context: traceparent and tracestate)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Metadata = Sequence[tuple[str, str | bytes]]
Carrier = Mapping[str, list[str]]

PARENT = "traceparent"
FIELDS = frozenset((PARENT, "tracestate"))
NOBODY = Context()
LONGEST = 128
"""Characters that are told of one that cannot be read."""

_NOT_SAMPLED = re.compile("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]")


class _Values(Getter[Carrier]):
    def get(self, carrier: Carrier, key: str) -> list[str] | None:
        return carrier.get(key)

    def keys(self, carrier: Carrier) -> list[str]:
        return list(carrier)


_VALUES = _Values()
_PROPAGATOR = TraceContextTextMapPropagator()


def carried(metadata: Metadata) -> Carrier:
    """What there is of a trace context, mostly nothing."""
    found: dict[str, list[str]] = {}
    for name, value in metadata:
        if name in FIELDS and isinstance(value, str):
            found.setdefault(name, []).append(value)
    return found


def clearly_not_sampled(carrier: Carrier) -> bool:
    """Whether it is plain without much reading that the caller's trace is not sampled."""
    parents = carrier.get(PARENT, ())
    return len(parents) == 1 and _NOT_SAMPLED.fullmatch(parents[0]) is not None


def context_of(carrier: Carrier) -> Context:
    """Empty for one that cannot be read: such a caller counts as one without a trace."""
    if len(carrier.get(PARENT, ())) != 1:
        # Of two, whose would it be? (Section 3.2: one field only.)
        return NOBODY
    return _PROPAGATOR.extract(carrier, NOBODY, _VALUES)


def unreadable(carrier: Carrier) -> str:
    """What stood in the place of a trace context, for people to see."""
    return ", ".join(carrier.get(PARENT, ()))[:LONGEST]
