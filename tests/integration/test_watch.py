"""The watcher, on a real PostgreSQL with a real receiver, by a clock that is passed in. Airflow does not run here."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from include.core.incidents import SCORES_LATE
from include.core.interval import Interval
from include.core.outbox import ALERTS, Message
from include.core.project import Project
from include.core.records import Alert
from include.core.settings import Settings
from include.io import postgres
from include.io.postgres.messages import Outbox
from include.operations.watch import Watcher, airflow_health, dead_watcher, settings_of
from include.steps.monitor import SCOPE
from tests.receiver import Receiver, receiving

pytestmark = pytest.mark.timeout(180)

DAY = date(2026, 11, 24)
MODEL = "late_ferry"
DUE = datetime(2026, 11, 24, 11, tzinfo=UTC)
"""06:00 in New York, when the scores of DAY are due."""

NOWHERE = "postgresql://nobody@127.0.0.1:9/nothing"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture
def start(settings: Settings, receiver: Receiver, tmp_path: Path) -> Callable[..., Watcher]:
    """Return a function that starts a watcher; a second one is the same after a restart."""

    def make(url: str = "", **more: Any) -> Watcher:
        database = settings_of(url or settings.database_url.get_secret_value())
        found = {
            "find_address": {ALERTS: receiver.url}.get,
            "memory": tmp_path / "memory.json",
            "projects": ["ferries"],
        }
        return Watcher(database, **{**found, **more})

    return make


def execute(settings: Settings, statement: str, **values: Any) -> None:
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text(statement), values)


def promoted(settings: Settings, at: datetime = DUE - timedelta(days=30), from_day: date = date(2026, 1, 1)) -> None:
    execute(
        settings,
        "INSERT INTO promotions (model, model_version, from_day, by, why, run_id, created_at) "
        "VALUES (:model, 1, :day, 'gate', 'passed', 'r', :at)",
        model=MODEL,
        day=from_day,
        at=at,
    )


# --- deadlines --------------------------------------------------------------------------------------------------------


def test_predictions_that_nobody_made_are_missed_at_their_deadline_and_reported_once(
    settings: Settings, receiver: Receiver, start: Callable[..., Watcher]
) -> None:
    promoted(settings)
    ended = DUE - timedelta(days=1)
    days = Interval.of(DAY)
    postgres.audit.record_step(settings, "land", "ferries", days, state="success", started_at=ended, ended_at=ended)
    [sentence] = start().look(DUE)
    assert "no scores of 2026-11-24 are published, which were due by 06:00 on 2026-11-24 (America/New_York)" in sentence
    assert "Runbook: docs/runbooks/alert-scores-late.md" in sentence
    start().look(DUE + timedelta(minutes=2))
    start().look(DUE + timedelta(hours=5))
    [text] = receiver.texts
    any_of = "at least one of the feeds sailings, winds, logbook is late"
    assert text.startswith(f"[high] {any_of}: none of them has an accepted delivery that 2026-11-24 needs\n")
    seen = f"{MODEL}: there are no scores of 2026-11-24 and of no day before"
    assert f"Readers: {seen}. The newest step of ferries ended at 2026-11-23 11:00 UTC\n" in text
    assert "2026-11-23" in start().look(DUE - timedelta(seconds=1))[0], "the day before is missing, too"

    late = {"effect": seen, "scored_day": DAY, "late_feed": "sailings", "because": "feed sailings is late"}
    next_day, day_after = DAY + timedelta(days=1), DAY + timedelta(days=2)
    monitor_too = Alert(subject=MODEL, rule=SCORES_LATE, day=next_day, sentence="late", **late)
    raise_alerts = postgres.alerts.raise_alerts
    found = raise_alerts(settings, "ferries", [monitor_too], scope=SCOPE, looked=[next_day])
    assert found == (), "the monitor reports it again"
    for _ in range(2):
        assert raise_alerts(settings, "ferries", [], scope=SCOPE, looked=[day_after]) == ()
        start().look(DUE + timedelta(hours=5))
    assert receiver.texts[0] == text
    assert [each.splitlines()[0] for each in receiver.texts[1:]] == [f"[recovered] {any_of}"]


@pytest.mark.parametrize(
    ("champion_at", "published_at"),
    [
        (None, None),
        (DUE + timedelta(minutes=1), None),
        (DUE - timedelta(days=30), DUE - timedelta(hours=1)),
        (DUE - timedelta(days=30), DUE + timedelta(minutes=1)),
    ],
    ids=["no champion", "promoted after the deadline", "published", "late, but there: the monitor reports it"],
)
def test_nothing_is_missed(
    settings: Settings,
    receiver: Receiver,
    start: Callable[..., Watcher],
    champion_at: datetime | None,
    published_at: datetime | None,
) -> None:
    if champion_at:
        promoted(settings, champion_at)
    if published_at:
        published(settings, DAY, published_at)
    assert start().look(DUE + timedelta(hours=1)) == []
    assert receiver.texts == []


def published(settings: Settings, day: date, at: datetime) -> None:
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))  # the batch does not exist
        values = {"model": MODEL, "day": day, "batch_id": uuid4(), "mode": "replace", "run_id": "r", "published_at": at}
        connection.execute(sa.insert(postgres.schema.publications).values(values))


def test_a_deadline_is_local_also_when_the_clock_changes(settings: Settings, start: Callable[..., Watcher]) -> None:
    """New York goes from UTC−5 to UTC−4 on 8 March 2026."""
    promoted(settings, datetime(2026, 1, 1, tzinfo=UTC))

    def missing(now: datetime) -> str:
        [sentence] = start().look(now)
        return sentence.partition("no scores of ")[2][:10]

    assert missing(datetime(2026, 3, 7, 10, 30, tzinfo=UTC)) == "2026-03-06"
    assert missing(datetime(2026, 3, 7, 11, 0, tzinfo=UTC)) == "2026-03-07"
    assert missing(datetime(2026, 3, 8, 9, 59, tzinfo=UTC)) == "2026-03-07"
    assert missing(datetime(2026, 3, 8, 10, 0, tzinfo=UTC)) == "2026-03-08"


def test_nothing_is_due_on_a_day_without_entities(
    settings: Settings, start: Callable[..., Watcher], load_changed: Callable[..., Project]
) -> None:
    promoted(settings)
    load_changed("ferries", lambda declared: declared["feeds"]["sailings"].update(days="mon-sat"))
    assert start().look(DUE + timedelta(days=5)) == [], "29 November is a Sunday"
    assert start().look(DUE + timedelta(days=4)) != []


# --- Airflow and the outbox -------------------------------------------------------------------------------------------


@contextmanager
def api_server(report: dict[str, Any]) -> Iterator[str]:
    """Serve the report about Airflow's health."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/v2/monitor/health" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(report).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_dead_scheduler_is_reported_once_after_some_minutes(
    receiver: Receiver, start: Callable[..., Watcher]
) -> None:
    report = {"scheduler": {"status": "healthy", "latest_scheduler_heartbeat": "2026-11-24T10:59:00Z"}}
    with api_server(report) as url:
        watcher = start(airflow=airflow_health(url))
        assert watcher.look(DUE) == []
        report["scheduler"]["status"] = "unhealthy"
        for minutes in (2, 4):
            [sentence] = watcher.look(DUE + timedelta(minutes=minutes))
        assert receiver.texts == [], "it may only be started again"
        for minutes in (8, 10):
            watcher.look(DUE + timedelta(minutes=minutes))
    assert sentence == "Airflow's scheduler is unhealthy; its last heartbeat was 2026-11-24T10:59:00Z"
    [text] = receiver.texts
    assert text.startswith(f"{sentence}. No DAG runs before it works again") and "docs/runbooks/watcher.md" in text


