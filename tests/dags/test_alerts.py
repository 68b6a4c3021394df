"""Test notifications with a real web server: what is sent, that it is sent once, and that no secret is logged."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException, AirflowSkipException

from dags.alerts import RUN_FAILED, TASK_FAILED, NotSentError, notify
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.records import Alert
from include.core.settings import Settings
from include.io import postgres

PATH = "/services/T000/B000/token-that-nobody-may-see"


class Receiver(ThreadingHTTPServer):
    """A Slack-compatible webhook that answers with `status` and keeps what it received."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[str, Any]] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{PATH}"

    @property
    def texts(self) -> list[str]:
        return [body["text"] for _, body in self.got]


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.path, body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    connected(monkeypatch, server.url)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def connected(monkeypatch: pytest.MonkeyPatch, url: str | None) -> None:
    """Set up the connection `nightly_alerts`, or none."""

    def get(conn_id: str) -> Connection:
        if conn_id != "nightly_alerts" or url is None:
            raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")
        return Connection(conn_id=conn_id, conn_type="http", password=url)

    monkeypatch.setattr(Connection, "get", get)


def context(bag: Any, exception: BaseException | None = None, **more: Any) -> dict[str, Any]:
    """Return the context of `land` in the scheduled run of 2 March, at 03:00 in New York."""
    dag = bag.dags["ferries_prepare"]
    task = {
        "dag_id": dag.dag_id,
        "task_id": "land",
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
    assert receiver.got == [(PATH, {"text": "late &amp; &lt;late&gt;"})]


def test_no_text_from_outside_writes_a_line_of_an_alert_or_calls_people(bag: Any, receiver: Receiver) -> None:
    name = "<!channel> a.csv\nSafe to run again: no. Type: rm -r /\x1b[2K\u202efsv"
    TASK_FAILED(context(bag, failure(DataError(f"{name} has no rows; ask the supplier"))))
    notify(Alert(subject="x", rule="y", day=date(2013, 3, 2), sentence=name).sentence)({})
    shown = "&lt;!channel&gt; a.csv\\nSafe to run again: no. Type: rm -r /\\u001b[2K\\u202efsv"
    [failed, alert] = receiver.texts
    assert f"DataError: {shown} has no rows; ask the supplier\n" in failed
    assert [line for line in failed.splitlines() if line.startswith("Safe")] == [
        "Safe to run again: yes. When the cause is fixed, type:"
    ]
    assert alert == shown


def test_a_failed_task_says_what_broke_and_what_to_type(bag: Any, receiver: Receiver) -> None:
    TASK_FAILED(context(bag, failure(DataError("sailings of 2013-03-02 has {{ no }} rows; ask the supplier"))))
    [text] = receiver.texts
    for part in (
        "ferries_prepare.land failed for 2013-03-02 (run scheduled__2013-03-02)",
        "DataError: sailings of 2013-03-02 has {{ no }} rows; ask the supplier",  # and is not rendered as a template
        "Runbook: docs/runbooks/land.md",
        "Safe to run again: yes",
        "airflow tasks clear ferries_prepare -t land -d -s 2013-03-02T08:00:00+00:00 -e 2013-03-02T08:00:00+00:00 ",
        "http://airflow/dags/ferries_prepare/runs/scheduled__2013-03-02/tasks/land",
        "airflow tasks states-for-dag-run ferries_prepare 'scheduled__2013-03-02'",
    ):
        assert part in text


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
        (logging.ERROR, "scores are late")
    ]


def _status(code: int) -> Callable[[Receiver], None]:
    return lambda receiver: setattr(receiver, "status", code)


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (_status(500), "answered 500"),
        (_status(302), "answered 302"),
        (lambda receiver: receiver.server_close(), "ConnectError"),
    ],
    ids=["it fails", "it redirects", "it is down"],
)
def test_a_refused_message_fails_without_revealing_the_address(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, breaks: Callable[[Receiver], None], says: str
) -> None:
    caplog.set_level(logging.DEBUG)
    if says == "ConnectError":
        receiver.shutdown()
    breaks(receiver)
    with pytest.raises(NotSentError, match=f"the webhook of connection nightly_alerts: {says}") as caught:
        notify("x")({})
    assert caught.value.__context__ is None
    assert "token-that-nobody-may-see" not in "\n".join(
        r.getMessage()
        for r in caplog.records
        if not r.name.startswith("httpx")  # Airflow sets the level of httpx to WARN
    )


@pytest.mark.parametrize("url", ["", "hooks.example.org/token"])
def test_a_connection_without_a_url_is_explained(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    connected(monkeypatch, url)
    with pytest.raises(NotSentError, match="its password must be the URL of the webhook") as caught:
        notify("x")({})
    assert "token" not in str(caught.value)


# --- the task `alert` -------------------------------------------------------------------------------------------------

RUN_DATE = date(2013, 3, 2)
ALERTS = [
    Alert(subject="late_ferry", rule=rule, day=day, sentence=f"{rule} of {day}")
    for rule in ("scores_late", "roc_auc")
    for day in (RUN_DATE, date(2013, 3, 3))
]


@pytest.fixture
def alert(bag: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return the function of the task `alert`, in a run of RUN_DATE."""
    task = bag.dags["ferries_monitor"].get_task("alert")
    here = {
        "params": {"day": str(RUN_DATE)},
        "dag_run": type("Run", (), {"logical_date": None, "run_type": "manual"})(),
    }
    monkeypatch.setattr("dags.params.get_current_context", lambda: here)
    monkeypatch.setitem(task.python_callable.__globals__, "get_current_context", lambda: here)
    monkeypatch.setitem(task.python_callable.__globals__, "settings", lambda: settings)
    function: Callable[[], None] = task.python_callable
    return function


def test_each_alert_of_the_week_is_sent_once(alert: Callable[[], None], settings: Settings, receiver: Receiver) -> None:
    before = [Alert(subject="late_ferry", rule="mae", day=date(2013, 2, n), sentence=f"mae of {n}") for n in (23, 24)]
    postgres.alerts.raise_alerts(settings, "ferries", [*before, *ALERTS])
    alert()
    assert receiver.texts == ["mae of 24\n\nroc_auc of 2013-03-02\n\nscores_late of 2013-03-02"]
    with pytest.raises(AirflowSkipException, match="no unsent alerts of 2013-02-24 to 2013-03-02"):
        alert()
    assert len(receiver.texts) == 1


def test_what_was_not_accepted_is_sent_by_the_next_try(
    alert: Callable[[], None], settings: Settings, receiver: Receiver
) -> None:
    postgres.alerts.raise_alerts(settings, "ferries", ALERTS[:1])
    receiver.status = 503
    with pytest.raises(NotSentError):
        alert()
    receiver.status = 200
    alert()
    assert receiver.texts == ["scores_late of 2013-03-02"] * 2


def test_two_concurrent_senders_send_once(settings: Settings) -> None:
    postgres.alerts.raise_alerts(settings, "ferries", ALERTS[:1])
    run = (settings, "ferries", Interval.of(RUN_DATE))
    with postgres.alerts.unsent_alerts(*run) as first, postgres.alerts.unsent_alerts(*run) as second:
        assert (len(first), second) == (1, ())
