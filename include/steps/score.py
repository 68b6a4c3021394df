"""score: score every entity of each day with the model version that is champion of that day."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import DataError
from include.core.interval import BLOCK_DAYS, Interval
from include.core.names import features_table, scores_table
from include.core.project import Project
from include.core.records import DataView, Scored, ScoredDay, TableRef
from include.core.settings import Settings
from include.io import postgres
from include.io.executors import RUN_ON_DATABRICKS
from include.io.registry import Registry, Scorer
from include.io.tables import Scope, Tables
from include.steps.score_places import FeatureCount, ScorePart, place_of_scores
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
    top = model.explanations.top if model.explanations else None
    scorers = {
        each.version: Scorer(model.name, each.version, registry.verified(each, digests[each.version], model), top)
        for each in found
    }
    if features is None:
        features = postgres.days.read_features(settings, project.name, interval, data_view)
    _require_prepared(project, model, wanted, features, data_view)
    names = {
        number: tables.scan(features_table(project.name), number).collect_schema().names()
        for number in {features[day].version for day in wanted}
    }
    for number, version in sorted({(features[day].version, version) for day, version in wanted.items()}):
        needs, where = f"{model.name}, version {version},", f"the features of {project.name} (version {number})"
        training_set.require_columns(needs, scorers[version].loaded.inputs, names[number], where)

    days: list[ScoredDay] = []
    table: TableRef | None = None
    on_spark = RUN_ON_DATABRICKS in os.environ or model.run_on.get("score") == "spark"
    with place_of_scores(tables, on_spark=on_spark) as place:
        for days_in_a_row, version in _blocks(wanted):
            of_days = {day: features[day] for day in days_in_a_row.days}
            part = ScorePart(project.name, scores_table(model.name, data_view), of_days, data_view, scorers[version])
            counts = place.count(part)
            _require_rows(project, counts, of_days)
            table = place.write(part)
            counted = {day: counts[day].scored if day in counts else 0 for day in of_days}
            _reconcile(model, version, tables, table, counted)
            horizon_days = scorers[version].loaded.horizon_days
            days += [
                ScoredDay(day=day, model_version=version, rows=count, horizon_days=horizon_days)
                for day, count in counted.items()
            ]
    total = sum(day.rows for day in days)
    by = ", ".join(map(str, scorers))
    log.info("%s: %d rows of %d days scored with version %s", model.name, total, len(days), by)
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


def _require_rows(project: Project, counts: Mapping[date, FeatureCount], features: Mapping[date, TableRef]) -> None:
    """Refuse features that are not those of the prepared days, or that have an entity twice."""
    if doubled := sum(of_day.rows - of_day.keys for of_day in counts.values()):
        raise DataError(
            f"{project.name}: {doubled} rows of features have the day, horizon and entity of another row (twice), "
            f"from {min(features)} to {max(features)}"
        )
    found = {day: counts[day].rows if day in counts else 0 for day in features}
    wrong = {
        day: f"{project.name}: {features_table(project.name)} has {found[day]} rows of {day}, and the prepared day has "
        f"{of_day.rows}; run build_features of the day again"
        for day, of_day in features.items()
        if found[day] != of_day.rows
    }
    if wrong:
        raise DataError.of_days(wrong)


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
