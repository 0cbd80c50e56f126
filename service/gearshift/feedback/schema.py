"""The tables. Answers and labels stand side by side, so that an answer may go and what was learned
from it stay; both are bounded by the same number of rows and the same age."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
)

VERSION = 1
"""Of the tables' meaning; a database of another version is refused."""

metadata = MetaData()

_NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a column that is exactly INTEGER."""

about = Table("feedback_about", metadata, Column("version", Integer, nullable=False))

artifacts = Table(
    "feedback_artifacts",
    metadata,
    Column("id", _NUMBER, primary_key=True),
    Column("model", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    UniqueConstraint("model", "variant", "sha256"),
)
"""Whatever has ever answered here. A replaced file is another artifact and begins anew."""

answers = Table(
    "feedback_answers",
    metadata,
    Column("id", _NUMBER, primary_key=True),
    Column("model", Text, nullable=False),
    Column("request_id", LargeBinary, nullable=False),
    Column("row", Integer, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("artifact", _NUMBER, nullable=False),
    Column("service_class", Text, nullable=False),
    Column("cascade", Text, nullable=False),
    Column("fallback", Boolean, nullable=False),
    Column("answer", Double, nullable=False),
    Column("probability", Double, nullable=False),
    Column("reference", Double),
    Column("answered_at", Double, nullable=False),
    Column("nonce", BigInteger, nullable=False),
    Column("ambiguous", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("request_id", "model", "row"),
)
"""One row of a request each, of `rows`. `answer` is the class or the score, `reference` what the
most accurate variant said in a shadow run. `nonce` is drawn for each answered request: written
twice by a retry it is the same, under another one the id is `ambiguous`. Times are seconds since
the epoch."""

labels = Table(
    "feedback_labels",
    metadata,
    Column("seq", _NUMBER, primary_key=True),
    Column("model", Text, nullable=False),
    Column("request_id", LargeBinary, nullable=False),
    Column("row", Integer, nullable=False),
    Column("artifact", _NUMBER, nullable=False),
    Column("answer", Double, nullable=False),
    Column("reference", Double),
    Column("label", BigInteger, nullable=False),
    Column("weight", Double, nullable=False),
    Column("reported_at", Double, nullable=False),
    UniqueConstraint("request_id", "model", "row"),
    Index("feedback_labels_by_artifact", "artifact", "seq"),
    # So that no number is given twice, not even when the table has run empty in between.
    sqlite_autoincrement=True,
)
"""`seq` rises in the order of the commits: who has read up to one has missed none."""

for _table in (answers, labels):
    _shadowed = _table.c.reference.is_not(None)
    Index(
        f"{_table.name}_shadowed",
        _table.c.artifact,
        sqlite_where=_shadowed,
        postgresql_where=_shadowed,
    )

verdicts = Table(
    "feedback_verdicts",
    metadata,
    Column("artifact", _NUMBER, primary_key=True),
    Column("verdict", Text, nullable=False),
    Column("decided_at", Double, nullable=False),
)
"""What was found about a canary stays found, also when its labels are gone."""
