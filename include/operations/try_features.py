"""try_features: show the features of one entity, and the rows of each feed that they can have come from.

Nothing is built and nothing is written: features and rows are read as the record of the prepared day names them. So the
answer comes within seconds, without Spark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from include.core.errors import ActionRequiredError, DataError, nearest
from include.core.feeds import HORIZON
from include.core.horizons import with_horizon
from include.core.interval import Interval
from include.core.names import clean_table, features_table
from include.core.point_in_time import recorded_deliveries
from include.core.project import Project
from include.core.records import DataView, PreparedDay
from include.core.settings import Settings
from include.core.stack import rows_of, states
from include.core.terminal import blocks
from include.io import postgres
from include.io.journal import read_journal
from include.io.tables import Tables

MAX_NAMED = 5  # entities that a message names
COMPARED = ("string", "integer", "boolean", "date")  # the types of columns by which rows belong to an entity


@dataclass(frozen=True)
class FeedRows:
    """Rows of a feed that an entity's features can have come from.

    Attributes:
        feed: its name.
        matched: the columns in which they agree with the entity; empty: any row that the day knows.
        rows: day, key and public columns, the newest first; identifiers are hashed.
        count: how many there are; `rows` may be fewer.
        by_column: how many rows of the window agree with the entity in each column alone. A feature over a window
            may have come from all of them.
    """

    feed: str
    matched: tuple[str, ...]
    rows: pl.DataFrame
    count: int
    by_column: Mapping[str, int]


@dataclass(frozen=True)
class EntityFeatures:
    """The features of one entity: one row with day, entity_id and features, and the rows of each feed."""

    prepared_day: PreparedDay
    entity_id: str
    features: pl.DataFrame
    feeds: tuple[FeedRows, ...]


def try_features(
    project: Project,
    day: date,
    entity: Sequence[str],
    settings: Settings,
    *,
    horizon: int = 0,
    rows: int = 10,
    data_view: DataView = "point_in_time",
) -> EntityFeatures:
    """Return the features of an entity and where they can have come from.

    What `features.py` computes is not known here. A row counts if it was known to the run date, lies in the feed's
    window, and agrees with the entity in each column of the feed's key that entities have, except its day column.

    Args:
        project: the project.
        day: the run date.
        entity: its entity_id, or `column=value` for one or more columns of the feed of entities.
        settings: where tables and the shared database are.
        horizon: days from the run date to the day that the features are about.
        rows: the most rows of each feed.
        data_view: which features.

    Raises:
        ActionRequiredError: the day is not prepared, no entity or more than one is meant, or a column is unknown.
        DataError: the recorded version of a table is gone.
    """
    prepared = postgres.days.read_prepared_days(settings, project.name, Interval.of(day), data_view)
    if not prepared:
        raise ActionRequiredError(
            f"{day} is not prepared (data view {data_view}). Run: python -m include.cli prepare --project "
            f"{project.name} --start {day}"
        )
    tables, table = Tables(settings), features_table(project.name)
    used = recorded_deliveries(read_journal(settings, project).deliveries, {day: prepared[0].deliveries})
    known = {name: _rows(project, tables, used, name) for name in project.feeds}
    own = _entity(project, day, entity, known[project.entity.feed], horizon)
    entity_id = str(own["entity_id"])
    features = (
        tables
        .scan(table, prepared[0].table_versions[table])
        .filter(day=day, data_view=data_view, entity_id=entity_id)
        .pipe(with_horizon)
        .filter(pl.col(HORIZON) == horizon)
        .collect()
    )
    if features.is_empty():
        raise ActionRequiredError(
            f"{entity_id} has no features on {day}: entity.where in project.yaml leaves it out, or features.py does"
        )
    feeds = tuple(_matching(project, name, frame, own, rows) for name, frame in known.items() if frame is not None)
    return EntityFeatures(prepared[0], entity_id, features.drop("data_view"), feeds)


def _rows(project: Project, tables: Tables, used: pl.DataFrame, feed: str) -> pl.LazyFrame | None:
    """Return the clean rows of a feed that the run date used; None if it used no delivery, or none had a valid row."""
    wanted = states(used.filter(pl.col("feed") == feed)).drop("feed", "run_date").unique()
    table = clean_table(project.name, feed)
    if wanted.is_empty() or not tables.exists(table):
        return None
    scanned = tables.scan(table)
    within = pl.col("day").is_between(wanted["day"].min(), wanted["day"].max())
    return rows_of(scanned.filter(within), wanted, project.feeds[feed].key)


def _entity(
    project: Project, day: date, entity: Sequence[str], known: pl.LazyFrame | None, horizon: int
) -> dict[str, object]:
    """Return the row of the feed of entities that is meant."""
    feed = project.feeds[project.entity.feed]
    if known is None:
        raise DataError(f"{project.name}: {day} has no delivery of {project.entity.feed}, so it has no entities")
    of_day = known.filter(pl.col("day") == day - timedelta(days=feed.delay_days - horizon))
    where = pl.lit(True)
    if len(entity) == 1 and "=" not in entity[0]:
        where = pl.col("entity_id") == entity[0]
    else:
        for part in entity:
            name, is_pair, value = part.partition("=")
            if not is_pair or name not in feed.kept:
                raise ActionRequiredError(
                    f"--entity {part}: give the entity_id, or column=value with columns of {project.entity.feed}"
                    f"{nearest(name, feed.kept)}"
                )
            where &= pl.col(name).cast(pl.String) == value
    found = of_day.filter(where).sort("entity_id").collect()
    if found.height == 1:
        return found.row(0, named=True)
    if found.is_empty():
        some = of_day.select(pl.col("entity_id").head(MAX_NAMED)).collect()["entity_id"]
        raise ActionRequiredError(
            f"{project.name} has no entity {' '.join(entity)} on {day}. Some that it has: {', '.join(some) or 'none'}"
        )
    raise ActionRequiredError(
        f"{found.height} entities of {day} are {' '.join(entity)}; give more columns of its key "
        f"({', '.join(project.entity.key)}) or one of: {', '.join(found['entity_id'].head(MAX_NAMED))}"
    )


def _matching(project: Project, name: str, known: pl.LazyFrame, own: Mapping[str, object], most: int) -> FeedRows:
    feed = project.feeds[name]
    shared = {
        column: pl.col(column) == pl.lit(own[column])
        for column, declared in feed.kept.items()
        if column != feed.day_column and own.get(column) is not None and declared.type in COMPARED
    }
    matched = tuple(column for column in feed.key if column in shared)
    rows = known.filter(*(shared[column] for column in matched))
    if name == project.entity.feed and feed.lookback_days == 0:
        rows = rows.filter(pl.col("entity_id") == own["entity_id"])
    counted = known.select(pl.len().alias("*"), **{column: each.sum() for column, each in shared.items()}).collect()
    collected = rows.sort("day", *feed.key, descending=True).select("day", *feed.kept).collect()
    return FeedRows(
        feed=name,
        matched=matched,
        rows=collected.head(most),
        count=collected.height,
        by_column={column: counted[column][0] for column in shared},
    )


def lines(found: EntityFeatures, width: int | None = None) -> list[str]:
    """Return a report for a terminal of this width; rows that are wider are shown one below the other."""
    day, record = found.prepared_day.day, found.prepared_day
    columns = [name for name in found.features.columns if name not in ("day", "entity_id", "as_of")]
    listed = pl.DataFrame({"feature": columns, "value": [_text(found.features[name][0]) for name in columns]})
    report = [f"{found.entity_id}, run date {day}, as of {record.as_of:%Y-%m-%d %H:%M} UTC", "", *_table(listed, width)]
    for each in found.feeds:
        by = (
            f"with the same {', '.join(each.matched)}"
            if each.matched
            else "of any key: it shares no column with entities"
        )
        alone = ", ".join(f"{name} alone {count:,}" for name, count in each.by_column.items())
        shown = f", the newest {each.rows.height}" if each.rows.height < each.count else ""
        report += [
            "",
            f"{each.feed}: {each.count:,} rows {by}{shown}{f' ({alone})' if len(each.by_column) > 1 else ''}",
        ]
        report += _table(each.rows, width) if each.count else []
    return [*report, "", "What features.py reads of these rows is not known here. Identifiers are hashed."]


def _text(value: object) -> str:
    return "null" if value is None else str(value)


def _table(frame: pl.DataFrame, width: int | None) -> list[str]:
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=10_000,
        fmt_str_lengths=60,
        tbl_formatting="ASCII_MARKDOWN",
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
    ):
        laid = str(frame).splitlines()
    if width is None or max(map(len, laid), default=0) <= width:
        return laid
    return blocks(frame.columns, [[_text(cell) for cell in row] for row in frame.iter_rows()])
