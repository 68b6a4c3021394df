"""try_features: one entity's features and the rows that they can have come from, without Spark."""

import subprocess
import sys
from datetime import timedelta

import polars as pl
import pytest

from include.config.loading import load_project
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.operations.try_features import EntityFeatures, lines, try_features
from tests.integration import small
from tests.integration.test_outdated import record
from tests.own_projects import FOLDER

DAY = small.DAY + timedelta(days=2)
FERRY = "UA-2-BAT-20130303T1500Z"


@pytest.fixture
def project() -> Project:
    return load_project("ferries").model_copy(update={"first_day": small.DAY})


@pytest.fixture
def prepared(settings: Settings, project: Project) -> Settings:
    """Three days of four ferries, the last of which knows the logbooks of the two before."""
    days = [small.DAY, small.DAY + timedelta(days=1), DAY]
    small.prepare(settings, project, *days, recorded=False)
    for number, day in enumerate(days):
        moment = small.as_of(day + timedelta(days=1)) - timedelta(hours=1)
        delays = [10.0 * number, 1.0, 20.0 + number, None]
        small.deliver(settings, project, "winds", day, pl.DataFrame(), available_from=small.as_of(day))
        small.deliver(settings, project, "logbook", day, small.logbook_of(day, delays), available_from=moment)
    record(settings, project, Interval.of(DAY), "point_in_time")
    return settings


def look_up(settings: Settings, project: Project, *entity: str) -> EntityFeatures:
    return try_features(project, DAY, entity, settings)


def test_features_and_rows_of_one_entity_are_shown(prepared: Settings, project: Project) -> None:
    found = look_up(prepared, project, FERRY)
    assert found.features.height == 1
    sailings, logbook = found.feeds
    assert (sailings.feed, sailings.count, sailings.rows["ferry"].to_list()) == ("sailings", 1, [2])
    assert logbook.matched == ("company", "ferry", "origin")
    assert logbook.rows["delay_minutes"].to_list() == [21.0, 20.0], "the newest first, and none that came later"
    assert logbook.by_column["company"] == 8
    assert logbook.by_column["ferry"] == 2
    assert "contact_email" not in sailings.rows.columns
    report = "\n".join(lines(found))
    assert f"{FERRY}, run date {DAY}, as of 2013-03-03 08:00 UTC" in report
    assert "logbook: 2 rows with the same company, ferry, origin (company alone 8, ferry alone 2" in report
    assert "| 2013-03-02 |" in report


def test_an_entity_is_named_by_its_id_or_by_columns_of_its_key(prepared: Settings, project: Project) -> None:
    assert look_up(prepared, project, "ferry=2", "origin=BAT").entity_id == FERRY
    with pytest.raises(ActionRequiredError, match=r"4 entities of 2013-03-03 are company=UA; .*UA-0-BAT"):
        look_up(prepared, project, "company=UA")
    with pytest.raises(ActionRequiredError, match=r"no entity ferry=9 on 2013-03-03\. Some that it has: UA-"):
        look_up(prepared, project, "ferry=9")
    with pytest.raises(ActionRequiredError, match="did you mean 'origin'"):
        look_up(prepared, project, "orgin=BAT")
    with pytest.raises(ActionRequiredError, match=r"2013-03-09 is not prepared.* prepare --project ferries"):
        try_features(project, DAY + timedelta(days=6), [FERRY], prepared)


def test_the_command_starts_neither_spark_nor_mlflow(prepared: Settings) -> None:
    """Either takes longer than the whole answer may."""
    code = (
        "import sys; from include import cli\n"
        f"sys.argv = ['cli', 'try_features', '--project', 'ferries', '--day', '{DAY}', '--entity', '{FERRY}']\n"
        "try:\n    cli.main()\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        "print('loaded', [name for name in ('pyspark', 'mlflow', 'sklearn') if name in sys.modules])"
    )
    environment = {**prepared.variables(), "NIGHTLY_PROJECTS": str(FOLDER), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert FERRY in done.stdout
    assert "loaded []" in done.stdout
