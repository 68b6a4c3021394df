"""A stack with one small project whose versions people and shadows decide about, in a folder of `NIGHTLY_PROJECTS`.

`late_ferry` asks people, `ferry_delay` tries each version as a shadow. Thresholds are so wide that each version passes.
"""

import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.own_projects import FOLDER

ASKED, TRIED = "late_ferry", "ferry_delay"
WIDE: dict[str, dict[str, float]] = {
    "enough_rows": {"at_least": 100},
    "champion": {"at_most": 0.5, "min_rows": 50},
    "linear_baseline": {"at_most": 0.5},
    "changed_decisions": {"at_most": 0.9},
    "slices": {"at_most": 0.5, "min_rows": 30},
}
OF_TYPE: dict[str, dict[str, dict[str, float]]] = {
    "binary": {
        "quality": {"at_least": 0.5},
        "calibration": {"at_most": 0.5},
        "calibration_error": {"at_most": 0.5},
        "score_shift": {"at_most": 0.5},
        "leakage_check": {"at_most": 0.99},
    },
    "regression": {
        "quality": {"at_most": 60},
        "calibration": {"at_most": 60},
        "score_shift": {"at_most": 60},
        "leakage_check": {"at_most": 0.99},
    },
}
MORE = [{"kind": "former_champions", "at_most": 0.5}, {"kind": "scoring_time", "at_most": 50_000}]
SHORT = {"train_days": 28, "holdout_days": 7, "min_fit_days": 10}


def declare(folder: Path, **decisions: dict[str, Any]) -> None:
    """Copy the project `ferries` into a folder; let each model learn from fewer days and have a decision declared."""
    shutil.copytree(FOLDER / "ferries", folder / "ferries", ignore=shutil.ignore_patterns("__pycache__"))
    for name, decision in decisions.items():
        path = folder / "ferries" / "models" / name / "model.yaml"
        declared = yaml.safe_load(path.read_text(encoding="utf-8")) | SHORT | decision
        wide = WIDE | OF_TYPE[declared["problem_type"]]
        for check in declared["gate"]["checks"]:
            check.update(wide.get(check["kind"], {}))
        declared["gate"]["checks"] += MORE
        path.write_text(yaml.safe_dump(declared, sort_keys=False), encoding="utf-8")
