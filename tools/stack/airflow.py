"""Airflow's four services, and what they share: settings, connections, tables and the health report."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from typing import Any, ClassVar

import httpx

from tools import processes
from tools.postgres import OPS_READER, WRITER
from tools.spark_server import TOKEN_FILE
from tools.stack.layout import REGION, ROOT, USER, StackError, StackLayout
from tools.stack.service import Service, find_program, http_client
from tools.stack.sources import find_sources

PRELOAD = ROOT / "tools" / "airflow_local_settings.py"
SETTINGS = dict(
    line.split("=", 1)
    for line in (ROOT / "tools" / "airflow.env").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
BACKFILL_POOL = SETTINGS["AIRFLOW__NIGHTLY__BACKFILL_POOL"]
BACKFILL_SLOTS = int(SETTINGS["AIRFLOW__CORE__PARALLELISM"]) - 2  # the other two slots are for the nightly run


class Airflow:
    """The common part of the four services.

    Make a new object for each health check, because it fetches Airflow's report only once.
    """

    def __init__(self, layout: StackLayout) -> None:
        self.layout = layout

    def settings(self) -> dict[str, str]:
        """Return the environment variables of all four services, with the connections of the product."""
        spark_url, token_file = self.layout.spark_url, str(self.layout.spark_token_file)
        return {
            **SETTINGS,
            **self._services(),
            **self._places(),
            **self._connections(),
            **({"SPARK_REMOTE": spark_url, TOKEN_FILE: token_file} if spark_url else {}),
            **self.layout.airflow_settings,
        }

    def _services(self) -> dict[str, str]:
        """Return the addresses of the services, and the keys that they share."""
        url, keys, ports = self.layout.api_url, self.layout.keys, self.layout.state.ports
        return {
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(ports["api"]),
            "AIRFLOW__API__SECRET_KEY": keys.api_secret_key,
            "AIRFLOW__API_AUTH__JWT_SECRET": keys.jwt_secret,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__FERNET_KEY": keys.fernet_key,
            # The log servers listen only there (`tools/airflow_local_settings.py`), so this is where to read logs.
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "urllib.request.localhost",
            "AIRFLOW__NIGHTLY__LOG_SERVER_HOST": "127.0.0.1",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.layout.passwords_file),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            # Airflow sets the modes of its log files itself, whatever the umask.
            "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o600",
            "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o700",
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(ports["trigger_log"]),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(ports["worker_log"]),
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": str(self.layout.state.schedule),
        }

    def _places(self) -> dict[str, str]:
        """Return the places of Airflow's own files, DAGs, plugins and tables."""
        bundle, database = self.layout.bundle, self.layout.postgres
        bundle_config = {
            "name": "nightly-ml",
            "classpath": "nightly_bundle.FolderBundle",
            "kwargs": {"path": str(bundle), "refresh_interval": 5},
        }
        return {
            "AIRFLOW_HOME": str(self.layout.home / "airflow"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(bundle / "plugins"),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle_config]),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url("airflow", "airflow", "postgresql+psycopg2"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": database.url("airflow", "airflow", "postgresql+asyncpg"),
        }

    def _connections(self) -> dict[str, str]:
        """Return the connections that DAGs resolve (docs/configuration.md), as environment variables."""
        layout, keys = self.layout, self.layout.keys
        uris = {name: {"uri": layout.place(name)} for name in ("landing", "tables", "artifacts", "journal")}
        mlflow_extra = {"ui_url": layout.mlflow_url} if layout.mlflow_url else {}
        connections: dict[str, dict[str, Any]] = {
            **{name: {"conn_type": "generic", "extra": extra} for name, extra in uris.items()},
            "database": {
                "conn_type": "postgres",
                "host": str(layout.postgres.socket),
                "login": WRITER,
                "schema": "nightly",
            },
            "database_ops_reader": {  # for the pages of the plugins, which only read
                "conn_type": "postgres",
                "host": str(layout.postgres.socket),
                "login": OPS_READER,
                "schema": "nightly",
            },
            "hash_key": {"conn_type": "generic", "password": keys.hash_key},
            "mlflow": {
                "conn_type": "generic",
                "password": layout.postgres.url("mlflow", "mlflow"),
                "extra": mlflow_extra,
            },
        }
        if layout.s3_url:
            connections["storage"] = {
                "conn_type": "aws",
                "login": keys.s3_access_key,
                "password": keys.s3_secret_key,
                "extra": {
                    "aws_session_token": keys.s3_session_token,
                    "endpoint_url": layout.s3_url,
                    "region_name": REGION,
                },
            }
        named = {f"nightly_{name}": value for name, value in connections.items()}
        for name, file in find_sources(layout.home).items():
            named[name] = {"conn_type": "sqlite", "host": str(file)}
        return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in named.items()}

    @cached_property
    def health(self) -> dict[str, Any] | None:
        """The API server's report about the other services; None if it does not answer."""
        try:
            answer = http_client().get(f"{self.layout.api_url}/api/v2/monitor/health").raise_for_status()
        except httpx.HTTPError:
            return None
        report: dict[str, Any] = answer.json()
        return report

    def write_preload(self) -> None:
        """Write the module that Airflow imports when it starts."""
        config = self.layout.home / "airflow" / "config"
        config.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PRELOAD, config / PRELOAD.name)

    @property
    def wanted_tables(self) -> str:
        """Return the result of `migrate` as the comment on Airflow's database records it."""
        return f"{version('apache-airflow')}, pool {BACKFILL_POOL} {BACKFILL_SLOTS}"

    def is_migrated(self) -> bool:
        """Return whether Airflow's tables have the installed version, and the pool of backfills exists."""
        query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'airflow';"
        return self.layout.postgres.query(query) == self.wanted_tables

    def migrate(self, environment: Mapping[str, str]) -> None:
        """Migrate Airflow's tables to the installed version, and create the pool of backfills."""
        self._run(environment, "db", "migrate")
        description = "Backfills; the other slots are for nightly runs"
        self._run(environment, "pools", "set", BACKFILL_POOL, str(BACKFILL_SLOTS), description)
        self.layout.postgres.query("COMMENT ON DATABASE airflow IS :'version';", version=self.wanted_tables)

    def _run(self, environment: Mapping[str, str], *command: str) -> None:
        log = self.layout.log("migrate")
        with log.open("ab") as output:
            done = subprocess.run(
                [find_program("airflow"), *command],
                env=environment,
                cwd=self.layout.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
        if done.returncode:
            end = processes.read_end(log)
            raise StackError(f"airflow {' '.join(command[:2])} failed; the end of {log}:\n{end}")


class AirflowService(Service):
    """One of the four services: `airflow <name>`, with the same settings as the others."""

    package = "apache-airflow"

    def __init__(self, airflow: Airflow) -> None:
        super().__init__(airflow.layout)
        self.airflow = airflow

    def command(self) -> list[str]:
        """Return `airflow <name>`."""
        return [find_program("airflow"), self.name]

    def settings(self) -> dict[str, str]:
        """Return the settings of all four services."""
        return self.airflow.settings()

    def is_healthy(self, started_at: datetime) -> bool:
        """Return whether the API server reports a heartbeat of the service that is newer than its process."""
        key = self.name.replace("-", "_")
        if self.airflow.health is None:
            return False
        report = self.airflow.health[key]
        heartbeat = report[f"latest_{key}_heartbeat"]
        fresh = heartbeat is not None and datetime.fromisoformat(heartbeat) > started_at
        return fresh and report["status"] == "healthy"


class ApiServer(AirflowService):
    """The server of the pages and the REST API, which tasks use too."""

    name = "api-server"
    usual_ports: ClassVar[Mapping[str, int]] = {"api": 8080}

    def is_healthy(self, started_at: datetime) -> bool:
        """Return whether the API server answers."""
        return self.airflow.health is not None


class DagProcessor(AirflowService):
    """The service that parses DAG files."""

    name = "dag-processor"


class Triggerer(AirflowService):
    """The service that waits for deferred tasks."""

    name = "triggerer"
    usual_ports: ClassVar[Mapping[str, int]] = {"trigger_log": 8794}


class Scheduler(AirflowService):
    """The scheduler, which runs the tasks too (LocalExecutor)."""

    name = "scheduler"
    usual_ports: ClassVar[Mapping[str, int]] = {"worker_log": 8793}
