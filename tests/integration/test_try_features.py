"""try_features and the notebook: what a person sees of prepared data, without Spark."""

import ast
import subprocess
import sys
from datetime import timedelta

import polars as pl
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from include.config.loading import load_model, load_project
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres
from include.operations.try_features import EntityFeatures, lines, try_features
from include.steps.publish import publish
from tests.integration import small
from tests.integration.test_outdated import record
from tests.own_projects import FOLDER
from tools.notebook import read
from tools.notebook.__main__ import NOTEBOOK, environment

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


def test_the_notebook_reads_with_the_rights_of_ops_reader(prepared: Settings, project: Project) -> None:
    small.promoted(prepared, "late_ferry", 1, DAY)
    small.score(prepared, project, "late_ferry", DAY)
    publish(load_model("late_ferry"), Interval.of(DAY), prepared)
    with postgres.connection.engine(prepared).begin() as connection:
        connection.execute(sa.text("DROP ROLE IF EXISTS of_notebook"))
        connection.execute(sa.text("CREATE ROLE of_notebook LOGIN IN ROLE ops_reader"))
    url = sa.make_url(prepared.database_url.get_secret_value()).set(username="of_notebook")
    reader = prepared.model_copy(update={"database_url": SecretStr(url.render_as_string(hide_password=False))})
    assert read.prepared_days(reader, "ferries")["day"].to_list() == [DAY]
    assert read.features(reader, "ferries", DAY)["entity_id"].to_list() == [
        FERRY.replace("UA-2", f"UA-{n}") for n in range(4)
    ]
    found = read.predictions(reader, "late_ferry", DAY)
    assert found["score"].to_list() == pytest.approx([0.01, 0.11, 0.21, 0.31])
    assert found["outcome_known"].to_list() == [False] * 4
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        read._query(reader, "SELECT * FROM prepared_days")


def test_the_notebook_gets_no_secret_but_that_login(settings: Settings) -> None:
    given = {**settings.variables(), "OPS_READER_URL": "postgresql://olga@host/nightly", "PATH": "/usr/bin"}
    given["NIGHTLY_DATABASE_OWNER_URL"] = "postgresql://migrator:secret@host/nightly"
    passed = environment(given, "ferries")
    assert passed["NIGHTLY_DATABASE_URL"] == "postgresql://olga@host/nightly"
    assert passed["NIGHTLY_HASH_KEY"] == "none"
    secrets = {settings.hash_key.get_secret_value(), settings.database_url.get_secret_value(), "secret"}
    assert not [value for value in passed.values() if any(secret in value for secret in secrets)]
    with pytest.raises(KeyError, match="OPS_READER_URL"):
        environment(settings.variables(), "ferries")


def test_the_notebook_calls_readers_that_exist() -> None:
    """marimo is not installed where tests run."""
    tree = ast.parse(NOTEBOOK.read_text(encoding="utf-8"))
    called = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "read"
    }
    assert called == {"prepared_days", "features", "predictions"}
    assert all(hasattr(read, name) for name in called)
