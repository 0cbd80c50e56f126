"""Why gearshift answers otherwise than Triton: by case, or by how the names of cases begin."""

from __future__ import annotations

_BUSINESS = "a parameter that nobody knows may be a misspelt budget, which must not be ignored"
_MISSPELT = "a misspelt setting must not look as if it held"
_LOST = "what was sent would be lost without a word"

REASONS: dict[str, str] = {
    "infer: no id, but is there one?": "every answer has an id: feedback names it later",
    "infer: a deadline shorter than the run": (
        "that no variant is so fast is known when it comes: it is refused at once, and not run"
    ),
    "infer: NaN and infinity": (
        "an answer that is not finite is not given; inputs that make it so are a mistake"
    ),
    "infer: two outputs, other order": "outputs come in the order in which they are asked for",
    "infer: the same output twice": "outputs are told apart by their names",
    "RepositoryModel": (
        "models are loaded and unloaded where there is a repository on disk, and the server of this"
        " suite has its models from nowhere"
    ),
    "infer: INT8 out of range": "Triton cuts the number to its lowest byte",
    "infer: one raw contents too many": _LOST,
    "infer: parameter timeout = -1": "a time below 0 is a mistake",
    "infer: parameter nobody_knows": _BUSINESS,
    "infer: an unknown parameter of an input": _BUSINESS,
    "stream: an error": "the final flag says that nothing more comes of this request, errors too",
    "stream: an error, strictly": (
        "as Triton documents it; 2.51 does it only for errors of a run, not before one"
    ),
    "TraceSetting: rate of a model": "what is traced is set for all models together",
    "TraceSetting: level TENSORS": "what is in tensors is not traced",
    "TraceSetting: count = 5": "spans are not counted down",
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
}


def reason(case: str) -> str:
    """ "" where nothing explains a difference in this case."""
    fitting = [begin for begin in REASONS if case.startswith(begin)]
    return REASONS[max(fitting, key=len)] if fitting else ""
