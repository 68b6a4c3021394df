"""The rows of a query as a delivery: an order and a checksum that depend on the rows alone; when it counts. Pure."""

import hashlib
from collections.abc import Mapping
from datetime import date, datetime

import polars as pl

from include.core.feeds import Feed
from include.core.project import EXTRACTED, Project

_SLICE_ROWS = 100_000


def key_of(feed: str, declared: Feed, day: date) -> str:
    """Return the key of an extraction, which stands for the path of a file."""
    return f"{EXTRACTED}/{feed}/{day}" if declared.dated else f"{EXTRACTED}/{feed}"


def values_of(project: Project, feed: str, day: date) -> Mapping[str, date | datetime]:
    """Return the values of the parameters of a query: the day, and the cutoff of the first run date that needs it."""
    return {"day": day, "as_of": first_cutoff(project, feed, day)}


def first_cutoff(project: Project, feed: str, day: date) -> datetime:
    """Return the cutoff (UTC) of the first run date that needs a day."""
    return project.cutoff_at(project.feeds[feed].first_run_date(day))


def in_order(records: pl.DataFrame, feed: Feed) -> pl.DataFrame:
    """Return rows sorted by key and then by all columns, with `_row`, so that equal rows are in equal order.

    The order of the database depends on its plans and on the session's collation.
    """
    by = [*feed.key, *sorted(set(records.columns) - set(feed.key))]
    ordered = records.sort(by, nulls_last=True, maintain_order=False)
    return ordered.with_columns(_row=pl.int_range(1, pl.len() + 1, dtype=pl.Int64()))


def checksum(records: pl.DataFrame) -> tuple[str, int]:
    """Return the SHA-256 of rows and the bytes that it was made of.

    Each value is written with its length, so that no two results are written alike; columns are in alphabetical order.
    """
    names = sorted(set(records.columns) - {"_row"})
    header = "".join(f"{len(name.encode())}:{name}" for name in names).encode() + b"\n"
    hashed, size = hashlib.sha256(header), len(header)
    written = [
        pl.coalesce(pl.format("{}:{}", pl.col(name).str.len_bytes(), pl.col(name)), pl.lit("-")) for name in names
    ]
    for rows in records.iter_slices(_SLICE_ROWS):
        lines = rows.select(pl.concat_str([*written, pl.lit("\n")])).to_series()
        content = "".join(lines).encode()
        hashed.update(content)
        size += len(content)
    return hashed.hexdigest(), size
