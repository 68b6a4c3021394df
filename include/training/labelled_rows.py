"""The labelled rows of a training, in blocks of whole run dates, so that a step need not hold all of them. Pure.

Days and outcomes of all rows are kept, twelve bytes a row; features are read by the block. Rows are in the order of
KEY, whatever the blocks.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Self

import numpy as np
import polars as pl

from include.core.horizons import KEY, target_day
from include.core.interval import Interval

LABEL = "label"

BLOCK_BYTES = 64 << 20
"""About how many bytes the rows of a block have. A block is one run date at least."""
ROW_BYTES = 80
"""Bytes of key and outcome of a row, about."""

DAILY = "days-"
"""What the digest of rows begins with if it is made of digests of days. Older ones are of all rows at once."""

Read = Callable[[Interval], pl.DataFrame]
"""A function that returns the labelled rows of run dates, sorted by KEY."""


@dataclass(frozen=True)
class LabelledRows:
    """The labelled rows of a training: KEY, features and LABEL (f64).

    Attributes:
        read: returns the rows of the run dates of a block.
        blocks: the run dates of each block, in ascending order.
        target_days: the target day of each row (datetime64[D]).
        labels: the outcome of each row (f64).
        doubled: how many rows have the key of another one.
        digest: follows from the rows alone, and not from the blocks.
    """

    read: Read = field(repr=False, compare=False)
    blocks: tuple[Interval, ...]
    target_days: np.ndarray = field(repr=False, compare=False)
    labels: np.ndarray = field(repr=False, compare=False)
    doubled: int
    digest: str

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Self:
        """Return rows that are in memory."""
        return cls.in_blocks([Interval.of(date.min)], lambda _: frame)

    @classmethod
    def in_blocks(cls, blocks: Sequence[Interval], read: Read) -> Self:
        """Look at each block once. The rows of a single block stay in memory; more are read again when needed."""
        digest, doubled = hashlib.sha256(), 0
        target_days, labels = [np.empty(0, "datetime64[D]")], [np.empty(0)]
        rows = pl.DataFrame()
        for block in blocks:
            del rows  # before the next one is read
            rows = read(block)
            doubled += rows.height - rows.select(KEY).n_unique()
            target_days.append(rows.select(target_day()).to_series().to_numpy().astype("datetime64[D]"))
            labels.append(rows[LABEL].to_numpy())
            for of_day in rows.partition_by("day", maintain_order=True):
                digest.update(f"{of_day['day'][0]} {rows_digest(of_day)}\n".encode())
        return cls(
            read=(lambda _, kept=rows: kept) if len(blocks) == 1 else read,  # type: ignore[misc]
            blocks=tuple(blocks),
            target_days=np.concatenate(target_days),
            labels=np.concatenate(labels),
            doubled=doubled,
            digest=f"{DAILY}{digest.hexdigest()}",
        )

    def within(self, interval: Interval) -> np.ndarray:
        """Return for each row whether its target day is in an interval."""
        start, end = (np.datetime64(day) for day in (interval.start, interval.end))
        return (self.target_days >= start) & (self.target_days <= end)

    def parts(self, interval: Interval, horizon_days: int) -> Iterator[pl.DataFrame]:
        """Yield the rows whose target day is in an interval, block by block; at least one frame, maybe without rows.

        Args:
            interval: target days.
            horizon_days: the largest horizon of the rows.
        """
        needed = [
            block
            for block in self.blocks
            if len(self.blocks) == 1
            or (block.start <= interval.end and (interval.start - block.end).days <= horizon_days)
        ]
        for block in needed or self.blocks[:1]:
            yield self.read(block).filter(target_day().is_between(interval.start, interval.end))


def blocks_of(run_dates: Interval, counts: pl.DataFrame, columns: int) -> list[Interval]:
    """Return run dates cut into blocks of about `BLOCK_BYTES`.

    Args:
        run_dates: all of them.
        counts: columns day and len, the number of rows of each run date.
        columns: how many features a row has.
    """
    most = BLOCK_BYTES // (ROW_BYTES + 8 * columns)
    blocks, first, rows = [], run_dates.start, 0
    for day, count in counts.sort("day").select("day", "len").iter_rows():
        if rows and rows + count > most:
            blocks.append(Interval(start=first, end=day - timedelta(days=1)))
            first, rows = day, 0
        rows += count
    return [*blocks, Interval(start=first, end=run_dates.end)]


def rows_digest(frame: pl.DataFrame) -> str:
    """sha256 of names, dtypes and values, in the order given; the same whatever version wrote or read the rows."""
    digest = hashlib.sha256()
    for column in frame.get_columns():
        digest.update(f"{column.name} {column.dtype} {len(column)}\n".encode())
        digest.update(column.is_null().to_numpy().tobytes())
        if column.dtype == pl.String:
            text = column.fill_null("")
            digest.update(text.str.len_bytes().to_numpy().tobytes())
            digest.update((text.str.join("").item() if len(text) else "").encode())
        else:
            digest.update(column.to_physical().fill_null(0).to_numpy().tobytes())
    return digest.hexdigest()
