"""Test notifications with a real web server and a real PostgreSQL, and without either; no secret is logged."""

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException, AirflowSkipException

from dags import alerts, recovery
from dags.alerts import RUN_FAILED, TASK_FAILED, LateFeedsError, NotSentError, Report, report_dead_watcher, send_waiting
from include.core.errors import DataError
from include.core.outbox import Message
from include.core.printable import slack
from include.core.records import Alert
from include.core.routes import Route, Routing
from include.core.settings import Settings
from include.io import outbox as sending
from include.io import postgres
from include.operations.affected import Affected
from tests.receiver import PATH, Answer, Receiver, receiving

NOWHERE = "postgresql://me:secret@127.0.0.1:9/nothing"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Return the webhook of an installation whose shared database is down."""
    monkeypatch.setattr(sending, "DIRECT_WAIT", 0.05)
    with receiving() as server:
        connected(monkeypatch, server.url, NOWHERE)
        yield server


@pytest.fixture
def stored(settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of an installation whose shared database is up."""
    connected(monkeypatch, receiver.url, settings.database_url.get_secret_value())
    return settings


def connected(monkeypatch: pytest.MonkeyPatch, url: str | None, database: str | None = None) -> None:
    """Set up the connections `nightly_alerts` and `nightly_database`, or none."""
    found = {}
    if url is not None:
        found["nightly_alerts"] = Connection(conn_id="nightly_alerts", conn_type="http", password=url)
    if database is not None:
        parts = sa.make_url(database)
        found["nightly_database"] = Connection(
            conn_id="nightly_database",
            conn_type="postgres",
            login=parts.username,
            host=str(parts.query.get("host") or parts.host),
            port=parts.port,
            schema=parts.database,
        )

    def get(conn_id: str) -> Connection:
        if conn_id not in found:
            raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")
        return found[conn_id]

    monkeypatch.setattr(Connection, "get", get)


def notify(text: str) -> Report:
    return Report(lambda _: Message.of_text(text, text, kind="test", subject="dag.task", run_id="r"))


def states(settings: Settings) -> list[tuple[Any, ...]]:
    with postgres.connection.engine(settings).connect() as connection:
        rows = connection.execute(sa.text("SELECT kind, subject, state, last_error FROM outbox ORDER BY id"))
        return [tuple(row) for row in rows]


def make_due(settings: Settings) -> None:
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text("UPDATE messages SET not_before = now(), hold_until = NULL"))


def context(bag: Any, exception: BaseException | None = None, **more: Any) -> dict[str, Any]:
    """Return the context of `land` in the scheduled run of 2 March, at 03:00 in New York."""
    dag = bag.dags["ferries_prepare"]
    task = {
        "dag_id": dag.dag_id,
        "task_id": "land",
        "map_index": -1,
        "try_number": 4,
        "run_id": "scheduled__2013-03-02",
        "log_url": "http://airflow/dags/ferries_prepare/runs/scheduled__2013-03-02/tasks/land",
    }
    run = {"logical_date": datetime(2013, 3, 2, 8, tzinfo=UTC)}
    return {
        "dag": dag,
        "run_id": "scheduled__2013-03-02",
        "dag_run": type("Run", (), run)(),
        "ti": type("Task", (), task)(),
        "params": {"day": None},
        "exception": exception,
        **more,
    }


def failure(why: Exception) -> AirflowFailException:
    """Return an exception as `run_step` raises it."""
    try:
        raise AirflowFailException(f"land of ferries for 2013-03-02: {why}") from why
    except AirflowFailException as error:
        return error


def test_the_posted_text_is_escaped(receiver: Receiver) -> None:
    notify("late & <late>")({})
    [request] = receiver.got
    assert (request.path, request.body) == (PATH, {"text": "late &amp; &lt;late&gt;"})


