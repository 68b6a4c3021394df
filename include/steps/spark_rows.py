"""Type the rows of a large delivery and apply the rules of its feed to them, on the executors of Spark.

This process reads the raw rows, block by block, because both erased persons and sealed text are recognised by the hash
key, which no executor gets. Rows with sealed text are few and stay here, where the same kernel is applied to them. The
others stream to the executors and back through Parquet files. What follows from the rules belongs in `verdicts.py`.

A session of a server ends when it is idle for some minutes, so each job has one of its own; between jobs, there are
only files.
"""

import shutil
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from pyspark.sql import Window
from pyspark.sql import functions as F

from include.core.errors import ConfigError, UnreachableError
from include.core.personal import has_sealed_text
from include.io import spark
from include.io.executors import errors_of_kernels, map_blocks
from include.quality.marks import Marks, gathered, to_places
from include.quality.row_kernel import BLOCK, PLACE, RowKernel, asked, broken
from include.quality.rows import RowRules
from include.steps.delivered import DeliveryRows, Reader, RowPlace, TypedRows


class SparkRows(DeliveryRows, Marks):
    """The rows of a large delivery, with what the rules say of them. This process holds a block of them at a time."""

    def __init__(self, reader: Reader, about: dict[str, Any], rules: RowRules, exchange: Path, own: Path) -> None:
        """Let the executors type the rows.

        Args:
            reader: of the feed.
            about: the delivery, a row of `schemas.DELIVERIES`.
            rules: of the feed.
            exchange: an empty folder for files that Spark reads and writes.
            own: one for files of this process: rows in which sealed text is opened.
        """
        super().__init__(reader, about)
        self._rules, self._exchange, self._own = rules, exchange, own
        self._kernel = RowKernel(reader.project, about["feed"], rules)
        self._stored = {name: kind for name, kind in self._kernel.columns.items() if name != BLOCK}
        self._heights = [*self._stage()]
        self._type()
        shutil.rmtree(exchange / "landed")
        self._asked, self._broken = self._read_marks()

    def _stage(self) -> Iterator[int]:
        """Write the rows of each block to files for the executors, and those with sealed text typed; yield its height.

        Each row gets its place, by which the rows of both come together again.
        """
        start = 0
        columns = [*self._kernel.landed]
        (self._exchange / "landed").mkdir()
        for number, block in enumerate(self._ranges):
            stored, plain = self._reader.landed(self.about, *block)
            place = pl.int_range(start, start + pl.len(), dtype=pl.Int64).alias(PLACE)
            placed = [place, pl.lit(number, pl.Int32()).alias(BLOCK)]
            is_sealed = stored.select(has_sealed_text(self._reader.feed)).to_series()
            staged = stored.with_columns(placed).filter(~is_sealed).select(columns)
            name = self._exchange / "landed" / f"{number:06}.parquet"
            staged.write_parquet(name, row_group_size=spark.ROW_GROUP)
            if is_sealed.any():
                sealed = self._kernel(plain.with_columns(placed).filter(is_sealed).select(columns))
                sealed.select(self._stored.keys()).write_parquet(self._sealed(number))
            start += stored.height
            yield stored.height

    def _sealed(self, number: int) -> Path:
        return self._own / f"{number:06}.parquet"

    def _type(self) -> None:
        with spark.opened() as session, errors_of_kernels():
            landed = spark.of_files(session, self._kernel.landed, self._exchange / "landed")
            typed = map_blocks(landed, self._kernel, self._kernel.columns)
            typed.write.partitionBy(BLOCK).parquet(str(self._exchange / "typed"))

    def _scan(self, number: int) -> pl.LazyFrame:
        """Return the typed rows of a block, in any order."""
        files = sorted((self._exchange / "typed" / f"{BLOCK}={number}").glob("*.parquet"))
        sealed = self._sealed(number)
        if not (files := files + [sealed] * sealed.exists()):
            return pl.LazyFrame(schema=self._stored)
        return pl.scan_parquet(files, schema=self._stored, hive_partitioning=False)

    def _read(self, number: int, *columns: str, **named: pl.Expr) -> pl.DataFrame:
        """Return the place and some columns of the typed rows of a block, in order.

        Raises:
            UnreachableError: a row is not there, or is there twice: files may go at any time before the step ends.
        """
        start, height = sum(self._heights[:number]), self._heights[number]
        rows = self._scan(number).select(PLACE, *columns, **named).collect().sort(PLACE)
        if not rows[PLACE].equals(pl.int_range(start, start + height, dtype=pl.Int64, eager=True)):
            raise self._lost(f"block {number + 1} of {len(self._heights)}", height, rows[PLACE])
        return rows

    def _read_marks(self) -> tuple[dict[str, int], pl.DataFrame]:
        """Return how many rows each rule asks, and the place of each row that breaks one, with the rules."""
        names, rules = [*self._kernel.asked.values()], [*self._kernel.broken.values()]
        counted, found = dict.fromkeys(names, 0), [pl.DataFrame(schema={PLACE: pl.Int64(), **_flags(rules)})]
        for number in range(len(self._heights)):
            marks = self._read(number, *names, *rules)
            for name in names:
                counted[name] += int(marks[name].sum())
            found.append(marks.select(PLACE, *rules).filter(pl.any_horizontal(False, *rules)))
        return counted, pl.concat(found)

    def _lost(self, what: str, rows: int, places: pl.Series) -> UnreachableError:
        found = f"{len(places)} rows, {places.n_unique()} of them different"
        return UnreachableError(
            f"{self._reader.table}, {self.about['delivery_id']}: of the {rows} rows of {what}, {found}, came back from "
            "Spark, so it has no verdict. Run the step again; if the same happens, look whether worker and Spark "
            "server have the same folder TMPDIR, and whether something else removes files there"
        )

    def _typed_block(self, number: int) -> pl.DataFrame:
        return self._read(number, *self._kernel.typed).drop(PLACE)

    def _block(self, number: int) -> TypedRows:
        return TypedRows(*self._reader.landed(self.about, *self._ranges[number]), self._typed_block(number))

    @property
    def to_check(self) -> Marks:
        """What `Suites.findings` takes."""
        return self

    def typed(self) -> Iterator[pl.DataFrame]:
        """Yield the typed rows."""
        return (self._typed_block(number) for number in range(len(self._heights)))

    def broken(self, number: int) -> "tuple[int, array[int]]":
        """Return how many rows a rule about rows asks, and the places of those that break it."""
        return self._asked[asked(number)], to_places(self._broken.filter(pl.col(broken(number)))[PLACE])

    def repeated(self, number: int, left: pl.Series) -> "tuple[int, array[int]]":
        """Return how many of the rows that are left a rule asks, and the places of those with equal keys.

        The executors compare the keys themselves, so that it does not matter in which blocks equal ones are.
        """
        key = {f"key_{n}": value for n, value in enumerate(self._rules.key(number))}
        columns = self._scan(0).select(PLACE, **key).collect_schema()
        staged, alike = self._exchange / f"keys-{number}", self._exchange / f"alike-{number}"
        staged.mkdir()
        count = start = 0
        for block, height in enumerate(self._heights):
            keys = self._read(block, asked=pl.col(asked(number)), **key)
            kept = keys.filter(left[start : start + height] & keys["asked"]).drop("asked")
            kept.write_parquet(staged / f"{block:06}.parquet", row_group_size=spark.ROW_GROUP)
            count += kept.height
            start += height
        with spark.opened() as session:
            rows = spark.of_files(session, columns, staged)
            times = F.count(F.lit(1)).over(Window.partitionBy(*key))
            repeated = rows.withColumn("times", times).filter("times > 1").select(PLACE)
            repeated.write.parquet(str(alike))
            written = spark.of_files(session, {PLACE: pl.Int64()}, alike).count()
        shutil.rmtree(staged)
        found = [pl.read_parquet(file, columns=[PLACE])[PLACE] for file in alike.glob("*.parquet")]
        places = pl.concat([pl.Series(PLACE, dtype=pl.Int64), *found]).sort()
        if not len(places) == places.n_unique() == written:
            raise self._lost(f"equal keys of rule {number}", written, places)
        return count, to_places(places)

    def values(self, columns: Sequence[pl.Expr], left: pl.Series) -> pl.DataFrame:
        """Return some columns of the rows that are left."""
        return gathered(self.typed(), columns, left)


class SparkRowPlace(RowPlace):
    """Executors, for large deliveries."""

    def __init__(self) -> None:
        """Remove files of steps that were killed long ago.

        Raises:
            ConfigError: `SPARK_REMOTE` names a cluster of Databricks.
        """
        if spark.on_databricks():
            raise ConfigError(
                "run_on: validate exchanges files with Spark through the temporary folder of the worker, which the "
                "cluster of Databricks in SPARK_REMOTE does not see; write worker, or name another Spark server"
            )
        spark.sweep()

    @contextmanager
    def rows(self, reader: Reader, deliveries: pl.DataFrame, rules: RowRules) -> Iterator[list[DeliveryRows]]:
        """Yield the rows of the deliveries of a chunk. The files of a large one are removed in the end."""
        found = reader.read(deliveries)
        if found[0].whole:
            yield found
            return
        spark.require_server()
        [large] = found
        with spark.folder() as exchange, spark.folder() as own:
            yield [SparkRows(reader, large.about, rules, exchange, own)]


def _flags(names: Sequence[str]) -> dict[str, pl.DataType]:
    return dict.fromkeys(names, pl.Boolean())
