"""The kinds file."""

import pytest

from gearshift.errors import ConfigurationInvalid
from gearshift.simulate.mistakes import Mistakes
from gearshift.simulate.planning.kinds import read_kinds

HEADER = "name,device,workers,memory_mb,price_per_hour"


def kinds(tmp_path, text):
    (tmp_path / "kinds.csv").write_text(text)
    mistakes = Mistakes()
    found = read_kinds(tmp_path / "kinds.csv", mistakes)
    mistakes.raise_if_any()
    return found


def test_what_is_not_said_follows_from_the_rest(tmp_path):
    plain, full = kinds(
        tmp_path,
        f"{HEADER},cpus,gpus,start_seconds,hardware\n"
        "cpu-2,cpu,2,4000,0.09,,,,\n"
        "gpu,cuda + cpu,1,16000,0.53,4,1,90,0a1b\n",
    )
    assert (plain.devices, plain.cpus, plain.gpus) == (("cpu",), 2.0, 0)
    assert (plain.start_seconds, plain.hardware) == (30.0, "")
    assert (full.devices, full.cpus, full.gpus) == (("cuda", "cpu"), 4.0, 1)
    assert (full.start_seconds, full.hardware, full.price) == (90.0, "0a1b", 0.53)
    assert kinds(tmp_path, f"{HEADER}\na,cpu,2,1,1\n")[0].cpus == 2.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,cpu,0,1,1", "line 2, column workers: '0' is not a whole number of at least 1"),
        ("a,cpu,1.5,1,1", "line 2, column workers: '1.5'"),
        ("a,cpu,1,0,1", "column memory_mb: '0' is not a finite number above 0"),
        ("a,cpu,1,1,free", "column price_per_hour: 'free' is not"),
        ("a,,1,1,1", "line 2, column device: is empty"),
        ("a,cuda+,1,1,1", "'cuda+' is not a device"),
        ("a,cpu+cpu,1,1,1", "'cpu+cpu' is not a device"),
        ("a,cpu,1,1,1\na,cpu,2,1,1", "line 3, column name: 'a' stands in line 2 already"),
        ("", "has no rows below its header"),
    ],
)
def test_mistakes(tmp_path, text, told):
    with pytest.raises(ConfigurationInvalid) as raised:
        kinds(tmp_path, f"{HEADER}\n{text}\n")
    assert "kinds.csv" in str(raised.value)
    assert told in str(raised.value)
