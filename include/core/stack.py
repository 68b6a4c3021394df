"""The state of a feed and day: a stack of deliveries, of which the newest with a key counts. Pure.

A whole file replaces what was delivered before it. A delivery of changed rows (`correction: upsert`), and late rows
that came in the file of a later day, are added on top. `point_in_time.py` finds the deliveries that a moment knows.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import polars as pl

Correction = Literal["replace", "upsert", "late_rows"]
"""What a delivery is to those of its feed and day before it: it replaces them, or is added by key.

`late_rows` are rows of the day that came in the file of a later day. They make no day known by themselves.
"""

_BETWEEN = "\n"  # no id has one: a key is printable


def is_late() -> pl.Expr:
    """Return whether a delivery has late rows only (columns of `schemas.DELIVERIES`)."""
    return pl.col("correction").eq_missing(pl.lit("late_rows"))


def of_file() -> pl.Expr:
    """Return the id of the delivery of the file, also for its late rows, whose id has their day added to it.

    Names of files may have the same character in them, but no id of a file ends with a day.
    """
    return pl.col("delivery_id").str.replace(r"#[0-9]{4}-[0-9]{2}-[0-9]{2}$", "")


def is_whole() -> pl.Expr:
    """Return whether a delivery replaces those of its day before it (columns of `schemas.DELIVERIES`)."""
    return pl.col("correction").fill_null("replace") == "replace"


def ordered(deliveries: pl.DataFrame) -> pl.DataFrame:
    """Return deliveries (columns of `schemas.DELIVERIES`) in the order in which they count, oldest first.

    Of the same moment, late rows are newer than files, since they came in the file of a later day.
    """
    return deliveries.sort("available_from", is_late(), "sequence")


def stacks(joined: pl.DataFrame, within: Sequence[str]) -> pl.DataFrame:
    """Return the deliveries of each stack, with `rank` (int): 0 for the oldest.

    A stack begins with the newest whole file. Late rows that came before the first whole file of their day count with
    it, and without any file of the day nothing counts.

    Args:
        joined: accepted deliveries (columns of `schemas.DELIVERIES`) that are known where `within` says.
        within: the columns that tell stacks apart.
    """
    joined = ordered(joined)
    if joined.select(is_whole().all()).item():  # as in a project that declares no other correction
        newest = joined.unique(within, keep="last", maintain_order=True)
        return newest.with_columns(rank=pl.lit(0, pl.Int64))
    replaced = is_whole().cum_sum().over(within) < is_whole().sum().over(within)
    first_file = is_whole().sum().over(within) == 1
    kept = joined.filter(~replaced | (is_late() & first_file), (~is_late()).any().over(within))
    return kept.with_columns(rank=pl.int_range(pl.len(), dtype=pl.Int64).over(within))


def state_id(delivery_ids: Sequence[str]) -> str:
    """Return the id of the state that a stack of deliveries makes: that of the delivery itself if there is one only.

    Args:
        delivery_ids: the stack, oldest first.
    """
    return _BETWEEN.join(reversed(delivery_ids))


def deliveries_in(state: str) -> list[str]:
    """Return the deliveries of a state, oldest first."""
    return state.split(_BETWEEN)[::-1]


def states(known: pl.DataFrame) -> pl.DataFrame:
    """Return the state of each run date, feed and day.

    Args:
        known: run_date (date), feed (str), day (date), delivery_id (str) and rank (int) of each delivery.

    Returns:
        A frame with run_date, feed, day, and `delivery_id` (str), the id of the state.
    """
    columns = ["run_date", "feed", "day"]
    if not stacked(known):
        return known.select(*columns, "delivery_id")
    newest_first = pl.col("delivery_id").sort_by("rank", descending=True).str.join(_BETWEEN)
    return known.group_by(columns, maintain_order=True).agg(newest_first)


def stacked(known: pl.DataFrame) -> bool:
    """Return whether a stack has more than one delivery."""
    return bool((known["rank"] > 0).any())


def members(of_states: Iterable[str]) -> pl.DataFrame:
    """Return the deliveries of states: columns state (str), delivery_id (str) and rank (int, the newest highest)."""
    rows = [(state, each, rank) for state in of_states for rank, each in enumerate(deliveries_in(state))]
    schema = {"state": pl.String(), "delivery_id": pl.String(), "rank": pl.Int64()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def rows_of(rows: pl.LazyFrame, wanted: pl.DataFrame, key: Sequence[str]) -> pl.LazyFrame:
    """Return the rows of states: of those with the same key, the ones of the newest delivery.

    Args:
        rows: clean rows of a feed, with `day` and `delivery_id`.
        wanted: `day` and `delivery_id` (str, the id of a state), and further columns, which the rows get.
        key: the key of the feed.
    """
    if not wanted["delivery_id"].str.contains(_BETWEEN, literal=True).any():
        return rows.join(wanted.lazy(), on=["day", "delivery_id"])
    of_states = members(wanted["delivery_id"].unique())
    ranked = wanted.rename({"delivery_id": "state"}).join(of_states, on="state").drop("state")
    joined = rows.join(ranked.lazy(), on=["day", "delivery_id"])
    return newest_by_key(joined, [*(name for name in wanted.columns if name != "delivery_id"), *key])


def newest_by_key(rows: pl.LazyFrame, by: Sequence[str]) -> pl.LazyFrame:
    """Return the rows of the newest delivery (the highest `rank`) for each key, without `rank`."""
    return rows.filter(pl.col("rank") == pl.col("rank").max().over(by)).drop("rank")
