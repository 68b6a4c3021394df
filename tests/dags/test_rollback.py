"""`<model>_rollback` of a model that scores on Databricks: what is submitted, and what readers see before and after.

The tasks are those of the DAG, and `score` talks with the emulated workspace over HTTP. The run itself is no process of
the emulator: each test executes the submitted call, because the project of the tests is in no wheel.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from dags import common, databricks, params, rollback, scoring
from include.config.loading import load_project
from include.core.project import Databricks as Place
from include.core.settings import Settings
from include.io import postgres
from include.io.tables import Tables
from include.runner import remote
from include.runner.remote import Call
from tests.databricks.conftest import Databricks, workspace
from tests.databricks.test_submit_once import Instance, Store
from tests.integration.conftest import copied, mlflow_made, trained, trained_once, with_mlflow  # noqa: F401
from tests.integration.test_rollback import TODAY, TOMORROW, described, live, put, seen  # noqa: F401
from tests.integration.training import MODEL, PROJECT

pytestmark = pytest.mark.timeout(300)

ON_DATABRICKS = MODEL.model_copy(update={"run_on": {"score": "databricks"}})
FORM = {"version": "previous", "by": "Ada", "why": "version 2 predicts nonsense", "from_day": None, "force": False}


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databricks]:
    with workspace(tmp_path_factory.mktemp("workspace"), delta=False) as found:
        yield found


@dataclass
class Running(Instance):
    """A task instance that also reads what earlier tasks returned."""

    returned: dict[str, Any] = field(default_factory=dict)
    task: Any = None

    def xcom_pull(self, task_ids: str) -> Any:
        return self.returned.get(task_ids)


class Run:
    """One run of the DAG, started by its form."""

    def __init__(self, settings: Settings, emulated: Databricks, patch: pytest.MonkeyPatch) -> None:
        self.settings, self.emulated, self.patch = settings, emulated, patch
        self.before = len(emulated.runs)
        mlflow = settings.mlflow_tracking_uri.get_secret_value()
        places = {"mlflow_tracking_uri": mlflow, "mlflow_registry_uri": mlflow}
        place = Place(wheels="/Volumes/main/nightly/wheels", settings=places)
        project = load_project(PROJECT.name).model_copy(update={"databricks": place})
        patch.setattr(databricks, "load_project", lambda _: project)
        patch.setenv("AIRFLOW_CONN_DATABRICKS_DEFAULT", emulated.connection)
        self.dag: Any = rollback.roll_back(ON_DATABRICKS)
        self.instance, self.store = Running(), Store()
        self.context: dict[str, Any] = {
            "ti": self.instance, "task_state_store": self.store, "params": FORM, "run_id": "manual__1",
            "dag_run": SimpleNamespace(triggering_user_name="ada"),
            "outlet_events": {asset: SimpleNamespace(extra={}) for asset in self.dag.get_task("rollback").outlets},
        }  # fmt: skip
        for module in (common, params, rollback):
            patch.setattr(module, "get_current_context", lambda: self.context)
        for module in (common, databricks, rollback, scoring):
            patch.setattr(module, "settings", lambda *_: settings)

    @property
    def submitted(self) -> list[dict[str, Any]]:
        return self.emulated.runs[self.before :]

    @property
    def call(self) -> Call:
        """Return what the only submitted run shall execute."""
        [run] = self.submitted
        [task] = run["spec"]["tasks"]
        return Call.model_validate_json(task["python_wheel_task"]["named_parameters"]["call"])

    def score(self) -> None:
        """Run the task `score` from submit to result, as Airflow and its triggerer do."""
        task = self.dag.get_task("score")
        task.polling_period_seconds = 0.2
        self.context["task"] = self.instance.task = task
        self.emulated.plan("outcomes", [{"result": "SUCCESS", "pending_seconds": 2}])
        with pytest.raises(TaskDeferred) as deferred:
            task.execute(self.context)
        self.patch.setattr(sys, "argv", ["nightly-ml", f"--call={self.call.model_dump_json()}"])
        remote.main()
        event = asyncio.run(anext(deferred.value.trigger.run()))
        resumed = {"event": event.payload}
        found = task.resume_execution(deferred.value.method_name, resumed, self.context)
        self.instance.returned["score"] = found

    def roll_back(self) -> Any:
        """Run the task `rollback`."""
        task = self.dag.get_task("rollback")
        self.context["task"] = self.instance.task = task
        return task.python_callable()


@pytest.fixture
def run(live: Settings, emulated: Databricks, monkeypatch: pytest.MonkeyPatch) -> Run:  # noqa: F811
    described(live, monkeypatch)
    return Run(live, emulated, monkeypatch)


def version_of(settings: Settings, day: date) -> int:
    return seen(settings)[day][0]


def test_days_without_a_stored_batch_are_scored_there_and_then_change_together(run: Run) -> None:
    run.score()
    call, settings = run.call, run.settings
    assert (call.step, call.config, str(call.interval)) == ("score", MODEL.name, str(TODAY))
    assert call.options["versions"] == {str(TODAY): 1}
    assert call.options["digests"] == {"1": postgres.model_files.read_versions(settings, MODEL.name)[1].model_digest}
    [features] = call.options["features"].values()
    assert (features["table"], features["rows"]) == ("features_ferries", 120)
    text = json.dumps(run.submitted)
    for secret in (settings.database_url, settings.hash_key):
        assert secret.get_secret_value() not in text, "Databricks has neither the database's password nor the hash key"
    assert version_of(settings, TODAY) == 2, "readers see nothing of a rollback that is not done"

    done = run.roll_back()
    assert (done["model_version"], done["rows"], done["recorded"]) == (1, 1, True)
    there = Tables(settings).scan("scores_late_ferry").filter(day=TODAY, model_version=1).collect()
    assert seen(settings)[TODAY] == (1, pytest.approx(there["score"].to_numpy().mean(), abs=1e-6))
    assert len(run.submitted) == 1
    assert run.context["outlet_events"][common.champions_asset(MODEL)].extra["model_version"] == 1


def test_nothing_is_submitted_where_each_day_has_a_stored_batch(run: Run) -> None:
    put(run.settings, TODAY, 1, mode="missing")
    task = run.dag.get_task("score")
    with pytest.raises(AirflowSkipException, match="each published day has a stored batch"):
        task.execute(run.context)
    assert run.submitted == []
    assert run.store == {}, "a later try has no run to continue"
    run.roll_back()
    assert seen(run.settings)[TODAY] == (1, 0.1)


def test_a_day_that_was_published_meanwhile_refuses_the_rollback_and_readers_keep_what_they_see(run: Run) -> None:
    run.score()
    put(run.settings, TOMORROW, 2)
    with pytest.raises(
        AirflowFailException, match=rf"{TOMORROW} was published after the rollback began.*Clear the run"
    ):
        run.roll_back()
    assert (version_of(run.settings, TODAY), version_of(run.settings, TOMORROW)) == (2, 2)
