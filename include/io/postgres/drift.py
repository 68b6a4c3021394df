"""Drift in the shared database: frozen edges, summaries of days, and how far days are from a reference."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine, lock, read
from include.io.postgres.schema import drift_daily, drift_edges, drift_freezes, drift_summaries, outcome_days, outcomes
from include.monitoring.drift_summary import Edges, Summary, WatchedSeries

_EDGES = [each.name for each in fields(Edges)]
_SUMMARY = [each.name for each in fields(Summary)]
_SERIES = [each.name for each in fields(WatchedSeries)]


@dataclass(frozen=True)
class PublishedVersion:
    """What readers see of a day: the batch, and the version that made it."""

    batch_id: str
    model_version: int


def read_champions(settings: Settings, model: str) -> list[int]:
    """Return the versions of the promotion history, the one of the earliest day first."""
    p = schema.promotions.c
    statement = sa.select(p.model_version).where(p.model == model).order_by(p.from_day, p.id)
    with engine(settings).connect() as connection:
        return [*dict.fromkeys(connection.scalars(statement))]


def read_published(settings: Settings, model: str, days: Iterable[date]) -> dict[date, PublishedVersion]:
    """Return what readers see of each of these days."""
    s, b = schema.published.c, schema.batches.c
    statement = (
        sa
        .select(s.day, sa.cast(s.batch_id, sa.Text), b.model_version)
        .join_from(schema.published, schema.batches, b.batch_id == s.batch_id)
        .where(s.model == model, _is_one_of(s.day, days))
        .order_by(s.day)
    )
    with engine(settings).connect() as connection:
        return {day: PublishedVersion(batch, version) for day, batch, version in connection.execute(statement)}


def read_scores(settings: Settings, project: Project, batch_id: str, day: date, slices: Sequence[str]) -> pl.DataFrame:
    """Return score, label and the slices (text) of each prediction of a batch."""
    p, e = schema.predictions.c, schema.entities(project.name, *slices)
    same = (e.c.day == p.day) & (e.c.horizon == p.horizon) & (e.c.entity_id == p.entity_id)
    source = schema.predictions.outerjoin(e, same) if slices else schema.predictions
    by = [sa.cast(e.c[name], sa.Text).label(name) for name in slices]
    return read(
        settings,
        sa
        .select(p.score, p.label, *by)
        .select_from(source)
        .where(p.batch_id == sa.cast(sa.literal(batch_id, schema.TEXT), schema.UUID), p.day == day),
    )


def read_outcome_digests(settings: Settings, project: str, outcome: str, days: Iterable[date]) -> dict[date, str]:
    """Return the digest of the outcomes of each of these days that has any."""
    o = outcome_days.c
    statement = sa.select(o.day, o.digest).where(
        o.project == project, o.outcome == outcome, _is_one_of(o.day, days), o.rows > 0
    )
    with engine(settings).connect() as connection:
        return {row.day: row.digest for row in connection.execute(statement)}


def read_outcomes(settings: Settings, project: str, outcome: str, interval: Interval) -> pl.DataFrame:
    """Return the value of each outcome of the days of the interval."""
    o = outcomes.c
    statement = sa.select(o.value).where(
        o.project == project, o.outcome == outcome, o.day.between(interval.start, interval.end)
    )
    return read(settings, statement.order_by(o.day, o.entity_id))


def read_edges(settings: Settings, model: str) -> dict[tuple[str, str], Edges]:
    """Return the frozen edges of a model, by role and feature: the newest ones."""
    e = drift_edges.c
    statement = sa.select(e.role, e.feature, *(e[name] for name in _EDGES)).where(e.model == model).order_by(e.decision)
    with engine(settings).connect() as connection:
        return {
            (row[0], row[1]): Edges(tuple(row[2]), tuple(row[3]), *row[4:]) for row in connection.execute(statement)
        }


def read_frozen(settings: Settings, model: str) -> tuple[int, set[tuple[str, str]]]:
    """Return the number of the newest decision to freeze again, and role and feature of what is frozen because of it.

    Without such a decision the number is 0.
    """
    e, f = drift_edges.c, drift_freezes.c
    with engine(settings).connect() as connection:
        newest = connection.scalar(sa.select(sa.func.max(f.decision)).where(f.model == model)) or 0
        of_newest = sa.select(e.role, e.feature).where(e.model == model, e.decision == newest)
        return newest, {(role, feature) for role, feature in connection.execute(of_newest)}


def decide_freeze(settings: Settings, model: str, *, by: str, why: str) -> int:
    """Record the decision to freeze the edges of a model again; return its number."""
    f = drift_freezes.c
    number = sa.select(sa.func.coalesce(sa.func.max(f.decision), 0) + 1).where(f.model == model).scalar_subquery()
    values = {"model": model, "decision": number, "by": by, "why": why, "run_id": settings.run_id}
    with engine(settings).begin() as connection:
        lock(connection, f"freeze {model}")
        found: int = connection.scalars(sa.insert(drift_freezes).values(values).returning(f.decision)).one()
    return found


def freeze_edges(
    settings: Settings, model: str, version: int, found: Mapping[tuple[str, str], Edges], decision: int = 0
) -> None:
    """Store edges of features that have none of this number yet. Those that are stored stay as they are."""
    rows = [
        {"model": model, "role": role, "feature": feature, "model_version": version, "run_id": settings.run_id}
        | {"decision": decision, **vars(edges), "edges": list(edges.edges), "labels": list(edges.labels)}
        for (role, feature), edges in sorted(found.items())
    ]
    if rows:
        with engine(settings).begin() as connection:
            connection.execute(postgresql.insert(drift_edges).values(rows).on_conflict_do_nothing())


def replace_summaries(
    settings: Settings,
    model: str,
    role: str,
    digests: Mapping[date, str],
    summarise: Callable[[date], Mapping[WatchedSeries, Summary]],
    *,
    empty: Collection[date] = (),
) -> list[date]:
    """Summarise each day that has no summary with its digest yet, and return the days whose summaries changed.

    Each day is committed by itself, so that a killed run goes on where it ended.

    Args:
        settings: the database and the id of this run.
        model: its name.
        role: input, prediction or outcome.
        digests: of what each day is summarised from.
        summarise: returns the summaries of a day.
        empty: days without values by now, such as one that was unpublished. What was summarised of them is removed.
    """
    d, made = drift_summaries.c, []
    asked = sa.func.unnest(sa.cast([*digests, *empty], postgresql.ARRAY(sa.Date))).table_valued("day").render_derived()
    own = (d.model == model) & (d.role == role) & (d.day == asked.c.day)
    first = (d.feature, d.slice, d.slice_value)  # all rows of a day have one digest; in this order, an index has them
    summarised = sa.select(d.digest).where(own).order_by(*first).limit(1).lateral()
    before = sa.select(asked.c.day, summarised.c.digest).join_from(asked, summarised, sa.true())
    with engine(settings).connect() as connection:
        there = {row.day: row.digest for row in connection.execute(before)}
    if emptied := sorted(there.keys() & {*empty}):
        with engine(settings).begin() as connection:
            lock(connection, f"drift {model}")
            own = (d.model == model) & (d.role == role) & d.day.in_(emptied)
            connection.execute(sa.delete(drift_summaries).where(own))
        made += emptied
    for day, digest in sorted(digests.items()):
        if there.get(day) == digest:
            continue
        own = (d.model == model) & (d.role == role) & (d.day == day)
        with engine(settings).begin() as connection:
            lock(connection, f"drift {model}")
            if connection.scalar(sa.select(d.digest).where(own).limit(1)) == digest:
                continue
            found = summarise(day)
            connection.execute(sa.delete(drift_summaries).where(own))
            about = {"model": model, "day": day, "digest": digest, "run_id": settings.run_id}
            rows = [
                {**vars(series), **vars(each), "counts": list(each.counts), **about} for series, each in found.items()
            ]
            if rows:
                connection.execute(sa.insert(drift_summaries), rows)
            made.append(day)
    return made


def read_summaries(settings: Settings, model: str, days: Iterable[date]) -> dict[WatchedSeries, dict[date, Summary]]:
    """Return the summaries of these days, by series and day."""
    d = drift_summaries.c
    statement = (
        sa
        .select(d.day, *(d[name] for name in _SERIES), *(d[name] for name in _SUMMARY))
        .where(d.model == model, _is_one_of(d.day, days))
        .order_by(*(d[name] for name in _SERIES), d.day)
    )
    found: dict[WatchedSeries, dict[date, Summary]] = {}
    cut = 1 + len(_SERIES)
    with engine(settings).connect() as connection:
        for row in connection.execute(statement):
            values = dict(zip(_SUMMARY, row[cut:], strict=True))
            values["counts"] = tuple(values["counts"])
            found.setdefault(WatchedSeries(*row[1:cut]), {})[row[0]] = Summary(**values)
    return found


def replace_drift(settings: Settings, model: str, rows: Mapping[date, Sequence[Mapping[str, Any]]]) -> int:
    """Replace the results of run dates, and return how many rows were written. Equal ones are not written again.

    Args:
        settings: the database and the id of this run.
        model: its name.
        rows: of each run date, the columns of `drift_daily` from `role` to `strength`.
    """
    d, written = drift_daily.c, 0
    with engine(settings).begin() as connection:
        lock(connection, f"drift {model}")
        for day, of_day in sorted(rows.items()):
            digest = hashlib.sha256(json.dumps([*map(dict, of_day)], sort_keys=True).encode()).hexdigest()
            own = (d.model == model) & (d.day == day)
            there = connection.scalar(sa.select(d.digest).where(own).limit(1))
            if there == digest or (there is None and not of_day):
                continue
            connection.execute(sa.delete(drift_daily).where(own))
            about = {"model": model, "day": day, "digest": digest, "run_id": settings.run_id}
            if of_day:
                connection.execute(sa.insert(drift_daily), [{**each, **about} for each in of_day])
            written += len(of_day)
    return written


def read_measured(settings: Settings, model: str, days: Iterable[date]) -> list[date]:
    """Return those of the run dates that have results."""
    d = drift_daily.c
    statement = sa.select(d.day).where(d.model == model, _is_one_of(d.day, days)).distinct().order_by(d.day)
    with engine(settings).connect() as connection:
        return [*connection.scalars(statement)]


def _is_one_of(column: sa.ColumnElement[date], days: Iterable[date]) -> sa.ColumnElement[bool]:
    """Return whether a day is one of these, as ranges: they may be many, and are a few weeks or months in a row."""
    return sa.or_(sa.false(), *(column.between(each.start, each.end) for each in Interval.covering(days)))
