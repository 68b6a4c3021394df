"""score: a score for every entity of each day by the model version that is champion of that day."""

import logging
from collections.abc import Iterator, Mapping
from datetime import date, timedelta

import polars as pl
from threadpoolctl import threadpool_limits

from include.config.loading import load_project
from include.config.model import Model
from include.core import schemas
from include.core.errors import DataError
from include.core.interval import BLOCK_DAYS, Interval
from include.core.names import deliveries_table, features_table, scores_table
from include.core.point_in_time import as_of, current_as_of
from include.core.project import Project
from include.core.records import DataView, Scored, ScoredDay, TableRef
from include.core.settings import Settings
from include.io.registry import Loaded, Registry
from include.io.tables import Scope, Tables
from include.training import evaluation, training_set

log = logging.getLogger(__name__)


def score(
    model: Model,
    interval: Interval,
    settings: Settings,
    *,
    versions: Mapping[date, int],
    data_view: DataView = "point_in_time",
) -> Scored:
    """Replace `scores_<model>` of each day and version in `versions`, a commit a month: a row for each row of features.

    `versions`: day -> model version, resolved by the caller (the ledger is not reached from Databricks). Days without
    one are `unscored`; when all are, nothing is written. Columns are read as the version's own signature says.
    With data_view `latest` the features that were made so are read, and `scores_<model>_latest` is written.
    The threshold of a decision is that with which the version was judged, not what model.yaml says by now.

    Raises `DataError` when a day has no features though it has entities, a column that a version needs is missing, a
    score is NaN or infinite, or rows in the table are not those of the features; `ActionRequiredError` for a version that
    there is not; `ConfigError` while the project is tried on a sample.
    """
    project = load_project(model.project)
    project.refuse_entity_fraction("score")
    wanted = {day: versions[day] for day in interval.days if day in versions}
    unscored = tuple(day for day in interval.days if day not in versions)
    if not wanted:
        return Scored(interval=interval, rows=0, model=model.name, table=None, days=(), unscored=unscored)
    tables, registry = Tables(settings), Registry(settings)
    loaded = {version: registry.load_version(model.name, version) for version in sorted(set(wanted.values()))}
    features_version = tables.version(features_table(project.name))
    features = tables.scan(features_table(project.name), features_version).filter(pl.col("data_view") == data_view)
    columns = features.collect_schema().names()
    where = f"the features of {project.name} (version {features_version})"
    for version, each in loaded.items():
        needed = [*each.numeric, *each.categorical]
        training_set.require_columns(f"{model.name}, version {version},", needed, columns, where)

    days: list[ScoredDay] = []
    table: TableRef | None = None
    for days_in_a_row, version in _parts(wanted):
        within = pl.col("day").is_between(days_in_a_row.start, days_in_a_row.end)
        rows = features.filter(within).sort(training_set.KEY).collect()
        counted = _counted(project, tables, model, rows, days_in_a_row, data_view)
        scores = _score(model, loaded[version], version, rows).with_columns(
            features_version=pl.lit(features_version, pl.Int64)
        )
        _require_finite(model, version, scores)
        table = tables.replace(
            scores_table(model.name, data_view),
            scores.select(schemas.SCORES.keys()).cast(schemas.SCORES),  # type: ignore[arg-type]
            Scope(days_in_a_row, {"model_version": [version]}),
            sort_by=["day", "model_version", "entity_id"],
            metadata={"model_version": version, "features_version": features_version},
        )
        _reconcile(model, version, tables, table, counted)
        days += [ScoredDay(day=day, model_version=version, rows=count) for day, count in counted.items()]
    total = sum(day.rows for day in days)
    log.info("%s: %d rows of %d days scored with version %s", model.name, total, len(days), ", ".join(map(str, loaded)))
    if unscored:
        log.info("%s: no champion on %d days from %s on; not scored", model.name, len(unscored), unscored[0])
    assert table is not None
    return Scored(
        interval=interval,
        rows=total,
        table_version=table.version,
        model=model.name,
        table=table.model_copy(update={"interval": interval, "rows": total}),
        days=tuple(days),
        unscored=unscored,
    )