def test_no_text_from_outside_writes_a_line_of_an_alert_or_calls_people(bag: Any, receiver: Receiver) -> None:
    name = "<!channel> a.csv\nSafe to run again: no. Type: rm -r /\x1b[2K\u202efsv"
    TASK_FAILED(context(bag, failure(DataError(f"{name} has no rows; ask the supplier"))))
    shown = "&lt;!channel&gt; a.csv\\nSafe to run again: no. Type: rm -r /\\u001b[2K\\u202efsv"
    [failed] = receiver.texts
    assert f"DataError: {shown} has no rows; ask the supplier\n" in failed
    assert [line for line in failed.splitlines() if line.startswith("Safe")] == [
        "Safe to run again: yes. When the cause is fixed, type:"
    ]
    alert = Alert(subject="x", rule="y", day=date(2013, 3, 2), sentence=name)
    assert slack(alert.sentence) == shown


def test_run_dates_that_wait_for_a_feed_are_one_incident_that_names_it(
    bag: Any, stored: Settings, receiver: Receiver
) -> None:
    for day in (2, 3):
        late = LateFeedsError({"sailings": f"no file of feed sailings for 2013-03-0{day}", "logbook": "none"})
        failed = context(bag, late, params={"day": f"2013-03-0{day}"})
        failed["ti"].task_id, failed["ti"].run_id = "wait_for_files", f"r{day}"
        TASK_FAILED(failed)
    first, second = receiver.texts
    assert "[high] feed sailings is late: run date 2013-03-02 is not prepared without it. no file of feed" in first
    assert "[high, another day is missing] feed sailings is late since run date 2013-03-02" in second
    assert "airflow dags backfill ferries_prepare -s 2013-03-02 -e 2013-03-03 --rerun-failed-tasks -y" in second


def test_a_failed_task_says_what_broke_and_what_to_type(bag: Any, receiver: Receiver) -> None:
    TASK_FAILED(context(bag, failure(DataError("sailings of 2013-03-02 has {{ no }} rows; ask the supplier"))))
    [text] = receiver.texts
    for part in (
        "[high] ferries_prepare.land failed for 2013-03-02 (run scheduled__2013-03-02)",
        "Readers: no scores of 2013-03-02 from ferry_delay, late_ferry; those of the day before stay",
        "DataError: sailings of 2013-03-02 has {{ no }} rows; ask the supplier",  # and is not rendered as a template
        "Runbook: docs/runbooks/land.md",
        "Safe to run again: yes",
        "airflow tasks clear ferries_prepare -t land -d -s 2013-03-02T08:00:00+00:00 -e 2013-03-02T08:00:00+00:00 ",
        "http://airflow/dags/ferries_prepare/runs/scheduled__2013-03-02/tasks/land",
        "airflow tasks states-for-dag-run ferries_prepare 'scheduled__2013-03-02'",
    ):
        assert part in text


def test_a_public_page_that_failed_says_that_scores_are_published(bag: Any, receiver: Receiver) -> None:
    about = context(bag, failure(DataError("no place")))
    about["ti"].dag_id, about["ti"].task_id = "late_ferry_score", "public_page"
    TASK_FAILED(about)
    [text] = receiver.texts
    assert "Readers: scores are published as always\n" in text
    assert "Runbook: docs/runbooks/public_page.md" in text


def test_the_text_of_an_error_that_is_not_ours_stays_in_the_log(bag: Any, receiver: Receiver) -> None:
    for error in (RuntimeError("postgresql://me:secret@host refused ada@example.org"), failure(RuntimeError("secret"))):
        TASK_FAILED(context(bag, error))
    TASK_FAILED(context(bag))
    assert "RuntimeError; its text is in the log" in receiver.texts[0]
    assert "AirflowFailException; its text is in the log" in receiver.texts[1]
    assert "its process ended without reporting an error" in receiver.texts[2]
    assert "Runbook: docs/runbooks/killed.md" in receiver.texts[2]
    assert "secret" not in str(receiver.texts) and "ada@" not in str(receiver.texts)


