"""A complete local stack, beside others on this machine: it is started, used, killed, repaired and stopped.

The tests of this file build on each other and run in this order.
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.integration.stranger import NOBODY, Doors, listening, try_all
from tools import processes
from tools.spark_server import TOKEN_FILE
from tools.stack import MLFLOW, ROOT, SERVICES, SPARK, USUAL_PORTS, Stack, one_start_at_a_time

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

DAG = '''
"""An Airflow DAG file that imports from the bundle. Its task returns the variables and connections that it gets."""
import os
from functools import partial

from airflow.sdk import Connection, dag, task
from airflow.sdk.bases.decorator import task_decorator_factory

from dags.common import ModelTask
from include import BUNDLED


@dag(dag_id="{dag_id}", schedule=None, is_paused_upon_creation=False)
def look():
    @task
    def find() -> dict:
        names = ("artifacts", "database", "hash_key", "journal", "landing", "mlflow", "tables")
        found = [Connection.get(f"nightly_{{name}}").conn_id for name in names]
        return {{"variables": [name for name in os.environ if name.startswith("NIGHTLY_")], "connections": found}}

    @partial(task_decorator_factory, decorated_operator_class=ModelTask)
    def evaluate():
        return {{"run_id": "abc", "model": "late_ferry", "model_version": 3}}

    @task
    def build_features():
        lacks = {{"winds": "knows no accepted file of 2024-03-02, and goes on without"}}
        return {{"prepared_days": [{{"day": "2024-03-03", "lacks": lacks}}, {{"day": "2024-03-02", "lacks": {{}}}}]}}

    find() >> evaluate()
    build_features()


look()
'''

COMMON = """
from airflow.providers.standard.decorators.python import _PythonDecoratedOperator

class ModelTask(_PythonDecoratedOperator):
    pass
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Yield a running stack with its own small bundle, started while the usual ports are taken."""
    with ExitStack() as others, pytest.MonkeyPatch.context() as environment:
        # Not in pytest's folder: each session makes it unreadable for the user that runs PostgreSQL for root.
        folder = Path(others.enter_context(tempfile.TemporaryDirectory(prefix="nightly-stack-")))
        make_bundle(folder / "bundle")
        stack = Stack(folder / "home", bundle=folder / "bundle")
        for port in USUAL_PORTS.values():
            with suppress(OSError):  # a stack of this machine may already hold the port
                others.enter_context(socket.create_server(("127.0.0.1", port)))
        environment.setenv("NIGHTLY_TABLES", "/left/by/a/sourced/env")
        try:
            stack.start(schedule=False, mlflow=True)
            yield stack
        finally:
            stack.stop()


def make_bundle(folder: Path) -> None:
    for place in ("dags", "include", ".venv/lib", ".local"):
        (folder / place).mkdir(parents=True)
        (folder / place / "look.py").write_text(DAG.format(dag_id=place.strip(".").replace("/", "_")))
    (folder / ".venv" / "lib64").symlink_to(
        "lib"
    )  # every venv has this link, and Airflow's search for DAG files fails on it
    (folder / "include" / "__init__.py").write_text("BUNDLED = True\n")
    shutil.copy(ROOT / ".airflowignore", folder)
    (folder / "dags" / "common.py").write_text(COMMON)
    shutil.copytree(ROOT / "plugins", folder / "plugins")


def in_shell(stack: Stack, commands: str) -> list[str]:
    script = f'set -eu\n. "{stack.home}/env"\n{commands}'
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def running_pids(stack: Stack) -> dict[str, int | None]:
    status = stack.status()
    assert all(service.healthy for service in status), status
    return {service.name: service.pid for service in status}


def test_a_second_stack_waits_until_the_first_has_chosen_its_ports() -> None:
    with tempfile.TemporaryDirectory(prefix="nightly-stack-") as folder, one_start_at_a_time(print):
        script = "import sys; from pathlib import Path; from tools.stack import Stack; "
        script += "Stack(Path(sys.argv[1]), say=lambda text: print(text, flush=True)).start()"
        command = [sys.executable, "-c", script, folder]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "waiting for another stack to start\n"
            other.kill()
        assert not (Path(folder) / "state.json").exists()
        assert processes.find_processes(Path(folder)) == []


def test_the_stack_is_healthy_on_its_own_ports(stack: Stack) -> None:
    assert set(running_pids(stack)) == {"postgres", *SERVICES, SPARK, MLFLOW}
    ports = json.loads((stack.home / "state.json").read_text())["ports"]
    assert not set(ports.values()) & set(USUAL_PORTS.values())
    with stack.api() as api:
        assert api.get("/api/v2/version").json()["version"] == "3.3.2"


def run_dag(stack: Stack) -> tuple[str, Any]:
    """Run the bundle's DAG; return the path of its run in the API, and the result of its task."""
    with stack.api() as api:
        deadline = time.monotonic() + 60
        while not (dags := [dag["dag_id"] for dag in api.get("/api/v2/dags").json()["dags"]]):
            assert time.monotonic() < deadline, stack.log("dag-processor")
            time.sleep(0.2)
        assert dags == ["dags"], ".airflowignore must leave only dags/ to parse"

        path = "/api/v2/dags/dags/dagRuns"
        run = api.post(path, json={"logical_date": None}).raise_for_status().json()["dag_run_id"]
        while (state := api.get(f"{path}/{run}").json()["state"]) in ("queued", "running"):
            assert time.monotonic() < deadline + 60, stack.log("scheduler")
            time.sleep(0.2)
        assert state == "success"
        return f"{path}/{run}", api.get(f"{path}/{run}/taskInstances/find/xcomEntries/return_value").json()["value"]


