"""Settings of loading models while others are served."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings


class ReloadSettings(BaseSettings):
    """When the repository is looked at again without being asked."""

    watch: bool = Field(
        False,
        description="Whether models are loaded anew when their files change, and unloaded when"
        " their folder is gone.",
    )
    watch_settle_seconds: float = Field(
        3.0,
        ge=0.1,
        le=3600,
        description="How long nothing in a changed folder may have changed before it is loaded.",
    )
