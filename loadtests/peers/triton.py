"""Triton from the binary in PyPI's nvidia-pytriton: C++ front end, its own dynamic batching, and
ONNX Runtime in its Python backend (the binary comes without Triton's ONNX Runtime backend)."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loadtests.peers.models import Model
from loadtests.peers.peer import HERE, Absent, Launch, Peer, Place, install
from loadtests.peers.processes import free_port

CORES = os.cpu_count() or 1

STUB = "triton_python_backend_stub"
CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: {batch}
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ {inputs} ] }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ {outputs} ] }} ]
instance_group [ {{ kind: KIND_CPU count: {instances} }} ]
parameters: {{ key: "artifact" value: {{ string_value: "{artifact}" }} }}
{batching}
"""


@dataclass(frozen=True, slots=True)
class Batching:
    """`batch` 0: as many rows as the model allows."""

    policy: str
    batch: int = 0


DYNAMIC = Batching("dynamic_batching { }")


def queued(timeout_ms: int, most: int, batch: int) -> Batching:
    """A request is refused once it has waited so long, or when so many wait already."""
    return Batching(
        "dynamic_batching { default_queue_policy {"
        f" timeout_action: REJECT default_timeout_microseconds: {1000 * timeout_ms}"
        f" max_queue_size: {most} }} }}",
        batch,
    )


def as_ever(model: Model) -> Batching:
    return DYNAMIC


# By hand, for the traffic of `load`: fraud has 10 ms; a reading of 30 ms must begin 70 ms before
# its 250 are over (two share the machine with fraud), and in batches none would be in time.
TUNED: Mapping[str, Batching] = {
    "tiny": queued(8, 64, 64),
    "mid": DYNAMIC,
    "big": queued(180, 12, 1),
}


def prepare(name: str, batching: Callable[[Model], Batching], place: Place) -> None:
    install(place, "triton")
    site = site_packages(place)
    stub = site / f"pytriton/tritonserver/python_backend_stubs/{python_version()}" / STUB
    if not stub.exists():
        raise Absent(f"it has no Python backend for Python {python_version()}")
    backends = place.folder / "triton-backends" / "python"
    if not (backends / STUB).exists():
        shutil.copytree(
            site / "pytriton/tritonserver/backends/python", backends, dirs_exist_ok=True
        )
        shutil.copy(stub, backends)
        (backends / STUB).chmod(0o755)
    for files in place.models.values():
        model, policy = files.model, batching(files.model)
        folder = place.folder / name / model.name
        (folder / "1").mkdir(parents=True, exist_ok=True)
        # The backend's interpreter does not look into the virtual environment by itself.
        found = f"import sys\n\nsys.path.insert(0, {str(site)!r})\n"
        (folder / "1" / "model.py").write_text(found + (HERE / "triton_model.py").read_text())
        (folder / "config.pbtxt").write_text(
            CONFIG.format(
                name=model.name,
                batch=policy.batch or model.max_batch,
                inputs=", ".join(map(str, model.shape)),
                outputs=model.outputs,
                instances=CORES,
                artifact=files.artifact,
                batching=policy.policy,
            )
        )


def launch(name: str, place: Place, port: int) -> Launch:
    site = site_packages(place)
    return Launch(
        (
            *(
                str(site / "pytriton/tritonserver/bin/tritonserver"),
                "--disable-auto-complete-config",
            ),
            f"--model-repository={place.folder / name}",
            f"--backend-directory={place.folder / 'triton-backends'}",
            *("--grpc-address=127.0.0.1", f"--grpc-port={port}"),
            *("--allow-http=false", f"--metrics-port={free_port()}"),
        ),
        {"LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs")},
    )


def python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def site_packages(place: Place) -> Path:
    return place.folder / "triton" / "lib" / f"python{python_version()}" / "site-packages"


TRITON = Peer(
    "triton",
    "Triton 2.51, dynamic batching, Python backend",
    partial(prepare, "triton-models", as_ever),
    partial(launch, "triton-models"),
)
TRITON_TUNED = Peer(
    "triton-tuned",
    "Triton 2.51, queue policies and timeouts",
    partial(prepare, "triton-tuned-models", lambda model: TUNED[model.name]),
    partial(launch, "triton-tuned-models"),
)
