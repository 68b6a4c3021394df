"""An estimate raises an alert when it is clearly under what came true, and only while estimates came true."""

from datetime import date, timedelta

import pytest

from include.monitoring.estimate import EstimateMonitor, ExpectedMetric
from include.monitoring.records import DayValue

FIRST = date(2013, 1, 1)
KNOWN = 20


def compare(newest: list[float], *, error: float = 0.01, days: int = KNOWN, rows: int = 500) -> str:
    """Return what is said if so many days came true near 0.8, and the days after them are estimated."""
    values = [0.8 + error] * days + newest
    estimates = [ExpectedMetric(FIRST + timedelta(days=n), 1, value, rows) for n, value in enumerate(values)]
    came_true = [DayValue(FIRST + timedelta(days=n), 1, 0.8) for n in range(days)]
    return EstimateMonitor().compare(estimates, came_true)


def test_an_estimate_that_is_clearly_lower_is_an_alert() -> None:
    said = compare([0.8, 0.8, 0.7, 0.71, 0.72])
    assert said.startswith("is expected to be under 0.800, what came true on 20 days, by more than 0.05 on 3 of the ")
    assert "2013-01-23: 0.700" in said and "Such estimates were off by 0.010 in the mean" in said


@pytest.mark.parametrize(
    "silent",
    [
        {"newest": [0.8, 0.8, 0.8, 0.7, 0.7]},
        {"newest": [0.76] * 5},
        {"newest": [0.7] * 5, "error": 0.031},
        {"newest": [0.7] * 5, "days": 9},
        {"newest": [0.7] * 5, "rows": 99},
        {"newest": [0.7] * 2},
    ],
    ids=["two days only", "a small drop", "estimates were wrong lately", "too few days came true", "few rows", "new"],
)
def test_otherwise_nothing_is_said(silent: dict[str, object]) -> None:
    assert compare(**silent) == ""  # type: ignore[arg-type]
