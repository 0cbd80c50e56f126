"""The two files and the workers: what is read, and how each mistake is told."""

import math

import pytest

from gearshift.errors import ConfigurationInvalid
from gearshift.simulate.mistakes import SHOWN
from gearshift.simulate.scenario import load_scenario
from simulating import PROFILES, WORKLOAD, write_files


def load(folder, profiles=PROFILES, workload=WORKLOAD, workers="cpu=2,gpu=1"):
    write_files(folder, profiles, workload)
    return load_scenario(folder / "profiles.csv", folder / "workload.csv", workers)


def test_what_the_files_say_is_what_the_core_gets(tmp_path):
    scenario = load(tmp_path)
    fraud = scenario.catalog.models["fraud"]
    assert [(v.name, v.accuracy, v.version) for v in fraud.variants] == [
        ("large", 90.0, 1),
        ("small", 80.0, 2),
    ]
    assert (fraud.max_batch_size, scenario.catalog.models["tumor"].max_batch_size) == (8, 1)
    assert sorted(fraud.classes) == ["default", "realtime"]
    (large, small) = scenario.profiles.on("fraud", "cpu")
    assert (large.p50(1), large.p99(8), small.p50(8)) == (0.004, 0.020, 0.002)
    assert scenario.workers == {0: "cpu", 1: "cpu", 2: "gpu"}
    first, second, third = scenario.workload.tickets(scenario.catalog, speed_up=2.0)
    assert (first.floor, second.floor, third.floor) == (-math.inf, 85.0, 0.0)
    assert (first.service_class, second.service_class) == ("realtime", "default")
    assert (third.arrival, third.budget) == (0.00125, pytest.approx(0.1))


def test_columns_may_stand_in_any_order_and_the_class_may_be_absent(tmp_path):
    workload = "model,min_accuracy,budget_ms,arrival_ms\nfraud,,10,1\n\nfraud, 80 ,10,1\n"
    scenario = load(tmp_path, workload=workload)
    assert scenario.workload.floors.tolist() == [-math.inf, 80.0]
    assert set(scenario.workload.classes) == {"default"}


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    assert len(load(tmp_path, workload="\ufeff" + WORKLOAD).workload) == 3


