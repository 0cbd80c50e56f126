"""Why gearshift answers otherwise than Triton: by case, or by how the names of cases begin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Outcome = Mapping[str, Any]

_BUSINESS = "a parameter that nobody knows may be a misspelt budget, which must not be ignored"
_MISSPELT = "a misspelt setting must not look as if it held"
_LOST = "what was sent would be lost without a word"
_FINITE = "an answer that is not finite is not given; inputs that make it so are a mistake"
_ASKED_ORDER = "outputs come in the order in which they are asked for"
_TWICE = "outputs are told apart by their names"
_TRUNCATED = "Triton cuts the number to its lowest byte"
_FROM_NOWHERE = (
    "models are loaded and unloaded where there is a repository on disk, and the server of this"
    " suite has its models from nowhere"
)
_TENSORS = "what is in tensors is not traced"
_HALF = "numbers of 16 bits have values in JSON as all others have"
_PLAIN = "answers are not packed, which HTTP leaves to the server"
_VERSION = "what is wrong is the number, and not that there is no such version; as over gRPC"
_STATELESS = "no model has a state, and what is said of sequences is passed over; as over gRPC"
_BODY = "the body is what the protocol's own specification has, and KServe's client reads"
_NO_GENERATE = "one answer a request, and no text models of their own: there is no such path"
_CALLER = "what is wrong is in the request: 400; Triton says that it is the server's fault"

REASONS: dict[str, str] = {
    "infer: no id, but is there one?": "every answer has an id: feedback names it later",
    "infer: a deadline shorter than the run": (
        "that no variant is so fast is known when it comes: it is refused at once, and not run"
    ),
    "infer: NaN and infinity": _FINITE,
    "infer: two outputs, other order": _ASKED_ORDER,
    "infer: the same output twice": _TWICE,
    "RepositoryModel": _FROM_NOWHERE,
    "infer: INT8 out of range": _TRUNCATED,
    "infer: one raw contents too many": _LOST,
    "infer: parameter timeout = -1": "a time below 0 is a mistake",
    "infer: parameter nobody_knows": _BUSINESS,
    "infer: an unknown parameter of an input": _BUSINESS,
    "stream: an error": "the final flag says that nothing more comes of this request, errors too",
    "stream: an error, strictly": (
        "as Triton documents it; 2.51 does it only for errors of a run, not before one"
    ),
    "TraceSetting: level TENSORS": _TENSORS,
    "TraceSetting: count": "spans are not counted down",
    "TraceSetting: unknown setting": _MISSPELT,
    "LogSettings: unknown setting": _MISSPELT,
    "CudaSharedMemoryRegister": (
        "Triton has CUDA, though no GPU here, and finds the handle wrong; gearshift says that there"
        " is none"
    ),
    "health: nobody": (
        "NOT_FOUND is what the health protocol says of a service that the server does not know"
    ),
    "reflection": "Triton has no reflection",
    "no such": "gearshift says which method it does not have",
    "REST infer: two outputs, other order": _ASKED_ORDER,
    "REST infer: the same output twice": _TWICE,
    "REST infer: version abc": _VERSION,
    "REST infer: version -1": _VERSION,
    "REST infer: a model's name in percents": "letters in a path may be written so (RFC 3986)",
    "REST infer: a key that the protocol does not know": _MISSPELT,
    "REST infer: another model's name again": "which of the two is meant?",
    "REST infer: FP16": _HALF,
    "REST infer: 1000 as INT8": _TRUNCATED,
    "REST infer: 1 as BOOL": "0 and 1 are as good as false and true",
    "REST infer: 1e+300 as FP32": "the number is out of the range, and would be infinite",
    "REST infer: all outputs binary but one": (
        "as the extension is written: what is said of all holds where nothing is said of the one"
    ),
    "REST infer: gzip wanted": _PLAIN,
    "REST infer: deflate wanted": _PLAIN,
    "REST infer: an encoding that nobody knows": "415 is HTTP's status for it",
    "REST infer: a dimension that is huge": "this one request ends Triton's process",
    "REST infer: no UTF-8": "Triton's error is no UTF-8 either, and so no JSON",
    "REST infer: NaN in JSON": _FINITE,
    "REST infer: Infinity in JSON": _FINITE,
    "REST infer: a key twice": "of two the last counts; JSON leaves it open (RFC 8259)",
    "REST infer: deep data": "lists have 64 levels at most",
    "REST infer: BYTES that are no text, in JSON": (
        "Triton's answer is no JSON; such bytes are to be asked for as binary data"
    ),
    "REST infer: parameter sequence_": _STATELESS,
    "REST infer: parameter triton_enable": "one answer, which is the final one; as over gRPC",
    "REST infer: parameter nobody_knows": _BUSINESS,
    "REST infer: parameter latency_budget_ms = 18446744073709551616": (
        "to Triton it is a parameter like any; as a budget it is more than a week, and a mistake"
    ),
    "REST infer: an unknown parameter": _BUSINESS,
    "REST health": _BODY,
    "REST model ready": _BODY,
    "REST model ready: sum abc": _VERSION,
    "REST metadata: sum 1": "all versions are told that may be asked for, as the protocol has it",
    "REST metadata: sum abc": _VERSION,
    "REST config: sum abc": _VERSION,
    "REST stats: sum abc": _VERSION,
    "REST index: a list": _CALLER,
    "REST index: another repository": "there is one repository, and it has no name",
    "REST load": _FROM_NOWHERE,
    "REST load: no JSON": _CALLER,
    "REST unload": _FROM_NOWHERE,
    "REST trace: rate is a list": "a text and a list of one text are the same",
    "REST trace: level is a text": "a text and a list of one text are the same",
    "REST trace: level BOGUS": _MISSPELT,
    "REST trace: unknown setting": _MISSPELT,
    "REST trace: an empty body": "nothing is set by it, and so it is answered like a question",
    "REST logging: format bogus": _CALLER,
    "REST logging: info = null": "whether such lines are written is true or false",
    "REST logging: unknown setting": _MISSPELT,
    "REST system memory: register again": "409 is HTTP's status for it",
    "REST CUDA memory: register": (
        "Triton has CUDA, though no GPU here, and finds the handle wrong; gearshift says that there"
        " is none"
    ),
    "REST GET /v3": "what is not of this protocol is answered in plain text",
    "REST HEAD": "who may GET may ask for the head of it (RFC 9110)",
    "REST POST /v2/models/sum/generate": _NO_GENERATE,
}


def reason(case: str, ours: Outcome, theirs: Outcome) -> str:
    """Why these outcomes of a case differ; "" where nothing explains it."""
    fitting = [begin for begin in REASONS if case.startswith(begin)]
    if fitting:
        return REASONS[max(fitting, key=len)]
    if case.startswith("REST") and (ours["status"], theirs["status"]) == ("400", "500"):
        return _CALLER
    return ""
