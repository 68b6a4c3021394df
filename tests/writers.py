"""Writers to a small Delta table, one for each way that `io/tables.py` has; tests set them against each other."""

import io
import json
from collections.abc import Callable
from datetime import date
from typing import Any

import polars as pl
from deltalake import Schema
from deltalake.transaction import AddAction

from include.contracts import Interval, TableRef
from include.io.tables import Scope, Tables

TABLE = "numbers"


def frame(day: date, *values: int, who: str = "a") -> pl.DataFrame:
    return pl.DataFrame(
        {"day": [day] * len(values), "who": [who] * len(values), "value": values},
        schema={"day": pl.Date, "who": pl.String, "value": pl.Int64},
    )


def written(day: date, who: str) -> pl.DataFrame:
    """What each writer makes all there is of a day."""
    return frame(day, 1, 2, 3, who=who)


def by_replace(tables: Tables, day: date, who: str) -> TableRef:
    return tables.replace(TABLE, written(day, who), Scope(Interval.of(day)), sort_by=["value"])


def by_function(tables: Tables, day: date, who: str) -> TableRef:
    tables.create(TABLE, frame(day).schema)
    return tables.replace(TABLE, lambda _: written(day, who), Scope(Interval.of(day)), sort_by=["value"])


def by_files(tables: Tables, day: date, who: str) -> TableRef:
    """As Spark's executors write."""
    relative = f"spark-{who}/day={day}/part-0.parquet"
    path = f"{tables.path(TABLE)}/{relative}"
    rows, content = written(day, who), io.BytesIO()
    rows.drop("day").write_parquet(content)
    tables.fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    tables.fs.pipe_file(path, content.getvalue())
    stats = json.dumps({"numRecords": rows.height})
    action = AddAction(relative, len(content.getvalue()), {"day": str(day)}, 0, True, stats)
    schema = Schema.from_arrow(rows.to_arrow().schema)
    interval = Interval.of(day)
    return tables.commit_files(TABLE, [action], schema, interval, partition_by=["day"], equals={}, rows=rows.height)


WRITERS: dict[str, Callable[[Tables, date, str], TableRef]] = {
    "replace": by_replace,
    "function": by_function,
    "files": by_files,
}


def rows_of(*frames: pl.DataFrame) -> list[tuple[Any, ...]]:
    return sorted(row for part in frames for row in part.iter_rows())


def stored(tables: Tables, version: int | None = None) -> list[tuple[Any, ...]]:
    return sorted(tables.scan(TABLE, version).collect().iter_rows())