def test_models_that_nobody_asks_for_need_no_worker(tmp_path):
    scenario = load(tmp_path, workload=WORKLOAD.replace("2.5,tumor", "2.5,fraud"), workers="cpu=1")
    assert list(scenario.catalog.models) == ["fraud"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("p99_ms", "p99", ["line 1, column p99_ms: is missing", "column p99: is unknown"]),
        ("accuracy,", "", ["line 1, column accuracy: is missing"]),
        ("p50_ms", "batch", ["column batch: stands there 2 times", "column p50_ms: is missing"]),
        ("fraud,large,90,cpu,1,4,5", "fraud,large,90,cpu,1,4", ["line 2: has 6 cells"]),
        ("90,cpu,1,4,5", "best,cpu,1,4,5", ["line 2, column accuracy: 'best' is not a finite"]),
        ("90,cpu,1,4,5", "-1,cpu,1,4,5", ["line 2, column accuracy: '-1'", "of at least 0"]),
        ("cpu,1,4,5", "cpu,1,nan,5", ["line 2, column p50_ms: 'nan'", "above 0"]),
        ("cpu,1,4,5", "cpu,1,4_0,50", ["line 2, column p50_ms: '4_0'"]),
        ("cpu,1,4,5", "cpu,1,,5", ["line 2, column p50_ms: is empty"]),
        ("cpu,1,4,5", "cpu,1.5,4,5", ["line 2, column batch: '1.5' is not a whole number"]),
        ("cpu,1,4,5", "cpu,0,4,5", ["line 2, column batch: '0'", "of at least 1"]),
        ("cpu,1,4,5", "cpu,99999,4,5", ["line 2, column batch: 99999 is above 65536"]),
        ("cpu,1,4,5", "cpu,1,4,3", ["line 2, column p99_ms: 3 is below the p50_ms of 4"]),
        ("90,cpu,8", "91,cpu,8", ["line 3, column accuracy: 91 contradicts line 2"]),
        ("cpu,8,16,20", "cpu,1,16,20", ["line 3, column batch: 1 of variant 'large'", "in line 2"]),
        ("fraud,large,90,cpu,1", ",large,90,cpu,1", ["line 2, column model: is empty"]),
        (PROFILES, "", ["line 1: has no header", "model,variant,accuracy"]),
        (PROFILES, PROFILES.split("\n")[0], ["has no rows"]),
        ("fraud,large,90,cpu,1", 'fr"aud,large,90,cpu,1\x00', ["profiles.csv: line 2"]),
    ],
)
def test_mistakes_in_profiles_name_file_line_and_column(tmp_path, old, new, told):
    assert old in PROFILES
    with pytest.raises(ConfigurationInvalid) as caught:
        load(tmp_path, profiles=PROFILES.replace(old, new, 1))
    for text in (str(tmp_path / "profiles.csv"), *told):
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("budget_ms", "budget", ["line 1, column budget_ms: is missing", "[,service_class]"]),
        ("0,fraud,50,,", "soon,fraud,50,,", ["line 2, column arrival_ms: 'soon' is not a finite"]),
        ("0,fraud,50,,", "-1,fraud,50,,", ["line 2, column arrival_ms: '-1'", "of at least 0"]),
        ("0,fraud,50,,", "9,fraud,50,,", ["line 3, column arrival_ms: 0 is before the 9", "sort"]),
        ("0,fraud,50,,", "0,fraud,0,,", ["line 2, column budget_ms: '0' is not", "above 0"]),
        ("0,fraud,50,,", "0,fraud,inf,,", ["line 2, column budget_ms: 'inf'"]),
        ("0,fraud,50,,", "0,fraud,50,-3,", ["line 2, column min_accuracy: '-3'"]),
        ("0,fraud,50,,", "0,frod,50,,", ["line 2, column model: 'frod'", "have: fraud, tumor"]),
        ("0,fraud,50,,", "0,,50,,", ["line 2, column model: is empty"]),
        ("fraud,50,,realtime", "fraud,50,,realtime,x", ["line 2: has 6 cells"]),
    ],
)
def test_mistakes_in_a_workload_name_file_line_and_column(tmp_path, old, new, told):
    assert old in WORKLOAD
    with pytest.raises(ConfigurationInvalid) as caught:
        load(tmp_path, workload=WORKLOAD.replace(old, new, 1))
    for text in (str(tmp_path / "workload.csv"), *told):
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("workers", "told"),
    [
        ("", ["--workers: '' is not device=count", "cpu=20,gpu=10"]),
        ("cpu", ["'cpu' is not device=count"]),
        ("cpu=two,gpu=1", ["'two' workers of 'cpu'", "whole number from 1"]),
        ("cpu=0,gpu=1", ["'0' workers of 'cpu'"]),
        ("cpu=-1,gpu=1", ["'-1' workers"]),
        ("cpu=1,cpu=2,gpu=1", ["'cpu' stands there twice"]),
        ("cpu=1,gpu=1,tpu=1", ["no profile lists the device 'tpu'", "have: cpu, gpu"]),
        ("cpu=1", ["workload.csv: line 4, column model: no worker", "'tumor'", "are for gpu"]),
    ],
)
def test_mistakes_in_workers(tmp_path, workers, told):
    with pytest.raises(ConfigurationInvalid) as caught:
        load(tmp_path, workers=workers)
    for text in told:
        assert text in str(caught.value)


def test_mistakes_of_all_three_are_told_together(tmp_path):
    with pytest.raises(ConfigurationInvalid, match="3 mistakes") as caught:
        load(
            tmp_path,
            PROFILES.replace("cpu,1,4,5", "cpu,1,x,5"),
            WORKLOAD.replace("2.5,tumor", "x,tumor"),
            "cpu=1,gpu=x",
        )
    assert "profiles.csv" in str(caught.value)
    assert "workload.csv" in str(caught.value)


def test_a_file_full_of_mistakes_is_cut_short(tmp_path):
    rows = "".join("x,fraud,10,,\n" for _ in range(1000))
    with pytest.raises(ConfigurationInvalid) as caught:
        load(tmp_path, workload=WORKLOAD.split("\n")[0] + "\n" + rows)
    assert "1000 mistakes" in str(caught.value)
    assert f"and {1000 - SHOWN} more" in str(caught.value)
    assert len(str(caught.value).splitlines()) == SHOWN + 2


def test_files_that_cannot_be_read(tmp_path):
    write_files(tmp_path)
    (tmp_path / "latin.csv").write_bytes(WORKLOAD.encode() + b"3,fraud,10,,caf\xe9\n")
    with pytest.raises(ConfigurationInvalid, match=r"nowhere.csv: cannot be read: No such file"):
        load_scenario(tmp_path / "nowhere.csv", tmp_path / "workload.csv", "cpu=1")
    with pytest.raises(ConfigurationInvalid, match=r"latin.csv: line 5: is not UTF-8"):
        load_scenario(tmp_path / "profiles.csv", tmp_path / "latin.csv", "cpu=1,gpu=1")
