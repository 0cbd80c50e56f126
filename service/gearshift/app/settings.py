"""Every setting of the server: as an option, an environment variable, or a key in a TOML file.

An option on the command line wins over `GEARSHIFT_<NAME>` in the environment, which wins
over the file, which wins over the default.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from gearshift.app.access_settings import AccessSettings, only_this_machine
from gearshift.app.fault_settings import FaultSettings
from gearshift.app.limit_settings import LimitSettings
from gearshift.app.reload_settings import ReloadSettings
from gearshift.app.repository_settings import RepositorySettings
from gearshift.app.worker_settings import WorkerSettings
from gearshift.errors import ConfigurationInvalid
from gearshift.processes import usable_workers

CONFIG_VARIABLE = "GEARSHIFT_CONFIG"


def _state_dir() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "gearshift"


class Settings(
    AccessSettings,
    FaultSettings,
    LimitSettings,
    ReloadSettings,
    RepositorySettings,
    WorkerSettings,
    BaseSettings,
):
    """What `gearshift serve` can be told."""

    model_config = SettingsConfigDict(env_prefix="GEARSHIFT_", extra="forbid")

    repository: Path = Field(Path("model_repo"), description="Folder with one folder per model.")
    host: str = Field("127.0.0.1", description="Address that both ports listen on.")
    grpc_port: int = Field(8001, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    http_port: int = Field(
        8002,
        ge=0,
        le=65535,
        description="Port of the page at /, of /metrics, /healthz and /readyz, and of the protocol"
        " over HTTP; 0: a free one.",
    )
    rest: bool = Field(
        True,
        description="Whether the HTTP port speaks the inference protocol as well (/v2), control"
        " calls included.",
    )
    workers: int = Field(
        default_factory=lambda known: usable_workers(threads=known.get("worker_threads", 1)),
        ge=1,
        le=1024,
        description="Batches that run at the same time on the processor; by default one per"
        " core, or per worker_threads cores, within the CPU limit of a container.",
    )
    processes: int = Field(
        1,
        ge=1,
        le=1024,
        description="Serving processes behind the one port; cores and workers are divided among"
        " them.",
    )
    state_dir: Path = Field(
        default_factory=_state_dir, description="Where latency profiles and feedback are kept."
    )
    on_time_bonus: float = Field(
        0.0,
        ge=0,
        le=100,
        description="What being in time is worth beside the accuracy, as a share of the best"
        " accuracy: under overload, more of it trades accuracy for answers in time.",
    )
    drain_seconds: float = Field(
        30.0, ge=0, le=3600, description="How long admitted requests may take at shutdown."
    )
    connection_age_seconds: float = Field(
        0.0,
        ge=0,
        description="How long a connection lives before its caller is told to connect anew, which"
        " costs no request: callers who balance by themselves find added replicas only then. 0 for"
        " ever.",
    )
    shared_memory: bool | None = Field(
        None,
        description="Whether callers may register shared memory, which lets them read and write"
        " what the server may in /dev/shm; by default where only this machine can call.",
    )
    shadow_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of the requests answered by a lesser variant that are run again on the"
        " best one, in spare time only; 0 for none.",
    )
    drift: bool = Field(
        True,
        description="Whether a sample of the inputs is compared with the held-out samples of their"
        " model.",
    )
    feedback: bool = Field(
        True,
        description="Whether answers are kept for a while, so that what was true in the end can be"
        " reported and shows what the variants are worth now.",
    )
    feedback_url: str = Field(
        "",
        description="Database of answers and labels, as in postgresql://USER@HOST/DATABASE; all"
        " replicas may share one. Empty is a SQLite file in the state dir.",
    )
    feedback_rows: int = Field(
        1_000_000,
        ge=1_000,
        description="Rows of answers that are kept, and as many labels; about 150 bytes each.",
    )
    feedback_days: float = Field(
        30.0, gt=0, le=3_650, description="Days that answers and labels are kept."
    )
    quotas: Path | None = Field(
        None,
        description="TOML file with how many rows a second each client and service class may send;"
        " read again when it changes.",
    )
    otel_endpoint: str = Field(
        "",
        description="Where traces are sent by OTLP over gRPC, as in http://localhost:4317; empty is"
        " what OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT says, if either.",
    )
    trace_ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of the requests that are traced where the caller's trace does not"
        " decide it; OTEL_TRACES_SAMPLER overrules it.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log line that is written."
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="Lines for people or for machines; both go to stderr."
    )

    @property
    def feedback_database(self) -> str:
        """The URL of the database that answers and labels stand in."""
        return self.feedback_url or f"sqlite:///{self.state_dir.absolute() / 'feedback.sqlite3'}"

    @property
    def connection_age(self) -> float:
        """In seconds, infinite for ever."""
        return self.connection_age_seconds or math.inf

    @property
    def registers_shared_memory(self) -> bool:
        """What was said, or else whether `host` keeps out callers from other machines."""
        if self.shared_memory is not None:
            return self.shared_memory
        return only_this_machine(self.host)

    @property
    def listens_http(self) -> str:
        """The address that the HTTP port listens on. As a rule that of the other port: probes and
        Prometheus come from where the callers come from."""
        return self.http_host or self.host

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = os.environ.get(CONFIG_VARIABLE)
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        return (*sources, TomlConfigSettingsSource(settings_cls, file)) if file else sources


def load_settings(config: Path | None = None, **options: Any) -> Settings:
    """Settings from all sources; options that are None were not given.

    Raises ConfigurationInvalid that lists every wrong setting with its source's spelling.
    """
    before = os.environ.get(CONFIG_VARIABLE)
    if config is None:
        return _settings(before, options)
    # That is where the sources look; whoever loads settings later is not meant.
    os.environ[CONFIG_VARIABLE] = str(config)
    try:
        return _settings(str(config), options)
    finally:
        if before is None:
            del os.environ[CONFIG_VARIABLE]
        else:
            os.environ[CONFIG_VARIABLE] = before


def _settings(file: str | None, options: dict[str, Any]) -> Settings:
    if file and not Path(file).is_file():
        raise ConfigurationInvalid(f"configuration file {file}: no such file")
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "default_factory_not_called":
                continue  # It follows from another setting, which is wrong.
            if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
                known = ", ".join(Settings.model_fields)
                where = f"{file}: " if file and name not in given else ""
                lines.append(f"{where}unknown setting {name!r}; there are {known}")
            elif not problem["loc"]:  # several settings do not go together
                lines.append(str(problem["ctx"]["error"]))
            else:
                lines.append(f"setting {name}: {problem['msg']}, got {problem['input']!r}")
        raise ConfigurationInvalid("\n".join(lines)) from None
    except ValueError as error:
        raise ConfigurationInvalid(f"configuration file {file}: {error}") from None
