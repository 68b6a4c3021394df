"""What the product knows of the days: asked of `python -m include.cli preflight`, in the DAG's bundle.

The extension is installed without `include`, and a bundle of another commit has its own.
"""

import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 300
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preflight:
    """What the product answered.

    Attributes:
        kind: what the DAG does, None for a DAG that is not the product's.
        waits: for each day, what its run would wait for.
        fix: the command that makes what they wait for.
        published: for each model, the days that readers see.
    """

    kind: str | None = None
    waits: dict[str, list[str]] = field(default_factory=dict)
    fix: str | None = None
    published: dict[str, list[str]] = field(default_factory=dict)


class Unknown(Exception):
    """The product could not be asked; the text says why."""


def ask(bundle: str, dag_id: str, start: str, end: str) -> Preflight:
    """The outlook of the days from `start` to `end`. Raises `Unknown`."""
    root = _root(bundle)
    if not (root / "include" / "cli.py").is_file():
        return Preflight()
    command = [sys.executable, "-m", "include.cli", "preflight", "--dag", dag_id, "--start", start, "--end", end]
    try:
        environment = _environment()
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unknown(str(error)) from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise Unknown(said[-1])
    return Preflight(**json.loads(done.stdout))


def _root(bundle: str) -> Path:
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    try:
        found = DagBundlesManager().get_bundle(bundle)
        found.initialize()
        return Path(found.path)
    except Exception as error:  # whatever keeps a bundle from being fetched
        raise Unknown(f"bundle {bundle}: {error}") from error


def _environment() -> dict[str, str]:
    """The product's settings: the shell's where it has them (`. .local/env`), else those of Airflow's connections.

    By the environment only: a command line is everyone's to read.
    """
    resolved = {
        "NIGHTLY_LANDING": ("nightly_landing", _uri),
        "NIGHTLY_TABLES": ("nightly_tables", _uri),
        "NIGHTLY_ARTIFACTS": ("nightly_artifacts", _uri),
        "NIGHTLY_DATABASE_URL": ("nightly_database", _database_url),
        "NIGHTLY_MLFLOW_TRACKING_URI": ("nightly_mlflow", lambda connection: connection.password),
        "NIGHTLY_HASH_KEY": ("nightly_hash_key", lambda connection: connection.password),
    }
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for name, (connection_id, read) in resolved.items():
        if not environment.get(name):
            environment[name] = _read(connection_id, read)
    on_s3 = any(environment[f"NIGHTLY_{place}"].startswith("s3://") for place in ("LANDING", "TABLES", "ARTIFACTS"))
    if on_s3 and not environment.get("NIGHTLY_STORAGE_OPTIONS"):
        environment["NIGHTLY_STORAGE_OPTIONS"] = json.dumps(_storage_options())
    return environment


def _read(connection_id: str, read: Any) -> str:
    from airflow.models.connection import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        value = read(Connection.get_connection_from_secrets(connection_id))
    except AirflowNotFoundException as error:
        raise Unknown(f"there is no connection {connection_id}") from error
    if not value:
        raise Unknown(f"connection {connection_id} is not as docs/configuration.md has it")
    return str(value)


def _storage_options() -> dict[str, str]:
    """As `settings` of the bundle's dags/common.py has them, with which it agrees."""
    from airflow.models.connection import Connection
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    class Hook(S3Hook):
        """Outside of a task, Amazon's hook does not look into Airflow's database."""

        @classmethod
        def get_connection(cls, conn_id: str) -> Any:
            return Connection.get_connection_from_secrets(conn_id)

    hook = Hook(aws_conn_id="nightly_storage")
    said = hook.conn_config
    options = {"AWS_ENDPOINT_URL": said.get_service_endpoint_url("s3"), "AWS_REGION": hook.region_name}
    if said.aws_access_key_id or said.profile_name or said.role_arn:
        access_key, secret_key, token = hook.get_credentials()[:3]
        options |= {
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_SESSION_TOKEN": token,
        }
    return {name: value for name, value in options.items() if value}


def _uri(connection: Any) -> Any:
    return connection.extra_dejson.get("uri")


def _database_url(connection: Any) -> str:
    """As SQLAlchemy writes it; a host that is a folder is PostgreSQL's Unix socket."""
    from sqlalchemy import URL

    socket = connection.host if connection.host and connection.host.startswith("/") else None
    query = {key: str(value) for key, value in connection.extra_dejson.items()}
    url = URL.create(
        "postgresql",
        username=connection.login,
        password=connection.password or None,
        host=None if socket else connection.host,
        port=connection.port,
        database=connection.schema,
        query={**query, "host": socket} if socket else query,
    )
    return url.render_as_string(hide_password=False)
