"""Type the rows of a large delivery and apply the rules of its feed to them, on the executors of Spark.

This process reads the raw rows, block by block, because both erased persons and sealed text are recognised by the hash
key, which no executor gets. Rows with sealed text are few and stay here, where the same kernel is applied to them. The
others stream to the executors and back through Parquet files. What follows from the rules belongs in `verdicts.py`.
"""

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F

from include.core.errors import ConfigError
from include.core.personal import has_sealed_text
from include.io import spark
from include.io.executors import errors_of_kernels, map_blocks
from include.quality.marks import Marks, gathered, to_places
from include.quality.row_kernel import PLACE, RowKernel
from include.quality.rows import RowRules
from include.steps.delivered import DeliveryRows, Reader, RowPlace, TypedRows


class SparkRows(DeliveryRows, Marks):
    """The rows of a large delivery, with what the rules say of them. This process holds a block of them at a time."""

    def __init__(
        self, reader: Reader, about: dict[str, Any], rules: RowRules, session: SparkSession, staged: Path
    ) -> None:
        """Let the executors type the rows.

        Args:
            reader: of the feed.
            about: the delivery, a row of `schemas.DELIVERIES`.
            rules: of the feed.
            session: from `spark.job`.
            staged: a folder for files, from `spark.job`.
        """
        super().__init__(reader, about)
        self._rules, self._session, self._staged = rules, session, staged
        self._kernel = RowKernel(reader.project, about["feed"], rules)
        for folder in ("landed", "here"):
            (staged / folder).mkdir()
        self._heights = [*self._stage()]
        landed = spark.of_files(session, self._kernel.landed, staged / "landed")
        with errors_of_kernels():
            map_blocks(landed, self._kernel, self._kernel.columns).write.parquet(str(staged / "there"))
        asked = [name for name in self._kernel.columns if name.startswith("asked ")]
        broken = [name for name in self._kernel.columns if name.startswith("broken ")]
        self._asked = self._scan().select(pl.col(asked).sum()).collect().row(0, named=True)
        self._broken = self._scan().select(PLACE, *broken).filter(pl.any_horizontal(broken)).sort(PLACE).collect()

    def _stage(self) -> Iterator[int]:
        """Write the rows of each block to files for the executors, and those with sealed text typed; yield its height.

        Each row gets its place, by which the rows of both come together again.
        """
        start = 0
        for number, block in enumerate(self._ranges):
            stored, plain = self._reader.landed(self.about, *block)
            place = pl.int_range(start, start + pl.len(), dtype=pl.Int64).alias(PLACE)
            is_sealed = stored.select(has_sealed_text(self._reader.feed)).to_series()
            name, columns = f"{number:06}.parquet", self._kernel.landed.keys()
            staged = stored.with_columns(place).filter(~is_sealed).select(columns)
            staged.write_parquet(self._staged / "landed" / name, row_group_size=spark.ROW_GROUP)
            if is_sealed.any():
                sealed = plain.with_columns(place).filter(is_sealed).select(columns)
                self._kernel(sealed).write_parquet(self._staged / "here" / name)
            start += stored.height
            yield stored.height

    def _scan(self) -> pl.LazyFrame:
        files = [file for folder in ("here", "there") for file in sorted((self._staged / folder).glob("*.parquet"))]
        return pl.scan_parquet(files, schema=self._kernel.columns)

    def _typed_block(self, least: int, most: int) -> pl.DataFrame:
        rows = self._scan().filter(pl.col("_row").is_between(least, most)).sort(PLACE)
        return rows.select(self._kernel.typed.keys()).collect()

    def _block(self, least: int, most: int) -> TypedRows:
        return TypedRows(*self._reader.landed(self.about, least, most), self._typed_block(least, most))

    @property
    def to_check(self) -> Marks:
        """What `Suites.findings` takes."""
        return self

    def typed(self) -> Iterator[pl.DataFrame]:
        """Yield the typed rows."""
        return (self._typed_block(*block) for block in self._ranges)

    def broken(self, number: int) -> "tuple[int, array[int]]":
        """Return how many rows a rule about rows asks, and the places of those that break it."""
        broken = self._broken.filter(pl.col(f"broken {number}"))
        return self._asked[f"asked {number}"], to_places(broken[PLACE])

    def repeated(self, number: int, left: pl.Series) -> "tuple[int, array[int]]":
        """Return how many of the rows that are left a rule asks, and the places of those with equal keys.

        The executors compare the keys themselves, so that it does not matter in which blocks equal ones are.
        """
        key = {f"key_{n}": value for n, value in enumerate(self._rules.key(number))}
        gone = (~left).arg_true().cast(pl.Int64)
        rows = self._scan().filter(pl.col(f"asked {number}"), ~pl.col(PLACE).is_in(gone.implode()))
        file = self._staged / f"keys-{number}.parquet"
        keys = spark.staged(self._session, rows.select(PLACE, **key), file)
        alike = keys.withColumn("alike", F.count(F.lit(1)).over(Window.partitionBy(*key))).filter("alike > 1")
        places = pl.from_arrow(alike.select(PLACE).toArrow())
        assert isinstance(places, pl.DataFrame)
        asked: int = pl.scan_parquet(file).select(pl.len()).collect().item()
        return asked, to_places(places[PLACE].sort())

    def values(self, columns: Sequence[pl.Expr], left: pl.Series) -> pl.DataFrame:
        """Return some columns of the rows that are left."""
        return gathered(self.typed(), columns, left)


class SparkPlace(RowPlace):
    """Executors, for large deliveries. The session is opened for the first one and stays until the step ends."""

    def __init__(self, stack: ExitStack) -> None:
        """Take the stack that ends the session.

        Raises:
            ConfigError: `SPARK_REMOTE` names a cluster of Databricks.
        """
        if spark.on_databricks():
            raise ConfigError(
                "run_on: validate exchanges files with Spark through the temporary folder of the worker, which the "
                "cluster of Databricks in SPARK_REMOTE does not see; write worker, or name another Spark server"
            )
        self._stack = stack
        self._job: tuple[SparkSession, Path] | None = None

    @contextmanager
    def rows(self, reader: Reader, deliveries: pl.DataFrame, rules: RowRules) -> Iterator[list[DeliveryRows]]:
        """Yield the rows of the deliveries of a chunk. The files of a large one are removed in the end."""
        found = reader.read(deliveries)
        if found[0].whole:
            yield found
            return
        self._job = self._job or self._stack.enter_context(spark.job())
        session, staged = self._job
        with tempfile.TemporaryDirectory(dir=staged) as folder:
            yield [SparkRows(reader, each.about, rules, session, Path(folder)) for each in found]
