"""`Feeds`: what each run date knows of a project's feeds, as frames without any of the future."""

from collections.abc import Mapping, Sequence

import polars as pl
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from include.core.errors import ConfigError, nearest
from include.core.feeds import HORIZON, TARGET_DAY, Feed
from include.core.outcomes import INCLUDED
from include.core.project import Project
from include.features.windows import AGE, GROUP, VALUES, Aggregate, Window, key, per_delivery, per_run_date

Group = str | tuple[str, ...]

BROADCAST_GROUPS = 500_000
"""Windows with at most so many groups are sent to each task; larger ones are sorted and merged."""


class Feeds:
    """The feeds of a project as each run date knows them.

    In every frame the column `day` is the run date. A frame has the rows of those deliveries only that are current as
    of the run date, so features made of it cannot see the future. A day whose delivery is missing has no rows.

    Attributes:
        timezone: the project's, for the wall clock in calendar features.
        made: the columns that windows and lags made so far.
    """

    def __init__(self, project: Project, rows: Mapping[str, DataFrame], known: pl.DataFrame) -> None:
        """Bind clean rows to the deliveries that run dates know.

        Args:
            project: the project.
            rows: the clean rows of all deliveries of each feed.
            known: the delivery_id (str) for each run_date (date), feed (str) and day (date) that is known, and the
                number of its rows (int).
        """
        self.timezone = project.timezone
        self.made: set[str] = set()
        self._project, self._rows, self._known = project, rows, known

    def current(self, feed: str) -> DataFrame:
        """Return the rows of the delivery of D - `delay_days` for each run date D, with D as `day`.

        Of a feed with `ahead_days`, they are the rows of the deliveries of D to D + `ahead_days`, with the columns
        `horizon` (integer, days ahead of D) and `target_day` (date, D + horizon). Of the feed of the entities, they go
        to D + `entity.horizon_days`.

        Of a snapshot, they are the rows of the newest delivery that D knows, whatever its day. A run date that knows
        none has no rows, so join a snapshot to others with `left`.
        """
        declared = self._declared(feed)
        of_needed_days = [] if declared.is_snapshot else [self._of_needed_days(feed)]
        rows = self._join(feed, self._rows[feed], *of_needed_days)
        if declared.ahead_days:
            rows = rows.withColumns({HORIZON: -F.col(AGE), TARGET_DAY: F.date_sub("day", F.col(AGE))})
        return rows.drop(AGE, "delivery_id", "_row", INCLUDED)

    def included(self) -> DataFrame:
        """Return `day`, `horizon` and `entity_id` of the entities for which `entity.where` is true."""
        feed = self._project.entity.feed
        rows = self._rows[feed].filter(F.col(INCLUDED) == 1)
        ahead = -F.col(AGE) if self._declared(feed).ahead_days else F.lit(0)
        return self._join(feed, rows, self._of_needed_days(feed)).select("day", ahead.alias(HORIZON), "entity_id")

    def _of_needed_days(self, feed: str) -> pl.Expr:
        """Return whether a delivery is one that a run date needs; of entities, one that has features."""
        declared, entity = self._declared(feed), self._project.entity
        ahead = entity.horizon_days if feed == entity.feed else declared.ahead_days
        return pl.col(AGE).is_between(declared.delay_days - ahead, declared.delay_days)

    def history(self, feed: str) -> DataFrame:
        """Return the rows of all deliveries in the window of each run date D, with D as `day`.

        `age` is the number of days (integer) from the delivery's day to D: `delay_days` for the newest, and less than 0
        for a day that is ahead. A row comes
        once for each run date that knows it, so aggregate a long history with `add_windows`.
        """
        self._daily(feed)
        if "age" in self._rows[feed].columns:
            raise self._wrong(
                f"feeds.history adds the column age, and feed {feed} has one; use add_windows or add_lags"
            )
        return self._join(feed, self._rows[feed]).drop("delivery_id", "_row", INCLUDED).withColumnRenamed(AGE, "age")

    def add_windows(
        self,
        rows: DataFrame,
        feed: str,
        *,
        by: Group | list[Group],
        days: Sequence[int],
        **aggregates: tuple[str, str],
    ) -> DataFrame:
        """Add aggregates of the newest days of a feed to rows with `day`.

        `add_windows(rows, "sales", by="store", days=[7, 28], sold=("units", "mean"))` adds `sold_store_7d` and
        `sold_store_28d`. A window of n days has the deliveries of D - `delay_days` and the n - 1 days before. A value
        is null where the window has none. Windows are of the run date, whatever the horizon of a row.

        Args:
            rows: the rows, with `day` and the columns of `by`.
            feed: the feed to aggregate, which has the columns of `by` too.
            by: a column; a tuple of columns whose values belong together; or a list of several such groups, each of
                which gets columns of its own in the same pass over the feed.
            days: the lengths of the windows.
            aggregates: for each name, a column of the feed, and count, max, mean, min, sum or share: that of the values
                other than 0.

        Raises:
            ConfigError: a name is wrong, or a window is longer than the feed's `lookback_days` allow.
        """
        newest = self._daily(feed).delay_days
        windows = [Window(newest, newest + length - 1, f"{length}d") for length in days]
        return self._add(rows, feed, by, windows, aggregates)

    def add_lags(
        self,
        rows: DataFrame,
        feed: str,
        *,
        by: Group | list[Group],
        ages: Sequence[int],
        **aggregates: tuple[str, str],
    ) -> DataFrame:
        """Add aggregates of the delivery of D - age alone to rows with `day`, otherwise as `add_windows` does.

        `add_lags(rows, "sales", by=("store", "item"), ages=[7], sold=("units", "sum"))` adds `sold_store_item_lag7`:
        what was sold on the same weekday a week before.
        """
        return self._add(rows, feed, by, [Window(age, age, f"lag{age}") for age in ages], aggregates)

    def _declared(self, feed: str) -> Feed:
        if feed not in self._project.feeds:
            raise self._wrong(f"{self._project.name} has no feed {feed!r}{nearest(feed, self._project.feeds)}")
        return self._project.feeds[feed]

    def _daily(self, feed: str) -> Feed:
        declared = self._declared(feed)
        if declared.is_snapshot:
            raise self._wrong(f"feed {feed} is a snapshot, which has no history; use feeds.current({feed!r})")
        return declared

    def _wrong(self, message: str) -> ConfigError:
        return ConfigError(f"{self._project.folder / 'features.py'}: {message}")

    def _add(
        self,
        rows: DataFrame,
        feed: str,
        by: Group | list[Group],
        windows: Sequence[Window],
        aggregates: Mapping[str, tuple[str, str]],
    ) -> DataFrame:
        """Add columns `<name>_<group>_<suffix>`."""
        declared, of_feed = self._daily(feed), self._rows[feed]
        newest, oldest = declared.delay_days - declared.ahead_days, declared.delay_days + declared.lookback_days
        for window in windows:
            if not newest <= window.newest <= window.oldest <= oldest:
                raise self._wrong(
                    f"{window.suffix}: run date D knows {feed} of {_before(newest)} to {_before(oldest)}; for more, "
                    f"raise feeds.{feed}.lookback_days in project.yaml"
                )
        groups = [(group,) if isinstance(group, str) else group for group in (by if isinstance(by, list) else [by])]
        if twice := [group for group in groups if groups.count(group) > 1]:
            raise self._wrong(f"by: {', '.join(twice[0])} comes twice")
        for name in {name for group in groups for name in group}:
            for where, there in ((f"feed {feed} has", of_feed.columns), ("the rows have", rows.columns)):
                if name not in there:
                    raise self._wrong(f"by: {where} no column {name!r}{nearest(name, there)}")
        try:
            made = [Aggregate.of(name, *wanted, of_feed, feed) for name, wanted in aggregates.items()]
        except ConfigError as error:
            raise self._wrong(str(error)) from error
        values = per_run_date(self._join(feed, per_delivery(of_feed, groups, made, declared.key)), made, windows)
        if self._groups_at_most(feed, groups, BROADCAST_GROUPS):
            values = F.broadcast(values)
        columns = {*rows.columns}  # Spark analyses the whole plan for those of a new frame
        for group in groups:
            names = {
                f"{each.name}_{'_'.join(group)}_{window.suffix}": F.col(VALUES)[f"{each.name}_{window.suffix}"]
                for each in made
                for window in windows
            }
            if there := sorted(names.keys() & columns):
                raise self._wrong(f"{there[0]}: the rows have a column of that name already; choose another name")
            columns |= names.keys()
            self.made.update(names)
            found = rows.withColumn(GROUP, key(group)).join(values, ["day", GROUP], "left")
            rows = found.withColumns(names).drop(GROUP, VALUES)
        return rows

    def _groups_at_most(self, feed: str, groups: Sequence[tuple[str, ...]], limit: int) -> bool:
        """Return whether windows have at most so many rows. The rows of the deliveries often say so without a job."""
        known = self._known.filter(pl.col("feed") == feed)
        if known["rows"].sum() * len(groups) <= limit:
            return True
        together = sorted({name for group in groups for name in group})
        counts = [F.approx_count_distinct(key(group)) for group in groups]
        [counted] = self._rows[feed].select(*together).distinct().select(*counts).collect()
        return sum(counted) * known["run_date"].n_unique() <= limit

    def _join(self, feed: str, rows: DataFrame, *which: pl.Expr) -> DataFrame:
        """Join rows of deliveries (`day`, `delivery_id`) with the run dates that know them: `day` and AGE then."""
        of_feed = self._known.filter(pl.col("feed") == feed).with_columns(
            (pl.col("run_date") - pl.col("day")).dt.total_days().cast(pl.Int32).alias(AGE)
        )
        known = of_feed.filter(*which).select("run_date", "day", "delivery_id", AGE)
        small = small_frame(rows.sparkSession, known)
        return rows.join(F.broadcast(small), ["day", "delivery_id"]).drop("day").withColumnRenamed("run_date", "day")


def _before(age: int) -> str:
    return f"D + {-age}" if age < 0 else f"D - {age}"


def small_frame(session: SparkSession, frame: pl.DataFrame) -> DataFrame:
    """Return a small frame, which may be empty, for a broadcast join."""
    arrow = frame.to_arrow()  # created from Python rows, the frame would start Python workers
    return session.createDataFrame(arrow, from_arrow_schema(arrow.schema))  # Connect infers no schema without rows
