"""Blocks of a day's rows in the order of KEY, so that a step holds a bounded number of rows."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import polars as pl

from include.core.feeds import HORIZON
from include.core.horizons import KEY

SAMPLED = 400  # keys of a block that are looked at, so that blocks have the same number of rows up to a few percent

Limit = tuple[int, str]
"""The horizon and the `entity_id` of the first key of a block."""


def in_key_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows sorted by KEY."""
    varying = [name for name in KEY if rows[name].null_count() or rows[name].min() != rows[name].max()]
    return rows.sort(varying) if varying else rows  # by one column, a sort takes a tenth of the time


def is_first() -> pl.Expr:
    """Return whether a row, sorted by KEY, is the first of its key, which is whole."""
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in KEY)
    return pl.col("entity_id").is_not_null() & (differs | (pl.int_range(pl.len()) == 0))


def find_limits(rows: pl.LazyFrame, count: int, block_rows: int) -> list[Limit]:
    """Return where all blocks but the first begin. They are keys of a sample, so any order of the rows will do.

    Args:
        rows: HORIZON and `entity_id` of a day, with more columns or without.
        count: the number of rows.
        block_rows: the wanted number of rows in a block.
    """
    blocks = max(1, -(-count // block_rows))
    is_sampled = pl.col("entity_id").hash(0) % max(1, block_rows // SAMPLED) == 0
    has_id = pl.col("entity_id").is_not_null()  # polars 2.1.0 panics at a limit without one
    sample = rows.select(HORIZON, "entity_id").filter(is_sampled & has_id).unique().collect(engine="streaming")
    limits = sample.sort(HORIZON, "entity_id").gather_every(max(1, -(-sample.height // blocks)))
    return limits.slice(1).rows()


def split(rows: pl.LazyFrame, limits: Sequence[Limit], folder: Path) -> list[pl.LazyFrame]:
    """Write rows to a file for each block, in one pass, and return the blocks. Rows with one key are in one block.

    Args:
        rows: the rows of a day, with KEY.
        limits: where blocks begin: see `find_limits`.
        folder: a folder for the files, which does not exist yet. The blocks are read from there.
    """
    block = pl.sum_horizontal(pl.lit(0), *(_from(*limit) for limit in limits))  # without an id: the first
    into = pl.PartitionBy(folder, key=block.cast(pl.Int32).alias("_block"), include_key=False)
    rows.sink_parquet(into, compression="lz4", statistics=False, mkdir=True)
    nothing = pl.LazyFrame(schema=rows.collect_schema())
    files = [folder / f"_block={n}" for n in range(len(limits) + 1)]
    return [pl.scan_parquet(file, hive_partitioning=False) if file.exists() else nothing for file in files]


def _from(horizon: int, entity_id: str) -> pl.Expr:
    return (pl.col(HORIZON) > horizon) | ((pl.col(HORIZON) == horizon) & (pl.col("entity_id") >= entity_id))


def read_blocks(blocks: Iterable[pl.LazyFrame]) -> Iterator[pl.DataFrame]:
    """Yield each block, sorted by KEY."""
    for block in blocks:
        yield in_key_order(block.collect())
