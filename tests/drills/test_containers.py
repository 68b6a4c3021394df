"""Kill each container in the middle of a nightly run, restart the whole stack, upgrade it, and restore a backup.

To let a container die, its first process is killed from outside, as the kernel does when memory runs out. Docker then
restarts it. `docker kill` counts as a stop by an operator (in 20.10), so that nothing restarts before `make up`. The
drill of everything at once does this.
"""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.containers.composed import BEFORE, DAGS, MODEL, Composed, find_engine, started
from tools.stack import ROOT

pytestmark = pytest.mark.timeout(2400)

PREPARE, TRAIN, SCORE, MONITOR = DAGS

# for each service, the task that runs while it is killed
KILLED = {
    "postgres": (PREPARE, "build_features"),
    "store": (PREPARE, "validate"),
    "spark": (PREPARE, "build_features"),
    "scheduler": (TRAIN, "fit"),
    "api-server": (TRAIN, "evaluate"),
    "dag-processor": (PREPARE, "validate"),
    "mlflow": (TRAIN, "fit"),
}
FIRST = BEFORE + timedelta(days=1)
DAYS = {name: FIRST + timedelta(days=n) for n, name in enumerate(KILLED)}
WAITED, RESTARTED, UPGRADED, RESTORED, QUEUED = (FIRST + timedelta(days=len(KILLED) + n) for n in range(5))

MIGRATION = '''"""A drill's migration."""

from alembic import op

revision = "9999"
down_revision = "{head}"


def upgrade() -> None:
    op.execute("CREATE TABLE drilled (n integer)")
'''


@pytest.fixture(scope="module")
def composed() -> Iterator[Composed]:
    if why_not := find_engine():
        pytest.skip(f"no containers here: {why_not}")
    if os.geteuid() != 0:
        pytest.skip("only root can kill the process of a container from outside")
    with started("nightly-ml-drills") as composed:
        composed.make_history(DAYS["mlflow"])
        yield composed


def published(composed: Composed) -> list[str]:
    """Return the published rows of each day, with a hash that changes when one of them changes."""
    sql = f"""SELECT day, count(*), count(DISTINCT entity_id), sum(hashtextextended(entity_id || score::text, 0))
        FROM current_predictions WHERE model = '{MODEL}' GROUP BY 1 ORDER BY 1"""
    return composed.query(sql).splitlines()


def agrees(composed: Composed, day: date) -> None:
    """Check that every day up to this one is published completely and once, and that `cli check` finds nothing."""
    composed.check(day)
    found = [row.split("|") for row in published(composed)]
    assert [date.fromisoformat(row[0]) for row in found] == [
        BEFORE + timedelta(days=n) for n in range((day - BEFORE).days + 1)
    ]
    assert all(rows == entities for _, rows, entities, _ in found)


def kill(composed: Composed, service: str) -> int:
    """Kill the first process of a service's container; return how often it was restarted before."""
    found = composed.inspect(service)
    os.kill(found["State"]["Pid"], signal.SIGKILL)
    return int(found["RestartCount"])


@pytest.mark.parametrize("service", KILLED)
def test_a_nightly_run_survives_the_death_of_a_container(composed: Composed, service: str) -> None:
    before = published(composed)
    run_id = composed.trigger(DAYS[service])
    composed.await_task(*KILLED[service], run_id)
    restarts = kill(composed, service)
    composed.follow(run_id)
    assert composed.inspect(service)["RestartCount"] == restarts + 1
    agrees(composed, DAYS[service])
    assert published(composed)[:-1] == before


def test_a_run_that_waits_for_files_survives_the_death_of_the_triggerer(composed: Composed) -> None:
    run_id = composed.trigger(WAITED)
    composed.await_task(PREPARE, "wait_for_files", run_id, "deferred")
    restarts = kill(composed, "triggerer")
    composed.land(WAITED, QUEUED)  # later drills need these files too
    composed.follow(run_id)
    assert composed.inspect("triggerer")["RestartCount"] == restarts + 1
    agrees(composed, WAITED)


def test_a_nightly_run_survives_a_restart_of_everything(composed: Composed) -> None:
    run_id = composed.trigger(RESTARTED)
    composed.await_task(PREPARE, "build_features", run_id)
    composed.compose("kill")
    assert not [name for name, container in composed.containers().items() if container["State"] == "running"]
    composed.up()
    composed.follow(run_id)
    agrees(composed, RESTARTED)


def test_the_next_run_uses_a_new_image_with_a_new_migration(composed: Composed) -> None:
    before = published(composed)
    old = composed.settings["NIGHTLY_IMAGE"]
    new = f"{composed.name}:next"
    head = composed.query("SELECT version_num FROM nightly_ml_version")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "migration.py").write_text(MIGRATION.format(head=head), encoding="utf-8")
        target = "/opt/nightly-ml/include/io/migrations/versions/9999_drill.py"
        Path(folder, "Dockerfile").write_text(f"FROM {old}\nCOPY migration.py {target}\n", encoding="utf-8")
        subprocess.run(
            ["docker", "build", "--quiet", "--tag", new, folder], check=True, env=os.environ | {"DOCKER_BUILDKIT": "0"}
        )
    composed.compose("exec", "-T", "scheduler", "airflow", "pools", "set", "backfill", "3", "smaller")
    # as docs/deploy-compose.md says
    composed.compose("stop")
    composed.write_env(NIGHTLY_IMAGE=new)
    composed.up()
    assert composed.query("SELECT version_num FROM nightly_ml_version") == "9999"
    assert composed.query("SELECT count(*) FROM drilled") == "0"
    assert composed.inspect("scheduler")["Config"]["Image"] == new
    assert composed.get("/pools/backfill")["slots"] == 3, "what a person has set must stay"
    composed.run_date(UPGRADED)
    agrees(composed, UPGRADED)
    assert published(composed)[:-1] == before


def test_a_backup_restores_everything_on_an_empty_server(composed: Composed, tmp_path: Path) -> None:
    before, runs = published(composed), composed.get(f"/dags/{PREPARE}/dagRuns")["total_entries"]
    backup = [str(ROOT / "tools" / "containers" / "backup")]
    options = ["--project-name", composed.name, "--env-file", str(composed.env)]
    environment = os.environ | {"COMPOSE_OPTIONS": " ".join(options)}
    subprocess.run([*backup, "save", str(tmp_path / "saved")], check=True, env=environment)
    composed.compose("down", "--volumes")
    subprocess.run([*backup, "restore", str(tmp_path / "saved")], check=True, env=environment)
    composed.up()
    assert published(composed) == before
    assert composed.get(f"/dags/{PREPARE}/dagRuns")["total_entries"] == runs
    composed.run_date(RESTORED)
    agrees(composed, RESTORED)


def test_a_nightly_run_survives_the_death_of_a_worker_and_of_the_queue(composed: Composed) -> None:
    composed.write_env(AIRFLOW_EXECUTOR="CeleryExecutor", COMPOSE_PROFILES="celery")
    composed.up()
    run_id = composed.trigger(QUEUED)
    composed.await_task(PREPARE, "build_features", run_id)
    kill(composed, "worker")
    composed.await_task(TRAIN, "fit", run_id)
    kill(composed, "redis")
    composed.follow(run_id)
    assert [composed.inspect(service)["RestartCount"] for service in ("worker", "redis")] == [1, 1]
    agrees(composed, QUEUED)
