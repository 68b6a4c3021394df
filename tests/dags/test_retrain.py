"""`<model>.retrain` in `<project>_monitor` starts one training of the run date, with the reason."""

from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException, DagRunTriggerException

from dags import monitor, params, retrain, train
from include.config.loading import load_model, load_project
from include.io import postgres

MONTHLY = load_model("late_ferry").model_copy(update={"train_schedule": "0 4 1 * *", "retrain": "on_degradation"})
DAY = date(2013, 3, 2)


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> retrain.RequestTraining:
    monkeypatch.setattr(params, "run_date", lambda _: DAY)
    monkeypatch.setattr(params, "is_backfill", lambda: False)
    monkeypatch.setattr(retrain, "run_step", lambda *_: {"why": "degradation: age: too old"})
    return retrain.RequestTraining(task_id="retrain", model=MONTHLY)


CONTEXT: dict[str, Any] = {
    "ti": SimpleNamespace(xcom_push=lambda **_: None),
    "task": None,
    "dag_run": None,
    "params": {},
}


def test_the_run_has_the_day_in_its_id_and_the_reason_in_its_conf(task: retrain.RequestTraining) -> None:
    with pytest.raises(DagRunTriggerException) as started:
        task.execute(dict(CONTEXT))
    assert (started.value.trigger_dag_id, started.value.dag_run_id) == ("late_ferry_train", "retrain__2013-03-02")
    assert started.value.conf == {"day": "2013-03-02", "why": "degradation: age: too old"}
    assert started.value.skip_when_already_exists and not started.value.wait_for_completion


def test_a_backfill_asks_for_nothing(task: retrain.RequestTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "is_backfill", lambda: True)
    monkeypatch.setattr(retrain, "skipped", lambda why, _: AirflowSkipException(why))
    with pytest.raises(AirflowSkipException, match="a backfill asks for no training"):
        task.execute(dict(CONTEXT))


def test_only_models_that_declare_it_have_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "model_names", lambda _: ["late_ferry", "ferry_delay"])
    monkeypatch.setattr(monitor, "load_model", lambda name: MONTHLY if name == "late_ferry" else load_model(name))
    dag = monitor.monitor(load_project("ferries"))
    assert {task for task in dag.task_ids if "retrain" in task} == {"late_ferry.retrain"}
    assert dag.get_task("late_ferry.retrain").upstream_task_ids == {"monitor"}


def test_a_run_that_alerts_asked_for_is_skipped_if_another_training_took_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dag = train.train(MONTHLY)
    check: Any = dag.get_task("check_request")
    assert "wait_for_features" in check.downstream_task_ids
    assert dag.max_active_runs == 1, "so that each run sees what the one before it did"
    assert "check_request" not in train.train(load_model("late_ferry")).task_ids
    asked: list[date] = []

    def why_replaced(_settings: object, model: str, day: date, *, cool_down_days: int) -> str | None:
        assert (model, cool_down_days) == ("late_ferry", 7)
        asked.append(day)
        return None if len(asked) == 1 else "a training of 2013-03-05 was asked for since"

    context = dict(CONTEXT) | {"params": {"day": str(DAY)}, "dag_run": SimpleNamespace(logical_date=None, run_type="")}
    for module in (params, train):
        monkeypatch.setattr(module, "get_current_context", lambda: context)
    monkeypatch.setattr(train, "settings", lambda: None)
    monkeypatch.setattr(postgres.retrainings, "why_replaced", why_replaced)
    context["run_id"] = "scheduled__2013-03-02"
    check.python_callable()
    assert asked == [], "only a run that alerts asked for"
    context["run_id"] = "retrain__2013-03-02"
    check.python_callable()
    with pytest.raises(AirflowSkipException, match="of 2013-03-02 is not needed: a training of 2013-03-05"):
        check.python_callable()
    assert asked == [DAY, DAY]
