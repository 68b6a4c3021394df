"""build_features: build the project's features of each day with Spark, from what the run date knows."""

import importlib
import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path

import polars as pl
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from include.config.loading import load_project
from include.core import lookback
from include.core.changes import features_digest
from include.core.errors import ConfigError, DataError
from include.core.feeds import HORIZON
from include.core.fraction import in_fraction, limit
from include.core.horizons import KEY, key_in, with_horizon_of_day
from include.core.interval import Interval
from include.core.journal import Known
from include.core.names import clean_table, features_table, quarantine_table
from include.core.outcomes import INCLUDED, included_column, outcomes_of, without_values
from include.core.parts import sets_of
from include.core.point_in_time import as_of_days, known_deliveries
from include.core.project import Project
from include.core.records import DataView, Featured, PreparedDay
from include.core.settings import Settings
from include.core.stack import members, rows_of, stacked, states
from include.features import Feeds, returned
from include.features.feeds import small_frame
from include.io import postgres, spark
from include.io.journal import read_journal
from include.io.tables import Scope, Tables

log = logging.getLogger(__name__)


def build_features(
    project: Project,
    interval: Interval,
    settings: Settings,
    *,
    data_view: DataView = "point_in_time",
    watermark: int | None = None,
) -> Featured:
    """Replace the interval in `features_<project>` in one commit, with one row for each entity of each day.

    The project's `features.build` makes day, entity_id and features of `Feeds`; this step adds `as_of` (UTC) and
    `data_view`. Of a project that looks ahead, an entity has a row for each horizon. Features with the data view
    `latest` are stored beside the original ones. Rows of entities that `entity.where` leaves out are removed last, so
    that features that count other entities still count all of them. So are those outside a fraction of the entities
    (`project.entity_fraction`), whose features go to a table of their own, and whose days do not count as prepared.

    Args:
        project: the project.
        interval: the run dates.
        settings: where tables and the journal are.
        data_view: which deliveries features may use.
        watermark: the newest entry of the journal to use; None: the newest there is.

    Raises:
        DataError: a day has no accepted delivery of a required feed, or too many files of its window came too late
            (`max_unknown_share`), or rows were lost or doubled.
    """
    tables = Tables(settings)
    journal = read_journal(settings, project, watermark)
    known = known_deliveries(project, journal, interval, data_view)
    moments = as_of_days(project, journal, interval, data_view)
    _require_recorded_rows(project, journal, known, tables)

    counting, unknown = lookback.counts_from(journal.deliveries), lookback.unknown_days(project, known, interval)
    lacks = lookback.together(
        lookback.of_days(unknown, counting),
        lookback.of_snapshots(project, known, interval),
        lookback.of_parts(project, known, sets_of(journal.entries)),
    )
    for sentence in lookback.sentences(lacks):
        log.warning("%s", sentence)
    if data_view == "point_in_time" and (late := lookback.too_late(project, unknown, counting, journal.records)):
        raise DataError.of_days(late)
    entities = _entities(project, tables, known)
    with spark.job() as (session, staged):
        built, versions = features_frame(session, tables, project, interval, journal, known, staged)
        moments_frame = small_frame(session, pl.DataFrame({"day": list(moments), "as_of": list(moments.values())}))
        frame = built.join(F.broadcast(moments_frame), "day").withColumn("data_view", F.lit(data_view))
        if project.entity_fraction < 1:
            frame = frame.filter(_in_fraction_by_spark(project.entity_fraction))
        try:
            table = spark.write(
                frame,
                tables,
                features_table(project.name, project.entity_fraction),
                Scope(interval, {"data_view": [data_view]}),
                staged,
                sort_by=key_in(built.columns)[1:],
                partition_by=["day", "data_view"],
                expected={day: sum(counts.rows) for day, counts in entities.items()},
                metadata={
                    **versions,
                    "watermark": journal.watermark,
                    "deliveries": ",".join(known["delivery_id"].unique().sort()),
                },
            )
        except DataError as error:
            raise DataError(
                f"{project.folder / 'features.py'}: {error}; return one row for each entity{_and_horizon(project)}, "
                "and keep all columns"
            ) from error
    log.info("%s: %d rows of features, version %d", interval, table.rows, table.version)
    if project.entity.where is not None:
        left_out = sum(counts.left_out for counts in entities.values())
        log.info("%s: entity.where left out %d of %d entities", interval, left_out, left_out + table.rows)
    versions[table.table] = table.version
    return Featured(
        interval=interval,
        rows=table.rows,
        table_version=table.version,
        table=table,
        prepared_days=_prepared_days(project, data_view, journal, known, moments, entities, versions, lacks)
        if project.entity_fraction == 1
        else (),
        entity_fraction=project.entity_fraction,
    )


