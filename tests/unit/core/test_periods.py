"""Periods: where they begin and end, what they are called, and which run date makes a report."""

import itertools
from datetime import date, timedelta

import pytest
from pydantic import ValidationError

from include.core.interval import Interval
from include.core.periods import Period, PeriodKind, Reports, outcome_window


@pytest.mark.parametrize(
    ("kind", "day", "start", "end", "name", "title"),
    [
        ("week", "2026-03-04", "2026-03-02", "2026-03-08", "2026-W10", "Week 10 of 2026"),
        ("week", "2027-01-01", "2026-12-28", "2027-01-03", "2026-W53", "Week 53 of 2026"),
        ("week", "2024-12-30", "2024-12-30", "2025-01-05", "2025-W01", "Week 1 of 2025"),
        ("month", "2024-02-29", "2024-02-01", "2024-02-29", "2024-02", "February 2024"),
        ("month", "2026-12-31", "2026-12-01", "2026-12-31", "2026-12", "December 2026"),
        ("quarter", "2026-02-10", "2026-01-01", "2026-03-31", "2026-Q1", "Quarter 1 of 2026"),
        ("quarter", "2026-12-31", "2026-10-01", "2026-12-31", "2026-Q4", "Quarter 4 of 2026"),
    ],
)
def test_a_period_has_whole_days_and_a_name_that_sorts(
    kind: PeriodKind, day: str, start: str, end: str, name: str, title: str
) -> None:
    period = Period.containing(kind, date.fromisoformat(day))
    assert period.days == Interval(start=date.fromisoformat(start), end=date.fromisoformat(end))
    assert (period.name, period.title) == (name, title)


@pytest.mark.parametrize("kind", ["week", "month", "quarter"])
def test_periods_of_a_kind_have_each_day_once_and_one_run_date_each(kind: PeriodKind) -> None:
    days = Interval(start=date(2023, 12, 2), end=date(2027, 1, 31)).days
    periods = list(dict.fromkeys(Period.containing(kind, day) for day in days))
    for before, after in itertools.pairwise(periods):
        assert before.days.end + timedelta(days=1) == after.days.start == before.run_date
        assert after.before == before
        assert before.name < after.name
    made = [each for day in days for each in Period.ended_before(day, [kind])]
    assert made == [each for each in periods if days[0] <= each.run_date <= days[-1]]


def test_a_run_date_makes_only_the_reports_that_are_declared() -> None:
    first_of_july = date(2024, 7, 1)  # a Monday
    assert [each.name for each in Period.ended_before(first_of_july, ["quarter", "week", "month"])] == [
        "2024-W26",
        "2024-06",
        "2024-Q2",
    ]
    assert [each.name for each in Period.ended_before(first_of_july, ["month"])] == ["2024-06"]
    assert Period.ended_before(date(2024, 7, 2), ["week", "month", "quarter"]) == []


@pytest.mark.parametrize("delay_days", [1, 7])
def test_outcomes_of_each_day_are_in_exactly_one_report(delay_days: int) -> None:
    first = Period.containing("month", date(2026, 1, 1))
    second = Period.containing("month", date(2026, 2, 1))
    assert outcome_window(first, delay_days).end == first.run_date - timedelta(days=delay_days)
    assert outcome_window(second, delay_days).start == outcome_window(first, delay_days).end + timedelta(days=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"periods": ["year"]},
        {"periods": []},
        {"periods": ["week", "week"]},
        {"to": ["https://hooks.example.com/secret"]},
        {"link": "s3://reports"},
    ],
)
def test_wrong_declarations_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Reports.model_validate(wrong)