def test_messages_of_runs_by_hand_name_their_days(bag: Any, receiver: Receiver) -> None:
    run = type("Run", (), {"logical_date": None})()
    for params, said in (
        ({"day": "2013-05-01"}, "failed for 2013-05-01"),
        ({"start": "2013-05-01", "end": "2013-05-09"}, "failed for 2013-05-01 to 2013-05-09"),
        ({}, "failed for no day"),
    ):
        TASK_FAILED(context(bag, params=params, dag_run=run))
        assert said in receiver.texts[-1]
        assert "airflow dags clear ferries_prepare --run-id 'scheduled__2013-03-02' -y" in receiver.texts[-1]


def test_a_failed_run_is_reported(bag: Any, receiver: Receiver) -> None:
    """A failed task makes its run fail too: a killed task cannot report itself."""
    RUN_FAILED(context(bag, reason="task_failure"))
    assert "its process ended without reporting an error" in receiver.texts[0]
    assert "Runbook: docs/runbooks/killed.md" in receiver.texts[0]
    receiver.got.clear()
    RUN_FAILED(context(bag, reason="timed_out"))
    stored = type("SerializedDAG", (), {"dag_id": "ferries_prepare"})()
    RUN_FAILED({"dag": stored, "run_id": "manual__1", "reason": "timed_out"})  # all there may be
    assert "ferries_prepare failed for 2013-03-02 (run scheduled__2013-03-02): timed_out" in receiver.texts[0]
    assert "airflow tasks states-for-dag-run ferries_prepare 'manual__1'" in receiver.texts[1]
    assert "Runbook: docs/runbooks/run-timed-out.md" in receiver.texts[1]


def test_without_the_connection_messages_are_logged_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connected(monkeypatch, None)
    notify("scores are late")({})
    assert [(r.levelno, r.message) for r in caplog.records if r.name == "dags.alerts"] == [
        (logging.ERROR, "scores are late"),
        (logging.WARNING, "the outbox cannot be used (AirflowNotFoundException): the message is not stored"),
        (logging.WARNING, "there is no connection nightly_alerts: the message is in this log only"),
    ]


@pytest.mark.parametrize(
    ("breaks", "says", "tries"),
    [
        (500, "answered 500", 3),
        (302, "answered 302", 1),
        (404, "answered 404", 1),
        (None, "ConnectError", 0),
    ],
    ids=["it fails", "it redirects", "it is gone", "it is down"],
)
def test_a_refused_message_fails_without_revealing_the_address(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, breaks: int | None, says: str, tries: int
) -> None:
    caplog.set_level(logging.DEBUG)
    if breaks is None:
        receiver.shutdown()
        receiver.server_close()
    else:
        receiver.status = breaks
    with pytest.raises(NotSentError, match=f"the receiver of connection nightly_alerts: {says}") as caught:
        notify("x")({})
    assert caught.value.__context__ is None
    assert len(receiver.asked) == tries
    assert "token-that-nobody-may-see" not in caplog.text


