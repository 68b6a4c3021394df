"""Run `airflow dags backfill` from the command line, on a real stack with trivial DAGs.

Only the answer of `preflight` is fake; tests/integration/test_preflight.py tests the real one. The settings come from
the connections, through the real `dags/cli.py`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.forked_airflow import Airflow, forking
from tools.stack import BACKFILL_POOL, ROOT, Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

DAGS = '''
"""DAGs with one run per day, each with one task that does what its params say."""
import time
from pathlib import Path

import pendulum
from airflow.sdk import CronTriggerTimetable, Param, dag, get_current_context, task

ZONE = "America/New_York"
DESCRIPTION = (Path(__file__).parents[1] / "include" / "description.txt").read_text()


def daily(dag_id, **more):
    @dag(
        dag_id=dag_id,
        description=DESCRIPTION,
        schedule=CronTriggerTimetable("0 3 * * *", timezone=ZONE),
        start_date=pendulum.datetime(2013, 1, 1, tz=ZONE),
        catchup=False,
        params={
            "day": Param(None, type=["null", "string"]),
            "fail": Param("", type="string"),
            "publish": Param("replace", enum=["replace", "missing"]),
            "seconds": Param(0, type="number"),
            "nothing": Param("", type="string"),
        },
        **more,
    )
    def build():
        @task
        def work():
            context = get_current_context()
            day = context["logical_date"].in_timezone(ZONE).date().isoformat()
            time.sleep(context["params"]["seconds"])
            if day in context["params"]["fail"]:
                raise RuntimeError(f"{day} cannot be done")
            if day in context["params"]["nothing"]:
                context["ti"].xcom_push(key="skipped", value=f"{day} has nothing to do")
            return f"{day} is done"

        work()

    build()


daily("daily", is_paused_upon_creation=False)
daily("paused", is_paused_upon_creation=True)
daily("model_train", is_paused_upon_creation=False, max_active_runs=1)
daily("model_score", is_paused_upon_creation=False)
'''

READ = Path("include/description.txt")

PREFLIGHT = """
import json, os, sys

asked = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert sys.argv[1] == "preflight" and set(asked) == {"--dag", "--start", "--end"}
assert os.environ["NIGHTLY_LANDING"] and os.environ["NIGHTLY_DATABASE_URL"].startswith("postgresql://")
assert os.environ["NIGHTLY_HASH_KEY"]
kind = asked["--dag"].rsplit("_")[-1]
published = {"model": ["2013-03-02"]} if kind == "score" else {}
waits = {"2013-05-02": ["2013-05-02 is not prepared: ferries_prepare"]} if kind == "score" else {}
print(json.dumps({"kind": kind if "_" in asked["--dag"] else None, "waits": waits, "published": published}))
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Yield a running stack with these DAGs."""
    with tempfile.TemporaryDirectory(prefix="nightly-backfill-") as name:
        folder = Path(name)
        shutil.copytree(ROOT / "include", folder / "bundle" / "include", ignore=shutil.ignore_patterns("projects"))
        (folder / "bundle" / "include" / "cli.py").write_text(PREFLIGHT, encoding="utf-8")
        (folder / "bundle" / READ).write_text("as it was", encoding="utf-8")
        (folder / "bundle" / "dags").mkdir()
        (folder / "bundle" / "dags" / "daily.py").write_text(DAGS, encoding="utf-8")
        for file in ("__init__.py", "cli.py", "connections.py"):
            shutil.copy(ROOT / "dags" / file, folder / "bundle" / "dags")
        shutil.copy(ROOT / ".airflowignore", folder / "bundle")
        stack = Stack(folder / "home", bundle=folder / "bundle")
        try:
            stack.start(schedule=False, spark=False)
            with stack.api() as api:
                deadline = time.monotonic() + 120
                while len(api.get("/api/v2/dags").json()["dags"]) < 4:
                    assert time.monotonic() < deadline, stack.log("dag-processor")
                    time.sleep(0.2)
            yield stack
        finally:
            stack.stop()


@pytest.fixture(scope="module")
def commands(stack: Stack) -> Iterator[Airflow]:
    """Yield what starts `airflow` commands of the stack, without the product's variables."""
    environment = {name: value for name, value in stack.cli_environment().items() if not name.startswith("NIGHTLY_")}
    with forking(environment, stack.home) as airflow:
        yield airflow


def test_a_file_that_a_dag_file_reads_is_noticed_without_an_hour_of_waiting(stack: Stack) -> None:
    def description() -> str:
        with stack.api() as api:
            return str(api.get("/api/v2/dags/paused").raise_for_status().json()["description"])

    assert description() == "as it was"
    (stack.bundle / READ).write_text("as it is now", encoding="utf-8")
    deadline = time.monotonic() + 120
    while description() != "as it is now":
        assert time.monotonic() < deadline, stack.log("dag-processor")
        time.sleep(0.2)