def test_an_api_server_that_does_not_answer_is_reported(receiver: Receiver, start: Callable[..., Watcher]) -> None:
    watcher = start(airflow=airflow_health("http://127.0.0.1:9"))
    for minutes in (0, 6, 8):
        watcher.look(DUE + timedelta(minutes=minutes))
    [text] = receiver.texts
    assert text.startswith("Airflow's API server gives no report about its health (ConnectError)")


def test_messages_that_are_stuck_are_reported_to_others(
    settings: Settings, receiver: Receiver, start: Callable[..., Watcher]
) -> None:
    made = Message.of_text("a", "a", kind="task_failed", subject="dag.a", run_id="r")
    Outbox(settings.database_url).put(made.model_copy(update={"destination": "oncall_mail"}))
    now = datetime.now(UTC)
    assert start().look(now + timedelta(minutes=29)) == []
    for minutes in (31, 33):
        [sentence] = start().look(now + timedelta(minutes=minutes))
    assert sentence.startswith("1 messages to oncall_mail wait, the oldest since")
    assert "there is no connection oncall_mail" in sentence
    assert len(receiver.texts) == 1 and "alert test --to oncall_mail" in receiver.texts[0]


# --- the shared database ----------------------------------------------------------------------------------------------


def test_a_database_that_is_down_is_reported_directly_once_and_so_is_its_return(
    settings: Settings, receiver: Receiver, start: Callable[..., Watcher]
) -> None:
    watcher = start(NOWHERE)
    assert watcher.look(DUE) == ["the shared database does not answer (OperationalError)"]
    watcher.look(DUE + timedelta(minutes=1))
    assert receiver.texts == [], "a restart takes seconds"
    watcher.look(DUE + timedelta(minutes=3))
    assert (
        len(receiver.texts) == 1 and "does not answer" in receiver.texts[0] and "2026-11-24 11:00" in receiver.texts[0]
    )
    start(NOWHERE).look(DUE + timedelta(minutes=10))
    assert len(receiver.texts) == 1, "a watcher that was started again repeats it"
    start(NOWHERE).look(DUE + timedelta(hours=13))
    assert len(receiver.texts) == 2, "after half a day it is said again"
    receiver.got.clear()
    for minutes in (1, 3):
        start().look(DUE + timedelta(hours=13, minutes=minutes))
    [text] = receiver.texts
    assert "The shared database answers again. It did not from 2026-11-24 11:00 to 2026-11-25 00:01 UTC" in text


