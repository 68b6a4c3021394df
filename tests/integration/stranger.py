"""Another user of the machine, who tries every door of a local stack: `python -m tests.integration.stranger < doors`.

A door is what a user could read, write or connect to. The stack's owner lists them, since a stranger cannot even do
that. With the secrets of the stack the same attempts succeed, by which the tests know that they are real ones.
"""

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import psycopg2
from pydantic import BaseModel
from pyspark.sql.connect.session import SparkSession

from include.core.errors import AccessError
from include.io.spark import session
from tools.spark_server import TOKEN_FILE
from tools.stack import ROOT

NOBODY = 65534
HOSTS = ("", "evil.example", "localhost")  # of an honest request, after DNS was rebound, of another name of the machine
PATHS = {
    "api": (
        "/api/v2/dags",
        "/api/v2/connections",
        "/api/v2/eventLogs",
        "/auth/token",
        "/auth/token/login",
        "/api/v2/config",
    ),
    "mlflow": (
        "/",
        "/version",
        "/api/2.0/mlflow/experiments/get?experiment_id=0",
        "/ajax-api/2.0/mlflow/experiments/get?experiment_id=0",
        "/get-artifact?path=MLmodel&run_uuid=0",
        "/graphql",
    ),
    "s3": ("/", "/nightly", "/nightly?list-type=2", "/moto-api/", "/moto-api/data.json", "/moto-api/reset"),
    "trigger_log": ("/log/", "/log/dag_id=dags", "/"),
    "worker_log": ("/log/", "/log/dag_id=dags", "/"),
}
CHANGES = {
    "api": ("/auth/token", {"username": "admin", "password": "admin"}),
    "mlflow": ("/api/2.0/mlflow/experiments/create", {"name": "planted by a stranger"}),
    "s3": ("/moto-api/reset", {}),
}


class Doors(BaseModel):
    """What there is to try.

    Attributes:
        files: Files and folders, by their paths.
        sockets: Unix sockets, by their paths.
        pids: The processes of the stack.
        ports: The port of each service that answers HTTP, by its name.
        jvm_ports: The ports of the Spark server but that of Spark Connect.
        postgres: The folder with PostgreSQL's socket.
        spark: The address of the Spark Connect server.
        secrets: What must not be on a command line.
        headers: The headers with which requests for a service succeed; none for a stranger.
        token_file: The file with Spark's token; none for a stranger.
    """

    files: list[str]
    sockets: list[str]
    pids: list[int]
    ports: dict[str, int]
    jvm_ports: list[int]
    postgres: str
    spark: str
    secrets: list[str]
    headers: dict[str, dict[str, str]] = {}
    token_file: str | None = None


def try_all(doors: Doors, *, user: int | None) -> list[str]:
    """Try all doors as another user, or as the current one, and return a line for each that is open."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.stranger", *([] if user is None else [str(user)])],
        input=doors.model_dump_json(),
        cwd=ROOT,
        env={"PATH": os.defpath, "HOME": "/"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    opened: list[str] = json.loads(done.stdout.splitlines()[-1])
    return opened


def _try_all(doors: Doors) -> Iterator[str]:
    yield from _open_files(doors.files)
    yield from _connect_to_sockets(doors.sockets)
    yield from _look_at_processes(doors.pids, doors.secrets)
    for name, port in doors.ports.items():
        yield from browse(name, port, doors.headers.get(name, {}))
    yield from _log_in_to_postgres(doors.postgres)
    yield from _run_on_spark(doors.spark, doors.token_file)
    yield from _speak_to_the_jvm(doors.jvm_ports)


def _open_files(paths: Sequence[str]) -> Iterator[str]:
    for path in paths:
        for right, word in ((os.R_OK, "read"), (os.W_OK, "write")):
            if os.access(path, right):
                yield f"file: {word} {path}"


def _connect_to_sockets(paths: Sequence[str]) -> Iterator[str]:
    for path in paths:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            yield f"socket: {path}"


def _look_at_processes(pids: Sequence[int], secrets: Sequence[str]) -> Iterator[str]:
    for pid in pids:
        with suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
            yield from (f"command line: a secret in {line!r}" for secret in secrets if secret in line)
        for name in ("environ", "mem", "fd/0"):
            with suppress(OSError), Path(f"/proc/{pid}/{name}").open("rb"):
                yield f"process: {name} of {pid}"


def browse(name: str, port: int, headers: dict[str, str]) -> Iterator[str]:
    """Ask a service for pages and for a change, and return a line for each that it answers."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
        for host in HOSTS:
            forged = {"Host": f"{host}:{port}"} if host else {}
            for path in PATHS[name]:
                answer = client.get(path, headers=headers | forged)
                if answer.is_success or "token" in answer.headers.get("set-cookie", ""):
                    yield f"{name}: GET {path} as {host or 'itself'}"
            if name in CHANGES:
                path, body = CHANGES[name]
                if client.post(path, json=body, headers=headers | forged).is_success:
                    yield f"{name}: POST {path} as {host or 'itself'}"


def _log_in_to_postgres(folder: str) -> Iterator[str]:
    for host in (folder, "127.0.0.1"):
        for role, database in (("postgres", "postgres"), ("nightly", "nightly"), ("reader", "nightly")):
            with suppress(psycopg2.OperationalError):
                psycopg2.connect(host=host, user=role, dbname=database, connect_timeout=10).close()
                yield f"postgres: {role} at {host}"


def _run_on_spark(address: str, token_file: str | None) -> Iterator[str]:
    os.environ["SPARK_REMOTE"] = address
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as wrong:
        wrong.write("another token")
        wrong.flush()
        for given in [token_file] if token_file else ["", wrong.name]:
            os.environ[TOKEN_FILE] = given
            SparkSession._default_session = None  # that of the attempt before, which was refused
            SparkSession._active_session = threading.local()
            try:
                session().range(7).count()
            except AccessError:
                continue
            yield "spark: runs code"


def ask_for_an_answer(port: int) -> str:
    """Send a message of Spark's own protocol to a port of a JVM, without a secret, and return the answer."""
    body = b"no secret"
    header = struct.Struct(">qbqi")  # length, "this is a request", its number, length of the body
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(header.pack(header.size + len(body), 3, 1, len(body)) + body)
        return connection.recv(10_000).decode(errors="replace")


def _speak_to_the_jvm(ports: Sequence[int]) -> Iterator[str]:
    for port in ports:
        if "Expected SaslMessage" not in ask_for_an_answer(port):
            yield f"jvm: reads messages without a secret at {port}"


def listening(processes: Sequence[psutil.Process]) -> set[tuple[str, int]]:
    """Return the address and port of everything at which the processes listen."""
    found = set()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            for connection in process.net_connections(kind="inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add((connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port))
    return found


def _become(user: int) -> None:
    """Give up all rights of root. It has to happen here: another user may not be able to start this Python."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    assert "CapEff:\t0000000000000000" in status, status


if __name__ == "__main__":
    given = Doors.model_validate_json(sys.stdin.read())
    if len(sys.argv) > 1:
        [*_try_all(given)]  # imports what another user may not be able to read
        _become(int(sys.argv[1]))
    sys.stdout.write(json.dumps([*_try_all(given)]))
