"""Make the secrets of the containers and `.env`, unless they exist (`python3 -m tools.make_secrets`).

Each secret is a file that only the containers' user can read, in the folder that `.env` names. The script needs only
Python, and it overwrites nothing.
"""

import base64
import json
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / ".env.example"

DATABASES = {
    "airflow": "airflow",
    "celery": "celery",
    "mlflow": "mlflow",
    "mlflow_pages": "*",  # the logins of MLflow's pages, and MLflow's database, which it can only read
    "nightly": "nightly",
    "pages": "nightly",  # the pages of the plugins, which read the views of ops_reader
    "writer": "nightly",
}
"""The databases that each PostgreSQL role logs in to. Every role but `BORROWERS` owns the database of its name."""

WRITER = "writer"
"""The role that tasks log in as; the owner `nightly` only migrates."""

BORROWERS = (WRITER, "pages")
"""The roles that log in to a database that another role owns."""

LOGINS = {
    "pgpass_airflow": ("airflow",),
    "pgpass_api_server": ("airflow", "pages"),
    "pgpass_init": tuple(DATABASES),
    "pgpass_mlflow": ("mlflow_pages",),
    "pgpass_watcher": ("writer",),
    "pgpass_scheduler": ("airflow", "celery", "mlflow", "writer"),
    "pgpass_worker": ("celery", "mlflow", "writer"),
}
"""The roles in each password file. `init` also has the superuser."""

ACCOUNTS = ("tasks", "mlflow", "triggerer", "supplier")
"""The accounts of the store besides its root. An access key begins with the name: `tools.container init` gives each
account its rights by it."""

TOGETHER = (
    (*LOGINS, "postgres_password"),
    ("redis.conf", "redis_url"),
    ("connections.json", "connections_mlflow.json", "connections_triggerer.json", "store_users.json", "supplier.json"),
    ("store_access_key", "store_secret_key"),
)
"""Files that hold the same password."""

RETIRED = "pgpass"
"""A file that only the secrets of older versions have."""

STORE = "http://store:7070"
BUCKET, LANDING = "s3://nightly", "s3://nightly-landing"

ALERTS = "nightly_alerts"


def make() -> dict[str, str]:
    """Return new secrets: the text of each by the name of its file."""
    postgres, redis = secrets.token_hex(24), secrets.token_hex(24)
    lines = {role: f"postgres:5432:{name}:{role}:{secrets.token_hex(24)}" for role, name in DATABASES.items()}
    logins = {file: [lines[role] for role in roles] for file, roles in LOGINS.items()}
    logins["pgpass_init"].insert(0, f"postgres:5432:*:postgres:{postgres}")
    # An access key must not be a word that occurs in logs, because Airflow masks it there.
    keys = {account: (f"{account}-{secrets.token_hex(10)}", secrets.token_hex(24)) for account in ACCOUNTS}
    users = {access: {"access": access, "secret": secret, "role": "user"} for access, secret in keys.values()}
    return {
        "api_secret_key": secrets.token_hex(32),
        "connections.json": _json(_connections_of_tasks(*keys["tasks"])),
        "connections_dag_processor.json": _json({}),
        "connections_mlflow.json": _json(_connections_of_mlflow(*keys["mlflow"])),
        "connections_triggerer.json": _json({"nightly_storage": _storage(*keys["triggerer"])}),
        "connections_watcher.json": _json({"nightly_database": _database()}),
        "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "jwt_secret": secrets.token_hex(64),
        "mlflow_password": secrets.token_urlsafe(18),
        "mlflow_secret_key": secrets.token_hex(32),
        **{file: "\n".join(found) for file, found in logins.items()},
        "postgres_password": postgres,
        "redis.conf": f"requirepass {redis}",
        "redis_url": f"redis://:{redis}@redis:6379/0",
        "spark_token": secrets.token_hex(32),
        "store_access_key": f"root-{secrets.token_hex(10)}",
        "store_secret_key": secrets.token_hex(24),
        "store_users.json": _json({"accessAccounts": users}),
        "supplier.json": _json(dict(zip(("access_key", "secret_key"), keys["supplier"], strict=True))),
        "ui_passwords.json": json.dumps({"admin": secrets.token_urlsafe(18)}),
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2)


