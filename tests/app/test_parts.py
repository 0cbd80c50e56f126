"""Which runs go to the express worker."""

from __future__ import annotations

import math
from collections.abc import Collection

from builders import make_catalog, make_model, make_profiles
from gearshift.app.parts import EXPRESS_NUMBERS, with_express
from gearshift.ports import EXPRESS, SHORT, Worker

WORKERS = (Worker(0, "cpu"), Worker(1, "cpu"))


def placed(seconds: dict[str, tuple[float, float]], number: int = 0, apart: Collection[str] = ()):
    catalog = make_catalog(make_model("m", {"large": 0.9, "small": 0.8}, max_batch_size=10))
    measured = make_profiles(catalog, seconds)
    profiles, workers = with_express(catalog, measured, WORKERS, number, apart)
    most = {(p.variant.name, p.device): p.max_batch for p in profiles.everywhere("m")}
    return most, workers, profiles


def test_a_variant_whose_largest_batch_is_short_runs_nowhere_else():
    most, workers, profiles = placed({"large": (0.0, 0.010), "small": (SHORT / 2, SHORT / 20)})
    assert most == {("large", "cpu"): 10, ("small", EXPRESS): 10}
    assert workers == (Worker(EXPRESS_NUMBERS, EXPRESS), *WORKERS)
    (small,) = profiles.on("m", EXPRESS)
    assert small.p50(10) == SHORT


def test_short_batches_of_a_variant_run_on_the_express_worker_and_long_ones_do_not():
    most, _, profiles = placed({"large": (0.0, 0.010), "small": (SHORT / 2, SHORT / 10)})
    assert most == {("large", "cpu"): 10, ("small", EXPRESS): 5, ("small", "cpu"): 10}
    (small,) = profiles.on("m", EXPRESS)
    assert small.p50(5) <= SHORT
    assert small.p50(6) == math.inf


def test_without_a_short_batch_there_is_no_express_worker():
    most, workers, _ = placed({"large": (0.0, 0.010), "small": (SHORT, SHORT / 10)})
    assert most == {("large", "cpu"): 10, ("small", "cpu"): 10}
    assert workers == WORKERS


def test_each_process_numbers_its_own():
    _, workers, _ = placed({"large": (0.0, 1e-5), "small": (0.0, 1e-5)}, number=3)
    assert workers[0].id == EXPRESS_NUMBERS + 3


def test_what_runs_in_processes_of_their_own_has_no_express_worker():
    most, workers, _ = placed({"large": (0.0, 1e-5), "small": (0.0, 1e-5)}, apart={"fake"})
    assert most == {("large", "cpu"): 10, ("small", "cpu"): 10}
    assert workers == WORKERS
