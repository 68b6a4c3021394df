"""Snapshots, and a project whose files look nothing like those of `ferries`: its declaration works as it is written."""

import logging
import os
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from include.config.loading import load_project
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import read_journal
from include.io.postgres.connection import engine
from include.io.tables import Tables
from include.operations.decide import withdraw
from include.operations.outdated import find_out_of_date
from include.operations.repair import repair
from include.steps.build_features import build_features, record_prepared_days
from include.steps.land import land
from include.steps.publish import _entities, _used
from include.steps.validate import validate
from tests.integration.drugstore import moment, put, put_plan, put_sales, put_stores

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

FIRST = date(2026, 11, 2)
DAYS = Interval(start=FIRST, end=FIRST + timedelta(days=4))
OLD, NEW = (["north", "south"], ["south", "south"])


@pytest.fixture
def project() -> Project:
    return load_project("drugstore")


def regions(settings: Settings, day: date) -> list[str | None]:
    rows = Tables(settings).scan("features_drugstore").filter(pl.col("day") == day).sort("entity_id").collect()
    return rows["region"].to_list()


def prepare(project: Project, interval: Interval, settings: Settings) -> None:
    land(project, interval, settings)
    validate(project, interval, settings)
    record_prepared_days(build_features(project, interval, settings), settings)


def public(project: Project, settings: Settings, interval: Interval) -> list[tuple[date, str, int, str | None]]:
    prepared = {n.day: n for n in postgres.days.read_prepared_days(settings, project.name, interval, "point_in_time")}
    rows = _entities(project, Tables(settings), _used(project, prepared, list(prepared.values()), settings))  # type: ignore[arg-type]
    return rows.collect().drop("horizon").sort("day", "entity_id").rows()


