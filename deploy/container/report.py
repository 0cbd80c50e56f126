"""What the image weighs and how it starts, as a page: `make bench-image`.

Needs what `make image` made, root, buildah and runc.
"""

from __future__ import annotations

import argparse
import json
import select
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from deploy.container.running import BUILDAH, MIB, Container, Image, container, output, unpacked

SITE = "usr/local/lib/python3.13/dist-packages"
LIMIT = 512 * MIB
ROUNDS = 3


def size(paths: list[Path]) -> float:
    """MiB on disk of files and of everything in folders."""
    found = [inner for path in paths for inner in (path, *path.rglob("*"))]
    return sum(each.lstat().st_blocks * 512 for each in found) / MIB


def compressed(name: str) -> list[tuple[str, float]]:
    """The layers, oldest first, as a registry would send them: the step that made it, MiB."""
    with tempfile.TemporaryDirectory() as folder:
        output(BUILDAH, "push", "--quiet", name, f"oci:{folder}:it", within=600)
        blobs = Path(folder) / "blobs" / "sha256"

        def read(digest: str) -> dict:
            return json.loads((blobs / digest.removeprefix("sha256:")).read_text())

        index = json.loads((Path(folder) / "index.json").read_text())
        manifest = read(index["manifests"][0]["digest"])
        steps = read(manifest["config"]["digest"])["history"]
        made = [each["created_by"] for each in steps if not each.get("empty_layer")]
        sizes = [each["size"] / MIB for each in manifest["layers"]]
        return list(zip(made, sizes, strict=True))


def parts(image: Image) -> list[tuple[str, float]]:
    """What the unpacked image is made up of, largest first."""
    site = image.root / SITE
    rows = {"Python's bytecode": size(list((image.root / "usr").rglob("__pycache__")))}
    for name in ("onnxruntime", "numpy", "grpc", "sqlalchemy", "ml_dtypes", "uvloop", "gearshift"):
        rows[name] = size([*site.glob(name), *site.glob(f"{name}.libs")])
    rows["psycopg with libpq"] = size(list(site.glob("psycopg*")))
    rows["the other wheels"] = size([site]) - sum(list(rows.values())[1:])
    rows["Debian: Python, libc, OpenSSL, ..."] = size([image.root / "usr"]) - size([site])
    return sorted(rows.items(), key=lambda row: -row[1])


def until(done: Callable[[], bool], within: float = 300.0) -> None:
    end = time.monotonic() + within
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {within:g} s")
        time.sleep(0.005)


def answers(running: Container) -> bool:
    try:
        return bool(running.page("/healthz"))
    except OSError:
        return False


def start(image: Image, state: Path | None, **environment: str) -> tuple[float, float, float]:
    """Seconds until HTTP answers and until it is ready, and the most MiB it was charged with."""
    began = time.monotonic()
    with container(image, state=state, memory=LIMIT, **environment) as running:
        until(lambda: answers(running))
        listening = time.monotonic() - began
        readable, _, _ = select.select([running.process.stdout], [], [], 300)
        if not readable or not running.process.stdout.readline():
            raise RuntimeError((running.place / "stderr").read_text())
        ready = time.monotonic() - began
        return listening, ready, running.most_memory() / MIB


def health_cost(image: Image) -> float:
    """Seconds that `gearshift health` takes inside, the best of several."""
    with container(image, memory=LIMIT) as running:
        running.process.stdout.readline()
        took = []
        for _ in range(ROUNDS):
            began = time.monotonic()
            running.execute("gearshift", "health").check_returncode()
            took.append(time.monotonic() - began)
        return min(took)


def without_bytecode(image: Image) -> Image:
    """The same, but told to look for bytecode where there is none."""
    variables = [*image.config["Env"], "PYTHONPYCACHEPREFIX=/nowhere"]
    return Image(image.name, image.root, image.config | {"Env": variables})


def page(name: str) -> str:
    with unpacked(f"{name}-demo") as image, tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        state.chmod(0o777)
        first = start(image, state)
        later = [start(image, state) for _ in range(ROUNDS)]
        bare = [start(without_bytecode(image), state) for _ in range(ROUNDS)]
        health = health_cost(image)
    with unpacked(name) as image:
        weights = parts(image)
        total = size([image.root])
    layers = compressed(name)
    rows = [("first start, all variants measured", [first]), ("profiles kept in /state", later)]
    rows.append(("the same without bytecode in the image", bare))
    return "\n".join(
        [
            "# The container image",
            "",
            "Made by `make bench-image` (`deploy/container/report.py`) on 2 cores AMD EPYC (AVX2),"
            " 24 GiB, Debian 12; the image has Debian 13 and Python 3.13.",
            "",
            f"**{sum(mib for _, mib in layers):.0f} MiB to pull, {total:.0f} MiB unpacked**"
            " (amd64, CPU, without models).",
            "",
            "| layer | MiB to pull |",
            "| --- | ---: |",
            *(f"| {label} | {mib:.1f} |" for label, (_, mib) in zip(LAYERS, layers, strict=True)),
            "",
            "| unpacked | MiB |",
            "| --- | ---: |",
            *(f"| {what} | {mib:.0f} |" for what, mib in weights),
            "",
            "Bytecode is counted once more under what it belongs to.",
            "",
            f"Time until ready, five models with their variants, two cores, {LIMIT // MIB} MiB of"
            f" memory, read-only root file system; the best of {ROUNDS}, the first start once:",
            "",
            "| start | HTTP answers, s | ready, s | most memory, MiB |",
            "| --- | ---: | ---: | ---: |",
            *(
                f"| {what} | {min(each[0] for each in runs):.1f}"
                f" | {min(each[1] for each in runs):.1f} | {max(each[2] for each in runs):.0f} |"
                for what, runs in rows
            ),
            "",
            f"`gearshift health` inside takes {health:.1f} s.",
            "",
        ]
    )


LAYERS = ("Debian's packages", "Python's packages", "gearshift")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    (options.out / "container.md").write_text(page(options.image))


if __name__ == "__main__":
    main()
