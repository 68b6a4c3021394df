"""What happens to a new team and at night, a scenario a test: what each run date knows, and that it stays so.

The steps are real, on PostgreSQL and Delta, up to the record of the prepared day. `test_properties.py` makes up such
events; here they are told. Snapshots are in `test_drugstore.py`, sets of parts in `test_sets.py`, and databases in
`test_extract.py`.
"""

import os
import random
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.core.errors import DeliveryError
from include.core.intake import NotYetError
from include.core.interval import Interval
from include.core.names import raw_table
from include.core.project import Project
from include.io.journal import read_journal, restore
from include.io.tables import Tables
from include.operations.decide import accept, withdraw
from include.operations.repair import repair
from include.steps.land import land
from include.steps.validate import validate
from tests.conftest import Install
from tests.integration.drugstore import moment, put, put_sales, put_stores
from tests.integration.nights import Installation, installed

pytestmark = pytest.mark.timeout(300)

LIVE = date(2026, 11, 9)
"""The first run date that is run live: a Monday."""


def day(n: int) -> date:
    """Return the n-th day from LIVE on."""
    return LIVE + timedelta(days=n)


def plan(installation: Installation, of: date, hours: float, version: int = 1) -> None:
    """Deliver a plan so many hours after the cutoff of its run date."""
    installation.happens(("plan", of, hours, version))


def sales(installation: Installation, run_date: date, hours: float, version: int = 1) -> None:
    """Deliver the sales of a week before a run date, so many hours after its cutoff."""
    installation.happens(("sales", run_date, hours, version))


def pieces(installation: Installation, run_date: date) -> list[float]:
    """Return the sales that a run date knows, by day."""
    rows = dict(zip(installation.project.feeds, installation.rows(run_date), strict=True))["sales"]
    return rows.sort("day")["pieces"].to_list()


def as_of(installation: Installation, of: date) -> datetime:
    return read_journal(installation.settings, installation.project).records[of].as_of


@pytest.fixture
def live_from(load_changed: Callable[..., Project]) -> Project:
    """The project, with files before LIVE as history."""

    def change(declared: dict[str, Any]) -> None:
        for feed in ("plan", "sales"):
            declared["feeds"][feed]["live_from"] = LIVE

    return load_changed("drugstore", change)


@pytest.fixture
def overwritten(load_changed: Callable[..., Project]) -> Project:
    """The project, whose objects may be overwritten at any time."""

    def change(declared: dict[str, Any]) -> None:
        for feed in ("plan", "sales"):
            declared["feeds"][feed]["corrections_days"] = 10_000

    return load_changed("drugstore", change)


@pytest.mark.drill
def test_history_copied_in_any_order_then_live(install: Install, live_from: Project) -> None:
    """Names, times and the order of copying history mean nothing; from LIVE on, the time of an object counts."""
    ends = []
    for seed in (None, 0, 1, 2):
        with installed(install) as installation:
            installation.project = live_from
            order, chance = [day(-n) for n in range(1, 8)], random.Random(seed)
            shuffled = seed is not None
            if shuffled:
                chance.shuffle(order)
            for of in order:
                hours = chance.uniform(-2000, -1) if shuffled else -9
                plan(installation, of, hours)
                sales(installation, of, hours)
            history = Interval(start=day(-7), end=day(-1))
            land(live_from, history, installation.settings)
            validate(live_from, history, installation.settings)
            for of in history.days if not shuffled else reversed(history.days):
                installation.prepare_or_raise(of)
            for of in (day(0), day(1)):
                plan(installation, of, -9)
                sales(installation, of, 1 if of == day(0) else -1)
                installation.prepare_or_raise(of)
            ends.append([installation.end()[:2], [pieces(installation, of) for of in history.days]])
            # the sales of day(0) came after its cutoff: live, that run date does not know them
            assert (len(pieces(installation, day(0))), len(pieces(installation, day(1)))) == (7, 9)
    assert ends[1:] == ends[:1] * 3


