"""score: score every entity of each day with the model version that is champion of that day."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta

import numpy as np
import polars as pl

from include.config.loading import load_project
from include.config.model import Model
from include.core import schemas
from include.core.errors import DataError
from include.core.feeds import HORIZON
from include.core.horizons import KEY, with_horizon
from include.core.interval import BLOCK_DAYS, Interval
from include.core.names import features_table, scores_table
from include.core.project import Project
from include.core.records import DataView, Scored, ScoredDay, TableRef
from include.core.settings import Settings
from include.io import postgres
from include.io.registry import LoadedModel, Registry
from include.io.tables import Scope, Tables
from include.training import training_set

log = logging.getLogger(__name__)


def score(
    model: Model,
    interval: Interval,
    settings: Settings,
    *,
    versions: Mapping[date, int],
    features: Mapping[date, TableRef] | None = None,
    digests: Mapping[int, str] | None = None,
    data_view: DataView = "point_in_time",
) -> Scored:
    """Replace `scores_<model>` of each day and version in `versions`: one row for each row of features.

    Rows of a larger horizon than the version was fitted on are left out. Features are read at the table version that
    the prepared day names, whatever other runs have written since. Input columns, problem type, horizon and decision
    threshold are those with which the version was logged, not those in `model.yaml` now. With data_view `latest` the
    features of that view are read, and `scores_<model>_latest` is written.

    Args:
        model: the model.
        interval: the days to score.
        settings: where tables and models are.
        versions: day -> model version. Days without a version are `unscored` in the result; when all are, nothing is
            written.
        features: day -> features of the prepared day. A step on Databricks is given them, as it is given the versions,
            because it cannot reach the shared database; None: they are read from there.
        digests: version -> digest of its files, as the shared database recorded it. A step on Databricks is given them;
            None: they are read from there.
        data_view: which features to read.

    Raises:
        DataError: when a day is not prepared, its features are not those of the prepared day, a column that a version
            needs is missing, a score is NaN or infinite, or the rows written are not those of the features.
        ActionRequiredError: when there is no such version, or its files are not those of its fit.
        ConfigError: when the project has an entity fraction.
    """
    project = load_project(model.project)
    project.refuse_entity_fraction("score")
    wanted = {day: versions[day] for day in interval.days if day in versions}
    unscored = tuple(day for day in interval.days if day not in versions)
    if not wanted:
        return Scored(interval=interval, rows=0, model=model.name, table=None, days=(), unscored=unscored)
    tables, registry = Tables(settings), Registry(settings)
    found = [registry.get_version(model.name, number) for number in sorted(set(wanted.values()))]
    if digests is None:
        digests = read_digests(settings, model, set(wanted.values()))
    loaded = {each.version: registry.load(each, digests[each.version], model) for each in found}
    if features is None:
        features = postgres.days.read_features(settings, project.name, interval, data_view)
    _require_prepared(project, model, wanted, features, data_view)
    at = {version: tables.scan(features_table(project.name), version) for version in _versions(features, wanted)}
    for number, version in sorted({(features[day].version, version) for day, version in wanted.items()}):
        columns, where = at[number].collect_schema().names(), f"the features of {project.name} (version {number})"
        training_set.require_columns(f"{model.name}, version {version},", loaded[version].inputs, columns, where)

    days: list[ScoredDay] = []
    table: TableRef | None = None
    for days_in_a_row, version in _blocks(wanted):
        counted = {day: features[day].rows for day in days_in_a_row.days}
        rows = _read(project, loaded[version], at, {day: features[day] for day in days_in_a_row.days}, data_view)
        _require_rows(project, rows, counted)
        horizon_days = loaded[version].horizon_days
        rows = rows.filter(pl.col(HORIZON) <= horizon_days)
        counted = dict.fromkeys(counted, 0) | dict(rows.group_by("day").len().iter_rows())
        top = model.explanations.top if model.explanations else None
        scores = score_days(loaded[version], version, rows, top)
        _require_finite(model, version, scores)
        table = tables.replace(
            scores_table(model.name, data_view),
            scores.select(schemas.SCORES.keys()).cast(schemas.SCORES),  # type: ignore[arg-type]
            Scope(days_in_a_row, {"model_version": [version]}),
            sort_by=["day", "model_version", HORIZON, "entity_id"],
            metadata={
                "model_version": version,
                "features_version": " ".join(map(str, _versions(features, days_in_a_row.days))),
            },
            may_grow=True,  # a new version of the product can have more columns
        )
        _reconcile(model, version, tables, table, counted)
        days += [
            ScoredDay(day=day, model_version=version, rows=count, horizon_days=horizon_days)
            for day, count in counted.items()
        ]
    total = sum(day.rows for day in days)
    log.info("%s: %d rows of %d days scored with version %s", model.name, total, len(days), ", ".join(map(str, loaded)))
    if unscored:
        log.info(
            "%s: %d days have no champion and are not scored, the first is %s", model.name, len(unscored), unscored[0]
        )
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


def read_digests(settings: Settings, model: Model, versions: Iterable[int]) -> dict[int, str]:
    """Return the digest of the files of each version, as the shared database recorded it at the fit."""
    recorded = postgres.model_files.read_versions(settings, model.name, versions)
    return {version: fit.model_digest for version, fit in recorded.items()}


def _blocks(versions: Mapping[date, int]) -> Iterator[tuple[Interval, int]]:
    """Yield blocks of consecutive days with one version, at most BLOCK_DAYS long. Each is one commit."""
    start = last = min(versions)
    for day in sorted(versions):
        if day - last > timedelta(days=1) or versions[day] != versions[start] or (day - start).days >= BLOCK_DAYS:
            yield Interval(start=start, end=last), versions[start]
            start = day
        last = day
    yield Interval(start=start, end=last), versions[start]


def _versions(features: Mapping[date, TableRef], days: Iterable[date]) -> list[int]:
    return sorted({features[day].version for day in days})


def _require_prepared(
    project: Project, model: Model, days: Iterable[date], features: Mapping[date, TableRef], data_view: DataView
) -> None:
    absent = {
        day: f"{model.name}: {project.name} has no features of {day} (data_view {data_view}); prepare the day first "
        "(land, validate, build_features)"
        for day in days
        if day not in features
    }
    if absent:
        raise DataError.of_days(absent)


def _read(
    project: Project,
    loaded: LoadedModel,
    at: Mapping[int, pl.LazyFrame],
    features: Mapping[date, TableRef],
    data_view: DataView,
) -> pl.DataFrame:
    """Return the KEY, `as_of`, `features_version` and the inputs of a model for each day, sorted by KEY.

    Raises:
        DataError: files of the features are gone.
    """
    columns = dict.fromkeys([*KEY, "as_of", *loaded.inputs])
    parts = []
    for number in _versions(features, features):
        days = [day for day, each in features.items() if each.version == number]
        within = pl.col("day").is_in(days) & (pl.col("data_view") == data_view)
        rows = with_horizon(at[number].filter(within))
        parts.append(rows.select(*columns, features_version=pl.lit(number, pl.Int64)))
    try:
        return pl.concat(parts).sort(KEY).collect()
    except FileNotFoundError as error:
        days_lost = f"{min(features)} to {max(features)}"
        raise DataError(
            f"files of the features of {project.name} for {days_lost} are gone: {error}; build the features again"
        ) from error


def _require_rows(project: Project, rows: pl.DataFrame, counted: Mapping[date, int]) -> None:
    """Refuse features that are not those of the prepared days, or that have an entity twice."""
    if doubled := rows.height - rows.select(KEY).n_unique():
        raise DataError(
            f"{project.name}: {doubled} rows of features have the day, horizon and entity of another row (twice), "
            f"from {min(counted)} to {max(counted)}"
        )
    found = dict(rows.group_by("day").len().iter_rows())
    wrong = {
        day: f"{project.name}: {features_table(project.name)} has {found.get(day, 0)} rows of {day}, and the prepared "
        f"day has {count}; run build_features of the day again"
        for day, count in counted.items()
        if found.get(day, 0) != count
    }
    if wrong:
        raise DataError.of_days(wrong)


def score_days(loaded: LoadedModel, version: int, rows: pl.DataFrame, top: int | None = None) -> pl.DataFrame:
    """Return the rows with model_version and the columns of predictions; `top`: with so many reasons.

    Each day is scored by itself, because linear algebra on more rows at once differs in the last bits, and a day must
    get the same scores in a range as alone.
    """
    kept, parts = rows.select(*KEY, "as_of", "features_version"), []
    for day, of_day in zip(
        kept.partition_by("day", maintain_order=True), rows.partition_by("day", maintain_order=True), strict=True
    ):
        scores = loaded.predict(of_day)
        columns = loaded.problem.published(scores, loaded.decision_threshold)
        if top is not None:
            columns[schemas.REASONS] = loaded.explain(of_day, top)
        finite = np.isfinite(scores).reshape(day.height, -1).all(axis=1)
        parts.append(
            day.with_columns(
                *(pl.Series(name, values, schemas.STORED_PREDICTION[name]) for name, values in columns.items())
            ).with_columns(pl.when(pl.Series(finite)).then("score").otherwise(None).alias("score"))
        )
    empty = schemas.with_prediction_columns(kept.clear().lazy()).collect()
    scored = pl.concat([empty, *parts], how="diagonal")
    return scored.with_columns(model_version=pl.lit(version, pl.Int64))


def _require_finite(model: Model, version: int, scores: pl.DataFrame) -> None:
    wrong = scores.filter(~pl.col("score").is_finite() | pl.col("score").is_null())
    if not wrong.is_empty():
        raise DataError(
            f"{model.name}: version {version} gives {wrong.height} of {scores.height} rows a score that is NaN or "
            f"infinite, first on {wrong['day'][0]}; nothing was written for these days"
        )


def _reconcile(model: Model, version: int, tables: Tables, table: TableRef, counted: Mapping[date, int]) -> None:
    """Compare the number of rows in the table with the number of feature rows, for each day."""
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
                f"have {count}; run score of that day again"
            )
