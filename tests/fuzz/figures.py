"""Files of figures: workloads and profiles for the simulator, answers of a Prometheus."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from fuzz.target import Feed, Target, require
from gearshift.errors import GearshiftError
from gearshift.prometheus.query import _series
from gearshift.simulate.mistakes import Mistakes
from gearshift.simulate.profile_file import LARGEST_BATCH, read_profiles
from gearshift.simulate.workload_file import read_workload

MEMORY = Path("/dev/shm")


def scratch(name: str) -> Path:
    """A file of this process, in memory where there is such a place."""
    where = tempfile.mkdtemp(prefix="fuzz-", dir=MEMORY if MEMORY.is_dir() else None)
    return Path(where) / name


def _workload() -> Feed:
    path = scratch("workload.csv")

    def feed(data: bytes) -> None:
        path.write_bytes(data)
        mistakes = Mistakes()
        read = read_workload(path, ("m", "n"), mistakes)
        require(read is not None or len(mistakes) > 0, "nothing read, and no mistake told")
        if read is None or len(mistakes):
            return
        require(bool(np.isfinite(read.arrivals).all()), "an arrival is no number")
        require(bool((read.budgets > 0).all()), "a budget is not above 0")
        require(bool((np.diff(read.arrivals) >= 0).all()), "arrivals are out of order")
        require(set(read.models) <= {"m", "n"}, "a model without a profile")

    return feed


def _profiles() -> Feed:
    path = scratch("profiles.csv")

    def feed(data: bytes) -> None:
        path.write_bytes(data)
        mistakes = Mistakes()
        read = read_profiles(path, mistakes)
        require(read is not None or len(mistakes) > 0, "nothing read, and no mistake told")
        if read is None or len(mistakes):
            return
        for variants in read.points.values():
            for devices in variants.values():
                for points in devices.values():
                    for point in points:
                        require(1 <= point.batch <= LARGEST_BATCH, "a batch out of bounds")
                        require(0 < point.p50 <= point.p99, "p99 is below p50")

    return feed


def _answers() -> Feed:
    def feed(data: bytes) -> None:
        try:
            found = _series(data, "http://prometheus")
        except GearshiftError:
            return
        for series in found:
            require(all(map(np.isfinite, series.values.values())), "a value is no number")

    return feed


def _table(header: str, *rows: str) -> bytes:
    return "\n".join((header, *rows, "")).encode()


def _workload_seeds() -> list[bytes]:
    header = "arrival_ms,model,budget_ms,min_accuracy,service_class"
    return [
        _table(header, "0,m,10,0.5,fast", "1.5,n,20,,"),
        _table("arrival_ms,model,budget_ms,min_accuracy", "0,m,inf,0", "2,m,1e3,"),
        _table(header, '0,"m",10,0,"a\nb"', "-1,x,0,nan,", "1,m"),
        b"\xef\xbb\xbf" + _table(header, "0,m,10,0.5,fast"),
    ]


def _profile_seeds() -> list[bytes]:
    header = "model,variant,accuracy,device,batch,p50_ms,p99_ms"
    return [
        _table(header, "m,a,0.9,cpu,1,1,2", "m,a,0.9,cpu,8,3,4", "m,b,0.8,gpu,1,0.5,0.6"),
        _table(header + ",memory_mb", "m,a,0.9,cpu,1,1,2,100", "m,a,0.9,cpu,2,1,2,"),
        _table(header, "m,a,0.9,cpu,1_0,2,1", "m,a,0.8,cpu,1,1,1e999"),
    ]


def _answer_seeds() -> list[bytes]:
    good = {
        "status": "success",
        "data": {"result": [{"metric": {"model": "m"}, "values": [[1.5, "2"], [2, "NaN"]]}]},
    }
    bad = {"status": "error", "errorType": "bad_data", "error": "no"}
    return [json.dumps(each).encode() for each in (good, bad, [], {"status": "success"})]


TARGETS = (
    Target("workload-file", _workload, _workload_seeds, 1024, (b"arrival_ms", b"1e308", b"nan")),
    Target("profile-file", _profiles, _profile_seeds, 1024, (b"memory_mb", b"1e308", b"inf")),
    Target(
        "prometheus-answer", _answers, _answer_seeds, 1024, (b'"values"', b"Infinity", b"[" * 50)
    ),
)
