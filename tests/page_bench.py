"""The page on a telemetry whose events are the test's."""

from __future__ import annotations

import socket
from itertools import chain
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from builders import make_catalog, make_model
from fake_gearshift import FakeGearshift
from gearshift.core.card import Card, DataSource, Measurement, Recipe
from gearshift.core.catalog import Cascade, Late, Model, ServiceClass
from gearshift.core.profile import LatencyPoint, Profile
from gearshift.errors import Outcome
from gearshift.http import HttpServer, create_app
from gearshift.ports import Answered, Served, Settled
from gearshift.rpc import Explainer
from gearshift.telemetry import FrontierWatch, PrometheusTelemetry, board

CLASSES = (
    ServiceClass("realtime", budget=0.010),
    ServiceClass("archive", budget=60.0, floor=0.85, late=Late.SERVE),
)
SECONDS = {"large": 0.020, "middle": 0.002, "small": 0.0001}

CARD = Card(
    schema=1,
    model="garment",
    variant="large",
    artifact="model.onnx",
    artifact_sha256="ab" * 32,
    artifact_bytes=1_234_567,
    parameters=98_765,
    accuracy=Measurement(
        metric="top1", value=0.95, n=10_000, low=0.945, high=0.955, method="Wilson"
    ),
    data=DataSource(
        name="clothes", source="x" * 150, licence="MIT", training_sha256="", evaluation_sha256=""
    ),
    recipe=Recipe(description="trained for long", command="gearshift compress", sha256=""),
)


def with_card(model: Model) -> Model:
    """The first variant has a card, and two make a cascade."""
    large, *others = model.variants
    fields = {name: getattr(large, name) for name in type(large).__slots__}
    carded = type(large)(**fields | {"card": CARD, "source": "measured"})
    cascade = Cascade(
        name="both", first="small", then="large", threshold=0.8, escalated=0.25, accuracy=0.93
    )
    fields = {name: getattr(model, name) for name in Model.__slots__}
    return Model(**fields | {"variants": (carded, *others), "cascades": (cascade,)})


class PageBench:
    """Models `fraud` and `garment`, nothing asked yet."""

    def __init__(self, fake: FakeGearshift) -> None:
        accuracies = {"large": 0.95, "middle": 0.9, "small": 0.8}
        self.catalog = make_catalog(
            make_model("fraud", {"large": 0.8, "small": 0.7}, CLASSES),
            with_card(make_model("garment", accuracies, CLASSES)),
        )
        self.telemetry = PrometheusTelemetry(self.catalog)
        self.telemetry.profiled(
            Profile(variant, "cpu", [LatencyPoint(1, seconds, seconds * 2)], 1)
            for model in self.catalog.models.values()
            for variant in model.variants
            for seconds in [SECONDS[variant.name]]
        )
        self.feedback: list[Metric] = []
        self.watch = FrontierWatch(lambda: chain(self.telemetry.families(), self.feedback))
        self.watch.view()
        self.fake = fake
        self.explainer = Explainer()
        self.explainer.listening(
            fake.port, lambda: socket.create_connection(("127.0.0.1", fake.port), 5)
        )
        self.server = self.serve(0)
        self.url = f"http://127.0.0.1:{self.server.port}/"

    def serve(self, port: int) -> HttpServer:
        server = HttpServer(
            create_app(
                exposition=self.telemetry.exposition,
                triton=self.telemetry.triton_exposition,
                is_ready=lambda: True,
                board=lambda: board(
                    self.watch,
                    [self.telemetry.beside()],
                    ready=True,
                    grpc_port=self.explainer.port,
                ),
                explain=self.explainer,
            ),
            "127.0.0.1",
            port,
        )
        server.start()
        return server

    def answer(
        self,
        variant: str,
        times: int = 1,
        *,
        model: str = "garment",
        service_class: str = "realtime",
        late: bool = False,
    ) -> None:
        known = self.catalog.models[model]
        found = known.by_name(variant)
        deficit = known.best_accuracy - found.accuracy
        served = Served(service_class, late, 0.004, 0.001, -0.001 if late else 0.006)
        self.telemetry.answered(
            Answered(model, variant, found.version, found.accuracy, deficit, [served] * times)
        )

    def refuse(self, message: str, times: int = 1, **changes: Any) -> None:
        event: dict[str, Any] = {
            "model": "garment",
            "service_class": "realtime",
            "variant": "",
            "version": 0,
            "outcome": Outcome.SHED,
            "status": "RESOURCE_EXHAUSTED",
            "duration": 0.001,
            "message": message,
        }
        for _ in range(times):
            self.telemetry.settled(Settled(**(event | changes)))

    def learn(self, name: str, value: float, **labels: str) -> None:
        """One figure from feedback about a variant of `garment`."""
        family = GaugeMetricFamily(f"gearshift_{name}", "", labels=("model", *labels))
        family.add_metric(("garment", *labels.values()), value)
        self.feedback.append(family)
