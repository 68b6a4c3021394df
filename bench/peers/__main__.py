"""`make bench-peers`: a warm nightly run of the product, of Dagster and of Prefect, in core-seconds.

All three read the same files, score with the same model and write to the same PostgreSQL server. Services run as they
would in production: a scheduler or daemon, and a web server. Their cost while nothing
runs is measured too, and left out. The benchmark checks that all three make the same scores.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import psycopg
import typer
from polars.testing import assert_frame_equal
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

from bench import bare, cpu, machine, night
from bench.backfill import MODEL, PROJECT, BackfillBench
from bench.night import COLD, WARM, NightCost
from bench.peers.night import Night
from bench.results import Result
from include.io.tables import Tables
from tools.console import console_for_people
from tools.stack import ROOT
from tools.stack.ports import find_free_port

START_SECONDS = 180
RUN_SECONDS = 300

console = console_for_people()


class Peer:
    """An orchestrator in an environment of its own, with its services and a database for its metadata."""

    name: str

    def __init__(self, home: Path, environment: dict[str, str], database_url: str) -> None:
        self.home = home
        self.bin = ROOT / ".venv" / "peers" / self.name / "bin"
        self.port = find_free_port()
        self.environment = {**_plain(), **environment, "PYTHONPATH": str(ROOT), "HOME": str(home)}
        self.database_url = database_url
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start the services, wait until they take runs, and end them."""
        with ExitStack() as services:
            for name, command in self.services().items():
                log = services.enter_context((self.home / f"{name}.log").open("w"))
                started = subprocess.Popen(
                    command, cwd=self.home, env=self.environment, stdout=log, stderr=subprocess.STDOUT
                )
                services.callback(_end, started)
                if name == "server":
                    _wait(self.answers, START_SECONDS, f"{self.name} does not answer; logs are in {self.home}")
            _wait(self.is_ready, START_SECONDS, f"{self.name} takes no runs; logs are in {self.home}")
            yield

    def run(self, day: date) -> None:
        """Run a run date to its end.

        Raises:
            SystemExit: it fails.
        """
        run_id = self.begin(day)
        _wait(lambda: self.has_ended(run_id), RUN_SECONDS, f"{self.name}: the run of {day} does not end")

    def services(self) -> dict[str, list[str]]:
        """Return the command of each service, in the order in which they start."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Return whether the server answers."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Return whether it takes runs."""
        raise NotImplementedError

    def begin(self, day: date) -> str:
        """Begin the run of a run date, and return its id."""
        raise NotImplementedError

    def has_ended(self, run_id: str) -> bool:
        """Return whether a run has succeeded.

        Raises:
            SystemExit: it failed.
        """
        raise NotImplementedError


