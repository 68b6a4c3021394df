"""Run docker-compose.yaml as a project of its own, with other ports, volumes and secrets than a stack of `make up`.

The run dates are in 2013. Their runs are started by REST; the command line in a container makes history and champion.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from include.core.interval import Interval
from tools import make_secrets
from tools.stack import ROOT, find_free_port

PROJECT, MODEL = "flights", "late_arrival"
DAGS = (f"{PROJECT}_prepare", f"{MODEL}_train", f"{MODEL}_score", f"{PROJECT}_monitor")

HISTORY = Interval(start=date(2013, 1, 1), end=date(2013, 2, 14))  # the training of its last day passes the gate
BEFORE = HISTORY.end + timedelta(days=1)  # published by the first champion

PORTS = ("AIRFLOW_PORT", "MLFLOW_PORT", "POSTGRES_PORT", "STORE_PORT")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
RUN_SECONDS = 900


class Composed:
    """A project of Compose with settings and secrets below a folder."""

    def __init__(self, folder: Path, name: str, **settings: str) -> None:
        self.name, self.folder, self.env = name, folder, folder / "env"
        ports = {port: str(find_free_port()) for port in PORTS}
        self.settings = {
            "NIGHTLY_IMAGE": f"{name}:latest",
            "NIGHTLY_SECRETS": str(folder / "secrets"),
            "EXTRA_CA": str(CERTIFICATES) if CERTIFICATES.exists() else "/dev/null",
            "AIRFLOW_SCHEDULE": "False",
            **ports,
            "AIRFLOW_URL": f"http://localhost:{ports['AIRFLOW_PORT']}",
            **images_made_here(),
            **settings,
        }
        self.write_env()
        assert make_secrets.main(self.env) == 0

    def write_env(self, **changes: str) -> None:
        """Write `.env`, as a person would edit it."""
        self.settings |= changes
        lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if line.split("=")[0] not in self.settings]
        said = [f"{name}={value}" for name, value in self.settings.items()]
        self.env.write_text("\n".join([*kept, *said]) + "\n", encoding="utf-8")

    def compose(self, *arguments: str, check: bool = True) -> str:
        command = ["docker", "compose", "--project-name", self.name, "--env-file", str(self.env), *arguments]
        names = {line.split("=")[0] for line in self.env.read_text(encoding="utf-8").splitlines()}
        environment = {name: value for name, value in os.environ.items() if name not in names}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return done.stdout

    def up(self) -> None:
        """Start all services as `make up` does, without the build, and wait until they are healthy."""
        try:
            self.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "600")
        except AssertionError as error:
            error.add_note(self.compose("logs", "--tail", "20"))  # these end with the containers
            raise
        self.__dict__.pop("_client", None)

    def cli(self, *arguments: str) -> str:
        return self.compose("exec", "-T", "scheduler", "nightly", *arguments)

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return the engine's description of each service's container."""
        found = [json.loads(line) for line in self.compose("ps", "--all", "--format", "json").splitlines()]
        return {container["Service"]: container for container in found}

    def inspect(self, service: str) -> dict[str, Any]:
        container = self.containers()[service]["ID"]
        done = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)[0]  # type: ignore[no-any-return]

    # Run dates

    def make_history(self, end: date) -> None:
        """Deliver all days up to the end, prepare those before the first run, and publish with a first champion."""
        self.land(HISTORY.start, end)
        self.cli("prepare", "--project", PROJECT, "--start", str(HISTORY.start), "--end", str(BEFORE))
        self.cli("gate", "--model", MODEL, "--day", str(HISTORY.end))
        why = ("--by", "tests", "--why", "the first one")
        self.cli("promote", "--model", MODEL, "--version", "1", "--from-day", str(BEFORE), *why)
        self.cli("score", "--model", MODEL, "--start", str(BEFORE))
        self.cli("publish", "--model", MODEL, "--start", str(BEFORE))
        self.unpause()

    def land(self, start: date, end: date) -> None:
        """Deliver the files of these days."""
        self.cli("simulate", "--project", PROJECT, "--start", str(start), "--end", str(end))

    def unpause(self) -> None:
        deadline = time.monotonic() + 180
        while missing := set(DAGS) - {dag["dag_id"] for dag in self.get("/dags?limit=100")["dags"]}:
            assert time.monotonic() < deadline, f"Airflow does not show {missing}"
            time.sleep(1)
        for dag_id in DAGS:
            self._client.patch(f"/api/v2/dags/{dag_id}", json={"is_paused": False}).raise_for_status()

    def trigger(self, day: date) -> str:
        """Start the runs of a day; return their id."""
        run_id = f"nightly__{day}"
        for dag_id in DAGS:
            # by the param, not by a logical date, of which a DAG can have only one run
            body = {"dag_run_id": run_id, "logical_date": None, "conf": {"day": str(day)}}
            self._client.post(f"/api/v2/dags/{dag_id}/dagRuns", json=body).raise_for_status()
        return run_id

    def await_task(self, dag_id: str, task_id: str, run_id: str, wanted: str = "running") -> None:
        """Wait until the task is in a state. The API server may be down meanwhile."""
        states: dict[str, str] = {}
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                states = {name: state for name, state, _ in self.tasks(dag_id, run_id)}
                if states.get(task_id) == wanted:
                    return
                assert states.get(task_id) != "success", f"{dag_id} {run_id}: {task_id} ended unobserved"
            time.sleep(0.3)
        raise AssertionError(f"{dag_id} {run_id}: {task_id} did not become {wanted}: {states}")

    def remove(self) -> None:
        """Remove all of the project: containers, volumes and networks."""
        self.compose("down", "--volumes", "--remove-orphans")

    def follow(self, run_id: str) -> None:
        """Wait until the runs of a day have succeeded. The API server may be down meanwhile."""
        deadline = time.monotonic() + RUN_SECONDS
        going = list(DAGS)
        while going:
            with suppress(httpx.HTTPError):
                for dag_id in tuple(going):
                    state = self.get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
                    assert state != "failed", f"{dag_id} {run_id}: {self.tasks(dag_id, run_id)}"
                    if state == "success":
                        going.remove(dag_id)
            assert time.monotonic() < deadline, {dag_id: self.tasks(dag_id, run_id) for dag_id in going}
            time.sleep(1)

    def tasks(self, dag_id: str, run_id: str) -> list[tuple[str, str, int]]:
        found = self.get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return [(task["task_id"], task["state"], task["try_number"]) for task in found]

    def run_date(self, day: date) -> None:
        self.follow(self.trigger(day))

    def check(self, end: date) -> None:
        """Run `cli check`, which finds lost and doubled rows; fail with its findings."""
        self.cli("check", "--project", PROJECT, "--start", str(HISTORY.start), "--end", str(end))

    def query(self, sql: str) -> str:
        """Run a query on the shared database; return one line for each row."""
        script = 'import sys, psycopg2; c = psycopg2.connect("postgresql://writer@postgres/nightly").cursor(); '
        script += 'c.execute(sys.argv[1]); print("\\n".join("|".join(map(str, r)) for r in c.fetchall()))'
        return self.python(script, sql)

    def python(self, script: str, *arguments: str) -> str:
        """Run a script inside a container; return what it prints, without Airflow's log lines."""
        quiet = ("--env", "AIRFLOW__LOGGING__LOGGING_LEVEL=WARNING")
        return self.compose("exec", "-T", *quiet, "scheduler", "python", "-c", script, *arguments).strip()

    def get(self, path: str) -> Any:
        return self._client.get(f"/api/v2{path}").raise_for_status().json()

    @cached_property
    def _client(self) -> httpx.Client:
        url = f"http://127.0.0.1:{self.settings['AIRFLOW_PORT']}"
        password = json.loads((self.folder / "secrets" / "ui_passwords.json").read_text(encoding="utf-8"))["admin"]
        body = {"username": "admin", "password": password}
        token = httpx.post(f"{url}/auth/token", json=body, trust_env=False).raise_for_status().json()["access_token"]
        return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60)


@contextmanager
def started(name: str, **settings: str) -> Iterator[Composed]:
    """Start a project with a new image; remove all of it after the block."""
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        composed = Composed(Path(folder), name, **settings)
        try:
            composed.remove()  # what a killed run left has other passwords
            composed.compose("build", "volumes")
            composed.up()
            yield composed
        finally:
            composed.remove()


def images_made_here() -> dict[str, str]:
    """Return the settings of images that came from no registry (tools/containers/engine): they have no digest."""
    made = {}
    for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines():
        name, _, image = line.partition("=")
        tag, at, _ = image.partition("@sha256:")
        command = ["docker", "image", "inspect", "--format", "{{len .RepoDigests}}", tag]
        if at and subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "0":
            made[name] = tag
    return made


def find_engine() -> str | None:
    """Return why no containers can be started here; None if they can."""
    for command in (["docker", "compose", "version"], ["docker", "info"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return "docker is not installed"
        if done.returncode:
            return f"`{' '.join(command)}` fails: {done.stderr.strip().splitlines()[-1]}"
    return None


def services_of(composed: Composed) -> Sequence[str]:
    """Return the services that keep running."""
    return [name for name in composed.containers() if name not in ("volumes", "init")]
