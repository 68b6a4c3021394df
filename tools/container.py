"""Run the commands of containers besides Airflow's own: `python -m tools.container …`.

`init` migrates databases and creates buckets and pools, `mlflow` serves MLflow's pages, and `health …` is the health
check of a service. The product's command line is `nightly` (`dags/cli.py`).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import urlopen

if TYPE_CHECKING:  # its import would cost each health check half a second
    from include.core.settings import Settings

DATABASE = "host=postgres user=postgres dbname=postgres options='-c search_path=pg_catalog'"
"""The superuser. Whoever owns a database can name a search path for it, in which functions of their own come first."""

ABANDONED_SECONDS = 24 * 3600  # older staging folders belong to killed tasks

JOBS = {"scheduler": "SchedulerJob", "dag-processor": "DagProcessorJob", "triggerer": "TriggererJob"}
PAGES = {"api-server": "http://localhost:8080/api/v2/version", "mlflow": "http://localhost:5000/health"}
PORTS = {"spark": 15002}
FRESH_SECONDS = 60

PAGES_ADMIN = "admin"
"""The login of MLflow's pages that exists from the start. It can make others."""

PAGES_RIGHTS = """
GRANT CONNECT ON DATABASE mlflow TO mlflow_pages;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO mlflow_pages;
ALTER DEFAULT PRIVILEGES FOR ROLE mlflow IN SCHEMA public GRANT SELECT ON TABLES TO mlflow_pages
"""


def init() -> None:
    """Create everything that must exist before a service starts. Running it again changes nothing."""
    from airflow.models.pool import Pool

    from tools.stack import BACKFILL_POOL, BACKFILL_SLOTS

    _make_roles()
    subprocess.run(["airflow", "db", "migrate"], check=True)
    if Pool.get_pool(BACKFILL_POOL) is None:  # keep its size, which the administrator may have changed
        description = "Backfills; the other slots are for nightly runs"
        Pool.create_or_update_pool(BACKFILL_POOL, BACKFILL_SLOTS, description, include_deferred=False)
    _make_buckets(_settings())
    subprocess.run([sys.executable, "-m", "dags.cli", "migrate"], check=True)
    _let_pages_read()
    for folder in Path(os.environ["TMPDIR"]).iterdir():
        if time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def mlflow() -> None:
    """Replace this process by MLflow's server. Clients do not use it: they use its database and artifacts directly."""
    from pydantic import SecretStr

    from dags.connections import storage_options, tracking_uri, uri_of
    from include.core.settings import Settings
    from include.io.storage import mlflow_variables

    options = {name: SecretStr(value) for name, value in storage_options().items()}
    settings = Settings.model_construct(artifacts=uri_of("artifacts"), storage_options=options)
    secrets = {
        "MLFLOW_AUTH_ADMIN_USERNAME": PAGES_ADMIN,
        "MLFLOW_AUTH_ADMIN_PASSWORD": _secret("mlflow_password"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": _secret("mlflow_secret_key"),
    }
    os.environ.update(secrets)
    _set_password()
    variables = {
        "MLFLOW_BACKEND_STORE_URI": tracking_uri(),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": settings.artifacts,
        "MLFLOW_HOST": "0.0.0.0",
        "MLFLOW_PORT": "5000",
        **{name: value for name, value in mlflow_variables(settings).items() if value},
    }
    os.execvpe("mlflow", ["mlflow", "server", "--app-name", "basic-auth"], {**os.environ, **variables})


def _set_password() -> None:
    """Give the administrator of MLflow's pages the password of the secret; MLflow would keep the first one for ever."""
    from mlflow.server.auth.config import read_auth_config
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    logins = SqlAlchemyStore()
    logins.init_db(read_auth_config().database_uri)
    if logins.has_user(PAGES_ADMIN):
        logins.update_user(PAGES_ADMIN, password=_secret("mlflow_password"))


def health(service: str) -> None:
    """Check the health of a service; raise an error if it does not work."""
    if service in PAGES:
        urlopen(PAGES[service], timeout=10).close()
    elif service in PORTS:
        socket.create_connection(("localhost", PORTS[service]), timeout=10).close()
    elif service in JOBS:
        _find_heartbeat(JOBS[service])
    elif service == "watcher":
        _find_look()
    else:
        _ping_worker()


def _make_roles() -> None:
    """Create the missing roles and databases, with the passwords of `pgpass_init`."""
    import psycopg2
    from psycopg2 import sql

    from tools.make_secrets import BORROWERS, DATABASES
    from tools.postgres import READERS, RESTRICT_SERVER

    lines = Path(os.environ["PGPASSFILE"]).read_text(encoding="utf-8").splitlines()
    passwords = {role: password for _, _, _, role, password in (line.split(":", 4) for line in lines if line)}
    connection = psycopg2.connect(DATABASE)
    connection.autocommit = True  # CREATE DATABASE requires it
    with connection.cursor() as cursor:
        for role in DATABASES:
            name = sql.Identifier(role)
            cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [role])
            verb = sql.SQL("ALTER" if cursor.rowcount else "CREATE")
            password = sql.Literal(passwords[role])
            cursor.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, name, password))
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", [role])
            if role not in BORROWERS and not cursor.rowcount:
                cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
        for role in READERS:
            cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [role])
            if not cursor.rowcount:
                cursor.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        cursor.execute("GRANT ops_reader TO pages")
    connection.close()
    for name in ("nightly", "mlflow"):  # those in which a login may only read
        with psycopg2.connect(DATABASE, dbname=name) as connection, connection.cursor() as cursor:
            cursor.execute(RESTRICT_SERVER)
        connection.close()


