"""A database by its URL: SQLite with sane pragmas, or PostgreSQL. Every wait in it is bounded."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from gearshift.errors import ConfigurationInvalid

READS = "gearshift_reads"
"""The execution option of connections that only read."""

SECONDS = 5
"""How long a connection, a lock or a silent server is waited for."""

STATEMENT_SECONDS = 20

_LABELS_LOCK = 0x67656172
"""PostgreSQL knows advisory locks by number only; whoever adds labels or tables takes this one."""


def connect(url: str) -> Engine:
    """The engine for `url`; ConfigurationInvalid if it names no database that can be used. Opens
    nothing yet but the folder of a SQLite file."""
    try:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
        if kind == "sqlite":
            return _sqlite(parsed)
        if kind == "postgresql":
            return _postgresql(parsed)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        hint = " (pip install 'gearshift[postgres]')" if isinstance(error, ImportError) else ""
        raise ConfigurationInvalid(f"setting feedback_url: {error}{hint}") from None
    raise ConfigurationInvalid(
        f"setting feedback_url: {kind!r} is not supported; it is sqlite:///FILE or"
        " postgresql://USER@HOST/DATABASE"
    )


def alone_with_labels(connection: Connection) -> None:
    """Until the end of the transaction nobody else adds labels, so that their numbers rise in the
    order of the commits. SQLite has one writer at a time anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LABELS_LOCK})"))


def _sqlite(url: URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise ConfigurationInvalid(
            "setting feedback_url: SQLite needs a file, as in sqlite:////var/lib/feedback.sqlite3"
        )
    make_folder(url)
    engine = create_engine(url, connect_args={"timeout": SECONDS})

    @event.listens_for(engine, "connect")
    def opened(connection: Any, _: Any) -> None:
        # Transactions begin where we say so and not where the driver thinks best.
        connection.isolation_level = None
        # No write-ahead log: its index is mapped into memory, and whoever truncates that file ends
        # this process (SIGBUS); nor would a database that was deleted be noticed.
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA mmap_size = 0")
        # What was acknowledged survives the machine as well.
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        # A reader that turns into a writer fails if another wrote in between.
        reads = connection.get_execution_options().get(READS, False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def make_folder(url: URL) -> None:
    """The folder of a SQLite file. Where it cannot be made, opening the file says so."""
    if url.get_backend_name() == "sqlite":
        with suppress(OSError):
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)


def _postgresql(url: URL) -> Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    arguments: dict[str, Any] = {}
    if url.get_driver_name() == "psycopg":
        arguments = {
            "connect_timeout": SECONDS,
            "tcp_user_timeout": SECONDS * 1_000,
            "options": f"-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={SECONDS}s",
        }
    return create_engine(
        url,
        connect_args=arguments,
        pool_pre_ping=True,
        pool_timeout=SECONDS,
        # Parameters in order and not by name, as in SQLite: so answers are entered (Store.record).
        paramstyle="format",
    )
