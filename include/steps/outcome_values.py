"""Compute the values of an outcome from clean rows, in the worker or on Spark: both apply the same expression.

They come back in groups of whole days, because the worker writes them to the shared database, whose password no
cluster gets. Which delivery counts for a day belongs in `outcomes.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from include.core.interval import Interval
from include.core.names import clean_table
from include.core.outcomes import columns_of_outcome, outcome_column, without_values
from include.core.project import Project
from include.core.stack import members, rows_of
from include.features.feeds import small_frame
from include.io import native, spark
from include.io.executors import errors_of_kernels, map_blocks
from include.io.tables import Tables

VALUES: dict[str, pl.DataType] = {"day": pl.Date(), "entity_id": pl.String(), "value": pl.Float64()}


@dataclass(frozen=True)
class OutcomeKernel:
    """Adds the value of an outcome to clean rows of its feed; it is pickled for executors."""

    project: Project
    outcome: str

    def lazily(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Return the columns of VALUES."""
        return outcome_column(self.project, self.outcome, "value")(rows).select(VALUES.keys())

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the columns of VALUES of a block of rows.

        Raises:
            DataError: the SQL cannot be evaluated on a row.
        """
        with without_values():
            return self.lazily(rows.lazy()).collect()


@dataclass(frozen=True)
class OutcomeRows:
    """The clean rows of an outcome on some days.

    Attributes:
        project: the project.
        outcome: the outcome.
        tables: where the clean rows are.
        states: day -> the id of the state whose rows count.
    """

    project: Project
    outcome: str
    tables: Tables
    states: Mapping[date, str]

    @property
    def feed(self) -> str:
        """The feed of the outcome."""
        return self.project.outcomes[self.outcome].feed

    @property
    def key(self) -> tuple[str, ...]:
        """The key of the feed."""
        return self.project.feeds[self.feed].key

    @property
    def interval(self) -> Interval:
        """The days, and those between them."""
        return Interval(start=min(self.states), end=max(self.states))

    @property
    def wanted(self) -> pl.DataFrame:
        """`day` and `delivery_id` of each state."""
        return pl.DataFrame([*self.states.items()], schema={"day": pl.Date, "delivery_id": pl.String}, orient="row")

    def by_worker(self) -> pl.DataFrame:
        """Return the values, made in this process."""
        within = pl.col("day").is_between(self.interval.start, self.interval.end)
        scanned = self.tables.scan(clean_table(self.project.name, self.feed)).filter(within)
        rows = rows_of(scanned, self.wanted, self.key)
        with without_values():
            return OutcomeKernel(self.project, self.outcome).lazily(rows).collect()

    def by_spark(self, session: SparkSession, staged: Path) -> pl.DataFrame:
        """Return the values, made by executors; `staged` is a folder for files, from `spark.job`."""
        states = members(self.states.values())
        is_stacked = bool((states["rank"] > 0).any())
        named = columns_of_outcome(self.project, self.outcome)
        columns = dict.fromkeys(["day", "delivery_id", "entity_id", *named, *(self.key if is_stacked else ())])
        deliveries = self.wanted.rename({"delivery_id": "state"}).join(states, on="state").drop("state")
        rows = self._rows(session, staged, [*columns])
        rows = rows.join(F.broadcast(small_frame(session, deliveries)), ["day", "delivery_id"])
        if is_stacked:
            newest = F.max("rank").over(Window.partitionBy(*dict.fromkeys(["day", *self.key])))
            rows = rows.withColumn("_newest", newest).filter("rank = _newest").drop("_newest")
        rows = rows.drop("rank")
        with errors_of_kernels():
            found = pl.from_arrow(map_blocks(rows, OutcomeKernel(self.project, self.outcome), VALUES).toArrow())
        assert isinstance(found, pl.DataFrame)
        return found.cast(VALUES)  # type: ignore[arg-type]

    def _rows(self, session: SparkSession, staged: Path, columns: list[str]) -> DataFrame:
        table = clean_table(self.project.name, self.feed)
        if spark.on_databricks():
            return native.read(session, self.tables, table, self.interval)[0].select(columns)
        within = pl.col("day").is_between(self.interval.start, self.interval.end)
        rows = self.tables.scan(table).filter(within).select(columns)
        file = staged / f"{self.outcome}-{self.interval.start}-{self.tables.version(table)}.parquet"
        return spark.staged(session, rows, file)
