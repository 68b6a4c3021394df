"""Periods that a project is reported on: weeks, months and quarters, and what `project.yaml` declares of them. Pure."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from include.core.base import Config, Record
from include.core.interval import Interval
from include.core.routes import connection_name

PeriodKind = Literal["week", "month", "quarter"]

PERIOD_KINDS: tuple[PeriodKind, ...] = get_args(PeriodKind)

_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
"""Not by `strftime`, which follows the locale of the machine."""


class Period(Record):
    """Whole run dates that one report is about: an ISO week, a calendar month or a quarter."""

    kind: PeriodKind
    days: Interval

    @classmethod
    def containing(cls, kind: PeriodKind, day: date) -> "Period":
        """Return the period of a kind that a day is in."""
        if kind == "week":
            start = day - timedelta(days=day.weekday())
            return cls(kind=kind, days=Interval(start=start, end=start + timedelta(days=6)))
        months = 1 if kind == "month" else 3
        first = (day.month - 1) // months * months + 1
        start = date(day.year, first, 1)
        after = date(day.year + (first + months > 12), (first + months - 1) % 12 + 1, 1)
        return cls(kind=kind, days=Interval(start=start, end=after - timedelta(days=1)))

    @classmethod
    def ended_before(cls, run_date: date, kinds: Iterable[PeriodKind]) -> "list[Period]":
        """Return the periods of these kinds whose report the run of a run date makes: they ended the day before."""
        found = [cls.containing(kind, run_date - timedelta(days=1)) for kind in PERIOD_KINDS if kind in [*kinds]]
        return [each for each in found if each.run_date == run_date]

    @property
    def run_date(self) -> date:
        """The run date whose run makes the report: the first one after the period, which knows all of it."""
        return self.days.end + timedelta(days=1)

    @property
    def before(self) -> "Period":
        """The period of the same kind before this one."""
        return self.containing(self.kind, self.days.start - timedelta(days=1))

    @property
    def name(self) -> str:
        """The name in paths and keys, which sorts by time: 2026-W10, 2026-03, 2026-Q1."""
        if self.kind == "week":
            year, week, _ = self.days.start.isocalendar()
            return f"{year}-W{week:02d}"
        start = self.days.start
        return f"{start:%Y-%m}" if self.kind == "month" else f"{start.year}-Q{(start.month + 2) // 3}"

    @property
    def title(self) -> str:
        """The name for people, such as `Week 10 of 2026`."""
        start = self.days.start
        if self.kind == "week":
            year, week, _ = start.isocalendar()
            return f"Week {week} of {year}"
        if self.kind == "month":
            return f"{_MONTHS[start.month - 1]} {start.year}"
        return f"Quarter {(start.month + 2) // 3} of {start.year}"


def outcome_window(period: Period, delay_days: int) -> Interval:
    """Return the days whose outcomes became known on the run dates of a report, each day in one report.

    With `delay_days` 1, these are the days of the period. Otherwise they are earlier: a report never waits for
    outcomes, and reports of consecutive periods leave none out.
    """
    return period.days.shifted(start=1 - delay_days, end=1 - delay_days)


def _known_once(kinds: tuple[PeriodKind, ...]) -> tuple[PeriodKind, ...]:
    if len({*kinds}) < len(kinds):
        raise ValueError("a period is listed twice")
    return kinds


class Reports(Config):
    """Which reports a project has, and who gets them."""

    periods: Annotated[tuple[PeriodKind, ...], AfterValidator(_known_once)] = Field(
        default=("week",), min_length=1, description="week, month, quarter: a report of each", examples=[["week"]]
    )
    to: tuple[Annotated[str, AfterValidator(connection_name)], ...] = Field(
        default=(),
        description="Airflow connections of those who get them: an e-mail has the PDF, other channels get the most "
        "important sentences and where the report is. Without one, reports are only stored",
        examples=[["managers_mail"]],
    )
    link: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s<>\"]+$",
        description="address under which people can open the folder `_reports` of the tables; without it, a message "
        "names the place in the store",
        examples=["https://files.example.com/nightly/_reports"],
    )
