"""What needs no Spark of `io/spark.py`."""

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
    r"SparkSession\.(builder|getActiveSession)|SparkContext|SparkConf": "makes a session of its own",
    r"\.sparkContext\b|\.rdd\b|\._jvm\b|\._jsparkSession\b": "asks for what a Spark Connect server does not give",
}


def test_what_a_killed_step_left_is_swept_when_no_step_can_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old, new, foreign = (tmp_path / name for name in ("nightly-spark-old", "nightly-spark-new", "another"))
    for folder in (old, new, foreign):
        folder.mkdir()
        (folder / "rows.parquet").touch()
    for folder in (old, foreign):
        os.utime(folder, (time.time() - spark.KEPT_SECONDS - 60,) * 2)
    spark._sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "nightly-spark-new"]


def test_where_spark_runs_is_decided_in_one_place() -> None:
    """So that SPARK_REMOTE, Databricks and a Spark of one's own all run the same code."""
    files = [path for folder in ("include", "dags", "plugins") for path in (ROOT / folder).rglob("*.py")]
    assert ROOT / OWN in files
    wrong = []
    for path in files:
        name, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        for pattern, does in DECIDES.items():
            allowed = name == OWN and does not in ("names a master", "names a server")
            wrong += [] if allowed else [f"{name}: {found[0]!r} {does}" for found in re.finditer(pattern, text)]
    assert not wrong, (
        f"take the session of include.io.spark.job() (or session()); {OWN}, its spark_conf/ and SPARK_REMOTE say where "
        "it runs:\n" + "\n".join(wrong)
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
def test_whose_spark_it_is(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], there: bool) -> None:
    for name in ("DATABRICKS_RUNTIME_VERSION", "SPARK_REMOTE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert spark.on_databricks() == there
