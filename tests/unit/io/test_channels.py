"""Channels, against a real local receiver of HTTP that refuses, fails, drips and hangs up.

`tests/integration/test_apprise.py` has those that start a process.
"""

import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.core.errors import ActionRequiredError
from include.core.outbox import Attempt, Message
from include.io.channels import KINDS, channel_of
from include.io.channels.apprise import attempt_of
from include.io.channels.apprise_process import find_status
from tests.receiver import PATH, Answer, Receiver, receiving

SECRET = "a-secret-of-the-receiver"
ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "notifications.md"
MESSAGE = Message.of_text(
    "late & <late>\nNight of Ærø", "a", kind="alerts", subject="parcels_sold", run_id="r"
).model_copy(update={"payload": {"text": "late & <late>\nNight of Ærø", "project": "shop", "severity": "critical"}})


def send(seconds: float = 5, **settings: str) -> Attempt:
    return channel_of("oncall", json.dumps(settings)).send(MESSAGE, seconds)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


# --- power_bi: a login, then the refresh ------------------------------------------------------------------------------

LOGIN = {"login_url": "https://token", "client_id": "token", "secret": "token"}
TOKEN = Answer(body=b'{"token_type": "Bearer", "access_token": "a-token"}')


def refresh(receiver: Receiver, *answers: Answer, seconds: float = 5) -> Attempt:
    receiver.planned = [*answers]
    base = receiver.url.removesuffix(PATH)
    login = {"login_url": f"{base}/tenant/oauth2/v2.0/token", "client_id": "an-app", "secret": SECRET}
    return send(seconds, channel="power_bi", url=f"{base}/v1.0/myorg/groups/g/datasets/d/refreshes", **login)


def test_power_bi_is_asked_for_a_refresh_with_the_token_of_a_login(receiver: Receiver) -> None:
    assert refresh(receiver, TOKEN, Answer(202)).outcome == "sent"
    login, asked = receiver.asked
    assert login.path == "/tenant/oauth2/v2.0/token"
    assert login.body == {
        "grant_type": "client_credentials",
        "client_id": "an-app",
        "client_secret": SECRET,
        "scope": "https://analysis.windows.net/powerbi/api/.default",
    }
    assert asked.path == "/v1.0/myorg/groups/g/datasets/d/refreshes"
    assert asked.headers["Authorization"] == "Bearer a-token"
    assert asked.body == {"notifyOption": "NoNotification"}  # and nothing of the message


@pytest.mark.parametrize(
    ("answers", "outcome", "reason", "wait"),
    [
        ((Answer(401),), "never", "the login answered 401", None),
        ((Answer(503),), "later", "the login answered 503", None),
        ((Answer(body=b"<html>"),), "later", "the login answered without a token", None),
        ((Answer(body=b'{"access_token": "a\\r\\nX: y"}'),), "later", "the login answered without a token", None),
        ((TOKEN, Answer(429, {"Retry-After": "600"})), "later", "answered 429", 600),
        ((TOKEN, Answer(400)), "later", "answered 400, as it does while a refresh is running", None),
        ((TOKEN, Answer(403)), "never", "answered 403", None),
        ((TOKEN, Answer(404)), "never", "answered 404", None),
        ((TOKEN, Answer(307, {"Location": "/elsewhere"})), "never", "answered 307", None),
        ((TOKEN, Answer(drops=True)), "later", "RemoteProtocolError", None),
    ],
)
def test_what_an_answer_of_power_bi_means(
    receiver: Receiver, answers: tuple[Answer, ...], outcome: str, reason: str, wait: int | None
) -> None:
    attempt = refresh(receiver, *answers)
    assert (attempt.outcome, attempt.reason) == (outcome, reason)
    assert (attempt.asked_wait.total_seconds() if attempt.asked_wait else None) == wait
    assert len(receiver.asked) == len(answers)


def test_the_time_of_power_bi_is_for_both_calls_together(receiver: Receiver) -> None:
    slow = Answer(seconds=0.4, body=TOKEN.body)
    assert refresh(receiver, slow, Answer(202, seconds=0.4), seconds=0.6).reason == "no answer within 0.6 s"


# --- which channel ----------------------------------------------------------------------------------------------------


def test_a_plain_address_is_a_chat(receiver: Receiver) -> None:
    assert channel_of("nightly_alerts", receiver.url).send(MESSAGE, 5).outcome == "sent"
    assert receiver.got[0].body == {"text": "late &amp; &lt;late&gt;\nNight of Ærø"}


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ('{"channel": "aprise", "url": "mailto://token"}', "names no channel; did you mean 'apprise'?"),
        ('{"channel": "webhook", "url": "https://host/token"}', "wrong or missing for the channel webhook: secret"),
        ('{"channel": "webhook", "url": "https://host/token", "secret": "token"}', "webhook: secret; the password is"),
        (
            '{"channel": "webhook", "url": "ftp://token", "secret": "token-long-enough"}',
            "must be the URL of the webhook",
        ),
        ('{"channel": "power_bi", "url": "https://token"}', "power_bi: client_id, login_url, secret; the"),
        (
            json.dumps({**LOGIN, "channel": "power_bi", "url": "https://token"}),
            "must be the URL that ends with /groups/",
        ),
        ('{"channel": "apprise", "url": "token"}', "must be one URL of apprise"),
        ('{"channel": "apprise", "url": "syslog://token"}', "must be one URL of apprise that reaches people"),
        (
            '{"channel": "apprise", "url": "json://host/token", "key": "token"}',
            "wrong or missing for the channel apprise: key",
        ),
        ('{"channel": token', "neither a URL nor JSON"),
    ],
)
def test_an_address_that_cannot_be_used_is_explained_and_not_shown(address: str, says: str) -> None:
    with pytest.raises(ActionRequiredError, match=re.escape(says)) as caught:
        channel_of("oncall", address)
    assert "connection oncall" in str(caught.value) and "token" not in str(caught.value)