class Dagster(Peer):
    """Dagster with a code server, a daemon and a web server; each asset of a run is a process."""

    name = "dagster"

    def __init__(self, home: Path, environment: dict[str, str], database_url: str) -> None:
        super().__init__(home, environment, database_url)
        self.environment["DAGSTER_HOME"] = str(home)
        self.code_port = find_free_port()
        storage = f"storage: {{postgres: {{postgres_url: '{database_url}'}}}}\ntelemetry: {{enabled: false}}\n"
        (home / "dagster.yaml").write_text(storage)
        server = f"{{host: 127.0.0.1, port: {self.code_port}, location_name: night}}"
        (home / "workspace.yaml").write_text(f"load_from: [{{grpc_server: {server}}}]\n")

    def services(self) -> dict[str, list[str]]:
        """See `Peer`."""
        dagster, module = str(self.bin / "dagster"), "bench.peers.dagster_job"
        return {
            "code": [dagster, "code-server", "start", "-h", "127.0.0.1", "-p", str(self.code_port), "-m", module],
            "server": [f"{dagster}-webserver", "-h", "127.0.0.1", "-p", str(self.port), "-w", "workspace.yaml"],
            "daemon": [f"{dagster}-daemon", "run", "-w", "workspace.yaml"],
        }

    def answers(self) -> bool:
        """See `Peer`."""
        return bool(self.client.get("/server_info").is_success)

    def is_ready(self) -> bool:
        """See `Peer`."""
        found = self._query(
            "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } "
            "instance { daemonHealth { allDaemonStatuses { healthy required } } } }"
        )
        daemons = found["instance"]["daemonHealth"]["allDaemonStatuses"]
        healthy = all(each["healthy"] for each in daemons if each["required"])
        return bool(found["repositoriesOrError"].get("nodes")) and healthy

    def begin(self, day: date) -> str:
        """See `Peer`."""
        launched = self._query(
            "mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) "
            "{ __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }",
            params={
                "selector": {
                    "repositoryLocationName": "night",
                    "repositoryName": "__repository__",
                    "pipelineName": "night",
                },
                "mode": "default",
                "executionMetadata": {"tags": [{"key": "dagster/partition", "value": str(day)}]},
            },
        )["launchPipelineExecution"]
        if "run" not in launched:
            raise SystemExit(f"dagster: {launched}")
        return str(launched["run"]["runId"])

    def has_ended(self, run_id: str) -> bool:
        """See `Peer`."""
        asked = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
        status = self._query(asked, id=run_id)["runOrError"]["status"]
        if status in ("FAILURE", "CANCELED"):
            raise SystemExit(f"dagster: the run {run_id} is {status}; logs are in {self.home}")
        return bool(status == "SUCCESS")

    def _query(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = self.client.post("/graphql", json={"query": query, "variables": variables}).raise_for_status().json()
        data: dict[str, Any] | None = answer.get("data")
        if data is None:
            raise SystemExit(f"dagster: {answer}")
        return data


class Prefect(Peer):
    """Prefect with a server, and the process that serves the flow; each run is a process.

    Its metadata is in SQLite, its default: the PostgreSQL of the benchmark lacks the extension `pg_trgm`.
    """

    name = "prefect"

    def __init__(self, home: Path, environment: dict[str, str], database_url: str) -> None:
        super().__init__(home, environment, database_url)
        self.environment |= {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }

    def services(self) -> dict[str, list[str]]:
        """See `Peer`."""
        server = ["server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        return {
            "server": [str(self.bin / "prefect"), *server],
            "flow": [str(self.bin / "python"), "-m", "bench.peers.prefect_flow"],
        }

    def answers(self) -> bool:
        """See `Peer`."""
        return bool(self.client.get("/api/health").is_success)

    def is_ready(self) -> bool:
        """See `Peer`."""
        found = self.client.get("/api/deployments/name/night/nightly")
        return bool(found.is_success and found.json()["status"] == "READY")

    def begin(self, day: date) -> str:
        """See `Peer`."""
        deployment = self.client.get("/api/deployments/name/night/nightly").raise_for_status().json()["id"]
        asked = {"parameters": {"run_date": str(day)}, "idempotency_key": str(day)}
        answer = self._post(f"/api/deployments/{deployment}/create_flow_run", asked)
        return str(answer["id"])

    @retry(retry=retry_if_exception_type(httpx.HTTPStatusError), wait=wait_fixed(1), stop=stop_after_attempt(5))
    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Post, and again while SQLite is locked, which the server answers with 503."""
        answer: dict[str, Any] = self.client.post(path, json=body).raise_for_status().json()
        return answer

    def has_ended(self, run_id: str) -> bool:
        """See `Peer`."""
        state = self.client.get(f"/api/flow_runs/{run_id}").raise_for_status().json()["state_type"]
        if state in ("FAILED", "CRASHED", "CANCELLED"):
            raise SystemExit(f"prefect: the run {run_id} is {state}; logs are in {self.home}")
        return bool(state == "COMPLETED")


PEERS = (Dagster, Prefect)


def measure(home: Path) -> list[NightCost]:
    """Measure the product, then each peer with the product's files and model, and compare the scores."""
    bench = BackfillBench(home / "product")
    try:
        run_dates = bench.with_one_version(COLD + WARM)
        costs = [night.measure("nightly-ml", bench.run_date, run_dates)]
        bench.dump_version(home / "model.joblib")
        expected = Tables(bench.settings).scan(f"scores_{MODEL}").collect()
    finally:
        bench.stack.stop()
    postgres = bench.stack.postgres()
    try:
        for kind in PEERS:
            folder = home / kind.name
            folder.mkdir()
            for database in (kind.name, f"{kind.name}_night"):
                postgres.query(f"CREATE DATABASE {database} OWNER nightly")
            url = postgres.url("nightly", f"{kind.name}_night")
            with psycopg.connect(url) as connection:
                for table in bare.TABLES:
                    connection.execute(table)
            environment = {
                "PEER_LANDING": str(bench.stack.home / "landing" / PROJECT.name),
                "PEER_TABLES": str(folder / "tables"),
                "PEER_MODEL": str(home / "model.joblib"),
                "PEER_DATABASE_URL": url,
            }
            for days in range(1, max(bare.RATE_WINDOWS_DAYS)):
                Night.of(str(run_dates[0] - timedelta(days=days)), environment).validate("actuals")
            peer = kind(folder, environment, postgres.url("nightly", kind.name))
            with peer.running():
                costs.append(night.measure(kind.name, peer.run, run_dates))
            made = pl.read_parquet(folder / "tables" / "scores" / "*.parquet").sort("day", "entity_id")
            same = expected.filter(pl.col("day").is_in(run_dates)).select(made.columns).sort("day", "entity_id")
            assert_frame_equal(same, made, rel_tol=1e-12, abs_tol=0)
            console.print(f"  {kind.name}: {made.height} scores of {len(run_dates)} run dates, equal to the product's")
    finally:
        bench.stack.stop()
    return costs


def results() -> list[Result]:
    """Return the cost of a warm nightly run of the product and of each peer; there is no goal."""
    with tempfile.TemporaryDirectory(prefix="nightly-peers-") as temporary:
        Path(temporary).chmod(0o711)  # as root, PostgreSQL runs as another user, who must be able to enter the folder
        costs = measure(Path(temporary))
    console.print(night.costs_table(costs))
    return [night.result(each, f"a warm nightly run, prepared and scored, by {each.name}") for each in costs]


def _plain() -> dict[str, str]:
    """Return the environment without what names the product's Python or Spark."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TZ", "TMPDIR")}


def _wait(holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Ask once a second until something holds; a server that does not answer yet is asked again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except httpx.HTTPError:
            pass
        if time.monotonic() > deadline:
            raise SystemExit(otherwise)
        time.sleep(1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> None:
    """Measure and print."""
    cpu.adopt_orphans()
    meter = machine.LoadMeter()
    results()
    console.print(machine.describe())
    console.print(f"{meter.read()}")


if __name__ == "__main__":
    typer.run(main)