def _parts(versions: Mapping[date, int]) -> Iterator[tuple[Interval, int]]:
    """Runs of consecutive days with one version, at most BLOCK_DAYS long: a commit replaces all days of its range."""
    start = last = min(versions)
    for day in sorted(versions):
        if day - last > timedelta(days=1) or versions[day] != versions[start] or (day - start).days >= BLOCK_DAYS:
            yield Interval(start=start, end=last), versions[start]
            start = day
        last = day
    yield Interval(start=start, end=last), versions[start]


def _counted(
    project: Project, tables: Tables, model: Model, rows: pl.DataFrame, interval: Interval, data_view: DataView
) -> dict[date, int]:
    """Day -> rows of its features. A day without any must be one without entities."""
    if doubled := rows.height - rows.select(training_set.KEY).n_unique():
        raise DataError(f"{project.name}: {doubled} rows of features in {interval} are of an entity and day twice")
    counted = dict(rows.group_by("day").len().iter_rows())
    empty = [day for day in interval.days if day not in counted]
    if empty:
        deliveries = tables.scan(deliveries_table(project.name)).collect()
        sizes = dict(deliveries.select("delivery_id", "rows").iter_rows())
        feed = project.entity.feed
        for day in empty:
            needed = project.feeds[feed].needed_day(day)
            delivery = current_as_of(
                deliveries, feed, Interval.of(needed), as_of(project, deliveries, day, data_view)
            ).get(needed)
            if delivery is None or sizes[delivery] != 0:
                raise DataError(
                    f"{model.name}: {features_table(project.name)} has no features of {day} (data_view {data_view}); "
                    f"prepare the day first (land, validate, build_features)"
                )
    return {day: counted.get(day, 0) for day in interval.days}


def _score(model: Model, loaded: Loaded, version: int, rows: pl.DataFrame) -> pl.DataFrame:
    """Adds model_version, score and prediction. Each day by itself and on one thread: linear algebra on other blocks
    of rows differs in the last bits, and a day's batch must be the same from a range as from its own night."""
    parts = []
    with threadpool_limits(1):
        for day in rows.partition_by("day", maintain_order=True):
            features = evaluation.inputs(day, loaded.numeric, loaded.categorical)
            scores = pl.Series(evaluation.predict(model.problem_type, loaded.estimator, features), dtype=pl.Float64)
            parts.append(day.select("day", "entity_id", "as_of").with_columns(score=scores))
    empty = rows.select("day", "entity_id", "as_of").with_columns(score=pl.lit(None, pl.Float64)).clear()
    decided = pl.col("score")
    if model.problem_type == "binary":
        decided = (decided >= loaded.decision_threshold).cast(pl.Float64)
    return pl.concat([empty, *parts]).with_columns(prediction=decided, model_version=pl.lit(version, pl.Int64))


def _require_finite(model: Model, version: int, scores: pl.DataFrame) -> None:
    wrong = scores.filter(~pl.col("score").is_finite() | pl.col("score").is_null())
    if not wrong.is_empty():
        raise DataError(
            f"{model.name}: version {version} gives {wrong.height} of {scores.height} rows a score that is NaN or "
            f"infinite, first on {wrong['day'][0]}; nothing of these days was written"
        )


def _reconcile(model: Model, version: int, tables: Tables, table: TableRef, counted: Mapping[date, int]) -> None:
    """What is in the table now, counted, against the rows of features."""
    written = (
        tables
        .scan(table.table, table.version)
        .filter(Scope(table.interval, {"model_version": [version]}).expr())
        .group_by("day")
        .len()
        .collect()
    )
    found = dict(written.iter_rows())
    for day, count in counted.items():
        if found.get(day, 0) != count:
            raise DataError(
                f"{model.name} {day}: {table.table} has {found.get(day, 0)} rows of version {version}, the features "
                f"have {count}; run score for the day again"
            )
