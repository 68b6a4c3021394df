"""Snapshots: which file each run date knows, and what their declaration may say."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from include.core import schemas
from include.core.errors import ConfigError
from include.core.intake import Earlier, available_from, reason_to_hold
from include.core.interval import Interval
from include.core.journal import Known
from include.core.lookback import of_snapshots, sentences, unknown_days
from include.core.point_in_time import as_of, known_deliveries, rows_before
from include.core.project import Project
from include.core.records import DataView

DAY = date(2026, 11, 5)


@pytest.fixture
def load(load_changed: Callable[..., Project]) -> Callable[..., Project]:
    """Load the project `drugstore` with other keys of its snapshot (None: without the key) or its entity."""

    def make(entity: dict[str, Any] | None = None, **keys: Any) -> Project:
        def change(declared: dict[str, Any]) -> None:
            stores = declared["feeds"]["stores"] | keys
            declared["feeds"]["stores"] = {key: value for key, value in stores.items() if value is not None}
            declared["entity"] |= entity or {}

        return load_changed("drugstore", change)

    return make


class TestDeclaration:
    @pytest.mark.parametrize(
        ("keys", "said"),
        [
            ({"delay_days": 1}, "delay_days: a snapshot cannot have it"),
            ({"day_column": "region"}, "day_column: a snapshot cannot have it"),
            ({"required": True}, "required: a snapshot cannot have it"),
            (
                {"live_from": date(2026, 11, 1)},
                "live_from: a snapshot whose path has no {day} counts from the time of its object",
            ),
            ({"kind": None, "max_age_days": None}, "day_column: a feed of days needs one"),
            ({"kind": "days", "day_column": "region"}, "max_age_days: only a snapshot has one"),
            (
                {"path": "sales/2026-11-05/sales.csv"},
                "feeds.stores.path: a file can match 'sales/2026-11-05/sales.csv'",
            ),
            ({"path": "stores/{part}.parquet"}, "path: a snapshot is one file, so its path has no {part}"),
            ({"parts": "at_cutoff"}, "parts: a snapshot cannot have it"),
        ],
    )
    def test_what_does_not_fit_its_kind_is_named(
        self, load: Callable[..., Project], keys: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(ConfigError) as error:
            load(**keys)
        assert said in str(error.value)

    @pytest.mark.parametrize(
        ("entity", "keys", "said"),
        [
            (
                {"public": ["store_id", "regoin"]},
                {},
                "plan and the snapshots keep no column 'regoin'; did you mean 'region'?",
            ),
            ({"feed": "stores", "key": ["store_id"]}, {}, "entity.feed: stores is a snapshot; its rows are of no day"),
            ({}, {"key": ["region"]}, "'region' is a column of stores, whose key region is not a column of the same"),
        ],
    )
    def test_a_public_column_must_be_looked_up(
        self, load: Callable[..., Project], entity: dict[str, Any], keys: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(ConfigError) as error:
            load(entity, **keys)
        assert said in str(error.value)

    def test_no_run_waits_for_one(self, load: Callable[..., Project]) -> None:
        project = load()
        assert project.required(DAY) == {"plan": DAY}
        assert set(project.expected(DAY)) == {"plan"}
        nothing = pl.DataFrame(schema=["run_date", "feed", "day"])
        assert set(unknown_days(project, nothing, Interval.of(DAY))) == {"plan"}


def journal(project: Project, *stores: tuple[date, datetime]) -> Known:
    """Return a journal with the plan of each day up to DAY, and with snapshots of these days and moments."""
    plans = [DAY - timedelta(days=n) for n in range(4)]
    rows = [("plan", day, f"plan/{day}", project.cutoff_at(day) - timedelta(hours=6)) for day in plans]
    rows += [("stores", day, f"stores@{n}", moment) for n, (day, moment) in enumerate(stores, 1)]
    named = [
        {"sequence": n, "feed": f, "day": d, "delivery_id": i, "available_from": m, "rows": n, "verdict": "accepted"}
        for n, (f, d, i, m) in enumerate(rows, 1)
    ]
    return Known(len(rows), pl.DataFrame(named, schema=schemas.DELIVERIES), {})


def stores_of(project: Project, known: Known, day: date, data_view: DataView = "point_in_time") -> list[str]:
    found = known_deliveries(project, known, Interval.of(day), data_view)
    return found.filter(pl.col("feed") == "stores")["delivery_id"].to_list()


class TestPointInTime:
    def test_the_newest_up_to_the_cutoff_counts_whatever_its_day(self, load: Callable[..., Project]) -> None:
        project, hour = load(), timedelta(hours=1)
        cutoff = project.cutoff_at(DAY)
        long_ago = (DAY - timedelta(days=300), cutoff - timedelta(days=300))
        at_the_cutoff, too_late = (DAY, cutoff), (DAY, cutoff + timedelta(microseconds=1))
        assert stores_of(project, journal(project), DAY) == []
        assert stores_of(project, journal(project, long_ago), DAY) == ["stores@1"]
        assert stores_of(project, journal(project, long_ago, at_the_cutoff, too_late), DAY) == ["stores@2"]
        backdated = (DAY + timedelta(days=9), cutoff - hour)  # the sidecar of a file of later claims an earlier time
        assert stores_of(project, journal(project, long_ago, backdated), DAY) == ["stores@2"]

    def test_latest_admits_a_correction_but_no_later_state(self, load: Callable[..., Project]) -> None:
        cutoff = load().cutoff_at(DAY)
        first, later = (DAY, cutoff - timedelta(hours=9)), (DAY, cutoff + timedelta(days=2))
        tomorrow = (DAY + timedelta(days=1), cutoff + timedelta(days=3))
        in_place = load()
        assert stores_of(in_place, journal(in_place, first, later, tomorrow), DAY, "latest") == ["stores@1"]
        dated = load(path="stores/{day}.parquet", live_from=date(2026, 11, 1))
        known = journal(dated, first, later, tomorrow)
        assert stores_of(dated, known, DAY) == ["stores@1"]
        assert stores_of(dated, known, DAY, "latest") == ["stores@2"]
        assert as_of(dated, known, DAY, "latest") == later[1]

    def test_row_counts_are_compared_with_those_before(self, load: Callable[..., Project]) -> None:
        project = load()
        times = [project.cutoff_at(DAY) + timedelta(days=n) for n in (-200, -100, 0)]
        before = rows_before(journal(project, *((DAY, at) for at in times)).deliveries, "stores", snapshot=True)
        assert before(DAY, times[2], 28, 1) == [5, 6]
        assert before(DAY, times[2], 1, 7) == [6]
        assert before(DAY, times[0], 28, 1) == []


class TestIntake:
    def test_counts_from_its_own_time_or_its_claim(self, load: Callable[..., Project]) -> None:
        project = load()
        now = project.cutoff_at(DAY)
        own, claim = now - timedelta(days=1), now - timedelta(days=400)
        assert available_from(project, "stores", DAY, "x", claim=None, modified_at=own, now=now) == own
        assert available_from(project, "stores", DAY, "x", claim=None, modified_at=now + own.resolution, now=now) == now
        assert available_from(project, "stores", DAY, "x", claim=claim, modified_at=own, now=now) == claim

    def test_overwriting_it_after_months_needs_no_decision(self, load: Callable[..., Project]) -> None:
        project = load()
        now = project.cutoff_at(DAY)
        earlier = [Earlier("stores@1", "stores/stores.parquet", now - timedelta(days=90))]
        key, moment = "stores/stores.parquet", now - timedelta(days=60)
        assert reason_to_hold(project, "stores", DAY - timedelta(days=60), key, moment, earlier, now) is None
        why = reason_to_hold(project, "stores", DAY, key, now - timedelta(days=91), earlier, now)
        assert why is not None and "before stores@1" in why


def test_people_are_warned_of_a_missing_and_of_an_old_one(load: Callable[..., Project]) -> None:
    project = load()
    known = pl.DataFrame(
        [(DAY, "stores", DAY - timedelta(days=2))],
        schema={"run_date": pl.Date, "feed": pl.String, "day": pl.Date},
        orient="row",
    )
    old = "knows a snapshot that is 2 days old, and max_age_days is 1"
    missing = "knows no accepted snapshot, and goes on without its columns"
    days = [DAY + timedelta(days=n) for n in range(3)]
    lacks = of_snapshots(project, known, Interval(start=DAY, end=days[-1]))
    assert lacks == {days[0]: {"stores": old}, days[1]: {"stores": missing}, days[2]: {"stores": missing}}
    assert sentences(lacks) == [
        f"stores: 2026-11-07 {missing} (2 more run dates lack something: view data_quality)",
    ]
