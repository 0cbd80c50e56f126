"""What a conformance case over HTTP/REST is, and how it is asked: on a connection of its own."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from conformance.case import Outcome

HEADER_LENGTH = "Inference-Header-Content-Length"
REGION, REGION_SIZE = "gearshift-conformance", 64
ANSWER_WITHIN = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` by their names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        return json.loads(self.body)

    def parts(self) -> tuple[Any, bytes]:
        """JSON, and the binary data behind it."""
        length = int(self.headers.get(HEADER_LENGTH.lower(), len(self.body)))
        return json.loads(self.body[:length]), self.body[length:]


Look = Callable[[Answer], Any]


@dataclass(frozen=True, slots=True)
class RestCase:
    """`body`: bytes as they are, anything else as JSON; without one it is a GET, unless `method`
    says otherwise. `look` makes plain values of a good answer: those are compared. `before`: what
    is asked first, whose outcome does not count."""

    name: str
    path: str
    body: Any = None
    look: Look = lambda answer: None
    method: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    before: Sequence[RestCase] = ()


def ask(address: str, case: RestCase) -> Outcome:
    """The status, whether an error comes with a text where the protocol has it, and what was looked
    at of a good answer."""
    for each in case.before:
        ask(address, each)
    answer = _answer(address, case)
    if answer.status >= http.client.BAD_REQUEST:
        return Outcome(str(answer.status), _told(answer))
    return Outcome(str(answer.status), False, [case.look(answer)])


def _answer(address: str, case: RestCase) -> Answer:
    body = case.body
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    connection = http.client.HTTPConnection(address, timeout=ANSWER_WITHIN)
    try:
        method = case.method or ("GET" if body is None else "POST")
        connection.request(method, case.path, body, dict(case.headers))
        found = connection.getresponse()
        headers = {name.lower(): value for name, value in found.getheaders()}
        return Answer(found.status, headers, found.read())
    finally:
        connection.close()


def _told(answer: Answer) -> bool:
    try:
        return bool(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return False


@contextmanager
def region() -> Iterator[None]:
    """Until the block ends there is an object REGION of shared memory, which begins with 1, 2, 3 as
    FP32."""
    memory = SharedMemory(REGION, create=True, size=REGION_SIZE)
    try:
        memory.buf[:12] = np.array([1, 2, 3], np.float32).tobytes()
        yield
    finally:
        memory.close()
        memory.unlink()


# --- what is looked at --------------------------------------------------------------------------


def inferred(answer: Answer) -> dict[str, Any]:
    """What any server must answer alike: not who answered and how fast, nor an id that nobody asked
    for. Binary data as hex digits, beside the values in JSON."""
    head, binary = answer.parts()
    at = 0
    outputs = []
    for output in head["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        raw = binary[at : at + size].hex()
        at += size
        told = [output["name"], output["datatype"], output["shape"], output.get("data"), raw]
        outputs.append(told)
    assert at == len(binary)
    return {"model": head["model_name"], "outputs": outputs}


def named(answer: Answer) -> dict[str, Any]:
    """The same of a request with an id."""
    return {"id": answer.parts()[0].get("id"), **inferred(answer)}


def typed(answer: Answer) -> Any:
    """How it is to be read."""
    return answer.headers.get("content-type")
