"""gRPC: the Open Inference Protocol, health and reflection, in front of the engine."""

from gearshift.rpc import statistics
from gearshift.rpc.asking import Explainer
from gearshift.rpc.server import RpcServer
from gearshift.rpc.services import make_server, serve

__all__ = ["Explainer", "RpcServer", "make_server", "serve", "statistics"]
