"""What needs no Spark of `io/spark.py`."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from include.io import spark


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
