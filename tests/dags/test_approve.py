"""`<model>_approve` asks people once for each pending version, and nothing waits in `<model>_train`."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators import hitl
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DagRunTriggerException, TaskAwaitingInput

from dags import question
from include.config.approval import Approval
from include.config.loading import load_model, model_names
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.outbox import Message
from include.core.records import Check, GateDecision
from include.operations import approve as deciding
from include.operations import pending as open_questions
from include.operations import question as asking

ASKED = load_model("late_ferry").model_copy(update={"approval": Approval(allowed=("ana", "ben"))})
DIGEST = "ab" * 32
SOON = datetime(2113, 3, 9, tzinfo=UTC)
DECISION = GateDecision(
    interval=Interval.of(date(2013, 3, 2)),
    rows=1200,
    model_version=3,
    model="late_ferry",
    candidate="boosted",
    gate_id="0d6f3a52-1b0e-5d7c-8f43-6a1c2b7e9d10",
    champion=2,
    passed=True,
    checks=(
        Check(
            name="slices",
            subject="origin=A",
            measured=0.25,
            threshold=0.3,
            passed=True,
            sentence="origin=A|B {{ 7 * 7 }}: 0.25; at most 0.3",
        ),
    ),
)
QUESTION = asking.Question(
    model="late_ferry",
    model_version=3,
    shown=DIGEST,
    subject="Late ferry: shall version 3 become the champion?",
    body="body",
    expires_at=SOON,
)


class Ti(SimpleNamespace):
    """A running task: what it pushed, and what the task `gate` of its run returned."""

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def xcom_pull(self, task_ids: str) -> Any:
        return DECISION.model_dump(mode="json")


def run(**of_run: Any) -> dict[str, Any]:
    """Return the context of `ask` in a run for version 3."""
    ti = Ti(id="1", dag_id="late_ferry_approve", run_id="v3", task_id="ask", map_index=-1, pushed={}, task=None)
    dag_run = SimpleNamespace(**{"triggering_user_name": None, "run_type": "manual", "conf": {}, **of_run})
    return {"ti": ti, "task_instance": ti, "dag_run": dag_run, "params": {"version": 3}}


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Stand in for the shared database: a function that sets which version waits."""
    monkeypatch.setattr(question, "settings", lambda: None)
    monkeypatch.setattr(question, "mlflow_pages", lambda: None)
    monkeypatch.setattr(question.params, "is_backfill", lambda: False)
    monkeypatch.setattr(open_questions, "why_closed", lambda *_: "version 3 of late_ferry is superseded")

    def set_pending(pending: Any) -> None:
        monkeypatch.setattr(open_questions, "read_pending", lambda *_: pending)
        monkeypatch.setattr(asking, "ask", lambda *_: pending and QUESTION)

    return set_pending


