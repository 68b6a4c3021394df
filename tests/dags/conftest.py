"""Give Airflow a home folder before its first import, and parse the bundle once."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.own_projects import use_own_projects

ROOT = Path(__file__).parents[2]

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-dags-test-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
use_own_projects()
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # as Airflow does with the bundle's root


@pytest.fixture(scope="session")
def bag() -> Any:
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(ROOT / "dags", bundle_path=ROOT, bundle_name="nightly-ml")
