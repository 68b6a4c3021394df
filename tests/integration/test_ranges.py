"""A step over a range: a failed day does not stop the others, and finished days are not run again."""

import dataclasses
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import pytest

from include.config.loading import load_project
from include.core.errors import ConfigError, DataError, LockTimeoutError, UnfinishedError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import Ranged
from include.core.settings import Settings
from include.io import postgres
from include.runner import ranges
from include.runner.ranges import record_range, run_range
from include.steps.declared import STEPS
from tests.landing import DAY, days, deliver_day, deliver_one, deliveries_of, spoil, text_of

RANGE = days(DAY, 8)
MISSING, CUT, REFUSED = (DAY + timedelta(days=n) for n in (2, 3, 6))


@pytest.fixture
def project() -> Project:
    return load_project("ferries")


@pytest.fixture
def landed(project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Deliver files for eight days: one is missing, one is truncated, and one has only invalid rows."""
    shorter = {name: dataclasses.replace(step, range_days=5) for name, step in STEPS.items()}
    monkeypatch.setattr(ranges, "STEPS", shorter)
    for day in RANGE.days:
        if day != MISSING:
            deliver_day(project, settings, day)
    for feed in ("sailings", "logbook"):
        deliver_one(project, settings, feed, project.required(MISSING)[feed])
    file = delivered(settings, "winds", CUT)
    spoil(file, file.read_bytes()[:-20])
    file = delivered(settings, "sailings", REFUSED)
    spoil(file, text_of(file).replace("HOB", "Nowhere"))
    return settings


def delivered(settings: Settings, feed: str, day: date) -> Path:
    return Path(settings.landing) / f"ferries/{feed}/{day}/{feed}.csv.gz"


def prepared(project: Project, settings: Settings) -> tuple[Ranged, Ranged]:
    land = run_range("land", project, RANGE, RANGE.days, settings)
    return land, run_range("validate", project, RANGE, land.days, settings)


def failed(record: Ranged) -> dict[object, str]:
    return {each.day: each.why for each in record.failed}


def test_a_failed_day_does_not_stop_the_others_and_has_its_reason(project: Project, landed: Settings) -> None:
    land, validate = prepared(project, landed)
    assert set(failed(land)) == {MISSING, CUT}
    assert "no file of feed winds for 2013-03-06" in failed(land)[MISSING]
    assert "the gzip stream ends or breaks here" in failed(land)[CUT]
    assert land.days == [day for day in RANGE.days if day not in (MISSING, CUT)]
    assert set(failed(validate)) == {REFUSED}
    assert "no accepted delivery of sailings" in failed(validate)[REFUSED]
    assert validate.days == [day for day in land.days if day != REFUSED]
    accepted = deliveries_of(landed).filter(verdict="accepted")
    assert {*validate.days} <= {*accepted.filter(feed="sailings")["day"]}


def test_the_done_days_of_a_run_are_kept_until_it_has_done_all(project: Project, landed: Settings) -> None:
    land, validate = prepared(project, landed)
    done = partial(postgres.audit.read_done_days, landed, "validate", project.name)
    assert sorted(done()) == validate.days
    assert sorted(postgres.audit.read_done_days(landed, "land", project.name)) == land.days
    assert postgres.audit.read_done_days(landed.model_copy(update={"run_id": "another"}), "land", project.name) == set()
    record_range(project, RANGE, landed, done=False)
    assert sorted(done()) == validate.days
    record_range(project, RANGE, landed, done=True)
    assert done() == set()


def test_progress_is_reported_after_each_part(project: Project, landed: Settings) -> None:
    reports: list[str] = []
    run_range("land", project, RANGE, RANGE.days, landed, report=reports.append)
    assert reports == [
        "land of ferries: 3 of 8 days done, 2 failed; now at 2013-03-08",
        "land of ferries: 6 of 8 days done, 2 failed; now at 2013-03-11",
    ]


def test_failed_days_that_the_error_does_not_name_are_found_by_halving(
    project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, asked = {DAY + timedelta(days=1), DAY + timedelta(days=5)}, list[Interval]()

    def run(step: str, config: Project, interval: Interval, settings: Settings) -> Ranged:
        asked.append(interval)
        if bad & set(interval.days):
            raise DataError("somewhere in there")
        return Ranged(interval=interval, rows=len(interval.days), done=())

    monkeypatch.setattr(ranges, "run", run)
    record = run_range("outcomes", project, RANGE, RANGE.days, settings)
    assert set(failed(record)) == bad
    assert record.days == [day for day in RANGE.days if day not in bad]
    assert record.rows == 6
    assert len(asked) < 16


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("expectations.yaml: no expectation"),
        LockTimeoutError("pid 1"),
        UnfinishedError("the erasure of a person is not finished"),
    ],
)
def test_an_error_that_concerns_every_day_is_raised_at_once(
    project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked = []

    def run(*step: object, **options: object) -> Ranged:
        asked.append(step)
        raise error

    monkeypatch.setattr(ranges, "run", run)
    with pytest.raises(type(error)):
        run_range("validate", project, RANGE, RANGE.days, settings)
    assert len(asked) == 1
