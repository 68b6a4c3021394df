"""In a live Airflow with MLflow: people decide about one model's versions, and shadows about another's.

`NIGHTLY_PICTURES` can name a program that takes pictures of the pages on the way. It gets an address, a user, a
password, and the name of the picture.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from include.config.loading import load_project
from tests.drills.decided import ASKED, TRIED, declare
from tests.drills.place import Drill, await_that
from tools import processes

pytestmark = [pytest.mark.stack, pytest.mark.drill, pytest.mark.timeout(2400)]

FIRST, TRAINED = date(2013, 1, 1), date(2013, 1, 31)
NEXT, THIRD, FOURTH, FIFTH = (TRAINED + timedelta(days=n) for n in (1, 2, 3, 4))
SOONER = {
    "dags/common.py": {
        '"retry_delay": timedelta(seconds=30)': '"retry_delay": timedelta(seconds=1)',
        '"poke_interval": timedelta(seconds=20)': '"poke_interval": timedelta(seconds=3)',
    },
    "dags/question.py": {"CHECK_EVERY = timedelta(minutes=10)": "CHECK_EVERY = timedelta(seconds=20)"},
}
USERS = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,ana:user,ben:user"}
QUESTION = "taskInstances/ask/-1/hitlDetails"
DECISIONS: dict[str, dict[str, Any]] = {
    ASKED: {"approval": {"allowed": ["ana"], "timeout_days": 3}},
    TRIED: {"shadow": {"days_with_outcomes": 2, "wait_days": 5}},
}


class Deciding(Drill):
    """The stack, with what people do who decide."""

    def start(self) -> None:
        """Prepare a history of the project; train nothing."""
        self.project = load_project("ferries")
        self.install(SOONER, settings=USERS, mlflow=True, without=("flights", "stores"))
        self.send_alerts()
        days = f"--project {self.project.name} --start {FIRST} --end {FIFTH}"
        for command in ("migrate", f"simulate {days}", f"prepare {days}"):
            self.type(f"python -m include.cli {command}")
        used = {f"{ASKED}_{name}" for name in ("train", "approve", "score")}
        self.unpause(used | {f"{TRIED}_{name}" for name in ("train", "decide", "score")})

    def as_user(self, name: str) -> httpx.Client:
        """Return a client of the REST API with the token of a person."""
        password = json.loads((self.stack.home / "ui_passwords.json").read_text(encoding="utf-8"))[name]
        body = {"username": name, "password": password}
        token = httpx.post(f"{self.stack.api_url}/auth/token", json=body, trust_env=False).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.stack.api_url, headers=headers, trust_env=False, timeout=60)

    def asked(self, version: int) -> dict[str, Any]:
        """Wait until people are asked about a version; return the question."""
        path = f"/api/v2/dags/{ASKED}_approve/dagRuns/v{version}/{QUESTION}"

        def look() -> Any:
            answer = self.as_user("ana").get(path)
            return answer.json() if answer.is_success else None

        return dict(await_that(look, f"the question about version {version}", pause=2))

    def answer(self, version: int, user: str, option: str, why: str) -> httpx.Response:
        """Answer a question as a person."""
        path = f"/api/v2/dags/{ASKED}_approve/dagRuns/v{version}/{QUESTION}"
        return self.as_user(user).patch(path, json={"chosen_options": [option], "params_input": {"why": why}})

    def rows(self, query: str, database: str = "nightly") -> list[str]:
        return [line for line in self.sql(query, database).splitlines() if line]

    def states(self, model: str) -> dict[int, str]:
        """Return the state of each version."""
        newest = "SELECT DISTINCT ON (model_version) model_version || '|' || state FROM version_history"
        found = self.rows(f"{newest} WHERE model = '{model}' ORDER BY model_version, id DESC")
        return {int(version): state for version, state in (line.split("|") for line in found)}

    def alias(self, model: str) -> list[str]:
        """Return the version that MLflow's alias `champion` names."""
        query = f"SELECT version FROM registered_model_aliases WHERE name = '{model}' AND alias = 'champion'"
        return self.rows(query, "mlflow")

    def seen(self, model: str, day: date) -> list[str]:
        """Return the versions whose scores readers see of a day."""
        query = f"SELECT DISTINCT model_version FROM current_predictions WHERE model = '{model}' AND day = '{day}'"
        return [line for line in self.type(f'psql "$READER_URL" -Atc "{query}"').splitlines() if line.isdigit()]

    def picture(self, name: str, path: str) -> None:
        """Take a picture of a page, if somebody wants one."""
        if taker := os.environ.get("NIGHTLY_PICTURES"):
            user, password = self.stack.login
            subprocess.run([taker, f"{self.stack.api_url}{path}", user, password, name], check=True, timeout=180)


@pytest.fixture(scope="module")
def drill() -> Iterator[Deciding]:
    with tempfile.TemporaryDirectory(prefix="nightly-decided-") as folder, pytest.MonkeyPatch.context() as patch:
        declare(Path(folder) / "projects", **DECISIONS)
        patch.setenv("NIGHTLY_PROJECTS", str(Path(folder) / "projects"))
        drill = Deciding(Path(folder))
        try:
            drill.start()
            yield drill
        finally:
            drill.stop()
            assert processes.find_processes(drill.stack.home) == []


