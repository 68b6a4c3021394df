"""Whatever comes later, a prepared day stays as it is; and whatever is killed and repeated, the end is the same.

Hypothesis makes up what happens: files on time and late, corrections, overwritten snapshots, decisions, nights, and
steps that are killed at some write. The steps are the real ones, on PostgreSQL and Delta. In place of the features,
the tests compare the rows that features are built of; `test_features.py` shows that equal rows make equal features.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from include.config.loading import load_project
from include.core.errors import ActionRequiredError, DataError, DeliveryError
from include.core.interval import Interval
from include.core.names import clean_table
from include.core.point_in_time import as_of, known_deliveries
from include.core.project import Project
from include.core.records import PreparedDay
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import export, read_journal
from include.io.postgres.journal import JournalWriter
from include.io.tables import Tables
from include.operations.decide import accept, withdraw
from include.steps.land import land
from include.steps.validate import validate
from tests.conftest import Install
from tests.integration.drugstore import put, put_sales, put_stores

pytestmark = pytest.mark.timeout(600)

FIRST = date(2026, 11, 9)
DAYS = [FIRST + timedelta(days=n) for n in range(3)]
HOURS = st.sampled_from((-30, -9, -1, 1, 30))
"""Hours from the cutoff of a day to a file: on time, late, and after the next cutoff."""

PLAN = st.tuples(st.just("plan"), st.sampled_from(DAYS), HOURS, st.integers(1, 3))
SALES = st.tuples(st.just("sales"), st.sampled_from(DAYS), HOURS, st.integers(1, 3))
STORES = st.tuples(st.just("stores"), st.sampled_from(DAYS), HOURS, st.integers(1, 2))
DECISION = st.tuples(st.sampled_from(("accept", "withdraw")), st.integers(0, 5))
NIGHT = st.tuples(st.just("night"), st.sampled_from(DAYS), st.integers(0, 7))
EVENTS = st.lists(st.one_of(PLAN, SALES, STORES, DECISION, NIGHT), min_size=6, max_size=14)
HISTORY = [("plan", day, -9, 1) for day in DAYS] + [("stores", FIRST, -30, 1), ("night", FIRST, 0)]

CHECKED = hypothesis_settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Killed(BaseException):
    """The end of a process in the middle of a step."""


@contextmanager
def killed_at(write: int) -> Iterator[None]:
    """End the process before its n-th write to a table or the journal (0: never)."""
    count = 0

    def counted(original):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == write:
                raise Killed
            return original(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tables, "replace", counted(Tables.replace))
        patch.setattr(JournalWriter, "add", counted(JournalWriter.add))
        patch.setattr(JournalWriter, "see", counted(JournalWriter.see))
        try:
            yield
        except Killed:
            return


@dataclass
class Installation:
    """One installation, and what each prepared day was made of."""

    project: Project
    settings: Settings
    kills: bool = True
    made_of: dict[date, list[pl.DataFrame]] = field(default_factory=dict)

    def happens(self, event: tuple) -> None:
        kind, *about = event
        if kind == "night":
            self.night(*about)
        elif kind in ("accept", "withdraw"):
            self.decide(kind, *about)
        else:
            day, hours, version = about
            at = self.project.cutoff_at(day) + timedelta(hours=hours)
            if kind == "stores":
                put_stores(self.settings, ["north", "south"][:: 1 if version == 1 else -1], at)
            elif kind == "sales":
                put_sales(self.settings, day - timedelta(days=7), str(version))
            else:
                row = {"item_id": "i1", "store_id": 1, "delivery_date": str(day), "planned": version}
                put(self.settings, f"plan/{day}/{version}.jsonl", json.dumps(row).encode() + b"\n", at)

    def night(self, day: date, kill: int) -> None:
        """Prepare a day; if the night is killed, it runs once more."""
        if kill and self.kills:
            with killed_at(kill):
                self.prepare(day)
        self.prepare(day)

    def prepare(self, day: date) -> None:
        interval = Interval.of(day)
        try:
            land(self.project, interval, self.settings)
            validate(self.project, interval, self.settings)
        except (DeliveryError, DataError):
            return  # a required file is missing or refused
        finally:
            export(self.settings, self.project.name)
        journal = read_journal(self.settings, self.project)
        used = known_deliveries(self.project, journal, interval)["delivery_id"].unique().sort()
        prepared = PreparedDay(
            project=self.project.name,
            day=day,
            data_view="point_in_time",
            as_of=as_of(self.project, journal, day),
            watermark=journal.watermark,
            deliveries=tuple(used),
            table_versions={},
            rows=1,
        )
        postgres.days.record_prepared_days(self.settings, self.project.name, [prepared])
        export(self.settings, self.project.name)
        self.made_of.setdefault(day, self.rows(day))

    def decide(self, kind: str, number: int) -> None:
        deliveries = read_journal(self.settings, self.project).deliveries.sort("available_from", "delivery_id")
        if deliveries.is_empty():
            return
        delivery_id = deliveries["delivery_id"][number % deliveries.height]
        try:
            decision = {"accept": accept, "withdraw": withdraw}[kind]
            decision(self.project, delivery_id, self.settings, by="ana", why="a test")
        except ActionRequiredError:
            return  # it is neither held nor withdrawn

    def rows(self, day: date) -> list[pl.DataFrame]:
        """Return the rows that the features of a prepared day are built of."""
        known = known_deliveries(self.project, read_journal(self.settings, self.project), Interval.of(day))
        tables = Tables(self.settings)
        return [
            tables
            .scan(clean_table(self.project.name, feed))
            .filter(pl.col("delivery_id").is_in(known["delivery_id"].to_list()))
            .sort("day", "delivery_id", "_row")
            .collect()
            for feed in self.project.feeds
        ]

    def end(self) -> list[list[tuple[object, ...]]]:
        """Return what the installation has in the end, without sequence numbers."""
        journal = read_journal(self.settings, self.project)
        named = journal.deliveries.select("delivery_id", "day", "rows", "available_from", "verdict").sort("delivery_id")
        records = sorted((day, record.as_of, record.deliveries) for day, record in journal.records.items())
        clean = []
        for feed in self.project.feeds:
            table = clean_table(self.project.name, feed)
            if Tables(self.settings).exists(table):
                clean.append(Tables(self.settings).scan(table).sort("day", "delivery_id", "_row").collect().rows())
        return [named.rows(), records, *clean]


@contextmanager
def installed(install: Install) -> Iterator[Installation]:
    with tempfile.TemporaryDirectory() as name, install(Path(name)) as settings:
        yield Installation(load_project("drugstore"), settings)


@CHECKED
@given(EVENTS)
def test_no_later_event_changes_what_a_prepared_day_is_made_of(install: Install, events: list[tuple]) -> None:
    with installed(install) as installation:
        for event in [*HISTORY, *events]:
            installation.happens(event)
            for day, rows in installation.made_of.items():
                for before, now in zip(rows, installation.rows(day), strict=True):
                    assert before.equals(now), (day, event)
        assert FIRST in installation.made_of


@CHECKED
@given(EVENTS)
def test_killing_and_repeating_ends_the_same(install: Install, events: list[tuple]) -> None:
    """The same events, once with nights that are killed and repeated, and once without kills."""
    with installed(install) as killed, installed(install) as whole:
        whole.kills = False
        for event in [*HISTORY, *events, *(("night", day, 0) for day in DAYS)]:
            killed.happens(event)
            whole.happens(event)
        assert killed.end() == whole.end()
