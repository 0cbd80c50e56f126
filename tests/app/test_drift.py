"""The drift watch as part of a serving process."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np

from builders import make_catalog, make_model
from gearshift.app.drift import watching_drift
from gearshift.app.settings import Settings
from gearshift.telemetry import PrometheusTelemetry


def names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_it_watches_while_the_block_lasts_and_is_on_the_page(tmp_path):
    samples = tmp_path / "samples.npz"
    np.savez(samples, inputs=np.zeros((60, 3), np.float32), labels=np.zeros(60))
    catalog = make_catalog(dataclasses.replace(make_model(), samples=str(samples)))
    telemetry = PrometheusTelemetry(catalog)
    with watching_drift(Settings(), catalog, telemetry) as watch:
        assert watch is not None
        assert "drift" in names()
        page = telemetry.exposition()[0].decode()
        assert 'gearshift_input_drift_rows{model="m"} 0.0' in page
    assert "drift" not in names()


def test_the_setting_turns_it_off():
    catalog = make_catalog(make_model())
    telemetry = PrometheusTelemetry(catalog)
    with watching_drift(Settings(drift=False), catalog, telemetry) as watch:
        assert watch is None
        assert b"gearshift_input_drift" not in telemetry.exposition()[0]
