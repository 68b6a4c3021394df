"""Calendars of feeds: which days have a file, and what a run date then waits for."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.config.loading import load_project
from include.core import schemas
from include.core.calendars import WEEKDAYS, Holidays
from include.core.errors import ConfigError
from include.core.feeds import Feed
from include.core.interval import Interval
from include.core.lookback import counts_from, of_days, sentences, too_late, unknown_days
from include.core.point_in_time import as_of, known_deliveries, rows_before
from include.core.project import Project
from tests.deliveries import known as journal_of

SUNDAY = date(2026, 3, 8)
MONDAY = SUNDAY + timedelta(days=1)


def feed(**declared: Any) -> Feed:
    return Feed.model_validate({
        "path": "sales/{day}/*.csv",
        "key": ["item"],
        "day_column": "sold_on",
        "columns": {"item": {"type": "string", "class": "public"}, "sold_on": {"type": "date", "class": "public"}},
        **declared,
    })


@pytest.fixture
def load(load_changed: Callable[..., Project]) -> Callable[..., Project]:
    """Load the project `ferries` with other keys of its feeds."""

    def make(**feeds: dict[str, Any]) -> Project:
        def change(declared: dict[str, Any]) -> None:
            declared["first_day"] = date(2026, 1, 1)
            for name, keys in feeds.items():
                declared["feeds"][name] |= keys

        return load_changed("ferries", change)

    return make


class TestDays:
    @pytest.mark.parametrize(
        ("written", "days"),
        [
            ("mon-sat", ("mon", "tue", "wed", "thu", "fri", "sat")),
            ("mon-fri, sun", ("mon", "tue", "wed", "thu", "fri", "sun")),
            ("sat-mon", ("mon", "sat", "sun")),
            ("Wed", ("wed",)),
            (["fri", "mon-tue"], ("mon", "tue", "fri")),
        ],
    )
    def test_written_as_a_range_or_a_list(self, written: object, days: tuple[str, ...]) -> None:
        assert feed(days=written).days == days

    @pytest.mark.parametrize(
        ("written", "said"),
        [
            ("mo-sat", "there is no weekday 'mo'; did you mean 'mon'"),
            ("mon-wed-fri", "'mon-wed-fri' is not a range of weekdays; write it as mon-sat"),
            ([], "write weekdays as mon-sat, or as"),
            (5, "write weekdays as mon-sat, or as"),
            ([1, 2], "write weekdays as mon-sat, or as"),
        ],
    )
    def test_what_is_no_weekday(self, written: object, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            feed(days=written)

    @given(st.sets(st.sampled_from(WEEKDAYS), min_size=1), st.dates())
    def test_a_day_has_a_file_by_its_weekday(self, days: set[str], day: date) -> None:
        assert feed(days=sorted(days)).has_file_on(day) == (f"{day:%a}".lower() in days)

    def test_every_day_has_one_by_default(self) -> None:
        assert all(feed().has_file_on(SUNDAY + timedelta(days=n)) for n in range(7))


class TestHolidays:
    def test_of_a_country_and_a_region(self) -> None:
        germany, berlin = feed(holidays={"country": "DE"}), feed(holidays={"country": "DE", "subdivision": "BE"})
        assert not germany.has_file_on(date(2026, 12, 25))
        assert germany.has_file_on(SUNDAY)  # International Women's Day is one in Berlin only
        assert not berlin.has_file_on(SUNDAY)
        assert berlin.has_file_on(date(2026, 12, 24))

    def test_of_a_list(self) -> None:
        declared = feed(days="mon-sat", holidays={"country": "DE", "dates": ["2026-12-24"]})
        found = [day for day in range(21, 32) if declared.has_file_on(date(2026, 12, day))]
        assert found == [21, 22, 23, 28, 29, 30, 31]

    @pytest.mark.parametrize(
        ("declared", "said"),
        [
            ({}, "name a country, dates or a file"),
            ({"subdivision": "BE"}, "subdivision: it needs a country"),
            ({"country": "Germany"}, "country: the library holidays has no 'Germany'; write an ISO code such as DE"),
            ({"country": "DE", "subdivision": "XX"}, "subdivision: DE has no 'XX'"),
        ],
    )
    def test_what_is_unknown(self, declared: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            Holidays.model_validate(declared)

    def test_of_a_file(self, load: Callable[..., Project], tmp_path: Path) -> None:
        (tmp_path / "ferries").mkdir()
        (tmp_path / "ferries" / "closed.txt").write_text("# storms\n2026-03-09  # a Monday\n\n", encoding="utf-8")
        project = load(winds={"holidays": {"file": "closed.txt"}})
        assert "winds" not in project.required(MONDAY)
        assert "winds" in project.required(MONDAY + timedelta(days=1))

    @pytest.mark.parametrize(
        ("text", "said"),
        [("2026-03-09\n9.3.2026\n", "closed.txt, line 2: not a date; write it"), (None, "there is no file")],
    )
    def test_a_wrong_file(self, load: Callable[..., Project], tmp_path: Path, text: str | None, said: str) -> None:
        (tmp_path / "ferries").mkdir()
        if text:
            (tmp_path / "ferries" / "closed.txt").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=said):
            load(winds={"holidays": {"file": "closed.txt"}})


class TestRequired:
    def test_only_files_of_the_calendar_and_of_required_feeds(self, load: Callable[..., Project]) -> None:
        project = load(logbook={"days": "mon-sat"}, winds={"required": False})
        assert project.required(SUNDAY) == {"sailings": SUNDAY, "logbook": date(2026, 3, 7)}
        assert project.required(MONDAY) == {"sailings": MONDAY}
        assert dict(project.delivered_days(MONDAY)) == {"sailings": MONDAY, "winds": MONDAY}
        assert project.required(date(2026, 1, 1)) == {"sailings": date(2026, 1, 1)}

    def test_the_newest_day_that_should_be_there(self, load: Callable[..., Project]) -> None:
        project = load(
            logbook={"days": "mon-sat"},
            winds={"required": False, "arrives": "09:00", "days": "mon-fri"},
        )
        assert project.expected(MONDAY) == {
            "sailings": MONDAY,
            "logbook": date(2026, 3, 7),
            "winds": date(2026, 3, 6),  # that of Monday comes at nine
        }
        assert project.expected(date(2026, 1, 1)) == {"sailings": date(2026, 1, 1)}

    def test_the_feed_of_the_entities_is_required(self, load: Callable[..., Project]) -> None:
        with pytest.raises(
            ConfigError, match=r"entity\.feed: sailings is not required, but without its file a run has no"
        ):
            load(sailings={"required": False})

    @given(st.sets(st.sampled_from(WEEKDAYS), min_size=1), st.booleans(), st.integers(0, 20), st.integers(0, 3))
    def test_a_run_waits_for_no_file_that_nobody_sends(
        self, days: set[str], required: bool, after: int, delay_days: int
    ) -> None:
        project = load_project("ferries")
        winds = project.feeds["winds"].model_copy(
            update={"days": tuple(sorted(days)), "required": required, "delay_days": delay_days}
        )
        project = project.model_copy(update={"feeds": {**project.feeds, "winds": winds}})
        run_date = project.first_day + timedelta(days=after)
        day = project.required(run_date).get("winds")
        there = run_date - timedelta(days=delay_days)
        waits = required and there >= project.first_day and f"{there:%a}".lower() in days
        assert day == (there if waits else None)


def listing(project: Project, *deliveries: tuple[str, date, datetime]) -> pl.DataFrame:
    about = {"verdict": "accepted", "rows": 3}
    rows = [
        {"sequence": n, "feed": name, "day": day, "delivery_id": f"{name}/{day}", "available_from": at, **about}
        for n, (name, day, at) in enumerate(deliveries)
    ]
    return pl.DataFrame(rows, schema=schemas.DELIVERIES)


class TestPointInTime:
    @pytest.fixture
    def project(self, load: Callable[..., Project]) -> Project:
        return load(winds={"required": False, "arrives": "09:00", "lookback_days": 3, "days": "mon-sat"})

    def test_an_optional_file_after_the_cutoff_is_not_used_and_nothing_waits(self, project: Project) -> None:
        on_time, nine = project.cutoff_at(MONDAY) - timedelta(hours=1), project.at(MONDAY, time(9))
        deliveries = listing(
            project,
            ("sailings", MONDAY, on_time),
            ("logbook", SUNDAY, on_time),
            ("winds", MONDAY - timedelta(days=2), nine - timedelta(days=2)),
            ("winds", MONDAY, nine),
        )
        assert as_of(project, journal_of(deliveries), MONDAY) == project.cutoff_at(MONDAY)
        known = known_deliveries(project, journal_of(deliveries), Interval.of(MONDAY)).filter(pl.col("feed") == "winds")
        assert known["day"].to_list() == [date(2026, 3, 7)]  # it goes on with the newest of its lookback

    def test_what_it_does_not_know_is_named(self, project: Project) -> None:
        known = pl.DataFrame({"run_date": [MONDAY], "feed": ["sailings"], "day": [MONDAY]})
        unknown = unknown_days(project, known, Interval.of(MONDAY))
        assert unknown["winds"] == {MONDAY: [date(2026, 3, 6), date(2026, 3, 7), MONDAY]}  # without the Sunday
        assert "sailings" not in unknown
        lacks = "winds: 2026-03-09 knows no accepted file of 2026-03-06, 2026-03-07, 2026-03-09, and goes on without"
        assert sentences(of_days({"winds": unknown["winds"]}, {})) == [lacks]
        nine, noon = project.at(MONDAY, time(9)), project.at(MONDAY, time(12))
        counts = f"counts from {nine:%Y-%m-%d %H:%M} UTC"
        listed = listing(project, ("winds", MONDAY, noon), ("winds", MONDAY, nine), ("sailings", SUNDAY, nine))
        assert sentences(of_days({"winds": unknown["winds"]}, counts_from(listed))) == [
            f"{lacks}; 1 of 3 have an accepted delivery by now that it could not know: that of 2026-03-09 {counts}"
        ]

    def test_too_many_files_that_came_too_late_are_an_error(self, load: Callable[..., Project]) -> None:
        """Files that never came do not count, and a run date with a record keeps what it knew."""
        keys = {"days": "mon-sat", "lookback_days": 3, "required": False}
        project = load(winds={**keys, "max_unknown_share": 0.5})
        known = pl.DataFrame({"run_date": [MONDAY], "feed": ["sailings"], "day": [MONDAY]})
        unknown = unknown_days(project, known, Interval.of(MONDAY))
        noon = project.at(MONDAY, time(12))
        files = [("winds", MONDAY - timedelta(days=n), noon) for n in (0, 2, 3)]
        one, two = (counts_from(listing(project, *files[:count])) for count in (1, 2))
        assert too_late(project, unknown, one, ()) == {}
        assert list(too_late(project, unknown, two, ())) == [MONDAY]
        assert (
            "ferries: 2 of the 3 days of winds that 2026-03-09 may read came too late for it, and feeds.winds."
            in (too_late(project, unknown, two, ())[MONDAY])
        )
        assert too_late(project, unknown, two, (MONDAY,)) == {}
        assert too_late(load(winds=keys), unknown, two, ()) == {}

    def test_history_of_the_same_weekday(self, project: Project) -> None:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        days = [SUNDAY - timedelta(days=n) for n in range(1, 30)]
        deliveries = listing(project, *(("winds", day, at) for day in days)).with_columns(
            rows=pl.when(pl.col("day").dt.weekday() == 7).then(10).otherwise(100).cast(pl.Int64)
        )
        before = rows_before(deliveries, "winds")
        later = at + timedelta(days=1)
        assert before(SUNDAY, later, 28, 7) == [10] * 4
        assert before(SUNDAY, later, 20, 7) == [10] * 2
        assert before(SUNDAY, later, 7) == [10] + [100] * 6