@pytest.mark.parametrize("url", ["", "hooks.example.org/token"])
def test_a_connection_without_a_url_is_explained(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    connected(monkeypatch, url)
    with pytest.raises(NotSentError, match="its password must be the URL of the webhook") as caught:
        notify("x")({})
    assert "token" not in str(caught.value)


# --- the outbox -------------------------------------------------------------------------------------------------------


def test_a_failure_is_stored_and_sent_once_whoever_reports_it(
    bag: Any, stored: Settings, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):  # the scheduler may call a callback again
        TASK_FAILED(context(bag))
        RUN_FAILED(context(bag, reason="task_failure", dag_run=run_of(cleared=0)))
    assert len(receiver.got) == 1, "the run failed because of the task"
    again = context(bag)
    again["ti"].try_number = 8  # somebody cleared the task
    TASK_FAILED(again)
    RUN_FAILED(context(bag, reason="task_failure", dag_run=run_of(cleared=1)))
    assert len(receiver.got) == len(set(receiver.keys)) == 2
    assert receiver.texts[1].startswith("[high, failed again] ferries_prepare.land failed for 2013-03-02")
    assert states(stored) == [("task_failed", "ferries", "sent", None)] * 2
    assert "cannot be used" not in caplog.text


def run_of(cleared: int) -> Any:
    return type("Run", (), {"logical_date": datetime(2013, 3, 2, 8, tzinfo=UTC), "clear_number": cleared})()


def test_what_the_receiver_does_not_take_now_is_sent_later_without_a_person(
    bag: Any, stored: Settings, receiver: Receiver, send: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    receiver.planned = [Answer(429, {"Retry-After": "120"})]
    TASK_FAILED(context(bag))
    assert (receiver.texts, states(stored)[0][2:]) == ([], ("waiting", "answered 429"))
    assert "to be sent later: message 1 about ferries: answered 429" in caplog.text
    with pytest.raises(AirflowSkipException, match="no message is due"):
        send()
    assert len(receiver.asked) == 1
    make_due(stored)
    assert send() == 1
    assert "ferries_prepare.land failed for 2013-03-02" in receiver.texts[0]


def test_the_next_failure_sends_what_was_left(bag: Any, stored: Settings, receiver: Receiver) -> None:
    receiver.planned = [Answer(500)]
    notify("first")({})
    make_due(stored)
    notify("second")({})
    assert receiver.texts == ["second", "first"]


def test_a_message_without_a_webhook_waits_in_the_outbox(
    stored: Settings, receiver: Receiver, send: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = stored.database_url.get_secret_value()
    connected(monkeypatch, None, database)
    notify("scores are late")({})
    no_connection = "there is no connection nightly_alerts"
    assert states(stored) == [("test", "dag.task", "waiting", no_connection)]
    with pytest.raises(AirflowSkipException, match=no_connection):
        send()
    connected(monkeypatch, receiver.url, database)
    assert send() == 1
    assert receiver.texts == ["scores are late"]


def test_a_message_that_was_given_up_fails_the_sender_once(
    stored: Settings, receiver: Receiver, send: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 404
    notify("first")({})
    assert "given up: message 1 about dag.task: answered 404" in caplog.text
    with pytest.raises(AirflowSkipException):
        send()
    receiver.planned = [Answer(500)]
    notify("second")({})
    make_due(stored)
    with pytest.raises(AirflowFailException, match=r"given up: message 2 .*answered 404.*outbox send --given-up"):
        send()
    with pytest.raises(AirflowSkipException):
        send()


@pytest.mark.parametrize("database", ["down", "missing", "not migrated", "locked", "silent"])
def test_a_message_is_sent_although_the_shared_database_cannot_store_it(
    bag: Any, stored: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    engine = postgres.connection.engine(stored)
    monkeypatch.setattr(postgres.connection, "IMPATIENT_LIMITS", "SELECT set_config('lock_timeout', '1s', true)")
    begun = time.monotonic()
    with engine.connect() as connection, silent_server() as silent:
        if database == "not migrated":
            connection.execute(sa.text("DROP TABLE messages CASCADE"))
            connection.commit()
        elif database == "locked":
            connection.execute(sa.text("LOCK TABLE messages"))
        elif database == "silent":
            monkeypatch.setitem(postgres.connection.IMPATIENT, "connect_timeout", 2)
        others = {"down": NOWHERE, "missing": None, "silent": f"postgresql://me@127.0.0.1:{silent}/db"}
        url = stored.database_url.get_secret_value()
        connected(monkeypatch, receiver.url, others.get(database, url))
        receiver.planned = [Answer(429, {"Retry-After": "1"})]
        TASK_FAILED(context(bag, failure(DataError("no rows"))))
    assert "DataError: no rows" in receiver.texts[0]
    assert len(receiver.asked) == 2 and len({request.key for request in receiver.asked}) == 1
    assert time.monotonic() - begun < 30, "Airflow ends a callback of a run after 50 seconds"


@contextmanager
def silent_server() -> Iterator[int]:
    """Yield the port of a server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_text_that_the_database_refuses_is_sent(bag: Any, stored: Settings, receiver: Receiver) -> None:
    TASK_FAILED(context(bag, failure(DataError("a\0b \ud800 {{ no }}"))))
    assert "DataError: a\\u0000b \\ud800 {{ no }}" in receiver.texts[0]
    assert states(stored)[0][2] == "sent"


# --- the tasks `alert` and `send` -------------------------------------------------------------------------------------


@pytest.fixture
def send(bag: Any) -> Callable[[], int]:
    """Return the function of the task `send`."""
    function: Callable[[], int] = bag.dags["outbox"].get_task("send").python_callable
    return function


def test_the_task_alert_sends_the_alerts_that_a_step_raised(bag: Any, stored: Settings, receiver: Receiver) -> None:
    alert = bag.dags["ferries_monitor"].get_task("alert").python_callable
    with pytest.raises(AirflowSkipException, match="no message is due"):
        alert()
    found = [Alert(subject="late_ferry", rule=rule, day=date(2013, 3, 2), sentence=rule) for rule in ("mae", "late")]
    postgres.alerts.raise_alerts(stored, "ferries", found)
    assert alert() == 2
    assert sorted(text.splitlines()[0] for text in receiver.texts) == ["[low] late", "[low] mae"]
    with pytest.raises(AirflowSkipException):
        alert()


@pytest.mark.parametrize("broken", ["down", "not migrated"])
def test_the_regular_sender_is_skipped_while_the_shared_database_is_broken(
    stored: Settings, receiver: Receiver, send: Callable[[], int], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Each nightly task reports it already; the sender would do so every five minutes."""
    if broken == "down":
        connected(monkeypatch, receiver.url, NOWHERE)
    else:
        with postgres.connection.engine(stored).begin() as connection:
            connection.execute(sa.text("DROP TABLE messages CASCADE"))
    with pytest.raises(AirflowSkipException, match=r"does not answer|include\.cli migrate"):
        send()


# --- incidents --------------------------------------------------------------------------------------------------------


def test_a_task_that_succeeds_after_all_is_told_once(
    bag: Any, stored: Settings, receiver: Receiver, send: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The DAG `outbox` asks Airflow for the failed tasks of open incidents; without one it asks nothing."""
    asked, states_now = [], {"land": "failed", "fit_1": "failed"}

    def get_task_states(dag_id: str, run_ids: list[str]) -> dict[str, dict[str, str]]:
        asked.append(dag_id)
        return {run_ids[0]: states_now}

    ti = type("Ti", (), {"get_task_states": staticmethod(get_task_states)})()
    monkeypatch.setattr(recovery, "get_current_context", lambda: {"ti": ti, "run_id": "outbox"})
    assert recovery.note_recovered() == [] and asked == []
    TASK_FAILED(context(bag))
    mapped = context(bag)
    mapped["ti"].task_id, mapped["ti"].map_index = "fit", 1
    TASK_FAILED(mapped)
    assert recovery.note_recovered() == [] and asked == ["ferries_prepare"]
    states_now["land"] = "success"
    assert recovery.note_recovered() == [], "the other task of the incident has not succeeded"
    states_now["fit_1"] = "success"
    assert send() == 1
    assert receiver.texts[-1].splitlines()[0] == "[recovered] 2013-03-02 of ferries is not prepared"
    assert recovery.note_recovered() == [] and len(asked) == 3


def test_the_form_decides_about_an_incident(
    bag: Any, stored: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = bag.dags["incidents"].get_task("decide_incident").python_callable
    form = {"incident": 1, "action": "snooze", "days": 2, "why": "a test", "by": None}
    running = {"params": form, "dag_run": type("Run", (), {"triggering_user_name": "ana"})()}
    monkeypatch.setitem(decide.__globals__, "get_current_context", lambda: running)
    monkeypatch.setitem(decide.__globals__, "settings", lambda: stored)
    with pytest.raises(AirflowFailException, match="there is no incident 1"):
        decide()
    TASK_FAILED(context(bag))
    assert "snoozed until" in decide()["sentence"]
    again = context(bag)
    again["ti"].try_number = 8
    TASK_FAILED(again)
    assert len(receiver.texts) == 1, "it is snoozed"
    form["action"] = "close"
    assert decide()["by"] == "ana"
    with pytest.raises(AirflowFailException, match="is over"):
        decide()
    with postgres.connection.engine(stored).connect() as connection:
        decided = connection.execute(sa.text("SELECT action, by, why, project FROM human_actions ORDER BY 1")).all()
    assert [tuple(row) for row in decided] == [
        ("close", "ana", "a test", "ferries"),
        ("snooze", "ana", "a test", "ferries"),
    ]


def test_the_failure_of_a_model_s_task_goes_by_the_routes_of_its_project(
    bag: Any, stored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = (Route(to="oncall_pager", models=("late_ferry",)), Route(to="nightly_alerts", owners=("data-team",)))
    routing = Routing(project="ferries", owner="data-team", owners={"late_ferry": "ferry-team"}, routes=routes)
    monkeypatch.setattr("include.io.postgres.incidents.load_routing", lambda project: routing)
    of_model = context(bag, failure(DataError("no rows")))
    of_model["dag"] = bag.dags["late_ferry_score"]
    of_model["ti"].dag_id = "late_ferry_score"
    TASK_FAILED(of_model)
    TASK_FAILED(context(bag, failure(DataError("no rows"))))  # of ferries_prepare
    with postgres.connection.engine(stored).connect() as connection:
        rows = connection.execute(sa.text("SELECT destination, payload ->> 'model' FROM outbox ORDER BY id")).all()
    assert [tuple(row) for row in rows] == [
        ("oncall_pager", "late_ferry"),
        ("oncall_pager", "late_ferry"),  # it waits for the day that is not prepared
        ("nightly_alerts", "late_ferry"),
    ]


def test_without_the_database_a_failure_goes_where_its_incident_would_go(
    bag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = (Route(to="oncall_pager", severities=("critical",)), Route(to="chat", severities=("high", "low")))
    routing = Routing(project="ferries", owner="data-team", owners={"late_ferry": "ferry-team"}, routes=routes)
    affected = Affected("ferries", "prepare", None, ("late_ferry",), 1, "data-team")
    sent: list[Message] = []
    monkeypatch.setattr("include.config.loading.load_routing", lambda project: routing)
    monkeypatch.setattr(alerts, "find_affected", lambda dag_id: affected)
    monkeypatch.setattr(alerts, "_is_stored", lambda *_: False)
    monkeypatch.setattr(alerts, "_send_directly", sent.extend)
    TASK_FAILED(context(bag, failure(DataError("no rows"))))
    assert [each.destination for each in sent] == ["oncall_pager"]
    assert str(sent[0].payload["text"]).startswith("[critical] ") and sent[0].payload["severity"] == "critical"


def test_a_watcher_that_stopped_is_reported_once(stored: Settings, receiver: Receiver) -> None:
    report_dead_watcher()
    assert states(stored) == [], "it was never started here"
    long_ago = datetime(2026, 11, 1, tzinfo=UTC)
    postgres.watches.record_look(stored.database_url, long_ago, timedelta(minutes=2), [])
    for _ in range(2):
        report_dead_watcher()
    assert send_waiting(seconds=5) == 1
    assert "the watcher last looked at 2026-11-01 00:00 UTC" in receiver.texts[0]
