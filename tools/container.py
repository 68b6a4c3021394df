"""Run the commands of containers besides Airflow's own: `python -m tools.container …`.

`init` migrates databases and creates buckets and pools, `mlflow` serves MLflow's pages, and `health …` is the health
check of a service. The product's command line is `nightly` (`dags/cli.py`).
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import urlopen

if TYPE_CHECKING:  # its import would cost each health check half a second
    from include.core.settings import Settings

DATABASE = "host=postgres user=postgres dbname=postgres"
ABANDONED_SECONDS = 24 * 3600  # older staging folders belong to killed tasks

JOBS = {"scheduler": "SchedulerJob", "dag-processor": "DagProcessorJob", "triggerer": "TriggererJob"}
PAGES = {"api-server": "http://localhost:8080/api/v2/version", "mlflow": "http://localhost:5000/health"}
PORTS = {"spark": 15002}
FRESH_SECONDS = 60


def init() -> None:
    """Create everything that must exist before a service starts. Running it again changes nothing."""
    from airflow.models.pool import Pool
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from dags.connections import STORAGE
    from include.io.storage import is_s3
    from tools.stack import BACKFILL_POOL, BACKFILL_SLOTS

    _make_roles()
    subprocess.run(["airflow", "db", "migrate"], check=True)
    if Pool.get_pool(BACKFILL_POOL) is None:  # keep its size, which the administrator may have changed
        description = "Backfills; the other slots are for nightly runs"
        Pool.create_or_update_pool(BACKFILL_POOL, BACKFILL_SLOTS, description, include_deferred=False)
    settings = _settings()
    for uri in filter(is_s3, (settings.landing, settings.tables, settings.artifacts, settings.journal)):
        s3, bucket = S3Hook(aws_conn_id=STORAGE), urlsplit(uri).netloc
        if not s3.check_for_bucket(bucket):
            s3.create_bucket(bucket)
    subprocess.run([sys.executable, "-m", "dags.cli", "migrate"], check=True)
    for folder in Path(os.environ["TMPDIR"]).iterdir():
        if time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def mlflow() -> None:
    """Replace this process by MLflow's server. Clients do not use it: they use its database and artifacts directly."""
    from include.io.storage import mlflow_variables

    settings = _settings()
    variables = {
        "MLFLOW_BACKEND_STORE_URI": settings.mlflow_tracking_uri.get_secret_value(),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": settings.artifacts,
        "MLFLOW_HOST": "0.0.0.0",
        "MLFLOW_PORT": "5000",
        **{name: value for name, value in mlflow_variables(settings).items() if value},
    }
    os.execvpe("mlflow", ["mlflow", "server"], {**os.environ, **variables})


def health(service: str) -> None:
    """Check the health of a service; raise an error if it does not work."""
    if service in PAGES:
        urlopen(PAGES[service], timeout=10).close()
    elif service in PORTS:
        socket.create_connection(("localhost", PORTS[service]), timeout=10).close()
    elif service in JOBS:
        _find_heartbeat(JOBS[service])
    else:
        _ping_worker()


def _make_roles() -> None:
    """Create the missing roles and databases, with the passwords of `pgpass`."""
    import psycopg2
    from psycopg2 import sql

    from tools.postgres import OWNERS, READERS, RESTRICT_SERVER, WRITER

    lines = Path(os.environ["PGPASSFILE"]).read_text(encoding="utf-8").splitlines()
    passwords = {role: password for _, _, _, role, password in (line.split(":", 4) for line in lines if line)}
    connection = psycopg2.connect(DATABASE)
    connection.autocommit = True  # CREATE DATABASE requires it
    with connection.cursor() as cursor:
        for role in (*OWNERS, WRITER):
            name = sql.Identifier(role)
            cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [role])
            verb = sql.SQL("ALTER" if cursor.rowcount else "CREATE")
            password = sql.Literal(passwords[role])
            cursor.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, name, password))
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", [role])
            if role in OWNERS and not cursor.rowcount:
                cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
        for role in READERS:
            cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [role])
            if not cursor.rowcount:
                cursor.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    connection.close()
    with psycopg2.connect(DATABASE, dbname="nightly") as connection, connection.cursor() as cursor:
        cursor.execute(RESTRICT_SERVER)
    connection.close()


def _settings() -> "Settings":
    from dags.connections import resolve

    return resolve("by-hand", os.environ.get("NIGHTLY_GIT_COMMIT", "unknown"))


def _find_heartbeat(job: str) -> None:
    """Find the service's job in Airflow's database; `airflow jobs check` would import all of Airflow."""
    import psycopg2

    fresh = "SELECT FROM job WHERE job_type = %s AND state = 'running' AND hostname = %s AND "
    fresh += "latest_heartbeat > now() - make_interval(secs => %s)"
    with psycopg2.connect(os.environ["NIGHTLY_AIRFLOW_DATABASE"]) as connection, connection.cursor() as cursor:
        cursor.execute(fresh, [job, socket.getfqdn(), FRESH_SECONDS])
        if not cursor.rowcount:
            raise SystemExit(f"no {job} of this container had a heartbeat in the last {FRESH_SECONDS} s")


def _ping_worker() -> None:
    from celery import Celery

    broker = Path("/run/secrets/redis_url").read_text(encoding="utf-8").strip()
    name = f"celery@{socket.gethostname()}"
    if not Celery(broker=broker).control.ping(destination=[name], timeout=10):
        raise SystemExit(f"{name} does not answer")


def main(command: str, *arguments: str) -> None:
    """Run a command of this module."""
    commands: dict[str, Callable[..., None]] = {"init": init, "mlflow": mlflow, "health": health}
    commands[command](*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
