"""What must hold of who is let in, and of how much: rights, quotas and limits."""

from __future__ import annotations

from collections import defaultdict

from gearshift.core.quota import Rate
from simulation.doors import MAY_INFER, client_of
from simulation.facts import ROUNDING, Problems, settled
from simulation.history import Heard
from simulation.scenario import MAX_BATCH, Connect
from simulation.world import Outcome as Run


def connect_of(run: Run, caller: int) -> Connect:
    return next(
        step for step in run.scenario.steps if isinstance(step, Connect) and step.caller == caller
    )


def denial(run: Run, heard: Heard) -> str:
    """The status of whoever may not ask that; "" for who may."""
    token = connect_of(run, heard.ask.caller).token
    if not run.scenario.guarded:
        return ""
    if token in ("", "stranger"):
        return "UNAUTHENTICATED"
    model = "nobody" if heard.ask.wrong == "model" else heard.ask.model
    if token == "whole" or model in MAY_INFER.get(token, ()):
        return ""
    return "PERMISSION_DENIED"


def refused_at_the_door(run: Run, heard: Heard, ending: str) -> bool:
    """Whether a limit, a quota, a right or the damper of retries is a reason for this ending, of a
    request that the engine never had or whose answer was not read."""
    reached, text = run.server._usage.reached, heard.text
    denied = denial(run, heard)
    if denied and (ending.endswith(denied) or (ending == "ERROR" and "may not" in text)):
        return True
    if ending.endswith("REFUSED"):
        return reached["max_streams"] > 0
    if ending.endswith("RESET 11"):
        return reached["stall_seconds"] + reached["max_held_bytes"] > 0
    if ending.endswith("LOST"):
        return reached["stall_seconds"] > 0
    if "quota" in text:
        return run.scenario.quotas is not None
    if "are retries" in text:
        return connect_of(run, heard.ask.caller).attempts > 0
    return any(f"(setting {name})" in text for name, times in reached.items() if times)


def only_who_may(run: Run) -> Problems:
    """Nothing is answered, or even taken in, for whoever has no right to it; nobody hears from it
    what there is."""
    for number, heard in run.history.heard.items():
        denied = denial(run, heard)
        if denied and number in run.history.taken:
            yield f"request {number} was taken in and should hear {denied}"
        if denied and set(heard.endings) & {"OK", "NOT_FOUND"}:
            yield f"request {number} heard {heard.endings} and should hear {denied}"


def quotas_hold(run: Run) -> Problems:
    """In no stretch of time is more admitted of a client or class than its bucket holds and is
    filled with."""
    quotas = run.scenario.quotas
    if quotas is None:
        return
    passed: dict[str, list[tuple[float, int]]] = defaultdict(list)
    rates: dict[str, Rate | None] = {}
    for taken in settled(run):
        ticket = taken.ticket
        if ticket is None:
            continue
        ask = run.history.heard[taken.number].ask
        step = connect_of(run, ask.caller)
        client = client_of(step.token, step.tenant, guarded=run.scenario.guarded)
        pair = ask.model, ask.service_class
        rates |= {
            client: quotas.clients.get(client, quotas.default),
            str(pair): quotas.classes.get(pair),
        }
        for name in (client, str(pair)):
            passed[name].append((taken.at, ask.rows))
    for name, came in passed.items():
        rate = rates[name]
        if rate is not None:
            yield from _over(name, came, rate)


def _over(name: str, came: list[tuple[float, int]], rate: Rate) -> Problems:
    for at, (begin, _) in enumerate(came):
        rows = 0
        for end, more in came[at:]:
            rows += more
            # A full bucket gives any number of rows, and owes them.
            most = max(rate.burst, MAX_BATCH) + rate.rows * (end - begin)
            if rows > most + ROUNDING:
                yield f"{rows} rows of {name} passed in {end - begin:.4f} s, {most:.2f} may"
                return


def limits_hold(run: Run) -> Problems:
    """Nobody is sent away but for a limit that was reached; nothing is kept above one."""
    yield from run.history.above
    for text in run.history.sent_away:
        reached = run.server._usage.reached
        if not any(f"(setting {name})" in text for name, times in reached.items() if times):
            yield f"a caller was sent away: {text}"
    usage = run.server._usage
    for name in ("requests", "held", "queued", "unread", "connections"):
        if getattr(usage, name):
            yield f"at the end {getattr(usage, name)} {name} are counted"