def test_people_decide_which_version_becomes_the_champion(drill: Deciding) -> None:
    drill.run_date(f"{ASKED}_train", TRAINED, "success")
    assert drill.states(ASKED) == {1: "pending"}
    question = drill.asked(1)
    assert question["subject"] == "Late ferry: shall version 1 become the champion?"
    assert "| result | check | measured |" in question["body"]
    assert "There is no champion yet" in question["body"]
    assert "[Training report](" in question["body"]
    assert drill.alias(ASKED) == []
    message = ("shall version 1 become the champion?", f"/dags/{ASKED}_approve/runs/v1/", "docs/approve-a-model.md")
    await_that(lambda: any(all(s in text for s in message) for text in drill.webhook.texts), "the message", 60)
    drill.picture("approval-list", "/required_actions")
    drill.picture("approval-question", f"/dags/{ASKED}_approve/runs/v1/tasks/ask/required_actions")

    assert drill.answer(1, "ben", "Approve", "me too").status_code == 403
    assert drill.states(ASKED) == {1: "pending"}
    assert drill.answer(1, "ana", "Approve", "better in storms").is_success
    assert drill.ended(f"{ASKED}_approve", "v1") == "success"
    assert drill.answer(1, "ana", "Decline", "changed my mind").status_code == 409
    assert drill.states(ASKED) == {1: "champion"}
    assert drill.alias(ASKED) == ["1"]
    assert drill.rows(f"SELECT model_version, from_day, by, why FROM promotion_history WHERE model = '{ASKED}'") == [
        f"1|{NEXT}|ana|better in storms"
    ]
    drill.run_date(f"{ASKED}_score", NEXT, "success")
    assert drill.seen(ASKED, NEXT) == ["1"]
    drill.picture("approval-answered", f"/dags/{ASKED}_approve/runs/v1/tasks/ask/required_actions")


def test_a_newer_version_supersedes_one_that_waits_and_declining_keeps_the_champion(drill: Deciding) -> None:
    drill.run_date(f"{ASKED}_train", NEXT, "success")
    drill.asked(2)
    drill.run_date(f"{ASKED}_train", THIRD, "success")
    question = drill.asked(3)
    assert "Version 1 is the champion now" in question["body"]
    assert drill.states(ASKED) == {1: "champion", 2: "superseded", 3: "pending"}
    assert drill.ended(f"{ASKED}_approve", "v2") == "success", "the open question notices that by itself"
    assert drill.tasks(f"{ASKED}_approve", "v2") == {"ask": "skipped", "record": "skipped"}
    drill.picture("approval-question-with-champion", f"/dags/{ASKED}_approve/runs/v3/tasks/ask/required_actions")
    assert drill.answer(3, "ana", "Decline", "holidays look wrong").is_success
    assert drill.ended(f"{ASKED}_approve", "v3") == "success"
    assert drill.states(ASKED)[3] == "declined"
    assert drill.alias(ASKED) == ["1"]
    drill.run_date(f"{ASKED}_score", THIRD, "success")
    assert drill.seen(ASKED, THIRD) == ["1"]
    human = f"SELECT action, by, why FROM human_actions WHERE model = '{ASKED}' ORDER BY decided_at"
    assert drill.rows(human) == ["approve|ana|better in storms", "decline|ana|holidays look wrong"]


def test_a_shadow_is_decided_after_its_outcomes(drill: Deciding) -> None:
    drill.run_date(f"{TRIED}_train", TRAINED - timedelta(days=1), "success")
    assert drill.states(TRIED) == {1: "champion"}, "there was nothing to be compared with"
    drill.run_date(f"{TRIED}_train", TRAINED, "success")
    assert drill.states(TRIED) == {1: "champion", 2: "pending"}
    for day in (NEXT, THIRD):
        drill.run_date(f"{TRIED}_score", day, "success")
        assert drill.seen(TRIED, day) == ["1"], "nobody sees the scores of the shadow"
    of_model = f"WHERE model = '{TRIED}'"
    batches = f"SELECT day, model_version FROM batches {of_model} ORDER BY day, model_version"
    assert drill.rows(batches) == [f"{day}|{version}" for day in (NEXT, THIRD) for version in (1, 2)]

    decide = f"{TRIED}_decide"
    early = drill.run_date(decide, THIRD, "success")
    assert drill.states(TRIED) == {1: "champion", 2: "pending"}, "the outcomes of one day are known"
    assert drill.tasks(decide, early)["promote"] == "skipped"
    late = drill.run_date(decide, FOURTH, "success")
    assert drill.states(TRIED) == {1: "replaced", 2: "champion"}
    assert drill.alias(TRIED) == ["2"]
    drill.picture("shadow-decided", f"/dags/{decide}/runs/{late}")
    measured = drill.rows(f"SELECT day, model_version, champion_version FROM shadow_performance {of_model}")
    assert sorted(measured) == [f"{NEXT}|2|1", f"{THIRD}|2|1"]
    assert drill.rows(f"SELECT model_version, passed FROM shadow_decisions {of_model}") == ["2|t"]
    from_day = drill.rows(f"SELECT from_day FROM promotion_history {of_model} AND model_version = 2")
    assert from_day == [str(FIFTH)], "the run date of the decision is scored meanwhile"
    for day, version in ((FOURTH, "1"), (FIFTH, "2")):
        drill.run_date(f"{TRIED}_score", day, "success")
        assert drill.seen(TRIED, day) == [version]
    assert drill.seen(TRIED, THIRD) == ["1"], "published days keep their scores"
