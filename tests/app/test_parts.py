"""Which runs go to the express worker."""

from __future__ import annotations

from builders import make_catalog, make_model, make_profiles
from gearshift.app.parts import EXPRESS_NUMBERS, with_express
from gearshift.ports import EXPRESS, SHORT, Worker

WORKERS = (Worker(0, "cpu"), Worker(1, "cpu"))


def placed(seconds: dict[str, tuple[float, float]], number: int = 0):
    catalog = make_catalog(make_model("m", {"large": 0.9, "small": 0.8}, max_batch_size=10))
    profiles, workers = with_express(catalog, make_profiles(catalog, seconds), WORKERS, number)
    devices = {p.variant.name: p.device for p in profiles.everywhere("m")}
    return devices, workers, profiles


def test_a_variant_whose_largest_batch_is_short_has_a_worker_of_its_own():
    devices, workers, profiles = placed({"large": (0.0, 0.010), "small": (SHORT / 2, SHORT / 20)})
    assert devices == {"large": "cpu", "small": EXPRESS}
    assert workers == (*WORKERS, Worker(EXPRESS_NUMBERS, EXPRESS))
    (small,) = profiles.on("m", EXPRESS)
    assert (
        small.p50s
        == make_profiles(
            make_catalog(make_model("m", {"small": 0.8}, max_batch_size=10)),
            {"small": (SHORT / 2, SHORT / 20)},
        )
        .everywhere("m")[0]
        .p50s
    )


def test_a_long_batch_keeps_a_variant_on_the_other_workers():
    devices, workers, _ = placed({"large": (0.0, 0.010), "small": (SHORT / 2, SHORT / 10)})
    assert devices == {"large": "cpu", "small": "cpu"}
    assert workers == WORKERS


def test_each_process_numbers_its_own():
    _, workers, _ = placed({"large": (0.0, 1e-5), "small": (0.0, 1e-5)}, number=3)
    assert workers[-1].id == EXPRESS_NUMBERS + 3