def test_history_that_is_overwritten_after_going_live_counts_from_then_on(install: Install, live_from: Project) -> None:
    """A repair of a live run date that was prepared before must not know it, and nobody is asked."""
    feeds = {name: feed.model_copy(update={"corrections_days": 10_000}) for name, feed in live_from.feeds.items()}
    with installed(install) as installation:
        installation.project = live_from.model_copy(update={"feeds": feeds})
        sales(installation, day(-2), -9, version=1)
        sales(installation, day(-3), -9, version=1)
        land(installation.project, Interval.of(day(-1)), installation.settings, sweep=True)
        sales(installation, day(-2), -8, version=2)  # nobody is live: history may be copied again
        for n in (0, 1):
            plan(installation, day(n), -9)
        installation.prepare_or_raise(day(0))
        sales(installation, day(-2), 60, version=3)  # twelve hours after the cutoff of LIVE
        sales(installation, day(-4), 60, version=1)  # history that was missing
        installation.prepare_or_raise(day(1))
        assert pieces(installation, day(0)) == [1.0, 2.0]
        assert pieces(installation, day(1)) == [1.0, 1.0, 3.0]
        repair(installation.project, Interval.of(day(0)), installation.settings, by="ana", why="a test")
        assert pieces(installation, day(0)) == [1.0, 1.0, 2.0]
        verdicts = read_journal(installation.settings, installation.project).deliveries["verdict"]
        assert set(verdicts) == {"accepted"}


def known_of_days(installation: Installation, *order: int) -> list[dict[str, list[str]]]:
    """Prepare days in an order; return what each of the five knows."""
    for n in order:
        installation.prepare_or_raise(day(n))
    return [installation.knows(day(n)) for n in range(5)]


def plan_all(installation: Installation, *, without: int | None = None) -> None:
    put_stores(installation.settings, ["north", "south"], moment(day(-1), 12))
    for n in range(5):
        if n != without:
            plan(installation, day(n), -9)


@pytest.fixture(scope="module")
def known_if_punctual(install: Install) -> list[dict[str, list[str]]]:
    with installed(install) as punctual:
        plan_all(punctual)
        return known_of_days(punctual, 2, 1, 0, 3, 4)


@pytest.mark.parametrize(("hours", "moves"), [(1, True), (23, True), (24, False), (72, False)])
def test_a_required_file_is_late(
    install: Install, known_if_punctual: list[dict[str, list[str]]], hours: int, moves: bool
) -> None:
    """Its run date waits; `as_of` moves on to the file, or stays the cutoff if that of the next run date has passed."""
    with installed(install) as late:
        plan_all(late, without=1)
        with pytest.raises(NotYetError, match=r"no file of feed plan for 2026-11-10"):
            late.prepare_or_raise(day(1))
        plan(late, day(1), hours)
        known = known_of_days(late, 2, 1, 0, 3, 4)
        moved = timedelta(hours=hours if moves else 0)
        assert as_of(late, day(1)) == late.project.cutoff_at(day(1)) + moved
        moments = [as_of(late, day(n)) for n in range(5)]
        assert moments == sorted(moments)
        assert known == known_if_punctual


def test_the_correction_of_a_late_file_is_not_known_to_its_run_date(install: Install) -> None:
    with installed(install) as installation:
        plan(installation, day(0), 30, version=1)
        plan(installation, day(0), 31, version=2)
        installation.prepare_or_raise(day(0))
        assert installation.knows(day(0))["plan"] == [f"plan/{LIVE}/1.jsonl"]


def test_a_correction_between_two_runs_and_one_after_both(install: Install, overwritten: Project) -> None:
    with installed(install) as installation:
        installation.project = overwritten
        for n in range(3):
            plan(installation, day(n), -9)
        sales(installation, day(0), -2, version=1)
        installation.prepare_or_raise(day(0))
        sales(installation, day(0), 5, version=2)  # the same object, overwritten
        installation.prepare_or_raise(day(1))
        installation.prepare_or_raise(day(2))
        sales(installation, day(0), 29, version=3)
        land(overwritten, Interval.of(day(2)), installation.settings)
        for n in range(3):
            installation.prepare_or_raise(day(n))
        assert [pieces(installation, day(n)) for n in range(3)] == [[1], [2], [2]]
        raw = Tables(installation.settings).scan(raw_table("drugstore", "sales")).collect()
        assert sorted(raw["pieces"]) == ["1", "2", "3"], "the rows of each version are kept"


def test_a_day_that_was_never_prepared_is_prepared_beside_live_ones(install: Install) -> None:
    with installed(install) as gap, installed(install) as whole:
        for installation, live in ((gap, (0, 2, 3)), (whole, (0, 1, 2, 3))):
            for n in range(4):
                plan(installation, day(n), -9)
                sales(installation, day(n), -1, version=n + 1)
                if n in live:
                    installation.prepare_or_raise(day(n))
        before = [gap.rows(day(n)) for n in (0, 2, 3)]
        gap.prepare_or_raise(day(1))
        assert gap.knows(day(1)) == whole.knows(day(1))
        assert as_of(gap, day(1)) == as_of(whole, day(1))
        for rows, n in zip(before, (0, 2, 3), strict=True):
            assert all(one.equals(other) for one, other in zip(rows, gap.rows(day(n)), strict=True))


