"""Old rows of Airflow's own metadata are removed by its own command, but none of a run that has not ended."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.dags.conftest import ROOT
from tools.airflow_cleanup import clean_before

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)

FILL = """
import json, sys
from datetime import UTC, datetime, timedelta
from airflow.models.dagrun import DagRun
from airflow.utils import db
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType, DagRunType

db.initdb()
now = datetime.now(UTC)
with create_session() as session:
    for run_id, days, state in json.loads(sys.argv[1]):
        began = now - timedelta(days=days)
        session.add(DagRun(dag_id="d", run_id=run_id, run_type=DagRunType.SCHEDULED, logical_date=began,
            run_after=began, start_date=began, state=state, triggered_by=DagRunTriggeredByType.TIMETABLE))
"""
LEFT = """
import json
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session

with create_session() as session:
    print("LEFT " + json.dumps(sorted(run.run_id for run in session.query(DagRun))))
"""


@pytest.mark.parametrize(
    ("active_days", "kept_days"), [(None, 400), (3, 400), (500, 500)], ids=["none", "a new run", "an old run"]
)
def test_nothing_goes_that_is_as_new_as_a_run_that_has_not_ended(active_days: int | None, kept_days: int) -> None:
    active = NOW - timedelta(days=active_days) if active_days else None
    assert clean_before(NOW, 400, active) == NOW - timedelta(days=kept_days)


@pytest.mark.drill
@pytest.mark.timeout(600)
def test_airflow_removes_old_runs_and_a_dry_run_removes_none(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "PYTHONPATH": str(ROOT),
    }

    def python(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def left() -> list[str]:
        [line] = [each for each in python("-c", LEFT).splitlines() if each.startswith("LEFT ")]
        return list(json.loads(line.removeprefix("LEFT ")))

    runs = [["older", 600, "success"], ["active", 500, "running"], ["old", 450, "success"], ["new", 1, "success"]]
    python("-c", FILL, json.dumps(runs))
    python("-m", "tools.airflow_cleanup", "--dry-run")
    assert left() == ["active", "new", "old", "older"]
    python("-m", "tools.airflow_cleanup")
    assert left() == ["active", "new", "old"], "what began after the active run stays"