def test_an_address_never_prints() -> None:
    for kind in KINDS:
        channel = channel_of("oncall", json.dumps({"channel": kind, "url": "https://h/token/refreshes", **need(kind)}))
        assert "token" not in repr(channel) + channel.model_dump_json()


def need(kind: str) -> dict[str, str]:
    return {"webhook": {"secret": "token-of-the-webhook"}, "power_bi": LOGIN}.get(kind, {})


# --- webhook ----------------------------------------------------------------------------------------------------------


def test_a_webhook_gets_the_message_with_labels_key_and_signature(receiver: Receiver) -> None:
    assert send(channel="webhook", url=receiver.url, secret=SECRET).outcome == "sent"
    [request] = receiver.got
    assert request.body == {
        "text": "late & <late>\nNight of Ærø",
        "project": "shop",
        "severity": "critical",
        "key": MESSAGE.key,
        "kind": "alerts",
        "subject": "parcels_sold",
    }
    assert request.key == MESSAGE.key
    timestamp = request.headers["X-Nightly-Timestamp"]
    assert abs(int(timestamp) - time.time()) < 60
    wanted = hmac.new(SECRET.encode(), timestamp.encode() + b"." + request.raw, hashlib.sha256).hexdigest()
    assert request.headers["X-Nightly-Signature"] == f"sha256={wanted}"


def test_the_check_of_a_receiver_in_the_docs_takes_what_is_sent_and_nothing_else(receiver: Receiver) -> None:
    send(channel="webhook", url=receiver.url, secret=SECRET)
    [request] = receiver.got
    [code] = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    namespace: dict[str, object] = {}
    exec(code, namespace)  # noqa: S102 the code that people copy
    is_genuine = namespace["is_genuine"]
    assert callable(is_genuine)
    headers, raw = request.headers, request.raw
    assert is_genuine(SECRET, headers, raw)
    assert not is_genuine("another-secret-of-it", headers, raw)
    assert not is_genuine(SECRET, headers, raw + b" ")
    assert not is_genuine(SECRET, {**headers, "X-Nightly-Timestamp": str(int(time.time()) + 1)}, raw)
    old = str(int(time.time()) - 600)
    signature = hmac.new(SECRET.encode(), old.encode() + b"." + raw, hashlib.sha256).hexdigest()
    replayed = {"X-Nightly-Timestamp": old, "X-Nightly-Signature": f"sha256={signature}"}
    assert not is_genuine(SECRET, replayed, raw), "an old request was taken again"
    assert not is_genuine(SECRET, {}, raw)


@pytest.mark.parametrize(
    ("answer", "attempt"),
    [
        (Answer(500), Attempt(outcome="later", reason="answered 500")),
        (Answer(401), Attempt(outcome="never", reason="answered 401")),
        (Answer(302, {"Location": "http://127.0.0.1:9/"}), Attempt(outcome="never", reason="answered 302")),
        (Answer(drops=True), Attempt(outcome="later", reason="RemoteProtocolError")),
        (Answer(seconds=0.1, drips=True), Attempt(outcome="later", reason="no answer within 0.5 s")),
    ],
    ids=["fails", "refuses", "redirects", "hangs up", "drips"],
)
def test_what_a_webhook_answers_decides(receiver: Receiver, answer: Answer, attempt: Attempt) -> None:
    receiver.planned = [answer]
    assert send(0.5, channel="webhook", url=receiver.url, secret=SECRET) == attempt


# --- apprise, without its process -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "attempt"),
    [
        ([], Attempt(outcome="later", reason="apprise could not send it")),
        (["Failed to send Slack: error=429.", "more"], Attempt(outcome="later", reason="answered 429")),
        (["Failed to send JSON POST notification: error=404."], Attempt(outcome="never", reason="answered 404")),
        (["a@example.org: (450, b'later')"], Attempt(outcome="later", reason="answered 450 by SMTP")),
        (["Socket Exception: (535, b'5.7.8 no')"], Attempt(outcome="never", reason="answered 535 by SMTP")),
        (["the text has error=4040 and (12, b'x')"], Attempt(outcome="later", reason="apprise could not send it")),
    ],
)
def test_the_status_in_the_log_of_apprise_decides(lines: list[str], attempt: Attempt) -> None:
    assert attempt_of({"sent": False, **find_status(lines)}) == attempt


def test_only_the_process_of_apprise_imports_it() -> None:
    """Its import takes seconds, and every DAG file would take them."""
    importing = [
        str(file.relative_to(ROOT))
        for folder in ("include", "dags", "plugins")
        for file in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(import|from) apprise", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert importing == ["include/io/channels/apprise_process.py"]