def _connections_of_tasks(access: str, secret: str) -> dict[str, Mapping[str, object]]:
    """Return the first connections of tasks (docs/configuration.md). Password files have PostgreSQL's passwords."""
    return {
        "nightly_landing": _place(LANDING),
        **{f"nightly_{place}": _place(f"{BUCKET}/{place}") for place in ("tables", "artifacts", "journal")},
        "nightly_storage": _storage(access, secret),
        "nightly_database": _database(),
        "nightly_database_owner": _database("nightly"),  # only `init` has its password
        "nightly_mlflow": {
            "conn_type": "generic",
            "password": "postgresql://mlflow@postgres/mlflow",
            "extra": {"ui_url": "http://localhost:5000"},
        },
        "nightly_hash_key": {"conn_type": "generic", "password": secrets.token_hex(32)},
    }


def _database(login: str = WRITER) -> Mapping[str, object]:
    return {"conn_type": "postgres", "host": "postgres", "schema": "nightly", "login": login}


def _connections_of_mlflow(access: str, secret: str) -> dict[str, Mapping[str, object]]:
    """Return the first connections of MLflow's pages, by which they can only read."""
    return {
        "nightly_artifacts": _place(f"{BUCKET}/artifacts"),
        "nightly_storage": _storage(access, secret),
        "nightly_mlflow": {"conn_type": "generic", "password": "postgresql://mlflow_pages@postgres/mlflow"},
    }


def _place(uri: str) -> Mapping[str, object]:
    return {"conn_type": "generic", "extra": {"uri": uri}}


def _storage(access: str, secret: str) -> Mapping[str, object]:
    extra = {"endpoint_url": STORE, "region_name": "us-east-1"}
    return {"conn_type": "aws", "login": access, "password": secret, "extra": extra}


def write(file: Path, text: str, owner: int) -> None:
    """Write a file that only its owner can read."""
    draft = file.with_name(f"{file.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text + "\n", encoding="utf-8")
    if os.geteuid() == 0:
        shutil.chown(draft, owner)
    draft.replace(file)


def main(env: Path) -> int:
    """Make the missing secrets and `.env`; return the exit code."""
    if not env.exists():
        text = EXAMPLE.read_text(encoding="utf-8")
        if os.geteuid() != 0:  # containers run as the user who makes the files; root gives them to another user
            text = text.replace("NIGHTLY_UID=10001", f"NIGHTLY_UID={os.geteuid()}")
        env.write_text(text, encoding="utf-8")
        print(f"made {env}")  # noqa: T201
    lines = env.read_text(encoding="utf-8").splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    owner, folder = int(settings["NIGHTLY_UID"]), ROOT / settings["NIGHTLY_SECRETS"]
    if owner == 0:
        return _refuse(f"{env}: NIGHTLY_UID must not be 0, because nothing in the containers runs as root")
    if os.geteuid() not in (0, owner):  # the containers could not read the files
        return _refuse(
            f"{env}: NIGHTLY_UID is {owner}, but your user id is {os.geteuid()}; put yours there, or run this as root"
        )
    if (folder / RETIRED).exists():
        return _refuse(
            f"{folder} has {RETIRED}, so an older version made it; docs/deploy-compose.md (Secrets of an older "
            "version) says what to keep of it"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for group in TOGETHER:
        there = [name for name in group if (folder / name).exists()]
        if there and len(there) < len(group):
            return _refuse(f"{folder} has only {', '.join(there)} of {', '.join(group)}; restore the rest")
    missing = {name: text for name, text in make().items() if not (folder / name).exists()}
    for name, text in missing.items():
        write(folder / name, text, owner)
    if missing:
        print(f"made in {folder}: {', '.join(missing)}; back them up")  # noqa: T201
    for other, of_what in (("dag_processor", "runs"), ("watcher", "the watcher")):
        name = f"connections_{other}.json"
        of_tasks, of_others = (
            json.loads((folder / file).read_text(encoding="utf-8")).get(ALERTS) for file in ("connections.json", name)
        )
        if of_tasks != of_others:  # these alerts would be in a log only, or go elsewhere
            return _refuse(
                f"{folder}: {ALERTS} must be the same in connections.json, for the alerts of tasks, and in {name}, for "
                f"those of {of_what}; copy it"
            )
    return 0


def _refuse(why: str) -> int:
    print(why, file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(*sys.argv[1:]) if sys.argv[1:] else ROOT / ".env"))
