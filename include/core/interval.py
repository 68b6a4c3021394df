"""Intervals of whole days. Timestamps and timezones do not belong here."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import Self

from pydantic import model_validator

from include.core.base import Record

BLOCK_DAYS = 31
"""The largest number of days that a step holds in memory at once."""


class Interval(Record):
    """Whole days, both ends included. Every step takes one."""

    start: date
    end: date

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"the interval ends on {self.end}, before it starts on {self.start}")
        return self

    @classmethod
    def of(cls, day: date) -> Self:
        """Return the interval of one day."""
        return cls(start=day, end=day)

    @classmethod
    def covering(cls, days: Iterable[date]) -> "list[Interval]":
        """Return exactly these days as the fewest possible intervals, in order."""
        found: list[Interval] = []
        for day in sorted(set(days)):
            if found and found[-1].end == day - timedelta(days=1):
                found[-1] = found[-1].shifted(end=1)
            else:
                found.append(Interval.of(day))
        return found

    @property
    def days(self) -> list[date]:
        """The days in order."""
        return [self.start + timedelta(days=n) for n in range((self.end - self.start).days + 1)]

    def shifted(self, *, start: int = 0, end: int = 0) -> "Interval":
        """Return the interval with its ends moved by whole days."""
        return Interval(start=self.start + timedelta(days=start), end=self.end + timedelta(days=end))

    def chunks(self, days: int) -> Iterator["Interval"]:
        """Yield the same days in order, at most `days` at a time."""
        for n in range(0, len(self.days), days):
            part = self.days[n : n + days]
            yield Interval(start=part[0], end=part[-1])

    def __str__(self) -> str:
        return str(self.start) if self.start == self.end else f"{self.start} to {self.end}"


def grouped_by_rows(days: Mapping[date, int], most: int) -> Iterator[list[date]]:
    """Yield the days, in order, in groups that have at most so many rows together, or of one day that has more.

    Args:
        days: day -> rows.
        most: the number of rows.
    """
    group: list[date] = []
    rows = 0
    for day, of_day in sorted(days.items()):
        if group and rows + of_day > most:
            yield group
            group, rows = [], 0
        group.append(day)
        rows += of_day
    if group:
        yield group