def test_the_note_of_a_run_says_what_its_run_dates_went_on_without(stack: Stack) -> None:
    run, _ = run_dag(stack)
    with stack.api() as api:
        note = api.get(run).raise_for_status().json()["note"]
    assert note == (
        "Goes on without something (view data_quality). "
        "winds: 2024-03-03 knows no accepted file of 2024-03-02, and goes on without"
    )


def test_dags_of_the_bundle_run_and_resolve_connections_only(stack: Stack) -> None:
    _, found = run_dag(stack)
    assert sorted(found["variables"]) == ["NIGHTLY_PROJECTS", TOKEN_FILE, processes.MARKER]
    assert len(found["connections"]) == 7


def test_after_sourcing_env_commands_use_the_stack(stack: Stack) -> None:
    sql = "SELECT current_user, current_database()"
    assert in_shell(stack, f'psql "$READER_URL" -Atc "{sql}"; psql "$DATABASE_URL" -Atc "{sql}"') == [
        "reader|nightly",
        "nightly|nightly",
    ]
    assert in_shell(stack, "airflow dags list --output plain --columns dag_id 2>/dev/null")[-1].strip() == "dags"
    assert in_shell(stack, 'echo "${NIGHTLY_STACK-none} $NIGHTLY_TABLES"') == [f"none {stack.home}/tables"]
    assert in_shell(stack, 'echo "$SPARK_REMOTE"') == [stack.spark_url]
    assert (stack.home / "env").stat().st_mode & 0o077 == 0, "the file contains keys: only its owner may read it"


@pytest.mark.drill
def test_starting_again_changes_nothing(stack: Stack) -> None:
    before = running_pids(stack)
    Stack(stack.home, bundle=stack.bundle).start()
    assert running_pids(stack) == before


@pytest.mark.drill
def test_mlflow_is_served_and_tasks_link_to_it(stack: Stack) -> None:
    assert stack.mlflow_url is not None and not stack.mlflow_url.endswith(f":{USUAL_PORTS['mlflow']}")
    with httpx.Client(base_url=stack.mlflow_url, trust_env=False, auth=stack.login) as mlflow:
        assert "<title>MLflow</title>" in mlflow.get("/").text
        found = mlflow.post("/api/2.0/mlflow/experiments/search", json={"max_results": 1}).raise_for_status().json()
        assert found["experiments"], "MLflow must use the database of the stack"
    of_mlflow = [process.cmdline() for process in processes.find_processes(stack.home) if is_of_mlflow(process)]
    assert of_mlflow
    assert "postgresql" not in str(of_mlflow), "the command line must not contain the URL, which may have a password"

    run, _ = run_dag(stack)
    with stack.api() as api:
        path = f"{run}/taskInstances"
        assert api.get(f"{path}/find/links").json()["extra_links"] == {}
        assert api.get(f"{path}/evaluate/links").json()["extra_links"] == {
            "MLflow run": f"{stack.mlflow_url}/#/runs/abc",
            "Model version": f"{stack.mlflow_url}/#/models/late_ferry/versions/3?workflowType=machine_learning",
        }


def is_of_mlflow(process: psutil.Process) -> bool:
    return "mlflow" in " ".join(process.cmdline()) and process.name() != "postgres"


