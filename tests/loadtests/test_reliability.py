"""How faults and the soak are judged, and how the page is put together."""

from __future__ import annotations

import pytest
from loadtests.reliability.callers import FLOOR, Kind, message, mistake
from loadtests.reliability.endings import NO_ENDING, Ending, back_after, judge
from loadtests.reliability.growth import Looked, verdict
from loadtests.reliability.page import PARTS, kept, put_together
from tritonclient.grpc import service_pb2 as pb

RATE = 20


def endings(until: float, bad=lambda at: False, status="UNAVAILABLE") -> list[Ending]:
    """RATE requests a second, those at bad moments with another status than OK."""
    moments = [number / RATE for number in range(int(until * RATE))]
    return [
        Ending(at, at + 0.01, status if bad(at) else "OK", in_time=not bad(at)) for at in moments
    ]


def test_a_fault_that_callers_see_and_that_is_over():
    found = endings(10, lambda at: 2 <= at < 4.6)
    judged = judge(found, 0.0, 2.0, 4.0, 10.0, {"UNAVAILABLE"})
    assert judged.statuses == {"OK": 108, "UNAVAILABLE": 52}
    assert (judged.before, judged.after) == (1.0, 1.0)
    assert judged.during == pytest.approx(0.05, abs=0.02)
    assert judged.until_normal == pytest.approx(0.6, abs=0.25)
    assert (judged.lost, judged.strange) == ((), ())


def test_what_is_lost_and_what_is_strange():
    found = [
        *endings(6),
        Ending(3.0, 13.0, NO_ENDING, in_time=False),
        Ending(3.0, 3.1, "OK", in_time=False, wrong="wrong answer"),
        Ending(3.0, 3.1, "UNKNOWN", in_time=False),
        Ending(3.0, 3.1, "INTERNAL", in_time=False),
        Ending(3.0, 3.1, "RESOURCE_EXHAUSTED", in_time=False),
    ]
    judged = judge(found, 0.0, 2.0, 3.5, 6.0, {"INTERNAL"})
    assert judged.lost == ("1 x no ending", "1 x wrong answer")
    assert judged.strange == ("UNKNOWN",)
    assert NO_ENDING not in judged.statuses


def test_what_was_sent_before_and_ended_during_the_fault_belongs_to_it():
    found = [Ending(1.9, 3.0, "INTERNAL", in_time=False), *endings(6)]
    assert judge(found, 0.0, 2.0, 3.0, 6.0).statuses["INTERNAL"] == 1


@pytest.mark.parametrize("bad", [lambda at: at >= 2, lambda at: at % 1.0 < 0.2])
def test_never_normal_again(bad):
    assert back_after(endings(8, bad), 1.0, 2.0, 8.0) is None


def test_silence_is_not_normal():
    assert back_after(endings(2), 1.0, 3.0, 8.0) is None


def answer(value: float, variant: str = "slow") -> pb.ModelInferResponse:
    made = pb.ModelInferResponse(model_name="sums")
    made.outputs.add(name="y", datatype="FP32", shape=[1, 1])
    given = message(Kind(1), value, 1.0).raw_input_contents[0][:4]
    made.raw_output_contents.append(given)
    made.parameters["variant"].string_param = variant
    return made


@pytest.mark.parametrize(
    ("kind", "value", "variant", "wrong"),
    [
        (Kind(1), 6.0, "slow", ""),
        (Kind(1), 7.0, "slow", "wrong answer"),
        (Kind(1, floor=FLOOR), 6.0, "slow", ""),
        (Kind(1, floor=FLOOR), 6.0, "quick", "below the floor"),
        (Kind(1, floor=FLOOR), 6.0, "", "below the floor"),
        (Kind(1, pinned="quick"), 6.0, "slow", "another variant than the pinned one"),
    ],
)
def test_what_is_wrong_with_an_answer(kind, value, variant, wrong):
    assert mistake(answer(value, variant), kind, 2.0) == wrong


def test_an_answer_without_its_output_is_wrong():
    assert mistake(pb.ModelInferResponse(), Kind(1), 2.0) == "wrong outputs"


def looks(seconds: int, growth: float = 0.0, more: int = 0) -> list[Looked]:
    return [
        Looked(at, 100.0 * (1.0 + growth * at / seconds), 20 + (more if at > seconds / 2 else 0), 9)
        for at in range(seconds)
    ]


def test_a_steady_soak_is_sound():
    found = verdict(looks(600, growth=0.02), endings(600), 600.0)
    assert found.sound
    assert found.attainment_by_minute == (1.0,) * 10


@pytest.mark.parametrize(
    ("seen", "ended", "which"),
    [
        (looks(600, growth=0.04), endings(600), "memory, MB"),
        (looks(600, more=5), endings(600), "file descriptors"),
        (looks(600), endings(600, lambda at: at > 500 and at % 1.0 < 0.06), "in time, share"),
    ],
)
def test_a_soak_in_which_something_grew(seen, ended, which):
    found = verdict(seen, ended, 600.0)
    assert [name for name, *_, said in found.rows() if said != "as it should"] == [which]
    assert not found.sound


def test_a_soak_with_a_lost_request_is_not_sound():
    lost = Ending(5.0, 15.0, NO_ENDING, in_time=False)
    assert verdict(looks(600), [lost, *endings(600)], 600.0).lost == ("1 x no ending",)
    with pytest.raises(ValueError, match="ended before 600 s"):
        verdict(looks(300), endings(300), 600.0)


def test_the_page_says_what_has_not_been_measured():
    page = put_together({"drains": "# A thousand SIGTERMs\n\n`make bench-drains`: so.\n"})
    assert "## A thousand SIGTERMs\n\n`make bench-drains`: so." in page
    assert page.count("Not measured yet: `make ") == len(PARTS) - 1
    places = [page.index(f"make {part.target}`") for part in PARTS]
    assert places == sorted(places)


def test_headings_and_commands_of_sections():
    page = put_together(
        {
            "fuzz": "some figures\n\n# Targets\n\n```\n# no heading\n```\n",
            "soak": "## A soak\n\n### Memory\n\n`make soak`\n",
        }
    )
    assert "\n## Fuzzing\n\nsome figures\n\n## Targets\n\n```\n# no heading\n```\n" in page
    assert "Command: `make fuzz`." in page
    assert "\n## A soak\n\n### Memory\n" in page
    assert "Command: `make soak`" not in page


def test_what_was_not_run_again_stays_as_the_page_has_it():
    old = put_together({"drains": "# A thousand\n\nfigures\n", "soak": "## An hour\n\nsteady\n"})
    before = kept(old)
    assert set(before) == {"drains", "soak"}
    assert put_together(before) == old
    new = put_together(before | {"drains": "## Two thousand\n\nmore\n"})
    assert "## An hour\n\nsteady\n" in new
    assert "A thousand" not in new