def test_an_optional_feed_that_always_comes_after_the_cutoff(
    install: Install, load_changed: Callable[..., Project]
) -> None:
    """No run waits for it. History counts from `arrives`, so that training knows no more than the nights will."""

    def change(declared: dict[str, Any]) -> None:
        declared["feeds"]["sales"] |= {"arrives": "09:00", "live_from": day(2)}

    with installed(install) as installation:
        installation.project = load_changed("drugstore", change)
        for n in range(4):
            plan(installation, day(n), -9)
            sales(installation, day(n), 6 if n >= 2 else -100)  # at 09:00, or copied as history
        for n in range(4):
            installation.prepare_or_raise(day(n))
        assert [len(pieces(installation, day(n))) for n in range(4)] == [0, 1, 2, 3]


def test_what_is_wiped_is_made_again_from_raw_tables_journal_and_key(install: Install, tmp_path: Path) -> None:
    with installed(install) as lost, install(tmp_path) as empty:
        for n in range(3):
            plan(lost, day(n), -9)
            sales(lost, day(n), -1)
            lost.prepare_or_raise(day(n))
            sales(lost, day(n), 5, version=2)
        withdraw(lost.project, one_delivery(lost, "sales"), lost.settings, by="ana", why="a test")
        repair(lost.project, Interval(start=day(0), end=day(2)), lost.settings, by="ana", why="a test")
        withdraw(lost.project, one_delivery(lost, "plan"), lost.settings, by="ana", why="a test, without a repair")
        for feed in lost.project.feeds:
            if (raw := Path(lost.settings.tables) / raw_table("drugstore", feed)).exists():
                shutil.copytree(raw, Path(empty.tables) / raw.name)
        shutil.copytree(lost.settings.journal, empty.journal)

        restore(empty, lost.project.name)
        made = Installation(lost.project, empty)
        validate(made.project, Interval(start=day(0), end=day(2)), empty)
        assert made.end()[:2] == lost.end()[:2]
        assert [made.knows(day(n)) for n in range(3)] == [lost.knows(day(n)) for n in range(3)]
        for n in range(3):
            for one, other in zip(made.rows(day(n)), lost.rows(day(n)), strict=True):
                assert one.equals(other)


def test_two_installations_read_one_landing(install: Install) -> None:
    """They agree as long as each landed the same deliveries before it prepared a day."""
    with installed(install) as one, installed(install) as other:
        other.settings = other.settings.model_copy(update={"landing": one.settings.landing})
        put_stores(one.settings, ["north", "south"], moment(day(-1), 12))
        for n in range(3):
            plan(one, day(n), -9)
            sales(one, day(n), -1)
            one.prepare_or_raise(day(n))
        before = {path: path.stat().st_mtime_ns for path in Path(one.settings.landing).rglob("*")}
        for n in (2, 0, 1):  # the other one is days behind, and does them in another order
            other.prepare_or_raise(day(n))
        assert {path: path.stat().st_mtime_ns for path in Path(one.settings.landing).rglob("*")} == before
        assert one.end() == other.end()

        sales(one, day(2), 5, version=2)
        plan(one, day(3), -9)
        other.prepare_or_raise(day(3))  # now the first one is behind
        one.prepare_or_raise(day(3))
        assert one.end() == other.end()
        withdraw(one.project, one_delivery(one, "sales"), one.settings, by="ana", why="a test")
        assert one.end() != other.end(), "a decision is one of its installation"


def one_delivery(installation: Installation, feed: str) -> str:
    deliveries = read_journal(installation.settings, installation.project).deliveries
    return str(deliveries.filter(feed=feed).sort("sequence")["delivery_id"][-1])


def test_a_suppliers_clock_is_ahead(install: Install) -> None:
    """The time of an object counts up to that of its landing, so a clock ahead hides nothing from later nights."""
    with installed(install) as installation:
        plan(installation, day(0), -9)
        put_sales(installation.settings, day(-7), "1")
        path = Path(installation.settings.landing) / f"drugstore/sales/{day(-7)}/sales.csv"
        ahead = datetime.now(UTC).timestamp() + 3 * 86400
        os.utime(path, (ahead, ahead))
        installation.prepare_or_raise(day(0))
        entered = read_journal(installation.settings, installation.project).deliveries.filter(feed="sales")
        assert entered["available_from"][0].timestamp() < ahead - 86400
        assert pieces(installation, day(0)) == [], "it counts from its landing, which was after the cutoff"


