"""Make what the containers keep secret, and `.env`, unless they are there (`python3 -m tools.make_secrets`).

Each secret is a file in `secrets/` that only the containers' user reads. Needs nothing but Python; never overwrites.
"""

import base64
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECRETS = ROOT / "secrets"
ENV = ROOT / ".env"
EXAMPLE = ROOT / ".env.example"

ROLES = ("airflow", "mlflow", "nightly")
"""Roles of PostgreSQL that the services log in as, each to the database of its name; `postgres` makes them."""

BUCKET = "s3://nightly"


def make(folder: Path, read: Callable[[str], str]) -> dict[str, str]:
    """Return the text of each secret by the name of its file; `read` returns one that is there already."""

    def kept(name: str, new: str) -> str:
        return read(name).strip() if (folder / name).exists() else new

    postgres = kept("postgres_password", secrets.token_hex(24))
    redis = secrets.token_hex(24)
    store = kept("store_secret_key", secrets.token_hex(24))
    logins = [("*", "postgres", postgres), *((role, role, secrets.token_hex(24)) for role in ROLES)]
    return {
        "api_secret_key": secrets.token_hex(32),
        "connections.json": json.dumps(_connections(store), indent=2),
        "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "jwt_secret": secrets.token_hex(64),
        "pgpass": "\n".join(f"postgres:5432:{database}:{role}:{password}" for database, role, password in logins),
        "postgres_password": postgres,
        "redis.conf": f"requirepass {redis}",
        "redis_url": f"redis://:{redis}@redis:6379/0",
        "store_secret_key": store,
        "ui_passwords.json": json.dumps({"admin": secrets.token_urlsafe(18)}),
    }


def _connections(store: str) -> dict[str, Mapping[str, object]]:
    """What `make up` begins with; docs/configuration.md says what each is. PostgreSQL's passwords are in `pgpass`."""
    places = {
        f"nightly_{place}": {"conn_type": "generic", "extra": {"uri": f"{BUCKET}/{place}"}}
        for place in ("landing", "tables", "artifacts")
    }
    return {
        **places,
        "nightly_storage": {
            "conn_type": "aws",
            "login": "nightly",
            "password": store,
            "extra": {"endpoint_url": "http://store:7070", "region_name": "us-east-1"},
        },
        "nightly_database": {"conn_type": "postgres", "host": "postgres", "login": "nightly", "schema": "nightly"},
        "nightly_mlflow": {
            "conn_type": "generic",
            "password": "postgresql://mlflow@postgres/mlflow",
            "extra": {"ui_url": "http://localhost:5000"},
        },
        "nightly_hash_key": {"conn_type": "generic", "password": secrets.token_hex(32)},
    }


def write(file: Path, text: str, owner: int) -> None:
    """Write a file that only its owner reads."""
    draft = file.with_name(f"{file.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text + "\n", encoding="utf-8")
    if os.geteuid() == 0:
        shutil.chown(draft, owner)
    draft.replace(file)


def main() -> int:
    """Make what is missing; returns the exit code."""
    if not ENV.exists():
        text = EXAMPLE.read_text(encoding="utf-8")
        if os.geteuid() != 0:  # containers read the files of whoever made them; root's must belong to somebody else
            text = text.replace("NIGHTLY_UID=10001", f"NIGHTLY_UID={os.geteuid()}")
        ENV.write_text(text, encoding="utf-8")
        print("made .env")  # noqa: T201
    settings = dict(
        line.split("=", 1) for line in ENV.read_text(encoding="utf-8").splitlines() if "=" in line and line[0] != "#"
    )
    owner = int(settings["NIGHTLY_UID"])
    if owner == 0:
        print(".env: NIGHTLY_UID must not be 0: nothing runs as root in the containers", file=sys.stderr)  # noqa: T201
        return 1
    SECRETS.mkdir(mode=0o700, exist_ok=True)
    wanted = make(SECRETS, lambda name: (SECRETS / name).read_text(encoding="utf-8"))
    for pair in ({"redis.conf", "redis_url"},):
        if any((SECRETS / name).exists() for name in pair) and not all((SECRETS / name).exists() for name in pair):
            print(f"secrets/: {' and '.join(sorted(pair))} belong together; remove the one", file=sys.stderr)  # noqa: T201
            return 1
    missing = [name for name in wanted if not (SECRETS / name).exists()]
    for name in missing:
        write(SECRETS / name, wanted[name], owner)
    if missing:
        print(f"made in secrets/: {', '.join(missing)}; back them up")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
