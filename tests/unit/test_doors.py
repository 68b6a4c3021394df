"""What keeps other users of a machine out of a local stack: logins, modes of files, owners of folders and ports.

`tests/integration/test_stack.py` tries a whole stack as another user.
"""

import base64
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from include.core.errors import AccessError
from include.io import spark
from include.io.ports import find_owners
from tools import postgres, processes, s3, spark_server
from tools.mlflow_pages import Login
from tools.postgres import Postgres, PostgresError
from tools.stack import Stack, StackError, ports, private_files
from tools.stack.private import make_private
from tools.stack.state import Keys, StackState

PASSWORD = "the-password"
KNOWN = "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()


def ask(path: str = "/", **headers: str) -> httpx.Response:
    """Ask an application behind the login of MLflow's pages."""
    pages = Login(PlainTextResponse("pages"), {"admin": PASSWORD}, 5000)
    answer: httpx.Response = TestClient(pages, base_url="http://127.0.0.1:5000").get(path, headers=headers)
    return answer


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 401),
        ({"Authorization": "Basic"}, 401),
        ({"Authorization": "Basic not base64"}, 401),
        ({"Authorization": "Basic " + base64.b64encode(b"admin:").decode()}, 401),
        ({"Authorization": "Basic " + base64.b64encode(b"admin:another").decode()}, 401),
        ({"Authorization": KNOWN.replace("Basic", "Bearer")}, 401),
        ({"Authorization": KNOWN}, 200),
        ({"Authorization": KNOWN, "Origin": "http://127.0.0.1:5000"}, 200),
        ({"Authorization": KNOWN, "Host": "localhost:5000", "Origin": "http://localhost:5000"}, 200),
        ({"Authorization": KNOWN, "Host": "evil.example"}, 403),
        ({"Authorization": KNOWN, "Host": "evil.example:5000"}, 403),
        ({"Authorization": KNOWN, "Origin": "http://evil.example"}, 403),
        ({"Authorization": KNOWN, "Origin": "http://127.0.0.1:9999"}, 403),
        ({"Authorization": KNOWN, "Origin": "null"}, 403),
    ],
)
def test_mlflows_pages_ask_for_a_login_and_refuse_pages_of_other_servers(headers: dict[str, str], code: int) -> None:
    assert ask(**headers).status_code == code


def test_a_browser_is_told_to_ask_for_the_login_and_health_needs_none() -> None:
    refused = ask()
    assert refused.headers["www-authenticate"].startswith("Basic realm=")
    assert "make ui" in refused.text
    assert ask("/health").status_code == 200
    assert ask("/health/other").status_code == 401


@pytest.mark.parametrize(
    ("environ", "allowed"),
    [
        ({}, False),
        ({"HTTP_X_AMZ_SECURITY_TOKEN": "another"}, False),
        ({"HTTP_X_AMZ_SECURITY_TOKEN": ""}, False),
        ({"HTTP_X_AMZ_SECURITY_TOKEN": "the token/"}, True),
        ({"QUERY_STRING": "X-Amz-Security-Token=the%20token%2F&X-Amz-Date=1"}, True),
        ({"QUERY_STRING": "X-Amz-Security-Token=another"}, False),
    ],
)
def test_the_s3_server_of_a_stack_refuses_requests_without_its_session_token(
    environ: dict[str, str], allowed: bool
) -> None:
    said: list[str] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"content"]

    [body] = s3.with_token(application, "the token/")(environ, lambda status, headers: said.append(status))
    assert (said, body == b"content") == ((["200 OK"], True) if allowed else (["403 Forbidden"], False))


def test_files_that_others_could_read_are_closed_at_the_next_start(tmp_path: Path) -> None:
    home, own = tmp_path / "home", tmp_path / "home" / "postgres"
    for folder in (home / "tables" / "raw", own):
        folder.mkdir(parents=True)
    for file in (home / "secrets.json", home / "tables" / "raw" / "part.parquet", own / "PG_VERSION"):
        file.touch(mode=0o644)
    outside = tmp_path / "outside"
    outside.touch(mode=0o644)
    (home / "link").symlink_to(outside)

    make_private(home, apart_from=own)

    modes = {str(path.relative_to(home)): stat.S_IMODE(path.stat().st_mode) for path in home.rglob("*")}
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert modes["tables"] == modes["tables/raw"] == 0o700
    assert modes["secrets.json"] == modes["tables/raw/part.parquet"] == 0o600
    assert modes["postgres/PG_VERSION"] == 0o644, "PostgreSQL's own, which it keeps closed itself"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644, "no link is followed"


def test_a_new_folder_and_what_is_written_into_it_are_private(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        make_private(tmp_path / "home", apart_from=tmp_path)
        with private_files():
            (tmp_path / "home" / "file").touch()
            child = subprocess.check_output([sys.executable, "-c", "import os; print(os.umask(0))"])
        assert os.umask(0o022) == 0o022, "restored"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "home" / "file").stat().st_mode) == 0o600
    assert int(child) == 0o077


