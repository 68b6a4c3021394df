"""The state and the keys of a stack, which it keeps in its home folder from one command to the next."""

import base64
import json
import secrets
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Started(BaseModel):
    """The last start of a service."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started_at: datetime
    settings_digest: str


class StackState(BaseModel):
    """The ports that a stack chose, the services that it should run, and those that it started."""

    model_config = ConfigDict(frozen=True)

    ports: dict[str, int] = {}
    schedule: bool = True
    spark: bool = True
    mlflow: bool = False
    s3: bool = False
    services: dict[str, Started] = {}

    @classmethod
    def read(cls, file: Path) -> "StackState":
        """Return the state in `file`, or that of a new stack if there is no such file."""
        with suppress(FileNotFoundError):
            return cls.model_validate_json(file.read_text(encoding="utf-8"))
        return cls()


class Keys(BaseModel):
    """Random keys, made at the first start. All of Airflow's services must have the same ones."""

    model_config = ConfigDict(frozen=True)

    jwt_secret: str
    api_secret_key: str
    fernet_key: str
    hash_key: str
    s3_access_key: str
    s3_secret_key: str
    s3_session_token: str
    spark_token: str
    ui_password: str

    @classmethod
    def make(cls) -> "Keys":
        """Return new keys."""
        return cls(
            jwt_secret=secrets.token_hex(64),
            api_secret_key=secrets.token_hex(32),
            fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            hash_key=secrets.token_hex(32),
            s3_access_key=f"ASIA{secrets.token_hex(8).upper()}",
            s3_secret_key=secrets.token_urlsafe(30),
            s3_session_token=secrets.token_urlsafe(60),
            spark_token=secrets.token_urlsafe(30),
            ui_password=secrets.token_urlsafe(12),
        )

    @classmethod
    def keep(cls, file: Path) -> "Keys":
        """Return the keys in `file`, after adding missing ones."""
        kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        keys = cls.make().model_copy(update=kept)
        if keys.model_dump() != kept:
            write_private(file, keys.model_dump_json(indent=2))
        return keys


def write_private(file: Path, text: str) -> None:
    """Write a whole file or none of it, readable by its owner only."""
    draft = file.with_name(file.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)
