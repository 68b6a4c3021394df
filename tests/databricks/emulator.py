"""An emulator of the parts of a Databricks workspace that this product uses: Jobs API 2.2 and volumes, over HTTP.

    python tests/databricks/emulator.py --home FOLDER --port 8765 --token tok
    python tests/databricks/emulator.py --home FOLDER --tls FILE --principal ID:SECRET

Wheel tasks really run, as processes that see the wheel and not the repository; their output is kept. Tests can plan
failures as in the service: `POST /emulator/faults` for answers, `POST /emulator/outcomes` for runs. The emulator does
not depend on the product, and imports nothing of it.

It behaves as the service in these points: an `idempotency_token` always names the same run, even one that failed.
Numbers may be text (as Airflow sends them), and `run_id` may be in the query or in a JSON body, even of a GET (as
Airflow's trigger sends it). `named_parameters` become `--name=value`. A run has a page URL. `get-output` of a task has
error and trace. Run and task have `status.termination_details` beside `state`, as the Jobs API has since 2.1; with an
outcome of `"details": false` they have not, as before. After a cancel, a run is TERMINATING until its process has
ended. A service principal gets tokens that expire.
"""

import argparse
import base64
import hashlib
import itertools
import json
import math
import os
import secrets
import signal
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

RUNTIME = "17.3"
FILES = "/api/2.0/fs/files/"
TOKENS = "/oidc/v1/token"
RUN_ENTRY_POINT = """
import json
import sys
import traceback
from importlib.metadata import distribution
package, name, *arguments = sys.argv[1:]
found = [each for each in distribution(package).entry_points if each.name == name]
if not found:
    raise SystemExit(f"{package} has no entry point {name}")
sys.argv = [name, *arguments]
try:
    code = found[0].load()()
except Exception as error:
    with open("error.json", "w") as file:
        json.dump({"error": f"{type(error).__name__}: {error}", "error_trace": traceback.format_exc()}, file)
    raise
sys.exit(code)
"""


