"""How log lines name the requests that they concern: the same keys everywhere.

`request_id`, or `request_ids` and how many `requests` there are; `trace_id` and `span_id` of the
span that the line belongs to, where there is one; `reference` is what the caller was told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gearshift.ports import TraceIds

MOST_NAMED = 16
"""Requests that one line names."""


def of_request(request_id: bytes, trace: TraceIds | None = None) -> Mapping[str, object]:
    """One, by the id of its answer."""
    return _in({"request_id": request_id.decode(errors="replace")}, trace)


def of_requests(
    request_ids: Sequence[bytes], trace: TraceIds | None = None
) -> Mapping[str, object]:
    """Several, as those of a batch; `trace` is then the batch's."""
    named = [each.decode(errors="replace") for each in request_ids[:MOST_NAMED]]
    return _in({"request_ids": named, "requests": len(request_ids)}, trace)


def _in(keys: dict[str, object], trace: TraceIds | None) -> Mapping[str, object]:
    return keys if trace is None else keys | trace._asdict()
