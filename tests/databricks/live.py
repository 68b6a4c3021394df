"""A live Airflow that runs the DAGs of a git repository and builds their features in the workspace.

A person works in a clone, and a push is the deployment: the settings and commands are those of docs/deploy.md. The
repository differs from a user's only in that runs are polled each second, and that retries give up sooner.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import yaml

from include.config.loading import load_project
from include.core.interval import Interval
from include.io import postgres
from tests.databricks.conftest import TOKEN, Databricks, workspace
from tests.drills.pages import Page
from tools import demo, processes
from tools.stack import ROOT, Stack

PROJECT = load_project("flights")
PREPARE, TASK = f"{PROJECT.name}_prepare", "build_features"
WHEELS = "/Volumes/main/nightly/wheels"
CONFIG = {
    "run_on": {TASK: "databricks"},
    "databricks": {
        "wheels": WHEELS,
        "new_cluster": {"spark_version": "17.3.x-scala2.13", "node_type_id": "m6gd.large", "num_workers": 0},
    },
}
SOONER = {
    "dags/common.py": {
        '"retry_delay": timedelta(seconds=30)': '"retry_delay": timedelta(seconds=1)',
        # this grows with the number of tries, also those before earlier clearings
        '"max_retry_delay": timedelta(minutes=15)': '"max_retry_delay": timedelta(seconds=2)',
        '"poke_interval": timedelta(seconds=20)': '"poke_interval": timedelta(seconds=2)',
    },
    "dags/databricks.py": {
        '{"databricks_retry_limit": 9, "databricks_retry_delay": 2}': (
            '{"databricks_retry_limit": 4, "databricks_retry_delay": 0.5, "polling_period_seconds": 1}'
        )
    },
}
"""The changes in the repository: for each file, each old text and its replacement."""

DEPLOY = Page("deploy", ROOT / "docs")
ENDS = {"success", "failed"}
SECONDS = 240


class Repository:
    """A person's clone, and the repository to which it is pushed."""

    def __init__(self, folder: Path) -> None:
        self.origin, self.clone = folder / "origin.git", folder / "clone"
        folder.mkdir(parents=True)
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        for name in filter(None, tracked.stdout.split("\0")):
            if (ROOT / name).exists():  # a copy of the folder, with uncommitted changes
                (self.clone / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.clone / name)
        (self.clone / ".venv").symlink_to(ROOT / ".venv")
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.origin))
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("remote", "add", "origin", str(self.origin))
        for name in ("user.name", "user.email"):
            self.git("config", name, "tests@localhost")

    def git(self, *arguments: str) -> str:
        return _run(["git", *arguments], self.clone, os.environ).strip()

    def write(self, name: str, change: Callable[[str], str]) -> None:
        """Change a file."""
        path = self.clone / name
        text = path.read_text(encoding="utf-8")
        changed = change(text)
        assert changed != text, name
        path.write_text(changed, encoding="utf-8")

    def commit(self, why: str) -> str:
        """Commit all changes and push them; return the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", why)
        self.git("push", "--quiet", "origin", "main")
        return self.head

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")


class Live:
    """The stack, the workspace and the repository, with the actions of a person."""

    def __init__(self, folder: Path, databricks: Databricks, points: Mapping[str, Mapping[str, Any]]) -> None:
        self.databricks, self.repository = databricks, Repository(folder / "repository")
        self.faults = folder / "faults"
        self.faults.mkdir()
        (self.faults / "points.json").write_text(json.dumps(points), encoding="utf-8")
        [bundle] = DEPLOY.json("Once")
        bundle["kwargs"] |= {"repo_url": str(self.repository.origin), "refresh_interval": 3}
        # the certificate for requests, and for aiohttp and httpx
        self.trusted = dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), str(databricks.certificate))
        settings = self.trusted | {
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(folder / "home" / "bundles"),
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "3",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",  # as docs/deploy.md says
            "AIRFLOW_CONN_DATABRICKS_DEFAULT": databricks.connection,
            "PYTHONPATH": str(ROOT / "tests" / "faults" / "inject"),
            "FAULTS": str(self.faults),
        }
        self.stack = Stack(folder / "home", bundle=self.repository.clone, settings=settings)

    def start(self, days: Interval) -> None:
        """Push, deploy, and land the files of some days."""
        config = f"include/projects/{PROJECT.name}/project.yaml"
        self.repository.write(config, lambda text: f"{text}\n{yaml.safe_dump(CONFIG)}")
        for name, changes in SOONER.items():
            for old, new in changes.items():
                self.repository.write(name, lambda text, old=old, new=new: text.replace(old, new))
        self.repository.commit("Features are built on Databricks")
        self.deploy()
        self.stack.postgres()
        self.cli("migrate")
        self.land(days)
        self.stack.start(schedule=False, spark=False)
        self.airflow = demo.AirflowApi(self.stack, PROJECT)
        self.airflow.wait_for_dags([PREPARE])

    # a person

    def deploy(self) -> str:
        """Run the commands of CI after its tests; return the commit."""
        variables = {"DATABRICKS_HOST": self.databricks.url, "DATABRICKS_TOKEN": TOKEN, **self.trusted}
        [_, script] = DEPLOY.commands("What CI does")
        # install nothing: use the environment of the tests
        self.type(script.replace("make ", "make --old-file .venv/.installed "), os.environ | variables)
        return self.repository.head

    def type(self, script: str, variables: Mapping[str, str]) -> str:
        """Run a script in a shell, in the clone."""
        return _run(["bash", "-ec", script], self.repository.clone, variables)

    def airflow_has(self, commit: str) -> None:
        """Wait until Airflow uses the commit."""
        await_that(lambda: self.get(f"dags/{PREPARE}")["bundle_version"] == commit, f"Airflow to have {commit}")

    def cli(self, *arguments: str) -> str:
        return _run([sys.executable, "-m", "include.cli", *arguments], ROOT, self.stack.cli_environment())

    def land(self, days: Interval) -> None:
        self.cli("simulate", "--project", PROJECT.name, "--start", str(days.start), "--end", str(days.end))

    def run_date(self, run_id: str, day: date) -> str:
        """Start the run of a day; return its id."""
        self.airflow.run([PREPARE], run_id, day)
        return run_id

    def again(self, run_id: str) -> None:
        """Clear the task."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [TASK], "only_failed": False}
        self._post(f"dags/{PREPARE}/clearTaskInstances", body)

    def mark(self, run_id: str, state: str) -> None:
        """Mark the task as ended."""
        path = f"dags/{PREPARE}/dagRuns/{run_id}/taskInstances/{TASK}"
        answer = self.airflow.client.patch(f"/api/v2/{path}", json={"new_state": state})
        assert answer.is_success, answer.text

    # what the tests look at

    def task(self, run_id: str, task_id: str = TASK) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"dags/{PREPARE}/dagRuns/{run_id}/taskInstances/{task_id}")
        return found

    def ends(self, run_id: str, task_id: str = TASK) -> str:
        """Wait until the task ends; return its state."""
        return self.becomes(run_id, ENDS, task_id)

    def becomes(self, run_id: str, wanted: set[str], task_id: str = TASK) -> str:
        def look() -> str | None:
            state = self.task(run_id, task_id)["state"]
            assert state not in ENDS - wanted, f"{state}:\n{self.log(run_id, task_id)[-3000:]}"
            return str(state) if state in wanted else None

        return str(await_that(look, f"{task_id} of {run_id} to be {wanted}"))

    def log(self, run_id: str, task_id: str = TASK, *, after: int = 0) -> str:
        """Return the log of all tries, or of those after one, with the triggerer's part."""
        folder = self.stack.home / "airflow" / "logs" / f"dag_id={PREPARE}" / f"run_id={run_id}" / f"task_id={task_id}"
        tries = range(after + 1, self.task(run_id, task_id)["try_number"] + 1)
        files = [path for n in tries for path in sorted(folder.glob(f"attempt={n}.log*")) if path.is_file()]
        return "\n".join(path.read_text(encoding="utf-8") for path in files)

    def prepared(self, day: date) -> bool:
        """Return whether the day is prepared."""
        found = postgres.days.read_prepared_days(demo.settings_of(self.stack), PROJECT.name, Interval.of(day))
        return [prepared_day.day for prepared_day in found] == [day]

    def get(self, path: str) -> Any:
        return self.airflow.client.get(f"/api/v2/{path}").raise_for_status().json()

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        answer = self.airflow.client.post(f"/api/v2/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    # accidents

    def arm(self, name: str) -> None:
        """Let this point kill the next task that reaches it."""
        (self.faults / f"{name}.struck").unlink(missing_ok=True)
        (self.faults / f"{name}.armed").touch()

    def struck(self, name: str) -> bool:
        return (self.faults / f"{name}.struck").exists()

    def kill(self, service: str) -> None:
        """Kill a service and its processes with `kill -9`; then start it again, as a supervisor would."""
        [pid] = [found.pid for found in self.stack.status() if found.name == service]
        process = psutil.Process(pid)
        processes.kill([process, *process.children(recursive=True)])
        self.stack.start()


@contextmanager
def living(days: Interval, points: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[Live]:
    """Run Airflow and the workspace during the block."""
    # not in pytest's folder: the user that runs PostgreSQL for root cannot enter it
    with tempfile.TemporaryDirectory(prefix="nightly-live-") as name:
        folder = Path(name)
        with workspace(folder / "workspace", tls=True) as found:
            live = Live(folder, found, points or {})
            try:
                live.start(days)
                yield live
            finally:
                live.stack.stop()
                assert processes.find_processes(live.stack.home) == []


def await_that(look: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Call `look` until it returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"timed out after {seconds:g} s: {what}"
        time.sleep(0.2)
    return found


def _run(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=dict(variables), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
