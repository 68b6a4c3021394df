"""How the feeds of example files belong together: keys, entities, the outcome, and what features can be made of."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import combinations

import polars as pl

from include.core.errors import ActionRequiredError, nearest
from include.core.formats import Format
from tools.new_project.columns import (
    NEIGHBOURS,
    FoundColumn,
    calendar_of,
    date_column,
    find_columns,
    neighbour,
    words_of,
)
from tools.new_project.database import TableRows
from tools.new_project.files import FeedFiles

KEY_COLUMNS = 4
"""The most columns of a key that are tried."""
GROUPS = 2000
"""A column with at most so many different values is a group over which features aggregate."""
IDS = {"id", "no", "nr", "num", "number", "nummer", "key", "code", "uuid"}
"""Words in the names of columns that number things."""
PLANS = ("plan", "schedule", "forecast", "order", "booking", "demand", "calendar")
RESULTS = ("actual", "result", "outcome", "sale", "sold", "return", "log", "measured", "observed")
"""Words in the names of feeds that are known before, and that know the result."""
LABELS = 200
"""A label with at most so many different values is an input of the model."""
LEAKING_ROWS = 20
"""The fewest rows of which one can say that a column is the outcome in other values."""
MOSTLY = 0.5
"""The share of rows that are of the day in the path, if that is the day of the rows."""


@dataclass(frozen=True)
class FoundFeed:
    """What the examples say about a feed."""

    files: FeedFiles | TableRows
    columns: dict[str, FoundColumn]
    format: Format
    key: tuple[str, ...]
    day_column: str | None
    calendar: str | None
    rows: pl.DataFrame
    checks: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the feed."""
        return self.files.name

    @property
    def is_snapshot(self) -> bool:
        """Whether it is a snapshot."""
        return self.files.is_snapshot

    @property
    def missing_days(self) -> list[date]:
        """The days between its first and last file that should have one, by their weekday, and have none."""
        days = self.files.days
        weekdays = {day.weekday() for day in days}
        between = [days[0] + timedelta(days=n) for n in range((days[-1] - days[0]).days)] if days else []
        return [day for day in between if day.weekday() in weekdays and day not in set(days)]

    @property
    def rows_a_day(self) -> list[int]:
        """The number of rows of each day that was read completely, sorted."""
        counted = self.rows.group_by("_day").len()["len"]
        return sorted(counted.to_list())


@dataclass(frozen=True)
class FoundProject:
    """What the examples say about a project.

    Attributes:
        feeds: its feeds, by name.
        entity: the feed of the entities.
        result: the feed that knows the true results.
        outcome: the column of it that a model predicts.
        zone: the timezone.
        groups: the columns over which features aggregate the outcome.
        lookups: snapshots that entities can be joined to.
        leaking: columns of the entities that are the outcome, or say the same in other values.
    """

    feeds: dict[str, FoundFeed]
    entity: FoundFeed
    result: FoundFeed
    outcome: FoundColumn
    zone: str
    groups: tuple[str, ...]
    lookups: tuple[str, ...]
    leaking: tuple[str, ...] = ()

    @property
    def first_day(self) -> date:
        """The first run date whose entities are among the examples."""
        return self.entity.files.days[0]

    @property
    def live_from(self) -> date:
        """The day after the newest example."""
        return max(feed.files.days[-1] for feed in self.feeds.values() if not feed.is_snapshot) + timedelta(days=1)

    @property
    def outcome_name(self) -> str:
        """The name of the outcome, which no column may have."""
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", self.outcome.name).lower()
        return f"actual_{re.sub('[^a-z0-9]+', '_', words).strip('_')}"[:40].strip("_")

    @property
    def problem_type(self) -> str:
        """The problem type of the first model."""
        values = self.outcome.values.drop_nulls()
        if self.outcome.type == "boolean" or set(values.unique()) <= {0, 1}:
            return "binary"
        is_count = bool((values >= 0).all()) and (values.dtype.is_integer() or bool((values == values.floor()).all()))
        return "count" if is_count else "regression"

    @property
    def history(self) -> tuple[str, ...]:
        """The entity's key, if most entities have outcomes of several days; else nothing."""
        key = self.entity.key
        days = self.result.rows.group_by(*key).agg(pl.col("_day").n_unique())["_day"]
        return key if float((days > 1).mean() or 0) > MOSTLY else ()  # type: ignore[arg-type]


