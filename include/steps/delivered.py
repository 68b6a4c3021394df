"""Read the raw rows of deliveries and type them, by blocks of bounded size. Nothing is written here.

A block has whole deliveries, or a part of one that is larger: the rows of a range of `_row`, which is the line in the
file. So blocks depend neither on the files of the table nor on the order of rows in them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from include.core import schemas
from include.core.erasure import Erasures, without_erased_hashes
from include.core.errors import DataError
from include.core.names import raw_table
from include.core.personal import opened
from include.core.project import Project
from include.core.settings import Settings
from include.io.hash_key import read_hash_key
from include.io.tables import Scope, Tables

if TYPE_CHECKING:
    from include.quality.marks import Blocks, Marks
    from include.quality.rows import RowRules

BLOCK_VALUES = 4_000_000
"""How many values the rows of a block have."""
BLOCK_BYTES = 64_000_000
"""How many bytes the files of a block have, as they were delivered."""
BLOCK_DELIVERIES = 300


@dataclass(frozen=True)
class TypedRows:
    """Some rows of a delivery: `stored` as in the raw table, `raw` as they were landed (not sealed), and `typed`."""

    stored: pl.DataFrame
    raw: pl.DataFrame
    typed: pl.DataFrame

    @property
    def height(self) -> int:
        """The number of rows."""
        return self.raw.height

    def at(self, places: Sequence[int]) -> "TypedRows":
        """Return the rows at these places."""
        return TypedRows(self.stored[places], self.raw[places], self.typed[places])


class DeliveryRows:
    """The rows of one delivery, by blocks in the order of the file.

    Those of a delivery that is larger than a block are read again each time.
    """

    def __init__(self, reader: "Reader", about: dict[str, Any], whole: TypedRows | None = None) -> None:
        """Take the delivery, a row of `schemas.DELIVERIES`, and its rows if they are one block."""
        self.about, self.whole = about, whole
        self._reader = reader
        self._heights = [whole.height] if whole else []

    @cached_property
    def _ranges(self) -> list[tuple[int, int]]:
        """The first and last `_row` of each block of a large delivery."""
        return [] if self.whole else self._reader.ranges(self.about)

    @property
    def height(self) -> int:
        """The number of rows; of a large delivery, once all its blocks were read."""
        return sum(self._heights)

    @property
    def to_check(self) -> "pl.DataFrame | Blocks | Marks":
        """What `Suites.findings` takes."""
        return self.whole.typed if self.whole else self.typed

    def blocks(self) -> Iterator[TypedRows]:
        """Yield the rows."""
        if self.whole:
            yield self.whole
            return
        heights = []
        for number in range(len(self._ranges)):
            block = self._block(number)
            heights.append(block.height)
            yield block
        self._heights = heights

    def _block(self, number: int) -> TypedRows:
        return self._reader.part(self.about, *self._ranges[number])

    def typed(self) -> Iterator[pl.DataFrame]:
        """Yield the typed rows."""
        return (block.typed for block in self.blocks())

    def at(self, places: Sequence[int]) -> TypedRows:
        """Return the rows at these places, which are sorted. Blocks without any are not read."""
        if self.whole:
            return self.whole.at(places)
        found: list[TypedRows] = []
        start = 0
        for number, height in enumerate(self._heights):
            inside = [place - start for place in places if start <= place < start + height]
            if inside or not found:
                found.append(self._block(number).at(inside))
            start += height
        parts = ((rows.stored, rows.raw, rows.typed) for rows in found)
        return TypedRows(*(pl.concat(each) for each in zip(*parts, strict=True)))

    def with_current(self, table: pl.LazyFrame) -> Iterator[tuple[TypedRows, pl.DataFrame]]:
        """Yield each block and the rows that a table has of it now, in the order of the file."""
        day, delivery_id = self.about["day"], self.about["delivery_id"]
        there = table.filter(pl.col("day") == day, pl.col("delivery_id") == delivery_id)
        everything = pl.lit(value=True)
        ranges = [pl.col("_row").is_between(*each) for each in self._ranges] or [everything]
        for rows, inside in zip(self.blocks(), ranges, strict=True):
            yield rows, there.filter(inside).sort("_row").collect()


class Reader:
    """Reads the rows of a feed's deliveries."""

    def __init__(self, project: Project, name: str, settings: Settings, erased: Erasures) -> None:
        """Take the feed, and the erased persons, whose rows are left out."""
        self.project, self.feed, self._erased = project, project.feeds[name], erased
        self.table = raw_table(project.name, name)
        self._tables, self._key = Tables(settings), read_hash_key(settings, project.name)

    def read(self, deliveries: pl.DataFrame) -> list[DeliveryRows]:
        """Return the rows of the deliveries of a chunk, of which all but a large one are read."""
        about = [*deliveries.iter_rows(named=True)]
        if len(about) == 1 and about[0]["rows"] > block_rows(self.project, about[0]):
            return [DeliveryRows(self, about[0])]
        scope = Scope.of_deliveries(deliveries["day"].to_list(), deliveries["delivery_id"].to_list())
        whole = self._rows(*self._landed(self._tables.scan(self.table).filter(scope.expr())))
        parts = (_parts(frame, about) for frame in (whole.stored, whole.raw, whole.typed))
        return [DeliveryRows(self, each, TypedRows(*rows)) for each, *rows in zip(about, *parts, strict=True)]

    def ranges(self, delivery: dict[str, Any]) -> list[tuple[int, int]]:
        """Return the first and last `_row` of each block of a large delivery, at least one."""
        least, most = self._of(delivery).select(pl.min("_row"), pl.max("_row").alias("most")).collect().row(0)
        step = block_rows(self.project, delivery)
        starts = range(least, most + 1, step) if least is not None else [0]
        return [(start, start + step - 1) for start in starts]

    def part(self, delivery: dict[str, Any], least: int, most: int) -> TypedRows:
        """Return the rows of a block of a large delivery."""
        return self._rows(*self.landed(delivery, least, most))

    def landed(self, delivery: dict[str, Any], least: int, most: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the rows of a block of a large delivery as they are stored, and as they were landed."""
        return self._landed(self._of(delivery).filter(pl.col("_row").is_between(least, most)))

    def _of(self, delivery: dict[str, Any]) -> pl.LazyFrame:
        scope = Scope.of_deliveries([delivery["day"]], [delivery["delivery_id"]])
        return self._tables.scan(self.table).filter(scope.expr())

    def _landed(self, raw: pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        stored = raw.sort("day", "delivery_id", "_row").collect()
        stored = without_erased_hashes(self.feed, stored, self._erased, self._key)
        return stored, opened(self.feed, stored, self._key)

    def _rows(self, stored: pl.DataFrame, plain: pl.DataFrame) -> TypedRows:
        return TypedRows(stored, plain, schemas.typed_rows(self.project, self.feed, plain))


class RowPlace:
    """Where rows are typed: in this process. `spark_rows.SparkRowPlace` is the other one."""

    @contextmanager
    def rows(self, reader: Reader, deliveries: pl.DataFrame, rules: "RowRules") -> Iterator[list[DeliveryRows]]:
        """Yield the rows of the deliveries of a chunk.

        Args:
            reader: of the feed.
            deliveries: rows of `schemas.DELIVERIES`.
            rules: of the feed, which a large delivery on Spark needs.
        """
        yield reader.read(deliveries)


def block_rows(project: Project, delivery: dict[str, Any]) -> int:
    """Return how many rows of a delivery a block has at most."""
    by_bytes: int = delivery["rows"] * BLOCK_BYTES // max(delivery["size"], 1)
    return max(min(BLOCK_VALUES // len(project.feeds[delivery["feed"]].kept), by_bytes), 1)


def chunks(project: Project, deliveries: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the deliveries in order: so many that their rows are one block, or one whose rows are several."""
    first = values = size = 0
    for n, (feed, rows, own_size) in enumerate(deliveries.select("feed", "rows", "size").iter_rows()):
        own = rows * len(project.feeds[feed].kept)
        if n > first and (
            n - first == BLOCK_DELIVERIES or values + own > BLOCK_VALUES or size + own_size > BLOCK_BYTES
        ):
            yield deliveries[first:n]
            first, values, size = n, 0, 0
        values, size = values + own, size + own_size
    yield deliveries[first:]


def require_rows(table: str, deliveries: Sequence[DeliveryRows]) -> None:
    """Refuse to validate deliveries whose rows are not in the archive, as after a restore of an older copy."""
    lost = [each.about for each in deliveries if each.height != each.about["rows"]]
    if lost:
        raise DataError(
            f"{table} lacks rows of {len(lost)} deliveries that the journal has; the first is "
            f"{lost[0]['delivery_id']}, with {lost[0]['rows']} rows; restore the table from a backup that is not older "
            "than the journal"
        )


def _parts(rows: pl.DataFrame, deliveries: Sequence[dict[str, Any]]) -> list[pl.DataFrame]:
    """Return the rows of each delivery."""
    parts = rows.partition_by("delivery_id", as_dict=True)
    return [parts.get((delivery["delivery_id"],), rows.clear()) for delivery in deliveries]
