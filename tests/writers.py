"""Writers to a small Delta table, one for each kind of write in `io/tables.py`; tests run them concurrently."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import polars as pl

from include.core.interval import Interval
from include.core.records import TableRef
from include.io.tables import Scope, Tables

TABLE = "numbers"


def frame(day: date, *values: int, who: str = "a") -> pl.DataFrame:
    return pl.DataFrame(
        {"day": [day] * len(values), "who": [who] * len(values), "value": values},
        schema={"day": pl.Date, "who": pl.String, "value": pl.Int64},
    )


def written(day: date, who: str) -> pl.DataFrame:
    """Return the rows that a writer puts in the place of a day."""
    return frame(day, 1, 2, 3, who=who)


def by_replace(tables: Tables, day: date, who: str) -> TableRef:
    return tables.replace(TABLE, written(day, who), Scope(Interval.of(day)), sort_by=["value"])


def by_function(tables: Tables, day: date, who: str) -> TableRef:
    tables.create(TABLE, frame(day).schema)
    return tables.replace(TABLE, lambda _: written(day, who), Scope(Interval.of(day)), sort_by=["value"])


def by_files(tables: Tables, day: date, who: str) -> TableRef:
    """Replace the day with files, as Spark's executors write them."""
    return from_file(tables, written(day, who), Scope(Interval.of(day)))


def by_blocks(tables: Tables, day: date, who: str) -> TableRef:
    """Replace the day with blocks, one row each."""
    rows = written(day, who)
    return tables.write_blocks(TABLE, lambda: rows.iter_slices(1), rows.schema, Scope(Interval.of(day)))


def by_blocks_of_now(tables: Tables, day: date, who: str) -> TableRef:
    """Replace the rows of now, if they differ."""
    rows = written(day, who)
    tables.create(TABLE, rows.schema)
    return tables.replace_blocks(
        TABLE,
        lambda there: iter([(rows, there.sort("value").collect())]),
        rows.height,
        Scope(Interval.of(day)),
        schema=rows.schema,
    )


def from_file(tables: Tables, rows: pl.DataFrame, scope: Scope, *, by: str = "day") -> TableRef:
    with NamedTemporaryFile(suffix=".parquet") as file:
        rows.write_parquet(file.name)
        return tables.replace_files(TABLE, [Path(file.name)], scope, partition_by=by.split())


WRITERS: dict[str, Callable[[Tables, date, str], TableRef]] = {
    "replace": by_replace,
    "function": by_function,
    "files": by_files,
    "blocks": by_blocks,
    "blocks of now": by_blocks_of_now,
}


def rows_of(*frames: pl.DataFrame) -> list[tuple[Any, ...]]:
    return sorted(row for part in frames for row in part.iter_rows())


def stored(tables: Tables, version: int | None = None) -> list[tuple[Any, ...]]:
    return sorted(tables.scan(TABLE, version).collect().iter_rows())
