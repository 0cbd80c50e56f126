"""What a conformance case is: a call, and what is compared of its outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tritonclient.grpc import service_pb2 as pb

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """`path`: package.Service/Method. `requests`: one for unary calls, any number for streams.
    `look` makes plain values of an answer: those are compared. `before`: calls that are made
    first, whose outcome does not count. `leaves`: the caller gives up after so many seconds."""

    name: str
    path: str
    requests: Sequence[Any]
    answer: type[Any]
    look: Callable[[Any], Any] = lambda answer: None
    timeout: float = 10.0
    metadata: Metadata = ()
    compression: str = ""
    stream: bool = False
    leaves: float | None = None
    before: Sequence[Case] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The status's name, whether it came with a text, and what was looked at of each answer."""

    status: str
    told: bool = False
    answers: list[Any] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        return {"status": self.status, "told": self.told, "answers": self.answers}


def inference(answer: pb.ModelInferResponse) -> dict[str, Any]:
    """What of an answer any server must give alike: not who answered, and how fast; nor an id that
    nobody asked for."""
    return {
        "model": answer.model_name,
        "outputs": [[out.name, out.datatype, list(out.shape)] for out in answer.outputs],
        "raw": [raw.hex() for raw in answer.raw_output_contents],
    }


def named(answer: pb.ModelInferResponse) -> dict[str, Any]:
    """The same of a request with an id."""
    return {"id": answer.id, **inference(answer)}


def streamed(answer: pb.ModelStreamInferResponse) -> dict[str, Any]:
    final = answer.infer_response.parameters["triton_final_response"]
    return {
        "error": bool(answer.error_message),
        "final": final.bool_param if final.HasField("parameter_choice") else None,
        **named(answer.infer_response),
    }
