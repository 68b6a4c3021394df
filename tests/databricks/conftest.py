"""Fixtures: an emulated workspace, and a Spark with Delta."""

import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tools.stack import ROOT

TOKEN = "dapi-of-the-tests"
PRINCIPAL = "an-id-of-the-tests:a-secret-of-the-tests"
EMULATOR = Path(__file__).parent / "emulator.py"
JARS = ROOT / ".venv" / "delta"


@dataclass
class Databricks:
    """The emulator, with functions for tests."""

    url: str
    certificate: Path | None = None
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        verify = ssl.create_default_context(cafile=self.certificate) if self.certificate else False
        self.client = httpx.Client(timeout=30, verify=verify)

    def plan(self, what: str, asked: list[dict[str, Any]]) -> None:
        """Plan `faults` of the next answers, or `outcomes` of the next runs."""
        self.client.post(f"{self.url}/emulator/{what}", json=asked).raise_for_status()

    def upload(self, file: Path, place: str) -> None:
        """Put a file into a volume, as `make deploy` does."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"{self.url}/api/2.0/fs/files{place}"
        self.client.put(url, content=file.read_bytes(), headers=headers).raise_for_status()

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"{self.url}/emulator/state").raise_for_status().json()
        return found

    @property
    def runs(self) -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = self.state["runs"]
        return runs

    @property
    def results(self) -> list[str]:
        """Return for each run how it ended, or its state."""
        states = [run["state"] for run in self.runs]
        return [state.get("result_state") or state["life_cycle_state"] for state in states]

    @property
    def connection(self) -> str:
        """Return the connection: with a token, or as a service principal over TLS, as the hook requires."""
        at = urlsplit(self.url)
        about: dict[str, Any] = {"conn_type": "databricks"}
        if self.certificate:
            client_id, secret = PRINCIPAL.split(":")
            # the hook drops the port from a host that is a URL, and has no setting for the port of these requests
            about |= {"host": at.netloc, "login": client_id, "password": secret}
            about |= {"extra": {"service_principal_oauth": True}}
        else:
            about |= {"host": f"http://{at.hostname}", "schema": "http", "port": at.port, "password": TOKEN}
        return json.dumps(about)


def make_spark_conf(folder: Path) -> Path:
    """Write the settings of a Spark with Delta, as on Databricks."""
    jars = sorted(JARS.glob("*.jar"))
    assert jars, "the jars of Delta are missing: make test-databricks fetches them"
    shutil.copytree(ROOT / "include" / "io" / "spark_conf", folder)
    with (folder / "spark-defaults.conf").open("a") as file:
        file.write(f"spark.jars {','.join(map(str, jars))}\n")
        file.write("spark.sql.extensions io.delta.sql.DeltaSparkSessionExtension\n")
        file.write("spark.sql.catalog.spark_catalog org.apache.spark.sql.delta.catalog.DeltaCatalog\n")
        file.write("spark.databricks.delta.snapshotPartitions 2\n")  # the default is 50
    return folder


@pytest.fixture(scope="session", autouse=True)
def spark_with_delta(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the Spark of this process Delta too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_CONF_DIR", str(make_spark_conf(tmp_path_factory.mktemp("spark") / "conf")))
        yield


@contextmanager
def workspace(home: Path, *, tls: bool = False, delta: bool = True) -> Iterator[Databricks]:
    """Start an emulator that keeps its files below a folder; `delta`: its runs have a Spark with Delta."""
    command = [sys.executable, str(EMULATOR), "--home", str(home), "--token", TOKEN, "--principal", PRINCIPAL]
    command += ["--token-seconds", "125"]  # the hook requests another token two minutes before one expires
    command += ["--set", f"SPARK_CONF_DIR={make_spark_conf(home / 'spark_conf')}"] if delta else []
    certificate = certify(home) if tls else None
    command += ["--tls", str(certificate)] if certificate else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Databricks(process.stdout.readline().strip(), certificate)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def certify(folder: Path) -> Path:
    """Write a file with a new key of `localhost` and its self-signed certificate."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509
        .CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "localhost.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    return file


@pytest.fixture
def databricks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Databricks]:
    with workspace(tmp_path / "workspace") as found:
        monkeypatch.setenv("AIRFLOW_CONN_DATABRICKS_DEFAULT", found.connection)
        yield found
