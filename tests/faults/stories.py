"""One stack, on which the same run date can run several times, each time from the same state of all places."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import httpx

from include.core.interval import Interval
from tests.faults.points import POINTS
from tools.stack import ROOT, Stack

PROJECT, MODEL = "flights", "late_arrival"
PREPARE, TRAIN, SCORE, MONITOR = f"{PROJECT}_prepare", f"{MODEL}_train", f"{MODEL}_score", f"{PROJECT}_monitor"

HISTORY = Interval(start=date(2013, 1, 1), end=date(2013, 2, 14))  # the training of its last day passes the gate
BEFORE = date(2013, 2, 15)  # published by the first champion
RUN_DATE = date(2013, 2, 16)

PLACES = ("landing", "tables", "artifacts", "journal")
DATABASES = ("nightly", "mlflow")
RUN_SECONDS = 600


class Story:
    """A stack with a history and a champion, in the state before the run date."""

    def __init__(self, folder: Path) -> None:
        self.faults = folder / "faults"
        self.faults.mkdir(parents=True)
        self._kept = folder / "before"
        points = {name: point._asdict() for name, point in POINTS.items()}
        (self.faults / "points.json").write_text(json.dumps(points), encoding="utf-8")
        inject = Path(__file__).parent / "inject"
        self.stack = Stack(folder / "home", settings={"PYTHONPATH": str(inject), "FAULTS": str(self.faults)})

    def start(self) -> None:
        """Make history and champion by hand, keep this state, and start Airflow."""
        self._postgres = self.stack.postgres()
        days = ("--project", PROJECT, "--start", str(HISTORY.start), "--end")
        why = ("--by", "tests", "--why", "the first one")
        self.cli(
            ["migrate"],
            ["simulate", *days, str(RUN_DATE)],
            ["prepare", *days, str(BEFORE)],
            ["gate", "--model", MODEL, "--day", str(HISTORY.end)],
            ["promote", "--model", MODEL, "--version", "1", "--from-day", str(BEFORE), *why],
            ["score", "--model", MODEL, "--start", str(BEFORE)],
            ["publish", "--model", MODEL, "--start", str(BEFORE)],
        )
        self._keep()
        self.stack.start(schedule=False)
        self._client = self.stack.api()
        self._unpause()

    def cli(self, *commands: Sequence[str]) -> str:
        done = self.begin("tests.faults.commands", json.dumps(commands))
        out, errors = done.communicate()
        assert done.returncode == 0, f"{out[-2000:]}\n{errors[-4000:]}"
        return out

    def begin(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a process beside Airflow, as a person does."""
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=self.stack.cli_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def arm(self) -> None:
        """Let each point kill once from now on."""
        for name in POINTS:
            (self.faults / f"{name}.armed").touch()

    def struck(self, name: str) -> dict[str, str] | None:
        """Return in which try of which task a point killed; None if it did not."""
        file = self.faults / f"{name}.struck"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def run(self, run_id: str, *dag_ids: str) -> None:
        """Start a run of each DAG for the run date, and wait until all have succeeded."""
        self.trigger(run_id, *dag_ids)
        self.follow([(dag_id, run_id) for dag_id in dag_ids])

    def trigger(self, run_id: str, *dag_ids: str) -> None:
        # by the param, not by a logical date, of which a DAG can have only one run
        for dag_id in dag_ids:
            body = {"dag_run_id": run_id, "logical_date": None, "conf": {"day": str(RUN_DATE)}}
            self._answer(self._client.post(f"/api/v2/dags/{dag_id}/dagRuns", json=body))

    def backfill(self, *dag_ids: str) -> dict[str, str]:
        """Start a backfill of the run date for each DAG; return its run for each DAG."""
        found = {}
        for dag_id in dag_ids:
            body = {"dag_id": dag_id, "from_date": f"{RUN_DATE}T00:00:00Z", "to_date": f"{RUN_DATE}T23:00:00Z"}
            self._answer(self._client.post("/api/v2/backfills", json=body))
            [run] = self._get(f"/dags/{dag_id}/dagRuns?run_type=backfill")["dag_runs"]
            found[dag_id] = run["dag_run_id"]
        return found

    def follow(self, runs: Sequence[tuple[str, str]]) -> None:
        deadline = time.monotonic() + RUN_SECONDS
        going = list(runs)
        while going:
            for dag_id, run_id in list(going):
                state = self._get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
                assert state != "failed", f"{dag_id} {run_id}: {self.tasks(dag_id, run_id)}"
                if state == "success":
                    going.remove((dag_id, run_id))
            assert time.monotonic() < deadline, [self.tasks(*run) for run in going]
            time.sleep(0.3)

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        found = self._get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        names = ("task_id", "map_index", "state", "try_number", "start_date", "end_date")
        return [{name: task[name] for name in names} for task in found]

    def restore(self) -> None:
        """Restore all places to the state before the run date. Airflow keeps running, with its earlier runs."""
        for place in PLACES:
            shutil.rmtree(self.stack.home / place)
            shutil.copytree(self._kept / place, self.stack.home / place)
        for name in DATABASES:
            self._query(f"DROP DATABASE {name} WITH (FORCE);")
            self._query(f"CREATE DATABASE {name} TEMPLATE {name}_before OWNER {name};")

    def _keep(self) -> None:
        for place in PLACES:
            shutil.copytree(self.stack.home / place, self._kept / place)
        for name in DATABASES:
            self._query(f"CREATE DATABASE {name}_before TEMPLATE {name} OWNER {name};")

    def _unpause(self) -> None:
        dag_ids, deadline = {PREPARE, TRAIN, SCORE, MONITOR}, time.monotonic() + 120
        while missing := dag_ids - {dag["dag_id"] for dag in self._get("/dags?limit=100")["dags"]}:
            assert time.monotonic() < deadline, f"Airflow does not show {missing}"
            time.sleep(0.5)
        for dag_id in dag_ids:
            self._answer(self._client.patch(f"/api/v2/dags/{dag_id}", json={"is_paused": False}))

    def _query(self, sql: str) -> None:
        self._postgres.query(sql)  # not `stack.postgres()`, which would create missing databases

    def _get(self, path: str) -> Any:
        return self._answer(self._client.get(f"/api/v2{path}")).json()

    @staticmethod
    def _answer(response: httpx.Response) -> httpx.Response:
        assert response.is_success, f"{response.request.url}: {response.text}"
        return response