@pytest.mark.drill
def test_start_repairs_a_killed_stack_whose_process_ids_belong_to_others_now(stack: Stack) -> None:
    url, before = stack.api_url, running_pids(stack)
    for process in processes.find_processes(stack.home):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    processes.await_end(processes.find_processes(stack.home), 10)
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        replace(stack.home / "state.json", str(before["scheduler"]), str(stranger.pid))
        for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            replace(stack.home / "postgres" / lock, str(before["postgres"]), str(stranger.pid))
        repaired = Stack(stack.home, bundle=stack.bundle)
        repaired.start()
        after = running_pids(repaired)
        assert MLFLOW in after
        assert not set(after.values()) & {*before.values(), stranger.pid}
        assert repaired.api_url == url
        assert stranger.poll() is None
        assert os.getsid(stranger.pid) == stranger.pid
    finally:
        stranger.kill()
        stranger.wait()


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def doors_of(stack: Stack) -> Doors:
    """Return all doors of a stack, as its owner finds them."""
    state = json.loads((stack.home / "state.json").read_text())
    of_stack = processes.find_processes(stack.home)
    keys = json.loads((stack.home / "secrets.json").read_text())
    spark = psutil.Process(state["services"]["spark"]["pid"])
    named = [file.path for process in of_stack for file in process.open_files() if file.path.startswith("/tmp")]
    sockets = {str(c.laddr) for process in of_stack for c in process.net_connections(kind="unix")} - {""}
    return Doors(
        files=sorted({*named, *map(str, stack.home.rglob("*"))}),
        sockets=sorted(sockets),
        pids=[process.pid for process in of_stack],
        ports={name: port for name, port in state["ports"].items() if name != "spark"},
        jvm_ports=sorted(port for _, port in listening([spark]) if port != state["ports"]["spark"]),
        postgres=str(stack.home / "postgres"),
        spark=stack.spark_url or "",
        secrets=sorted({*keys.values()}),
    )


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def test_everything_listens_on_loopback_only(stack: Stack) -> None:
    found = listening(processes.find_processes(stack.home))
    assert {address for address, _ in found} == {"127.0.0.1"}
    ports = json.loads((stack.home / "state.json").read_text())["ports"]
    assert set(ports.values()) <= {port for _, port in found}
    assert len(found) == len(ports) + 2, "the driver and the block manager of Spark"


def test_everything_in_the_folder_of_a_stack_is_its_owners(stack: Stack) -> None:
    """The folder itself is closed; this is the second lock."""
    run_dag(stack)  # tasks write logs, and Airflow chooses their modes
    found = {path: path.lstat() for path in stack.home.rglob("*") if not path.is_symlink()}
    assert [str(path) for path, status in found.items() if status.st_mode & 0o077] == []
    assert any(path.suffix == ".log" and "run_id" in str(path) for path in found)
    assert stack.home.stat().st_mode & (0o067 if os.geteuid() == 0 else 0o077) == 0


@needs_root
def test_another_user_of_the_machine_finds_every_door_closed(stack: Stack) -> None:
    doors = doors_of(stack)
    assert set(doors.ports) == {"api", "mlflow", "trigger_log", "worker_log"}
    assert len(doors.jvm_ports) == 2
    assert str(stack.home / "secrets.json") in doors.files
    assert doors.sockets
    assert try_all(doors, user=NOBODY) == []


def test_the_doors_open_for_those_who_have_the_keys(stack: Stack) -> None:
    """Otherwise the test above could pass because its attempts are wrong."""
    with stack.api() as api:
        basic = base64.b64encode(":".join(stack.login).encode()).decode()
        headers = {
            "api": {"Authorization": api.headers["Authorization"]},
            "mlflow": {"Authorization": f"Basic {basic}"},
        }
    token_file = str(stack.home / "spark_token")
    opened = try_all(doors_of(stack).model_copy(update={"headers": headers, "token_file": token_file}), user=None)
    kinds = {line.partition(":")[0] for line in opened}
    assert kinds == {"file", "socket", "process", "api", "mlflow", "postgres", "spark"}
    assert "mlflow: POST /api/2.0/mlflow/experiments/create as itself" in opened
    assert "api: GET /api/v2/connections as itself" in opened
    assert "spark: runs code" in opened
    assert not [line for line in opened if "mlflow" in line and "evil" in line]


def test_stop_leaves_no_process(stack: Stack) -> None:
    stack = Stack(stack.home, bundle=stack.bundle)
    # A task's child in its own session, like a JVM: only the marker shows that it belongs to the stack.
    environment = stack.environment()
    orphan = subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True)
    stack.stop()
    assert processes.find_processes(stack.home) == []
    assert orphan.wait(timeout=5)
    assert not any(service.healthy for service in stack.status())
    assert stack.stop() == []
