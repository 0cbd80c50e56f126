"""An image as a container, without a daemon: buildah unpacks it, runc runs it.

It is held as tightly as a strict cluster would: a read-only root file system, no capability, no
new privileges, a memory limit, /state and /dev/shm in memory. Only the network is the machine's
own, so that a client outside reaches it. Needs root.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MIB = 1 << 20
BUILDAH = "buildah"
RUNC = "runc"


def output(*command: str | Path, within: float = 120) -> str:
    """What a command prints; CalledProcessError where it fails."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=within)
    return done.stdout.strip()


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Image:
    """An image, unpacked at `root`; `config` is what it says about how to run it."""

    name: str
    root: Path
    config: dict[str, Any]


@contextmanager
def unpacked(name: str) -> Iterator[Image]:
    """The image's file system, gone again afterwards."""
    told = json.loads(output(BUILDAH, "inspect", "--type", "image", name))
    container = output(BUILDAH, "from", "--pull-never", name)
    try:
        root = Path(output(BUILDAH, "mount", container))
        yield Image(name, root, told["Docker"]["config"])
    finally:
        output(BUILDAH, "rm", container)


@dataclass
class Container:
    """A running container; `process` is runc in the foreground, which ends as it does."""

    name: str
    place: Path
    grpc_port: int
    http_port: int
    process: subprocess.Popen[str] = field(init=False)

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def page(self, path: str) -> str:
        """A page over HTTP; OSError where there is none."""
        address = f"http://127.0.0.1:{self.http_port}{path}"
        with urllib.request.urlopen(address, timeout=10) as response:
            text: str = response.read().decode()
            return text

    def runc(self, *arguments: str) -> list[str]:
        return [RUNC, "--root", str(self.place / "runc"), *arguments]

    def signal(self, name: str) -> None:
        output(*self.runc("kill", self.name, name))

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as the image's user."""
        return subprocess.run(
            self.runc("exec", self.name, *command),
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def most_memory(self) -> int:
        """Bytes: the most that was charged to it so far, files in /state included."""
        told = json.loads(output(*self.runc("events", "--stats", self.name)))
        most: int = told["data"]["memory"]["usage"]["max"]
        return most


@contextmanager
def container(
    image: Image,
    *arguments: str,
    models: Path | None = None,
    state: Path | None = None,
    memory: int = 512 * MIB,
    **environment: str,
) -> Iterator[Container]:
    """Run the image, with `arguments` instead of its own command if there are any, until this ends.

    `models` and `state` are folders of this machine; without `state`, it is in memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        made = Container(f"gearshift-{place.name}", place, free_port(), free_port())
        environment |= {
            "GEARSHIFT_GRPC_PORT": str(made.grpc_port),
            "GEARSHIFT_HTTP_PORT": str(made.http_port),
            # The network of the test keeps others out.
            "GEARSHIFT_INSECURE": "true",
        }
        specification = _specification(image, list(arguments), environment, memory)
        for inside, outside in (("/models", models), ("/state", state)):
            if outside is not None:
                access = "ro" if inside == "/models" else "rw"
                specification["mounts"].append(
                    {"destination": inside, "source": str(outside), "options": ["bind", access]}
                )
        (place / "config.json").write_text(json.dumps(specification))
        with (place / "stderr").open("w") as stderr:
            made.process = subprocess.Popen(
                made.runc("run", "--bundle", folder, made.name),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        try:
            yield made
        finally:
            # runc in the foreground clears up once its container has ended.
            for last in (["kill", made.name, "KILL"], ["delete", "--force", made.name]):
                if made.process.poll() is None:
                    subprocess.run(
                        made.runc(*last), check=False, timeout=30, stderr=subprocess.DEVNULL
                    )
                    with suppress(subprocess.TimeoutExpired):
                        made.process.wait(30)
            if made.process.stdout is not None:
                made.process.stdout.close()


def _specification(
    image: Image,
    arguments: list[str],
    environment: dict[str, str],
    memory: int,
) -> dict[str, Any]:
    """The OCI runtime specification of the container."""
    user, _, group = image.config["User"].partition(":")
    command = [*image.config["Entrypoint"], *(arguments or image.config["Cmd"])]
    variables = [f"{name}={value}" for name, value in environment.items()]
    mounts = [
        _mount("/proc", "proc"),
        _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=64k"),
        _mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=64m"),
        _mount("/state", "tmpfs", "nosuid", "noexec", "nodev", "mode=777", "size=64m"),
    ]
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(image.root), "readonly": True},
        "mounts": mounts,
        "process": {
            "user": {"uid": int(user), "gid": int(group)},
            "args": command,
            "env": [*image.config["Env"], *variables],
            "cwd": image.config["WorkingDir"],
            "noNewPrivileges": True,
        },
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "resources": {"memory": {"limit": memory}},
            "cgroupsPath": f"/gearshift-{os.getpid()}-{os.urandom(4).hex()}",
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def _mount(place: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": place, "type": kind, "source": kind, "options": list(options)}
