"""Prediction batches and the pointers that readers follow, in the shared database."""

import hashlib
import json
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Protocol

import adbc_driver_manager.dbapi
import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.dml import ReturningInsert

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.feeds import HORIZON
from include.core.horizons import KEY
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import PublishedDay, PublishMode, UnpublishedDay
from include.core.schemas import EVERY_PREDICTION, OF_JSON, PREDICTION_COLUMNS, STORED_PREDICTION
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.actions import put_actions, through, through_adbc
from include.io.postgres.connection import (
    copy,
    engine,
    execute,
    frame_of,
    lock,
    lock_in,
    read,
    stage,
    temporary_table,
    transaction,
)
from include.io.postgres.migrations import entities as entity_tables
from include.io.postgres.months import keep_months
from include.io.postgres.promotions import ChampionShift, rolled_back_from, select_champion_as_of, select_shifts
from include.io.postgres.readers_news import put_news
from include.io.postgres.schema import batches, models, predictions, publications, published

KEPT_BYTES = 1 << 26  # of a column, in memory
READ_BYTES = 1 << 20


class RowsDigest:
    """The SHA-256 of one day's rows, which come in blocks in the order of horizon, if there is one, and `entity_id`.

    It covers the number of rows, their `entity_id`s, then each column as little-endian float64 (null as NaN), or its
    text. It is the same for Arrow data to be written and for rows that are read back, and however they are cut into
    blocks. A column follows the one before it, so columns are kept to the end: in memory if they are small, else in
    temporary files.
    """

    def __init__(self, rows: int, columns: Sequence[str], always: Collection[str]) -> None:
        """Begin.

        Args:
            rows: the number of rows of all blocks together.
            columns: the columns, in order. One without a value does not count, nor do horizons if all are 0.
            always: those that count anyway.
        """
        self._columns, self._always = columns, always
        self._kept: dict[str, IO[bytes]] = {}
        self._texts: set[str] = set()
        self._seen = 0
        self._digest = hashlib.sha256(rows.to_bytes(8, "little"))

    def add(self, rows: pl.DataFrame) -> None:
        """Add a block."""
        if rows.height:
            ids = rows["entity_id"].str.join("\0").item() or ""  # PostgreSQL's text cannot hold the separator
            self._digest.update(("\0" + ids if self._seen else ids).encode())
        for name in self._columns:
            if name in self._kept or name in self._always or _counts(rows, name):
                self._keep(name, rows[name])
        self._seen += rows.height

    def _keep(self, name: str, values: pl.Series) -> None:
        if name not in self._kept:
            self._kept[name] = SpooledTemporaryFile(KEPT_BYTES)  # noqa: SIM115 (closed with the digest)
            if values.dtype == pl.String:
                self._texts.add(name)
            if self._seen:  # blocks in which it did not count
                absent = 0 if name == HORIZON else None
                self._keep(name, pl.repeat(absent, self._seen, dtype=values.dtype, eager=True))
        file = self._kept[name]
        if name not in self._texts:
            file.write(values.to_numpy().astype("<f8").data)
        elif values.len():
            # PostgreSQL keeps neither the order of keys nor how a number was written.
            texts = values.map_elements(_canonical, pl.String) if name in OF_JSON else values
            file.write(((", " if file.tell() else "") + json.dumps(texts.to_list())[1:-1]).encode())

    def hexdigest(self) -> str:
        """Return the digest of the blocks. No block can be added after it."""
        for name in self._columns:
            if name in self._kept:
                with self._kept.pop(name) as file:
                    file.seek(0)
                    self._digest.update(b"[" if name in self._texts else b"")
                    while part := file.read(READ_BYTES):
                        self._digest.update(part)
                    self._digest.update(b"]" if name in self._texts else b"")
        return self._digest.hexdigest()


def rows_digest(rows: pl.DataFrame, *columns: str) -> str:
    """Return the digest of one day's rows, in any order, with these columns: see `RowsDigest`."""
    digest = RowsDigest(rows.height, columns, always=columns)
    digest.add(rows.sort([name for name in (HORIZON, "entity_id") if name in rows.columns]))
    return digest.hexdigest()


