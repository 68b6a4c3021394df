"""Where versions and predictions came from, and what was made from a delivery. Pure: it assembles what was recorded.

Features are followed by run date: which rows of a delivery one feature read, only `features.py` knows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Literal

import polars as pl

from include.core.base import Record
from include.core.journal import Known
from include.core.names import clean_table, features_table, raw_table
from include.core.point_in_time import current_as_of
from include.core.records import DayRecord, FitOrigin
from include.core.stack import deliveries_in

PublishedState = Literal["published", "published before", "not published"]


class UsedDelivery(Record):
    """A delivery, with the newest verdict on it. A `correction` is not the first delivery of its feed and day."""

    delivery_id: str
    feed: str
    day: date
    sequence: int
    verdict: str
    raw_table: str
    correction: bool


class UsedDay(Record):
    """A run date whose features were used, and the record that they were built from; None: data view `latest`."""

    day: date
    record: int | None
    deliveries: tuple[str, ...]


class BatchLine(Record):
    """A prediction batch. `record` is that of the features which were scored; None: not those of a record."""

    batch_id: str
    model: str
    day: date
    model_version: int
    rows: int
    as_of: datetime
    created_at: datetime
    state: PublishedState
    record: int | None = None


class GateLine(Record):
    """A decision of the gate."""

    gate_id: str
    passed: bool
    checks: int
    champion: int | None
    decided_at: datetime


class PromotionLine(Record):
    """An entry of the promotion history."""

    from_day: date
    by: str
    why: str
    forced: bool


class VersionLine(Record):
    """A version and the fit that it is. `origin` is None if an older version of the product recorded the fit."""

    model: str
    model_version: int
    semantic_version: str | None
    changed: str | None
    candidate: str
    mlflow_run: str
    trained_day: date | None
    adopted_from: str | None
    origin: FitOrigin | None


class VersionLineage(Record):
    """Everything that a version came from, and was used for.

    Attributes:
        version: the version and its fit.
        tables: the tables that the fit read, with their versions.
        days: the prepared days whose features it read.
        outcomes: the deliveries that its labels came from.
        deliveries: all deliveries of both, in the order of the journal.
        gates: the decisions of the gate on it.
        promotions: from which days on it was champion.
        batches: what it predicted.
    """

    version: VersionLine
    tables: dict[str, int]
    days: tuple[UsedDay, ...]
    outcomes: tuple[str, ...]
    deliveries: tuple[UsedDelivery, ...]
    gates: tuple[GateLine, ...]
    promotions: tuple[PromotionLine, ...]
    batches: tuple[BatchLine, ...]


class TrainedOn(Record):
    """A version that was trained on a delivery: run dates whose features used it, and whether labels came from it."""

    model: str
    model_version: int
    semantic_version: str | None
    days: tuple[date, ...]
    labels: bool


class DeliveryLineage(Record):
    """Everything that was made from a delivery.

    Attributes:
        delivery: the delivery.
        clean_table: the table with its valid rows.
        days: the records of prepared days that use it; `current` are the run dates that still do.
        current: the run dates whose newest record uses it.
        versions: the versions that were trained on it.
        scored: batches whose features used it.
        predicted: batches of versions that were trained on it.
    """

    delivery: UsedDelivery
    clean_table: str
    days: tuple[UsedDay, ...]
    current: tuple[date, ...]
    versions: tuple[TrainedOn, ...]
    scored: tuple[BatchLine, ...]
    predicted: tuple[BatchLine, ...]


class PredictionLineage(Record):
    """Where the published predictions of a day came from. `day` is None if no record says what was scored."""

    batch: BatchLine
    semantic_version: str | None
    entity_id: str | None
    features_table: str
    day: UsedDay | None
    deliveries: tuple[UsedDelivery, ...]


@dataclass(frozen=True)
class History:
    """What was recorded about a project.

    Attributes:
        project: its name.
        journal: the whole journal.
        entered: when each record of a prepared day was entered, by its sequence number.
        latest: the prepared days of the data view `latest`: the moment and the deliveries of each.
        outcome_feeds: the feed that the outcome of each model is from.
    """

    project: str
    journal: Known
    entered: Mapping[int, datetime]
    latest: Mapping[date, tuple[datetime, tuple[str, ...]]]
    outcome_feeds: Mapping[str, str]

    @cached_property
    def records(self) -> list[tuple[int, DayRecord]]:
        """All records of prepared days with their sequence numbers, also those that were repaired since."""
        of_days = self.journal.entries.filter(pl.col("kind") == "prepared_day").sort("sequence")
        rows = of_days.select("sequence", "entry").iter_rows()
        return [(sequence, DayRecord.model_validate_json(text)) for sequence, text in rows]

    @cached_property
    def by_day(self) -> dict[date, list[tuple[int, DayRecord]]]:
        """The records of each run date, the oldest first, with their sequence numbers."""
        found: dict[date, list[tuple[int, DayRecord]]] = {}
        for sequence, record in self.records:
            found.setdefault(record.day, []).append((sequence, record))
        return found

    def deliveries(self, ids: Iterable[str]) -> tuple[UsedDelivery, ...]:
        """Return deliveries in the order of the journal."""
        wanted = set(ids)
        first = pl.col("sequence").rank("ordinal").over("feed", "day") == 1
        found = self.journal.deliveries.with_columns(correction=~first).filter(pl.col("delivery_id").is_in(wanted))
        return tuple(
            UsedDelivery(raw_table=raw_table(self.project, row["feed"]), **row)
            for row in found
            .sort("sequence")
            .select("delivery_id", "feed", "day", "sequence", "verdict", "correction")
            .iter_rows(named=True)
        )


def days_of(recorded: History, origin: FitOrigin) -> tuple[UsedDay, ...]:
    """Return the prepared days whose features a fit read, as their records were at its watermark."""
    found = {}
    for record in records_of_fit(recorded.journal.at(origin.watermark), origin):
        found[record.day] = UsedDay(day=record.day, record=record.number, deliveries=record.deliveries)
    if origin.data_view == "latest":
        for day in recorded.latest.keys() & set(origin.run_dates.days):
            found[day] = UsedDay(day=day, record=None, deliveries=recorded.latest[day][1])
    return tuple(found[day] for day in sorted(found))


def records_of_fit(then: Known, origin: FitOrigin) -> list[DayRecord]:
    """Return the records of the days whose features a fit read.

    A day whose own run was later than the fit's, or used a file that came later, has features that the fit did not
    read.

    Args:
        then: the journal up to the watermark of the fit.
        origin: what the fit came from.
    """
    later = set(then.deliveries.filter(pl.col("available_from") > origin.as_of)["delivery_id"])
    records = (then.records.get(day) for day in origin.run_dates.days)
    return [
        record
        for record in records
        if record is not None and record.as_of <= origin.as_of and later.isdisjoint(record.deliveries)
    ]


def outcomes_of_fit(then: Known, feed: str, origin: FitOrigin) -> tuple[str, ...]:
    """Return the deliveries that the labels of a fit came from: those of the outcome's feed, as the fit knew them."""
    current = current_as_of(then.deliveries, feed, origin.days, origin.as_of)
    return tuple(each for day in sorted(current) for each in deliveries_in(current[day]))


