"""The folders, ports, keys and addresses that the services of a stack share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tools import processes
from tools.postgres import Postgres
from tools.stack.state import Keys, StackState

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".local"
USER = "admin"
"""The user of Airflow's and MLflow's pages, with the password in the file `ui_passwords.json`."""

BUCKET, REGION = "nightly", "us-east-1"


class StackError(RuntimeError):
    """A command of the stack failed; the text says which part failed, and why."""


@dataclass(frozen=True)
class StackLayout:
    """The places and addresses of the stack at `home`, by its `state`.

    `bundle` is the folder of the DAG bundle, and `airflow_settings` are more environment variables for Airflow.
    """

    home: Path
    bundle: Path
    state: StackState
    airflow_settings: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def keys(self) -> Keys:
        """The keys of the stack, which are made when they are first needed."""
        return Keys.keep(self.home / "secrets.json")

    @property
    def passwords_file(self) -> Path:
        """The file with the password of Airflow's and MLflow's pages, as Airflow's SimpleAuthManager reads it."""
        return self.home / "ui_passwords.json"

    @property
    def spark_token_file(self) -> Path:
        """The file with the token that the Spark server asks for."""
        return self.home / "spark_token"

    @cached_property
    def postgres(self) -> Postgres:
        """The stack's PostgreSQL server."""
        return Postgres(self.home / "postgres", self.log("postgres"), {processes.MARKER: str(self.home)})

    @property
    def api_url(self) -> str:
        """The address of Airflow's pages and REST API."""
        if "api" not in self.state.ports:
            raise StackError(f"{self.home} has no stack yet; type: make start")
        return f"http://127.0.0.1:{self.state.ports['api']}"

    @property
    def mlflow_url(self) -> str | None:
        """The address of MLflow's pages; None unless the stack serves them."""
        return f"http://127.0.0.1:{self.state.ports['mlflow']}" if self.state.mlflow else None

    @property
    def spark_url(self) -> str | None:
        """The address of the Spark Connect server that tasks share; None unless the stack has one."""
        port = self.state.ports.get("spark")
        return f"sc://127.0.0.1:{port}" if self.state.spark and port else None

    @property
    def s3_url(self) -> str | None:
        """The address of the S3 server; None if everything is in folders."""
        return f"http://127.0.0.1:{self.state.ports['s3']}" if self.state.s3 else None

    def log(self, name: str) -> Path:
        """Return the log file of `postgres`, `migrate` or a service."""
        return self.home / "logs" / f"{name}.log"

    def place(self, name: str) -> str:
        """Return the folder or URI of `landing`, `tables` or `artifacts`."""
        return f"s3://{BUCKET}/{name}" if self.state.s3 else str(self.home / name)

    def storage_options(self) -> dict[str, str]:
        """Return the options for S3, with the names of delta-rs and `NIGHTLY_STORAGE_OPTIONS`."""
        if self.s3_url is None:
            return {}
        return {
            "AWS_ENDPOINT_URL": self.s3_url,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.keys.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": self.keys.s3_secret_key,
            "AWS_SESSION_TOKEN": self.keys.s3_session_token,
        }