def features_frame(
    session: SparkSession,
    tables: Tables,
    project: Project,
    interval: Interval,
    journal: Known,
    known: pl.DataFrame,
    staged: Path,
    instead: Mapping[str, pl.LazyFrame] | None = None,
) -> tuple[DataFrame, dict[str, int]]:
    """Return the features of run dates, made of the deliveries that each one knows, and the table versions read.

    Args:
        session: Spark.
        tables: where the clean rows are.
        project: the project.
        interval: the run dates.
        journal: what is known of deliveries.
        known: the result of `known_deliveries`.
        staged: a folder for files, from `spark.job`.
        instead: clean rows by feed that are used instead of those of its table; only a local Spark can read them.
    """
    rows, versions = _feeds(session, tables, project, interval, known, staged, instead or {})
    counted = journal.deliveries.select("delivery_id", "rows")
    sizes = known.join(counted, on="delivery_id").group_by("run_date", "feed", "day").agg(pl.col("rows").sum())
    feeds = Feeds(project, rows, states(known).join(sizes, on=["run_date", "feed", "day"]))
    built = _build(project, feeds)
    if project.entity.where is not None:
        built = built.join(feeds.included(), key_in(built.columns), "left_semi")
    return built, versions


def _require_recorded_rows(project: Project, journal: Known, known: pl.DataFrame, tables: Tables) -> None:
    """Refuse to build a day whose record names a delivery that has lost its clean rows since.

    A delivery that was refused since has none, and one that was withdrawn has its rows as long as nobody removes them.

    Raises:
        DataError: names the days.
    """
    named = known.join(
        journal.deliveries.filter(pl.col("verdict") != "accepted").select("delivery_id", "verdict", "why", "rows"),
        on="delivery_id",
    )
    problems: dict[date, str] = {}
    for (name,), of_feed in named.partition_by("feed", as_dict=True).items():
        scope = Scope.of_deliveries(of_feed["day"].to_list(), of_feed["delivery_id"].to_list())
        split = (clean_table(project.name, str(name)), quarantine_table(project.name, str(name)))
        written = tables.count(split, scope, "delivery_id")
        for each in of_feed.iter_rows(named=True):
            if each["verdict"] == "refused" or written[each["delivery_id"]] != each["rows"]:
                problems[each["run_date"]] = (
                    f"{project.name}: the record of {each['run_date']} names {each['delivery_id']}, which was "
                    f"{each['verdict']} since ({each['why']}) and has no clean rows any more; run: "
                    f"python -m include.cli repair --project {project.name} --start {each['run_date']} "
                    "--by NAME --why REASON"
                )
    if problems:
        raise DataError.of_days(problems)


def record_prepared_days(built: Featured, settings: Settings) -> None:
    """Record the prepared days, for which training and scoring wait. Their features must exist before.

    The first run that finishes preparing a day enters its record into the journal. The features of a run that loses
    that race do not count; those of the winner are put back.

    Raises:
        DataError: a day was repaired meanwhile, so these features are out of date.
    """
    if not built.prepared_days:
        return
    project, now = load_project(built.prepared_days[0].project), postgres.journal.read_clock(settings)
    late = [day for day in built.interval.days if project.cutoff_at(day + timedelta(days=1)) <= now]
    tables = Tables(settings)
    lost = postgres.days.record_prepared_days(
        settings,
        project.name,
        built.prepared_days,
        reconstructed=late,
        put_back=lambda counting: _put_back(tables, built.table.table, counting),
    )
    for winner in lost:
        log.warning("another run prepared %s first, from other deliveries; its features count", winner.day)


def _put_back(tables: Tables, table: str, counting: Sequence[PreparedDay]) -> None:
    """Give the newest version of the features the rows of the prepared days that count.

    Another run may have written the same days after the run whose features count. Scoring reads the recorded version;
    training and people read the newest one.
    """
    newest = tables.version(table)
    groups: dict[tuple[int, str], list[date]] = {}
    for each in counting:
        groups.setdefault((each.table_versions[table], each.data_view), []).append(each.day)
    for (version, data_view), days in groups.items():
        for part in Interval.covering(days) if version < newest else ():
            scope = Scope(part, {"data_view": [data_view]})
            if tables.differ(table, scope, version, newest, sort_by=KEY):
                rows = tables.scan(table, version).filter(scope.expr()).collect()
                log.warning("%s of %s: another run wrote other rows; those that count are put back", table, part)
                tables.replace(table, partial(_with_columns_of, rows), scope, sort_by=key_in(rows.columns))