def test_each_run_date_knows_the_newest_snapshot_of_its_time(
    project: Project, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The snapshot is overwritten in place between two nights; the older version stays that of the earlier days."""
    put_plan(settings, *DAYS.days)
    put_sales(settings, date(2026, 10, 31), "2,5")  # a Saturday
    put_stores(settings, OLD, moment(FIRST + timedelta(days=1), 12))
    with caplog.at_level(logging.WARNING):
        prepare(project, Interval(start=FIRST, end=FIRST + timedelta(days=2)), settings)
    assert (
        "stores: 2026-11-03 knows no accepted snapshot, and goes on without its columns (1 more run date" in caplog.text
    )
    put_stores(settings, NEW, moment(FIRST + timedelta(days=3), 10))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        prepare(project, Interval(start=FIRST + timedelta(days=3), end=DAYS.end), settings)
    assert "stores: 2026-11-05 knows a snapshot that is 2 days old, and max_age_days is 1" in caplog.text

    known = [regions(settings, day) for day in DAYS.days]
    assert known == [[None, None], [None, None], OLD, OLD, NEW]
    build_features(project, DAYS, settings)  # again, in one run, after all of it has come
    assert [regions(settings, day) for day in DAYS.days] == known
    assert public(project, settings, DAYS) == [
        (day, f"i{n}", n, of_day[n - 1]) for day, of_day in zip(DAYS.days, known, strict=True) for n in (1, 2)
    ]
    stores = read_journal(settings, project).deliveries.filter(pl.col("feed") == "stores")
    assert stores["verdict"].to_list() == ["accepted", "accepted"]
    assert stores["key"].unique().to_list() == ["stores/stores.parquet"]
    assert [each for each in find_out_of_date(project, DAYS, settings) if each.what == "features"] == []


def test_the_declaration_of_the_other_feeds_works_as_it_is_written(project: Project, settings: Settings) -> None:
    day = date(2026, 11, 10)
    put_plan(settings, *Interval(start=date(2026, 11, 2), end=day).days)
    put_sales(settings, date(2026, 11, 2), "1")
    put_sales(settings, date(2026, 11, 3), "2,5")
    prepare(project, Interval.of(day), settings)
    rows = Tables(settings).scan("features_drugstore").filter(pl.col("day") == day).sort("entity_id").collect()
    assert rows["sold_item_id_7d"].to_list() == [1.75, None]
    assert rows["region"].to_list() == [None, None]
    sales = Tables(settings).scan("clean_drugstore__sales").collect()
    assert "Erika" not in sales.write_csv()


def test_history_that_counts_too_late_is_an_error_where_the_project_says_so(
    project: Project, settings: Settings
) -> None:
    """The files of two days came after the cutoff. Nothing is built; without the limit, the log warns."""
    day = date(2026, 11, 10)
    put_plan(settings, day)
    for of_day in (date(2026, 11, 2), date(2026, 11, 3)):
        put_sales(settings, of_day, "1")
        path = Path(settings.landing) / f"drugstore/sales/{of_day}/sales.csv"
        os.utime(path, (moment(day, 12).timestamp(),) * 2)
    sales = project.feeds["sales"]
    limited = project.model_copy(
        update={"feeds": {**project.feeds, "sales": sales.model_copy(update={"max_unknown_share": 0.3})}}
    )
    land(limited, Interval.of(day), settings)
    validate(limited, Interval.of(day), settings)
    with pytest.raises(DataError, match="drugstore: 2 of the 2 days of sales that 2026-11-10 may read came too late"):
        build_features(limited, Interval.of(day), settings)
    assert not Tables(settings).exists("features_drugstore")
    built = build_features(project, Interval.of(day), settings)
    assert built.rows == 2
    record_prepared_days(built, settings)
    with engine(settings).connect() as connection:
        lacking = connection.execute(
            sa.text("SELECT feed, day, severity, observed FROM data_quality WHERE expectation = 'feed_to_be_known'")
        ).all()
    by_feed = {feed: (of_day, severity, observed) for feed, of_day, severity, observed in lacking}
    assert by_feed["sales"] == (
        day,
        "warning",
        (
            "2026-11-10 knows no accepted file of 2026-11-02, 2026-11-03, and goes on without; 2 of 2 have an accepted "
            "delivery by now that it could not know: that of 2026-11-03 counts from 2026-11-10 11:00 UTC"
        ),
    )
    assert by_feed["stores"][2] == "2026-11-10 knows no accepted snapshot, and goes on without its columns"


def test_a_snapshot_copied_again_is_no_new_delivery(project: Project, settings: Settings) -> None:
    put_plan(settings, FIRST)
    for hour in (0, 2, 30, 60):
        put_stores(settings, OLD, moment(FIRST, 0) + timedelta(hours=hour))
        land(project, Interval.of(FIRST), settings)
    stores = read_journal(settings, project).deliveries.filter(pl.col("feed") == "stores")
    assert stores.select("available_from", "verdict").rows() == [(moment(FIRST, 0), "landed")]


def test_of_snapshots_with_a_day_only_those_since_the_known_one_are_listed(
    project: Project, settings: Settings
) -> None:
    """The first night looks at all. A night that was left out loses none, nor does one with the state of tomorrow."""
    dated = project.feeds["stores"].model_copy(update={"path": "stores/{day}.parquet", "live_from": FIRST})
    project = project.model_copy(update={"feeds": {**project.feeds, "stores": dated}})

    def deliver(day: date, regions: list[str]) -> None:
        put_stores(settings, regions, moment(day, 1), name=f"stores/{day}.parquet")

    def night(day: date, *, sweep: bool = False) -> tuple[int, int]:
        put_plan(settings, day)
        landed = land(project, Interval.of(day), settings, sweep=sweep)
        stores = read_journal(settings, project).deliveries.filter(pl.col("feed") == "stores")
        return stores.height, landed.known

    put_plan(settings, FIRST)
    years = [FIRST - timedelta(days=n) for n in (2000, 300, 40)]
    for n, day in enumerate(years):
        deliver(day, [f"r{n}", "south"])
    assert night(FIRST)[0] == 3
    for day in (FIRST - timedelta(days=20), FIRST + timedelta(days=1)):  # since the newest that is known
        deliver(day, [f"of {day}", "south"])
    assert night(FIRST)[0] == 5
    deliver(FIRST - timedelta(days=200), ["late", "south"])
    assert night(FIRST) == (5, 1 + 2)  # the plan, and the states of 20 days ago and of tomorrow
    assert night(FIRST, sweep=True)[0] == 6
    last = FIRST + timedelta(days=30)
    deliver(FIRST + timedelta(days=12), ["in between", "south"])
    assert night(last) == (7, 1)  # the newest that is known


def test_an_older_copy_of_a_snapshot_waits_for_a_decision(project: Project, settings: Settings) -> None:
    put_plan(settings, FIRST)
    put_stores(settings, NEW, moment(FIRST, 2))
    land(project, Interval.of(FIRST), settings)
    put_stores(settings, OLD, moment(FIRST - timedelta(days=9), 2))
    landed = land(project, Interval.of(FIRST), settings)
    assert len(landed.held) == 1 and "before stores/stores.parquet@" in landed.held[0]


def test_a_withdrawn_snapshot_goes_with_a_repair(project: Project, settings: Settings) -> None:
    put_plan(settings, FIRST)
    put_stores(settings, OLD, moment(FIRST, 1))
    land(project, Interval.of(FIRST), settings)
    put_stores(settings, NEW, moment(FIRST, 2))
    prepare(project, Interval.of(FIRST), settings)
    assert regions(settings, FIRST) == NEW
    newest = read_journal(settings, project).deliveries.filter(pl.col("feed") == "stores").sort("sequence")[-1]
    withdraw(project, newest["delivery_id"].item(), settings, by="ana", why="wrong regions")
    found = [each for each in find_out_of_date(project, Interval.of(FIRST), settings) if each.what == "features"]
    assert [each.needs_repair for each in found] == [True]
    repair(project, Interval.of(FIRST), settings, by="ana", why="wrong regions")
    record_prepared_days(build_features(project, Interval.of(FIRST), settings), settings)
    assert regions(settings, FIRST) == OLD


def test_a_bad_snapshot_refuses_nothing_else(project: Project, settings: Settings) -> None:
    """Rows of an unknown region are held back. A file with a key twice is refused: it would double entities."""
    put_plan(settings, FIRST)
    put(settings, "stores/stores.parquet", b"no parquet", moment(FIRST, 1))
    prepare(project, Interval.of(FIRST), settings)
    assert regions(settings, FIRST) == [None, None]
    put_stores(settings, ["north", "moon"], moment(FIRST, 2))
    land(project, Interval.of(FIRST), settings)
    validated = validate(project, Interval.of(FIRST), settings)
    assert (validated.accepted, validated.quarantined) == (1, 1)
    put_stores(settings, ["north", "south"], moment(FIRST, 3), ids=[1, 1])
    land(project, Interval.of(FIRST), settings)
    validated = validate(project, Interval.of(FIRST), settings)
    assert [each.feed for each in validated.refused] == ["stores"]
