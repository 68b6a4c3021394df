"""Derive the state of deliveries from the entries of the journal. Pure; `io/journal.py` reads and writes entries.

The journal is a project's append-only log. An entry gets the next sequence number under a lock, so the order of numbers
is the order of commits, and a prefix of the journal up to a *watermark* never changes. The newest entry about a
delivery decides its verdict.
"""

from typing import Any, Literal, Self

import polars as pl

from include.core import schemas
from include.core.base import Record

Kind = Literal["delivery", "verdict", "decision"]

ENTRIES: dict[str, pl.DataType] = {
    "sequence": pl.Int64(),
    "kind": pl.String(),
    "subject": pl.String(),
    "entry": pl.String(),  # JSON
    "why": pl.String(),
}

_DELIVERY: dict[str, pl.DataType] = {
    "feed": pl.String(),
    "day": pl.String(),
    "key": pl.String(),
    "uri": pl.String(),
    "sha256": pl.String(),
    "size": pl.Int64(),
    "rows": pl.Int64(),
    "available_from": pl.String(),
    "verdict": pl.String(),
}
"""The fields of the entry of a delivery."""


class Entry(Record):
    """One entry to add. `subject` is the `delivery_id` that it is about; `entry` has the fields of its kind."""

    kind: Kind
    subject: str
    entry: dict[str, Any]
    by: str | None = None
    why: str | None = None

    @classmethod
    def verdict(cls, delivery_id: str, feed: str, day: object, why: str | None) -> Self:
        """Return the verdict of validation on a delivery: refused if there is a reason, else accepted."""
        verdict = "refused" if why else "accepted"
        return cls(
            kind="verdict",
            subject=delivery_id,
            entry={"feed": feed, "day": str(day), "verdict": verdict},
            why=why,
        )


def deliveries_of(entries: pl.DataFrame) -> pl.DataFrame:
    """Return the deliveries with their newest verdict.

    Args:
        entries: a frame with the columns of `ENTRIES`, up to a watermark.

    Returns:
        A frame with the columns of `schemas.DELIVERIES`, sorted by sequence.
    """
    newest = entries.sort("sequence").unique("subject", keep="last", maintain_order=True)
    verdicts = newest.select(
        pl.col("subject").alias("delivery_id"),
        pl.col("entry").str.json_path_match("$.verdict").alias("verdict"),
        pl.col("why"),
    )
    landed = entries.filter(pl.col("kind") == "delivery")
    fields = landed["entry"].str.json_decode(pl.Struct(_DELIVERY)).struct.unnest()
    return (
        pl
        .concat([landed.select("sequence", pl.col("subject").alias("delivery_id")), fields], how="horizontal")
        .drop("verdict")
        .with_columns(
            pl.col("day").str.to_date(),
            pl.col("available_from").str.to_datetime(time_unit="us", time_zone="UTC"),
        )
        .join(verdicts, on="delivery_id", how="left")
        .select(schemas.DELIVERIES.keys())
        .sort("sequence")
    )
