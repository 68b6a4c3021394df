"""The channel apprise, against real local receivers of SMTP and HTTP that refuse, fail, hang, drip and hang up.

Each try starts a process, which takes one or two seconds.
"""

import json
import logging
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.core.outbox import Attempt, Message
from include.io.channels import channel_of
from tests.receiver import Answer, Receiver, receiving
from tests.smtp import MailServer, mail_server

MESSAGE = Message.of_text("late & <late>", "a", kind="alerts", subject="parcels_sold", run_id="r")


def send(url: str, seconds: float = 10) -> Attempt:
    return channel_of("oncall", json.dumps({"channel": "apprise", "url": url})).send(MESSAGE, seconds)


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def mail_url(server: MailServer, scheme: str = "mailto", more: str = "") -> str:
    return f"{scheme}://127.0.0.1:{server.port}/?from=nightly@example.org&to=oncall@example.org{more}"


def test_a_mail_is_delivered_with_its_text(mail: MailServer) -> None:
    assert send(mail_url(mail)) == Attempt(outcome="sent")
    [text] = mail.accepted
    assert "To: oncall@example.org" in text and "Subject: nightly-ml: late & <late>" in text


@pytest.mark.parametrize(
    ("replies", "attempt"),
    [
        ({"RCPT": "450 try later"}, Attempt(outcome="later", reason="answered 450 by SMTP")),
        ({"MAIL": "550 token"}, Attempt(outcome="never", reason="answered 550 by SMTP")),
    ],
    ids=["later", "refused"],
)
def test_what_a_mail_server_refuses_is_told_apart(mail: MailServer, replies: dict[str, str], attempt: Attempt) -> None:
    mail.replies = replies
    assert send(mail_url(mail)) == attempt
    assert not mail.accepted


@pytest.mark.parametrize("way", ["hangs", "drips"])
def test_a_mail_server_that_hangs_holds_nobody(mail: MailServer, way: str) -> None:
    mail.hangs_after, mail.drips = ("MAIL", 0) if way == "hangs" else ("", 0.2)
    begun = time.monotonic()
    assert send(mail_url(mail), 1) == Attempt(outcome="later", reason="no answer within 1 s")
    assert time.monotonic() - begun < 25


def test_a_certificate_that_nobody_trusts_gets_no_mail(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    with mail_server((certificate, key)) as server:
        attempt = send(mail_url(server, "mailtos", "&mode=ssl"))
        assert attempt == Attempt(outcome="later", reason="apprise could not send it")
        assert not server.accepted
        trusting = send(mail_url(server, "mailtos", "&mode=ssl&verify=no"))
        assert trusting.outcome == "sent", "the server would take a mail, so it was the certificate"


@pytest.mark.parametrize(
    ("answer", "attempt"),
    [
        (Answer(), Attempt(outcome="sent")),
        (Answer(503), Attempt(outcome="later", reason="answered 503")),
        (Answer(404), Attempt(outcome="never", reason="answered 404")),
        (Answer(302, {"Location": "/elsewhere"}), Attempt(outcome="never", reason="answered 302")),
        (Answer(drops=True), Attempt(outcome="later", reason="apprise could not send it")),
    ],
    ids=["takes it", "fails", "refuses", "redirects", "hangs up"],
)
def test_what_a_service_answers_to_apprise_decides(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, answer: Answer, attempt: Attempt
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.planned = [answer]
    assert send(receiver.url.replace("http://", "json://")) == attempt
    assert len(receiver.asked) == 1
    assert "token-that-nobody" not in caplog.text


def test_a_url_that_apprise_does_not_know_is_given_up() -> None:
    unknown = Attempt(outcome="never", reason="apprise cannot use this URL")
    assert send("nonsense://token") == unknown
