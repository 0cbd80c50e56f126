"""A range query over Prometheus' HTTP API, with a bound on its time and on its size.

https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries
"""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gearshift.errors import ConfigurationInvalid

MOST_POINTS = 11_000
"""Of one series: Prometheus refuses more."""

MOST_BYTES = 64 * 2**20
"""Of an answer; more is not what was asked for."""

CHUNK = 2**16


class PrometheusFailed(ConfigurationInvalid):
    """Prometheus cannot be asked, or did not answer with what was asked for."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its labels, and its values by time (seconds since the epoch), finite ones."""

    labels: Mapping[str, str]
    values: Mapping[float, float]


def query_range(
    url: str, query: str, start: float, end: float, step: float, timeout: float
) -> Sequence[Series]:
    """The series of `query` from `start` to `end` in steps of `step` seconds.

    All of it, connecting included, takes `timeout` seconds at the most. PrometheusFailed says
    what is wrong in the words of whoever refused.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise PrometheusFailed(
            f"--prometheus {url}: is no URL of a Prometheus; write for example"
            f" http://localhost:9090"
        )
    asked = urllib.parse.urlencode(
        {
            "query": query,
            "start": f"{start:.3f}",
            "end": f"{end:.3f}",
            "step": f"{step:.3f}",
            "timeout": f"{timeout * 1e3:.0f}ms",
        }
    )
    until = time.monotonic() + timeout
    request = urllib.request.Request(
        f"{url.rstrip('/')}/api/v1/query_range", asked.encode(), method="POST"
    )
    try:
        # The scheme is one of the two above.
        with urllib.request.urlopen(request, timeout=timeout) as response:
            content = _all_of(response, until, url, timeout)
    except urllib.error.HTTPError as error:
        with error:
            raise PrometheusFailed(f"--prometheus {url}: {_refusal(error, until)}") from None
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, TimeoutError):
            raise _too_late(url, timeout) from None
        raise PrometheusFailed(f"--prometheus {url}: cannot be asked: {cause}") from None
    return _series(content, url)


def _all_of(response: Any, until: float, url: str, timeout: float) -> bytes:
    """The body; each part has its own time-out, and this clock watches the sum."""
    found = bytearray()
    while chunk := response.read1(CHUNK):
        found += chunk
        if time.monotonic() > until:
            raise _too_late(url, timeout)
        if len(found) > MOST_BYTES:
            raise PrometheusFailed(
                f"--prometheus {url}: the answer is longer than {MOST_BYTES >> 20} MiB; ask for"
                f" fewer days (--over) or a longer --window"
            )
    return bytes(found)


def _too_late(url: str, timeout: float) -> PrometheusFailed:
    return PrometheusFailed(
        f"--prometheus {url}: no answer within {timeout:g} s; ask for fewer days (--over), or allow"
        f" more time (--timeout)"
    )


def _refusal(error: urllib.error.HTTPError, until: float) -> str:
    """What Prometheus itself says, or at least the status."""
    try:
        told = json.loads(error.read1(CHUNK)) if time.monotonic() < until else {}
        return f"refuses the query ({told['errorType']}): {told['error']}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"answers {error.code} {error.reason}; is it a Prometheus?"


def _series(content: bytes, url: str) -> Sequence[Series]:
    try:
        told = json.loads(content)
        if told["status"] != "success":
            raise PrometheusFailed(f"--prometheus {url}: {told['error']}")
        found = []
        for each in told["data"]["result"]:
            values = {float(at): float(value) for at, value in each["values"]}
            finite = {at: value for at, value in values.items() if math.isfinite(value)}
            found.append(Series({str(k): str(v) for k, v in each["metric"].items()}, finite))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PrometheusFailed(
            f"--prometheus {url}: does not answer as a Prometheus does; give the address at which"
            f" its own pages are, such as http://localhost:9090"
        ) from None
    return found
