"""`cli alert test`: a marked message to each destination, a table, and no secret."""

import json
import re

import pytest
from typer.testing import CliRunner

from include.cli import app
from tests.receiver import Answer, receiving

pytestmark = pytest.mark.usefixtures("no_routes")


@pytest.fixture
def no_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.cli_alerts.project_names", list)


def test_each_destination_gets_a_marked_message_and_the_table_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as chat, receiving() as desk:
        desk.planned = [Answer(403)]
        signed = {"channel": "webhook", "url": desk.url, "secret": "token-that-is-a-secret"}
        monkeypatch.setenv("NIGHTLY_DESTINATIONS", json.dumps({"nightly_alerts": chat.url, "desk": signed}))
        done = CliRunner().invoke(app, ["alert", "test"])
        assert done.exit_code == 1
        [head, *rows] = [re.split(r"\s{2,}", line.strip()) for line in done.output.splitlines()]
        assert head == ["destination", "channel", "result", "ms"]
        assert [row[:3] for row in rows] == [["nightly_alerts", "chat", "sent"], ["desk", "webhook", "answered 403"]]
        assert all(row[3].isdigit() for row in rows)
        assert chat.texts[0].startswith("TEST: ") and "Nothing is wrong" in chat.texts[0]
        assert "token" not in done.output
        one = CliRunner().invoke(app, ["alert", "test", "--to", "desk"])
        assert (one.exit_code, len(desk.got), len(chat.got)) == (0, 1, 1)


def test_a_destination_without_connection_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NIGHTLY_DESTINATIONS", raising=False)
    done = CliRunner().invoke(app, ["alert", "test", "--to", "pager"])
    assert done.exit_code == 1 and "there is no connection pager" in done.output


def test_a_variable_that_is_no_json_is_refused_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTLY_DESTINATIONS", "https://hooks/token")
    done = CliRunner().invoke(app, ["alert", "test"])
    assert "NIGHTLY_DESTINATIONS must be JSON" in str(done.exception)
    assert "token" not in done.output + str(done.exception)