def backfill(commands: Airflow, *words: str) -> tuple[int | None, str]:
    return commands.run("dags", "backfill", *words)


def runs(stack: Stack, dag_id: str) -> list[dict[str, Any]]:
    with stack.api() as api:
        found = api.get(f"/api/v2/dags/{dag_id}/dagRuns", params={"order_by": "logical_date"}).raise_for_status()
    return list(found.json()["dag_runs"])


def states(stack: Stack, dag_id: str, month: str) -> dict[str, str]:
    found = [run for run in runs(stack, dag_id) if run["logical_date"].startswith(month)]
    return {run["logical_date"][:10]: run["state"] for run in found}


def test_help_names_the_flags_and_airflows_own_command_is_unchanged(stack: Stack, commands: Airflow) -> None:
    executable = str(Path(sys.executable).parent / "airflow")
    command = [executable, "dags", "backfill", "--help"]
    said = subprocess.run(command, env=stack.cli_environment(), check=True, capture_output=True, text=True).stdout
    for flag in ("--start-date", "--end-date", "--dry-run", "--rerun-failed-tasks", "--reset-dagruns", "--yes"):
        assert flag in said, "airflow dags backfill is not the product's command; install its provider with: make setup"
    assert commands.run("backfill", "create", "--help")[0] == 0


def test_both_ends_are_included_and_days_are_in_the_timezone_of_the_dag(stack: Stack, commands: Airflow) -> None:
    code, said = backfill(commands, "daily", "-s", "2013-03-08", "-e", "2013-03-12")
    assert code == 0, said
    assert [run["logical_date"] for run in runs(stack, "daily")] == [
        "2013-03-08T08:00:00Z",
        "2013-03-09T08:00:00Z",
        "2013-03-10T07:00:00Z",
        "2013-03-11T07:00:00Z",
        "2013-03-12T07:00:00Z",
    ]
    assert "5 days, 2013-03-08 to 2013-03-12 (America/New_York), 16 at a time" in said
    assert "✓ 5 days succeeded" in said
    assert pools(stack, "daily") == {BACKFILL_POOL}


def pools(stack: Stack, dag_id: str, run_id: str = "~") -> set[str]:
    with stack.api() as api:
        found = api.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances").raise_for_status().json()
    return {task["pool"] for task in found["task_instances"]}


def test_a_failed_day_is_named_with_a_command_for_its_log_and_can_run_again(commands: Airflow) -> None:
    days = ("daily", "-s", "2013-04-01", "-e", "2013-04-02")
    code, said = backfill(commands, *days, "-c", '{"fail": "2013-04-02"}')
    assert code == 1, said
    run_id = "backfill__2013-04-02T07:00:00+00:00"
    assert f"✗ 2013-04-02 failed: run {run_id}" in said
    command = f"airflow tasks log daily {run_id} work"
    assert f"task work: {command}" in said
    code, log = commands.run(*command.split()[1:])
    assert code == 0 and "RuntimeError: 2013-04-02 cannot be done" in log

    code, said = backfill(commands, *days)
    assert code == 1, "a day that has not succeeded must give exit code 1, even if no run was started"
    assert "left as they are, failed: 2013-04-02 (--rerun-failed-tasks runs them again)" in said
    code, said = backfill(commands, *days, "--rerun-failed-tasks")
    assert code == 0, said
    assert "run again: 2013-04-02" in said


def test_a_day_for_which_nothing_was_done_is_named_with_the_reason(commands: Airflow) -> None:
    code, said = backfill(commands, "daily", "-s", "2013-07-01", "-e", "2013-07-02", "-c", '{"nothing": "2013-07-02"}')
    assert code == 0, said
    assert "skipped: 2013-07-02, because the day has nothing to do" in said


def test_a_run_started_by_hand_is_reset_into_the_pool_without_its_conf(stack: Stack, commands: Airflow) -> None:
    with stack.api() as api:
        by_hand = {"logical_date": "2013-03-02T08:00:00Z", "conf": {"publish": "replace", "day": "2013-01-01"}}
        made = api.post("/api/v2/dags/model_score/dagRuns", json=by_hand).raise_for_status().json()
    deadline = time.monotonic() + 60
    while states(stack, "model_score", "2013-03") != {"2013-03-02": "success"}:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert pools(stack, "model_score", made["dag_run_id"]) == {"default_pool"}

    days = ("model_score", "-s", "2013-03-01", "-e", "2013-03-02", "--reset-dagruns")
    code, said = backfill(commands, *days)
    assert code == 2 and "1 finished run will be reset; there is no terminal" in said
    assert "published already: model 2013-03-02" in said
    assert "publish: missing. Readers keep what they see" in said
    code, said = backfill(commands, *days, "-y")
    assert code == 0, said
    assert [run["conf"] for run in runs(stack, "model_score")] == [{"publish": "missing"}] * 2
    assert pools(stack, "model_score") == {BACKFILL_POOL}

    code, said = backfill(commands, "model_score", "-s", "2013-03-02", "--dry-run", "--reset-dagruns", "-c", REPLACE)
    assert code == 0
    assert "undo: python -m include.cli unpublish --model model --start 2013-03-02 --end 2013-03-02 --since 20" in said


