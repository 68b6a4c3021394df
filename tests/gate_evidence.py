"""Evidence for the gate of a problem type, made of a few arrays, and the gate's table of verdicts as text."""

import dataclasses
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from include.config.loading import load_model
from include.config.model import Model
from include.core.records import Check
from include.gate.config import Gate
from include.gate.evidence import Evidence, FormerChampion, HoldoutScores
from include.gate.rules import run_checks

ROWS, DAYS = 6000, 12
ORIGINS = np.array(["BAT", "PAU"])[np.arange(ROWS) % 2]
SHARED = (
    {"kind": "enough_rows", "at_least": 3000},
    {"kind": "dummy_baseline", "at_least": 0.02},
    {"kind": "linear_baseline", "at_most": 0.01},
    {"kind": "champion", "min_rows": 3000, "resamples": 300},
    {"kind": "slices", "by": ["origin"], "min_rows": 200},
)


def model_of(problem_type: str, *checks: dict[str, Any], **settings: Any) -> Model:
    """Return a model of a problem type with these checks, SHARED and the defaults of all others."""
    gate = Gate.model_validate({"checks": [*SHARED, *checks]})
    return load_model("late_ferry").model_copy(update={"problem_type": problem_type, "gate": gate, **settings})


def evidence_of(
    model: Model,
    *,
    truth: np.ndarray,
    fitted_truth: np.ndarray,
    challenger: np.ndarray,
    linear: np.ndarray,
    champion: np.ndarray,
    **more: Any,
) -> Evidence:
    """Return evidence of these outcomes and scores, with ROWS rows each."""
    return Evidence(
        problem_type=model.problem,
        inputs=model.features,
        seed=model.seed,
        days=np.datetime64("2013-03-01") + np.arange(ROWS) % DAYS,
        truth=truth,
        labels=made_up(model, rows=ROWS, seed=1).with_columns(origin=pl.Series(ORIGINS)),
        fitted=made_up(model, rows=len(fitted_truth), seed=2).__getitem__,
        fitted_truth=fitted_truth,
        challenger=HoldoutScores("version 2", challenger, model.features),
        candidates={"linear": HoldoutScores("linear", linear, model.features)},
        champion=HoldoutScores("champion 1", champion, model.features),
        champion_saw=date(2013, 2, 20),
        microseconds_per_row=8.0,
        megabytes=0.5,
        too_late=np.zeros(ROWS, dtype=bool),
        refit=lambda _, shuffled, test: model.problem.repeat(model.problem.constant(shuffled), len(test)),
        former_champions=lambda most: [FormerChampion(0, champion, saw=date(2013, 2, 10))][:most],
        **more,
    )


def made_up(model: Model, *, rows: int, seed: int) -> pl.DataFrame:
    """Return inputs of a model that know nothing of any outcome."""
    rng = np.random.default_rng(seed)
    numbers = {name: rng.normal(size=rows) for name in model.numeric}
    return pl.DataFrame({**numbers, **{name: rng.choice(["A", "B", "C"], rows) for name in model.categorical}})


def with_score(evidence: Evidence, score: np.ndarray, *, as_champion: bool = False) -> Evidence:
    """Return the evidence with another score of the challenger, and of champion and linear baseline if so wished."""
    challenger = dataclasses.replace(evidence.challenger, score=score)
    changed = dataclasses.replace(evidence, challenger=challenger)
    if not as_champion:
        return changed
    linear = dataclasses.replace(challenger, name="linear")
    champion = dataclasses.replace(challenger, name="champion 1")
    return dataclasses.replace(changed, candidates={"linear": linear}, champion=champion)


def decided(model: Model, evidence: Evidence) -> tuple[Check, ...]:
    """Run the gate."""
    return run_checks(model.all_checks, evidence)


def failed(checks: Sequence[Check]) -> list[str]:
    """Return the names of the checks that did not pass, each once."""
    return list(dict.fromkeys(check.name for check in checks if not check.passed))


def table(checks: Sequence[Check]) -> str:
    """Return the verdicts as people read them."""
    return "\n".join(f"{'✓' if check.passed else '✗'} {check.name}: {check.sentence}" for check in checks)
