"""Collect rows of text in blocks, so that only one block of them is Python's objects at a time."""

from collections.abc import Sequence

import polars as pl

from include.core.formats.base import Layout
from include.core.formats.unpack import too_large

BLOCK_VALUES = 400_000
"""The most values that are Python's objects at a time, those of undeclared columns included."""


class Rows:
    """The rows of a file, as lists of text in the order of the file's columns."""

    def __init__(self, layout: Layout, at: Sequence[int | None], width: int, *, empty_is_null: bool) -> None:
        self._schema = {str(place): pl.String() for place in range(width)}
        text = [pl.lit(None, pl.String()) if place is None else pl.col(str(place)) for place in at]
        if empty_is_null:
            text = [column.replace("", None) for column in text]
        self._columns = [column.alias(name) for column, name in zip(text, layout.names, strict=True)]
        self._limits, self._left = layout.limits, layout.limits.max_rows(len(layout.names))
        self._block_rows = max(1, BLOCK_VALUES // max(width, 1))
        self._blocks: list[pl.DataFrame] = []
        self._rows: list[Sequence[str | None]] = []
        self._lines: list[int] = []

    def add(self, row: Sequence[str | None], line: int) -> None:
        """Add a row; `line` is where it ends."""
        self._rows.append(row)
        self._lines.append(line)
        if len(self._rows) == self._block_rows:
            self._flush()

    def frame(self) -> pl.DataFrame:
        """Return all rows, with `_row`."""
        self._flush()
        return pl.concat(self._blocks)

    def _flush(self) -> None:
        self._left -= len(self._rows)
        if self._left < 0:
            raise too_large(self._limits)
        lines = pl.Series("_row", self._lines, dtype=pl.Int64())
        block = pl.DataFrame(self._rows, schema=self._schema, orient="row")
        self._blocks.append(block.with_columns(lines).select(*self._columns, "_row"))
        self._rows, self._lines = [], []
