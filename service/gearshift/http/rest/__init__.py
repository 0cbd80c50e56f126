"""The Open Inference Protocol over HTTP/REST, for tools that speak only that.

Each request becomes the call of the gRPC protocol that says the same, which is asked of this very
server; so everything that holds there holds here. After Triton's documents of the protocol and its
extensions (https://github.com/triton-inference-server/server/tree/main/docs/protocol).
"""

from gearshift.http.rest.asking import Ask, Asked, Told
from gearshift.http.rest.routes import rest_routes

__all__ = ["Ask", "Asked", "Told", "rest_routes"]
