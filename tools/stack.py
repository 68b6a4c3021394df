"""Run a whole local stack under one home folder (`python -m tools.stack`).

It has PostgreSQL, Airflow's four services, a Spark server, MLflow's pages and an S3 server.

Settings reach Airflow through the environment only. What is product-specific here is where the stack keeps the
product's data and how that is said twice: as Airflow connections to the services, whose DAGs must resolve them, and as
`NIGHTLY_*` variables to a person's shell. Several stacks run side by side, each with a home and ports of its own.
"""

import base64
import fcntl
import hashlib
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated

import httpx
import psutil
import typer
from pydantic import BaseModel, ConfigDict
from rich.console import Console

from tools import processes
from tools.postgres import Postgres, PostgresError, find_binaries
from tools.spark_server import SPARK_SETTINGS, spark_server

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".local"

SERVICES = ("api-server", "dag-processor", "triggerer", "scheduler")
SPARK = "spark"  # tasks share it; each would start a JVM of its own, for 15 core-seconds. It holds about 1.7 GB
MLFLOW = "mlflow"  # runs only where it is asked for: it costs 0.4 GB and some seconds
S3 = "s3"  # runs only where it is asked for, in place of folders, and keeps all in memory: what is in it ends with it
USUAL_PORTS = {"api": 8080, "worker_log": 8793, "trigger_log": 8794, "spark": 15002, "mlflow": 5000, "s3": 9000}
PORTS_OF = {
    "api-server": ("api",),
    "scheduler": ("worker_log",),
    "triggerer": ("trigger_log",),
    SPARK: ("spark",),
    MLFLOW: ("mlflow",),
    S3: ("s3",),
}
BUCKET, REGION = "nightly", "us-east-1"