class Refused(Exception):
    """An answer with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


ENDS = {
    "SUCCESS": ("SUCCESS", "SUCCESS"),
    "SUCCESS_WITH_FAILURES": ("SUCCESS_WITH_FAILURES", "CLIENT_ERROR"),
    "CANCELED": ("USER_CANCELED", "CLIENT_ERROR"),
    "TIMEDOUT": ("CANCELED", "CLIENT_ERROR"),
    "UPSTREAM_FAILED": ("SKIPPED", "CLIENT_ERROR"),
    "INTERNAL_ERROR": ("CLUSTER_ERROR", "CLOUD_FAILURE"),
}
"""Code and type of the end of a task, by its result; any other is of the code that ran."""


@dataclass
class Run:
    """A submitted run. The number of its only task is its own plus one."""

    run_id: int
    spec: dict[str, Any]
    outcome: dict[str, Any]
    life_cycle: str = "PENDING"
    result: str = ""
    message: str = ""
    error: str = ""
    trace: str = ""
    output: str = ""
    code: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)
    process: subprocess.Popen[str] | None = None

    @property
    def is_over(self) -> bool:
        return self.life_cycle in ("TERMINATED", "INTERNAL_ERROR", "SKIPPED")

    def status(self, *, of_task: bool) -> dict[str, Any]:
        """Return the state as newer versions have it, with the reason of the end."""
        if self.outcome.get("details") is False:
            return {}
        if not self.is_over:
            return {"status": {"state": self.life_cycle}}
        result = "INTERNAL_ERROR" if self.life_cycle == "INTERNAL_ERROR" else self.result
        code, kind = ENDS.get(result, ("RUN_EXECUTION_ERROR", "CLIENT_ERROR"))
        code, kind = self.outcome.get("code", self.code or code), self.outcome.get("type", kind)
        if not of_task and result == "FAILED":
            code, kind = "RUN_EXECUTION_ERROR", "CLIENT_ERROR"  # of the run: a task failed
        details = {"code": code, "type": kind, "message": self.message}
        return {"status": {"state": "TERMINATED", "termination_details": details}}

    def state(self) -> dict[str, str]:
        found = {"life_cycle_state": self.life_cycle, "state_message": self.message}
        return found | ({"result_state": self.result} if self.result else {})


class Workspace:
    """The runs, the files, and the planned failures."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.home, self.environment = home, environment
        self.runs: dict[int, Run] = {}
        self.by_token: dict[str, int] = {}
        self.faults: list[dict[str, Any]] = []
        self.outcomes: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self._numbers = itertools.count(1001, 2)
        self._lock = threading.Lock()

    # --- the API ------------------------------------------------------------------------------------------------------

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        tasks = body.get("tasks") or []
        if len(tasks) != 1 or "python_wheel_task" not in tasks[0]:
            raise Refused(400, "INVALID_PARAMETER_VALUE", "this workspace runs exactly one wheel task")
        [task] = tasks
        environments = {each["environment_key"]: each["spec"] for each in body.get("environments") or []}
        if "environment_key" in task and task["environment_key"] not in environments:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"no environment {task['environment_key']}")
        if not {"environment_key", "new_cluster", "existing_cluster_id", "job_cluster_key"} & task.keys():
            raise Refused(400, "INVALID_PARAMETER_VALUE", "a task needs a cluster, or an environment of serverless")
        token = body.get("idempotency_token")
        with self._lock:
            if token in self.by_token:
                return {"run_id": self.by_token[token]}
            outcome = self.outcomes.pop(0) if self.outcomes else {}
            run = Run(next(self._numbers), body, outcome)
            self.runs[run.run_id] = run
            if token:
                self.by_token[token] = run.run_id
        threading.Thread(target=self._live, args=(run,), daemon=True).start()
        return {"run_id": run.run_id}

    def get(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = self._run(asked)
        state = run.state()
        if unknown := run.outcome.get("shown_as"):
            state = {"life_cycle_state": unknown, "state_message": ""}
        task = {"run_id": run.run_id + 1, "task_key": run.spec["tasks"][0]["task_key"], "attempt_number": 0}
        return {
            "run_id": run.run_id,
            "job_id": run.run_id + 500_000,
            "run_name": run.spec.get("run_name", "Untitled"),
            "run_page_url": f"{self.environment['EMULATOR']}/#job/{run.run_id + 500_000}/run/{run.run_id}",
            "state": state,
            **run.status(of_task=False),
            "tasks": [{**task, "state": state, **run.status(of_task=True)}],
        }

    def get_output(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = self._run(asked)
        found = {"metadata": {"run_id": run.run_id, "state": run.state()}, "logs": run.output}
        return found | ({"error": run.error, "error_trace": run.trace} if run.error else {})

    def cancel(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = self._run(asked)
        if not run.is_over:
            run.life_cycle = "TERMINATING"
            run.cancelled.set()
            _kill(run.process)
        return {}

    def _run(self, asked: dict[str, Any]) -> Run:
        number = int(asked.get("run_id", 0))
        run = self.runs.get(number) or self.runs.get(number - 1)
        if run is None or run.outcome.get("expired"):
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Run {number} does not exist.")
        return run

    # --- files of volumes ---------------------------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        """Return the path where a file of a volume, `/Volumes/catalog/schema/volume/…`, is stored."""
        if not name.startswith("/Volumes/") or ".." in name:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"{name} is not in a volume")
        return self.home / "volumes" / name.removeprefix("/Volumes/")

    # --- a run's life -------------------------------------------------------------------------------------------------

    def _live(self, run: Run) -> None:
        run.cancelled.wait(float(run.outcome.get("pending_seconds", 0)))
        try:
            if not run.cancelled.is_set() and run.outcome.get("result") == "INTERNAL_ERROR":
                message = run.outcome.get("message", "Unexpected failure while waiting for the cluster to be ready")
                run.life_cycle, run.result, run.message = "INTERNAL_ERROR", "FAILED", message
                return
            if not run.cancelled.is_set():
                run.life_cycle = "RUNNING"
                self._work(run)
            if run.cancelled.is_set():
                time.sleep(float(run.outcome.get("ending_seconds", 0)))
                run.result, run.message = "CANCELED", "Run cancelled."
        except (OSError, zipfile.BadZipFile) as error:  # as for a library that cannot be installed
            run.result, run.message, run.error = "FAILED", str(error), str(error)
            run.code = "LIBRARY_INSTALLATION_ERROR"
        run.life_cycle = "TERMINATED"

    def _work(self, run: Run) -> None:
        if (planned := run.outcome.get("result")) and planned != "SUCCESS":
            run.result, run.message = planned, run.outcome.get("message", f"planned to be {planned}")
            run.error, run.trace = run.outcome.get("error", ""), run.outcome.get("trace", "")
            return
        if planned:
            run.result = planned
            return
        [task] = run.spec["tasks"]
        folder = self.home / "runs" / str(run.run_id)
        folder.mkdir(parents=True)
        for wheel in self._wheels(run.spec, task):
            if not wheel.is_file():
                raise FileNotFoundError(f"Library installation failed: {wheel.name}: no such file")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder / "libraries")
        wheel_task = task["python_wheel_task"]
        arguments = [f"--{name}={value}" for name, value in (wheel_task.get("named_parameters") or {}).items()]
        arguments += wheel_task.get("parameters") or []
        variables = (task.get("new_cluster") or {}).get("spark_env_vars") or {}
        own = {"PYTHONPATH": str(folder / "libraries"), "HOME": str(folder), "PYSPARK_PYTHON": sys.executable}
        environment = {**self.environment, **variables, **own}  # a cluster sets the Python of its executors too
        command = [sys.executable, "-c", RUN_ENTRY_POINT, wheel_task["package_name"], wheel_task["entry_point"]]
        # in its own group, so that Spark's JVM ends with it
        run.process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=(folder / "stderr").open("w"),
            text=True,
            start_new_session=True,
        )
        if run.cancelled.is_set():
            _kill(run.process)
        limit = int(run.spec.get("timeout_seconds") or 0) or None
        try:
            run.output, _ = run.process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            _kill(run.process)
            run.process.communicate()
            run.result, run.message = "TIMEDOUT", f"Run exceeded its timeout of {limit} seconds."
            return
        if run.process.returncode == 0:
            run.result = "SUCCESS"
            return
        run.result, run.message = "FAILED", f"Task {task['task_key']} failed. See its output."
        error = folder / "error.json"
        found = json.loads(error.read_text()) if error.exists() else {"error": f"exit code {run.process.returncode}"}
        run.error, run.trace = found["error"], found.get("error_trace") or (folder / "stderr").read_text()

    def _wheels(self, spec: dict[str, Any], task: dict[str, Any]) -> list[Path]:
        names = [each["whl"] for each in task.get("libraries") or [] if "whl" in each]
        lists = [each["requirements"] for each in task.get("libraries") or [] if "requirements" in each]
        for each in spec.get("environments") or []:
            if each["environment_key"] == task.get("environment_key"):
                dependencies = each["spec"].get("dependencies") or []
                names += [name for name in dependencies if name.endswith(".whl")]
                lists += [name.removeprefix("-r ") for name in dependencies if name.startswith("-r ")]
        return [*(self.path(name) for name in names), *(wheel for name in lists for wheel in self._listed(name))]

    def _listed(self, name: str) -> list[Path]:
        """Return the wheels of a list of requirements. As pip does, refuse what has no hash or another one."""
        file = self.path(name)
        if not file.is_file():
            raise FileNotFoundError(f"Library installation failed: {file.name}: no such file")
        wheels = []
        for line in file.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
            requirement, *hashes = line.split(" --hash=")
            if not hashes:
                raise FileNotFoundError(f"Library installation failed: {requirement} has no hash")
            if ".whl" in requirement:
                wheels.append(wheel := self.path(requirement.strip()))
                if wheel.is_file() and f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}" != hashes[0].strip():
                    raise FileNotFoundError(f"Library installation failed: {wheel.name} does not match its hash")
        return wheels


