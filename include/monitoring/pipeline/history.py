"""Compare a value with its own history, robustly. Pure.

**Which days are looked at.** A rule of run date D looks at values of days up to D - 1: those of D may still be in the
making. Each of the newest `of` values is compared with the `history` values before it. A level that stays becomes
history itself, so an alert about it ends after about a week.

**Days without a value**, such as a weekend, say nothing: an alert lasts until the next value, for `KEPT_DAYS` at most.
Its incident would be over, and back again, with each of them otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median, quantiles
from typing import Self

from pydantic import Field, model_validator

from include.core.base import Config

MAD_TO_SIGMA = 1.4826
"""Of normally distributed values, the standard deviation is so many times the median absolute deviation."""

MAX_SIGMAS = 6
"""Values are unusual beyond so many standard deviations, estimated by the median absolute deviation."""


KEPT_DAYS = 7
"""So many days after the newest value, it is still what is known: a model that trains weekly has one a week."""


class Persistence(Config):
    """How long something has to be unusual, and against how much history."""

    days: int = Field(default=3, ge=1, description="so many unusual days raise an alert")
    of: int = Field(default=5, ge=1, description="newest days that are looked at")
    history: int = Field(default=28, ge=7, description="days before each of them that it is compared with")
    min_history: int = Field(default=14, ge=3, description="with fewer days before it, a day is not compared")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.days > self.of:
            raise ValueError(f"{self.days} days of the newest {self.of} are never reached; days is at most `of`")
        if self.min_history > self.history:
            raise ValueError("min_history is at most `history`")
        return self


@dataclass(frozen=True)
class Unusual:
    """A value far from its history on several of the newest days.

    Attributes:
        days: the unusual days, the newest last, with value and the median of the history before it.
        looked_at: how many of the newest days were looked at.
    """

    days: tuple[tuple[date, float, float], ...]
    looked_at: int

    @property
    def newest(self) -> tuple[date, float, float]:
        """The newest unusual day."""
        return self.days[-1]


def limits(history: Sequence[float], times: float, floor: float) -> tuple[float, float, float]:
    """Return the median of a history, and the values below and above which another value is unusual.

    A value has to differ from the median by `floor`, by the factor `times`, and by `MAX_SIGMAS` at once, and from the
    quartile on its side by `floor`: of values that are high every weekend, the median absolute deviation is 0.
    """
    middle = median(history)
    lower, _, upper = quantiles(history, n=4, method="inclusive")
    spread = MAX_SIGMAS * MAD_TO_SIGMA * median(abs(value - middle) for value in history)
    above = max(middle + max(floor, abs(middle) * (times - 1), spread), upper + floor)
    below = min(middle - max(floor, abs(middle) * (1 - 1 / times), spread), lower - floor)
    return middle, below, above


def unusual(
    values: Sequence[tuple[date, float]],
    newest_day: date,
    persistence: Persistence,
    *,
    times: float,
    floor: float,
    both_sides: bool = False,
) -> Unusual | None:
    """Return what is unusual up to a day; None if nothing is, if the newest value is not, or if that is too old.

    Args:
        values: day and value, the oldest first; later days than `newest_day` do not count.
        newest_day: the day; the newest value up to it has to be unusual, so that an alert ends with its cause.
        persistence: how long, against how much history.
        times: how many times the median.
        floor: the least difference from the median.
        both_sides: whether small values are unusual, too.
    """
    known = [each for each in values if each[0] <= newest_day]
    if not known or is_too_old(known[-1][0], newest_day):
        return None
    found, looked_at = [], range(max(0, len(known) - persistence.of), len(known))
    for at in looked_at:
        before = [value for _, value in known[max(0, at - persistence.history) : at]]
        if len(before) < persistence.min_history:
            continue
        middle, below, above = limits(before, times, floor)
        day, value = known[at]
        if value > above or (both_sides and value < below):
            found.append((day, value, middle))
    if len(found) < persistence.days or found[-1][0] != known[-1][0]:
        return None
    return Unusual(tuple(found), len(looked_at))


def is_too_old(day: date, newest_day: date) -> bool:
    """Return whether the value of a day says nothing about a later day any more."""
    return newest_day - day > timedelta(days=KEPT_DAYS)
