"""A typed client: budgets and floors as arguments, retries by status, blocking and asynchronous.

    from gearshift.client import Client, Overloaded

    with Client("localhost:8001") as client:
        answer = client.infer("fraud", {"features": rows}, budget=0.02, floor=0.8)
        print(answer["probability"], answer.variant, answer.accuracy)

It works against any server of the Open Inference Protocol, such as Triton; what only gearshift says
is None there.
"""

from gearshift.client.aio import AsyncClient
from gearshift.client.answers import Answer
from gearshift.client.blocking import Client
from gearshift.client.errors import (
    ClientError,
    DeadlineExceeded,
    Forbidden,
    Infeasible,
    InvalidRequest,
    NotFound,
    Overloaded,
    ServerFailed,
    Unauthenticated,
    Unavailable,
)
from gearshift.client.retrying import Retries

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "ClientError",
    "DeadlineExceeded",
    "Forbidden",
    "Infeasible",
    "InvalidRequest",
    "NotFound",
    "Overloaded",
    "Retries",
    "ServerFailed",
    "Unauthenticated",
    "Unavailable",
]
