"""Features of a project are tried, on Spark without data: by the command `check_config`, and for a new model."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from include.config.loading import load_model
from include.core.project import Project
from tests.own_projects import FOLDER
from tools.new_model import new_model

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
FERRIES = FOLDER / "ferries"

FAULTS = {
    "project.yaml": [
        ("timezone: America/New_York", "timezone: America/New_Yrok"),
        ("    lookback_days: 27", "    lookback_dais: 27"),
        ("CASE WHEN delay_minutes IS", "CASE WHEN delay_minute IS"),
    ],
    "expectations.yaml": [("column: distance_miles", "column: distance_mils"), ("warning}\n\nlog", "warnin}\n\nlog")],
    "features.py": [("import functions as F", "import functionz as F")],
    "models/late_ferry/model.yaml": [("outcome: late_ferry", "outcome: late_fery")],
    "models/late_ferry/estimator.py": [("def build(", "def build[(")],
    "models/ferry_delay/model.yaml": [("params: {alpha: 1}", "params: {alfa: 1}")],
}


def test_one_file_that_is_wrong_hides_no_other(tmp_path: Path) -> None:
    shutil.copytree(FERRIES, tmp_path / "ferries", ignore=shutil.ignore_patterns("__pycache__"))
    lines = set()
    for name, faults in FAULTS.items():
        file = tmp_path / "ferries" / name
        text = file.read_text(encoding="utf-8")
        for right, wrong in faults:
            assert right in text
            text = text.replace(right, wrong, 1)
            lines.add((str(file), text[: text.index(wrong)].count("\n") + 1))
        file.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "include.cli", "check_config", "--project", "ferries"],
        cwd=ROOT,
        env=os.environ | {"NIGHTLY_PROJECTS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    *found, summary = done.stdout.splitlines()
    assert done.returncode == 1
    assert {(line.split(":")[0], int(line.split(":")[1])) for line in found} == lines, done.stdout + done.stderr
    assert summary == f"✗ ferries: {len(lines)} problems in 6 files"


def test_features_are_tried_and_models_compared_with_them(tmp_path: Path) -> None:
    shutil.copytree(FERRIES, tmp_path / "ferries", ignore=shutil.ignore_patterns("__pycache__"))
    model = tmp_path / "ferries" / "models" / "late_ferry" / "model.yaml"
    text = model.read_text(encoding="utf-8")
    text = text.replace("  - leaving_hour", "  - leaving_our").replace("categorical: [company,", "categorical: [month,")
    model.write_text(text, encoding="utf-8")
    with (tmp_path / "ferries" / "project.yaml").open("a", encoding="utf-8") as project:
        project.write("public_page: {models: [late_fery]}\n")
    done = subprocess.run(
        [sys.executable, "-m", "include.cli", "check_config", "--project", "ferries", "--format", "github"],
        cwd=ROOT,
        env=os.environ | {"NIGHTLY_PROJECTS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    line = text[: text.index("  - leaving_our")].count("\n") + 1
    wrong = "numeric.0: features.py returns no column 'leaving_our'; did you mean 'leaving_hour'?"
    assert f"::error file={model},line={line}::{wrong}" in done.stdout.splitlines(), done.stdout + done.stderr
    assert "categorical.0: 'month' is a number; list it as numeric" in done.stdout
    assert "public_page.models.0: there is no model 'late_fery'; did you mean 'late_ferry'?" in done.stdout


def test_the_first_model_of_a_project_takes_all_that_features_return(
    load_changed: Callable[..., Project], tmp_path: Path
) -> None:
    load_changed("ferries", lambda declared: None)
    shutil.rmtree(tmp_path / "ferries" / "models")
    folder = new_model("ferries", "second", "late_ferry", None, tmp_path)
    model = load_model("second")
    assert (model.problem_type, model.categorical) == ("binary", ("company", "dest", "origin"))
    assert {"leaving_hour", "late_rate_origin_28d", "is_holiday"} <= {*model.numeric}
    assert (folder / "estimator.py").is_file()
