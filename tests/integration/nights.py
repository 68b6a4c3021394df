"""An installation of the project `drugstore` and its nights, up to the record of a prepared day, without Spark."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

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
                put_sales(self.settings, day - timedelta(days=7), str(version), at)
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
        """Prepare a day, or leave it if a required file is missing or refused."""
        with suppress(DeliveryError, DataError):
            self.prepare_or_raise(day)

    def prepare_or_raise(self, day: date) -> None:
        interval = Interval.of(day)
        try:
            land(self.project, interval, self.settings)
            validate(self.project, interval, self.settings)
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

    def knows(self, day: date) -> dict[str, list[str]]:
        """Map each feed to the keys of the objects that a run date knows, without the part that all have in common."""
        journal = read_journal(self.settings, self.project)
        known = known_deliveries(self.project, journal, Interval.of(day)).join(
            journal.deliveries.select("delivery_id", "key"), on="delivery_id"
        )
        return {feed: known.filter(feed=feed).sort("day")["key"].to_list() for feed in self.project.feeds}

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
