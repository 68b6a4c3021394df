"""Blocks of a day's rows in the order of KEY, so that a step holds a bounded number of rows. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import polars as pl

from include.core.feeds import HORIZON
from include.core.horizons import KEY

SAMPLED = 400  # keys of a block that are looked at, so that blocks have the same number of rows up to a few percent


def in_key_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows sorted by KEY."""
    varying = [name for name in KEY if rows[name].null_count() or rows[name].min() != rows[name].max()]
    return rows.sort(varying) if varying else rows  # by one column, a sort takes a tenth of the time


def is_first() -> pl.Expr:
    """Return whether a row, sorted by KEY, is the first of its key, which is whole."""
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in KEY)
    return pl.col("entity_id").is_not_null() & (differs | (pl.int_range(pl.len()) == 0))


def key_blocks(rows: pl.LazyFrame, count: int, block_rows: int) -> list[pl.Expr]:
    """Return conditions that divide the rows of a day into blocks in the order of KEY. Each row meets one of them.

    Rows with the same key are of the same block. The limits are keys of a sample, so any order of the rows will do. A
    table that is sorted by KEY is read once for all blocks, because a reader passes over the other row groups.

    Args:
        rows: HORIZON and `entity_id` of a day, with more columns or without.
        count: the number of rows.
        block_rows: the wanted number of rows in a block.
    """
    blocks = -(-count // block_rows)
    if blocks < 2:
        return [pl.lit(True)]
    is_sampled = pl.col("entity_id").hash(0) % max(1, block_rows // SAMPLED) == 0
    sample = rows.select(HORIZON, "entity_id").filter(is_sampled).collect(engine="streaming").sort(HORIZON, "entity_id")
    limits = sample.unique(maintain_order=True).gather_every(max(1, -(-sample.height // blocks))).slice(1).rows()
    return list(_between(limits))


def _between(limits: Sequence[tuple[int, str]]) -> Iterator[pl.Expr]:
    if not limits:
        yield pl.lit(True)
        return
    yield ~_from(*limits[0]) | pl.col("entity_id").is_null()
    for lower, upper in pairwise(limits):
        yield _from(*lower) & ~_from(*upper)
    yield _from(*limits[-1])


def _from(horizon: int, entity_id: str) -> pl.Expr:
    return (pl.col(HORIZON) > horizon) | ((pl.col(HORIZON) == horizon) & (pl.col("entity_id") >= entity_id))


def read_blocks(rows: pl.LazyFrame, blocks: Iterable[pl.Expr]) -> Iterator[pl.DataFrame]:
    """Yield each block, sorted by KEY."""
    for block in blocks:
        yield in_key_order(rows.filter(block).collect())
