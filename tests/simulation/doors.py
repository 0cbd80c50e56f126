"""Who is let in, and how much of what: limits, quotas and rights that a run may have."""

from __future__ import annotations

import hashlib
import time
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from gearshift.access import Guard
from gearshift.core import quota
from gearshift.core.limits import Limits
from gearshift.core.rights import ANONYMOUS

IDENTITY = "x-tenant"
TENANTS = ("", "checkout", "flood")
"""What callers say of themselves; "flood" is not in the quotas file."""

TOKENS = ("", "whole", "half", "looks", "stranger")
"""What callers show. `whole` may do all, `half` may infer with model a, `looks` may only observe;
nobody knows `stranger`."""

MAY_INFER = {"whole": ("a", "b"), "half": ("a",)}
"""The models of those who may infer."""

_CLIENT = """
[[clients]]
name = "{name}"
tokens_sha256 = ["{digest}"]
may = {may}
models = {models}
"""


def secret(token: str) -> str:
    """What is sent, long enough for a token."""
    return f"{token}-of-the-simulation-{'x' * 32}"


@cache
def guard() -> Guard:
    """The real one, with an access file of these clients."""
    rights = {
        "whole": ('["infer", "feedback", "observe", "control"]', '["*"]'),
        "half": ('["infer"]', '["a"]'),
        "looks": ('["observe"]', '["*"]'),
    }
    told = "".join(
        _CLIENT.format(
            name=name,
            digest=hashlib.sha256(secret(name).encode()).hexdigest(),
            may=may,
            models=models,
        )
        for name, (may, models) in rights.items()
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "access.toml"
        path.write_text(told)
        return Guard(path, clock=lambda: time.time())


def fields_of(token: str, tenant: str, attempts: int) -> tuple[tuple[bytes, bytes], ...]:
    """The header fields by which a caller is told from others."""
    told = {
        b"authorization": f"Bearer {secret(token)}" if token else "",
        IDENTITY.encode(): tenant,
        b"grpc-previous-rpc-attempts": str(attempts) if attempts else "",
    }
    return tuple((name, value.encode()) for name, value in told.items() if value)


def client_of(token: str, tenant: str, *, guarded: bool) -> str:
    """Whom the quotas go by."""
    return (token if guarded else tenant) or ANONYMOUS


def small_limits(random: Random) -> Limits:
    """Limits that callers of a run come to: one or two of them."""
    small = {
        "max_connections": 2,
        "max_streams": random.choice((1, 4)),
        "max_requests": random.choice((3, 10)),
        "max_requests_per_connection": random.choice((2, 6)),
        "max_queue": random.choice((1, 4, 16)),
        "max_queue_bytes": random.choice((60, 400)),
        "max_held_bytes": random.choice((600, 90_000)),
        "max_unread_bytes": random.choice((600, 90_000)),
        "max_message_bytes": random.choice((120, 2_000)),
        "max_metadata_bytes": random.choice((240, 400)),
        "max_cancels_per_second": 4,
        "max_idle_frames_per_second": 40,
        "stall_seconds": random.choice((1.0, 8.0)),
    }
    chosen = random.sample(sorted(small), random.choice((1, 2)))
    return Limits(**{name: small[name] for name in chosen})  # type: ignore[arg-type]


def small_quotas(random: Random) -> quota.Limits:
    """Quotas that callers of a run come to."""

    def rate() -> quota.Rate:
        return quota.Rate(random.choice((5.0, 20.0, 100.0)), random.choice((1.0, 5.0, 20.0)))

    default = rate() if random.random() < 0.7 else None
    classes = {("a", "realtime"): rate()} if random.random() < 0.5 else {}
    return quota.Limits(default=default, clients={"checkout": rate()}, classes=classes)
