"""Test which tasks get links to MLflow, and their addresses. tests/integration/test_stack.py uses a real API server."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException

import nightly_links
from dags.common import ModelTask, QualityTask
from include.config.loading import load_model, load_project, model_names
from nightly_links import MLflowRunLink, ModelVersionLink, QualityPageLink, TrainingReportLink
from tests.plugins.conftest import PLUGINS

LINKS = (MLflowRunLink(), ModelVersionLink())
RUN = "http://mlflow:5000/#/runs/abc"
VERSION = "http://mlflow:5000/#/models/late_ferry/versions/3?workflowType=machine_learning"
FITTED = {"run_id": "abc", "model": "late_ferry", "model_version": None}
EVALUATED = {"run_id": "abc", "model": "late_ferry", "model_version": 3}
DECIDED = {"model": "late_ferry", "model_version": 3}


def links(monkeypatch: pytest.MonkeyPatch, task_id: str, map_index: int = -1, **records: Any) -> list[str]:
    monkeypatch.setattr(nightly_links, "ui_url", lambda: "http://mlflow:5000")
    monkeypatch.setattr(nightly_links, "returned", lambda key, task: records.get(task, {}))
    key = SimpleNamespace(dag_id="d", run_id="r", task_id=task_id, map_index=map_index)
    return [link.get_link(None, ti_key=key) for link in LINKS]


def test_a_task_links_to_the_run_and_version_of_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    assert links(monkeypatch, "evaluate", evaluate=EVALUATED) == [RUN, VERSION]
    assert links(monkeypatch, "gate", gate=DECIDED, evaluate=EVALUATED) == [RUN, VERSION]


def test_a_skipped_promotion_links_to_the_evaluated_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert links(monkeypatch, "promote", evaluate=EVALUATED) == [RUN, VERSION]


def test_a_candidate_links_only_to_its_own_run(monkeypatch: pytest.MonkeyPatch) -> None:
    best = EVALUATED | {"run_id": "of-the-best"}
    assert links(monkeypatch, "fit", map_index=1, fit=FITTED, evaluate=best) == [RUN, ""]


def test_without_a_value_or_an_address_there_is_no_button(monkeypatch: pytest.MonkeyPatch) -> None:
    assert links(monkeypatch, "fit", map_index=0) == ["", ""]
    assert links(monkeypatch, "gate") == ["", ""]


def test_only_the_task_that_wrote_a_report_links_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nightly_links, "ui_url", lambda: "http://mlflow:5000")
    written = {"run_id": "abc", "experiment_id": "7", "report": "report/g.html"}
    records = {"report_version": written, "evaluate": EVALUATED}
    monkeypatch.setattr(nightly_links, "returned", lambda key, task: records.get(task, {}))
    for task_id, address in (
        ("report_version", "http://mlflow:5000/#/experiments/7/runs/abc/artifacts/report/g.html"),
        ("gate", ""),
    ):
        key = SimpleNamespace(dag_id="d", run_id="r", task_id=task_id, map_index=-1)
        assert TrainingReportLink().get_link(None, ti_key=key) == address


def test_the_address_comes_from_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    for extra, address in (({"ui_url": "http://x/"}, "http://x"), ({}, None)):
        found = SimpleNamespace(extra_dejson=extra)
        monkeypatch.setattr(nightly_links.Connection, "get", lambda conn_id, found=found: found)
        assert nightly_links.ui_url() == address

    def missing(conn_id: str) -> Any:
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr(nightly_links.Connection, "get", missing)
    assert nightly_links.ui_url() is None


def test_the_stand_ins_have_the_names_of_the_operators() -> None:
    from dags.databricks import StepOperator

    for stand_in, real in (
        (nightly_links.MODEL_TASK, ModelTask),
        (nightly_links.QUALITY_TASK, QualityTask),
        (nightly_links.REMOTE_STEP, StepOperator),
    ):
        assert (stand_in.__module__, stand_in.__name__) == (real.__module__, real.__name__)


def test_airflow_shows_links_on_model_tasks_only(bag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    assert model_names(), "no models were found, so nothing was tested"
    for dag in bag.dags.values():
        shown = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        names = {"MLflow run", "Model version", "Training report"}
        linked = {task.task_id for task in shown.tasks if set(task.extra_links) == names}
        of_model = {
            "train": {"fit", "evaluate", "gate", "report_version", "promote"},
            "score": {"score", "publish"},
            "rollback": {"score", "rollback"},
        }
        kind = dag.dag_id.rpartition("_")[2]
        assert linked == of_model.get(kind, set())
        of_quality = {"validate"} if kind in ("prepare", "range") else set()
        assert {task.task_id for task in shown.tasks if set(task.extra_links) == {"Quality page"}} == of_quality
        assert all(task.task_id in linked | of_quality or not task.extra_links for task in shown.tasks), dag.dag_id


def test_a_published_batch_links_to_the_version_that_scored_it(monkeypatch: pytest.MonkeyPatch) -> None:
    scored = {"model": "late_ferry", "days": [{"day": "2024-03-03", "model_version": 3}]}
    published = {"model": "late_ferry", "days": [{"day": "2024-03-03", "batch_id": "b"}]}
    assert links(monkeypatch, "publish", score=scored, publish=published) == ["", VERSION]
    two = {**scored, "days": [*scored["days"], {"day": "2024-03-04", "model_version": 4}]}
    assert links(monkeypatch, "publish", score=two, publish=published) == ["", ""]


def test_a_step_on_databricks_has_its_own_button_and_those_of_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    from dags import databricks, score
    from include.core.project import Databricks

    project = load_project("ferries").model_copy(update={"databricks": Databricks(wheels="/Volumes/main/x/wheels")})
    monkeypatch.setattr(databricks, "load_project", lambda _: project)
    model = load_model("late_ferry").model_copy(update={"run_on": {"score": "databricks"}})
    dag = DagSerialization.from_dict(DagSerialization.to_dict(score.score_and_publish(model)))
    wanted = {"MLflow run", "Model version", "Training report", "See Databricks Job Run"}
    assert set(dag.get_task("score").extra_links) == wanted


def test_validation_links_to_the_page_of_its_run_if_there_are_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    key = SimpleNamespace(dag_id="ferries_prepare", run_id="manual__2024-03-03T05:00:00+00:00", task_id="validate")
    for prefix, address in (
        (None, ""),
        (
            "/nightly",
            "/nightly/run?dag_id=ferries_prepare&run_id=manual__2024-03-03T05%3A00%3A00%2B00%3A00&task_id=validate",
        ),
    ):
        monkeypatch.setattr(nightly_links, "pages_prefix", lambda prefix=prefix: prefix)
        assert QualityPageLink().get_link(None, ti_key=key) == address


def test_airflow_loads_only_the_registering_file_without_error() -> None:
    code = """
from airflow import plugins_manager
found, errors = plugins_manager._get_plugins()
assert not errors, errors
print([plugin.source.path for plugin in found if type(plugin.source).__name__ == "PluginsDirectorySource"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['nightly_plugin.py']"


def test_plugins_import_neither_include_nor_dags() -> None:
    for file in PLUGINS.rglob("*.py"):
        lines = file.read_text(encoding="utf-8").splitlines()
        imports = [line for line in lines if line.lstrip().startswith(("import ", "from "))]
        wrong = [line for line in imports if line.split()[1].split(".")[0] in ("dags", "include")]
        assert not wrong, f"{file}: {wrong}; a plugin must load without the bundle"
