"""The outbox, on a real PostgreSQL, with a real receiver that fails, hangs, dies and comes back, and killed senders."""

import json
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from typer.testing import CliRunner

from include.cli import app
from include.core.outbox import ALERTS, Message
from include.core.records import Alert
from include.core.settings import Settings
from include.io import outbox as sending
from include.io import postgres
from include.io.outbox import Dispatched, send_due
from include.io.postgres.messages import LEASE, Outbox
from tests.integration.processes import processes
from tests.receiver import Answer, Receiver, receiving
from tests.servers import serving

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture
def outbox(settings: Settings) -> Outbox:
    return Outbox(settings.database_url)


def message(text: str, **changes: Any) -> Message:
    made = Message.of_text(text, text, kind="task_failed", subject=f"dag.{text}", run_id="r", task=f"dag.{text}")
    return made.model_copy(update=changes)


def send(outbox: Outbox, receiver: Receiver, **more: Any) -> Dispatched:
    return send_due(outbox, {ALERTS: receiver.url}.get, **{"seconds": 30, **more})


def states(outbox: Outbox) -> dict[str, tuple[str, int, str | None]]:
    """Return state, tries and last error of each message, by its text."""
    with outbox._engine.begin() as connection:
        rows = connection.execute(sa.text("SELECT payload, state, attempts, last_error FROM outbox ORDER BY id")).all()
    return {row.payload["text"]: (row.state, row.attempts, row.last_error) for row in rows}


def pass_time(outbox: Outbox, time: timedelta) -> None:
    """Let time pass for all messages."""
    moments = ("created_at", "not_before", "deadline", "hold_until", "sent_at", "given_up_at")
    changes = ", ".join(f"{name} = {name} - :time" for name in moments)
    with outbox._engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE messages SET {changes}"), {"time": time})


# --- what the receiver does -------------------------------------------------------------------------------------------


def test_messages_are_sent_once_in_order_with_their_keys(outbox: Outbox, receiver: Receiver) -> None:
    messages = [message(text) for text in ("late & <late>", "b")]
    for each in [*messages, *messages]:  # a callback that runs twice
        outbox.put(each)
    assert send(outbox, receiver).sent == (1, 2)
    assert receiver.texts == ["late &amp; &lt;late&gt;", "b"]
    assert receiver.keys == [each.key for each in messages]
    assert send(outbox, receiver) == Dispatched()
    assert states(outbox) == {"late & <late>": ("sent", 1, None), "b": ("sent", 1, None)}


def test_the_wait_that_a_receiver_asks_for_holds_for_all_its_messages(outbox: Outbox, receiver: Receiver) -> None:
    receiver.planned = [Answer(429, {"Retry-After": "600"})]
    for text in ("a", "b"):
        outbox.put(message(text))
    found = send(outbox, receiver)
    assert (found.sent, found.waiting) == ((), ("message 1 about dag.a: answered 429",))
    assert [request.text for request in receiver.asked] == ["a"], "the second one was sent although asked to wait"
    outbox.put(message("c"))
    pass_time(outbox, timedelta(seconds=590))
    assert send(outbox, receiver).sent == send(outbox, receiver, first=3).sent == ()
    assert len(receiver.asked) == 1
    pass_time(outbox, timedelta(seconds=11))
    assert send(outbox, receiver).sent == (1, 2, 3)
    assert receiver.texts == ["a", "b", "c"]