def test_a_restart_of_the_database_is_survived_in_silence(
    settings: Settings, receiver: Receiver, start: Callable[..., Watcher]
) -> None:
    watcher = start()
    assert watcher.look(DUE) == []
    there, watcher.settings = watcher.settings, settings_of(NOWHERE)
    assert watcher.look(DUE + timedelta(minutes=1)) != []
    watcher.settings = there
    for minutes in (2, 60):
        assert watcher.look(DUE + timedelta(minutes=minutes)) == []
    assert receiver.texts == []


# --- who watches the watcher ------------------------------------------------------------------------------------------


def test_a_watcher_that_no_longer_looks_is_seen(settings: Settings, start: Callable[..., Watcher]) -> None:
    assert dead_watcher(settings.database_url, DUE) is None, "it was never started here"
    start(every=timedelta(minutes=2)).look(DUE)
    assert dead_watcher(settings.database_url, DUE + timedelta(minutes=7)) is None
    sentence = dead_watcher(settings.database_url, DUE + timedelta(minutes=8))
    assert sentence is not None and "the watcher last looked at 2026-11-24 11:00 UTC" in sentence
    start().look(datetime.now(UTC))
    with postgres.connection.engine(settings).connect() as connection:
        assert connection.scalar(sa.text("SELECT is_alive FROM watcher_status")) is True


def test_the_process_sends_a_message_without_airflow(settings: Settings, receiver: Receiver, tmp_path: Path) -> None:
    promoted(settings, datetime(2026, 1, 1, tzinfo=UTC))
    variables = {
        "NIGHTLY_DATABASE_URL": settings.database_url.get_secret_value(),
        "NIGHTLY_DESTINATIONS": json.dumps({ALERTS: receiver.url}),
    }
    command = [sys.executable, "-m", "include.cli", "watch", "--project", "ferries", "--every", "1"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTLY_")}
    kept |= {"NIGHTLY_PROJECTS": os.environ["NIGHTLY_PROJECTS"]} | variables
    process = subprocess.Popen([*command, "--memory", str(tmp_path / "m")], env=kept, stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 100
        while not receiver.got and process.poll() is None and time.monotonic() < until:
            time.sleep(0.2)
        time.sleep(3)  # more looks
    finally:
        process.terminate()
        _, said = process.communicate(timeout=30)
    [text] = receiver.texts
    assert f"Readers: {MODEL}: there are no scores of " in text and "No step of ferries ever ended" in text
    assert "token-that-nobody" not in said.decode()
