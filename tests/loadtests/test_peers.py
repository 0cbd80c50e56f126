"""The parts of the comparison with other servers that need none of them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
from loadtests.peers import overload, page, records
from loadtests.peers.driver import Client, read_run
from loadtests.peers.environment import cpu_of
from loadtests.peers.load import FRAUD_RATE, cell_of, fraud_moments, medical_moments
from loadtests.peers.models import BIG, MID, TINY, answer_of, make, request_of, rows_of
from loadtests.peers.overload import Overload
from loadtests.peers.peer import HERE, Absent, Place, check
from loadtests.peers.plain import write_repository
from loadtests.peers.processes import (
    after_name,
    cpu_ticks,
    listening_sockets,
    members,
    open_sockets,
    pss_of,
)
from loadtests.peers.records import Closed, Open, Results, Server, spread
from loadtests.peers.throughput import write_plan
from tritonclient.grpc import service_pb2 as pb

from serving import gearshift

LINE = (
    '{"begun": 5.0, "seconds": 2.0, "client_cpu_s": 0.5, "lag_p50_ms": 0.01, "lag_p99_ms": 0.2,'
    ' "kinds": {'
    '"tiny": {"sent": 10, "right": 7, "wrong": 1, "p50_ms": 1.5, "p99_ms": 9.0,'
    ' "in_time": [6], "statuses": {"0": 8, "4": 2}}, "big": {"sent": 4, "right": 1, "wrong": 0,'
    ' "p50_ms": 30.0, "p99_ms": 30.0, "in_time": [0, 1], "statuses": {"0": 1, "4": 1, "8": 2}}}}'
)
ENVIRONMENT = {
    "cpu": "a processor",
    "flags": "avx2",
    "cores": "2",
    "memory": "8 GiB",
    "system": "Linux 6",
    "python": "3.11",
    "onnxruntime": "1",
    "grpcio": "1",
    "gearshift": "abc",
}


def cell(server: str, model: str, callers: int, number: int, rate: float) -> Closed:
    return Closed(server, model, callers, number, rate, 1.0, 2.0, 100.0, 0, 0)


def can_build_client() -> bool:
    if not all(map(shutil.which, ("make", "cc", "pkg-config"))):
        return False
    return subprocess.run(("pkg-config", "--exists", "libnghttp2"), check=False).returncode == 0


@pytest.fixture
def results() -> Results:
    found = Results("python -m loadtests.peers.throughput", dict(ENVIRONMENT), 2)
    found.servers = {
        "gearshift": Server("gearshift", 300.0, 0.5),
        "triton": Server("Triton", 800.0, 0.1),
        "kserve": Server("KServe", absent="it could not be installed"),
    }
    for number, (ours, its) in enumerate([(200.0, 100.0), (300.0, 100.0)]):
        for callers in (8, 64):
            found.closed.append(cell("gearshift", "mid", callers, number, ours / callers * 8))
            found.closed.append(cell("triton", "mid", callers, number, its))
    found.alone = {"mid": [400.0, 400.0]}
    found.open = [Open("gearshift", "mid", 50.0, 50.0, 50.0, 0.98, 2.0, 9.0, 0.03)]
    found.ceiling = {64: (150_000.0, 5.0)}
    return found


def test_the_client_s_line_is_read():
    run = read_run(LINE)
    assert (run.seconds, run.client_cpu, run.lag_p99_ms) == (2.0, 0.5, 0.2)
    assert run.kinds["tiny"].statuses == {0: 8, 4: 2}
    assert run.kinds["tiny"].failed == 2
    assert run.kinds["big"].in_time == 1


def test_a_cell_under_load_tells_refused_from_kept_waiting():
    told = cell_of(read_run(LINE), "triton", 2.0, 0, 2.0)
    assert (told.medical_offered, told.medical_in_time) == (2.0, 0.5)
    assert told.medical_by_variant == (0.0, 0.5)
    assert told.medical_refused == 0.5
    assert told.fraud_in_time == 0.6
    assert told.wrong == 1


def test_spread_of_rounds_and_of_nothing():
    assert spread([3.0, 1.0, 2.0]) == records.Spread(2.0, 1.0, 3.0)
    assert spread([]) is None


def test_ratios_are_taken_round_by_round(results):
    found = results.ratio("gearshift", "triton", "mid", (8, 64))
    assert (found.median, found.least, found.most) == (2.5, 2.0, 3.0)
    assert results.of_alone("gearshift", "mid", (8, 64)).median == 0.625
    assert results.ratio("gearshift", "triton", "tiny", (8, 64)) is None


def test_results_come_back_from_their_file(results, tmp_path):
    results.write(tmp_path / "results.json")
    assert records.read(tmp_path / "results.json") == results


def test_the_page_names_the_absent_and_what_failed(results):
    results.closed[0] = replace(results.closed[0], failed=3)
    results.ended = {"triton": 2}
    text = page.rendered(results)
    assert "KServe is absent: it could not be installed." in text
    assert "**3 failed or wrong**" in text
    assert "Triton crashed or hung (2x)" in text
    assert "| gearshift / Triton | - | 2.50 (2.00 to 3.00) | - |" in text
    for line in text.splitlines():
        assert not line.startswith("| KServe")


def test_both_pages_are_written_with_their_pictures(results, tmp_path):
    page.write(results, tmp_path)
    found = Overload("python -m loadtests.peers.load", dict(ENVIRONMENT), 70.0, 10.0, 1, True)
    found.titles = {"triton": "Triton", "kserve": "KServe"}
    found.absent = {"kserve": "it could not be installed"}
    found.cells = [cell_of(read_run(LINE), "triton", load, 0, 2.0) for load in (0.5, 1.0)]
    overload.write(found, tmp_path, 4.0, 0.1)
    text = (tmp_path / "peers-load.md").read_text()
    assert "| Triton | 0.5, 60.0 % | 0.5, 60.0 % |" in text
    assert "| Triton | 0.0 / 0.5 | 0.0 / 0.5 |" in text
    for name in ("peers.png", "peers-load.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    found.write(tmp_path / "load.json")
    assert overload.read(tmp_path / "load.json") == found


@pytest.mark.parametrize("model", [TINY, MID], ids=lambda model: model.name)
def test_a_model_answers_batches_and_its_files_agree(model, tmp_path):
    files = make(model, tmp_path)
    session = ort.InferenceSession(files.artifact, providers=["CPUExecutionProvider"])
    (values,) = session.run(None, {"x": rows_of(model, 3)})
    assert values.shape == (3, model.outputs)
    expected = np.fromfile(files.expected, np.float32)
    assert np.abs(expected).max() > 1e-2
    request = pb.ModelInferRequest.FromString(files.request.read_bytes())
    assert list(request.inputs[0].shape) == [1, *model.shape]
    check(pb.ModelInferResponse.FromString(files.answer.read_bytes()), files)
    with pytest.raises(Absent, match="wrong"):
        check(answer_of(model, expected.reshape(1, -1) + 1), files)


def test_a_typed_answer_is_as_good_as_a_raw_one(tmp_path):
    files = make(TINY, tmp_path)
    answer = pb.ModelInferResponse(model_name="tiny")
    answer.outputs.add(name="y", datatype="FP32", shape=[1, 1])
    answer.outputs[0].contents.fp32_contents.extend(np.fromfile(files.expected, np.float32))
    check(answer, files)


def test_gearshift_s_repository_has_no_mistakes(tmp_path):
    slim = make(replace(TINY, name="slim"), tmp_path)
    models = {"tiny": replace(make(TINY, tmp_path), variants=(slim,))}
    write_repository("repository", Place(tmp_path, models), models)
    done = gearshift("check", "--repository", str(tmp_path / "repository"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_request_s_rows_are_the_model_s():
    rows = rows_of(BIG, 2)
    message = request_of(BIG, rows)
    assert len(message.raw_input_contents[0]) == rows.nbytes


def test_plans_are_in_order_and_in_microseconds(tmp_path):
    write_plan(tmp_path / "plan.txt", [[0.5, 0.1], [0.25]])
    assert (tmp_path / "plan.txt").read_text() == "100000 0\n250000 1\n500000 0\n"


def test_fraud_comes_in_bursts_but_on_average_as_often_as_told():
    moments = np.array(fraud_moments(200.0, np.random.default_rng(3)))
    assert abs(len(moments) / 200.0 / FRAUD_RATE - 1) < 0.03
    assert (np.diff(moments) >= 0).all()
    tenths = np.bincount((10 * moments).astype(int))
    assert tenths.max() > 2.5 * tenths.mean()
    assert abs(len(medical_moments(50.0, 200.0, np.random.default_rng(3))) / 10_000 - 1) < 0.03


def test_what_proc_tells_is_read():
    stat = "7 (a) b) S 3 7 7 0 -1 4 1 2 3 4 10 20 30 40 20 0 1 0 5"
    assert after_name(stat)[:4] == ["S", "3", "7", "7"]
    assert cpu_ticks(stat) == 100
    assert pss_of("Rss: 10 kB\nPss: 7 kB\n") == 7 * 1024
    assert pss_of("") == 0
    assert cpu_of("model name\t: A: B\nflags\t: x y\n\nmodel name: C\n")["model name"] == "A: B"


def test_a_tree_has_its_root():
    assert os.getpid() in members(os.getpid())


def test_who_listens_on_a_port_is_known():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listening_sockets(port) & open_sockets(os.getpid())
        assert not listening_sockets(port) & open_sockets(os.getppid())
    assert not listening_sockets(port)


@pytest.mark.skipif(
    shutil.which("make") is None or shutil.which("cc") is None, reason="no compiler"
)
def test_the_client_checks_every_answer(tmp_path):
    """Against the empty server: right answers, wrong ones, and a plan with a deadline."""
    subprocess.run(("make", "-C", str(HERE / "client"), f"OUT={tmp_path}"), check=True)
    files, other = make(TINY, tmp_path), make(MID, tmp_path)
    client = Client(tmp_path / "client")
    with subprocess.Popen(
        (tmp_path / "empty_server", files.answer), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            port = int(server.stdout.readline())
            run = client.closed(port, files, 4, 0.05)
            assert run.only.right == run.only.sent > 0
            assert client.closed(port, other, 4, 0.05).only.right == 0
            plan = tmp_path / "plan.txt"
            write_plan(plan, [[0.0, 0.001, 0.002], [0.001]])
            both = client.open(port, plan, [(files, 30.0), (other, 30.0)])
            assert (both.kinds["tiny"].right, both.kinds["tiny"].in_time) == (3, 3)
            assert both.kinds["mid"].wrong == 1
        finally:
            server.kill()
