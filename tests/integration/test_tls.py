"""Every client of PostgreSQL checks the server's certificate where `sslmode=verify-full` says so.

The PostgreSQL of the tests is built without TLS. A proxy in front of it answers like a server that requires TLS: it
accepts PostgreSQL's request for TLS, and nothing without it.
"""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import psycopg2
import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import create_async_engine

from include.core.settings import Settings
from include.core.sources import Sql
from include.io.postgres import connection as product
from include.io.sources import postgresql

REQUEST = bytes.fromhex("0000000804d2162f")
"""What a client sends first if it wants TLS."""


class Proxy:
    """Require TLS in front of a server on a Unix socket."""

    def __init__(self, behind: str, certificate: Path, key: Path) -> None:
        self.behind = behind
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.sessions: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with closing(client), suppress(OSError):
            if client.recv(8, socket.MSG_WAITALL) != REQUEST:
                return
            client.sendall(b"S")
            with (
                self.context.wrap_socket(client, server_side=True) as secured,
                socket.socket(socket.AF_UNIX) as server,
            ):
                server.connect(self.behind)
                self.sessions.append(str(secured.version()))
                threading.Thread(target=_pump, args=(server, secured), daemon=True).start()
                _pump(secured, server)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _certify(folder: Path, name: str, host: str) -> tuple[Path, Path]:
    """Write a self-signed certificate of a host, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    alternative: x509.GeneralName = x509.DNSName(host)
    with suppress(ValueError):
        alternative = x509.IPAddress(ipaddress.ip_address(host))
    now = datetime.now(UTC)
    made = (
        x509
        .CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    )
    return certificate, secret


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def proxies(folder: Path, postgres_url: sa.URL) -> Iterator[dict[str, Proxy]]:
    """Return a server whose certificate is for `localhost`, and one whose certificate is for another host."""
    behind = f"{postgres_url.query['host']}/.s.PGSQL.5432"
    _certify(folder, "stranger", "localhost")
    made = {
        name: Proxy(behind, *_certify(folder, name, host))
        for name, host in (("right", "localhost"), ("elsewhere", "db.example.org"))
    }
    yield made
    for proxy in made.values():
        proxy.listener.close()


def by_sqlalchemy(url: sa.URL) -> None:
    settings = Settings.model_construct(database_url=SecretStr(url.render_as_string(hide_password=False)))
    with product.engine(settings).connect() as connection:
        connection.execute(sa.text("SELECT 1"))


def by_adbc(url: sa.URL) -> None:
    settings = Settings.model_construct(database_url=SecretStr(url.render_as_string(hide_password=False)))
    with product.adbc(settings) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def by_feed(url: sa.URL) -> None:
    source = Sql(kind="sql", connection="shop_db", query="SELECT 1 AS one")
    assert list(postgresql.read_blocks(url, source, {}, "UTC"))


def by_mlflow(url: sa.URL) -> None:
    from mlflow.store.db.utils import create_sqlalchemy_engine

    engine = create_sqlalchemy_engine(url.render_as_string(hide_password=False))
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))


def by_psycopg2(url: sa.URL) -> None:
    psycopg2.connect(url.render_as_string(hide_password=False)).close()


def by_psycopg(url: sa.URL) -> None:
    psycopg.connect(url.render_as_string(hide_password=False)).close()


async def by_asyncpg(url: sa.URL) -> None:
    engine = create_async_engine(url.set(drivername="postgresql+asyncpg"))
    async with engine.connect() as connection:
        await connection.execute(sa.text("SELECT 1"))
    await engine.dispose()


def by_airflow(url: sa.URL) -> None:
    """Connect as Airflow's asynchronous sessions do."""
    import asyncio

    asyncio.run(by_asyncpg(url))


CLIENTS = [by_sqlalchemy, by_adbc, by_feed, by_mlflow, by_psycopg2, by_psycopg]


def address(proxy: Proxy) -> sa.URL:
    return sa.URL.create("postgresql", username="postgres", host="localhost", port=proxy.port, database="postgres")


@pytest.mark.parametrize(
    ("client", "way"),
    [
        *((client, "by the URL") for client in CLIENTS),
        *((client, "by the environment") for client in (*CLIENTS, by_airflow)),  # as docker-compose.yaml does
    ],
)
def test_a_client_connects_only_to_the_server_of_its_certificate(
    client: Callable[[sa.URL], None],
    way: str,
    folder: Path,
    proxies: dict[str, Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def connect(name: str, certificate: str) -> Any:
        said = {"sslmode": "verify-full", "sslrootcert": str(folder / f"{certificate}.crt")}
        url = address(proxies[name])
        if way == "by the URL":
            url = url.update_query_dict(said)
        else:
            for key, value in said.items():
                monkeypatch.setenv(f"PG{key}".upper(), value)
        product._engine.cache_clear()
        return client(url)

    before = len(proxies["right"].sessions)
    connect("right", "right")
    assert set(proxies["right"].sessions[before:]) == {"TLSv1.3"}
    with pytest.raises(Exception, match=r"(?i)certificate"):
        connect("right", "stranger")
    with pytest.raises(Exception, match=r"(?i)certificate|host ?name"):
        connect("elsewhere", "elsewhere")
