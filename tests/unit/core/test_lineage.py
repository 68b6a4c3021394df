"""Lineage is assembled from the journal, the origins of fits, and batches."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from include.core import lineage
from include.core.interval import Interval
from include.core.journal import ENTRIES, Entry, Known
from include.core.lineage import BatchLine, History, VersionLine
from include.core.records import DayRecord, FitOrigin
from include.operations import lineage_words as words
from tests import deliveries

DAYS = [date(2013, 3, day) for day in range(1, 6)]


def moment(day: date, hour: int = 8) -> datetime:
    return datetime.combine(day, time(hour), UTC)


def delivery(day: date, name: str = "a", at: datetime | None = None) -> list[Entry]:
    return deliveries.delivery("logbook", day, f"logbook/{day}/{name}", available_from=at or moment(day, 7))


def record(day: date, *names: str, number: int = 1, watermark: int = 1) -> Entry:
    used = tuple(f"logbook/{day}/{name}" for name in names)
    about = {"watermark": watermark, "deliveries": used, "reconstructed": False}
    return Entry.prepared_day(DayRecord(day=day, number=number, as_of=moment(day), **about))


def recorded(
    entries: Sequence[Entry], latest: Mapping[date, tuple[datetime, tuple[str, ...]]] | None = None
) -> History:
    """Return what was recorded, each entry a minute after the one before, from 1 April on."""
    rows = [(n, each.kind, each.subject, deliveries.text(each), each.why) for n, each in enumerate(entries, 1)]
    entered = {n: entered_at(n) for n, each in enumerate(entries, 1) if each.kind == "prepared_day"}
    journal = Known.of(len(rows), pl.DataFrame(rows, schema=ENTRIES, orient="row"))
    return History("ferries", journal, entered, latest or {}, {"late_ferry": "logbook"})


def entered_at(sequence: int) -> datetime:
    return datetime(2013, 4, 1, tzinfo=UTC) + timedelta(minutes=sequence)


def batch(day: date, at: datetime, version: int = 1, as_of: datetime | None = None) -> BatchLine:
    about = {"model": "late_ferry", "model_version": version, "rows": 4, "state": "published"}
    return BatchLine(batch_id=f"{day} {at}", day=day, as_of=as_of or moment(day), created_at=at, **about)


def version(watermark: int, data_view: str = "point_in_time", number: int = 1) -> VersionLine:
    days = Interval(start=DAYS[0], end=DAYS[3])
    origin = FitOrigin(
        git_commit="2e5fd9ec49a1",
        declared={},
        data_view=data_view,
        as_of=moment(DAYS[4]),
        watermark=watermark,
        days=days,
        run_dates=days,
        missing=(),
        features_version=7,
        first_features_version=7,
        outcome_version=5,
    )
    about = {"candidate": "linear", "mlflow_run": "r1", "trained_day": DAYS[4], "adopted_from": None}
    named = {"semantic_version": f"1.0.{number}", "changed": "trained again"}
    return VersionLine(model="late_ferry", model_version=number, origin=origin, **named, **about)


PREPARED = [entry for day in DAYS[:4] for entry in (*delivery(day), record(day, "a"))]  # 12 entries
CORRECTED = [
    *PREPARED,
    *delivery(DAYS[1], "b", moment(DAYS[4], 6)),  # 13 and 14
    record(DAYS[1], "b", number=2, watermark=14),  # 15
]


def test_a_version_comes_from_the_records_at_its_watermark() -> None:
    """A repair after the fit changes nothing; labels follow the corrections that the fit knew."""
    before = lineage.of_version(recorded(CORRECTED), version(12), [], [], [])
    assert [(each.day, each.record) for each in before.days] == [(day, 1) for day in DAYS[:4]]
    assert before.outcomes == tuple(f"logbook/{day}/a" for day in DAYS[:4])
    after = lineage.of_version(recorded(CORRECTED), version(15), [], [], [])
    assert [(each.day, each.record) for each in after.days] == [(day, 2 if day == DAYS[1] else 1) for day in DAYS[:4]]
    assert after.outcomes[1] == f"logbook/{DAYS[1]}/b"
    assert [each.delivery_id for each in after.deliveries if each.correction] == [f"logbook/{DAYS[1]}/b"]
    assert after.tables == {"features_ferries": 7, "clean_ferries__logbook": 5}


def test_a_day_that_knew_more_than_the_fit_is_not_part_of_it() -> None:
    late = [*PREPARED[:-3], *delivery(DAYS[3], "a", moment(DAYS[4], 9)), record(DAYS[3], "a")]
    assert [each.day for each in lineage.of_version(recorded(late), version(12), [], [], []).days] == DAYS[:3]


def test_with_the_data_view_latest_days_that_were_built_again_count() -> None:
    latest = {DAYS[1]: (moment(DAYS[4]), (f"logbook/{DAYS[1]}/b",))}
    found = lineage.of_version(recorded(CORRECTED, latest), version(15, "latest"), [], [], [])
    assert [each.record for each in found.days] == [1, None, 1, 1]
    assert found.days[1].deliveries == (f"logbook/{DAYS[1]}/b",)


def test_a_delivery_leads_to_days_versions_and_batches_before_and_after_its_correction() -> None:
    """The batch from before the repair was scored from the first delivery, the one after it from the second."""
    state = recorded(CORRECTED)
    versions = [version(12), version(15, number=2)]
    batches = [batch(DAYS[1], entered_at(10)), batch(DAYS[1], entered_at(20)), batch(DAYS[4], entered_at(20), 2)]
    first = lineage.of_delivery(state, f"logbook/{DAYS[1]}/a", versions, batches)
    assert [(each.day, each.record) for each in first.days] == [(DAYS[1], 1)]
    assert first.current == ()
    assert [(each.model_version, each.days, each.labels) for each in first.versions] == [(1, (DAYS[1],), True)]
    assert [each.batch_id for each in first.scored] == [batches[0].batch_id]
    second = lineage.of_delivery(state, f"logbook/{DAYS[1]}/b", versions, batches)
    assert second.current == (DAYS[1],)
    assert [(each.model_version, each.days, each.labels) for each in second.versions] == [(2, (DAYS[1],), True)]
    assert [(each.batch_id, each.record) for each in second.scored] == [(batches[1].batch_id, 2)]
    assert [each.batch_id for each in second.predicted] == [batches[2].batch_id]


def test_a_batch_of_another_moment_is_of_no_record() -> None:
    latest = {DAYS[1]: (moment(DAYS[4]), (f"logbook/{DAYS[1]}/b",))}
    scored = batch(DAYS[1], entered_at(20), as_of=moment(DAYS[4]))
    found = lineage.of_prediction(recorded(CORRECTED, latest), scored, "1.0.1", None)
    assert found.day is not None and (found.day.record, found.day.deliveries) == (None, (f"logbook/{DAYS[1]}/b",))
    unknown = lineage.of_prediction(recorded(CORRECTED), scored, "1.0.1", None)
    assert (unknown.day, unknown.deliveries) == (None, ())
    assert "not known by a record" in "\n".join(words.lines(words.prediction_tree(unknown)))


def test_the_tree_names_corrections_and_counts_the_rest() -> None:
    text = "\n".join(words.lines(words.version_tree(lineage.of_version(recorded(CORRECTED), version(15), [], [], []))))
    assert f"correction logbook/{DAYS[1]}/b of {DAYS[1]}" in text
    assert "record 1 of 2013-03-01, 2013-03-03 to 2013-03-04" in text
    assert f"logbook/{DAYS[0]}/a" not in text