def begin_batch_digest(rows: int) -> RowsDigest:
    """Return the digest of a prediction batch of so many rows, before the first block."""
    return RowsDigest(rows, [HORIZON, *STORED_PREDICTION], always=EVERY_PREDICTION)


def batch_digest(rows: pl.DataFrame) -> str:
    """Return the digest of a prediction batch, whose rows may be in any order: see `RowsDigest`.

    Columns that the problem type lacks do not count. Nor do horizons, if all are 0.
    """
    digest = begin_batch_digest(rows.height)
    digest.add(rows.sort([name for name in (HORIZON, "entity_id") if name in rows.columns]))
    return digest.hexdigest()


def _counts(rows: pl.DataFrame, name: str) -> bool:
    if name == HORIZON:
        return name in rows.columns and bool((rows[name] > 0).any())
    return name in rows.columns and rows[name].null_count() < rows.height


def _canonical(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


@dataclass(frozen=True)
class Batch:
    """A summary of a prediction batch."""

    batch_id: str
    day: date
    model_version: int
    rows: int
    digest: str
    as_of: datetime
    horizon_days: int = 0
    repeats_entities: bool = False  # whether its day has an entity twice


_STAGED_BATCHES = temporary_table(
    "staged_batches",
    sa.Column("batch_id", schema.TEXT),  # ADBC has no type for uuid
    sa.Column("day", schema.DATE),
    sa.Column("model_version", schema.INTEGER),
    sa.Column("rows", schema.BIGINT),
    sa.Column("digest", schema.TEXT),
    sa.Column("as_of", schema.MOMENT),
    sa.Column("horizon_days", schema.INTEGER),
)
_DECIDED = temporary_table(
    "decided",
    sa.Column("day", schema.DATE),
    sa.Column("batch_id", schema.UUID),
    sa.Column("replaced", schema.UUID),
    sa.Column("state", schema.TEXT),
)
_STAGED_ID = sa.cast(_STAGED_BATCHES.c.batch_id, schema.UUID)


class Blocks(Protocol):
    """Rows of one transaction, in blocks in the order of KEY. They can be read more than once."""

    def __call__(self, days: Collection[date]) -> Iterator[pl.DataFrame]:
        """Yield the rows of these days."""


def publish_batches(
    settings: Settings,
    project: Project,
    model: Model,
    new: Sequence[Batch],
    scores: Blocks,
    entities: Blocks,
    mode: PublishMode,
) -> list[PublishedDay]:
    """Store batches and move the pointers of their days in one transaction: readers see all of it or nothing.

    A batch that is already stored is not stored again.

    Args:
        settings: the database and the id of this run.
        project: the model's project.
        model: the model that predicted.
        new: the batches, at most one for each day.
        scores: KEY (day, horizon, entity_id) and the columns of predictions that have values. In the order of KEY, the
            indexes are filled in order, which is faster.
        entities: KEY and the public columns, with each key once or more.
        mode: `replace`, or `missing` to keep pointers and entities that exist.

    Returns:
        What happened to each day.

    Raises:
        ActionRequiredError: a batch is of a version that a rollback took from the champions of its day, so it was
            scored before the rollback. Nothing is written then.
    """
    with transaction(settings) as cursor:
        _store(cursor, settings, model, new, scores)
        stage(cursor, _DECIDED)
        execute(cursor, _decide(model.name, mode))
        _refuse_rolled_back(cursor, model.name)
        execute(cursor, _move_pointers(model.name, mode, settings.run_id))
        _write_entities(cursor, project, new, entities, mode)
        execute(cursor, _select_decided())
        days = [
            PublishedDay(day=day, batch_id=batch_id, state=state, rows=rows, differing=differing)
            for day, batch_id, state, rows, differing in cursor.fetchall()
        ]
        moved = {each.day for each in days if each.state == "published"}
        put_actions(through_adbc(cursor), model, moved, settings.run_id)
        return days


def store_batches(settings: Settings, model: Model, new: Sequence[Batch], scores: Blocks) -> None:
    """Store batches that no pointer names, so that readers do not see them. Those that are stored stay as they are.

    Args:
        settings: the database and the id of this run.
        model: the model that predicted.
        new: the batches, at most one for each day.
        scores: KEY (day, horizon, entity_id) and the columns of predictions that have values.
    """
    with transaction(settings) as cursor:
        _store(cursor, settings, model, new, scores)


def _store(cursor: Any, settings: Settings, model: Model, new: Sequence[Batch], scores: Blocks) -> None:
    """Take the lock for publishing, and store the batches that are new, with their rows."""
    stage(cursor, _STAGED_BATCHES, frame_of(_STAGED_BATCHES, new))
    lock_in(cursor, f"publish {model.name}")
    keep_months(cursor, predictions.name, {batch.day for batch in new})
    execute(cursor, _declare(model))
    execute(cursor, _store_batches(model.name, settings.run_id))
    made = {day for (day,) in cursor.fetchall()}
    execute(cursor, _select_without_rows())
    made |= {day for (day,) in cursor.fetchall()}
    ids = pl.DataFrame(
        [(batch.day, uuid.UUID(batch.batch_id).bytes) for batch in new],
        schema={"day": pl.Date, "batch_id": pl.Binary},  # as COPY takes a uuid: ADBC has no type for it
        orient="row",
    )
    if made:
        copy(cursor, predictions.name, (_to_copy(rows, model, ids) for rows in scores(made)))


def _to_copy(rows: pl.DataFrame, model: Model, ids: pl.DataFrame) -> pl.DataFrame:
    """Return rows of predictions as COPY takes them: jsonb is text after the number of its format."""
    names = [name for name in STORED_PREDICTION if name in rows.columns]
    as_jsonb = [pl.concat_str(pl.lit("\1"), pl.col(name)).alias(name) for name in OF_JSON if name in names]
    rows = rows.with_columns(as_jsonb).join(ids, on="day", maintain_order="left")
    return rows.select("batch_id", pl.lit(model.name).alias("model"), *KEY, *names)


def _declare(model: Model) -> sa.Insert:
    """Store what the model declares; nothing is written if it has not changed."""
    names = ("project", "outcome", "problem_type", "title", "owner")
    values = {"model": model.name, **{name: getattr(model, name) for name in names}}
    inserting = postgresql.insert(models).values(**values)
    return inserting.on_conflict_do_update(
        index_elements=["model"],
        set_={name: inserting.excluded[name] for name in names},
        where=sa.or_(*(models.c[name].is_distinct_from(inserting.excluded[name]) for name in names)),
    )


def _store_batches(model: str, run_id: str) -> ReturningInsert[tuple[date]]:
    """Store the staged batches that are not stored yet, and return their days."""
    staged = _STAGED_BATCHES.c
    columns = {
        "batch_id": _STAGED_ID,
        "model": sa.literal(model, schema.TEXT),
        **{name: staged[name] for name in ("day", "model_version", "rows", "digest", "as_of", "horizon_days")},
        "run_id": sa.literal(run_id, schema.TEXT),
    }
    return (
        postgresql
        .insert(batches)
        .from_select(list(columns), sa.select(*columns.values()).order_by(staged.day))
        .on_conflict_do_nothing(index_elements=["batch_id"])
        .returning(batches.c.day)
    )


def has_rows(batch: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return whether a batch has its rows: they left with their month, if `retention` does not keep it.

    The limit makes it look up one row for each batch. For EXISTS after an OR, PostgreSQL may read all predictions.
    """
    p, b = predictions.c, batch.c
    one = sa.select(p.day).where(p.batch_id == b.batch_id, p.day == b.day).limit(sa.literal_column("1"))
    return (b.rows == 0) | one.scalar_subquery().is_not(None)


def _select_without_rows() -> sa.Select[tuple[date]]:
    """Select the days of the staged batches that were stored before and whose rows left with their month.

    It is true for a batch that is only just stored, too.
    """
    staged = _STAGED_BATCHES.join(batches, batches.c.batch_id == _STAGED_ID)
    return sa.select(batches.c.day).select_from(staged).where(~has_rows(batches))


def _decide(model: str, mode: PublishMode) -> sa.Insert:
    """Decide for each day whether its pointer moves."""
    staged, current = _STAGED_BATCHES.c, published.c
    cases: list[Any] = [(current.batch_id == _STAGED_ID, "unchanged")]
    if mode == "missing":
        cases.append((current.batch_id.is_not(None), "kept"))
    selecting = sa.select(staged.day, _STAGED_ID, current.batch_id, sa.case(*cases, else_="published")).select_from(
        _STAGED_BATCHES.outerjoin(published, (current.model == model) & (current.day == staged.day))
    )
    return sa.insert(_DECIDED).from_select(list(_DECIDED.c.keys()), selecting)


def _refuse_rolled_back(cursor: Any, model: str) -> None:
    """Refuse to show readers a version that was rolled back after it scored. A rollback waits for the same lock."""
    decided = _DECIDED.c
    to_show = (
        sa
        .select(decided.day, _STAGED_BATCHES.c.model_version)
        .select_from(_DECIDED.join(_STAGED_BATCHES, _STAGED_BATCHES.c.day == decided.day))
        .where(decided.state == "published")
        .order_by(decided.day)
    )
    execute(cursor, to_show)
    shown = cursor.fetchall()
    execute(cursor, select_shifts(model))
    history = [ChampionShift(*row) for row in cursor.fetchall()]
    wrong = []
    for day, version in shown:
        if (shift := rolled_back_from(history, day).get(version)) is not None:
            wrong.append(
                f"{day}: the scores are of version {version}, but {shift.by} rolled back to version "
                f"{shift.model_version} from {shift.from_day} on: {shift.why}"
            )
    if wrong:
        again = f"python -m include.cli rollback --model {model} --to VERSION --by … --why …"
        raise ActionRequiredError([
            f"{model}: nothing of these days was published, readers see what they saw before:",
            *wrong[:10],
            *([f"… and {len(wrong) - 10} more"] if len(wrong) > 10 else []),
            f"Clear `score` of these days: it takes the champion of now. To show that version again: {again}",
        ])


def _move_pointers(model: str, mode: PublishMode, run_id: str) -> sa.Insert:
    """Move the pointers of the days that are to be published, and record each move."""
    decided = _DECIDED.c
    columns = {
        "model": sa.literal(model, schema.TEXT),
        "day": decided.day,
        "batch_id": decided.batch_id,
        "replaced": decided.replaced,
        "mode": sa.literal(mode, schema.TEXT),
        "run_id": sa.literal(run_id, schema.TEXT),
        "published_at": sa.func.clock_timestamp(),
    }
    selecting = sa.select(*columns.values()).where(decided.state == "published").order_by(decided.day)
    names = list(published.c.keys())
    moved = (
        sa
        .insert(publications)
        .from_select(list(columns), selecting)
        .returning(*(publications.c[name] for name in names))
        .cte("moved")
    )
    inserting = postgresql.insert(published).from_select(names, sa.select(*(moved.c[name] for name in names)))
    return inserting.on_conflict_do_update(
        index_elements=["model", "day"],
        set_={name: inserting.excluded[name] for name in ("batch_id", "run_id", "published_at")},
    )


def _select_decided() -> sa.Select[Any]:
    """Select what happened to each day; `differing` counts the rows in which a kept batch differs from the new one."""
    decided = _DECIDED.c

    def rows_of(batch_id: sa.ColumnElement[Any], name: str) -> sa.Subquery:
        columns = [predictions.c[column] for column in (HORIZON, "entity_id", *PREDICTION_COLUMNS)]
        of_batch = (predictions.c.batch_id == batch_id) & (predictions.c.day == decided.day)
        return sa.select(*columns).where(of_batch).correlate(_DECIDED).subquery(name)

    new, old = rows_of(decided.batch_id, "new"), rows_of(decided.replaced, "old")
    same = (new.c.horizon == old.c.horizon) & (new.c.entity_id == old.c.entity_id)
    differs = sa.or_(*(new.c[name].is_distinct_from(old.c[name]) for name in PREDICTION_COLUMNS))
    differing = (
        sa.select(sa.func.count()).select_from(new.outerjoin(old, same, full=True)).where(differs).scalar_subquery()
    )
    return (
        sa
        .select(decided.day, sa.cast(decided.batch_id, sa.Text), decided.state, _STAGED_BATCHES.c.rows)
        .add_columns(sa.case((decided.state == "kept", differing), else_=0))
        .select_from(_DECIDED.join(_STAGED_BATCHES, _STAGED_BATCHES.c.day == decided.day))
        .order_by(decided.day)
    )


def _write_entities(
    cursor: adbc_driver_manager.dbapi.Cursor,
    project: Project,
    new: Sequence[Batch],
    entities: Blocks,
    mode: PublishMode,
) -> None:
    """Add and correct entities. None is removed: a batch of another model may be about it."""
    types = entity_tables.column_types(project)
    table = schema.entities(project.name, *project.entity.public)
    lock_in(cursor, f"entities {project.name}")
    keep_months(cursor, table.name, {batch.day for batch in new})
    # Nobody can change these days before the end of the transaction.
    execute(cursor, _select_days_with(table))
    there = {day for (day,) in cursor.fetchall()} | {batch.day for batch in new if batch.repeats_entities}
    if empty := {batch.day for batch in new} - there:
        copy(cursor, table.name, (rows.select(list(types)) for rows in entities(empty)))
    if there:
        staged = temporary_table("staged_entities", *(sa.Column(name, kind) for name, kind in types.items()))
        stage(cursor, staged)
        copy(cursor, staged.name, (rows.select(list(types)) for rows in entities(there)), temporary=True)
        execute(cursor, _merge(table, staged, project.entity.public if mode == "replace" else ()))


def _select_days_with(table: sa.Table) -> sa.Select[tuple[date]]:
    """Select the days of the staged batches that have rows in a table of entities.

    The limit, and the order of the index, make it look up one row for each day. EXISTS becomes a join, and PostgreSQL
    reads the whole table for it.
    """
    day, stored = _STAGED_BATCHES.c.day, table.c
    of_day = sa.select(stored.day).where(stored.day == day).order_by(stored.horizon, stored.entity_id)
    one = of_day.limit(sa.literal_column("1")).lateral("one")
    return sa.select(day).select_from(_STAGED_BATCHES.join(one, sa.true()))


def _merge(table: sa.Table, staged_table: sa.Table, corrected: Sequence[str]) -> sa.Insert:
    """Add the staged entities that are missing, and correct these columns of the others."""
    stored, staged = table.c, staged_table.c
    both = staged_table.outerjoin(table, sa.and_(*(stored[name] == staged[name] for name in KEY)))
    # Unchanged rows are left out: ON CONFLICT would lock, and so write, each of them.
    changed = [stored.day.is_(None), *(stored[name].is_distinct_from(staged[name]) for name in corrected)]
    inserting = postgresql.insert(table).from_select(
        [column.name for column in staged], sa.select(*staged).select_from(both).where(sa.or_(*changed))
    )
    if corrected:
        return inserting.on_conflict_do_update(
            index_elements=[*KEY], set_={name: inserting.excluded[name] for name in corrected}
        )
    return inserting.on_conflict_do_nothing(index_elements=[*KEY])


def unpublish(
    settings: Settings, model: Model, interval: Interval, since: datetime | None = None
) -> list[UnpublishedDay]:
    """Point readers back to the batch before the newest publication of each day, in one transaction.

    A batch of a version that a rollback took from the champions of the day is passed over. A day that had no other
    batch before has no pointer afterwards. Days without a pointer are left out.

    Args:
        settings: the database and the id of this run.
        model: the model, whose actions send that a batch is withdrawn.
        interval: the days.
        since: leave out days whose newest publication is older.
    """
    moves = publications.c
    history = (
        sa
        .select(moves.day, moves.batch_id, moves.mode, moves.published_at, batches.c.model_version)
        .select_from(publications.outerjoin(batches, batches.c.batch_id == moves.batch_id))
        .where(moves.model == model.name, moves.day.between(interval.start, interval.end))
        .order_by(moves.id)
    )
    undone = []
    with engine(settings).begin() as connection:
        lock(connection, f"publish {model.name}")
        shifts = [ChampionShift(*row) for row in connection.execute(select_shifts(model.name))]
        standing: dict[date, list[tuple[str, datetime, int]]] = {}  # the batches of each day, the published one last
        for day, batch, mode, at, version in connection.execute(history):
            of_day = standing.setdefault(day, [])
            if mode == "retention":  # none of the batches before has rows any more
                of_day.clear()
            elif mode == "unpublish":
                of_day.pop()
                while of_day and of_day[-1][0] != batch:  # it was passed over
                    of_day.pop()
            else:
                of_day.append((batch, at, version))
        for day, (*before, (newest, at, _)) in sorted((day, of_day) for day, of_day in standing.items() if of_day):
            if since and at < since:
                continue
            undone_versions = rolled_back_from(shifts, day)
            back_to = next((batch for batch, _, version in reversed(before) if version not in undone_versions), None)
            _point(connection, settings.run_id, model.name, day, back_to, newest, "unpublish")
            undone.append(UnpublishedDay(day=day, batch_id=back_to, undone=newest))
        put_actions(through(connection), model, {each.day for each in undone}, settings.run_id)
        put_news(connection, load_project(model.project), model.name, settings.run_id)
    return undone


def _point(
    connection: sa.Connection, run_id: str, model: str, day: date, to: str | None, replaced: str, mode: str
) -> None:
    """Point readers of a published day to another batch, None to none, and record the move."""
    values = {"batch_id": to, "run_id": run_id, "published_at": sa.func.clock_timestamp()}
    move = sa.insert(publications).values(model=model, day=day, replaced=replaced, mode=mode, **values)
    connection.execute(move)
    of_day = (published.c.model == model) & (published.c.day == day)
    if to is None:
        connection.execute(sa.delete(published).where(of_day))
    else:
        connection.execute(sa.update(published).where(of_day).values(**values))


@dataclass(frozen=True)
class StoredBatch:
    """A batch of one version for a day that is published, and the batch that readers see."""

    day: date
    published_id: str
    published_version: int
    batch_id: str | None
    rows: int | None
    as_of: datetime | None
    horizon_days: int | None
    erased: int | None


def select_stored(connection: sa.Connection, model: str, version: int, first_day: date) -> list[StoredBatch]:
    """Return the batches of a version for each published day from `first_day` on, by day, the best one last.

    A batch whose rows left with their month is left out.

    The best one is the one that was published last, else the newest. A day without a batch of the version has one
    row, whose `batch_id` is None.
    """
    s, seen, b = published.c, batches.alias("seen"), batches.alias("stored")
    moves = publications.c
    last_published = sa.select(sa.func.max(moves.id)).where(moves.batch_id == b.c.batch_id).scalar_subquery()
    of_version = (b.c.model == model) & (b.c.day == s.day) & (b.c.model_version == version) & has_rows(b)
    statement = (
        sa
        .select(s.day, sa.cast(s.batch_id, sa.Text), seen.c.model_version, sa.cast(b.c.batch_id, sa.Text))
        .add_columns(b.c.rows, b.c.as_of, b.c.horizon_days, b.c.erased)
        .select_from(published.join(seen, seen.c.batch_id == s.batch_id).outerjoin(b, of_version))
        .where(s.model == model, s.day >= first_day)
        .order_by(s.day, last_published.asc().nulls_first(), b.c.created_at)
    )
    return [StoredBatch(*row) for row in connection.execute(statement)]


def point_readers(
    connection: sa.Connection, run_id: str, model: Model, to: Mapping[date, str], seen: Mapping[date, str]
) -> None:
    """Point readers of published days to stored batches, in the caller's transaction, which holds the locks.

    Args:
        connection: the transaction.
        run_id: the run that moves them.
        model: the model, whose actions send the correction.
        to: the batch of each day that readers shall see.
        seen: the batch of each day that they see until then.
    """
    for day, batch in sorted(to.items()):
        _point(connection, run_id, model.name, day, batch, seen[day], "replace")
    put_actions(through(connection), model, to.keys(), run_id)


def read_batches(settings: Settings, model: str, interval: Interval) -> pl.DataFrame:
    """Return all batches of the days, published or not: batch_id (str), day, model_version, rows, digest, erased."""
    b = batches.c
    return read(
        settings,
        sa
        .select(_as_text(b.batch_id), b.day, b.model_version, b.rows, b.digest, b.erased)
        .where(b.model == model, b.day.between(interval.start, interval.end))
        .order_by(b.day, b.created_at),
    )


def rows_of_batch(connection: sa.Connection, batch_id: Any) -> pl.DataFrame:
    """Return the rows of a batch as `batch_digest` takes them: horizon, `entity_id` and the columns of predictions."""
    columns = schema.as_predicted(predictions.c, STORED_PREDICTION)
    read_rows = sa.select(predictions.c.horizon, predictions.c.entity_id, *columns)
    found = connection.execute(read_rows.where(predictions.c.batch_id == batch_id))
    types = {HORIZON: pl.Int32(), "entity_id": pl.String(), **STORED_PREDICTION}
    return pl.DataFrame([tuple(row) for row in found], schema=types, orient="row")


def read_predictions(settings: Settings, model: str, interval: Interval) -> pl.DataFrame:
    """Return the rows of `read_batches` in no order: batch_id (str), model, KEY, columns of predictions.

    Rows that say another day than their batch are there, too.
    """
    b, p = batches.c, predictions.c
    return read(
        settings,
        sa
        .select(_as_text(p.batch_id), p.model, p.day, p.horizon, p.entity_id)
        .add_columns(*schema.as_predicted(p, STORED_PREDICTION))
        .select_from(predictions.join(batches, b.batch_id == p.batch_id))
        .where(b.model == model, b.day.between(interval.start, interval.end)),
    )


def read_pointers(settings: Settings, model: str, interval: Interval) -> pl.DataFrame:
    """Return what is published.

    Returns:
        day, batch_id (str), run_id, published_at; of its batch of_model, of_day, model_version, rows, as_of and
        horizon_days (null if it does not exist); champion: the day's version by the promotion history as it was at
        published_at.
    """
    s, b = published.c, batches.c
    return read(
        settings,
        sa
        .select(s.day, _as_text(s.batch_id), s.run_id, s.published_at, b.model.label("of_model"))
        .add_columns(b.day.label("of_day"), b.model_version, b.rows, b.as_of, b.horizon_days)
        .add_columns(select_champion_as_of(model, s.day, s.published_at).label("champion"))
        .select_from(published.outerjoin(batches, b.batch_id == s.batch_id))
        .where(s.model == model, s.day.between(interval.start, interval.end))
        .order_by(s.day),
    )


def count_undescribed(settings: Settings, project: Project, model: str, interval: Interval) -> dict[date, int]:
    """Return how many published predictions of each day have no entity; days with none are absent."""
    entities = schema.entities(project.name)
    s, p, e = published.c, predictions.c, entities.c
    joined = published.join(predictions, (p.batch_id == s.batch_id) & (p.day == s.day)).outerjoin(
        entities, (e.day == s.day) & (e.horizon == p.horizon) & (e.entity_id == p.entity_id)
    )
    counting = (
        sa
        .select(s.day, sa.func.count())
        .select_from(joined)
        .where(s.model == model, s.day.between(interval.start, interval.end), e.entity_id.is_(None))
        .group_by(s.day)
    )
    with engine(settings).connect() as connection:
        return dict(connection.execute(counting).all())


def _as_text(batch_id: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """Select a uuid as text, since Arrow has no type for it."""
    return sa.cast(batch_id, sa.Text).label("batch_id")
