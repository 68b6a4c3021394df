"""A workspace to submit to, and the real operator in front of it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tools.stack import ROOT

TOKEN = "dapi-of-the-tests"
EMULATOR = Path(__file__).parent / "emulator.py"
JARS = ROOT / ".venv" / "delta"
OURS = ROOT / "include" / "io" / "spark_conf"


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


@pytest.fixture(scope="session", autouse=True)
def spark_with_delta(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The settings of a Spark that has Delta, as on Databricks; also those of the one in this process."""
    jars = sorted(JARS.glob("*.jar"))
    assert jars, "the jars of Delta are not there: make test-databricks fetches them"
    folder = tmp_path_factory.mktemp("spark_conf")
    shutil.copytree(OURS, folder, dirs_exist_ok=True)
    with (folder / "spark-defaults.conf").open("a") as file:
        file.write(f"spark.jars {','.join(map(str, jars))}\n")
        file.write("spark.sql.extensions io.delta.sql.DeltaSparkSessionExtension\n")
        file.write("spark.databricks.delta.snapshotPartitions 2\n")  # of 50 tasks each look at the log would be
        file.write("spark.sql.catalog.spark_catalog org.apache.spark.sql.delta.catalog.DeltaCatalog\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_CONF_DIR", str(folder))
        yield folder


@pytest.fixture
def databricks(spark_with_delta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Databricks]:
    command = [sys.executable, str(EMULATOR), "--home", str(tmp_path / "workspace"), "--token", TOKEN]
    command += ["--set", f"SPARK_CONF_DIR={spark_with_delta}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        workspace = Databricks(process.stdout.readline().strip())
        monkeypatch.setenv("AIRFLOW_CONN_DATABRICKS_DEFAULT", workspace.connection)
        yield workspace
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
