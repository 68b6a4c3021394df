"""A workspace to submit to, and the real operator in front of it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tools.stack import ROOT

TOKEN = "dapi-of-the-tests"
EMULATOR = Path(__file__).parent / "emulator.py"


@dataclass
class Databricks:
    """The emulator as a test sees it."""

    address: str
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30))

    def tell(self, what: str, asked: list[dict[str, Any]]) -> None:
        """`faults` of the next answers, or `outcomes` of the next runs."""
        self.client.post(f"http://{self.address}/emulator/{what}", json=asked).raise_for_status()

    def upload(self, file: Path, place: str) -> None:
        """A file into a volume, as `make deploy` does."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"http://{self.address}/api/2.0/fs/files{place}"
        self.client.put(url, content=file.read_bytes(), headers=headers).raise_for_status()

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"http://{self.address}/emulator/state").raise_for_status().json()
        return found

    @property
    def runs(self) -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = self.state["runs"]
        return runs

    @property
    def results(self) -> list[str]:
        """Of each run, how it ended, or how far it is."""
        states = [run["state"] for run in self.runs]
        return [state.get("result_state") or state["life_cycle_state"] for state in states]

    @property
    def connection(self) -> str:
        host, port = self.address.split(":")
        about = {
            "conn_type": "databricks",
            "host": f"http://{host}",
            "schema": "http",
            "port": int(port),
            "password": TOKEN,
        }
        return json.dumps(about)


@contextmanager
def workspace(home: Path) -> Iterator[Databricks]:
    """An emulator that keeps its files below a folder."""
    command = [sys.executable, str(EMULATOR), "--home", str(home), "--token", TOKEN]
    command += ["--set", f"SPARK_CONF_DIR={ROOT / 'include' / 'io' / 'spark_conf'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Databricks(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def databricks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Databricks]:
    with workspace(tmp_path / "workspace") as found:
        monkeypatch.setenv("AIRFLOW_CONN_DATABRICKS_DEFAULT", found.connection)
        yield found
