"""The property behind point in time: nothing that happens later changes what it says about a prepared day."""

from datetime import date, timedelta
from typing import Any

import polars as pl
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from include.config.loading import load_project
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.journal import ENTRIES, Entry, Known
from include.core.point_in_time import as_of_days, known_deliveries
from include.core.project import Project
from include.core.records import DayRecord, TrainingRecord
from tests import deliveries

FIRST = date(2013, 3, 4)
DAYS = Interval(start=FIRST, end=FIRST + timedelta(days=2))
FEEDS = ("sailings", "winds", "logbook")
VERDICTS = ("landed", "accepted", "refused", "withdrawn", "held")

EVENTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("deliver"),
            st.sampled_from(["sailings", "winds", "logbook"]),
            st.integers(-2, 2),
            st.integers(-60, 60),
        ),
        st.tuples(st.just("verdict"), st.integers(0, 30), st.sampled_from(VERDICTS)),
        st.tuples(st.just("prepare"), st.integers(0, 2)),
    ),
    min_size=5,
    max_size=40,
)


class Journal:
    """A journal in memory that a test writes entry by entry."""

    def __init__(self, project: Project) -> None:
        self.project, self.entries, self.ids = project, list[Entry](), list[tuple[str, str, date]]()

    @property
    def known(self) -> Known:
        rows = [(n, e.kind, e.subject, deliveries.text(e), e.why) for n, e in enumerate(self.entries, start=1)]
        return Known.of(len(rows), pl.DataFrame(rows, schema=ENTRIES, orient="row"))

    def deliver(self, feed: str, day: int, hours: int) -> None:
        of_day = FIRST + timedelta(days=day)
        moment = self.project.cutoff_at(of_day) + timedelta(hours=hours)
        delivery_id = f"{feed}/{of_day}/{len(self.ids)}"
        self.ids.append((delivery_id, feed, of_day))
        self.entries += deliveries.delivery(feed, of_day, delivery_id, available_from=moment)

    def verdict(self, which: int, verdict: str) -> None:
        if self.ids:
            delivery_id, feed, day = self.ids[which % len(self.ids)]
            fields: dict[str, Any] = {"feed": feed, "day": str(day), "verdict": verdict}
            self.entries.append(Entry(kind="verdict", subject=delivery_id, entry=fields))

    def prepare(self, n: int) -> None:
        """Enter the record of a day, if it has none and can be prepared."""
        day, known = FIRST + timedelta(days=n), self.known
        if day in known.records:
            return
        try:
            moment = as_of_days(self.project, known, Interval.of(day))[day]
        except DataError:
            return
        used = known_deliveries(self.project, known, Interval.of(day))["delivery_id"].sort()
        self.entries.append(
            Entry.prepared_day(
                DayRecord(
                    day=day,
                    number=1,
                    as_of=moment,
                    watermark=known.watermark,
                    deliveries=tuple(used),
                    reconstructed=False,
                )
            )
        )

    def said(self, project: Project) -> dict[date, tuple[Any, ...]]:
        """Return what point in time says about each prepared day."""
        known = self.known
        return {
            day: (as_of_days(project, known, one)[day], known_deliveries(project, known, one).rows())
            for day in known.records
            for one in [Interval.of(day)]
        }


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events=EVENTS)
def test_no_later_event_changes_what_is_said_about_a_prepared_day(events: list[tuple[Any, ...]]) -> None:
    journal = Journal(load_project("ferries"))
    for n, feed in enumerate(FEEDS):
        for day in range(-1, 3):
            journal.deliver(feed, day, n - 5)
            journal.verdict(len(journal.ids) - 1, "accepted")
    before: dict[date, tuple[Any, ...]] = {}
    for name, *given_ in events:
        getattr(journal, name)(*given_)
        after = journal.said(journal.project)
        assert {day: after[day] for day in before} == before
        before = after


def test_a_wider_lookback_or_another_cutoff_does_not_change_a_prepared_day() -> None:
    journal = Journal(load_project("ferries"))
    for feed in FEEDS:
        for day in range(-2, 2):
            journal.deliver(feed, day, -5)
            journal.verdict(len(journal.ids) - 1, "accepted")
    journal.prepare(0)
    before = journal.said(journal.project)
    assert before.keys() == {FIRST}
    project = journal.project
    winds = project.feeds["winds"].model_copy(update={"lookback_days": 1, "delay_days": 1})
    changed = project.model_copy(
        update={"feeds": {**project.feeds, "winds": winds}, "cutoff": project.cutoff.replace(hour=1)}
    )
    assert journal.said(changed) == before
    other = Interval.of(DAYS.days[1])
    assert not known_deliveries(changed, journal.known, other).equals(known_deliveries(project, journal.known, other))


def test_a_training_keeps_its_record_until_its_run_date_is_repaired() -> None:
    journal = Journal(load_project("ferries"))
    for day in (-1, 0):
        for feed in FEEDS:
            journal.deliver(feed, day, -2)
            journal.verdict(len(journal.ids) - 1, "accepted")
    journal.prepare(0)
    watermark = len(journal.entries)
    record = TrainingRecord(
        model="late_ferry", day=FIRST, watermark=watermark, features_id="of a test", features_version=3
    )
    journal.entries.append(Entry.training(record))
    journal.deliver("winds", 0, -1)
    journal.verdict(len(journal.ids) - 1, "accepted")
    known = journal.known
    assert known.training_of("late_ferry", FIRST) == record
    assert known.training_of("late_ferry", FIRST + timedelta(days=1)) is None
    assert known.at(watermark).watermark == watermark
    assert known.at(watermark).deliveries.height == known.deliveries.height - 1
    repaired = known.records[FIRST].model_copy(update={"number": 2, "watermark": known.watermark})
    journal.entries.append(Entry.prepared_day(repaired, by="Ada", why="a test"))
    assert journal.known.training_of("late_ferry", FIRST) is None