def _outcomes(recorded: History, model: str, origin: FitOrigin) -> tuple[str, ...]:
    return outcomes_of_fit(recorded.journal.at(origin.watermark), recorded.outcome_feeds[model], origin)


def of_version(
    recorded: History,
    version: VersionLine,
    gates: Sequence[GateLine],
    promotions: Sequence[PromotionLine],
    batches: Sequence[BatchLine],
) -> VersionLineage:
    """Return everything that a version came from, and was used for."""
    origin, project = version.origin, recorded.project
    days = () if origin is None else days_of(recorded, origin)
    outcomes = () if origin is None else _outcomes(recorded, version.model, origin)
    tables = {}
    if origin is not None:
        tables[features_table(project)] = origin.features_version
        tables[clean_table(project, recorded.outcome_feeds[version.model])] = origin.outcome_version
    return VersionLineage(
        version=version,
        tables=tables,
        days=days,
        outcomes=outcomes,
        deliveries=recorded.deliveries([*outcomes, *(each for day in days for each in day.deliveries)]),
        gates=tuple(gates),
        promotions=tuple(promotions),
        batches=tuple(with_record(recorded, each) for each in batches),
    )


def of_delivery(
    recorded: History, delivery_id: str, versions: Iterable[VersionLine], batches: Iterable[BatchLine]
) -> DeliveryLineage:
    """Return everything that was made from a delivery.

    Args:
        recorded: what was recorded about its project.
        delivery_id: a delivery of the journal.
        versions: all versions of all models of the project.
        batches: all their batches.
    """
    [delivery] = recorded.deliveries([delivery_id])
    used = [record for _, record in recorded.records if delivery_id in record.deliveries]
    current = [day for day, record in recorded.journal.records.items() if delivery_id in record.deliveries]
    trained = []
    for version in versions:
        if version.origin is None or version.origin.watermark < delivery.sequence:
            continue
        days = [each.day for each in days_of(recorded, version.origin) if delivery_id in each.deliveries]
        labels = delivery_id in _outcomes(recorded, version.model, version.origin)
        if days or labels:
            about = {name: getattr(version, name) for name in ("model", "model_version", "semantic_version")}
            trained.append(TrainedOn(**about, days=tuple(days), labels=labels))
    of_versions = {(each.model, each.model_version) for each in trained}
    by_day = [with_record(recorded, each) for each in batches]
    return DeliveryLineage(
        delivery=delivery,
        clean_table=clean_table(recorded.project, delivery.feed),
        days=tuple(UsedDay(day=each.day, record=each.number, deliveries=(delivery_id,)) for each in used),
        current=tuple(sorted(current)),
        versions=tuple(trained),
        scored=tuple(each for each in by_day if delivery_id in _scored_from(recorded, each)),
        predicted=tuple(each for each in by_day if (each.model, each.model_version) in of_versions),
    )


