"""A day as a stack of deliveries, on the real steps: `correction: upsert`, and late rows that correct their day."""

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from include.config.loading import load_project
from include.core.errors import DeliveryError
from include.core.feeds import CorrectLateRows, QuarantineLateRows
from include.core.interval import Interval
from include.core.names import clean_table, quarantine_table, raw_table
from include.core.point_in_time import known_deliveries
from include.core.project import Project
from include.core.settings import Settings
from include.core.stack import rows_of, states
from include.io import postgres
from include.io.journal import read_journal
from include.io.postgres.journal import JournalWriter
from include.io.tables import Tables
from include.operations.decide import accept, withdraw
from include.operations.outdated import find_out_of_date
from include.operations.repair import repair
from include.steps.build_features import build_features, record_prepared_days
from include.steps.land import land
from include.steps.outcomes import outcomes
from include.steps.publish import _entities, _used
from include.steps.validate import validate
from tests.integration.drugstore import moment, put, put_plan, put_stores

pytestmark = pytest.mark.timeout(600)

TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (date(2026, 11, day) for day in (3, 4, 5, 6))
WEEK = timedelta(days=7)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return the project with files of two rows in mind: half of them may be quarantined."""
    return expecting(tmp_path, "share_of_quarantined_rows_to_be_at_most, max_value: 0.9")


def expecting(folder: Path, rule: str) -> Project:
    (folder / "expectations.yaml").write_text(f"sales:\n  - {{expect: {rule}, severity: critical}}\n", encoding="utf-8")
    return load_project("drugstore").model_copy(update={"folder": folder})


def declared(project: Project, feed: str, **changed: Any) -> Project:
    feeds = {**project.feeds, feed: project.feeds[feed].model_copy(update=changed)}
    return project.model_copy(update={"feeds": feeds})


@pytest.fixture
def correcting(project: Project) -> Project:
    return declared(project, "sales", late_rows=CorrectLateRows(kind="correct", at_most=0.9))


def sell(
    settings: Settings, day: date, *rows: tuple[str, date, int], name: str = "sales", at: datetime | None = None
) -> None:
    """Deliver a file of sales: by default two hours before the cutoff of the run date that needs it."""
    lines = [f"{item};{of};Erika Mustermann;{pieces}\n" for item, of, pieces in rows]
    content = "".join(["item_id;sale_date;cashier;pieces\n", *lines]).encode()
    put(settings, f"sales/{day}/{name}.csv", content, at or moment(day + WEEK, 1))


def night(project: Project, settings: Settings, *days: date) -> None:
    """Land and validate what the run date of each day of sales needs."""
    for day in days:
        put_plan(settings, day + WEEK)
        land(project, Interval.of(day + WEEK), settings)
        validate(project, Interval.of(day + WEEK), settings)


def sold(project: Project, settings: Settings, run_date: date) -> list[tuple[date, str, float]]:
    """Return the sales that the features of a run date are built of."""
    known = known_deliveries(project, read_journal(settings, project), Interval.of(run_date))
    of_sales = states(known.filter(pl.col("feed") == "sales")).select("day", "delivery_id")
    rows = rows_of(Tables(settings).scan(clean_table(project.name, "sales")), of_sales, project.feeds["sales"].key)
    return rows.select("day", "item_id", "pieces").sort("day", "item_id").collect().rows()


def recorded(settings: Settings, day: date) -> dict[str, float]:
    with postgres.connection.engine(settings).connect() as connection:
        text = sa.text("SELECT entity_id, value FROM outcomes WHERE day = :day ORDER BY 1")
        return {row.entity_id: row.value for row in connection.execute(text, {"day": day})}


def prepare(project: Project, settings: Settings, *run_dates: date) -> None:
    for day in run_dates:
        record_prepared_days(build_features(project, Interval.of(day), settings), settings)


def features(settings: Settings, day: date) -> dict[str, float | None]:
    rows = Tables(settings).scan("features_drugstore").filter(pl.col("day") == day).sort("entity_id").collect()
    return dict(rows.select("entity_id", "sold_item_id_7d").iter_rows())


@pytest.mark.spark
def test_changed_rows_reach_features_outcomes_and_entities_and_leave_with_their_delivery(
    project: Project, settings: Settings
) -> None:
    project = declared(declared(project, "sales", correction="upsert"), "plan", correction="upsert")
    first, second = TUESDAY + WEEK, WEDNESDAY + WEEK
    put_stores(settings, ["north", "south"], moment(first - WEEK, 12))
    sell(settings, TUESDAY, ("i1", TUESDAY, 4), ("i2", TUESDAY, 6))
    put_plan(settings, first, second)
    changed = [{"item_id": item, "store_id": 1, "delivery_date": str(first), "planned": 9} for item in ("i2", "i3")]
    put(
        settings,
        f"plan/{first}/more.jsonl",
        "".join(f"{json.dumps(row)}\n" for row in changed).encode(),
        moment(first, 1),
    )
    night(project, settings, TUESDAY)
    prepare(project, settings, first)
    assert features(settings, first) == {"i1": 4.0, "i2": 6.0, "i3": None}
    [prepared] = postgres.days.read_prepared_days(settings, project.name, Interval.of(first))
    used = _used(project, {first: prepared}, [prepared], settings)  # type: ignore[list-item]
    entities = _entities(project, Tables(settings), used).collect().sort("entity_id")
    assert entities.select("entity_id", "store_id").rows() == [("i1", 1), ("i2", 1), ("i3", 1)]

    sell(settings, TUESDAY, ("i2", TUESDAY, 8), name="again", at=moment(second, 1))
    night(project, settings, WEDNESDAY)
    prepare(project, settings, second)
    expected = {"i1": 4.0, "i2": 8.0}
    assert features(settings, second) == expected
    build_features(project, Interval(start=first, end=second), settings)  # both states of a day in one run
    assert (features(settings, first), features(settings, second)) == ({"i1": 4.0, "i2": 6.0, "i3": None}, expected)
    outcomes(project, Interval(start=first, end=second), settings)
    assert recorded(settings, TUESDAY) == expected

    [again] = read_journal(settings, project).deliveries.filter(pl.col("key").str.contains("again"))["delivery_id"]
    withdraw(project, again, settings, by="ana", why="a test")
    [found] = [each for each in find_out_of_date(project, Interval.of(second), settings) if each.needs_repair]
    assert again in found.why
    repair(project, Interval.of(second), settings, by="ana", why="a test")
    build_features(project, Interval.of(second), settings)
    assert features(settings, second) == {"i1": 4.0, "i2": 6.0}
    outcomes(project, Interval.of(second), settings)
    assert recorded(settings, TUESDAY) == {"i1": 4.0, "i2": 6.0}


LATE_FILE = [
    ("i1", THURSDAY, 1),
    ("i1", TUESDAY, 5),  # corrects a row
    ("i3", WEDNESDAY, 7),  # is new
    ("i2", FRIDAY, 9),  # is of a later day
]


def deliver_all(settings: Settings) -> None:
    sell(settings, TUESDAY, ("i1", TUESDAY, 4), ("i2", TUESDAY, 6))
    sell(settings, WEDNESDAY, ("i1", WEDNESDAY, 2))
    sell(settings, THURSDAY, *LATE_FILE)


CORRECTED = [
    (TUESDAY, "i1", 5.0),
    (TUESDAY, "i2", 6.0),
    (WEDNESDAY, "i1", 2.0),
    (WEDNESDAY, "i3", 7.0),
    (THURSDAY, "i1", 1.0),
]


def test_late_rows_of_two_days_correct_them_from_the_moment_of_their_file(
    correcting: Project, settings: Settings
) -> None:
    deliver_all(settings)
    night(correcting, settings, TUESDAY, WEDNESDAY, THURSDAY)
    before = [(TUESDAY, "i1", 4.0), (TUESDAY, "i2", 6.0)]
    assert sold(correcting, settings, TUESDAY + WEEK) == before
    assert sold(correcting, settings, WEDNESDAY + WEEK) == [*before, (WEDNESDAY, "i1", 2.0)]
    assert sold(correcting, settings, THURSDAY + WEEK) == CORRECTED

    of_sales = read_journal(settings, correcting).deliveries.filter(pl.col("feed") == "sales")
    of_file = of_sales.filter(pl.col("key").str.contains(str(THURSDAY))).sort("sequence")
    main = of_file["delivery_id"][0]
    assert of_file["delivery_id"].to_list() == [main, f"{main}#{TUESDAY}", f"{main}#{WEDNESDAY}"]
    assert of_file["correction"].to_list() == ["replace", "late_rows", "late_rows"]
    assert of_file["available_from"].n_unique() == 1
    assert of_file["verdict"].unique().to_list() == ["accepted"]
    quarantine = Tables(settings).scan(quarantine_table("drugstore", "sales")).collect()
    assert quarantine.select("day", "item_id").rows() == [(THURSDAY, "i2")]

    withdraw(correcting, f"{main}#{TUESDAY}", settings, by="ana", why="a test")
    assert sold(correcting, settings, THURSDAY + WEEK) == [*before, *CORRECTED[2:]]
    withdraw(correcting, main, settings, by="ana", why="the whole file was wrong")
    assert sold(correcting, settings, THURSDAY + WEEK) == [*before, (WEDNESDAY, "i1", 2.0)]
    accept(correcting, main, settings, by="ben", why="it was right")
    night(correcting, settings, THURSDAY)
    assert sold(correcting, settings, THURSDAY + WEEK) == CORRECTED


@pytest.mark.parametrize("order", [(THURSDAY, WEDNESDAY, TUESDAY), (WEDNESDAY, THURSDAY, WEDNESDAY, TUESDAY)])
def test_nights_in_another_order_and_once_more_end_the_same(
    correcting: Project, settings: Settings, order: Sequence[date]
) -> None:
    deliver_all(settings)
    night(correcting, settings, *order)
    assert sold(correcting, settings, THURSDAY + WEEK) == CORRECTED
    assert sold(correcting, settings, TUESDAY + WEEK) == [(TUESDAY, "i1", 4.0), (TUESDAY, "i2", 6.0)]


@pytest.mark.parametrize("written", ["add", "see"])
def test_a_run_killed_between_the_raw_rows_and_their_entries_is_repeated(
    correcting: Project, settings: Settings, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    deliver_all(settings)
    put_plan(settings, THURSDAY + WEEK)
    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(JournalWriter, written, killed)
        land(correcting, Interval.of(THURSDAY + WEEK), settings)
    assert read_journal(settings, correcting).deliveries.is_empty()
    assert not Tables(settings).scan(raw_table("drugstore", "sales")).collect().is_empty()
    night(correcting, settings, THURSDAY)
    assert sold(correcting, settings, THURSDAY + WEEK) == CORRECTED
    raw = Tables(settings).scan(raw_table("drugstore", "sales")).group_by("delivery_id").len().collect()
    listed = read_journal(settings, correcting).deliveries.filter(pl.col("feed") == "sales")
    assert dict(raw.iter_rows()) == dict(listed.select("delivery_id", "rows").iter_rows())


def test_late_rows_wait_for_the_file_of_their_day_and_count_with_it(
    correcting: Project, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    sell(settings, TUESDAY, ("i1", TUESDAY, 4))
    sell(settings, THURSDAY, *LATE_FILE)
    night(correcting, settings, THURSDAY)
    before = [(TUESDAY, "i1", 5.0), (THURSDAY, "i1", 1.0)]
    assert sold(correcting, settings, THURSDAY + WEEK) == before
    said = [each.getMessage() for each in caplog.records if "late rows" in each.getMessage()]
    assert said == [f"not used: 1 late rows of feed sales for {WEDNESDAY} wait for the file of that day"]
    sell(settings, WEDNESDAY, ("i1", WEDNESDAY, 2), ("i3", WEDNESDAY, 3), at=moment(THURSDAY + WEEK, 2))
    night(correcting, settings, THURSDAY)
    assert sold(correcting, settings, THURSDAY + WEEK) == [
        before[0],
        (WEDNESDAY, "i1", 2.0),
        (WEDNESDAY, "i3", 3.0),  # the file came after the late row, so its row is the newest
        (THURSDAY, "i1", 1.0),
    ]


def test_a_required_file_is_still_waited_for_when_late_rows_of_its_day_are_there(
    project: Project, settings: Settings
) -> None:
    correcting = declared(project, "plan", late_rows=CorrectLateRows(kind="correct", at_most=0.9))
    day, after = TUESDAY, WEDNESDAY
    rows = [{"item_id": "i1", "store_id": 1, "delivery_date": str(of), "planned": 1} for of in (after, day)]
    put(settings, f"plan/{after}/plan.jsonl", "".join(f"{json.dumps(r)}\n" for r in rows).encode(), moment(day, 20))
    land(correcting, Interval.of(after), settings)
    assert set(read_journal(settings, correcting).deliveries["day"]) == {day, after}
    with pytest.raises(DeliveryError, match=f"no file of feed plan for {day}"):
        land(correcting, Interval.of(day), settings)


def test_a_file_that_is_touched_after_late_rows_was_declared_stays_as_it_was_landed(
    project: Project, correcting: Project, settings: Settings
) -> None:
    """Its rows of another date are in quarantine, and its raw rows may not change."""
    quarantines = declared(project, "sales", late_rows=QuarantineLateRows(kind="quarantine", at_most=0.9))
    deliver_all(settings)
    night(quarantines, settings, THURSDAY)
    expected = sold(quarantines, settings, THURSDAY + WEEK)
    sell(settings, THURSDAY, *LATE_FILE, at=moment(THURSDAY + WEEK, 2))
    night(correcting, settings, THURSDAY)
    assert sold(correcting, settings, THURSDAY + WEEK) == expected


def test_a_quarantined_changed_row_leaves_the_older_one(project: Project, settings: Settings) -> None:
    project = declared(project, "sales", correction="upsert")
    sell(settings, TUESDAY, ("i1", TUESDAY, 4), ("i2", TUESDAY, 6))
    wrong: Any = "many"
    sell(settings, TUESDAY, ("i1", TUESDAY, wrong), ("i2", TUESDAY, 8), name="again", at=moment(TUESDAY + WEEK, 2))
    night(project, settings, TUESDAY)
    assert sold(project, settings, TUESDAY + WEEK) == [(TUESDAY, "i1", 4.0), (TUESDAY, "i2", 8.0)]


def test_the_rows_of_an_upsert_are_not_counted_as_those_of_a_day(settings: Settings, tmp_path: Path) -> None:
    project = declared(expecting(tmp_path, "table_row_count_to_be_between, min_value: 2"), "sales", correction="upsert")
    sell(settings, TUESDAY, ("i1", TUESDAY, 4), ("i2", TUESDAY, 6))
    sell(settings, TUESDAY, ("i2", TUESDAY, 8), name="zagain", at=moment(TUESDAY + WEEK, 2))
    sell(settings, WEDNESDAY, ("i2", WEDNESDAY, 8))
    night(project, settings, TUESDAY, WEDNESDAY)
    verdicts = read_journal(settings, project).deliveries.filter(pl.col("feed") == "sales").sort("key")
    assert verdicts["verdict"].to_list() == ["accepted", "accepted", "refused"]
