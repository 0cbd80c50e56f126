"""A gearshift in front of another one: requests go there while it is there, and lose nothing when
it is killed under load."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from onnx_models import TWO_VARIANTS, row_sum
from serving import Server, start, stop

FRONT = TWO_VARIANTS.replace('executor = "onnx"', 'executor = "triton"', 1)
NOTICED_WITHIN = 2.0


@pytest.fixture
def repositories(tmp_path):
    """`back` has both variants; in `front`, `large` is that of `back`."""
    for name in ("front", "back"):
        folder = tmp_path / name / "sums"
        row_sum(folder / "large" / "model.onnx")
        row_sum(folder / "small" / "model.onnx")
        (folder / "model.toml").write_text(TWO_VARIANTS)
    (tmp_path / "front" / "sums" / "model.toml").write_text(FRONT)
    return tmp_path


def back(place, port: str = "0") -> Server:
    return start(
        *("--repository", str(place / "back"), "--state-dir", str(place / "back-state")),
        *("--grpc-port", port),
    )


def point(place, far: Server) -> None:
    """The front's `large` is on that server."""
    text = f'servers = ["{far.grpc}"]\n'
    (place / "front" / "sums" / "large" / "remote.toml").write_text(text)


class Callers:
    """Four that ask without pause."""

    def __init__(self, address: str) -> None:
        self.seen: Counter[str] = Counter()
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(address,)) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def _ask(self, address: str) -> None:
        rows = triton.InferInput("x", [1, 3], "FP32")
        rows.set_data_from_numpy(np.ones((1, 3), np.float32))
        with triton.InferenceServerClient(address) as client:
            while not self._ending.is_set():
                try:
                    answer = client.infer("sums", [rows], client_timeout=20)
                    good = answer.as_numpy("y").tolist() == [[3.0]]
                    variant = answer.get_response().parameters["variant"].string_param
                    self.seen[variant if good else "wrong"] += 1
                except InferenceServerException as error:
                    self.seen[str(error)] += 1

    def wait_for(self, variant: str, more: int = 20, within: float = 20.0) -> float:
        """Seconds that it took."""
        begun, wanted = time.monotonic(), self.seen[variant] + more
        while self.seen[variant] < wanted:
            assert time.monotonic() - begun < within, self.seen
            time.sleep(0.005)
        return time.monotonic() - begun

    def end(self) -> Counter[str]:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        return self.seen


def kill(server: Server) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    server.process.stdout.close()


def test_nothing_is_lost_when_it_is_killed_and_its_return_is_noticed(repositories):
    far = back(repositories)
    point(repositories, far)
    front = start(
        *("--repository", str(repositories / "front")),
        *("--state-dir", str(repositories / "front-state")),
    )
    try:
        callers = Callers(front.grpc)
        callers.wait_for("large")
        kill(far)
        callers.wait_for("small")
        far = back(repositories, far.grpc.rpartition(":")[2])
        took = callers.wait_for("large", more=1)
        seen = callers.end()
        assert set(seen) == {"large", "small"}
        assert took < NOTICED_WITHIN
        assert front.samples("gearshift_worker_busy_seconds_total", device="remote")
    finally:
        assert stop(front) == 0
        stop(far)


def test_a_start_does_not_depend_on_it(repositories):
    far = back(repositories)
    point(repositories, far)
    options = ("--repository", str(repositories / "front"), "--state-dir", str(repositories / "s"))
    assert stop(start(*options)) == 0
    kill(far)
    front = start(*options)
    try:
        callers = Callers(front.grpc)
        callers.wait_for("small")
        assert set(callers.end()) == {"small"}
    finally:
        assert stop(front) == 0


def test_check_says_which_server_cannot_be_reached(repositories):
    (repositories / "front" / "sums" / "large" / "remote.toml").write_text(
        'servers = ["localhost:1"]\n'
    )
    ended = subprocess.run(
        [sys.executable, "-m", "gearshift", "check", "--repository", repositories / "front"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert "sums/large/remote.toml: cannot be served: no remote server says what its model" in (
        ended.stderr
    )
