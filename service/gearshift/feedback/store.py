"""Answers and labels in a SQL database, which several processes and replicas may share.

What must not happen twice is kept by unique constraints and transactions, not by locks here. All
methods block; they raise SQLAlchemyError when the database does not do what it should.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from sqlalchemy import (
    Connection,
    Table,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gearshift.core.catalog import Model, Variant
from gearshift.core.live import WINDOW, Labelled, Verdict
from gearshift.core.shadowing import Shadows
from gearshift.errors import ConfigurationInvalid
from gearshift.feedback import schema
from gearshift.feedback.broken import is_broken, put_aside
from gearshift.feedback.database import READS, alone_with_labels, connect, make_folder
from gearshift.feedback.schema import answers, artifacts, labels, verdicts

log = structlog.get_logger(__name__)

LONGEST_ID = 64
"""Bytes of a request id that are kept as they are; of longer ones a digest is."""

TOGETHER = 500
"""Ids that are asked for in one statement: SQLite takes a bounded number of parameters."""

DELETED_TOGETHER = 10_000

Record = Mapping[str, Any]
"""One row of a table, by column."""


class OpenedAnew(SQLAlchemyError):
    """The database is another one than what was to be written was made for; make it again."""


class Key(NamedTuple):
    """One request: its model, and its id as it is stored."""

    model: str
    request_id: bytes


class Known(NamedTuple):
    """One row of an answered request."""

    row: int
    rows: int
    artifact: int
    answer: float
    reference: float | None
    service_class: str
    ambiguous: bool


class Answered(NamedTuple):
    """One row of an answered request, as `schema.answers` has it."""

    model: str
    request_id: bytes
    row: int
    rows: int
    artifact: int
    service_class: str
    cascade: str
    fallback: bool
    answer: float
    probability: float
    answered_at: float
    nonce: int


Entry = tuple[str | bytes | int | float, ...]
"""The fields of an Answered; a plain tuple is made in a fraction of the time."""


def stored_id(request_id: bytes) -> bytes:
    """An id as it is stored; it may be as long as its caller likes."""
    if len(request_id) <= LONGEST_ID:
        return request_id
    # Longer than any that is kept as it is, so that it can be none of those.
    return b"sha256:" + hashlib.sha256(request_id).hexdigest().encode()


def key_of(model: str, request_id: bytes) -> Key:
    """The key that a request with this id has."""
    return Key(model, stored_id(request_id))


class Store:
    """`url` as in gearshift.feedback.database. At most `rows` answers and as many labels are
    kept, for `days`."""

    def __init__(self, url: str, rows: int, days: float) -> None:
        self._engine = connect(url)
        self._rows = rows
        self._seconds = days * 86_400
        self._artifacts: dict[tuple[str, str, str], int] = {}
        self._variants: dict[int, str] = {}
        dialect: Any = sqlite if self._engine.dialect.name == "sqlite" else postgresql
        self._insert = dialect.insert
        self._enter = self._entering()
        self._prepared = False
        self._known = False
        """Whether there were tables when this process first looked, or it has made them."""
        self.epoch = 0
        """Goes up when the database is opened anew: numbers from before mean nothing then."""

    @property
    def where(self) -> str:
        """The URL without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    def prepare(self) -> None:
        """Make the tables where there are none. ConfigurationInvalid if they are of a version
        that is not known here."""
        if self._prepared:
            return
        make_folder(self._engine.url)
        with self._engine.begin() as connection:
            alone_with_labels(connection)
            schema.metadata.create_all(connection)
            found = connection.scalar(select(schema.about.c.version))
            if found is None:
                connection.execute(insert(schema.about).values(version=schema.VERSION))
        if found not in (None, schema.VERSION):
            raise ConfigurationInvalid(
                f"setting feedback_url: {self.where} holds feedback of version {found}, and this"
                f" gearshift knows version {schema.VERSION} only; name another database"
            )
        if found is None and self._known:
            log.error(
                "the feedback database was removed or emptied: a new one is begun without what was"
                " counted in it",
                database=self.where,
            )
        self._prepared = self._known = True

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._reopening():
            self.prepare()
            with self._engine.connect().execution_options(**{READS: True}) as connection:
                yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._reopening():
            self.prepare()
            with self._engine.begin() as connection:
                yield connection

    @contextmanager
    def _reopening(self) -> Iterator[None]:
        """A file that was deleted, overwritten or cut off stays so for who has it open."""
        try:
            yield
        except DBAPIError as error:
            if self._engine.dialect.name == "sqlite":
                self._engine.dispose()
                self._prepared = False
                self.epoch += 1
                self._artifacts.clear()
                self._variants.clear()
                if is_broken(error) and put_aside(Path(str(self._engine.url.database))):
                    # That it is a new one was said.
                    self._known = False
            raise

    # --- answers -----------------------------------------------------------------------

    def artifact(self, model: Model, variant: Variant) -> int:
        """The number of a variant's artifact."""
        names = (model.name, variant.name, variant.artifact_sha256)
        known = self._artifacts.get(names)
        if known is None:
            values = dict(zip(("model", "variant", "sha256"), names, strict=True))
            of = [artifacts.c[name] == value for name, value in values.items()]
            with self._writing() as connection:
                connection.execute(self._insert(artifacts).on_conflict_do_nothing(), [values])
                known = connection.execute(select(artifacts.c.id).where(*of)).scalar_one()
            self._artifacts[names] = known
            self._variants[known] = variant.name
        return known

    def variant_of(self, artifact: int) -> str:
        """The name of the variant whose artifact has that number; "" if it was not asked for."""
        return self._variants.get(artifact, "")

    def record(self, rows: Sequence[Entry], epoch: int) -> None:
        """Enter answers, each with the fields of Answered, whose artifacts got their numbers in
        that `epoch`. An id that is there already, from another request, becomes ambiguous. Doing it
        again changes nothing. OpenedAnew if the epoch is over."""
        with self._writing() as connection:
            if epoch != self.epoch:
                raise OpenedAnew("the database was opened anew meanwhile")
            # Past SQLAlchemy's parameters: with thousands a second they would cost more than all
            # else here.
            connection.exec_driver_sql(self._enter, list(rows))

    def _entering(self) -> str:
        """The statement that enters an Answered."""
        enter = self._insert(answers)
        same = or_(answers.c.ambiguous, answers.c.nonce != enter.excluded.nonce)
        enter = enter.on_conflict_do_update(
            index_elements=["request_id", "model", "row"], set_={"ambiguous": same}
        )
        made = enter.compile(dialect=self._engine.dialect, column_keys=list(Answered._fields))
        assert tuple(made.positiontup or ()) == Answered._fields
        return str(made)

    def refer(self, rows: Sequence[Answered]) -> None:
        """Enter what the most accurate variant said about rows that another has answered."""
        found = [
            {
                "of_model": said.model,
                "of_id": said.request_id,
                "of_row": said.row,
                "reference": said.answer,
            }
            for said in rows
        ]
        with self._writing() as connection:
            for table in (answers, labels):
                change = update(table).where(
                    table.c.request_id == bindparam("of_id"),
                    table.c.model == bindparam("of_model"),
                    table.c.row == bindparam("of_row"),
                )
                connection.execute(change.values(reference=bindparam("reference")), found)

    def find(self, keys: Iterable[Key]) -> dict[Key, list[Known]]:
        """The rows of those requests that are known, in order."""
        columns = [answers.c[name] for name in Known._fields]
        found: dict[Key, list[Known]] = defaultdict(list)
        with self._reading() as connection:
            for model, ids in _together(keys):
                asked = select(answers.c.request_id, *columns).where(
                    answers.c.request_id.in_(ids), answers.c.model == model
                )
                for request_id, *row in connection.execute(asked.order_by(answers.c.row)):
                    found[Key(model, bytes(request_id))].append(Known(*row))
        return dict(found)

    # --- labels ------------------------------------------------------------------------

    def count(self, rows: Sequence[Record]) -> set[Key]:
        """Enter labels, rows of `schema.labels`, of requests that have none; which these were.
        Durable once this returns."""
        enter = self._insert(labels).on_conflict_do_nothing(
            index_elements=["request_id", "model", "row"]
        )
        with self._writing() as connection:
            alone_with_labels(connection)
            done = connection.execute(enter.returning(labels.c.model, labels.c.request_id), rows)
            return {Key(model, bytes(request_id)) for model, request_id in done}

    def counted(self, keys: Iterable[Key]) -> dict[Key, tuple[int, ...]]:
        """The labels of those requests that have some, in the order of the rows."""
        found: dict[Key, list[int]] = defaultdict(list)
        with self._reading() as connection:
            for model, ids in _together(keys):
                asked = select(labels.c.request_id, labels.c.label).where(
                    labels.c.request_id.in_(ids), labels.c.model == model
                )
                for request_id, label in connection.execute(asked.order_by(labels.c.row)):
                    found[Key(model, bytes(request_id))].append(label)
        return {key: tuple(each) for key, each in found.items()}

    def latest(self) -> int:
        """The number of the latest label, 0 without any."""
        with self._reading() as connection:
            return connection.scalar(select(func.max(labels.c.seq))) or 0

    def changed(self, after: int) -> dict[int, int]:
        """The artifacts that got labels since number `after`, and the number of the latest."""
        asked = select(labels.c.artifact, func.max(labels.c.seq)).where(labels.c.seq > after)
        with self._reading() as connection:
            found = connection.execute(asked.group_by(labels.c.artifact))
            return {row[0]: row[1] for row in found}

    def window(self, artifact: int) -> list[Labelled]:
        """The newest labelled rows of an artifact, the oldest of them first."""
        asked = select(labels.c.answer, labels.c.label, labels.c.weight)
        asked = asked.where(labels.c.artifact == artifact).order_by(labels.c.seq.desc())
        with self._reading() as connection:
            return [Labelled(*row) for row in connection.execute(asked.limit(WINDOW))][::-1]

    def shadows(self) -> dict[int, Shadows]:
        """By artifact, how often its classes agree with the reference's, and are right."""
        agrees = answers.c.answer == answers.c.reference
        labelled = exists().where(
            and_(*(answers.c[name] == labels.c[name] for name in ("request_id", "model", "row")))
        )
        unlabelled = (
            select(answers.c.artifact, func.count(), func.sum(case((agrees, 1), else_=0)))
            .where(answers.c.reference.is_not(None), ~labelled)
            .group_by(answers.c.artifact)
        )
        weight = labels.c.weight
        agreed = labels.c.answer == labels.c.reference
        right = labels.c.answer == labels.c.label
        cells = [
            func.sum(case((and_(*cell), weight), else_=0.0))
            for cell in ((agreed, right), (agreed, ~right), (~agreed, right), (~agreed, ~right))
        ]
        judged = (
            select(labels.c.artifact, *cells, func.count(), func.sum(weight * weight))
            .where(labels.c.reference.is_not(None))
            .group_by(labels.c.artifact)
        )
        with self._reading() as connection:
            alone = {row[0]: (row[1], int(row[2])) for row in connection.execute(unlabelled)}
            told = {row[0]: tuple(row[1:]) for row in connection.execute(judged)}
        nothing = (0.0, 0.0, 0.0, 0.0, 0, 0.0)
        return {
            artifact: Shadows(*alone.get(artifact, (0, 0)), *told.get(artifact, nothing))
            for artifact in {*alone, *told}
        }

    # --- canaries ----------------------------------------------------------------------

    def decide(self, artifact: int, verdict: Verdict, now: float) -> Verdict:
        """Enter a verdict about a canary, unless there is one; the one that stands."""
        values = {"artifact": artifact, "verdict": verdict.value, "decided_at": now}
        asked = select(verdicts.c.verdict).where(verdicts.c.artifact == artifact)
        with self._writing() as connection:
            connection.execute(self._insert(verdicts).on_conflict_do_nothing(), [values])
            return Verdict(connection.execute(asked).scalar_one())

    def verdicts(self) -> dict[int, Verdict]:
        """All verdicts, by artifact."""
        with self._reading() as connection:
            found = connection.execute(select(verdicts.c.artifact, verdicts.c.verdict))
            return {artifact: Verdict(verdict) for artifact, verdict in found}

    # --- bounds ------------------------------------------------------------------------

    def prune(self, now: float) -> None:
        """Delete what is too much or too old at `now` (seconds since the epoch), the oldest first,
        a little at a time. The room is used again for what comes."""
        self._shorten(answers, "id", "answered_at", now - self._seconds)
        self._shorten(labels, "seq", "reported_at", now - self._seconds)

    def _shorten(self, table: Table, number: str, moment: str, before: float) -> None:
        numbers, times = table.c[number], table.c[moment]
        while True:
            with self._reading() as connection:
                ends = connection.execute(select(func.min(numbers), func.max(numbers))).one()
                if ends[0] is None:
                    return
                oldest = connection.scalar(select(times).where(numbers == ends[0]))
            # Numbers are given once: no more than so many can be above that one.
            surplus = ends[1] - self._rows
            if ends[0] > surplus and (oldest is None or oldest >= before):
                return
            due = or_(numbers <= surplus, times < before)
            with self._writing() as connection:
                connection.execute(delete(table).where(numbers < ends[0] + DELETED_TOGETHER, due))


def _together(keys: Iterable[Key]) -> Iterator[tuple[str, list[bytes]]]:
    """The ids by model, not too many at a time."""
    by_model: dict[str, list[bytes]] = defaultdict(list)
    for model, request_id in keys:
        by_model[model].append(request_id)
    for model, ids in by_model.items():
        for start in range(0, len(ids), TOGETHER):
            yield model, ids[start : start + TOGETHER]
