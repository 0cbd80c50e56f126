"""The two scenarios: their models' latency, and the mixes of requests sent to them.

Both are made up, from the models stated here, so that anybody can check what they contain.
Latency of a batch is `overhead + fixed + per_row * rows`; p99 is p50 times `TAIL`, which is
what lognormal service times with a coefficient of variation of 5 % have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from arrivals import Arrivals, Flash

TAIL = 1.125

Row = tuple[str, str, float, str, int, float, float]
"""One line of a profiles file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Requests of one model and class that arrive together; `floor` None for none."""

    model: str
    arrivals: Arrivals
    budget_ms: float
    floor: float | None = None
    service_class: str = "default"


# --- two-core: fraud beside tumor and garment on two workers ----------------------------

TWO_CORE_BATCHES = {
    "fraud": (1, 2, 4, 8, 16, 32, 64),
    "tumor": (1, 2, 4, 8),
    "garment": (1, 2, 4, 8),
}

CLASSES = {"fraud": "realtime", "tumor": "critical", "garment": "edge"}
BUDGET_MS = {"fraud": 10.0, "tumor": 250.0, "garment": 250.0}

TWO_CORE: Mapping[str, Sequence[tuple[str, float, float, float]]] = {
    # variant, accuracy, fixed ms a batch, ms a row
    "fraud": (
        ("trees-large", 0.88, 1.80, 0.100),
        ("trees-small", 0.86, 0.50, 0.030),
        ("mlp-int8", 0.82, 0.15, 0.008),
        ("linear", 0.71, 0.045, 0.0015),
    ),
    "tumor": (
        ("ensemble", 0.972, 2.0, 28.0),
        ("single", 0.961, 1.0, 9.0),
        ("distilled", 0.944, 0.5, 2.5),
    ),
    "garment": (
        ("large", 0.937, 6.0, 54.0),
        ("middle", 0.918, 2.0, 13.0),
        ("small", 0.893, 0.8, 3.2),
        ("tiny", 0.846, 0.3, 0.7),
    ),
}


def two_core_profiles() -> Iterator[Row]:
    for model, variants in TWO_CORE.items():
        for variant, accuracy, fixed, per_row in variants:
            for batch in TWO_CORE_BATCHES[model]:
                p50 = fixed + per_row * batch
                yield model, variant, accuracy, "cpu", batch, p50, p50 * TAIL


def _all_accurate_ms(model: str) -> float:
    """Worker time a row of the most accurate variant, in the largest batch whose p99 is
    within half the budget: the other half is for waiting."""
    _, _, fixed, per_row = TWO_CORE[model][0]
    times = {batch: fixed + per_row * batch for batch in TWO_CORE_BATCHES[model]}
    batch = max(b for b, p50 in times.items() if p50 * TAIL <= BUDGET_MS[model] / 2)
    return times[batch] / batch


def _two_core(
    shares: Mapping[str, float],
    tumor_floor: float | None = None,
    cv2: float = 1.0,
    flash: Flash | None = None,
) -> list[Stream]:
    """Streams that together keep two workers busy if everything is answered most accurately.

    `shares` says how much of that work each model is; `cv2` and `flash` are fraud's, whose
    budget leaves least time to make up for them.
    """
    streams = []
    for model, share in shares.items():
        rate = 2 * share / (_all_accurate_ms(model) / 1e3)
        streams.append(
            Stream(
                model=model,
                arrivals=Arrivals(rate=rate, cv2=cv2, flash=flash)
                if model == "fraud"
                else Arrivals(rate=rate),
                budget_ms=BUDGET_MS[model],
                floor=tumor_floor if model == "tumor" else None,
                service_class=CLASSES[model],
            )
        )
    return streams


HARD = [
    Stream(
        model="fraud", arrivals=Arrivals(rate=400, cv2=4), budget_ms=10, service_class="realtime"
    ),
    Stream(model="garment", arrivals=Arrivals(rate=25, cv2=4), budget_ms=250, service_class="edge"),
]

EVEN = {"fraud": 0.15, "tumor": 0.425, "garment": 0.425}
FLOOR = 0.96
"""Met by the two most accurate variants of tumor."""

TWO_CORE_MIXES: Mapping[str, Sequence[Stream]] = {
    "even": _two_core(EVEN),
    "even-floor": _two_core(EVEN, FLOOR),
    "fraud-heavy": _two_core({"fraud": 0.4, "tumor": 0.3, "garment": 0.3}, FLOOR),
    "medical": _two_core({"fraud": 0.05, "tumor": 0.95}, FLOOR),
    "bursty": _two_core(EVEN, FLOOR, cv2=4.0),
    "flash": _two_core(EVEN, FLOOR, flash=Flash(start=20, length=10, factor=4)),
    "hard": HARD,
}
TWO_CORE_SECONDS = 60.0

# --- cluster: nine applications on 40 workers of three kinds ----------------------------

CLUSTER_BATCHES = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Device:
    """Milliseconds: `overhead` a batch and `handling` a row whatever the variant (decoding,
    copying), `fixed` a batch and `per_row` a row for a variant of cost 1."""

    overhead: float
    handling: float
    fixed: float
    per_row: float


DEVICES: Mapping[str, Device] = {
    "cpu": Device(overhead=1.0, handling=2.0, fixed=4.0, per_row=55.0),
    "gpu-a": Device(overhead=3.0, handling=1.0, fixed=22.0, per_row=7.0),
    "gpu-b": Device(overhead=3.0, handling=0.6, fixed=16.0, per_row=4.5),
}

VARIANT_COSTS = (1.0, 0.72, 0.50, 0.35, 0.24, 0.18)
"""The cost of a family's variants beside its best one, from the best down."""

