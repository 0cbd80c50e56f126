"""Settings of what becomes of executors that fail."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from gearshift.engine.watch import HUNG_AFTER


class FaultSettings(BaseSettings):
    """Part of `Settings`."""

    hung_after_seconds: float = Field(
        HUNG_AFTER,
        ge=0.5,
        le=3600,
        description="A batch that takes longer than this, and than twenty times its p99, hangs:"
        " its worker is given up and another takes its place.",
    )
