"""Test how the operator logs in: with a token, or as a service principal over TLS, with tokens that expire.

Its trigger uses another library. `test_live.py` tests that: its Airflow logs in as a service principal.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from tests.databricks.conftest import Databricks, workspace
from tests.databricks.test_submit_once import Task, ends

pytestmark = pytest.mark.timeout(60)

CONNECTION = "AIRFLOW_CONN_DATABRICKS_DEFAULT"


@pytest.fixture
def secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Databricks]:
    with workspace(tmp_path / "workspace", tls=True) as found:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(found.certificate))
        monkeypatch.setenv(CONNECTION, found.connection)
        yield found


def test_a_service_principal_gets_another_token_when_one_expires(secured: Databricks) -> None:
    secured.plan("outcomes", [ends("SUCCESS", pending_seconds=7)])  # tokens are renewed after five
    Task(deferrable=False).attempt()
    assert secured.results == ["SUCCESS"]
    assert secured.state["requests"].count("POST /oidc/v1/token") == 2


def test_a_wrong_secret_fails_with_the_reason(secured: Databricks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONNECTION, json.dumps(json.loads(secured.connection) | {"password": "another one"}))
    with pytest.raises(AirflowException, match=r"Client authentication failed.*401"):
        Task(deferrable=False).attempt()
    assert not secured.runs


def test_a_wrong_token_fails_with_the_reason(databricks: Databricks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONNECTION, json.dumps(json.loads(databricks.connection) | {"password": "another one"}))
    with pytest.raises(AirflowFailException, match=r"refused the run of step.*Invalid access token"):
        Task(deferrable=False).attempt()
    assert not databricks.runs
