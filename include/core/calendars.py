"""The days on which a feed has a file: its weekdays, without holidays. Pure; `config` reads a file of dates."""

import re
from collections.abc import Iterable
from datetime import date
from functools import cache
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from include.core.base import Config
from include.core.errors import nearest

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)


def _weekdays(written: Any) -> Any:
    """Return the weekdays of `mon-sat`, `mon-fri, sun` or a list of such, in the order of the week."""
    parts = re.split(r"\s*,\s*", written.strip()) if isinstance(written, str) else written
    if not isinstance(parts, list | tuple) or not parts or not all(isinstance(part, str) for part in parts):
        raise ValueError("write weekdays as mon-sat, or as [mon, wed, fri]")
    found = {day for part in parts for day in _range(part)}
    return tuple(day for day in WEEKDAYS if day in found)


def _range(part: str) -> Iterable[Weekday]:
    ends = [end.strip().lower() for end in part.split("-")]
    for end in ends:
        if end not in WEEKDAYS:
            raise ValueError(f"there is no weekday {end!r}{nearest(end, WEEKDAYS)}")
    if len(ends) > 2:
        raise ValueError(f"{part!r} is not a range of weekdays; write it as mon-sat")
    first, last = WEEKDAYS.index(ends[0]), WEEKDAYS.index(ends[-1])
    return [WEEKDAYS[n % 7] for n in range(first, (last if last >= first else last + 7) + 1)]


Weekdays = Annotated[
    tuple[Weekday, ...],
    BeforeValidator(_weekdays),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""Weekdays as a range, or as a list of weekdays and ranges."""


class Holidays(Config):
    """Days without a file: the public holidays of a country or region, and dates of a list or file."""

    country: str | None = Field(
        default=None,
        description="ISO code of a country whose public holidays (of the library `holidays`) have no file",
        examples=["DE"],
    )
    subdivision: str | None = Field(
        default=None, description="code of a region of that country, for its own holidays too", examples=["BE"]
    )
    dates: tuple[date, ...] = Field(
        default=(), description="more days without a file", examples=[["2026-12-24", "2026-12-31"]]
    )
    file: str | None = Field(
        default=None,
        description="a file in the project's folder with more such days: an ISO date a line, # begins a comment",
        examples=["holidays.txt"],
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.subdivision and not self.country:
            raise ValueError("subdivision: it needs a country")
        if not (self.country or self.dates or self.file):
            raise ValueError("name a country, dates or a file")
        if self.country is None:
            return self
        from holidays import list_supported_countries  # takes 0.1 s, which only calendars need

        known = list_supported_countries()
        if self.country not in known:
            raise ValueError(f"country: the library holidays has no {self.country!r}; write an ISO code such as DE")
        if self.subdivision and self.subdivision not in known[self.country]:
            meant = nearest(self.subdivision, known[self.country])
            raise ValueError(f"subdivision: {self.country} has no {self.subdivision!r}{meant}")
        return self

    def include(self, day: date) -> bool:
        """Return whether a day is a holiday."""
        if day in self.dates:
            return True
        return self.country is not None and day in _public_holidays(self.country, self.subdivision, day.year)


@cache
def _public_holidays(country: str, subdivision: str | None, year: int) -> frozenset[date]:
    from holidays import country_holidays

    return frozenset(country_holidays(country, subdiv=subdivision, years=year))
