"""Settings that bound what a repository may hold and what its models may do."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

LEAST_BYTES = 1_024 * 1_024


class RepositorySettings(BaseSettings):
    """How far a repository is trusted."""

    max_artifact_bytes: int = Field(
        4 * 2**30,
        ge=LEAST_BYTES,
        description="Bytes of one artifact with the files that belong to it; a larger one is not"
        " read.",
    )
    max_repository_bytes: int = Field(
        16 * 2**30,
        ge=LEAST_BYTES,
        description="Bytes of all artifacts that are read at one load of the repository.",
    )
    max_run_bytes: int = Field(
        0,
        ge=0,
        description="Bytes of the arena from which runs of ONNX Runtime on the processor take what"
        " they need on their way, of one process; a run that needs more fails. 0 for no limit.",
    )
    try_apart: bool = Field(
        False,
        description="Whether each artifact is first loaded by a process of its own, with bounds on"
        " its memory and time, that may crash in its place: for models of others. Takes about a"
        " second for each.",
    )
