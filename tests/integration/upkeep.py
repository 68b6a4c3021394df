"""Maintenance in processes of its own, for tests that run it beside writers or kill it."""

from datetime import date, timedelta
from typing import Any

from include.config.loading import load_project
from include.core.interval import Interval
from include.core.settings import Settings
from include.io.table_upkeep import compact
from include.io.tables import Scope, Tables
from include.operations.maintain import maintain
from tests.writers import TABLE, frame

NO_GRACE = timedelta(0)


def write_parts(tables: Tables, day: date, *names: str) -> int:
    """Write one file for each name into a day; return the newest version."""
    for name in names:
        scope = Scope(Interval.of(day), {"who": [name]})
        tables.replace(TABLE, frame(day, 1, 2, 3, who=name), scope, sort_by=["value"])
    return tables.version(TABLE)


def compact_before(day: str) -> int:
    """Compact the days before `day`; return how many files became larger ones."""
    return compact(Tables(Settings()), TABLE, date.fromisoformat(day)).files


def replace_part(day: str, name: str, times: int) -> int:
    """Replace a part of a day some times, with other values each time; return the newest version."""
    tables, made = Tables(Settings()), 0
    scope = Scope(Interval.of(date.fromisoformat(day)), {"who": [name]})
    for n in range(times):
        rows = frame(date.fromisoformat(day), n, n + 1, who=name)
        made = tables.replace(TABLE, rows, scope, sort_by=["value"]).version
    return made


def maintain_now(day: str) -> dict[str, Any]:
    """Maintain the project as of a day, as if nothing ran that did not record yet what it reads."""
    done = maintain(load_project("ferries"), Interval.of(date.fromisoformat(day)), Settings(), grace=NO_GRACE)
    return done.model_dump(mode="json")
