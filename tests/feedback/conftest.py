"""Feedback on SQLite and, where it is installed, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

import postgres
from feedback_place import Place
from gearshift.feedback import schema


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    if postgres.binaries() is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres.running() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'feedback.sqlite3'}"
    found: str = request.getfixturevalue("postgres_url")
    engine = create_engine(found.replace("postgresql:", "postgresql+psycopg:"))
    schema.metadata.drop_all(engine)
    engine.dispose()
    return found


@pytest.fixture
def at(url: str) -> Iterator[Callable[..., Place]]:
    """Makes places that share the database."""
    made: list[Place] = []

    def make(**options) -> Place:
        made.append(Place(url, **options))
        return made[-1]

    yield make
    for place in made:
        place.close()


@pytest.fixture
def place(at: Callable[..., Place]) -> Place:
    return at()
