"""Score the days of one commit in the worker or on Spark, which apply the same kernel to the same rows.

Neither holds more than a block of rows in this process. What is scored, and what is refused, belongs in `score.py`.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import reduce
from pathlib import Path

import polars as pl
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from include.core import schemas
from include.core.errors import DataError
from include.core.feeds import HORIZON
from include.core.horizons import KEY, with_horizon
from include.core.interval import Interval, grouped_by_rows
from include.core.names import features_table
from include.core.records import DataView, TableRef
from include.io import native, spark
from include.io.executors import errors_of_kernels, map_blocks
from include.io.registry import Scorer
from include.io.registry.scorer import OF_ROW
from include.io.tables import Scope, Tables

BLOCK_VALUES = 2_500_000
"""How many values the rows of a block have."""
COUNTED_ROWS = 1_000_000
"""How many rows have their keys counted at once; more if one day has more."""
SORTED_BY = ["day", "model_version", HORIZON, "entity_id"]


@dataclass(frozen=True)
class ScorePart:
    """The days of one commit, which one version scores.

    Attributes:
        project: the name of the project.
        table: the table of scores.
        features: day -> the features of the prepared day.
        data_view: which features.
        scorer: the version.
    """

    project: str
    table: str
    features: Mapping[date, TableRef]
    data_view: DataView
    scorer: Scorer

    @property
    def interval(self) -> Interval:
        """The days; without gaps."""
        return Interval(start=min(self.features), end=max(self.features))

    @property
    def columns(self) -> list[str]:
        """The columns of features that are read."""
        names = dict.fromkeys((*OF_ROW, *self.scorer.loaded.inputs))
        return [name for name in names if name != "features_version"]

    @property
    def days_by_version(self) -> dict[int, list[date]]:
        """The days that each version of the features has."""
        found: dict[int, list[date]] = {}
        for day, of_day in sorted(self.features.items(), key=lambda each: (each[1].version, each[0])):
            found.setdefault(of_day.version, []).append(day)
        return found

    @property
    def scope(self) -> Scope:
        """The part of the table of scores that is replaced."""
        return Scope(self.interval, {"model_version": [self.scorer.version]})

    @property
    def metadata(self) -> dict[str, int | str]:
        """The metadata of the commit."""
        versions = " ".join(map(str, self.days_by_version))
        return {"model_version": self.scorer.version, "features_version": versions}

    def rows(self, tables: Tables) -> pl.LazyFrame:
        """Return the features: `OF_ROW` and the inputs of the version."""
        found = []
        for number, days in self.days_by_version.items():
            at = tables.scan(features_table(self.project), number)
            rows = with_horizon(at.filter(pl.col("day").is_in(days) & (pl.col("data_view") == self.data_view)))
            found.append(rows.select(*self.columns, features_version=pl.lit(number, pl.Int64)))
        return pl.concat(found)

    def is_scored(self) -> pl.Expr:
        """Return whether the version scores a row: one of a horizon on which it was fitted."""
        return pl.col(HORIZON) <= self.scorer.loaded.horizon_days

    @contextmanager
    def files_of_features(self) -> Iterator[None]:
        """Name the days if files of their features are gone.

        Raises:
            DataError: they are.
        """
        try:
            yield
        except FileNotFoundError as error:
            raise DataError(
                f"files of the features of {self.project} for {self.interval.start} to {self.interval.end} are gone: "
                f"{error}; build the features again"
            ) from error


@dataclass(frozen=True)
class FeatureCount:
    """How many rows of features a day has, how many different keys they have, and how many of them are scored."""

    rows: int
    keys: int
    scored: int


class ScorePlace(ABC):
    """Where rows are scored."""

    @abstractmethod
    def count(self, part: ScorePart) -> dict[date, FeatureCount]:
        """Count the features of each day that has any."""

    @abstractmethod
    def write(self, part: ScorePart) -> TableRef:
        """Replace the scores of the part's days and version.

        Raises:
            DataError: a score is not finite. Nothing is written then.
        """


class WorkerPlace(ScorePlace):
    """This process."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def count(self, part: ScorePart) -> dict[date, FeatureCount]:
        """Count the features of each day that has any."""
        found: dict[date, FeatureCount] = {}
        expected = {day: of_day.rows for day, of_day in part.features.items()}
        for days in grouped_by_rows(expected, COUNTED_ROWS):
            group = replace(part, features={day: part.features[day] for day in days})
            rows = group.rows(self._tables).select(KEY)
            counts = rows.group_by("day").agg(
                pl.len(), keys=pl.struct(HORIZON, "entity_id").n_unique(), scored=part.is_scored().sum()
            )
            with group.files_of_features():
                found |= {day: FeatureCount(*of_day) for day, *of_day in counts.collect().iter_rows()}
        return found

    def write(self, part: ScorePart) -> TableRef:
        """Replace the scores, block by block."""
        rows = part.rows(self._tables).filter(part.is_scored())
        of_block = max(BLOCK_VALUES // (len(part.columns) + 1), 1)

        def blocks() -> Iterator[pl.DataFrame]:
            for block in rows.collect_batches(chunk_size=of_block, maintain_order=True):
                yield part.scorer(block.sort(KEY)).sort(SORTED_BY)

        with part.files_of_features():
            return self._tables.write_blocks(
                part.table,
                blocks,
                schemas.SCORES,
                part.scope,
                metadata=part.metadata,
                may_grow=True,  # a new version of the product can have more columns
            )


class SparkPlace(ScorePlace):
    """Spark. Counts come to this process, and rows do not: those of a Spark without Delta stream through files."""

    def __init__(self, tables: Tables, session: SparkSession, staged: Path) -> None:
        """Take a session and its folder, from `spark.job`."""
        self._tables, self._session, self._staged = tables, session, staged

    def count(self, part: ScorePart) -> dict[date, FeatureCount]:
        """Count the features of each day that has any."""
        within = (F.col(HORIZON) <= part.scorer.loaded.horizon_days).cast("long")
        counts = (
            self
            ._frame(part)
            .groupBy("day")
            .agg(F.count(F.lit(1)), F.countDistinct(F.struct(HORIZON, "entity_id")), F.sum(within))
        )
        return {day: FeatureCount(*of_day) for day, *of_day in counts.collect()}

    def write(self, part: ScorePart) -> TableRef:
        """Replace the scores, which executors make."""
        rows = self._frame(part).filter(F.col(HORIZON) <= part.scorer.loaded.horizon_days)
        with errors_of_kernels():
            written = spark.write(
                map_blocks(rows, part.scorer, schemas.SCORES),
                self._tables,
                part.table,
                part.scope,
                self._folder(part),
                sort_by=SORTED_BY[1:],
                partition_by=["day"],
                expected=None,  # `score` counts what was written
                metadata=part.metadata,
            )
        shutil.rmtree(self._folder(part))
        return written

    def _folder(self, part: ScorePart) -> Path:
        folder = self._staged / f"{part.interval.start}-{part.scorer.version}"
        folder.mkdir(exist_ok=True)
        return folder

    def _frame(self, part: ScorePart) -> DataFrame:
        if spark.on_databricks():
            return self._frame_of_delta(part)
        file = self._folder(part) / "features.parquet"
        rows = part.rows(self._tables)
        with part.files_of_features():
            return spark.staged(self._session, rows, file)

    def _frame_of_delta(self, part: ScorePart) -> DataFrame:
        found = []
        for number, days in part.days_by_version.items():
            rows, _ = native.read(self._session, self._tables, features_table(part.project), part.interval, number)
            horizon = F.coalesce(HORIZON, F.lit(0)) if HORIZON in rows.columns else F.lit(0)
            of_view = rows.filter(F.col("day").isin(days) & (F.col("data_view") == part.data_view))
            with_key = of_view.withColumn(HORIZON, horizon.cast("int"))
            found.append(with_key.select(*part.columns, F.lit(number).cast("long").alias("features_version")))
        return reduce(DataFrame.unionByName, found)


@contextmanager
def place_of_scores(tables: Tables, *, on_spark: bool) -> Iterator[ScorePlace]:
    """Yield where to score."""
    if not on_spark:
        yield WorkerPlace(tables)
        return
    with spark.job() as (session, staged):
        yield SparkPlace(tables, session, staged)
