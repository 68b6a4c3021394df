"""What the rules about rows found in the rows of one delivery, as `suites.py` asks for it. Pure.

Here are the marks of blocks in this process. Those that Spark computes belong in `include/steps/spark_rows.py`.
"""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Sequence

import polars as pl

from include.quality.rows import RowRules

Blocks = Callable[[], Iterable[pl.DataFrame]]
"""Makes the typed rows of a delivery, each time in the same order and the same blocks."""


class Marks(ABC):
    """What the translated rules of a feed say of a delivery. A place is that of a row in the delivery, from 0."""

    @property
    @abstractmethod
    def height(self) -> int:
        """The number of rows."""

    @abstractmethod
    def broken(self, number: int) -> "tuple[int, array[int]]":
        """Return how many rows a rule about rows asks, and the places of those that break it."""

    @abstractmethod
    def repeated(self, number: int, left: pl.Series) -> "tuple[int, array[int]]":
        """Return how many of the rows that are left a rule about keys asks, and the places of those with equal keys.

        Args:
            number: of the rule.
            left: which rows of the delivery these are.
        """

    @abstractmethod
    def values(self, columns: Sequence[pl.Expr], left: pl.Series) -> pl.DataFrame:
        """Return some columns of the rows that are left."""


class BlockMarks(Marks):
    """Marks of blocks that this process has computed: some 20 bytes a row."""

    def __init__(self, rules: RowRules, blocks: Blocks, marks: pl.DataFrame) -> None:
        """Take the marks of all rows, and the blocks, which are made again when values are needed."""
        self._rules, self._blocks, self._marks = rules, blocks, marks

    @property
    def height(self) -> int:
        """The number of rows."""
        return self._marks.height

    def broken(self, number: int) -> "tuple[int, array[int]]":
        """Return how many rows a rule about rows asks, and the places of those that break it."""
        return int(self._marks[f"asked {number}"].sum()), places_of(self._marks[f"broken {number}"])

    def repeated(self, number: int, left: pl.Series) -> "tuple[int, array[int]]":
        """Return how many of the rows that are left a rule asks, and the places of those with equal keys.

        Rows with equal hashes are compared by their keys, which are read again only then.
        """
        asked = self._marks[f"asked {number}"] & left
        alike = asked.clone()
        alike[asked.arg_true()] = self._marks[f"key {number}"].filter(asked).is_duplicated()
        if alike.any():
            keys = self.values(self._rules.key(number), alike)
            alike[alike.arg_true()] = keys.is_duplicated()
        return int(asked.sum()), places_of(alike)

    def values(self, columns: Sequence[pl.Expr], left: pl.Series) -> pl.DataFrame:
        """Return some columns of the rows that are left."""
        return gathered(self._blocks(), columns, left)


def gathered(blocks: Iterable[pl.DataFrame], columns: Sequence[pl.Expr], wanted: pl.Series) -> pl.DataFrame:
    """Return some columns of the wanted rows."""
    found, end = [], 0
    for block in blocks:
        start, end = end, end + block.height
        found.append(block.select(columns).filter(wanted[start:end]))
    return pl.concat(found)


def places_of(chosen: pl.Series) -> "array[int]":
    """Return the places of the rows that are chosen."""
    return to_places(chosen.arg_true())


def to_places(numbers: pl.Series) -> "array[int]":
    """Return numbers in the form of places, which takes four bytes each."""
    return array("I", numbers.cast(pl.UInt32).to_numpy().tobytes())
