"""Who is notified of the installation itself, without any database."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.core.outbox import ALERTS, Attempt, Message
from include.core.routes import Route, Routing
from include.operations import watch
from include.operations.watch import Watcher, everybody, settings_of

ROUTES = Routing(project="ferries", routes=(Route(to=ALERTS), Route(to="pager"), Route(to="mail"), Route(to="none")))
ADDRESSES = {ALERTS: "https://chat.example.org", "pager": "https://pager.example.org", "mail": "https://mail"}
NOW = datetime(2026, 11, 24, 11, tzinfo=UTC)


@pytest.fixture(autouse=True)
def routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "project_names", lambda: ["ferries"])
    monkeypatch.setattr(watch, "load_routing", lambda project: ROUTES)


def test_if_the_usual_connection_cannot_be_used_all_others_are_notified() -> None:
    assert everybody(ADDRESSES.get) == [ALERTS]
    assert everybody(ADDRESSES.get, {"pager"}) == [ALERTS]
    assert everybody(ADDRESSES.get, {ALERTS}) == ["pager", "mail"]
    assert everybody({"mail": "https://mail"}.get) == ["mail"]
    assert everybody(lambda name: None) == []


@pytest.mark.parametrize(
    ("accepting", "tried"),
    [({ALERTS, "pager"}, [ALERTS]), ({"mail"}, [ALERTS, "pager", "mail"]), (set(), [ALERTS, "pager", "mail"])],
)
def test_a_database_that_is_down_reaches_somebody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, accepting: set[str], tried: list[str]
) -> None:
    asked: list[str] = []

    def send(address: str, message: Message) -> Attempt:
        asked.append(message.destination)
        return Attempt(outcome="sent" if message.destination in accepting else "later", reason="answered 503")

    monkeypatch.setattr(watch, "send_directly", send)
    watcher = Watcher(settings_of("postgresql://nobody@127.0.0.1:9/nothing"), ADDRESSES.get, tmp_path / "memory.json")
    watcher._database_is_down(NOW, "does not answer")
    watcher._database_is_down(NOW + timedelta(minutes=3), "does not answer")
    assert sorted(asked) == sorted(tried)