def of_prediction(
    recorded: History, batch: BatchLine, semantic_version: str | None, entity_id: str | None
) -> PredictionLineage:
    """Return where the predictions of a batch came from."""
    batch = with_record(recorded, batch)
    deliveries = _scored_from(recorded, batch)
    day = UsedDay(day=batch.day, record=batch.record, deliveries=deliveries) if deliveries else None
    return PredictionLineage(
        batch=batch,
        semantic_version=semantic_version,
        entity_id=entity_id,
        features_table=features_table(recorded.project),
        day=day,
        deliveries=recorded.deliveries(deliveries),
    )


def with_record(recorded: History, batch: BatchLine) -> BatchLine:
    """Return a batch with the record of its features: the newest one that was entered before the batch was stored."""
    record = _record_of(recorded, batch)
    return batch if record is None else batch.model_copy(update={"record": record.number})


def _record_of(recorded: History, batch: BatchLine) -> DayRecord | None:
    """Return the record that a batch was scored by; None if it is of another moment, as with the data view `latest`."""
    before = [
        record
        for sequence, record in recorded.by_day.get(batch.day, ())
        if recorded.entered[sequence] <= batch.created_at
    ]
    return before[-1] if before and before[-1].as_of == batch.as_of else None


def _scored_from(recorded: History, batch: BatchLine) -> tuple[str, ...]:
    """Return the deliveries that the scored features were built from; none if that is not known."""
    record, (moment, latest) = _record_of(recorded, batch), recorded.latest.get(batch.day, (None, ()))
    if record is not None:
        return record.deliveries
    return latest if moment == batch.as_of else ()
