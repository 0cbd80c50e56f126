"""What becomes of runs that fail: their members' second chance, and the variants' breakers.

The rules are those of `gearshift.core.second_chance` and `gearshift.core.breaker`; here they meet
the requests in flight.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import structlog

from gearshift.core.breaker import Breaker, State
from gearshift.core.catalog import Model
from gearshift.core.decisions import Dispatch, Refused
from gearshift.core.profile import Profile
from gearshift.core.scheduler import Scheduler
from gearshift.core.second_chance import NOBODY, again
from gearshift.engine.batch import failed
from gearshift.engine.flight import Flight, Run
from gearshift.engine.outputs import unfit_input
from gearshift.engine.settling import Settling
from gearshift.errors import InvalidInput, RequestError, WorkerLost
from gearshift.ports import Array, Clock, Telemetry, TraceIds

log = structlog.get_logger(__name__)


class Faults:
    """Told how runs end. `changed` is called when something else can be decided; `ids` are those
    of tickets; `chance` spreads the moments at which variants are tried again."""

    def __init__(
        self,
        scheduler: Scheduler,
        settling: Settling,
        clock: Clock,
        telemetry: Telemetry,
        ids: Iterator[int],
        changed: Callable[[], None],
        chance: random.Random,
    ) -> None:
        self._scheduler = scheduler
        self._settling = settling
        self._clock = clock
        self._telemetry = telemetry
        self._ids = ids
        self._changed = changed
        self._chance = chance
        # Of profiles that have failed lately; there are none on a good day.
        self._breakers: dict[Profile, tuple[Model, Breaker]] = {}
        self._moved: set[int] = set()
        """Runs that are overdue and have members that wait for another."""

    # --- how runs end ------------------------------------------------------------------

    def began(self, dispatch: Dispatch) -> None:
        """A run begins."""
        if self._breakers:
            known = self._breakers.get(dispatch.profile.runs)
            if known is not None and known[1].began(dispatch.id):
                self._show(dispatch.profile.runs)

    def _worked(self, dispatch: Dispatch) -> None:
        """A run went well."""
        if self._breakers:
            profile = dispatch.profile.runs
            known = self._breakers.get(profile)
            if known is not None:
                if known[1].worked(dispatch.id):
                    self._turned(profile)
                if known[1].sound:
                    del self._breakers[profile]

    def empty(self, dispatch: Dispatch) -> None:
        """A run was over before it began: nobody waited for it any more."""
        if self._breakers:
            known = self._breakers.get(dispatch.profile.runs)
            if known is not None:
                known[1].inconclusive(dispatch.id)

    def broke(
        self, dispatch: Dispatch, batch: Sequence[Flight], cause: Exception, told: RequestError
    ) -> None:
        """A run failed, of whatever `cause`. Its members wait again, or hear what is `told`."""
        gone = isinstance(cause, WorkerLost) and not cause.running
        unfit = any(unfit_input(each.model, each.inputs) is not None for each in batch)
        lost = isinstance(cause, WorkerLost)
        self._count(dispatch, batch, conclusive=not gone and not unfit, lost=lost)
        self._moved.discard(dispatch.id)
        blamed = NOBODY if gone else dispatch.profile.runs.variant.name
        for member in batch:
            self._next(member, dispatch, blamed, told)

    def shadowed(self, dispatch: Dispatch, broken: Exception | None) -> None:
        """A run that nobody waited for is over, or `broken`."""
        if broken is None:
            self._worked(dispatch)
            return
        gone = isinstance(broken, WorkerLost) and not broken.running
        if isinstance(broken, WorkerLost):
            self._telemetry.worker_lost(dispatch.profile.device, broken.reason)
        self._count(dispatch, (), conclusive=not gone, lost=isinstance(broken, WorkerLost))

    def ran(
        self,
        dispatch: Dispatch,
        batch: Sequence[Flight],
        run: Run,
        trace: TraceIds | None = None,
    ) -> None:
        """A run has answers, which its members are given next. `trace` is the batch's."""
        if run.spoiled is None:
            self._worked(dispatch)
        else:
            self._spoiled(dispatch, batch, run, run.spoiled, trace)

    def _spoiled(
        self,
        dispatch: Dispatch,
        batch: Sequence[Flight],
        run: Run,
        rows: Array,
        trace: TraceIds | None,
    ) -> None:
        """Rows of a run's answers hold values that are not finite: those members are concerned,
        and nobody else. Whose own inputs hold such values is told so."""
        variant, model = run.variant, dispatch.model
        suspects: list[Flight] = []
        sound = row = 0
        for member in batch:
            begin, row = row, row + member.ticket.rows
            if not rows[begin:row].any():
                sound += 1
                continue
            unfit = unfit_input(model, member.inputs)
            if unfit is None:
                suspects.append(member)
            elif self._here(member, dispatch):
                error = InvalidInput(
                    f"input {unfit!r} holds values that are not finite (NaN or infinity), and so"
                    " does the answer; send finite values"
                )
                self._settling.fail(member, error, variant)
        # A variant that answers others rightly is not broken.
        if suspects and not sound:
            self._count(dispatch, batch, conclusive=True)
        elif sound:
            self._worked(dispatch)
        else:
            self._count(dispatch, batch, conclusive=False)
        if suspects:
            spoiled = int(np.count_nonzero(rows))
            cause = ValueError(f"{spoiled} of {run.rows} rows hold values that are not finite")
            told = failed(model, variant, cause, [each.request_id for each in suspects], trace)
            for member in suspects:
                self._next(member, dispatch, variant.name, told)

    def overdue(self, dispatch: Dispatch, batch: Sequence[Flight]) -> None:
        """A run takes so long that it may never end. Members with a deadline that another variant
        can still meet wait for that as well; whoever answers first does."""
        for member in batch:
            if (
                member.ticket.deadline < math.inf
                and self._here(member, dispatch)
                and self._again(member, dispatch, dispatch.profile.runs.variant.name)
            ):
                self._moved.add(dispatch.id)

    def returned(self, dispatch: Dispatch, batch: Sequence[Flight]) -> None:
        """A run has come to its end. If it was overdue, who still waits for another gets its
        answers, and must not be dispatched any more."""
        if dispatch.id not in self._moved:
            return
        self._moved.discard(dispatch.id)
        for member in batch:
            if member in self._settling and member.dispatch != dispatch.id:
                self._scheduler.cancel(member.ticket.id, self._clock.now())
                if member.dispatched_at is None:
                    self._telemetry.dequeued(member.model.name, member.ticket.service_class, 1)
                    member.dispatched_at = self._clock.now()

    # --- members -----------------------------------------------------------------------

    def _here(self, member: Flight, dispatch: Dispatch) -> bool:
        """Whether the member waits for this run, and no other."""
        return member in self._settling and member.dispatch == dispatch.id

    def _next(self, member: Flight, dispatch: Dispatch, blamed: str, told: RequestError) -> None:
        """Its second chance, or the end."""
        if not self._here(member, dispatch):
            return
        if member.failed_by is not None:
            # It has failed alone as well, on another variant: it may well be its own fault.
            profile, run = member.failed_by
            known = self._breakers.get(profile)
            if known is not None and known[1].pardon(run):
                self._turned(profile)
        if not self._again(member, dispatch, blamed):
            self._settling.fail(member, told, dispatch.profile.runs.variant)

    def _again(self, member: Flight, dispatch: Dispatch, blamed: str) -> bool:
        """Let it wait for another variant, if it may and there is one in time."""
        cascade, now = dispatch.profile.cascade, self._clock.now()
        ticket = again(member.ticket, blamed, next(self._ids), cascade)
        if ticket is None or isinstance(self._scheduler.admit(ticket, now), Refused):
            return False
        self._settling.renamed(member, ticket)
        if blamed != NOBODY:
            member.failed_by = dispatch.profile.runs, dispatch.id
        member.dispatched_at, member.dispatch = None, 0
        if member.trace is not None:
            member.trace.again(ticket, now)
        self._telemetry.admitted(ticket.model, ticket.service_class)
        self._changed()
        return True

    # --- breakers ----------------------------------------------------------------------

    def try_again(self, executor: str) -> None:
        """What had broken the variants of this executor is said to be over: the next request that
        may tries them, whenever it would have been their turn."""
        for profile, (model, breaker) in self._breakers.items():
            if profile.variant.executor == executor and breaker.hope():
                log.info("variant is tried again", model=model.name, variant=profile.variant.name)

    def _count(
        self,
        dispatch: Dispatch,
        batch: Sequence[Flight],
        *,
        conclusive: bool,
        lost: bool = False,
    ) -> None:
        """A run failed; whether that says anything of the variant."""
        profile = dispatch.profile.runs
        known = self._breakers.get(profile)
        if not conclusive:
            if known is not None:
                known[1].inconclusive(dispatch.id)
            return
        if known is None:
            known = self._breakers[profile] = dispatch.model, Breaker(self._chance)
        pardoned = any(member.failed_by is not None for member in batch)
        if known[1].failed(dispatch.id, self._clock.now(), lost=lost, pardoned=pardoned):
            self._turned(profile)

    def _turned(self, profile: Profile) -> None:
        """A breaker has opened or closed: so have lanes."""
        model, breaker = self._breakers[profile]
        names = {"model": model.name, "variant": profile.variant.name, "device": profile.device}
        now = self._clock.now()
        if breaker.state is State.OPEN:
            wait = round(breaker.retry_after(now), 3)
            log.warning("variant keeps failing and is taken out", **names, retry_after=wait)
            self._telemetry.breaker_opened(model.name, profile.variant.name)
        else:
            log.info("variant works again", **names)
        self._show(profile)
        out = {
            each: other
            for each, (owner, other) in self._breakers.items()
            if owner.name == model.name
            and owner.generation == model.generation
            and other.state is not State.CLOSED
        }
        for drop in self._scheduler.take_out(model, out, now):
            self._settling.fail(self._settling.of(drop.ticket), drop.error)
        self._changed()

    def forget(self, model: Model) -> None:
        """Nothing of this generation is left. What failed in it says nothing of the next one."""
        for profile, (owner, _) in list(self._breakers.items()):
            if (owner.name, owner.generation) == (model.name, model.generation):
                del self._breakers[profile]
                name = profile.variant.name
                same = (
                    (o.name, p.variant.name) == (model.name, name)
                    for p, (o, _) in self._breakers.items()
                )
                if not any(same):
                    self._telemetry.breaker(model.name, name, int(State.CLOSED))

    def _show(self, profile: Profile) -> None:
        """On all its devices together: the worst of its states."""
        model, _ = self._breakers[profile]
        worst = max(
            breaker.state
            for each, (owner, breaker) in self._breakers.items()
            if owner.name == model.name and each.variant.name == profile.variant.name
        )
        self._telemetry.breaker(model.name, profile.variant.name, int(worst))
