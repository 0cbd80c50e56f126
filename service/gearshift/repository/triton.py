"""Models as they lie in a Triton repository: `config.pbtxt`, and a folder for each version.

What its configuration says is put into the words of `model.toml`, and from there on it is a model
like any other: its versions are variants, named by their numbers. What changes what a model does,
and is not served, is a mistake; what only tunes Triton is noted and passed over. After Triton's
document of the model configuration
(https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from gearshift.repository.files import ABSENT, Root, read_text
from gearshift.repository.findings import Findings
from gearshift.repository.schema import MOST_CLASSES, MOST_VARIANTS

CONFIG = "config.pbtxt"

ACCURACY, METRIC = "gearshift_accuracy", "gearshift_metric"
"""Keys of `parameters` for what Triton has no words for; the first also with `_<version>`."""

EXECUTORS = {
    "onnxruntime": "onnx",
    "onnxruntime_onnx": "onnx",
    "pytorch": "torch",
    "pytorch_libtorch": "torch",
}
"""By backend, or by the older platform."""

FILES = {"onnx": "model.onnx", "torch": "model.pt2"}

_REFUSED = {
    "ensemble_scheduling": "ensembles are not served; let callers ask one model after the other",
    "sequence_batching": "sequences with state are not served",
    "model_transaction_policy": "models that answer once, or never, or often are not served",
    "cc_model_filenames": "files by compute capability are not served",
}
"""By field: why a model with it is another model than what would be served here."""

_PASSED_OVER = {
    "instance_group": "workers are a setting of the server (workers), for all models together",
    "optimization": "graphs are always optimized; providers are a setting of the server",
    "model_warmup": "every variant is warmed up at its smallest and largest batch",
    "batch_input": "",
    "response_cache": "answers are not cached",
    "model_operations": "libraries of operators are not loaded",
}


def is_triton(folder: Path) -> bool:
    """Whether the folder looks like a model of a Triton repository."""
    return (folder / CONFIG).is_file() or any(_numbered(folder))


def _numbered(folder: Path) -> Iterator[int]:
    try:
        for path in folder.iterdir():
            if path.name.isdigit() and path.name[0] != "0" and path.is_dir():
                yield int(path.name)
    except OSError:
        return


def document_of(root: Root, folder: Path, findings: Findings) -> dict[str, Any] | None:
    """The same as a document of `model.toml`; None, with what is wrong, if there is no such."""
    path = folder / CONFIG
    file = root.relative(path)
    config: Any = model_config_pb2.ModelConfig()
    if root.complaint(path) != ABSENT:
        try:
            text_format.Parse(read_text(root, path), config)
        except (text_format.ParseError, ValueError, RecursionError) as error:
            findings.add(file, "", f"is no model configuration: {error}")
            return None
    if config.name and config.name != folder.name:
        findings.add(file, "name", f"{config.name!r} is not the folder's name, {folder.name!r}")
    refused = [name for name in _REFUSED if _given(config, name)]
    for name in refused:
        findings.add(file, name, _REFUSED[name])
    for name, why in _PASSED_OVER.items():
        if _given(config, name):
            findings.note(file, name, f"is passed over: {why}" if why else "is passed over")
    executor = _executor(config, folder, file, findings)
    versions = _versions(config, sorted(_numbered(folder)), file, findings)
    if executor is None or refused or not versions:
        return None
    return {
        "metric": _parameter(config, METRIC) or "undeclared",
        "max_batch_size": config.max_batch_size or 1,
        **_classes(config, file, findings),
        "variants": [
            {
                "name": str(version),
                "version": version,
                "executor": executor,
                **_accuracy(config, folder, version, len(versions), file, findings),
            }
            for version in versions
        ],
    }


def _given(config: Any, name: str) -> bool:
    field = config.DESCRIPTOR.fields_by_name.get(name)
    return field is not None and any(each.name == name for each, _ in config.ListFields())


def _executor(config: Any, folder: Path, file: str, findings: Findings) -> str | None:
    named = config.backend or config.platform
    if not named:
        # As Triton guesses where nothing is said.
        for known, name in FILES.items():
            if next(folder.glob(f"*/{name}"), None) is not None:
                return known
        findings.add(
            file, "backend", f"is not given, and no version has {' or '.join(FILES.values())}"
        )
        return None
    executor = EXECUTORS.get(named)
    if executor is None:
        findings.add(
            file,
            "backend" if config.backend else "platform",
            f"{named!r} is not served here; served are ONNX files (onnxruntime) and programs of"
            " torch.export (pytorch). Export the model, or leave it to a Triton behind this server"
            " (docs/remote.md)",
        )
        return None
    wanted = FILES[executor]
    if config.default_model_filename not in ("", wanted):
        findings.add(
            file,
            "default_model_filename",
            f"{config.default_model_filename!r} is not served; call the file {wanted!r}",
        )
    return executor


def _versions(config: Any, there: Sequence[int], file: str, findings: Findings) -> Sequence[int]:
    """Those that the version policy serves: where it says nothing, the latest."""
    if not there:
        findings.add(file, "", "there are no folders of versions (1, 2, ...) beside it")
        return ()
    policy = config.version_policy
    if policy.WhichOneof("policy_choice") == "all":
        chosen = there
    elif policy.WhichOneof("policy_choice") == "specific":
        chosen = sorted(set(policy.specific.versions))
        missing = [version for version in chosen if version not in there]
        if missing:
            findings.add(
                file,
                "version_policy.specific",
                f"there is no folder for version {missing[0]}; there are"
                f" {', '.join(map(str, there))}",
            )
            return ()
    else:
        chosen = there[-max(1, policy.latest.num_versions) :]
    if len(chosen) > MOST_VARIANTS:
        findings.add(file, "version_policy", f"serves more than {MOST_VARIANTS} versions")
        return ()
    return chosen


def _classes(config: Any, file: str, findings: Findings) -> dict[str, Any]:
    """One for each of Triton's priority levels, or only one, with the budgets that the queues have
    there."""
    batching = config.dynamic_batching
    if batching.max_queue_delay_microseconds or batching.preferred_batch_size:
        findings.note(
            file,
            "dynamic_batching",
            "is passed over: how long a batch waits and how large it is follow from the deadlines"
            " of those in it",
        )
    levels, policies = batching.priority_levels, batching.priority_queue_policy
    if levels > MOST_CLASSES:
        key = "dynamic_batching.priority_levels"
        findings.note(file, key, f"are passed over: there are more than {MOST_CLASSES}")
    if not 0 < levels <= MOST_CLASSES:
        return {
            "default_class": "default",
            "classes": {"default": _class(batching.default_queue_policy)},
        }
    named = {level: f"priority-{level}" for level in range(1, levels + 1)}
    return {
        # Triton demands one of them; what is none is told as a missing class.
        "default_class": f"priority-{batching.default_priority_level}",
        "classes": {
            name: {
                **_class(policies.get(level, batching.default_queue_policy)),
                "priority": level,
            }
            for level, name in named.items()
        },
    }


def _class(policy: Any) -> dict[str, Any]:
    """With the budget that the queue has, if it has one."""
    told: dict[str, Any] = {}
    if policy.default_timeout_microseconds:
        told["budget_ms"] = policy.default_timeout_microseconds / 1e3
        if policy.timeout_action == policy.DELAY:
            told["late"] = "serve"
    return told


def _accuracy(
    config: Any, folder: Path, version: int, count: int, file: str, findings: Findings
) -> dict[str, float]:
    """What is declared for one version, where no card has measured it."""
    key = f"{ACCURACY}_{version}"
    text = _parameter(config, key) or _parameter(config, ACCURACY)
    if text:
        try:
            return {"accuracy": float(text)}
        except ValueError:
            findings.add(file, f"parameters.{key}", f"{text[:50]!r} is no number")
            return {}
    if (folder / str(version) / "card.json").exists():
        return {}
    if count == 1:
        findings.note(
            file,
            "parameters",
            f"tell no {ACCURACY}: the only version is taken to have 1.0, as there is nothing to"
            " choose",
        )
        return {"accuracy": 1.0}
    findings.add(
        file,
        "parameters",
        f"tell no {key}, and there is no {version}/card.json: with several versions, each has to"
        f' say how accurate it is: parameters {{ key: "{key}" value {{ string_value: "0.9" }} }}',
    )
    return {}


def _parameter(config: Any, key: str) -> str:
    return str(config.parameters[key].string_value) if key in config.parameters else ""
