"""What the page for everybody reads of the shared database: rows of the wide views, which have no personal column."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, NamedTuple

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.feeds import HORIZON
from include.core.names import predictions_view
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine, execute, lock, transaction
from include.io.postgres.schema import batches, model_versions, public_pages, publications, published, step_runs
from include.report.public_facts import ShownBatch

BLOCK_ROWS = 5_000
"""Rows that are held at once while they are written to a file."""


class PagePlace(NamedTuple):
    """Where the public page is.

    Attributes:
        place: URI of the folder of all pages.
        before: the place before, while the page was not yet written to the new one; None otherwise.
        tables: where the tables were then.
    """

    place: str
    before: str | None
    tables: str


@contextmanager
def reading_alone(settings: Settings, project: str) -> Iterator[sa.Connection]:
    """Yield a connection that sees one moment, while nobody else makes a page of the project.

    The moment is after the wait, so that of two writers the last one shows what was committed last.
    """
    with engine(settings).begin() as alone:
        lock(alone, f"public page {project}")
        with engine(settings).connect().execution_options(isolation_level="REPEATABLE READ") as reading:
            yield reading


def read_newest(connection: sa.Connection, model: str) -> ShownBatch | None:
    """Return the newest run date that readers see of a model, with its batch; None if they see none."""
    s, b, v, p = published.c, batches.c, model_versions.c, publications.c
    publication = sa.select(sa.func.max(p.id)).where(p.model == s.model, p.day == s.day).scalar_subquery()
    of_version = (v.model == s.model) & (v.model_version == b.model_version)
    statement = (
        sa
        .select(s.day, publication, b.model_version, v.semantic_version, b.as_of, s.published_at, b.rows)
        .select_from(published.join(batches, b.batch_id == s.batch_id).outerjoin(model_versions, of_version))
        .where(s.model == model)
        .order_by(s.day.desc())
        .limit(1)
    )
    row = connection.execute(statement).one_or_none()
    return None if row is None else ShownBatch(*row)


def read_place(settings: Settings, project: str) -> PagePlace | None:
    """Return where the page was last written to; None if that is not known."""
    p = public_pages.c
    statement = sa.select(p.place, p.place_before, p.tables).where(p.project == project)
    with engine(settings).connect() as connection:
        row = connection.execute(statement).one_or_none()
    return None if row is None else PagePlace(*row)


def was_written(settings: Settings, project: str) -> bool:
    """Return whether a step has ever written the page, also before its place was recorded (migration 0040)."""
    s = step_runs.c
    written = sa.exists().where(s.project == project, s.step == "public_page", s.state == "success")
    with engine(settings).connect() as connection:
        return bool(connection.scalar(sa.select(written)))


def record_place(settings: Settings, project: str, place: str) -> str | None:
    """Record where the page is to be written, in a transaction of its own; return the other place that may have one.

    The place before stays recorded until `finish_move`, also if the new one is wrong and nothing can be written there.
    What is recorded already is not written again.
    """
    known, other, before = read_place(settings, project), None, None
    if known is not None:
        other = known.before if known.place == place else known.place
        before = known.before or other
        if (known.place, known.tables) == (place, settings.tables):
            return other
    row = {
        "place": place,
        "place_before": None if before == place else before,
        "tables": settings.tables,
        "run_id": settings.run_id,
        "recorded_at": sa.func.clock_timestamp(),
    }
    adding = postgresql.insert(public_pages).values(project=project, **row)
    with engine(settings).begin() as connection:
        connection.execute(adding.on_conflict_do_update(index_elements=["project"], set_=row))
    return other


def finish_move(settings: Settings, project: str) -> None:
    """Forget the place before: the page was written to the new one."""
    with engine(settings).begin() as connection:
        connection.execute(public_pages.update().where(public_pages.c.project == project).values(place_before=None))


def read_highest(
    connection: sa.Connection, model: str, day: date, columns: Sequence[str], limit: int
) -> list[tuple[Any, ...]]:
    """Return the rows of a run date with the highest scores, the highest first; equal ones by their key."""
    selecting = _of_day(model, day, columns).order_by(sa.column("score").desc(), *_BY_KEY).limit(limit)
    return [tuple(row) for row in connection.execute(selecting)]


def read_all(connection: sa.Connection, model: str, day: date, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield all rows of a run date by their key, a block in memory at a time."""
    streaming = {"stream_results": True, "yield_per": BLOCK_ROWS}
    with connection.execute(_of_day(model, day, columns).order_by(*_BY_KEY), execution_options=streaming) as rows:
        yield from map(tuple, rows)


_BY_KEY: tuple[sa.ColumnElement[Any], ...] = (sa.column(HORIZON), sa.collate(sa.column("entity_id", schema.TEXT), "C"))


def read_types(settings: Settings, model: str, columns: Sequence[str]) -> pa.Schema:
    """Return the Arrow types of columns of the wide view, as an export has them."""
    with transaction(settings) as cursor:
        execute(cursor, _select(model, columns).limit(sa.literal_column("0")))
        return cursor.fetch_arrow_table().schema


def _of_day(model: str, day: date, columns: Sequence[str]) -> sa.Select[Any]:
    return _select(model, columns).where(sa.column("day", schema.DATE) == day)


def _select(model: str, columns: Sequence[str]) -> sa.Select[Any]:
    named: list[sa.ColumnElement[Any]] = [
        sa.cast(sa.column(name), sa.Text).label(name) if name == "probabilities" else sa.column(name)
        for name in columns
    ]
    return sa.select(*named).select_from(sa.table(predictions_view(model)))