REPLACE = json.dumps({"publish": "replace"})


REFUSED = {
    "paused -s 2013-03-01": "airflow dags unpause paused",
    "dayly -s 2013-03-01": "there is no DAG 'dayly'; did you mean daily",
    "daily -s 2113-03-02": "in the future",
    """daily -s 2013-03-02 -c {"publish":"perhaps"}""": "-c: Invalid input for param publish",
    "model_train -s 2013-03-02 --run-backwards": "in ascending order",
    "model_train -s 2013-03-02 --max-active-runs 2": "one day at a time",
    "model_score -s 2013-05-01 -e 2013-05-03": "2013-05-02 is not prepared",
}


def test_a_wrong_command_is_refused_at_once_with_the_reason(stack: Stack, commands: Airflow) -> None:
    made = {dag: len(runs(stack, dag)) for dag in ("daily", "paused", "model_train", "model_score")}
    started = {words: commands.start("dags", "backfill", *words.split()) for words in REFUSED}
    for words, process in started.items():
        said = process.communicate()
        assert process.returncode == 2, (words, said)
        assert REFUSED[words] in said
        assert "Traceback" not in said
    assert {dag: len(runs(stack, dag)) for dag in made} == made


def test_connections_of_airflows_database_are_used_and_a_missing_one_is_named(stack: Stack, commands: Airflow) -> None:
    command = ("dags", "backfill", "model_score", "-s", "2013-05-02", "--dry-run")
    code, said = commands.run(*command, without="AIRFLOW_CONN_NIGHTLY_HASH_KEY")
    assert code == 0, said
    assert "which days are published: there is no connection nightly_hash_key; docs/configuration.md" in said
    connection = ("nightly_hash_key", "--conn-type", "generic", "--conn-password", "hidden")
    added = commands.run("connections", "add", *connection)
    assert added[0] == 0, added[1]
    code, said = commands.run(*command, without="AIRFLOW_CONN_NIGHTLY_HASH_KEY")
    assert code == 0, said
    assert "2013-05-02: 2013-05-02 is not prepared" in said
    assert "hidden" not in said


@pytest.mark.drill
def test_training_stops_at_a_day_that_fails(stack: Stack, commands: Airflow) -> None:
    conf = json.dumps({"fail": "2013-03-02"})
    code, said = backfill(commands, "model_train", "-s", "2013-03-01", "-e", "2013-03-04", "-c", conf)
    assert code == 1, said
    assert "stopped at 2013-03-02" in said
    assert "-s 2013-03-02 -e 2013-03-04 --rerun-failed-tasks" in said
    failed = dict.fromkeys(("2013-03-02", "2013-03-03", "2013-03-04"), "failed")
    assert states(stack, "model_train", "2013-03") == {"2013-03-01": "success", **failed}

    code, said = backfill(commands, "model_train", "-s", "2013-03-02", "-e", "2013-03-04", "--rerun-failed-tasks")
    assert code == 0, said
    assert set(states(stack, "model_train", "2013-03").values()) == {"success"}


def pause(stack: Stack, dag_id: str, paused: bool) -> None:
    with stack.api() as api:
        api.patch(f"/api/v2/dags/{dag_id}", json={"is_paused": paused}).raise_for_status()


@pytest.mark.drill
def test_an_interrupted_backfill_continues_and_can_be_watched_again(stack: Stack, commands: Airflow) -> None:
    days = ("2013-06-01", "2013-06-02")
    slowly = ("--max-active-runs", "1", "-c", json.dumps({"seconds": 5}))
    process = commands.start("dags", "backfill", "daily", "-s", days[0], "-e", days[1], *slowly)
    said = ""
    while "of 2 days done" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    pause(stack, "daily", True)  # otherwise it could end before the next commands run
    os.kill(process.pid, signal.SIGINT)
    rest = process.communicate()
    assert process.returncode == 130, rest
    assert "the backfill continues. To follow it again: airflow dags backfill daily --follow" in rest

    code, said = backfill(commands, "daily", "-s", "2013-06-04")
    assert code == 2 and "another backfill of daily is active (2013-06-01 to 2013-06-02)" in said
    pause(stack, "daily", False)
    code, said = backfill(commands, "daily", "--follow")
    assert code == 0, said
    assert states(stack, "daily", "2013-06") == dict.fromkeys(days, "success")
