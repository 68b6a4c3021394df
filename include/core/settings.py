"""Settings: where things are, and the secrets to reach them.

On a laptop they come from `NIGHTLY_*` variables; `dags/` fills the same record from Airflow connections. Places have no
defaults, so that no step writes to a wrong place by accident.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

NO_DATABASE = "none://"
"""The database of a step on Databricks, which reaches none."""

BY_HAND = "by-hand"
"""The id of a run that is none of Airflow."""

DATABASE_URL = "NIGHTLY_DATABASE_URL"
"""The variable with the shared database, for `plan`, which needs no other place."""

DATABASE_OWNER_URL = "NIGHTLY_DATABASE_OWNER_URL"
"""The variable with the login that owns the shared database. Only `migrate` reads it: no task can change tables."""


class Settings(BaseSettings):
    """Places and secrets. A place is a URI that fsspec and delta-rs read: a folder or `s3://…`. Secrets never print."""

    model_config = SettingsConfigDict(env_prefix="NIGHTLY_", frozen=True, extra="ignore", hide_input_in_errors=True)

    landing: str = Field(description="where suppliers put files")
    tables: str = Field(description="where the Delta tables are")
    artifacts: str = Field(description="where MLflow keeps models")
    journal: str = Field(description="where the journal is exported to; back it up with the raw tables")
    exports: str | None = Field(default=None, description="where files of published predictions are written")
    public_pages: str | None = Field(
        default=None, description="where pages for everybody are written; by default beside the tables, in _public"
    )
    database_url: SecretStr = Field(description="the shared database, postgresql://user@host/name")
    mlflow_tracking_uri: SecretStr = Field(description="MLflow tracking; a database URL or http(s)://")
    mlflow_registry_uri: SecretStr | None = Field(default=None, description="MLflow registry; tracking's by default")
    hash_key: SecretStr = Field(description="the key that identifiers are hashed with (HMAC-SHA256)")
    storage_options: dict[str, SecretStr] = Field(
        default_factory=dict, description="how S3 is reached, as delta-rs names it, e.g. AWS_ENDPOINT_URL"
    )
    sources: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="the databases that feeds are extracted from, by the name of their connection: a URL of SQLAlchemy",
    )
    destinations: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="where messages are sent, by the name of the connection: the URL of a chat's webhook, or an object "
        "with `channel`, `url` and what the channel needs",
    )
    catalog: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_]+\.[A-Za-z0-9_]+$",
        description="schema of the same tables in Unity Catalog, for Spark on Databricks: catalog.schema",
    )
    run_id: str = Field(default=BY_HAND, description="the id of the Airflow run, or by-hand")
    git_commit: str = Field(default="unknown", description="the commit of the code that runs")

    @field_validator("storage_options", "sources", "destinations", mode="before")
    @classmethod
    def _parsed(cls, given: object) -> object:
        """Parse the JSON of a variable."""
        return parse_texts(given)

    def as_owner(self) -> Self:
        """Return these settings with the login of the database's owner, or as they are if no other login is set."""
        owner = os.environ.get(DATABASE_OWNER_URL)
        return self.model_copy(update={"database_url": SecretStr(owner)}) if owner else self

    @property
    def pages_beside_tables(self) -> str:
        """Where pages for everybody are written if no other place is declared."""
        return f"{self.tables.rstrip('/')}/_public"

    @property
    def is_by_hand(self) -> bool:
        """Whether a person typed the command, so that the places may not be those of tasks."""
        return self.run_id == BY_HAND

    def variables(self) -> dict[str, str]:
        """Return these settings as `NIGHTLY_*` variables for another process, secrets in plain text."""
        values = self.model_dump(exclude_none=True)
        for several in ("storage_options", "sources", "destinations"):
            texts = {name: value.get_secret_value() for name, value in values[several].items()}
            values[several] = json.dumps(texts)
        texts = {name: value if isinstance(value, str) else value.get_secret_value() for name, value in values.items()}
        return {f"NIGHTLY_{name}".upper(): text for name, text in texts.items()}


def parse_texts(given: object) -> object:
    """Return what a variable with JSON has. An object as a value stays JSON, so that it is one secret."""
    found = json.loads(given) if isinstance(given, str) else given
    if not isinstance(found, dict):
        return found
    return {name: json.dumps(value) if isinstance(value, dict) else value for name, value in found.items()}


def utc_now() -> datetime:
    """Return the current time, for `*_at` audit columns only: no step makes a decision by it."""
    return datetime.now(UTC)


def project_folders() -> list[Path]:
    """Return the folders with a team's own projects, which `NIGHTLY_PROJECTS` names, separated as in `PATH`.

    A relative folder counts from the one that holds `include`, so that a run of an Airflow bundle uses the projects of
    its own commit.
    """
    root = Path(__file__).parents[2]
    return [root / folder for folder in os.environ.get("NIGHTLY_PROJECTS", "").split(os.pathsep) if folder]
