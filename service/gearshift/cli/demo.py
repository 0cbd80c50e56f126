"""`gearshift demo`: a server in its own process, a stock client in this one."""

from __future__ import annotations

import asyncio
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

from gearshift.app.settings import Settings
from gearshift.demo.report import account, metrics_lines, refusals, report
from gearshift.demo.traffic import SCENES, Result, Samples, Scene, play
from gearshift.errors import ConfigurationInvalid

START_WITHIN = 300.0
"""Seconds: the first start measures every variant."""
STOP_WITHIN = 60.0


def run_demo(settings: Settings, out: Console) -> bool:
    """Serve, send, show, stop. True if every request is accounted for."""
    needed = {
        scene.model: "model.toml" if scene.model == "text" else "samples.npz" for scene in SCENES
    }
    missing = [
        f"{model}/{name}"
        for model, name in needed.items()
        if not (settings.repository / model / name).is_file()
    ]
    if missing:
        raise ConfigurationInvalid(
            f"the demo needs {', '.join(sorted(missing))} in"
            f" {settings.repository}; give the shipped model_repo as --repository"
        )
    out.rule("gearshift demo")
    out.print("starting a server (the first start measures every variant on this machine) ...")
    begun = time.perf_counter()
    with _server(settings) as (grpc_address, http_address):
        out.print(
            f"ready after {time.perf_counter() - begun:.1f} s: gRPC on {grpc_address},"
            f" metrics on {http_address}/metrics",
            highlight=False,
        )
        played = asyncio.run(_play_all(settings, grpc_address, out))
        with urllib.request.urlopen(f"{http_address}/metrics", timeout=10) as response:
            exposition = response.read().decode()
    metric_of = {scene.model: _metric(settings, scene.model) for scene in SCENES}
    out.print(report(played, metric_of))
    out.print("\nThe first refusal of each kind says why:")
    for line in refusals(played):
        out.print(f"  {line}", highlight=False, markup=False)
    out.print("\nWhat /metrics says (lines that are not zero):")
    for line in metrics_lines(exposition):
        out.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    problems = account(played, exposition)
    for problem in problems:
        out.print(f"NOT ACCOUNTED FOR: {problem}", style="red", highlight=False)
    sent = sum(scene.requests for scene in SCENES)
    if not problems:
        out.print(
            f"\nThe server stopped cleanly; all {sent} requests are accounted for.",
            style="green",
            highlight=False,
        )
    return not problems


async def _play_all(
    settings: Settings, address: str, out: Console
) -> list[tuple[Scene, Samples, list[Result]]]:
    played: list[tuple[Scene, Samples, list[Result]]] = []
    with Progress(console=out, transient=True) as bar:
        for scene in SCENES:
            task = bar.add_task(scene.title, total=scene.requests)
            samples = Samples(settings.repository, scene.model)
            seen = [
                r.accuracy for before, _, rs in played if before.model == scene.model for r in rs
            ]
            results = await play(
                scene,
                samples,
                address,
                max(seen, default=0.0),
                lambda task=task: bar.advance(task),  # type: ignore[misc]
            )
            played.append((scene, samples, results))
            bar.remove_task(task)
    return played


def _metric(settings: Settings, model: str) -> str:
    with (settings.repository / model / "model.toml").open("rb") as file:
        return str(tomllib.load(file)["metric"])


@contextmanager
def _server(settings: Settings) -> Iterator[tuple[str, str]]:
    """A server on free ports; yields its two addresses, and ends it with SIGTERM."""
    command = [
        *(sys.executable, "-m", "gearshift", "serve"),
        *("--repository", str(settings.repository)),
        *("--state-dir", str(settings.state_dir)),
        *("--workers", str(settings.workers)),
        *("--grpc-port", "0", "--http-port", "0", "--log-level", "warning"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield _addresses(process)
        process.send_signal(signal.SIGTERM)
        code = process.wait(STOP_WITHIN)
        if code != 0:
            raise ConfigurationInvalid(f"the server ended with exit code {code}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _addresses(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Both addresses from the server's one line, within START_WITHIN seconds."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], START_WITHIN)
    line = process.stdout.readline() if readable else ""
    match = re.search(r"gRPC on (\S+), metrics on (\S+)/metrics", line)
    if match is None:
        raise ConfigurationInvalid("the server did not start; its messages stand above")
    return match[1], match[2]
