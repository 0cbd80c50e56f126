"""The servicer of `gearshift.v1.Gearshift`: what the inference protocol has no words for."""

from __future__ import annotations

from gearshift.engine import Engine
from gearshift.ports import Feedback
from gearshift.rpc.explain import ExplainMethods
from gearshift.rpc.feedback import FeedbackMethods
from gearshift.rpc.frontier import Frontier, FrontierMethods
from gearshift.v1 import gearshift_pb2_grpc


class GearshiftServicer(
    ExplainMethods,
    FeedbackMethods,
    FrontierMethods,
    gearshift_pb2_grpc.GearshiftServicer,  # type: ignore[misc]
):
    """Each part in a class of its own. `feedback` is None where none is taken, `frontier` where
    nobody watches it."""

    def __init__(
        self, engine: Engine, feedback: Feedback | None, frontier: Frontier | None
    ) -> None:
        self._engine = engine
        self._feedback = feedback
        self._frontier = frontier
