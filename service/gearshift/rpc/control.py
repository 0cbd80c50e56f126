"""The servicer of `gearshift.v1.Gearshift`: what the inference protocol has no words for."""

from __future__ import annotations

from gearshift.engine import Engine
from gearshift.rpc.explain import ExplainMethods
from gearshift.v1 import gearshift_pb2_grpc


class GearshiftServicer(
    ExplainMethods,
    gearshift_pb2_grpc.GearshiftServicer,  # type: ignore[misc]
):
    """Each part in a class of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