PRELOAD = ROOT / "tools" / "airflow_local_settings.py"
SETTINGS = dict(
    line.split("=", 1)
    for line in (ROOT / "tools" / "airflow.env").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
BACKFILL_POOL = SETTINGS["AIRFLOW__NIGHTLY__BACKFILL_POOL"]
BACKFILL_SLOTS = int(SETTINGS["AIRFLOW__CORE__PARALLELISM"]) - 2  # what is left is for the nightly run

HEALTHY_SECONDS = 180
GRACE_SECONDS = 15


class StackError(RuntimeError):
    """The stack did not do what it was asked; the text says which part, and why."""


class Service(BaseModel):
    """A service as it was started last."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started_at: datetime
    settings_digest: str


class State(BaseModel):
    """What a stack remembers from one command to the next."""

    ports: dict[str, int] = {}
    schedule: bool = True
    spark: bool = True
    mlflow: bool = False
    s3: bool = False
    services: dict[str, Service] = {}


class Secrets(BaseModel):
    """Keys made at the first start. All of Airflow's services must have the same ones."""

    model_config = ConfigDict(frozen=True)

    jwt_secret: str
    api_secret_key: str
    fernet_key: str
    hash_key: str
    s3_access_key: str
    s3_secret_key: str
    s3_session_token: str

    @classmethod
    def make(cls) -> "Secrets":
        """Return new random keys."""
        return cls(
            jwt_secret=secrets.token_hex(64),
            api_secret_key=secrets.token_hex(32),
            fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            hash_key=secrets.token_hex(32),
            s3_access_key=f"ASIA{secrets.token_hex(8).upper()}",
            s3_secret_key=secrets.token_urlsafe(30),
            s3_session_token=secrets.token_urlsafe(60),
        )


@dataclass(frozen=True)
class ServiceStatus:
    """How a service does; `memory_bytes` is what its processes do not share with any other."""

    name: str
    pid: int | None
    healthy: bool
    memory_bytes: int


class Stack:
    """The stack whose files are all under `home`.

    `bundle` is the folder of the DAG bundle, `settings` are more environment variables for Airflow, such as a
    test's `AIRFLOW_CONN_…`, and `say` is told what a slow step waits for.
    """

    def __init__(
        self,
        home: Path = HOME,
        *,
        bundle: Path = ROOT,
        settings: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.home = home.resolve()
        self.bundle = bundle.resolve()
        self.settings = dict(settings or {})
        self.say = say

    # What it does

    def start(
        self,
        schedule: bool | None = None,
        mlflow: bool | None = None,
        spark: bool | None = None,
        s3: bool | None = None,
    ) -> None:
        """Start whatever does not run, with the settings it should have, and return when all of it is healthy.

        Without `schedule`, only runs started by hand or by a backfill run. With `mlflow`, its pages are served too,
        until `stop`, and Airflow's pages link to them. Without `spark`, each task that needs Spark starts its own.
        With `s3`, landing, tables and artifacts are in an S3 server, which is empty after each start of it, and not in
        folders. `None` leaves each as it was.
        """
        with self._lock(), one_start_at_a_time(self.say):
            self._start_postgres()
            asked = {"schedule": schedule, "mlflow": mlflow, "spark": spark, "s3": s3}
            self._remember(**{name: value for name, value in asked.items() if value is not None})
            self._end_orphans()
            self._choose_ports()
            self._write_preload()
            if wrong := [name for name in self._names if not self._is_right(name)]:
                self._end(wrong)
                self._end_orphans()
                self._migrate()
            for name in wrong:
                self._launch(name)
            self._write_environment()
            self._await_health()
            self._make_bucket()

    def postgres(self) -> Postgres:
        """Start PostgreSQL alone, unless it runs, and return it: all that the product's command line needs."""
        with self._lock():
            self._start_postgres()
            self._choose_ports()
            self._write_environment()
        return self._postgres

    def stop(self) -> list[int]:
        """Stop everything, leave no process behind, and return the numbers of those that had to be killed."""
        if not self.home.exists() and not processes.find_processes(self.home):
            return []
        with self._lock():
            self.say("stopping Airflow")
            # Tasks report how they ended to the API server, and one whose Spark or S3 is gone would say that it failed:
            # these go last, with what is left of the others.
            killed = self._end([name for name in self._names if name not in ("api-server", SPARK, S3)])
            killed += processes.end(self._airflow_processes(), GRACE_SECONDS)
            self.say("stopping PostgreSQL")
            self._postgres.stop()
            killed += self._kill_the_rest()
            self._remember(services={}, mlflow=False)
        return [process.pid for process in killed]

    def status(self) -> list[ServiceStatus]:
        """Return how PostgreSQL and the services do, without changing anything."""
        if not self.home.exists():
            return [ServiceStatus(name, None, False, 0) for name in ("postgres", *self._names)]
        unhealthy = self._unhealthy()
        server = self._postgres.server()
        found = [("postgres", server, server is not None)]
        found += [(name, self._service_process(name), name not in unhealthy) for name in self._names]
        return [
            ServiceStatus(name, process.pid if process else None, healthy, _measure_memory(process))
            for name, process, healthy in found
        ]

    # What others need of it

    def environment(self) -> dict[str, str]:
        """Return the environment of Airflow's services, with the marker by which `start` and `stop` find them.

        What else is started with it counts as theirs, and ends with them.
        """
        return self._inherited() | self._airflow_settings()

    def _inherited(self) -> dict[str, str]:
        """Return what every service is given: the caller's environment without what would lead it astray, marked."""
        # Of a shell that sourced `env`, DAGs must not see the product's variables: they resolve connections. Imports
        # without bytecode are three times slower, and PYTHONPATH may lead to another `include`.
        left_out = {*self._shell_settings(), "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "SPARK_REMOTE"}
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in left_out and not name.startswith("NIGHTLY_")
        }
        for name in ("NO_PROXY", "no_proxy"):  # tasks talk to the API server
            inherited[name] = ",".join(filter(None, [inherited.get(name), "127.0.0.1,localhost"]))
        # Without SPT_NOENV a process that sets its title writes over its environment, and so over the marker.
        marked = {processes.MARKER: str(self.home), "SPT_NOENV": "1"}
        return inherited | marked

    def cli_environment(self) -> dict[str, str]:
        """Return the environment of a shell that sourced `env`: for `airflow`, `psql` and `include.cli`."""
        left_out = {"PYTHONDONTWRITEBYTECODE", "SPARK_REMOTE", processes.MARKER}
        inherited = {name: value for name, value in os.environ.items() if name not in left_out}
        path = os.pathsep.join([*map(str, self._program_folders()), inherited.get("PATH", os.defpath)])
        return inherited | self._settings_of_shells() | {"PATH": path}

    @property
    def api_url(self) -> str:
        """The address of Airflow's pages and REST API."""
        if "api" not in self._state.ports:
            raise StackError(f"{self.home} holds no stack yet: start it")
        return f"http://127.0.0.1:{self._state.ports['api']}"

    @property
    def mlflow_url(self) -> str | None:
        """The address of MLflow's pages; None unless the stack serves them."""
        return f"http://127.0.0.1:{self._state.ports['mlflow']}" if self._state.mlflow else None

    @property
    def spark_url(self) -> str | None:
        """The address of the Spark Connect server that tasks share; None unless the stack has one."""
        port = self._state.ports.get("spark")
        return f"sc://127.0.0.1:{port}" if self._state.spark and port else None

    @property
    def s3_url(self) -> str | None:
        """The address of the S3 server; None where all is in folders."""
        return f"http://127.0.0.1:{self._state.ports['s3']}" if self._state.s3 else None

    def api(self) -> httpx.Client:
        """Return a client of the REST API with an administrator's token; paths start with `/api/v2`."""
        token = self._http.get(f"{self.api_url}/auth/token").raise_for_status().json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.api_url, headers=headers, trust_env=False, timeout=30)

    def log(self, name: str) -> Path:
        """Return the log file of `postgres`, `migrate` or a service."""
        return self.home / "logs" / f"{name}.log"

    # Settings

    def _airflow_settings(self) -> dict[str, str]:
        ports, keys, postgres = self._state.ports, self._secrets, self._postgres
        bundle = {
            "name": "nightly-ml",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(self.bundle), "refresh_interval": 5},
        }
        airflow = {
            "AIRFLOW_HOME": str(self.home / "airflow"),
            "AIRFLOW__API__BASE_URL": self.api_url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(ports["api"]),
            "AIRFLOW__API__SECRET_KEY": keys.api_secret_key,
            "AIRFLOW__API_AUTH__JWT_SECRET": keys.jwt_secret,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.api_url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__FERNET_KEY": keys.fernet_key,
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.bundle / "plugins"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url("airflow", "airflow", "postgresql+psycopg2"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": postgres.url("airflow", "airflow", "postgresql+asyncpg"),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(ports["trigger_log"]),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(ports["worker_log"]),
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": str(self._state.schedule),
            "AIRFLOW_CONN_NIGHTLY_ARTIFACTS": _connection("generic", extra={"uri": self._place("artifacts")}),
            "AIRFLOW_CONN_NIGHTLY_DATABASE": _connection(
                "postgres", host=str(postgres.socket), login="nightly", schema="nightly"
            ),
            "AIRFLOW_CONN_NIGHTLY_HASH_KEY": _connection("generic", password=keys.hash_key),
            "AIRFLOW_CONN_NIGHTLY_LANDING": _connection("generic", extra={"uri": self._place("landing")}),
            "AIRFLOW_CONN_NIGHTLY_MLFLOW": _connection(
                "generic",
                password=postgres.url("mlflow", "mlflow"),
                extra={"ui_url": self.mlflow_url} if self.mlflow_url else {},
            ),
            "AIRFLOW_CONN_NIGHTLY_TABLES": _connection("generic", extra={"uri": self._place("tables")}),
        }
        remote = {"SPARK_REMOTE": self.spark_url} if self.spark_url else {}
        storage = {}
        if self.s3_url:
            storage["AIRFLOW_CONN_NIGHTLY_STORAGE"] = _connection(
                "aws",
                login=keys.s3_access_key,
                password=keys.s3_secret_key,
                extra={
                    "aws_session_token": keys.s3_session_token,
                    "endpoint_url": self.s3_url,
                    "region_name": REGION,
                },
            )
        return SETTINGS | airflow | remote | storage | self.settings

    def _place(self, name: str) -> str:
        """Return where landing, tables or artifacts are."""
        return f"s3://{BUCKET}/{name}" if self._state.s3 else str(self.home / name)

    def _storage_options(self) -> dict[str, str]:
        """Return how S3 is reached, as `include/io/storage.py` names it."""
        if self.s3_url is None:
            return {}
        return {
            "AWS_ENDPOINT_URL": self.s3_url,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self._secrets.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": self._secrets.s3_secret_key,
            "AWS_SESSION_TOKEN": self._secrets.s3_session_token,
        }

    def _make_bucket(self) -> None:
        if self.s3_url:
            self._http.put(f"{self.s3_url}/{BUCKET}").raise_for_status()  # again changes nothing

    def _mlflow_settings(self) -> dict[str, str]:
        # The URL of a database may carry a password, and a command line is everyone's to read.
        return {
            **self._storage_options(),
            **({"MLFLOW_S3_ENDPOINT_URL": self.s3_url} if self.s3_url else {}),
            "MLFLOW_BACKEND_STORE_URI": self._postgres.url("mlflow", "mlflow"),
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": self._place("artifacts"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_HOST": "127.0.0.1",
            "MLFLOW_PORT": str(self._state.ports["mlflow"]),
            "MLFLOW_SERVE_ARTIFACTS": "false",  # for clients by HTTP; the pages show and download them all the same
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # processes of its own, for what nothing here uses
            "MLFLOW_WORKERS": "1",
        }

    def _spark_settings(self) -> dict[str, str]:
        return SPARK_SETTINGS | {"SPARK_LOCAL_DIRS": str(self.home / "spark")}

    def _command(self, name: str) -> list[str]:
        if name == MLFLOW:
            return [_program("mlflow"), "server"]
        if name == SPARK:
            return spark_server(self._state.ports["spark"])
        if name == S3:
            return s3_server(self._state.ports["s3"])
        return [_program("airflow"), name]

    def _shell_settings(self) -> dict[str, str]:
        postgres, storage = self._postgres, self._storage_options()
        return {
            **({"NIGHTLY_STORAGE_OPTIONS": json.dumps(storage)} if storage else {}),
            "DATABASE_URL": postgres.url("nightly", "nightly"),
            "MLFLOW_TRACKING_URI": postgres.url("mlflow", "mlflow"),
            "NIGHTLY_ARTIFACTS": self._place("artifacts"),
            "NIGHTLY_DATABASE_URL": postgres.url("nightly", "nightly"),
            "NIGHTLY_HASH_KEY": self._secrets.hash_key,
            "NIGHTLY_LANDING": self._place("landing"),
            "NIGHTLY_MLFLOW_TRACKING_URI": postgres.url("mlflow", "mlflow"),
            "NIGHTLY_TABLES": self._place("tables"),
            "OPS_READER_URL": postgres.url("ops_reader", "nightly"),
            "READER_URL": postgres.url("reader", "nightly"),
        }

    def _settings_of_shells(self) -> dict[str, str]:
        settings = self._airflow_settings() | self._shell_settings()
        if self._service_process(SPARK) is None:  # only PostgreSQL was started: a command starts its own Spark
            settings.pop("SPARK_REMOTE", None)
        return settings

    def _program_folders(self) -> tuple[Path, Path]:
        return Path(sys.executable).parent, find_binaries()

    def _write_environment(self) -> None:
        """Write `env` for a person's shell. The marker stays out of it, or `stop` would end that shell."""
        path = os.pathsep.join(map(str, self._program_folders()))
        lines = [
            "# Written by tools.stack for `. env`: a shell whose airflow, mlflow, psql and include.cli use this stack.",
            f"unset PYTHONDONTWRITEBYTECODE SPARK_REMOTE {processes.MARKER}",
            f'export PATH={shlex.quote(path)}:"$PATH"',
        ]
        settings = sorted(self._settings_of_shells().items())
        lines += [f"export {name}={shlex.quote(value)}" for name, value in settings]
        _write_private(self.home / "env", "\n".join(lines) + "\n")

    def _write_preload(self) -> None:
        config = self.home / "airflow" / "config"
        config.mkdir(parents=True, exist_ok=True)
        shutil.copy(PRELOAD, config)

    def _service_settings(self, name: str) -> dict[str, str]:
        own: dict[str, Callable[[], dict[str, str]]] = {
            MLFLOW: self._mlflow_settings,
            SPARK: self._spark_settings,
            S3: dict,  # whoever comes may read and write
        }
        return own.get(name, self._airflow_settings)()

    def _settings_digest(self, name: str) -> str:
        package = {MLFLOW: "mlflow", SPARK: "pyspark"}.get(name, "apache-airflow")
        running = json.dumps([version(package), self._command(name), sorted(self._service_settings(name).items())])
        return hashlib.sha256(running.encode()).hexdigest()

    def _choose_ports(self) -> None:
        """Keep each port that a running service of ours holds or that is free; else take the usual one, or any."""
        held = {port for name, ports in PORTS_OF.items() if self._service_process(name) for port in ports}
        needed = {port for name in self._names for port in PORTS_OF.get(name, ())}
        ports = dict(self._state.ports)
        for name, usual in USUAL_PORTS.items():
            if name in needed and name not in held:
                wanted = [*filter(None, [ports.get(name), usual])]
                ports[name] = next(filter(_is_free, wanted), None) or find_free_port()
        if ports != self._state.ports:
            self._remember(ports=ports)

    # Processes

    def _start_postgres(self) -> None:
        if self._postgres.server() is None:
            self.say("starting PostgreSQL")
        self._postgres.start()

    def _migrate(self) -> None:
        """Bring Airflow's tables to the installed version and make the pool of backfills; the database notes it."""
        wanted = f"{version('apache-airflow')}, pool {BACKFILL_POOL} {BACKFILL_SLOTS}"
        note = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'airflow';"
        if self._postgres.query(note) == wanted:
            return
        self.say("making Airflow's tables")
        self._airflow("db", "migrate")
        self._airflow("pools", "set", BACKFILL_POOL, str(BACKFILL_SLOTS), "Backfills: the rest is the nightly run's")
        self._postgres.query("COMMENT ON DATABASE airflow IS :'version';", version=wanted)

    def _airflow(self, *command: str) -> None:
        with self.log("migrate").open("ab") as log:
            done = subprocess.run(
                [_program("airflow"), *command],
                env=self.environment(),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
            )
        if done.returncode:
            raise StackError(f"airflow {' '.join(command[:2])} failed; the end of {self._end_of('migrate')}")

    def _launch(self, name: str) -> None:
        started_at = datetime.now(UTC)
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                self._command(name),
                env=self._inherited() | self._service_settings(name),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        service = Service(pid=process.pid, started_at=started_at, settings_digest=self._settings_digest(name))
        self._remember(services=self._state.services | {name: service})

    def _await_health(self) -> None:
        deadline = time.monotonic() + HEALTHY_SECONDS
        told: list[str] = []
        while waiting := self._unhealthy():
            if waiting != told:
                self.say(f"waiting for {', '.join(waiting)}")
                told = waiting
            for name in self._names:
                if self._service_process(name) is None:
                    raise StackError(f"the {name} ended; the end of {self._end_of(name)}")
            if time.monotonic() > deadline:
                raise StackError(f"not healthy after {HEALTHY_SECONDS} s; the end of {self._end_of(waiting[0])}")
            time.sleep(0.2)

    def _unhealthy(self) -> list[str]:
        """Return the services that do not do their work."""
        answers = {SPARK: self._answers_spark, MLFLOW: self._answers_mlflow, S3: self._answers_s3}
        others = [name for name in self._names if name in answers]
        silent = [name for name in others if self._service_process(name) is None or not answers[name]()]
        return self._unhealthy_airflow() + silent

    def _answers_spark(self) -> bool:
        """It listens once its Spark is up."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._state.ports["spark"]), timeout=5):
            return True
        return False

    def _answers_s3(self) -> bool:
        with suppress(httpx.HTTPError):
            return self._http.get(f"{self.s3_url}/moto-api/").is_success
        return False

    def _answers_mlflow(self) -> bool:
        with suppress(httpx.HTTPError):
            return self._http.get(f"{self.mlflow_url}/health").is_success
        return False

    def _unhealthy_airflow(self) -> list[str]:
        """Return the services of Airflow that do not. A heartbeat of an earlier life does not count."""
        try:
            health = self._http.get(f"{self.api_url}/api/v2/monitor/health").raise_for_status().json()
        except (httpx.HTTPError, StackError):
            return list(SERVICES)
        waiting = []
        for name in SERVICES:
            key = name.replace("-", "_")
            service = self._state.services.get(name)
            if self._service_process(name) is None or service is None:
                waiting.append(name)
            elif key in health:
                heartbeat = health[key][f"latest_{key}_heartbeat"]
                fresh = heartbeat is not None and datetime.fromisoformat(heartbeat) > service.started_at
                if health[key]["status"] != "healthy" or not fresh:
                    waiting.append(name)
        return waiting

    def _is_right(self, name: str) -> bool:
        """Tell whether a service runs with the settings it should have."""
        service = self._state.services.get(name)
        return (
            service is not None
            and service.settings_digest == self._settings_digest(name)
            and self._service_process(name) is not None
        )

    def _service_process(self, name: str) -> psutil.Process | None:
        """Return the first process of a running service. It leads a session; no other process here has its number."""
        if (service := self._state.services.get(name)) is None:
            return None
        with suppress(psutil.Error, ProcessLookupError):
            process = psutil.Process(service.pid)
            if processes.belongs_to(process, self.home) and os.getsid(process.pid) == process.pid:
                return process
        return None

    def _end(self, names: Iterable[str]) -> list[psutil.Process]:
        """End services, and return what had to be killed.

        Asked are the processes of a service's own group. Tasks lead groups of their own and are ended by their
        supervisors: a task whose child were ended before it, say a JVM, could take that for a result.
        """
        leaders = self._pids(names)
        return processes.end((p for p in self._airflow_processes() if _get_group(p) in leaders), GRACE_SECONDS)

    def _airflow_processes(self) -> list[psutil.Process]:
        found = processes.find_processes(self.home)
        return [process for process in found if not processes.is_postgres(process, self._postgres.data)]

    def _end_orphans(self) -> None:
        """End what a killed service left behind: it may hold a port, or go on with a task that is started anew."""
        leaders = self._pids(self._names)
        processes.end((p for p in self._airflow_processes() if _get_session(p) not in leaders), GRACE_SECONDS)

    def _kill_the_rest(self) -> list[psutil.Process]:
        killed: list[psutil.Process] = []
        for _ in range(5):  # what is killed may just have started another
            if not (left := processes.find_processes(self.home)):
                return killed
            processes.kill(left)
            killed += left
        raise StackError(f"cannot be killed: {', '.join(str(process.pid) for process in left)}")

    def _pids(self, names: Iterable[str]) -> set[int]:
        return {process.pid for name in names if (process := self._service_process(name))}

    def _end_of(self, name: str) -> str:
        return f"{self.log(name)}:\n{processes.read_end(self.log(name))}"

    @property
    def _names(self) -> tuple[str, ...]:
        """The services that should run."""
        others = {SPARK: self._state.spark, MLFLOW: self._state.mlflow, S3: self._state.s3}
        return (*SERVICES, *(name for name, wanted in others.items() if wanted))

    # Files

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one command at a time change the stack, and make its folders."""
        for folder in ("logs", "landing", "tables", "artifacts"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        with (self.home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.__dict__.pop("_state", None)  # another command may have changed it
            try:
                yield
            except PostgresError as error:
                raise StackError(str(error)) from error

    @cached_property
    def _http(self) -> httpx.Client:
        return httpx.Client(trust_env=False, timeout=10)

    @cached_property
    def _postgres(self) -> Postgres:
        return Postgres(self.home / "postgres", self.log("postgres"), {processes.MARKER: str(self.home)})

    @cached_property
    def _state(self) -> State:
        with suppress(FileNotFoundError):
            return State.model_validate_json((self.home / "state.json").read_text())
        return State()

    def _remember(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes)
        _write_private(self.home / "state.json", self._state.model_dump_json(indent=2))

    @cached_property
    def _secrets(self) -> Secrets:
        file = self.home / "secrets.json"
        kept = json.loads(file.read_text()) if file.exists() else {}
        keys = Secrets.make().model_copy(update=kept)  # what an older stack lacks is made
        if keys.model_dump() != kept:
            _write_private(file, keys.model_dump_json(indent=2))
        return keys


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _connection(kind: str, **fields: object) -> str:
    return json.dumps({"conn_type": kind, **fields})


def _write_private(file: Path, text: str) -> None:
    """Write a whole file or none of it, readable by its owner only."""
    draft = file.with_name(file.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(file)


@contextmanager
def one_start_at_a_time(say: Callable[[str], object]) -> Iterator[None]:
    """Wait until no other stack of this user starts: a port that it chose is free until its service listens."""
    with (Path(gettempdir()) / f"nightly-start-{os.getuid()}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another stack to start")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger do not hold it
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def find_free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _get_group(process: psutil.Process) -> int | None:
    with suppress(ProcessLookupError):
        return os.getpgid(process.pid)
    return None


def _get_session(process: psutil.Process) -> int | None:
    with suppress(ProcessLookupError):
        return os.getsid(process.pid)
    return None


def _measure_memory(process: psutil.Process | None) -> int:
    total = 0
    if process is not None:
        with suppress(psutil.Error):
            for part in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    total += part.memory_full_info().uss
    return total


def s3_server(port: int) -> list[str]:
    """Return the command of an S3 server. It keeps all in memory: what is in it ends with it."""
    return [sys.executable, str(ROOT / "tools" / "s3.py"), str(port)]


app = typer.Typer(help="Start, stop and look at a whole local stack.", add_completion=False, no_args_is_help=True)
Home = Annotated[Path, typer.Option(help="The folder that holds all of the stack's files.")]


@contextmanager
def _told(action: str) -> Iterator[Callable[[str], None]]:
    """Show what is waited for on one line, and an error of the stack as words."""
    with Console(stderr=True).status(action) as status:
        try:
            yield status.update
        except StackError as error:
            status.stop()
            typer.echo(f"{action}: {error}", err=True)
            raise typer.Exit(1) from error


@app.command()
def start(
    home: Home = HOME,
    schedule: Annotated[
        bool | None,
        typer.Option("--schedule/--no-schedule", help="Run what the schedules say; as before if neither is given."),
    ] = None,
) -> None:
    """Start what does not run, and wait until all of it is healthy."""
    began = time.monotonic()
    with _told("starting") as say:
        stack = Stack(home, say=say)
        stack.start(schedule)
    typer.echo(f"Airflow {version('apache-airflow')} runs at {stack.api_url} ({time.monotonic() - began:.0f} s)")
    typer.echo(f"shell: . {_shorten(home / 'env')}    logs: {_shorten(home / 'logs')}")


@app.command()
def stop(home: Home = HOME) -> None:
    """Stop everything, and make sure that no process is left."""
    with _told("stopping") as say:
        killed = Stack(home, say=say).stop()
    typer.echo("stopped" + (f"; had to be killed: {', '.join(map(str, killed))}" if killed else ""))


@app.command()
def status(home: Home = HOME) -> None:
    """Show what runs; exit with 1 unless all of it is healthy."""
    stack = Stack(home)
    found = stack.status()
    for service in found:
        condition = "healthy" if service.healthy else "not running" if service.pid is None else "not healthy"
        typer.echo(f"{service.name:14}{condition:14}{service.pid or '':<10}{service.memory_bytes / 2**20:6.0f} MiB")
    if not all(service.healthy for service in found):
        raise typer.Exit(1)
    typer.echo("\n".join(filter(None, (stack.api_url, stack.mlflow_url))))


def _shorten(path: Path) -> Path:
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    app()