def find_feed(files: FeedFiles | TableRows, zone: str) -> FoundFeed:
    """Return what the examples of a feed say.

    Raises:
        ActionRequiredError: a file cannot be read.
    """
    rows = files.rows()
    found, declared, checks = find_columns(rows, files.names, files.optional, files.format, zone)
    checks = [*files.notes, *checks]
    columns = {column.name: column for column in found}
    key, repeated = _key(found, rows)
    if repeated:
        checks = [*checks, f"{repeated:,} rows of the examples have the key of another row of their day"]
    day_column, share = (None, 1.0) if files.is_snapshot else date_column(found, rows, zone)
    if isinstance(files, FeedFiles) and not files.is_snapshot:
        other, path_day = neighbour(found, rows, zone)
        if other is not None and share < MOSTLY:
            files, day_column, share = files.named_by(path_day), other, 1.0
            rows = rows.with_columns(pl.col("_day").dt.offset_by(f"{-path_day}d"))
            checks.append(f"files are named by {NEIGHBOURS[path_day]} that of their rows, which {other} says")
        elif other is not None:
            checks.append(
                f"{other} is always {NEIGHBOURS[-path_day]} {day_column}; if it is the day of the rows, write "
                f"`path_day: {path_day}` and `day_column: {other}`"
            )
    if not files.is_snapshot and day_column is None:
        raise ActionRequiredError(
            f"{files.where}: no column has the day of the file ({files.days[0]}), as a date or a "
            f"timestamp in {zone}. Is the timezone right? The day in the path must be that of the rows, or the "
            "day before or after: rename the files, if it is not. A feed without days must not have a day in its path"
        )
    if share < 1:
        checks = [*checks, f"{1 - share:.1%} of the rows are of another day than their file: see late_rows"]
    return FoundFeed(files, columns, declared, key, day_column, calendar_of(files.days), rows, tuple(checks))


def _key(columns: Sequence[FoundColumn], rows: pl.DataFrame) -> tuple[tuple[str, ...], int]:
    """Return the columns that identify a row within its day, and how many rows have the key of another one.

    Names and ids are tried first, then other public columns, and identifiers of persons last: in a few files, an amount
    or a person can be different in each row by chance.
    """
    usable = [
        column
        for column in columns
        if column.data_class != "sensitive"
        and column.type != "double"
        and not column.optional
        and rows[column.name].null_count() == 0
    ]
    if not usable:
        raise ActionRequiredError(f"no columns can be a key: {', '.join(c.name for c in columns)} are numbers or empty")
    public = [column for column in usable if column.data_class == "public"]
    named = [column for column in public if column.type == "string" or IDS & set(words_of(column.name))]
    whole = rows.select("_day", *(column.name for column in usable))
    for tried in (named, public, usable):
        names = [column.name for column in sorted(tried, key=lambda column: column.type in ("date", "timestamp"))]
        for size in range(1, KEY_COLUMNS + 1):
            for key in combinations(names[:12], size):
                if not whole.select("_day", *key).is_duplicated().any():
                    return key, 0
    return tuple(column.name for column in usable), int(whole.is_duplicated().sum())


def relate(feeds: Sequence[FoundFeed], zone: str, entity: str = "", outcome: str = "") -> FoundProject:
    """Return which feed has the entities, which one the outcome, and what features can be made of.

    Args:
        feeds: what was found.
        zone: the timezone.
        entity: the name of the feed of entities; empty: the one that fits best.
        outcome: feed.column of the outcome; empty: the one that fits best.

    Raises:
        ActionRequiredError: no pair of feeds fits, or a name is wrong.
    """
    by_name = {feed.name: feed for feed in feeds}
    dated = {name: feed for name, feed in by_name.items() if not feed.is_snapshot}
    result_name, _, column = outcome.partition(".")
    for what, name in (("ENTITY", entity), ("OUTCOME", result_name)):
        if name and name not in dated:
            raise ActionRequiredError(f"{what}: there is no feed {name!r} with days{nearest(name, dated)}")
    pairs = [
        (mine, its)
        for mine in ([dated[entity]] if entity else dated.values())
        for its in ([dated[result_name]] if result_name else dated.values())
        if mine is not its and _joins(mine, its)
    ]
    if not pairs:
        raise ActionRequiredError(
            "no two feeds with days fit together: one has a row for each thing to predict, known before the day "
            "(ENTITY=feed), the other has the true result of the same key, known later (OUTCOME=feed.column), with the "
            f"same columns for it. Found with days: {', '.join(dated) or 'none'}"
        )
    mine, its = max(pairs, key=lambda pair: _score(*pair))
    chosen = _outcome(mine, its, column)
    groups = _groups(mine, its)
    lookups = [
        feed.name
        for feed in feeds
        if feed.is_snapshot and all(_same(mine.columns.get(name), feed.columns[name]) for name in feed.key)
    ]
    leaking = _leaking(mine, its, chosen)
    return FoundProject(by_name, mine, its, chosen, zone, tuple(groups), tuple(lookups), leaking)


