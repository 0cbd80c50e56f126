"""The few protocols that adapters fill: a clock, what runs artifacts, what listens.

The engine knows the outside only through these. Tensors appear here and in the adapters,
never in the core.
"""

from gearshift.ports.bfloat16 import narrowed, widened
from gearshift.ports.clock import Clock, Timer
from gearshift.ports.control import Access, Audit, Observing, Repository
from gearshift.ports.events import Answered, Ran, Served, Settled, Stage
from gearshift.ports.executing import (
    BYTES,
    EXPRESS,
    REMOTE,
    SHORT,
    Array,
    ByDevice,
    Executor,
    Placed,
    Tensors,
    Worker,
)
from gearshift.ports.feedback import Batch, Feedback, Journal, Row
from gearshift.ports.telemetry import BatchStatistics, Tally, Telemetry, VariantStatistics
from gearshift.ports.tracing import Trace, TracedBatch, TraceIds, Tracing

__all__ = [
    "BYTES",
    "EXPRESS",
    "REMOTE",
    "SHORT",
    "Access",
    "Answered",
    "Array",
    "Audit",
    "Batch",
    "BatchStatistics",
    "ByDevice",
    "Clock",
    "Executor",
    "Feedback",
    "Journal",
    "Observing",
    "Placed",
    "Ran",
    "Repository",
    "Row",
    "Served",
    "Settled",
    "Stage",
    "Tally",
    "Telemetry",
    "Tensors",
    "Timer",
    "Trace",
    "TraceIds",
    "TracedBatch",
    "Tracing",
    "VariantStatistics",
    "Worker",
    "narrowed",
    "widened",
]
