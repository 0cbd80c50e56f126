"""File descriptors: as many as the system gives, and no more connections than there are."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from dataclasses import replace

import structlog

from gearshift.app.settings import Settings
from gearshift.core.limits import Usage

log = structlog.get_logger(__name__)

ASIDE = 128
"""Descriptors for everything that is neither a connection nor shared memory: libraries, artifacts
while they load, the database, the log."""

MANY = 1_048_576
"""What Linux gives one process at most, unless told otherwise."""


def within_descriptors(settings: Settings, also: int = 0) -> Usage:
    """The usage of a process that holds connections, with as many of them as it can have
    descriptors for. Raises its limit of descriptors to what the system allows; `also` are needed
    beside. A log line says so where less is held than the settings want."""
    usage = Usage(settings.limits)
    have = raise_limit()
    needed = (
        ASIDE
        + len(os.listdir("/dev/fd"))
        + settings.max_http_connections
        + settings.max_shared_memory_regions
        + also
    )
    room = have - needed
    if room < usage.limits.max_connections:
        held = max(1, room)
        log.warning(
            "fewer connections can be held than max_connections says; raise the limit of open"
            " files (ulimit -n)",
            max_connections=usage.limits.max_connections,
            held=held,
            open_files=have,
        )
        usage = Usage(replace(usage.limits, max_connections=held))
    return usage


def raise_limit() -> int:
    """Open files that this process may have from now on: as many as without privileges."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return MANY if soft == resource.RLIM_INFINITY else soft
