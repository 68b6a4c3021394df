"""What `cli latency` prints."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from include.operations.latency import duration, words

LANDED = datetime(2013, 3, 2, 13, 0, 5, tzinfo=UTC)


def rows(*seconds: float, reconstructed: bool = False) -> pl.DataFrame:
    return pl.DataFrame([
        {
            "model": "late_ferry", "day": date(2013, 3, 2) - timedelta(days=n), "landed_at": LANDED,
            "ready_at": LANDED, "published_at": LANDED + timedelta(seconds=each), "prepare_seconds": each - 10,
            "publish_seconds": 10.0, "seconds": each, "reconstructed": reconstructed,
        }
        for n, each in enumerate(seconds)
    ])  # fmt: skip


@pytest.mark.parametrize("width", [80, 200])
def test_each_run_date_has_a_line_and_live_ones_are_summarised(width: int) -> None:
    found = pl.concat([rows(95.0, 65.0), rows(300_000.0, reconstructed=True)])
    lines = words(found, ZoneInfo("America/New_York"), "ferries", width)
    assert max(map(len, lines)) <= width
    assert " ".join(lines[1].split()) == "2013-03-02 late_ferry 03-02 08:00:05 1 m 25 s 10 s 1 m 35 s"
    assert lines[3].endswith("3 d 11 h  backfill")
    assert "ferries: 2 live run dates of models took 1 m 20 s (median), 1 m 35 s at most" in lines


def test_without_live_run_dates_there_is_no_figure() -> None:
    assert "ferries: no run date was live" in words(rows(9e5, reconstructed=True), ZoneInfo("UTC"), "ferries", None)
    assert words(rows(), ZoneInfo("UTC"), "ferries", None) == ["ferries: nothing is published of these run dates"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 m 00 s"), (185, "3 m 05 s"), (7620, "2 h 07 m"), (90_000, "1 d 01 h")],
)
def test_a_duration_has_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
