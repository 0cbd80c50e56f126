"""What counts as lost when the server behind is gone, and how it went before, during and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

LOCAL = 0.9
"""Accuracy of the best variant of the server in front."""

NEEDS = 0.15
"""Seconds before its deadline in which a request can still be answered in front: to find out that
nothing comes from behind, and to run it. Ten times what the run takes."""

HELD_UP = 0.1
"""Seconds by which the callers' own process may be late: where it was later, this machine was at
something else, and so were both servers, which share it."""

NOTHING = "no ending"


@dataclass(frozen=True, slots=True)
class Ended:
    """One request and its ending, as its caller saw it. Seconds of time.monotonic()."""

    id: str
    floor: float
    sent: float
    budget: float
    ended: float
    status: str
    right: bool = False
    variant: str = ""
    accuracy: float = 0.0

    @property
    def in_time(self) -> bool:
        return self.status == "OK" and self.right and self.ended <= self.sent + self.budget


@dataclass(frozen=True, slots=True)
class Blow:
    """One time that the server behind was struck, and was up again: it has answered a request that
    was asked of it directly, or was allowed to go on. `crashed`: by itself, after that."""

    struck: float
    up: float
    end: float
    crashed: bool = False


@dataclass(frozen=True, slots=True)
class Phase:
    """Requests, the share of them that was answered in time, and their mean accuracy with 0 for
    each that was not."""

    requests: int
    attainment: float
    effective: float


@dataclass(frozen=True, slots=True)
class Judged:
    before: Phase
    during: Phase
    after: Phase
    under_way: int
    """Admitted requests that were not answered yet when it was struck."""
    lost: Sequence[str]
    """Admitted, could still be answered in front, and was not answered rightly and in time."""
    beyond: dict[str, int]
    """How the others ended that were admitted, and not answered: only the server behind was
    accurate enough, or there was no time."""
    late: float
    """Seconds by which the callers' own process was late, at the most."""
    noticed: float
    """Seconds from being up until the first answer from there to a request that was sent since."""
    crashed: bool


def answerable(one: Ended, blow: Blow) -> bool:
    """In front, after the blow; or it was over before."""
    if one.floor > LOCAL:
        return False
    if one.ended <= blow.struck:
        return True
    return one.sent + one.budget - max(one.sent, blow.struck) >= NEEDS


def judge(
    endings: Sequence[Ended],
    admitted: Collection[str],
    blow: Blow,
    begin: float,
    late: Sequence[tuple[float, float]] = (),
) -> Judged:
    """`begin`: from when on requests count for this blow. `late`: when, and by how much the
    callers' own process was late."""
    mine = [each for each in endings if begin <= each.sent < blow.end]
    taken = [each for each in mine if each.id in admitted]
    failed = [each for each in taken if not each.in_time]
    lost = [each for each in failed if answerable(each, blow)]
    back = [each.ended for each in mine if each.sent >= blow.up and each.variant == "far"]
    noticed = min(back, default=float("inf")) - blow.up
    return Judged(
        before=phase(each for each in mine if each.sent < blow.struck),
        during=phase(each for each in mine if blow.struck <= each.sent < blow.up),
        after=phase(each for each in mine if each.sent >= blow.up + noticed),
        under_way=sum(each.sent < blow.struck < each.ended for each in taken),
        lost=[
            f"{each.status} {each.variant}, sent {each.sent - blow.struck:+.3f} s and ended"
            f" {each.ended - blow.struck:+.3f} s from the blow, floor {each.floor:g}"
            for each in lost
        ],
        beyond=dict(Counter(each.status for each in failed if not answerable(each, blow))),
        late=max((by for at, by in late if begin <= at < blow.end), default=0.0),
        noticed=noticed,
        crashed=blow.crashed,
    )


def phase(endings: Iterable[Ended]) -> Phase:
    """Of the requests that can be answered in front."""
    told = [each for each in endings if each.floor <= LOCAL]
    good = [each for each in told if each.in_time]
    count = max(1, len(told))
    return Phase(len(told), len(good) / count, sum(each.accuracy for each in good) / count)


def together(phases: Sequence[Phase]) -> Phase:
    count = sum(each.requests for each in phases)
    most = max(1, count)
    return Phase(
        count,
        sum(each.attainment * each.requests for each in phases) / most,
        sum(each.effective * each.requests for each in phases) / most,
    )
