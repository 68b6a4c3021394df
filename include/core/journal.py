"""Derive the state of deliveries from the entries of the journal. Pure; `io/journal.py` reads and writes entries.

The journal is a project's append-only log of deliveries, verdicts, decisions, and the records of prepared days and
trainings. An entry gets the next sequence number under a lock, so the order of numbers is the order of commits, and a
prefix of the journal up to a *watermark* never changes. The newest entry about a delivery decides its verdict; the
newest record of a day is the one that counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, Self

import polars as pl

from include.core import schemas
from include.core.base import Record
from include.core.erasure import Erasures
from include.core.printable import printable
from include.core.records import DayRecord, TrainingRecord

Kind = Literal["delivery", "verdict", "decision", "prepared_day", "training", "erasure"]

ABOUT_DELIVERIES = ("delivery", "verdict", "decision")
"""The kinds of entries about a delivery. Their `day` is that of a file; the day of a record is a run date."""

SET_ASIDE = ("held", "withdrawn")
"""The verdicts of deliveries that nothing uses, because a person must decide or has decided so."""

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
    "correction": pl.String(),  # absent: it replaces the deliveries before it
    "verdict": pl.String(),
}
"""The fields of the entry of a delivery."""


class Entry(Record):
    """One entry to add. `entry` has the fields of its kind.

    `subject` is the `delivery_id` that the entry is about, a run date and the number of its record, a model, its run
    date and the watermark of its training, or the hash of an erased person's identifier.
    """

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
            why=None if why is None else printable(why),
        )

    @classmethod
    def prepared_day(cls, record: DayRecord, *, by: str | None = None, why: str | None = None) -> Self:
        """Return the record of a prepared day; the record of a repair has who and why."""
        entry = record.model_dump(mode="json")
        return cls(kind="prepared_day", subject=f"{record.day} record {record.number}", entry=entry, by=by, why=why)

    @classmethod
    def training(cls, record: TrainingRecord) -> Self:
        """Return the record of a training."""
        subject = f"{record.model} {record.day} at {record.watermark}"
        return cls(kind="training", subject=subject, entry=record.model_dump(mode="json"))

    @classmethod
    def erasure(cls, hashed: str, fingerprint: str, rows: Mapping[str, int], *, by: str, why: str) -> Self:
        """Return the proof that a person was erased; `rows` counts the removed rows of each delivery."""
        return cls(kind="erasure", subject=hashed, entry={"hash_key": fingerprint, "rows": dict(rows)}, by=by, why=why)


@dataclass(frozen=True)
class Known:
    """The journal up to a watermark.

    Attributes:
        watermark: the newest sequence number.
        deliveries: the deliveries, with the columns of `schemas.DELIVERIES`.
        records: the newest record of each prepared day.
        trainings: the newest record of each training, by model and run date.
        entries: the entries from which all of this follows (columns of `ENTRIES`).
        erased: the erased persons.
    """

    watermark: int
    deliveries: pl.DataFrame
    records: Mapping[date, DayRecord]
    trainings: Mapping[tuple[str, date], TrainingRecord] = field(default_factory=dict)
    entries: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ENTRIES))
    erased: Erasures = field(default_factory=Erasures)

    @classmethod
    def of(cls, watermark: int, entries: pl.DataFrame) -> Self:
        """Return what the entries up to the watermark say (columns of `ENTRIES`)."""
        erased = Erasures.of(entries)
        return cls(watermark, deliveries_of(entries), records_of(entries), trainings_of(entries), entries, erased)

    def at(self, watermark: int) -> Self:
        """Return the journal as it was at an earlier watermark."""
        if watermark >= self.watermark:
            return self
        return self.of(watermark, self.entries.filter(pl.col("sequence") <= watermark))

    def training_of(self, model: str, day: date) -> TrainingRecord | None:
        """Return the record of a training; None if there is none, or its run date was repaired since."""
        record = self.trainings.get((model, day))
        if record is None or self.at(record.watermark).records.get(day) != self.records.get(day):
            return None
        return record


def records_of(entries: pl.DataFrame) -> dict[date, DayRecord]:
    """Map each prepared day to its newest record."""
    of_days = entries.filter(pl.col("kind") == "prepared_day").sort("sequence")
    records = (DayRecord.model_validate_json(text) for text in of_days["entry"])
    return {record.day: record for record in records}


def trainings_of(entries: pl.DataFrame) -> dict[tuple[str, date], TrainingRecord]:
    """Map each model and run date to the newest record of its training."""
    of_trainings = entries.filter(pl.col("kind") == "training").sort("sequence")
    records = (TrainingRecord.model_validate_json(text) for text in of_trainings["entry"])
    return {(record.model, record.day): record for record in records}


def deliveries_of(entries: pl.DataFrame) -> pl.DataFrame:
    """Return the deliveries with their newest verdict.

    Args:
        entries: a frame with the columns of `ENTRIES`, up to a watermark.

    Returns:
        A frame with the columns of `schemas.DELIVERIES`, sorted by sequence. `rows` is without those of erased persons.
    """
    erased = Erasures.of(entries).rows
    entries = entries.filter(pl.col("kind").is_in(ABOUT_DELIVERIES))
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
            pl.col("correction").fill_null("replace"),
            pl.col("rows") - pl.col("delivery_id").replace_strict(erased, default=0, return_dtype=pl.Int64),
        )
        .join(verdicts, on="delivery_id", how="left")
        .select(schemas.DELIVERIES.keys())
        .sort("sequence")
    )