def _with_columns_of(rows: pl.DataFrame, current: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with the columns that the table has by now; those that were added later are null."""
    added = [pl.lit(None, kind).alias(name) for name, kind in current.schema.items() if name not in rows.columns]
    return rows.with_columns(added).select(current.columns)


def _feeds(
    session: SparkSession,
    tables: Tables,
    project: Project,
    interval: Interval,
    known: pl.DataFrame,
    staged: Path,
    instead: Mapping[str, pl.LazyFrame],
) -> tuple[dict[str, DataFrame], dict[str, int]]:
    """Return the clean rows of each feed that features may read, with outcomes as columns, and the table versions."""
    feeds, versions = {}, {}
    for name in project.feeds:
        of_feed = known.filter(pl.col("feed") == name)["day"].unique().to_list()
        days = Interval(start=min(of_feed), end=max(of_feed)) if of_feed else interval
        table = clean_table(project.name, name)
        added = outcomes_of(project, name)
        if name == project.entity.feed and project.entity.where is not None:
            added = {**added, INCLUDED: included_column(project)}
        rows, versions[table] = spark.read(session, tables, table, days, staged, added, instead.get(name))
        feeds[name] = _with_states(session, rows, known.filter(pl.col("feed") == name), project.feeds[name].key)
    spark.suit_to_size(session, staged)
    return feeds, versions


def _with_states(session: SparkSession, rows: DataFrame, known: pl.DataFrame, key: Sequence[str]) -> DataFrame:
    """Add the rows of each state that is a stack, under the id of the state as `delivery_id`.

    So everything that reads a feed finds one delivery for each run date and day, as where nothing is stacked.
    """
    if not stacked(known):
        return rows
    of_states = states(known).select("day", state="delivery_id").unique()
    stacks = of_states.join(members(of_states["state"]), on="state").filter(pl.col("rank").max().over("state") > 0)
    joined = rows.join(F.broadcast(small_frame(session, stacks)), ["day", "delivery_id"])
    newest = F.max("rank").over(Window.partitionBy("day", "state", *key))
    of_stacks = joined.withColumn("_newest", newest).filter("rank = _newest")
    return rows.unionByName(of_stacks.withColumn("delivery_id", F.col("state")).select(rows.columns))


def _build(project: Project, feeds: Feeds) -> DataFrame:
    """Return what the project's `build` makes, with features of known types.

    Raises:
        ConfigError: names the columns that are missing, lost or of another type.
    """
    module = importlib.import_module(f"include.projects.{project.name}.features")
    built: DataFrame = module.build(feeds)
    try:
        returned.require_all(built, inspect.getsource(module), feeds.made)
        return returned.typed(built, horizons=project.looks_ahead)
    except ConfigError as error:
        raise ConfigError(f"{module.__file__}: {error}") from error


def _and_horizon(project: Project) -> str:
    return " and horizon" if project.looks_ahead else ""


@dataclass(frozen=True)
class _Counts:
    """Of a run date: its entities by horizon, and how many of all horizons `entity.where` leaves out."""

    rows: tuple[int, ...] = ()
    left_out: int = 0


def _entities(project: Project, tables: Tables, known: pl.DataFrame) -> dict[date, _Counts]:
    """Count the entities of each run date: the current rows of the entity's feed."""
    feed, horizons = project.entity.feed, project.entity.horizon_days + 1
    current_as_of = with_horizon_of_day(project, known.filter(pl.col("feed") == feed))
    within = pl.col("day").is_between(current_as_of["day"].min(), current_as_of["day"].max())
    scanned = tables.scan(clean_table(project.name, feed)).filter(within)
    wanted = states(current_as_of).drop("feed")
    rows = rows_of(scanned, with_horizon_of_day(project, wanted), project.feeds[feed].key)
    if project.entity_fraction < 1:
        rows = rows.filter(in_fraction(project.entity_fraction))
    included = pl.col(INCLUDED) == 1
    with without_values():
        counted = (
            included_column(project)(rows)
            .group_by("run_date", HORIZON)
            .agg(rows=included.sum(), left_out=(~included).sum())
            .collect()
        )
    found: dict[date, _Counts] = {}
    for (run_date,), of_day in counted.partition_by("run_date", as_dict=True).items():
        rows_by_horizon = dict(of_day.select(HORIZON, "rows").iter_rows())
        by_horizon = tuple(rows_by_horizon.get(horizon, 0) for horizon in range(horizons))
        found[run_date] = _Counts(by_horizon, int(of_day["left_out"].sum()))
    return found


def _in_fraction_by_spark(fraction: float) -> Column:
    """Return the same in Spark; each write checks that the two agree on the number of rows of each day."""
    return F.substring(F.sha2("entity_id", 256), 1, 8) < limit(fraction)


def _prepared_days(
    project: Project,
    data_view: DataView,
    journal: Known,
    known: pl.DataFrame,
    moments: Mapping[date, datetime],
    entities: Mapping[date, _Counts],
    versions: Mapping[str, int],
    lacks: Mapping[date, Mapping[str, str]],
) -> tuple[PreparedDay, ...]:
    used = dict(known.group_by("run_date").agg(pl.col("delivery_id").sort()).iter_rows())
    digest = features_digest(project)
    return tuple(
        PreparedDay(
            project=project.name,
            day=day,
            data_view=data_view,
            as_of=moment,
            watermark=journal.watermark,
            deliveries=tuple(used.get(day, ())),
            table_versions=dict(versions),
            rows=sum(entities.get(day, _Counts()).rows),
            horizon_rows=entities.get(day, _Counts()).rows if project.entity.horizon_days else (),
            left_out=entities.get(day, _Counts()).left_out,
            number=journal.records[day].number if data_view == "point_in_time" and day in journal.records else None,
            lacks=lacks.get(day, {}),
            config_digest=digest,
        )
        for day, moment in moments.items()
    )