def test_a_date_in_retry_after_is_obeyed(outbox: Outbox, receiver: Receiver) -> None:
    in_ten_minutes = (datetime.now(UTC) + timedelta(minutes=10)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    receiver.planned = [Answer(503, {"Retry-After": in_ten_minutes})]
    outbox.put(message("a"))
    send(outbox, receiver)
    pass_time(outbox, timedelta(minutes=9, seconds=50))
    assert send(outbox, receiver).sent == ()
    pass_time(outbox, timedelta(seconds=12))
    assert send(outbox, receiver).sent == (1,)


BROKEN = {
    "it fails": (Answer(500), "answered 500"),
    "it hangs": (Answer(seconds=5), "no answer within 1 s"),
    "it drips": (Answer(seconds=0.2, drips=True), "no answer within 1 s"),
    "it hangs up": (Answer(drops=True), "RemoteProtocolError"),
}


@pytest.mark.parametrize(("answer", "reason"), BROKEN.values(), ids=BROKEN)
def test_what_fails_is_tried_again_later_and_later(
    outbox: Outbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, answer: Answer, reason: str
) -> None:
    monkeypatch.setattr(sending, "TRY_SECONDS", 1)
    receiver.planned = [answer, answer]
    outbox.put(message("a"))
    begun = time.monotonic()
    assert send(outbox, receiver).waiting == (f"message 1 about dag.a: {reason}",)
    assert time.monotonic() - begun < 4
    assert send(outbox, receiver) == Dispatched(), "it must wait first"
    pass_time(outbox, timedelta(minutes=1))
    assert send(outbox, receiver).waiting == (f"message 1 about dag.a: {reason}",)
    assert states(outbox) == {"a": ("waiting", 2, reason)}
    pass_time(outbox, timedelta(seconds=59))
    assert send(outbox, receiver) == Dispatched(), "the second wait is twice as long, at least a minute"
    pass_time(outbox, timedelta(minutes=1, seconds=1))
    assert send(outbox, receiver).sent == (1,)
    assert states(outbox) == {"a": ("sent", 3, None)}


@pytest.mark.parametrize("status", [302, 400, 403, 404, 410])
def test_what_is_refused_for_good_is_given_up_at_once_and_shown(
    outbox: Outbox, receiver: Receiver, status: int
) -> None:
    receiver.planned = [Answer(status, {"Location": receiver.url})]
    outbox.put(message("a"))
    assert send(outbox, receiver).given_up == (f"message 1 about dag.a: answered {status}",)
    pass_time(outbox, timedelta(hours=2))
    assert send(outbox, receiver) == Dispatched()
    assert states(outbox) == {"a": ("given up", 1, f"answered {status}")}
    assert outbox.renew(datetime.now(UTC) - timedelta(days=1)) == 1
    assert send(outbox, receiver).sent == (1,)
    assert receiver.keys == [message("a").key] and len(receiver.asked) == 2


def test_a_message_is_given_up_after_its_deadline(outbox: Outbox, receiver: Receiver) -> None:
    receiver.status = 500
    outbox.put(message("a"))
    tries, passed = 1, timedelta(0)
    while not (found := send(outbox, receiver)).given_up:
        tries += len(found.waiting)
        pass_time(outbox, timedelta(minutes=10))
        passed += timedelta(minutes=10)
    [reason] = found.given_up  # the wait is random: the last try may be seen as too late before it or when it is due
    assert reason in {
        "message 1 about dag.a: answered 500; the next try would be after its deadline",
        "message 1 about dag.a: not sent before its deadline; before that: answered 500",
    }
    assert timedelta(hours=23) <= passed <= timedelta(hours=24, minutes=10)
    assert 23 < tries < 50, "some tries at first, and then at least one an hour"
    [(state, attempts, error)] = states(outbox).values()
    assert (state, attempts) == ("given up", tries) and error in reason


def test_an_expired_message_is_given_up_without_a_try_and_the_others_are_sent(
    outbox: Outbox, receiver: Receiver
) -> None:
    outbox.put(message("a", kept_for=timedelta(hours=1)))
    outbox.put(message("b"))
    pass_time(outbox, timedelta(hours=2))
    found = send(outbox, receiver)
    assert (found.sent, found.given_up) == ((2,), ("message 1 about dag.a: not sent before its deadline",))
    assert receiver.texts == ["b"]


def test_a_wait_beyond_the_deadline_gives_the_message_up(outbox: Outbox, receiver: Receiver) -> None:
    receiver.planned = [Answer(429, {"Retry-After": "7200"})]
    outbox.put(message("a", kept_for=timedelta(hours=1)))
    assert "answered 429; the next try would be after its deadline" in send(outbox, receiver).given_up[0]
    assert states(outbox) == {"a": ("given up", 1, "answered 429")}


def test_without_the_connection_messages_wait_and_are_seen(outbox: Outbox, receiver: Receiver) -> None:
    outbox.put(message("a"))
    for _ in range(2):
        found = send_due(outbox, lambda _: None, seconds=5)
        assert found.waiting == ("messages to nightly_alerts: there is no connection nightly_alerts",)
    assert states(outbox) == {"a": ("waiting", 0, "there is no connection nightly_alerts")}
    pass_time(outbox, timedelta(days=30))
    send_due(outbox, lambda _: None, seconds=5)
    assert states(outbox)["a"][0] == "waiting", "without a receiver nothing has failed"
    outbox.put(message("b"))
    found = send(outbox, receiver)
    assert (receiver.texts, len(found.given_up)) == (["b"], 1), "nobody wants to read what failed a month ago"


@pytest.mark.parametrize("address", ["", "hooks.example.org/token", "postgresql://me:token@host/db", "https://[token"])
def test_an_address_that_is_none_is_explained_and_not_shown(
    outbox: Outbox, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    outbox.put(message("a"))
    [sentence] = send_due(outbox, lambda _: address, seconds=5).waiting
    assert "connection nightly_alerts: its password must be the URL of the webhook" in sentence
    assert states(outbox)["a"][:2] == ("waiting", 0)
    assert "token" not in sentence + str(states(outbox)) + caplog.text


def test_no_address_and_no_answer_is_in_a_row_or_a_log(
    outbox: Outbox, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.planned = [Answer(500), Answer(drops=True), Answer(404, {"X-Secret": "token-that-nobody-may-see"})]
    outbox.put(message("a"))
    said = []
    for _ in range(3):
        said.append(send(outbox, receiver))
        pass_time(outbox, timedelta(hours=1))
    assert len(receiver.asked) == 3
    with outbox._engine.begin() as connection:
        rows = connection.execute(sa.text("SELECT row_to_json(m)::text FROM messages m")).all()
    assert "answered 500" in str(rows) + str(said)
    assert "token-that-nobody" not in f"{rows}{said}{caplog.text}"


def test_a_destination_that_fails_does_not_stop_another(outbox: Outbox, receiver: Receiver) -> None:
    receiver.planned = [Answer(500)]
    with receiving() as other:
        for text, destination in (("a", ALERTS), ("b", ALERTS), ("c", "other")):
            outbox.put(message(text, destination=destination))
        send_due(outbox, {ALERTS: receiver.url, "other": other.url}.get, seconds=30)
        assert ([r.text for r in receiver.asked], other.texts) == (["a"], ["c"])


def test_a_slow_destination_does_not_delay_another(outbox: Outbox, receiver: Receiver) -> None:
    receiver.planned = [Answer(seconds=3)]
    with receiving() as other:
        for text, destination in (("a", ALERTS), ("b", "other"), ("c", "other")):
            outbox.put(message(text, destination=destination))
        sending_all = threading.Thread(
            target=send_due,
            args=(outbox, {ALERTS: receiver.url, "other": other.url}.get),
            kwargs={"seconds": 30, "first": 1},
        )
        started = time.monotonic()
        sending_all.start()
        while len(other.texts) < 2 and time.monotonic() - started < 2:
            time.sleep(0.02)
        assert other.texts == ["b", "c"], "although the first message takes three seconds"
        assert [state for state, *_ in states(outbox).values()].count("waiting") >= 1
        sending_all.join()
    assert [state for state, *_ in states(outbox).values()] == ["sent"] * 3


def test_a_message_of_newer_code_is_left_to_it(outbox: Outbox, receiver: Receiver) -> None:
    outbox.put(message("a"))
    with outbox._engine.begin() as connection:
        connection.execute(sa.text("UPDATE messages SET channel = 'pigeon'"))
    assert send(outbox, receiver).sent == ()
    assert states(outbox)["a"][:2] == ("waiting", 0)


def test_sending_ends_in_time_and_goes_on_later(outbox: Outbox, receiver: Receiver) -> None:
    for n in range(20):
        outbox.put(message(str(n)))
    receiver.seconds = 0.2
    found = send(outbox, receiver, seconds=1, first=15)
    assert 1 <= len(found.sent) < 10
    assert receiver.texts[0] == "14", "the sender's own message comes first"
    receiver.seconds = 0
    send(outbox, receiver)
    assert Counter(receiver.texts) == Counter(str(n) for n in range(20))


# --- the receiver dies and comes back ---------------------------------------------------------------------------------


def test_the_receiver_is_killed_and_started_again(outbox: Outbox, settings: Settings, tmp_path: Path) -> None:
    accepted = tmp_path / "accepted"

    def begin(port: int) -> list[str]:
        return [sys.executable, "-m", "tests.receiver", str(port), str(accepted)]

    def sent(port: int) -> Dispatched:
        return send_due(outbox, {ALERTS: f"http://127.0.0.1:{port}/x"}.get, seconds=30)

    outbox.put(message("a"))
    with serving(begin) as (port, _):  # it is killed at the end of the block
        assert sent(port).sent == (1,)
    outbox.put(message("b"))
    assert sent(port).waiting == ("message 2 about dag.b: ConnectError",)
    pass_time(outbox, timedelta(minutes=5))
    with serving(begin) as (port, _):
        assert sent(port).sent == (2,)
    assert [json.loads(line)["text"] for line in accepted.read_text().splitlines()] == ["a", "b"]


# --- the sender dies --------------------------------------------------------------------------------------------------

STEPS = {
    "before it takes the message": ("include.io.postgres.messages:Outbox.take", "before", 1),
    "when it has taken it": ("include.io.postgres.messages:Outbox.take", "after", 1),
    "before it sends": ("include.io.outbox:send", "before", 1),
    "when it has sent": ("include.io.outbox:send", "after", 2),
    "before it records that": ("include.io.postgres.messages:Outbox.mark_sent", "before", 2),
    "when it has recorded that": ("include.io.postgres.messages:Outbox.mark_sent", "after", 1),
}


@pytest.mark.parametrize(("at", "when", "received"), STEPS.values(), ids=STEPS)
def test_a_killed_sender_loses_no_message(
    outbox: Outbox, settings: Settings, receiver: Receiver, at: str, when: str, received: int
) -> None:
    """It is received twice only if the sender died between sending and recording it, and then with the same key."""
    outbox.put(message("a"))
    with processes(with_destination(settings, receiver), 1) as started:
        started.all([{"do": "kill", "at": at, "call": 1, "when": when}])
        assert started.all([{"do": "send"}]) == [None], "the sender was not killed"
    if states(outbox)["a"] == ("waiting", 1, None):
        assert send(outbox, receiver) == Dispatched(), "for a minute it may still be alive"
        pass_time(outbox, LEASE)
    send(outbox, receiver)
    assert receiver.keys == [message("a").key] * received
    assert states(outbox)["a"][0] == "sent"


def with_destination(settings: Settings, receiver: Receiver) -> Settings:
    return settings.model_copy(update={"destinations": {ALERTS: SecretStr(receiver.url)}})


def test_two_senders_at_once_send_each_message_once(outbox: Outbox, settings: Settings, receiver: Receiver) -> None:
    receiver.seconds = 0.02
    for n in range(30):
        outbox.put(message(str(n)))
    with processes(with_destination(settings, receiver), 2) as started:
        answers = started.all([{"do": "send"}] * 2)
    assert sorted(n for answer in answers for n in answer["sent"]) == [*range(1, 31)]
    assert all(len(answer["sent"]) > 3 for answer in answers), "one of them did all the work"
    assert Counter(receiver.texts) == Counter(str(n) for n in range(30))


def test_a_sender_that_was_overtaken_changes_nothing_but_that_it_has_sent(
    outbox: Outbox, settings: Settings, receiver: Receiver
) -> None:
    """A process that was stopped for minutes goes on: another one has taken its message since."""
    outbox.put(message("a"))
    slow = outbox.take([ALERTS], ["chat"])
    assert slow is not None
    pass_time(outbox, LEASE)
    assert outbox.take([ALERTS], ["chat"]) is not None
    outbox.give_up(slow, "answered 404")
    outbox.postpone(slow, "answered 500", timedelta(hours=1))
    assert states(outbox) == {"a": ("waiting", 2, None)}
    outbox.mark_sent(slow)
    assert states(outbox)["a"][0] == "sent"
    pass_time(outbox, LEASE)
    assert send(outbox, receiver) == Dispatched()


def test_what_was_sent_but_cannot_be_recorded_is_not_sent_again_at_once(
    outbox: Outbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lost(*_: object) -> None:
        raise sa.exc.OperationalError("UPDATE", {}, Exception("the connection is lost"))

    outbox.put(message("a"))
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "mark_sent", lost)
        assert send(outbox, receiver).sent == (1,)
    assert "was sent, but not recorded" in caplog.text
    assert send(outbox, receiver) == Dispatched()


# --- the cause and its message ----------------------------------------------------------------------------------------

DAY = date(2013, 3, 2)


def alerts_of(*rules: str, sentence: str = "{} of the day") -> list[Alert]:
    return [Alert(subject="late_ferry", rule=rule, day=DAY, sentence=sentence.format(rule)) for rule in rules]


def notified(settings: Settings) -> dict[str, bool]:
    with postgres.connection.engine(settings).connect() as connection:
        rows = connection.execute(sa.text("SELECT rule, notified_at IS NOT NULL FROM alert_history")).all()
    return dict(tuple(row) for row in rows)


def test_each_incident_of_a_step_is_a_message_that_is_sent_once(
    outbox: Outbox, settings: Settings, receiver: Receiver
) -> None:
    postgres.alerts.raise_alerts(settings, "ferries", alerts_of("roc_auc", "mae"))
    postgres.alerts.raise_alerts(settings, "ferries", alerts_of("mae", "scores_late"))
    postgres.alerts.raise_alerts(settings, "ferries", alerts_of("mae"))
    assert notified(settings) == {"roc_auc": False, "mae": False, "scores_late": False}
    assert send(outbox, receiver, seconds=30).sent == (1, 2, 3)
    said = [text.splitlines()[0] for text in receiver.texts]
    assert sorted(said[:2]) == ["[low] mae of the day", "[low] roc_auc of the day"]
    assert said[2] == "[low] scores_late of the day"
    assert notified(settings) == {"roc_auc": True, "mae": True, "scores_late": True}


def test_an_alert_is_stored_for_each_of_its_destinations_and_they_fail_apart(
    outbox: Outbox, settings: Settings, receiver: Receiver, load_changed: Callable[..., Any]
) -> None:
    routes = [
        {"to": ALERTS},
        {"to": "desk", "models": ["late_ferry"], "severities": ["high"]},
        {"to": "x", "owners": ["y"]},
    ]
    load_changed("ferries", lambda declared: declared.update(notify=routes))
    for _ in range(2):
        about = {"models": ("late_ferry",), "effect": "scores are poor"}
        raised = [alert.model_copy(update=about) for alert in alerts_of("mae")]
        raised.append(Alert(subject="raw_ferries__winds", rule="mae", day=DAY, sentence="winds"))
        postgres.alerts.raise_alerts(settings, "ferries", raised)
    with receiving() as desk:
        receiver.planned = [Answer(500)]
        signed = json.dumps({"channel": "webhook", "url": desk.url, "secret": "a-secret-of-the-desk"})
        send_due(outbox, {ALERTS: receiver.url, "desk": signed}.get, seconds=30)
        [request] = desk.got
        assert len(receiver.asked) == 1, "the other one waits for the destination"
    labels = {"project": "ferries", "model": "late_ferry", "severity": "high"}
    assert request.body.items() >= labels.items() and request.body["text"].startswith("[high] mae of the day")
    assert request.key != receiver.asked[0].key
    with postgres.connection.engine(settings).connect() as connection:
        rows = connection.execute(sa.text("SELECT destination, state FROM outbox ORDER BY id")).all()
    assert sorted(map(tuple, rows)) == [("desk", "sent"), (ALERTS, "waiting"), (ALERTS, "waiting")]


@pytest.mark.parametrize(
    ("at", "stored"),
    [
        ("include.io.postgres.incidents:put", 0),
        ("include.io.postgres.incidents:add_event", 0),
        ("include.io.postgres.alerts:look", 0),
        ("include.io.postgres.alerts:raise_alerts", 1),
    ],
    ids=["with its message", "with its event", "before the commit", "after it"],
)
def test_an_alert_is_never_without_its_message(
    outbox: Outbox, settings: Settings, receiver: Receiver, at: str, stored: int
) -> None:
    with processes(settings, 1) as started:
        started.all([{"do": "kill", "at": at, "call": 1, "when": "after"}])
        assert started.all([{"do": "alert", "rule": "mae", "day": str(DAY)}]) == [None]
    assert (len(notified(settings)), len(states(outbox))) == (stored, stored)
    postgres.alerts.raise_alerts(settings, "ferries", alerts_of("mae"))
    send(outbox, receiver)
    assert len(receiver.texts) == 1 and notified(settings) == {"mae": True}


def test_alerts_of_two_writers_at_once_are_sent_once(outbox: Outbox, settings: Settings, receiver: Receiver) -> None:
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        postgres.alerts.raise_alerts(settings, "ferries", alerts_of("a", "b", "c"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    send(outbox, receiver)
    said = sorted(text.splitlines()[0] for text in receiver.texts)
    assert said == ["[low] a of the day", "[low] b of the day", "[low] c of the day"]


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cli(settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    for name, value in with_destination(settings, receiver).variables().items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: CliRunner().invoke(app, ["outbox", *arguments])


def test_on_call_shows_and_sends_what_waits_by_hand(
    cli: Callable[..., Any], outbox: Outbox, receiver: Receiver
) -> None:
    receiver.planned = [Answer(404)]
    for text in ("a", "b"):
        outbox.put(message(text))
    shown = [json.loads(line) for line in cli("show").output.splitlines()]
    assert [(row["state"], row["payload"]["text"], row["subject"]) for row in shown] == [
        ("waiting", "a", "dag.a"),
        ("waiting", "b", "dag.b"),
    ]
    refused = cli("send")
    assert (refused.exit_code, refused.output) == (1, "0 messages sent\nmessage 1 about dag.a: answered 404\n")
    assert [json.loads(line)["state"] for line in cli("show").output.splitlines()] == ["given up", "waiting"]
    assert cli("send").output == "1 messages sent\n"
    again = cli("send", "--given-up")
    assert (again.exit_code, again.output) == (0, "1 messages are tried again\n1 messages sent\n")
    assert cli("show").output == ""
    assert receiver.texts == ["b", "a"]


def test_what_was_given_up_long_ago_is_not_sent_by_accident(
    cli: Callable[..., Any], outbox: Outbox, receiver: Receiver
) -> None:
    receiver.planned = [Answer(404)]
    outbox.put(message("a"))
    cli("send")
    pass_time(outbox, timedelta(days=8))
    assert cli("send", "--given-up").output == "0 messages are tried again\n0 messages sent\n"
    since = str((datetime.now(UTC) - timedelta(days=9)).date())
    assert cli("send", "--given-up", "--since", since).output == "1 messages are tried again\n1 messages sent\n"
