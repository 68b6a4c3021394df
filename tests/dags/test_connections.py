"""Test settings from Airflow connections, for tasks and for the command line."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from dags import cli, connections
from include.config import loading
from include.core.routes import Route, Routing
from include.io.channels import channel_of
from tests.dags.conftest import ROOT

VARIABLES = {
    "NIGHTLY_LANDING": "/landing",
    "NIGHTLY_TABLES": "/tables",
    "NIGHTLY_ARTIFACTS": "/artifacts",
    "NIGHTLY_JOURNAL": "/journal",
    "NIGHTLY_DATABASE_URL": "postgresql://nowhere",
    "NIGHTLY_MLFLOW_TRACKING_URI": "unused",
    "NIGHTLY_HASH_KEY": "unused",
}
CONNECTIONS: dict[str, dict[str, Any]] = {
    "LANDING": {"conn_type": "generic", "extra": {"uri": "/landing"}},
    "TABLES": {
        "conn_type": "generic",
        "extra": {"uri": "/tables", "catalog": "main.nightly", "exports": "/out", "public_pages": "/web"},
    },
    "ARTIFACTS": {"conn_type": "generic", "extra": {"uri": "/artifacts"}},
    "JOURNAL": {"conn_type": "generic", "extra": {"uri": "/journal"}},
    "DATABASE": {"conn_type": "postgres", "host": "nowhere", "login": "nightly", "password": "plantedDatabasePassword"},
    "MLFLOW": {"conn_type": "generic", "password": "plantedMLflowUri", "extra": {"registry_uri": "databricks-uc"}},
    "HASH_KEY": {"conn_type": "generic", "password": "plantedHashKey"},
}
STORAGE = {
    "conn_type": "aws",
    "login": "key",
    "password": "secret",
    "extra": {"aws_session_token": "token", "endpoint_url": "http://127.0.0.1:1", "region_name": "eu-west-1"},
}
OPTIONS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_REGION": "eu-west-1",
}


def as_variables(made: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {f"AIRFLOW_CONN_NIGHTLY_{name}": json.dumps(connection) for name, connection in made.items()}


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in as_variables(CONNECTIONS).items():
        monkeypatch.setenv(name, value)


def run_cli(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m dags.cli` with all of Airflow's logging and these variables besides the caller's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTLY_")}
    environment = inherited | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG"} | variables
    command = [sys.executable, "-m", "dags.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_task_gets_its_settings_from_connections_only(connected: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*VARIABLES, "NIGHTLY_RUN_ID", "NIGHTLY_STORAGE_OPTIONS"]:
        monkeypatch.setenv(name, '{"left": "by a shell"}')
    settings = connections.resolve("scheduled__1", "abc")
    assert (settings.landing, settings.tables, settings.artifacts) == ("/landing", "/tables", "/artifacts")
    assert (settings.catalog, settings.run_id, settings.git_commit) == ("main.nightly", "scheduled__1", "abc")
    assert (settings.storage_options, settings.exports, settings.public_pages) == ({}, "/out", "/web")
    secrets = (settings.database_url, settings.mlflow_tracking_uri, settings.mlflow_registry_uri, settings.hash_key)
    assert [secret and secret.get_secret_value() for secret in secrets] == [
        "postgresql://nightly:plantedDatabasePassword@nowhere",
        "plantedMLflowUri",
        "databricks-uc",
        "plantedHashKey",
    ]


def test_a_task_always_knows_the_place_of_public_pages(connected: None, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {name: text for name, text in CONNECTIONS["TABLES"]["extra"].items() if name != "public_pages"}
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTLY_TABLES", json.dumps(CONNECTIONS["TABLES"] | {"extra": extra}))
    assert connections.resolve("scheduled__1", "abc").public_pages == "/tables/_public"


def test_variables_that_are_set_take_precedence_and_need_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connections.find_variables(VARIABLES) == {}
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTLY_TABLES", json.dumps(CONNECTIONS["TABLES"]))
    without_tables = VARIABLES | {"NIGHTLY_TABLES": "", "NIGHTLY_CATALOG": "main.other", "NIGHTLY_EXPORTS": "/other"}
    without_tables["NIGHTLY_PUBLIC_PAGES"] = "/other"
    assert connections.find_variables(without_tables) == {"NIGHTLY_TABLES": "/tables"}


def test_optional_settings_of_a_connection_are_found(connected: None) -> None:
    found = connections.find_variables({})
    assert set(found) == {
        *VARIABLES,
        "NIGHTLY_CATALOG",
        "NIGHTLY_EXPORTS",
        "NIGHTLY_MLFLOW_REGISTRY_URI",
        "NIGHTLY_PUBLIC_PAGES",
    }
    assert found["NIGHTLY_CATALOG"] == "main.nightly"


def test_the_command_line_gets_the_keys_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTLY_STORAGE", json.dumps(STORAGE))
    assert "NIGHTLY_STORAGE_OPTIONS" not in connections.find_variables(VARIABLES)
    found = connections.find_variables(VARIABLES | {"NIGHTLY_LANDING": "s3://bucket/landing"})
    assert json.loads(found["NIGHTLY_STORAGE_OPTIONS"]) == OPTIONS
    assert "NIGHTLY_STORAGE_OPTIONS" in connections.find_variables(VARIABLES | {"NIGHTLY_EXPORTS": "s3://bucket/out"})
    given = VARIABLES | {"NIGHTLY_LANDING": "s3://bucket/landing", "NIGHTLY_STORAGE_OPTIONS": "{}"}
    assert connections.find_variables(given) == {}


@pytest.mark.parametrize(
    ("connection_id", "why"),
    [
        ("nightly_landing", r'connection nightly_landing: its extra must be \{"uri": "<folder or s3://…>"\}'),
        ("nightly_hash_key", "connection nightly_hash_key: its password must be the secret"),
    ],
)
def test_an_incomplete_connection_fails_with_what_it_lacks(
    connection_id: str, why: str, connected: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{connection_id.upper()}", '{"conn_type": "generic"}')
    with pytest.raises(AirflowFailException, match=why):
        connections.resolve("test", "abc")


def test_a_missing_connection_is_named() -> None:
    with pytest.raises(AirflowNotFoundException, match=r"no connection nightly_landing; docs/configuration\.md says"):
        connections.resolve("test", "abc")


def test_the_command_line_prints_its_record_only_and_no_secret() -> None:
    storage = as_variables({"STORAGE": STORAGE | {"login": "plantedKeyId", "password": "plantedSecretKey"}})
    on_s3 = as_variables(CONNECTIONS) | storage | {"NIGHTLY_LANDING": "s3://bucket/landing"}
    done = run_cli("preflight", "--dag", "nobody", "--start", "2013-03-01", **on_s3)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] is None
    assert "planted" not in done.stdout + done.stderr


def test_the_command_line_names_a_missing_connection() -> None:
    done = run_cli("preflight", "--dag", "nobody", "--start", "2013-03-01")
    assert (done.returncode, done.stdout) == (2, "")
    assert "\nthere is no connection nightly_landing; docs/configuration.md" in done.stderr


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        (
            {"conn_type": "postgres", "host": "db", "login": "reader", "password": "p@ss", "schema": "shop"},
            "postgresql://reader:p%40ss@db/shop",
        ),
        ({"conn_type": "sqlite", "host": "/data/shop.sqlite"}, "sqlite:////data/shop.sqlite"),
        (
            {
                "conn_type": "mssql",
                "host": "db",
                "port": 1433,
                "login": "reader",
                "password": "p",
                "schema": "shop",
                "extra": {"sqlalchemy_scheme": "mssql+pymssql", "charset": "utf8"},
            },
            "mssql+pymssql://reader:p@db:1433/shop?charset=utf8",
        ),
    ],
)
def test_the_databases_of_feeds_come_from_their_connections(
    connection: dict[str, Any], url: str, connected: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", json.dumps(connection))
    monkeypatch.setenv("NIGHTLY_SOURCES", '{"left": "by a shell"}')
    found = connections.resolve("test", "abc", ["shop_db"])
    assert {name: secret.get_secret_value() for name, secret in found.sources.items()} == {"shop_db": url}
    assert connections.resolve("test", "abc").sources == {}
    with pytest.raises(AirflowNotFoundException, match="no connection other_db"):
        connections.resolve("test", "abc", ["other_db"])


def test_the_command_line_gets_the_databases_that_have_a_connection(
    connected: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.core.project.Project.connections", ["gone_db", "shop_db"])
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", '{"conn_type": "sqlite", "host": "/data/shop.sqlite"}')
    found = connections.find_variables(VARIABLES)
    assert {name: json.loads(value) for name, value in found.items()} == {
        "NIGHTLY_SOURCES": {"shop_db": "sqlite:////data/shop.sqlite"}
    }


def test_the_command_line_gets_the_address_of_messages(connected: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert connections.find_variables(VARIABLES) == {}
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTLY_ALERTS", '{"conn_type": "generic", "password": "https://hooks/x"}')
    found = connections.find_variables(VARIABLES)
    assert found == {"NIGHTLY_DESTINATIONS": '{"nightly_alerts": "https://hooks/x"}'}
    assert connections.find_variables(VARIABLES | found) == {}


def test_the_command_line_gets_the_addresses_of_programs_too(connected: None, monkeypatch: pytest.MonkeyPatch) -> None:
    told = loading.load_model("late_ferry").model_copy(update={"champion_messages": "nightly_models"})
    monkeypatch.setattr(loading, "load_model", lambda name: told)
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTLY_MODELS", '{"conn_type": "generic", "password": "https://models/x"}')
    found = connections.find_variables(VARIABLES)
    assert found == {"NIGHTLY_DESTINATIONS": '{"nightly_models": "https://models/x"}'}


def test_the_extra_of_a_connection_says_its_channel(connected: None, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"channel": "webhook", "secret": "a-secret-of-the-desk"}
    made = {"conn_type": "generic", "password": "https://desk/token", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(made))
    address = connections.find_address("desk")
    assert address is not None and json.loads(address) == {**extra, "url": "https://desk/token"}
    assert channel_of("desk", address).kind == "webhook"
    assert connections.find_address("gone") is None


def test_the_command_line_gets_the_address_of_each_route(connected: None, monkeypatch: pytest.MonkeyPatch) -> None:
    routing = Routing(project="ferries", routes=(Route(to="desk"), Route(to="gone")))
    monkeypatch.setattr("include.config.loading.load_routing", lambda project: routing)
    monkeypatch.setenv("AIRFLOW_CONN_DESK", '{"conn_type": "generic", "password": "https://desk/x"}')
    assert json.loads(connections.find_variables(VARIABLES)["NIGHTLY_DESTINATIONS"]) == {"desk": "https://desk/x"}


def test_the_watcher_gets_the_database_and_addresses_only(monkeypatch: pytest.MonkeyPatch) -> None:
    database = {"conn_type": "postgres", "host": "db", "login": "writer", "schema": "nightly"}
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTLY_DATABASE", json.dumps(database))
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTLY_ALERTS", '{"conn_type": "generic", "password": "https://hooks/x"}')
    assert connections.find_notifying({}) == {
        "NIGHTLY_DATABASE_URL": "postgresql://writer@db/nightly",
        "NIGHTLY_DESTINATIONS": '{"nightly_alerts": "https://hooks/x"}',
    }


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        (
            {"host": "/run/pg", "login": "nightly", "schema": "nightly"},
            "postgresql://nightly@/nightly?host=%2Frun%2Fpg",
        ),
        (
            {
                "host": "db",
                "port": 5433,
                "login": "n",
                "password": "p@ss/word",
                "schema": "shared",
                "extra": '{"sslmode": "require"}',
            },
            "postgresql://n:p%40ss%2Fword@db:5433/shared?sslmode=require",
        ),
    ],
)
def test_the_database_url_comes_from_the_connection(connection: dict[str, Any], url: str) -> None:
    found = Connection(conn_id="nightly_database", conn_type="postgres", **connection)
    assert connections._database_url(found) == url


def test_only_migrate_finds_the_owner_of_the_database(connected: None, monkeypatch: pytest.MonkeyPatch) -> None:
    variable, owner = "NIGHTLY_DATABASE_OWNER_URL", {"conn_type": "postgres", "host": "db", "login": "owner"}
    assert connections.find_owner({}) == {}, "the connection is optional"
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTLY_DATABASE_OWNER", json.dumps({**owner, "schema": "nightly"}))
    assert connections.find_owner({}) == {variable: "postgresql://owner@db/nightly"}
    assert connections.find_owner({variable: "given"}) == {}
    assert variable not in connections.find_variables({})
    for changed in ("_AIRFLOW_PROCESS_CONTEXT", "AIRFLOW__LOGGING__LOGGING_LEVEL"):  # by the command
        monkeypatch.setenv(changed, os.environ.get(changed, ""))
    for command, found in (("migrate", True), ("check", False)):
        monkeypatch.setattr(os, "execve", lambda _, arguments, environment: pytest.fail(str(environment)))
        with pytest.raises(pytest.fail.Exception) as started:
            cli.main([command])
        assert (variable in str(started.value)) == found
