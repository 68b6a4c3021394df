"""Personal data in every column of every feed of `flights` is found in nothing that land and validate store or say."""

from datetime import timedelta

import polars as pl
import pytest

from include.config.loading import load_project
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.operations.simulate import deliver, usual_available_at
from tests.flights.landing import DAY
from tests.planting import Told, assert_nothing_planted, free_text, plant, quality_results, shared_database, stored

pytestmark = pytest.mark.timeout(300)

TAILNUM = "N7ZQX1"
BEFORE = DAY - timedelta(days=1)


def planted(project: Project) -> dict[str, pl.DataFrame]:
    """Map each feed to its rows. Few enough are wrong in all but `weather`, in which more rows are not allowed."""
    flight = {"carrier": "UA", "flight": "7", "origin": "EWR", "dest": "LAX"}
    numbers = [str(n) for n in range(1, 4000)]
    schedule = {
        **flight,
        "scheduled_departure": f"{DAY}T15:00:00Z",
        "scheduled_arrival_local": "1530",
        "distance_miles": "2454.0",
        "is_holiday": "false",
        "contact_email": "pilot@planted.example",
    }
    actuals = {
        **flight,
        "scheduled_departure": f"{BEFORE}T15:00:00Z",
        "tailnum": "N123AB",
        **dict.fromkeys(("dep_delay_minutes", "arr_delay_minutes", "air_time_minutes"), "7.0"),
    }
    weather = {**dict.fromkeys(project.feeds["weather"].columns, "5.0"), "origin": "EWR"}
    times = [f"{DAY}T{15 + n // 60}:{n % 60:02}:00Z" for n in range(300)]
    feeds = project.feeds
    return {
        "schedule": plant(feeds["schedule"], schedule, ("flight", numbers), TAILNUM, times=25),
        "actuals": plant(feeds["actuals"], actuals, ("flight", numbers), TAILNUM, times=25),
        "weather": plant(feeds["weather"], weather, ("observed_at", times), TAILNUM),
    }


def test_planted_values_are_neither_stored_nor_shown(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    project, told = load_project("flights"), Told(caplog)
    for feed, rows in planted(project).items():
        assert not free_text(project.feeds[feed])  # so that each column was planted
        day = project.feeds[feed].needed_day(DAY)
        deliver(project, feed, day, rows, available_at=usual_available_at(project, feed, day), settings=settings)
    told.run("land", project, Interval.of(DAY), settings)
    with pytest.raises(DataError, match="no accepted delivery of weather"):
        told.run("validate", project, Interval.of(DAY), settings)
    results = quality_results(settings)
    assert "(form aaaaa aaaaaaaaaa)" in results
    found = [*stored(settings, shared_database(settings)), *told.texts()]
    assert_nothing_planted(found, TAILNUM)
    quarantined = [where for where, _ in found if where.startswith("rows of") and "quarantine_flights__" in where]
    assert len(quarantined) == 2
    assert any(".html" in where for where, _ in found)