def _let_pages_read() -> None:
    """Let MLflow's pages read MLflow's database, also its later tables, and change nothing."""
    import psycopg2

    with psycopg2.connect(DATABASE, dbname="mlflow") as connection, connection.cursor() as cursor:
        cursor.execute(PAGES_RIGHTS)
    connection.close()


def _make_buckets(settings: "Settings") -> None:
    """Create the missing buckets, and give the accounts of the store their rights.

    Buckets elsewhere are created with the login of tasks. Who may do what there is for their administrator to say.
    """
    import boto3
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from dags.connections import STORAGE
    from include.io.storage import ENDPOINT, is_s3
    from tools.make_secrets import STORE
    from tools.store_rights import policies

    places = {place: getattr(settings, place) for place in ("landing", "tables", "artifacts", "journal")}
    in_s3 = {place: uri for place, uri in places.items() if is_s3(uri)}
    if not in_s3:
        return
    own = (endpoint := settings.storage_options.get(ENDPOINT)) and endpoint.get_secret_value() == STORE
    if own:
        keys = {"aws_access_key_id": _secret("store_access_key"), "aws_secret_access_key": _secret("store_secret_key")}
        client = boto3.client("s3", endpoint_url=STORE, region_name="us-east-1", **keys)
    else:
        client = S3Hook(aws_conn_id=STORAGE).get_conn()
    for bucket in {urlsplit(uri).netloc for uri in in_s3.values()}:
        with suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            client.create_bucket(Bucket=bucket)
    if own:
        accounts = list(json.loads(_secret("store_users.json"))["accessAccounts"])
        simulates = os.environ.get("SIMULATE", "").lower() == "true"
        for bucket, policy in policies(in_s3, accounts, simulates=simulates).items():
            client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


def _secret(name: str) -> str:
    return Path("/run/secrets", name).read_text(encoding="utf-8").strip()


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


def _find_look() -> None:
    """Find out whether the watcher still looks."""
    import psycopg2

    with psycopg2.connect(os.environ["NIGHTLY_WATCHED_DATABASE"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT FROM watcher_status WHERE is_alive")
        if not cursor.rowcount:
            raise SystemExit("the watcher has missed three looks")


def _ping_worker() -> None:
    from celery import Celery

    name = f"celery@{socket.gethostname()}"
    if not Celery(broker=_secret("redis_url")).control.ping(destination=[name], timeout=10):
        raise SystemExit(f"{name} does not answer")


def main(command: str, *arguments: str) -> None:
    """Run a command of this module."""
    commands: dict[str, Callable[..., None]] = {"init": init, "mlflow": mlflow, "health": health}
    commands[command](*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