def test_the_lock_of_starting_stacks_is_not_where_another_user_could_make_it_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with ports.one_start_at_a_time(print):
        assert (tmp_path / "nightly-ml" / "start.lock").exists()


@pytest.mark.parametrize("wrong", ["mode", "link", "file", "owner"])
def test_a_folder_for_the_socket_that_somebody_else_made_is_refused(tmp_path: Path, wrong: str) -> None:
    """Whoever owns the folder of the socket could answer in place of PostgreSQL."""
    server = tmp_path / "socket"
    if wrong == "file":
        server.touch(mode=0o600)
    elif wrong == "link":
        (tmp_path / "other").mkdir(mode=0o700)
        server.symlink_to(tmp_path / "other")
    else:
        server.mkdir(mode=0o755 if wrong == "mode" else 0o700)
    if wrong == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder to another user")
        os.chown(server, 65534, 65534)
    with pytest.raises(PostgresError, match="must be a folder that only user"):
        postgres._require_private(server)


def test_the_secrets_of_a_stack_differ_and_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    keys = Keys.keep(file)
    assert Keys.keep(file) == keys != Keys.make()
    assert len({*keys.model_dump().values()}) == len(Keys.model_fields)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(keys.spark_token) >= 32
    assert len(keys.ui_password) >= 16


def test_the_token_is_not_sent_to_another_user_who_listens_at_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert find_owners(port) == {os.geteuid()}
        spark._reach(f"sc://127.0.0.1:{port}")
        monkeypatch.setattr(spark, "find_owners", lambda port: {65534})
        with pytest.raises(AccessError, match=rf"another user of this machine listens at sc://127.0.0.1:{port},"):
            spark._reach(f"sc://127.0.0.1:{port}/;user_id=a")


NOBODY = 65534
LISTEN = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
while True:
    asking, _ = listening.accept()
    print(asking.recv(10_000).decode(), flush=True)
    asking.close()
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@needs_root
def test_the_password_is_not_sent_to_another_user_who_took_the_port_first(tmp_path: Path) -> None:
    """Between the choice of a port and its use there are seconds, in which another user can listen there."""
    script = [sys.executable, "-c", LISTEN, str(NOBODY)]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        try:
            stack = Stack(tmp_path)
            with private_files():
                (tmp_path / "state.json").write_text(StackState(ports={"api": port}, spark=False).model_dump_json())
            for asking in (stack.api, lambda: stack._refuse_others("api-server")):
                with pytest.raises(StackError, match=f"another user of this machine listens at port {port}"):
                    asking()
        finally:
            other.kill()
        assert other.stdout.read() == ""


@needs_root
def test_the_processes_of_another_user_are_not_of_the_stack(tmp_path: Path) -> None:
    """Root sees the environment of every process, and another user can put the marker into it."""
    environment = {processes.MARKER: str(tmp_path)}
    command = [
        sys.executable,
        "-c",
        "import os, sys, time; os.setuid(int(sys.argv[1])); os.write(1, b'\\n'); time.sleep(60)",
    ]
    found = {}
    for user in (0, NOBODY):
        with subprocess.Popen([*command, str(user)], env=environment, stdout=subprocess.PIPE) as started:
            assert started.stdout is not None
            started.stdout.readline()
            found[user] = [process.pid for process in processes.find_processes(tmp_path)]
            assert found[user] in ([], [started.pid])
            started.kill()
    assert (bool(found[0]), bool(found[NOBODY])) == (True, False)


def test_the_server_of_the_image_reads_its_token_from_a_file_and_leaves_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda program, arguments, environment: started.append(environment))
    umasks: list[int] = []
    monkeypatch.setattr(os, "umask", umasks.append)
    for name in ("blockmgr-1", "spark-2", "mine"):
        (tmp_path / "spill" / name).mkdir(parents=True)
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path / "spill"))
    file = tmp_path / "token"
    file.write_text("the-token\n", encoding="utf-8")

    monkeypatch.setenv(spark_server.TOKEN_FILE, str(file))
    spark_server.serve()
    monkeypatch.delenv(spark_server.TOKEN_FILE)
    spark_server.serve()
    assert [given.get("SPARK_CONNECT_AUTHENTICATE_TOKEN") for given in started] == ["the-token", None]
    assert {*umasks} == {0o077}
    assert [left.name for left in (tmp_path / "spill").iterdir()] == ["mine"], (
        "what a killed server had spilled is gone"
    )

    file.write_text("\n", encoding="utf-8")
    monkeypatch.setenv(spark_server.TOKEN_FILE, str(file))
    with pytest.raises(SystemExit, match="is empty"):
        spark_server.serve()


def test_the_command_of_the_server_has_no_token() -> None:
    assert "the-token" not in str(spark_server.spark_server(15002))
    assert spark_server.TOKEN_FILE == spark.TOKEN_FILE


def test_postgres_listens_at_no_port() -> None:
    assert postgres.OPTIONS["listen_addresses"] == ""
    assert postgres.OPTIONS["unix_socket_permissions"] == "0700"
    long = Postgres(Path("/home/ana") / ("a" * 100), Path("log"), {})
    assert str(long.socket).startswith("/tmp/nightly-")
