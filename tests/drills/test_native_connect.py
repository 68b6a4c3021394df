"""Test Spark's own Delta through Spark Connect, as serverless or a laptop's code on a cluster uses it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.databricks.conftest import make_spark_conf
from tests.servers import serving
from tools.spark_server import SPARK_SETTINGS, spark_server
from tools.stack import ROOT

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]


def test_it_holds_there_too(tmp_path: Path) -> None:
    conf = {"SPARK_CONF_DIR": str(make_spark_conf(tmp_path / "conf")), "SPARK_LOCAL_DIRS": str(tmp_path)}
    with serving(spark_server, env=os.environ | SPARK_SETTINGS | conf, cwd=tmp_path) as (port, _):
        tests = [sys.executable, "-m", "pytest", "-q", "tests/databricks/test_native.py"]
        remote = {"SPARK_REMOTE": f"sc://127.0.0.1:{port}"}
        done = subprocess.run(tests, cwd=ROOT, env=os.environ | remote, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
