"""The tasks of a shadow are beside those of the champion, and `<model>_decide` ends it."""

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk.exceptions import AirflowSkipException

from dags import common, params, question, scoring
from dags.alerts import RUNBOOKS, TASK_FAILED
from dags.decide import decide
from dags.score import score_and_publish
from include.config.approval import Approval
from include.config.loading import load_model, model_names
from include.core.interval import Interval
from include.gate.shadow import Shadow
from include.io import postgres
from include.operations import pending as deciding
from include.steps import shadow as shadow_step
from tests.integration.small import DAY

PLAIN = load_model("late_ferry")
TRIED = PLAIN.model_copy(update={"shadow": Shadow()})
ASKED = TRIED.model_copy(update={"approval": Approval()})
BESIDE = {"score_shadow", "shadow", "report_shadow"}


def upstream(dag: Any, task_id: str) -> set[str]:
    return {task.task_id for task in dag.get_task(task_id).get_flat_relatives(upstream=True)}


def test_the_champion_is_published_without_waiting_for_the_shadow() -> None:
    """A run succeeds if its last tasks do. A failed `shadow` is none of them, a failed `publish` is one."""
    dag: Any = score_and_publish(TRIED)
    assert upstream(dag, "publish") == {"wait_for_features", "score"}
    assert upstream(dag, "report_shadow") == {"wait_for_features", "score_shadow", "shadow"}
    assert {task.task_id for task in dag.leaves} == {"publish", "report_shadow"}
    assert dag.get_task("report_shadow").trigger_rule == "all_done"
    assert dag.get_task("report_shadow").on_failure_callback in ([TASK_FAILED], TASK_FAILED)
    for task in ("score_shadow", "shadow"):
        assert dag.get_task(task).on_failure_callback in ([], None)
        assert dag.get_task(task).retries >= 2
    without: Any = score_and_publish(PLAIN)
    assert BESIDE.isdisjoint(without.task_ids)


class Ti(SimpleNamespace):
    """A running task, the states of the others in its run, and what they returned."""

    def get_task_states(self, **_: Any) -> dict[str, dict[str, str]]:
        return {"r": self.states}

    def xcom_pull(self, task_ids: str) -> Any:
        return {"end_shadow": {"model_version": 3}}.get(task_ids)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def running(states: dict[str, str] | None = None) -> dict[str, Any]:
    ti = Ti(dag_id="late_ferry_score", run_id="r", states=states or {}, pushed={})
    return {"ti": ti, "params": {}, "dag_run": SimpleNamespace(run_type="scheduled"), "run_id": "r"}


@pytest.mark.parametrize(
    ("states", "raised"),
    [
        ({"score_shadow": "failed", "shadow": "upstream_failed"}, "late_ferry_score.score_shadow"),
        ({"score_shadow": "success", "shadow": "failed"}, "late_ferry_score.shadow"),
        ({"score_shadow": "skipped", "shadow": "skipped"}, None),
        ({"score_shadow": "success", "shadow": "success"}, None),
        ({"score_shadow": "upstream_failed", "shadow": "upstream_failed"}, None),  # the run itself fails
    ],
)
def test_a_failed_shadow_is_an_alert_of_its_own(
    monkeypatch: pytest.MonkeyPatch, states: dict[str, str], raised: str | None
) -> None:
    alerts: list[Any] = []
    monkeypatch.setattr(scoring, "get_current_context", lambda: running(states))
    monkeypatch.setattr(scoring, "settings", lambda: None)
    monkeypatch.setattr(postgres.alerts, "raise_alerts", lambda _, project, found, **__: alerts.extend(found))
    sentence = scoring.raise_if_not_scored(TRIED, Interval.of(DAY))
    if raised is None:
        assert alerts == []
        return
    [alert] = alerts
    assert (alert.subject, alert.rule, alert.day, alert.sentence) == ("late_ferry", "shadow not scored", DAY, sentence)
    assert f"because {raised} failed (run r" in sentence
    assert (RUNBOOKS / "shadow.md").is_file()
    assert "docs/runbooks/shadow.md" in sentence


def test_a_day_without_a_shadow_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    context = running()
    for module in (scoring, common, params):
        monkeypatch.setattr(module, "get_current_context", lambda: context)
    monkeypatch.setattr(scoring, "settings", lambda: None)
    monkeypatch.setattr(shadow_step, "read_shadow_versions", lambda *_: {})
    monkeypatch.setattr("dags.score.run_date", lambda _: DAY)
    dag: Any = score_and_publish(TRIED)
    with pytest.raises(AirflowSkipException, match=f"no version scores beside the champion on {DAY}"):
        dag.get_task("score_shadow").python_callable()


def test_only_models_with_a_shadow_have_the_dag_that_decides(bag: Any) -> None:
    declared = {f"{name}_decide" for name in model_names() if load_model(name).shadow}
    assert {dag_id for dag_id in bag.dags if dag_id.endswith("_decide")} == declared
    dag: Any = decide(TRIED)
    assert upstream(dag, "promote") == {"wait_for_features", "outcomes", "end_shadow"}
    assert "ask" not in dag.task_ids
    asking: Any = decide(ASKED)
    assert upstream(asking, "ask") == {"wait_for_features", "outcomes", "end_shadow", "promote"}


def test_people_are_asked_only_after_the_days_of_the_shadow(monkeypatch: pytest.MonkeyPatch) -> None:
    dag: Any = decide(ASKED)
    ask, started = dag.get_task("ask"), []
    monkeypatch.setattr(question, "settings", lambda: None)
    monkeypatch.setattr(deciding, "read_pending", lambda *_: object())
    monkeypatch.setattr(params, "get_current_context", running)
    monkeypatch.setattr(TriggerDagRunOperator, "execute", lambda each, _: started.append(each.conf))
    monkeypatch.setattr(deciding, "is_on_trial", lambda *_: True)
    with pytest.raises(AirflowSkipException, match="version 3 is still on trial as a shadow"):
        ask.execute(running())
    monkeypatch.setattr(deciding, "is_on_trial", lambda *_: False)
    ask.execute(running())
    assert started == [{"version": 3}]
