"""Local times as moments, on every day of every zone; and when a schedule starts."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.core.local_time import first_time, hours_of, moment_of

ZONES = st.sampled_from(sorted(available_timezones() - {"localtime", "Factory"})).map(ZoneInfo)
CHANGES = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Gaza"])
DAYS = st.dates(date(1950, 1, 1), date(2050, 12, 31))
TIMES = st.times().map(lambda t: t.replace(fold=0))


@pytest.mark.parametrize(
    ("zone", "day", "local", "moment"),
    [
        ("Europe/Berlin", date(2026, 3, 28), time(2, 30), "2026-03-28T01:30"),
        ("Europe/Berlin", date(2026, 3, 29), time(2, 30), "2026-03-29T01:00"),  # does not exist: the change
        ("Europe/Berlin", date(2026, 3, 29), time(2), "2026-03-29T01:00"),
        ("Europe/Berlin", date(2026, 3, 29), time(3), "2026-03-29T01:00"),
        ("Europe/Berlin", date(2026, 3, 29), time(1, 59, 59, 999999), "2026-03-29T00:59:59.999999"),
        ("Europe/Berlin", date(2026, 10, 25), time(2, 30), "2026-10-25T00:30"),  # comes twice: the first
        ("America/New_York", date(2026, 3, 8), time(2, 15), "2026-03-08T07:00"),
        ("Australia/Lord_Howe", date(2026, 10, 4), time(2, 10), "2026-10-03T15:30"),  # by half an hour
        ("Pacific/Apia", date(2011, 12, 30), time(12), "2011-12-30T10:00"),  # the whole day does not exist
        ("Asia/Kathmandu", date(2026, 3, 29), time(3), "2026-03-28T21:15"),
    ],
)  # fmt: skip
def test_on_days_when_the_clock_changes(zone: str, day: date, local: time, moment: str) -> None:
    assert moment_of(day, local, ZoneInfo(zone)) == datetime.fromisoformat(moment).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "day", "missing"),
    [
        ("Europe/Berlin", date(2026, 3, 29), ["02"]),
        ("Europe/Berlin", date(2026, 10, 25), []),  # 02 comes twice
        ("America/Havana", date(2026, 3, 8), ["00"]),
        ("Australia/Lord_Howe", date(2026, 10, 4), []),  # half of 02 is there
        ("UTC", date(2026, 3, 29), []),
    ],
)
def test_the_hours_of_a_day_are_those_that_a_clock_shows(zone: str, day: date, missing: list[str]) -> None:
    there = hours_of(day, ZoneInfo(zone))
    assert [hour for hour in (f"{n:02d}" for n in range(24)) if hour not in there] == missing


@given(ZONES | CHANGES.map(ZoneInfo), DAYS, TIMES)
def test_a_moment_shows_the_local_time_or_is_the_change_that_skips_it(zone: ZoneInfo, day: date, local: time) -> None:
    moment = moment_of(day, local, zone)
    seen = moment.astimezone(zone)
    wanted = datetime.combine(day, local)
    if seen.replace(tzinfo=None) == wanted:
        assert seen.fold == 0  # the first, if it comes twice
    else:
        before = (moment - timedelta(microseconds=1)).astimezone(zone)
        assert before.replace(tzinfo=None) < wanted < seen.replace(tzinfo=None)
        assert before.utcoffset() != seen.utcoffset()


@given(ZONES | CHANGES.map(ZoneInfo), DAYS, TIMES, TIMES)
def test_a_cutoff_up_to_the_schedule_is_never_after_the_run(zone: ZoneInfo, day: date, one: time, other: time) -> None:
    cutoff, schedule = min(one, other), max(one, other)
    assert moment_of(day, cutoff, zone) <= moment_of(day, schedule, zone)


@given(ZONES, st.integers(1950, 2050), TIMES)
def test_moments_of_consecutive_days_keep_their_order(zone: ZoneInfo, year: int, local: time) -> None:
    days = [date(year, 1, 1) + timedelta(days=n) for n in range(0, 366, 3)]
    moments = [moment_of(day, local, zone) for day in days]
    assert moments == sorted(moments)


@pytest.mark.parametrize(
    ("cron", "first"),
    [
        ("0 3 * * *", time(3)),
        ("30 4 * * mon-fri", time(4, 30)),
        ("*/15 2-4 * * *", time(2)),
        ("45,15 6,5 1 * *", time(5, 15)),
        ("5/20 */6 * * *", time(0, 5)),
        ("10 22-2 * * *", time(0, 10)),
        ("* * * * *", time()),
        ("0 3 * * * 30", time(3)),
        ("@daily", time()),
    ],
)
def test_the_first_time_of_a_schedule(cron: str, first: time) -> None:
    assert first_time(cron) == first


@pytest.mark.parametrize(
    "cron", ["", "3", "0 3 * *", "60 3 * * *", "0 24 * * *", "0 three * * *", "@nightly", "0 -3 * * *"]
)
def test_what_is_no_schedule(cron: str) -> None:
    with pytest.raises(ValueError, match="is not a cron expression; write minute, hour, day, month and weekday"):
        first_time(cron)