def _kill(process: subprocess.Popen[str] | None) -> None:
    if process is not None and process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


class Access:
    """The access rules: a fixed token, and service principals, which get tokens for some seconds."""

    def __init__(self, tokens: Sequence[str], principals: Sequence[str], seconds: float) -> None:
        self.expires = dict.fromkeys(tokens, math.inf)
        self.principals, self.seconds = principals, seconds

    def check(self, header: str) -> None:
        if self.expires.get(header.removeprefix("Bearer "), 0) < time.time():
            raise Refused(403, "PERMISSION_DENIED", "Invalid access token.")

    def give(self, header: str, form: Mapping[str, str]) -> dict[str, Any]:
        if form != {"grant_type": "client_credentials", "scope": "all-apis"}:
            raise Refused(400, "invalid_request", "not a token request of a service principal")
        if base64.b64decode(header.removeprefix("Basic ")).decode() not in self.principals:
            raise Refused(401, "invalid_client", "Client authentication failed")
        token = secrets.token_urlsafe()
        self.expires[token] = time.time() + self.seconds
        return {"access_token": token, "token_type": "Bearer", "expires_in": self.seconds}


class Handler(BaseHTTPRequestHandler):
    """A handler of one request. `serve` sets `server.workspace` and `server.access`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815 the library's names

    def _answer(self) -> None:
        workspace: Workspace = self.server.workspace  # type: ignore[attr-defined]
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        path = urlsplit(self.path).path
        try:
            if path.startswith("/emulator/"):
                return self._send(200, self._emulator(workspace, path, content))
            endpoint = path.removeprefix("/api/2.2/jobs/")
            workspace.requests.append(f"{self.command} {endpoint}")
            fault = self._fault(workspace, endpoint)
            if "status" in fault and not fault.get("after"):
                return self._fail(fault)
            answer = self._do(workspace, path, endpoint, content)
            time.sleep(fault.get("seconds", 0))
            if "status" in fault:
                return self._fail(fault)
            self._send(200, answer)
        except Refused as refused:
            self._send(refused.status, {"error_code": refused.code, "message": str(refused)})

    def _do(self, workspace: Workspace, path: str, endpoint: str, content: bytes) -> Any:
        access: Access = self.server.access  # type: ignore[attr-defined]
        if path == TOKENS:
            return access.give(self.headers.get("Authorization", ""), dict(parse_qsl(content.decode())))
        access.check(self.headers.get("Authorization", ""))
        if path.startswith(FILES):
            return self._file(workspace, "/" + unquote(path.removeprefix(FILES)), content)
        asked = dict(parse_qsl(urlsplit(self.path).query)) | (json.loads(content) if content else {})
        calls: dict[tuple[str, str], Callable[[dict[str, Any]], dict[str, Any]]] = {
            ("POST", "runs/submit"): workspace.submit,
            ("GET", "runs/get"): workspace.get,
            ("GET", "runs/get-output"): workspace.get_output,
            ("POST", "runs/cancel"): workspace.cancel,
        }
        if (self.command, endpoint) not in calls:
            raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for {self.command} {path}")
        return calls[self.command, endpoint](asked)

    def _file(self, workspace: Workspace, name: str, content: bytes) -> dict[str, Any]:
        path = workspace.path(name)
        if self.command == "PUT":
            if path.exists() and "overwrite=true" not in urlsplit(self.path).query:
                raise Refused(409, "ALREADY_EXISTS", f"The file {name} already exists.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        elif not path.is_file():
            raise Refused(404, "NOT_FOUND", f"The file {name} does not exist.")
        return {}

    def _fault(self, workspace: Workspace, endpoint: str) -> dict[str, Any]:
        for fault in workspace.faults:
            if fault["endpoint"] in (endpoint, "*") and fault["times"]:
                fault["times"] -= 1
                return fault
        return {}

    def _fail(self, fault: dict[str, Any]) -> None:
        if fault["status"] == "drop":
            self.close_connection = True
            self.connection.close()
            return
        self._send(fault["status"], {"error_code": "PLANNED", "message": fault.get("message", "planned to fail")})

    def _emulator(self, workspace: Workspace, path: str, content: bytes) -> Any:
        asked = json.loads(content) if content else None
        if path == "/emulator/faults":
            workspace.faults = asked
        elif path == "/emulator/outcomes":
            workspace.outcomes = asked
        elif path == "/emulator/state":
            runs = [
                {
                    "run_id": run.run_id, "state": run.state(), "spec": run.spec,
                    "alive": run.process is not None and run.process.poll() is None, "output": run.output,
                }
                for run in workspace.runs.values()
            ]  # fmt: skip
            return {"runs": runs, "requests": workspace.requests}
        return {}

    def _send(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode() if self.command != "HEAD" else b""
        self.send_response(HTTPStatus(status))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def serve(home: Path, port: int, access: Access, tls: Path | None, environment: Mapping[str, str]) -> None:
    """Serve until the process ends. `tls`: a file with certificate and key of `localhost`. `environment`: what a job's
    process gets, beside its libraries."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    at = f"http://127.0.0.1:{server.server_address[1]}"
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls)
        # in the thread of the request, so that a silent client blocks no other
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        at = f"https://localhost:{server.server_address[1]}"
    known = {name: os.environ[name] for name in ("PATH", "LANG", "JAVA_HOME") if name in os.environ}
    everywhere = {**known, "DATABRICKS_RUNTIME_VERSION": RUNTIME, "EMULATOR": at, **environment}
    server.workspace = Workspace(home, everywhere)  # type: ignore[attr-defined]
    server.access = access  # type: ignore[attr-defined]
    sys.stdout.write(f"{at}\n")
    sys.stdout.flush()
    server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", action="append", default=[])
    parser.add_argument("--principal", action="append", default=[], help="ID:SECRET")
    parser.add_argument("--token-seconds", type=float, default=3600, help="seconds until a principal's token expires")
    parser.add_argument("--tls", type=Path, help="a file with certificate and key of localhost")
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE in the environment of jobs")
    given = parser.parse_args()
    access = Access(given.token, given.principal, given.token_seconds)
    serve(given.home, given.port, access, given.tls, dict(each.split("=", 1) for each in given.set))


if __name__ == "__main__":
    main()
