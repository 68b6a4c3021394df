"""The parts of `io/spark.py` that need no running Spark."""

import os
import re
import tempfile
import time
from pathlib import Path

import pytest

from include.io import spark
from tools.stack import ROOT

OWN = "include/io/spark.py"
DECIDES = {
    r"\.master\(|[\"']spark\.master": "names a master",
    r"\.remote\(": "names a server",
    r"SparkSession\.(builder|getActiveSession)|SparkContext|SparkConf": "creates its own session",
    r"\.sparkContext\b|\.rdd\b|\._jvm\b|\._jsparkSession\b": "uses what a Spark Connect server does not support",
}
BROADCAST = ("include/io/executors.py", "uses what a Spark Connect server does not support")
"""What is sent to executors goes by broadcast where there is no server, and by its artifacts where there is one."""


def test_folders_of_killed_steps_are_removed_once_no_step_can_need_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old, new, foreign = (tmp_path / name for name in ("nightly-spark-old", "nightly-spark-new", "another"))
    for folder in (old, new, foreign):
        folder.mkdir()
        (folder / "rows.parquet").touch()
    for folder in (old, foreign):
        os.utime(folder, (time.time() - spark.KEPT_SECONDS - 60,) * 2)
    spark.sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "nightly-spark-new"]


def test_only_one_module_decides_where_spark_runs() -> None:
    """SPARK_REMOTE, Databricks and a local Spark must all run the same code."""
    files = [path for folder in ("include", "dags", "plugins") for path in (ROOT / folder).rglob("*.py")]
    assert ROOT / OWN in files
    wrong = []
    for path in files:
        name, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        for pattern, does in DECIDES.items():
            allowed = (name == OWN and does not in ("names a master", "names a server")) or (name, does) == BROADCAST
            wrong += [] if allowed else [f"{name}: {found[0]!r} {does}" for found in re.finditer(pattern, text)]
    assert not wrong, (
        f"use the session of include.io.spark.job() (or session()); {OWN}, its spark_conf/ and SPARK_REMOTE decide "
        "where it runs:\n" + "\n".join(wrong)
    )


@pytest.mark.parametrize(
    ("variables", "there"),
    [
        ({}, False),
        ({"SPARK_REMOTE": "sc://127.0.0.1:15002"}, False),
        ({"DATABRICKS_RUNTIME_VERSION": "17.3"}, True),
        ({"SPARK_REMOTE": "sc://dbc-1.cloud.databricks.com:443/;token=t;x-databricks-cluster-id=0101-a"}, True),
    ],
)
def test_databricks_is_detected_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], there: bool
) -> None:
    for name in ("DATABRICKS_RUNTIME_VERSION", "SPARK_REMOTE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert spark.on_databricks() == there
