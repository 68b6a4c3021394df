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

ROLES = ("airflow", "mlflow", "nightly")
"""The PostgreSQL roles that own the database of their name; the superuser `postgres` creates them."""

WRITER = "writer"
"""The role that tasks log in as; the owner `nightly` only migrates."""

TOGETHER = (
    ("pgpass", "pgpass_init", "postgres_password"),
    ("redis.conf", "redis_url"),
    ("connections.json", "store_access_key", "store_secret_key"),
)
"""Files that hold the same password."""

BUCKET = "s3://nightly"


def make() -> dict[str, str]:
    """Return new secrets: the text of each by the name of its file."""
    postgres, redis, store = (secrets.token_hex(24) for _ in range(3))
    store_user = secrets.token_hex(10)  # Airflow masks it in logs, so it must not be a word that occurs in them
    databases = {**{role: role for role in ROLES}, WRITER: "nightly"}
    logins = {role: f"postgres:5432:{name}:{role}:{secrets.token_hex(24)}" for role, name in databases.items()}
    return {
        "api_secret_key": secrets.token_hex(32),
        "connections.json": json.dumps(_connections(store_user, store), indent=2),
        "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "jwt_secret": secrets.token_hex(64),
        "pgpass": "\n".join(line for role, line in logins.items() if role != "nightly"),
        "pgpass_init": "\n".join([f"postgres:5432:*:postgres:{postgres}", *logins.values()]),
        "postgres_password": postgres,
        "redis.conf": f"requirepass {redis}",
        "redis_url": f"redis://:{redis}@redis:6379/0",
        "store_access_key": store_user,
        "store_secret_key": store,
        "ui_passwords.json": json.dumps({"admin": secrets.token_urlsafe(18)}),
    }


def _connections(store_user: str, store: str) -> dict[str, Mapping[str, object]]:
    """Return the first connections of `make up` (docs/configuration.md). `pgpass` has PostgreSQL's passwords."""
    places = {
        f"nightly_{place}": {"conn_type": "generic", "extra": {"uri": f"{BUCKET}/{place}"}}
        for place in ("landing", "tables", "artifacts", "journal")
    }
    database = {"conn_type": "postgres", "host": "postgres", "schema": "nightly"}
    return {
        **places,
        "nightly_storage": {
            "conn_type": "aws",
            "login": store_user,
            "password": store,
            "extra": {"endpoint_url": "http://store:7070", "region_name": "us-east-1"},
        },
        "nightly_database": {**database, "login": WRITER},
        "nightly_database_owner": {**database, "login": "nightly"},  # only `init` has its password
        "nightly_mlflow": {
            "conn_type": "generic",
            "password": "postgresql://mlflow@postgres/mlflow",
            "extra": {"ui_url": "http://localhost:5000"},
        },
        "nightly_hash_key": {"conn_type": "generic", "password": secrets.token_hex(32)},
    }


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
    return 0


def _refuse(why: str) -> int:
    print(why, file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(*sys.argv[1:]) if sys.argv[1:] else ROOT / ".env"))
