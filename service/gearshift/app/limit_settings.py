"""Settings of what callers can make the server keep; docs/limits.md has the sum of them all."""

from __future__ import annotations

from dataclasses import fields
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from gearshift.core.limits import KIB, MIB, HttpLimits, Limits

_DEFAULT, _HTTP = Limits(), HttpLimits()

LONGEST_MESSAGE = 2**31 - 1
"""Bytes that protobuf can serialize."""


class LimitSettings(BaseSettings):
    """One field for each of `Limits`, by the same name, and those of the HTTP port and of shared
    memory."""

    max_connections: int = Field(
        _DEFAULT.max_connections,
        ge=1,
        le=1_000_000,
        description="gRPC connections at a time; with several processes, of all together, as"
        " everything that is limited in all.",
    )
    max_connections_per_peer: int = Field(
        _DEFAULT.max_connections_per_peer,
        ge=1,
        le=1_000_000,
        description="gRPC connections at a time from one address; a proxy before the server is one"
        " address.",
    )
    max_streams: int = Field(
        _DEFAULT.max_streams,
        ge=1,
        le=1_000_000,
        description="Calls of one connection at a time; clients wait with what is above it.",
    )
    max_requests: int = Field(
        _DEFAULT.max_requests, ge=1, description="Requests under way at a time, in all."
    )
    max_requests_per_connection: int = Field(
        _DEFAULT.max_requests_per_connection,
        ge=1,
        description="Requests of one connection under way at a time, those of its streams"
        " included.",
    )
    max_queue: int = Field(
        _DEFAULT.max_queue, ge=1, description="Requests of one model that wait for a worker."
    )
    max_queue_bytes: int = Field(
        _DEFAULT.max_queue_bytes,
        ge=MIB,
        description="Bytes of the inputs of requests that wait or run, in all.",
    )
    max_held_bytes: int = Field(
        _DEFAULT.max_held_bytes,
        ge=2 * MIB,
        description="Bytes of requests that are not complete, in all; one connection may have half"
        " of them. At least twice max_message_bytes.",
    )
    max_unread_bytes: int = Field(
        _DEFAULT.max_unread_bytes,
        ge=2 * MIB,
        description="Bytes of answers that their callers do not read, in all; one connection may"
        " have half of them.",
    )
    max_message_bytes: int = Field(
        _DEFAULT.max_message_bytes,
        ge=64 * KIB,
        le=LONGEST_MESSAGE,
        description="Bytes of one inference request, unpacked if it was compressed.",
    )
    max_metadata_bytes: int = Field(
        _DEFAULT.max_metadata_bytes,
        ge=4 * KIB,
        le=MIB,
        description="Bytes of the header fields of one call, as HTTP/2 counts them.",
    )
    max_cancels_per_second: int = Field(
        _DEFAULT.max_cancels_per_second,
        ge=1,
        description="Calls that one connection may cancel or break in a second; more only as far as"
        " they are not more than half of the calls that it begins.",
    )
    max_idle_frames_per_second: int = Field(
        _DEFAULT.max_idle_frames_per_second,
        ge=100,
        description="Frames of one connection in a second that cost work and say nothing (PING,"
        " SETTINGS, empty DATA and the like).",
    )
    stall_seconds: float = Field(
        _DEFAULT.stall_seconds,
        gt=0,
        le=3600,
        description="How long a request may take to come in, a frame to be complete, and an answer"
        " to be read without getting on.",
    )
    max_shared_memory_regions: int = Field(
        256, ge=1, le=65_536, description="Shared memory regions registered at a time."
    )
    max_http_connections: int = Field(
        _HTTP.connections, ge=1, le=65_536, description="Connections to the HTTP port at a time."
    )
    max_http_head_bytes: int = Field(
        _HTTP.head_bytes, ge=KIB, le=MIB, description="Bytes of an HTTP request's line and headers."
    )
    http_seconds: float = Field(
        _HTTP.seconds,
        gt=0,
        le=3600,
        description="How long an HTTP request may take from its first byte until its answer has"
        " been read.",
    )

    @property
    def limits(self) -> Limits:
        """Those of gRPC callers."""
        return Limits(**{each.name: getattr(self, each.name) for each in fields(Limits)})

    @property
    def http_limits(self) -> HttpLimits:
        """Those of who comes to the HTTP port."""
        return HttpLimits(
            connections=self.max_http_connections,
            head_bytes=self.max_http_head_bytes,
            seconds=self.http_seconds,
        )

    @model_validator(mode="after")
    def _one_message_has_room(self) -> Self:
        if self.max_held_bytes < 2 * self.max_message_bytes:
            raise ValueError(
                f"max_held_bytes of {self.max_held_bytes} is less than twice max_message_bytes of"
                f" {self.max_message_bytes}, so that no connection could send such a message; raise"
                f" the one or lower the other"
            )
        return self