def pending(digest: str = DIGEST, left: timedelta = timedelta(days=2)) -> Any:
    return SimpleNamespace(move=SimpleNamespace(model_digest=digest, expires_at=datetime.now(UTC) + left))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what was written to the page Required Actions, and sent to people."""
    written: list[Any] = []
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **detail: written.append(detail))
    monkeypatch.setattr(question, "ask_people", lambda asked, address, context: written.append((asked, address)))
    return written


def test_only_models_that_declare_approval_have_the_dag(bag: Any) -> None:
    from dags.approve import approve
    from dags.train import train

    declared = {f"{name}_approve" for name in model_names() if load_model(name).approved_by}
    assert {dag for dag in bag.dags if dag.endswith("_approve")} == declared
    dag = approve(ASKED)
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {"ask": {"record"}, "record": set()}
    assert (dag.max_active_runs, dag.schedule, dag.dagrun_timeout) == (100, None, timedelta(days=8))
    assert all(task.owner == ASKED.owner and task.execution_timeout and task.doc_md for task in dag.tasks)
    trained = train(ASKED)
    assert trained.get_task("ask").upstream_task_ids == {"promote", "report_version"}
    assert trained.get_task("ask").trigger_rule.value == "all_done", "promote is skipped while a version is pending"
    assert trained.get_task("report").upstream_task_ids == {"promote", "ask"}
    assert "ask" not in train(load_model("late_ferry")).task_ids


def test_the_training_starts_one_run_for_each_pending_version(waiting: Callable[[Any], None]) -> None:
    from dags.train import train

    task: Any = train(ASKED).get_task("ask")
    waiting(pending())
    with pytest.raises(DagRunTriggerException) as found:
        task.execute(run())
    started = found.value
    assert (started.trigger_dag_id, started.dag_run_id, started.conf) == ("late_ferry_approve", "v3", {"version": 3})
    assert (started.skip_when_already_exists, started.wait_for_completion) == (True, False)
    waiting(None)
    with pytest.raises(AirflowSkipException, match="is superseded"):
        task.execute(run())


def test_a_backfill_asks_nobody(waiting: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    from dags.train import train

    waiting(pending())
    monkeypatch.setattr(question.params, "is_backfill", lambda: True)
    with pytest.raises(AirflowSkipException, match="a backfill asks nobody"):
        train(ASKED).get_task("ask").execute(run())


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> question.AskPeople:
    from dags.approve import approve

    task: Any = approve(ASKED).get_task("ask")
    monkeypatch.setattr(type(task), "_address", lambda *_: "http://airflow/required_actions")
    return task  # type: ignore[no-any-return]


def test_a_question_waits_without_a_slot_and_tells_people(
    ask: question.AskPeople, waiting: Callable[[Any], None], asked: list[Any]
) -> None:
    waiting(pending())
    with pytest.raises(TaskAwaitingInput) as found:
        ask.execute(run())
    detail, told = asked
    assert (detail["subject"], detail["body"], detail["options"]) == (QUESTION.subject, "body", ["Approve", "Decline"])
    assert detail["assigned_users"] == [{"id": "ana", "name": "ana"}, {"id": "ben", "name": "ben"}]
    assert (detail["defaults"], list(detail["params"])) == (None, ["why"])
    assert told == (QUESTION, "http://airflow/required_actions")
    assert found.value.kwargs == {"version": 3, "shown": DIGEST}
    assert found.value.timeout == question.CHECK_EVERY


def test_airflow_dags_test_asks_nobody(
    ask: question.AskPeople, waiting: Callable[[Any], None], asked: list[Any]
) -> None:
    waiting(pending())
    with pytest.raises(AirflowSkipException, match="dags test asks nobody"):
        ask.execute(run(triggering_user_name="dag_test"))
    assert asked == []


def test_an_open_question_ends_when_the_version_does_not_wait_any_more(
    ask: question.AskPeople, waiting: Callable[[Any], None]
) -> None:
    about: dict[str, Any] = {"event": {"error": "", "error_type": "timeout"}, "version": 3, "shown": DIGEST}
    waiting(pending(left=timedelta(minutes=3)))
    with pytest.raises(TaskAwaitingInput) as found:
        ask.execute_complete(run(), **about)
    assert timedelta(minutes=2) < found.value.timeout <= timedelta(minutes=3), "it ends when the version expires"
    for gone in (None, pending(digest="cd" * 32)):
        waiting(gone)
        with pytest.raises(AirflowSkipException, match="is superseded"):
            ask.execute_complete(run(), **about)


@pytest.mark.parametrize(
    ("option", "user", "by"),
    [("Approve", {"id": "7", "name": "ana"}, "ana"), ("Decline", {"id": "ben", "name": "Ben B."}, "ben")],
)
def test_the_answer_has_who_and_why(ask: question.AskPeople, option: str, user: dict[str, str], by: str) -> None:
    event = {
        "chosen_options": [option],
        "params_input": {"why": "looks right"},
        "responded_at": SOON,
        "responded_by_user": user,
        "timedout": False,
    }
    answer = ask.execute_complete(run(), event, version=3, shown=DIGEST)
    decision = {"Approve": "approve", "Decline": "decline"}[option]
    unexplained = ask.execute_complete(run(), {**event, "params_input": {}}, version=3, shown=DIGEST)
    assert unexplained["why"] == question.NO_REASON
    assert answer == {"decision": decision, "version": 3, "shown": DIGEST, "by": by, "why": "looks right"}


def test_an_answer_that_cannot_be_applied_is_not_retried(
    waiting: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **about: Any) -> None:
        assert about == {"by": "ana", "why": "x", "shown": DIGEST}
        raise ActionRequiredError("version 3 is not pending")

    monkeypatch.setattr(deciding, "approve", refuse)
    answer = {"decision": "approve", "version": 3, "shown": DIGEST, "by": "ana", "why": "x"}
    with pytest.raises(AirflowFailException, match="the answer of ana is not applied: version 3 is not pending"):
        question.record_answer(ASKED, answer)


def test_the_question_has_the_gates_table_and_no_markup_of_others() -> None:
    links = {"Version 3 in MLflow": "http://mlflow/#/models/late_ferry/versions/3"}
    body = asking.write_body(ASKED, DECISION, 2, DIGEST, SOON, links)
    assert "| passed | slices | origin=A\\|B {{ 7 \\* 7 }}: 0.25; at most 0.3 |" in body
    assert "These users may decide: ana, ben." in body
    assert "compared with version 2 on 1,200 rows. Version 2 is the champion now." in body
    assert "**No answer** until 2113-03-09 00:00 UTC: version 2 stays" in body
    link = "[Version 3 in MLflow](http://mlflow/#/models/late_ferry/versions/3)"
    assert body.index(link) < body.index("| result |"), "the table can be longer than a page"
    assert "--version 3 --by" in body


def test_people_get_one_message_with_the_link_for_each_version(monkeypatch: pytest.MonkeyPatch) -> None:
    from dags import alerts

    sent: list[Message] = []
    monkeypatch.setattr(alerts, "_is_stored", lambda message, _=None: sent.append(message) or True)
    for _ in range(2):
        alerts.ask_people(QUESTION, "http://airflow/required_actions", run())
    assert sent[0].key == sent[1].key
    text = str(sent[0].payload["text"])
    assert "Decide: http://airflow/required_actions" in text
    assert "approve --model late_ferry --version 3" in text
    assert "until 2113-03-09 00:00 UTC" in text


def test_the_question_links_to_the_report_and_to_nothing_that_somebody_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question, "mlflow_pages", lambda: "https://mlflow.example.org")
    made = SimpleNamespace(
        xcom_pull=lambda task_ids: {"experiment_id": "7", "run_id": "ab12", "report": "report/c.html"}
    )
    links = question._links(ASKED, 3, question._report(made))
    assert links["Training report"] == "https://mlflow.example.org/#/experiments/7/runs/ab12/artifacts/report/c.html"
    for typed in ("javascript:alert(1)", "7/runs/ab12/artifacts/x)[y](https://evil.example.org", None):
        assert list(question._links(ASKED, 3, {"report": typed})) == ["Version 3 in MLflow"]