ACCURACIES = (100.0, 98.4, 95.6, 91.5, 86.5, 81.0)
"""Of those variants, in per cent of the family's best; each family falls by its own factor."""


@dataclass(frozen=True, slots=True)
class Family:
    """One application: `cost` of its best variant, how steeply accuracy falls, its variants."""

    name: str
    cost: float
    fall: float
    variants: int = 5
    cpu: float = 1.0
    """How much dearer the family is on a CPU than `DEVICES` says."""
    megabytes: float = 0.0
    """Of its best variant; the others are smaller as they are cheaper."""


FAMILIES = (
    Family("detection", 1.15, 1.2, cpu=1.2, megabytes=2300),
    Family("classification", 0.80, 1.0, megabytes=1200),
    Family("translation", 1.30, 1.1, cpu=1.1, megabytes=7000),
    Family("sentiment", 0.70, 0.9, megabytes=900),
    Family("speech", 1.25, 1.3, cpu=1.2, megabytes=3200),
    Family("segmentation", 1.40, 1.0, variants=6, cpu=1.3, megabytes=2600),
    Family("question", 0.95, 0.8, megabytes=3800),
    Family("ranking", 0.50, 1.1, cpu=0.8, megabytes=500),
    Family("anomaly", 0.40, 1.4, cpu=0.7, megabytes=300),
)
"""In order of popularity."""


def cluster_profiles() -> Iterator[Row]:
    for family in FAMILIES:
        for number in range(family.variants):
            cost = family.cost * VARIANT_COSTS[number]
            accuracy = round(max(80.0, 100 - family.fall * (100 - ACCURACIES[number])), 2)
            for name, device in DEVICES.items():
                scale = cost * (family.cpu if name == "cpu" else 1.0)
                for batch in CLUSTER_BATCHES:
                    p50 = device.overhead + device.handling * batch
                    p50 += scale * (device.fixed + device.per_row * batch)
                    yield family.name, f"v{number}", accuracy, name, batch, p50, p50 * TAIL


CLUSTER_MEGABYTES: Mapping[tuple[str, str], int] = {
    (family.name, f"v{number}"): round(family.megabytes * VARIANT_COSTS[number])
    for family in FAMILIES
    for number in range(family.variants)
}
"""What each variant takes when it is loaded."""


CLUSTER_RATE = 1000.0
CLUSTER_SECONDS = 110.0


def cluster_streams() -> Sequence[Stream]:
    """Zipf shares over the applications, one day's swing in the run, budgets of 300 ms."""
    weights = [1 / rank for rank in range(1, len(FAMILIES) + 1)]
    return [
        Stream(
            model=family.name,
            arrivals=Arrivals(
                rate=CLUSTER_RATE * weight / sum(weights), swing=0.5, period=CLUSTER_SECONDS
            ),
            budget_ms=300.0,
        )
        for family, weight in zip(FAMILIES, weights, strict=True)
    ]
