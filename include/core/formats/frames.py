"""Collect rows of text in blocks, so that only one block of them is Python's objects at a time."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from include.core.formats.base import Layout
from include.core.formats.unpack import too_large

BLOCK_VALUES = 400_000
"""The most values that are Python's objects at a time, those of undeclared columns included."""


class Rows:
    """The rows of a file, as lists of text in the order of the file's columns."""

    def __init__(self, layout: Layout, at: Sequence[int | None], width: int, *, empty_is_null: bool) -> None:
        self._schema = {str(place): pl.String() for place in range(width)}
        self._empty_is_null = empty_is_null
        self._places = [*zip(layout.names, at, strict=True)]
        self._limits, self._most = layout.limits, layout.limits.max_rows(len(layout.names))
        self._block_rows = max(1, BLOCK_VALUES // max(width, 1))
        self._count = 0
        self._blocks: list[pl.DataFrame] = []
        self._rows: list[Sequence[str | None]] = []
        self._lines: list[int] = []

    def add(self, row: Sequence[str | None], line: int) -> None:
        """Add a row; `line` is where it ends."""
        self._rows.append(row)
        self._lines.append(line)
        self._count += 1
        if not self._count % self._block_rows:
            self._require_few(self._count)
        if len(self._rows) == self._block_rows:
            self._flush()

    def add_block(self, values: pl.DataFrame, lines: Any) -> None:
        """Add rows, as columns of text that are named by their place, and the line where each ends (an array)."""
        if self._rows:
            self._flush()
        self._count += values.height
        self._require_few(self._count // self._block_rows * self._block_rows)
        columns = [self._column(place, name) for name, place in self._places]
        self._blocks.append(values.select(*columns, pl.Series("_row", lines, dtype=pl.Int64())))

    def frame(self) -> pl.DataFrame:
        """Return all rows, with `_row`."""
        if self._rows or not self._blocks:  # a file without rows has columns
            self._flush()
        self._require_few(self._count)
        return pl.concat(self._blocks)

    def _column(self, place: int | None, name: str) -> pl.Expr:
        return (pl.lit(None, pl.String()) if place is None else pl.col(str(place))).alias(name)

    def _flush(self) -> None:
        columns = [self._column(place, name) for name, place in self._places]
        if self._empty_is_null:
            columns = [column.replace("", None) for column in columns]
        lines = pl.Series("_row", self._lines, dtype=pl.Int64())
        self._blocks.append(pl.DataFrame(self._rows, schema=self._schema, orient="row").select(*columns, lines))
        self._rows, self._lines = [], []

    def _require_few(self, rows: int) -> None:
        """Refuse a file of so many rows; they are counted by whole blocks, whatever way they were read."""
        if rows > self._most:
            raise too_large(self._limits)