def test_a_suppliers_clock_is_behind(install: Install) -> None:
    """A correction that says it is older than what it replaces waits for a person, and nothing else does."""
    with installed(install) as installation:
        for n in range(2):
            plan(installation, day(n), -9)
        plan(installation, day(1), -5, version=2)
        installation.prepare_or_raise(day(0))
        installation.prepare_or_raise(day(1))
        plan(installation, day(1), -7, version=3)  # by its own clock, before version 2
        held = land(installation.project, Interval.of(day(1)), installation.settings).held
        assert len(held) == 1 and "before plan/2026-11-10/2.jsonl" in held[0] and "cli accept" in held[0]
        assert installation.knows(day(1))["plan"] == ["plan/2026-11-10/2.jsonl"]


def test_withdrawn_then_accepted_again(install: Install) -> None:
    with installed(install) as installation:
        project, settings = installation.project, installation.settings
        for n in range(2):
            plan(installation, day(n), -9)
            sales(installation, day(n), -1)
        installation.prepare_or_raise(day(0))
        (wrong,) = read_journal(settings, project).deliveries.filter(feed="sales")["delivery_id"]
        interval = Interval(start=day(0), end=day(1))

        withdraw(project, wrong, settings, by="ana", why="of another shop")
        installation.prepare_or_raise(day(1))
        assert [pieces(installation, day(n)) for n in range(2)] == [[1], [1]], "a prepared day keeps what it used"
        assert installation.knows(day(1))["sales"] == [f"sales/{day(-6)}/sales.csv"]
        assert repair(project, interval, settings, by="ana", why="as above").days == (day(0),)
        assert pieces(installation, day(0)) == []

        accept(project, wrong, settings, by="ben", why="it was the right shop")
        validate(project, interval, settings)
        assert pieces(installation, day(0)) == []
        assert repair(project, interval, settings, by="ben", why="as above").days == (day(0), day(1))
        assert [len(pieces(installation, day(n))) for n in range(2)] == [1, 2]


def test_the_cutoff_and_delay_days_are_edited_after_a_month(
    install: Install, load_changed: Callable[..., Project]
) -> None:
    """Prepared days stay as they are, whatever the configuration says now; later days follow it."""

    def change(declared: dict[str, Any]) -> None:
        declared["cutoff"] = "02:00"
        declared["feeds"]["sales"]["delay_days"] = 6

    with installed(install) as installation:
        for n in range(4):
            plan(installation, day(n), -9)
            sales(installation, day(n), -0.5)  # at 02:30
        for n in range(3):
            installation.prepare_or_raise(day(n))
        before = [(as_of(installation, day(n)), installation.rows(day(n))) for n in range(3)]
        installation.project = load_changed("drugstore", change)
        for n, (moment_before, rows) in enumerate(before):
            installation.prepare_or_raise(day(n))
            assert as_of(installation, day(n)) == moment_before
            assert all(one.equals(other) for one, other in zip(rows, installation.rows(day(n)), strict=True))
        installation.prepare_or_raise(day(3))
        assert as_of(installation, day(3)) == installation.project.cutoff_at(day(3)) == moment(day(3), 2)
        # the sales of a week before came at 02:30, which the new cutoff is before
        assert f"sales/{day(-4)}/sales.csv" not in installation.knows(day(3))["sales"]


def test_one_bad_object_stops_no_other_feed_and_no_other_day(install: Install) -> None:
    with installed(install) as installation:
        for n in range(2):
            plan(installation, day(n), -9)
        put(installation.settings, f"sales/{day(-7)}/sales.csv", b"\xff\xfe\x00", moment(day(0), 1))
        installation.prepare_or_raise(day(0))
        put(installation.settings, f"plan/{day(1)}/9.jsonl", b"{", moment(day(1), 1))
        with pytest.raises(DeliveryError, match=r"9\.jsonl"):
            land_only_bad(installation)
        assert installation.made_of.keys() == {day(0)}


def land_only_bad(installation: Installation) -> None:
    """Prepare a day of which only the bad plan is there."""
    good = Path(installation.settings.landing) / f"drugstore/plan/{day(1)}/1.jsonl"
    good.unlink()
    installation.prepare_or_raise(day(1))