def _leaking(mine: FoundFeed, its: FoundFeed, outcome: FoundColumn) -> tuple[str, ...]:
    """Return the public columns of the entities, but for their key, that say no more and no less than the outcome."""
    key = ["_day", *mine.key]
    truth = its.rows.select(*key).with_columns(outcome.values.alias("_truth")).unique(key, keep="none")
    found = []
    for column in mine.columns.values():
        if column.data_class != "public" or column.name in mine.key:
            continue
        values = mine.rows.select(*key).with_columns(column.values.alias("_value"))
        both = values.join(truth, on=key).select("_value", "_truth").drop_nulls()
        if both.height >= LEAKING_ROWS and _say_the_same(both["_value"], both["_truth"]):
            found.append(column.name)
    return tuple(found)


def _say_the_same(one: pl.Series, other: pl.Series) -> bool:
    """Return whether each value of one stands for one value of the other.

    Where nearly every row has a value of its own, that is so by chance; then the order of both must be the same, too.
    """
    pairs = pl.DataFrame({"one": one, "other": other}).n_unique()
    if pairs < 2 or not one.n_unique() == pairs == other.n_unique():
        return False
    if pairs <= len(one) / 2:
        return True
    if not one.dtype.is_numeric():
        return False
    ranks = pl.DataFrame({"one": one.rank("dense"), "other": other.rank("dense")})
    return bool((ranks["one"] == ranks["other"]).all())


def _joins(mine: FoundFeed, its: FoundFeed) -> bool:
    return all(_same(mine.columns[name], its.columns.get(name)) for name in mine.key)


def _same(mine: FoundColumn | None, its: FoundColumn | None) -> bool:
    return (
        mine is not None
        and its is not None
        and (mine.type, mine.data_class) == (its.type, its.data_class)
        and mine.data_class != "sensitive"
    )


def _score(mine: FoundFeed, its: FoundFeed) -> tuple[bool, bool, bool, int, int]:
    """Rate a pair: the result has numbers of its own, is keyed alike, and the entities are there on as many days."""
    said = sum(word in mine.name for word in PLANS) + sum(word in its.name for word in RESULTS)
    said -= sum(word in mine.name for word in RESULTS) + sum(word in its.name for word in PLANS)
    keyed_alike = set(mine.key) == set(its.key)
    days = len(mine.files.days) - len(its.files.days)
    return (bool(_own_numbers(mine, its)), keyed_alike, mine.files.days[-1] >= its.files.days[-1], said, days)


def _own_numbers(mine: FoundFeed, its: FoundFeed) -> list[FoundColumn]:
    """Return the numbers of the second feed that the first one does not have."""
    return [column for column in its.columns.values() if column.is_number and column.name not in mine.columns]


def _outcome(mine: FoundFeed, its: FoundFeed, column: str) -> FoundColumn:
    own = _own_numbers(mine, its)
    if column:
        found = its.columns.get(column)
        if found is None or not found.is_number:
            names = [each.name for each in its.columns.values() if each.is_number]
            raise ActionRequiredError(f"OUTCOME: {its.name} has no public number {column!r}{nearest(column, names)}")
        return found
    if not own:
        raise ActionRequiredError(f"{its.name} has no number of its own; name the outcome: OUTCOME={its.name}.COLUMN")
    return own[0]


def _groups(mine: FoundFeed, its: FoundFeed) -> Iterator[str]:
    """Yield public columns of both feeds whose values come again, the ones with the fewest values first."""
    both = [
        column
        for name, column in mine.columns.items()
        if _same(column, its.columns.get(name))
        and column.data_class == "public"
        and column.type in ("string", "integer", "boolean")
        and 1 < column.distinct <= GROUPS
        and column.distinct < column.values.len() / 2
    ]
    yield from (column.name for column in sorted(both, key=lambda column: column.distinct)[:3])
