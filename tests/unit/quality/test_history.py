"""`row_count_to_be_near_history`: with which days before a delivery is compared."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from include.config.loading import load_project
from include.core import schemas
from include.core.errors import ConfigError
from include.core.project import Project
from include.quality.suites import Suites

NEAR = "row_count_to_be_near_history, days: {days}, min_ratio: 0.5, max_ratio: 1.5, severity: critical"


@pytest.fixture
def suites(tmp_path: Path) -> Callable[..., Suites]:
    """Make the suites of `ferries` with one rule about the history of winds, and a calendar."""

    def make(rule: str, **calendar: Any) -> Suites:
        found = load_project("ferries")
        winds = found.feeds["winds"].model_copy(update=calendar)
        (tmp_path / "expectations.yaml").write_text(f"winds:\n- {{expect: {rule}}}\n", encoding="utf-8")
        project: Project = found.model_copy(update={"folder": tmp_path, "feeds": {**found.feeds, "winds": winds}})
        return Suites(project)

    return make


def observe(suites: Suites, rows: int, history: Callable[[int, int], Sequence[int]]) -> tuple[bool, str | None]:
    project = load_project("ferries")
    types = {**schemas.raw(project.feeds["winds"]), **schemas.clean(project, project.feeds["winds"])}
    frame = pl.DataFrame(schema=types).clear(rows)
    [finding] = [
        each for each in suites.findings("winds", [frame], [history])[0] if each.expectation.startswith("row_count")
    ]
    return finding.success, finding.observed


def test_a_sunday_is_compared_with_sundays_in_a_feed_with_days(suites: Callable[..., Suites]) -> None:
    made = suites(NEAR.format(days=28), days=("mon", "sun"))
    asked = []

    def history(days: int, step: int) -> list[int]:
        asked.append((days, step))
        return [10, 10, 12, 8]

    held, observed = observe(made, 11, history)
    assert (held, observed) == (True, "11 rows, the median of 4 days of the same weekday before is 10")
    assert observe(made, 100, history)[0] is False
    assert asked == [(28, 7)] * 2


def test_two_sundays_are_no_history(suites: Callable[..., Suites]) -> None:
    made = suites(f"{NEAR.format(days=28)}, by: weekday")
    assert observe(made, 11, lambda days, step: [100, 100]) == (True, "no history yet")


@pytest.mark.parametrize(("by", "calendar"), [("", None), (", by: day", ("mon", "sun"))])
def test_all_days_are_compared_without_days_or_when_declared(
    suites: Callable[..., Suites], by: str, calendar: tuple[str, ...] | None
) -> None:
    made = suites(f"{NEAR.format(days=14)}{by}", days=calendar)
    assert observe(made, 11, lambda days, step: [10] * (days // step)) == (
        True,
        "11 rows, the median of 14 days before is 10",
    )


def test_too_few_days_for_weekdays_are_refused_with_the_line(suites: Callable[..., Suites]) -> None:
    with pytest.raises(ConfigError) as caught:
        suites(NEAR.format(days=14), days=("mon", "sun"))
    assert "expectations.yaml, line 2: winds, entry 1: days: 14 days have fewer than 3 of each weekday" in str(
        caught.value
    )
    assert str(caught.value).endswith("write 28, or by: day")


def test_by_is_day_or_weekday(suites: Callable[..., Suites]) -> None:
    with pytest.raises(ConfigError, match=r"unexpected value; permitted: 'day', 'weekday'"):
        suites(f"{NEAR.format(days=28)}, by: week")
