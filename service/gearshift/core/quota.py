"""Quotas: how many rows a second a client, or a service class, may send. Pure; time comes in.

One tenant's burst must not starve another: what is over the quota is refused before it costs
much, with the time until it would be taken.

A token bucket is kept as the time at which it will be full again (the generic cell rate algorithm,
ITU-T I.371): one number, no timer. The numbers lie in a table that several processes of one server
may share; two that write the same one in the same moment lose a token or give one twice, no more.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence
from dataclasses import dataclass, field
from hashlib import blake2b

NAMED = 4_096
"""Slots for the clients and classes of the file, each has its own."""

SLOTS = NAMED + 2**18
"""All slots of a table. Clients without a table of their own are placed by their name's hash: names
come from callers, and there is no end to them. Of 10,000 such clients one in 26 shares a bucket."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`rows` a second in the long run; `burst` rows at once after a pause. Both above 0."""

    rows: float
    burst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the file says: `default` for each client that is not named, by itself; `clients` by
    name; `classes` by model and service class, for all clients together. At most NAMED names."""

    default: Rate | None = None
    clients: Mapping[str, Rate] = field(default_factory=dict)
    classes: Mapping[tuple[str, str], Rate] = field(default_factory=dict)


class Bucket:
    """The tokens of one slot. Seconds on a clock that all who share the table have."""

    __slots__ = ("_depth", "_every", "_slot", "_table")

    def __init__(self, rate: Rate, table: MutableSequence[float], slot: int) -> None:
        self._every = 1.0 / rate.rows
        self._depth = rate.burst / rate.rows
        self._table = table
        self._slot = slot

    def take(self, rows: int, now: float) -> float:
        """Take so many rows' tokens. Returns 0.0, or, if there are too few, the seconds until it
        is worth trying again; nothing is taken then. A full bucket gives any number of rows, and
        owes them: a request larger than the burst could never be served otherwise."""
        full_at = self._full_at(now)
        after = full_at + rows * self._every
        wait = min(after - now - self._depth, full_at - now)
        if wait > 0.0:
            return wait
        self._table[self._slot] = after
        return 0.0

    def give_back(self, rows: int) -> None:
        """What was taken is not used."""
        self._table[self._slot] -= rows * self._every

    def wait(self, now: float) -> float:
        """Seconds until a single row may be taken, 0.0 if at once."""
        full_at = self._full_at(now)
        return max(0.0, min(full_at + self._every - now - self._depth, full_at - now))

    def _full_at(self, now: float) -> float:
        return max(self._table[self._slot], now)


@dataclass(frozen=True, slots=True)
class Over:
    """Which quota is used up, and in how many seconds it will not be. `client` is set where it is
    one of the file's."""

    whose: str
    wait: float
    client: str = ""


class Quotas:
    """The buckets of all clients and classes."""

    def __init__(self, limits: Limits, table: MutableSequence[float], key: bytes = b"") -> None:
        """`table` has SLOTS numbers, 0 at first; `key` (up to 64 bytes) keeps callers from finding
        a name that shares another one's slot."""
        self._limits = limits
        self._table = table
        self._key = key
        # Sorted, so that all who read the same file agree.
        names = sorted(limits.clients)
        self._clients = {
            name: Bucket(limits.clients[name], table, slot) for slot, name in enumerate(names)
        }
        pairs = enumerate(sorted(limits.classes), len(names))
        self._classes = {pair: Bucket(limits.classes[pair], table, slot) for slot, pair in pairs}
        self.clients = tuple(names)

    def spent(self, client: str, now: float) -> Over | None:
        """Whether this client may not send a single row now: asked before anything is read."""
        bucket = self._of(client)
        wait = 0.0 if bucket is None else bucket.wait(now)
        return self._over_client(client, wait) if wait > 0.0 else None

    def take(
        self, client: str, model: str, service_class: str, rows: int, now: float
    ) -> Over | None:
        """Let a request of so many rows pass (None), or say which quota keeps it out: then no
        bucket has lost anything."""
        own = self._of(client)
        if own is not None:
            wait = own.take(rows, now)
            if wait > 0.0:
                return self._over_client(client, wait)
        shared = self._classes.get((model, service_class))
        if shared is not None:
            wait = shared.take(rows, now)
            if wait > 0.0:
                if own is not None:
                    own.give_back(rows)
                return Over(f"class {service_class!r} of model {model!r}", wait)
        return None

    def _over_client(self, client: str, wait: float) -> Over:
        known = client if client in self._clients else ""
        return Over(f"client {client!r}", wait, known)

    def _of(self, client: str) -> Bucket | None:
        named = self._clients.get(client)
        default = self._limits.default
        if named is not None or default is None:
            return named
        digest = blake2b(client.encode(), digest_size=8, key=self._key).digest()
        slot = NAMED + int.from_bytes(digest, "little") % (SLOTS - NAMED)
        return Bucket(default, self._table, slot)
