"""Models are exchanged under traffic, driven from outside only."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException

from onnx_models import TWO_VARIANTS, row_sum
from serving import Server, start, stop

WITHIN = 20.0
ONE_VARIANT = TWO_VARIANTS.partition('[[variants]]\nname = "small"')[0]

SETTLE = ("--set", "watch_settle_seconds=0.3")


class Repository:
    """Every generation of `sums` multiplies by another number, so that answers tell whose they
    are."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "repo"
        self.put("sums", 1)

    def put(self, name: str, scale: int, toml: str = TWO_VARIANTS) -> None:
        """Copied beside and renamed, as docs/reload.md has it."""
        made = self.root / f".{name}"
        for variant in ("large", "small"):
            row_sum(made / variant / "model.onnx", float(scale))
        (made / "model.toml").write_text(toml)
        shutil.rmtree(self.root / name, ignore_errors=True)
        made.rename(self.root / name)


def ask(client: triton.InferenceServerClient, name: str = "sums") -> float:
    rows = triton.InferInput("x", [1, 3], "FP32")
    rows.set_data_from_numpy(np.ones((1, 3), np.float32))
    return float(client.infer(name, [rows], client_timeout=20).as_numpy("y")[0, 0]) / 3


class Traffic:
    """Asks for `sums` without pause on a connection of its own."""

    def __init__(self, address: str) -> None:
        self.seen: Counter[float] = Counter()
        self.failed: list[str] = []
        self._address = address
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(WITHIN)

    def _ask(self) -> None:
        own = [("grpc.use_local_subchannel_pool", 1)]
        with triton.InferenceServerClient(self._address, channel_args=own) as client:
            while not self._ending.is_set():
                try:
                    self.seen[ask(client)] += 1
                except InferenceServerException as error:
                    self.failed.append(str(error))


def until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + WITHIN
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_model_is_exchanged_under_traffic_and_a_bad_generation_changes_nothing(tmp_path):
    repository = Repository(tmp_path)
    options = ("--repository", str(repository.root), "--state-dir", str(tmp_path / "state"))
    server = start(*options, "--watch", *SETTLE)
    try:
        with triton.InferenceServerClient(server.grpc) as client, Traffic(server.grpc) as traffic:
            until(lambda: traffic.seen[1.0])
            repository.put("sums", 2)
            client.load_model("sums", client_timeout=WITHIN)
            assert ask(client) == 2.0

            repository.put("sums", 3, TWO_VARIANTS.replace("max_batch_size = 4", "max_batch = 4"))
            with pytest.raises(InferenceServerException, match="did you mean 'max_batch_size'"):
                client.load_model("sums", client_timeout=WITHIN)
            assert ask(client) == 2.0

            repository.put("sums", 4)
            os.kill(server.process.pid, signal.SIGHUP)
            until(lambda: ask(client) == 4.0)

            repository.put("sums", 5)
            repository.put("more", 7, ONE_VARIANT)
            until(lambda: ask(client) == 5.0 and client.is_model_ready("more"))
            client.unload_model("more", client_timeout=WITHIN)
            assert not client.is_model_ready("more")
            until(lambda: server.samples("gearshift_generations") == {("sums",): 1.0})
            reloads = server.samples("gearshift_reloads_total", model="sums")
            assert reloads[("failed",)] >= 1
            assert reloads[("loaded",)] == 3
            assert server.samples("gearshift_catalog_generation")[()] >= 5
        assert traffic.failed == []
        assert {1.0, 2.0, 4.0, 5.0} <= traffic.seen.keys()
        assert 3.0 not in traffic.seen
    finally:
        assert stop(server) == 0


def digests(server: Server) -> set[str]:
    return {
        sample.labels["digest"]
        for family in text_string_to_metric_families(server.page())
        for sample in family.samples
        if sample.name == "gearshift_catalog_info"
    }


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes must not share a core")
def test_all_processes_serve_the_same_afterwards_those_too_that_are_replaced(tmp_path):
    repository = Repository(tmp_path)
    for name in ("sums", "more"):
        repository.put(name, 1, ONE_VARIANT)
    options = ("--repository", str(repository.root), "--state-dir", str(tmp_path / "state"))
    server = start(*options, "--processes", "2", "--workers", "2")
    own = [("grpc.use_local_subchannel_pool", 1)]
    try:
        # Connections go to the process with the fewest: one each.
        with (
            triton.InferenceServerClient(server.grpc, channel_args=own) as one,
            triton.InferenceServerClient(server.grpc, channel_args=own) as other,
            Traffic(server.grpc) as traffic,
        ):
            assert ask(one) == ask(other) == 1.0
            repository.put("sums", 2, ONE_VARIANT)
            one.load_model("sums", client_timeout=WITHIN)
            assert ask(one) == ask(other) == 2.0
            other.unload_model("more", client_timeout=WITHIN)
            assert not one.is_model_ready("more")
            with pytest.raises(InferenceServerException, match="no folder 'nobody'"):
                other.load_model("nobody", client_timeout=WITHIN)
            repository.put("sums", 3, ONE_VARIANT)
            os.kill(server.process.pid, signal.SIGHUP)
            until(lambda: ask(one) == ask(other) == 3.0)
        assert traffic.failed == []
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        first = int(children.read_text().split()[0])
        os.kill(first, signal.SIGKILL)
        until(lambda: server.samples("gearshift_processes_replaced_total") == {(): 1.0})
        until(lambda: server.samples("gearshift_processes", state="serving") == {(): 2.0})
        until(lambda: len(digests(server)) == 1)
        for _ in range(4):
            with triton.InferenceServerClient(server.grpc, channel_args=own) as client:
                assert ask(client) == 3.0
                assert not client.is_model_ready("more")
    finally:
        assert stop(server) == 0
