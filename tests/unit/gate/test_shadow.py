"""The rules of a shadow: when it is complete, when it is not worse than the champion, and when it goes on."""

import dataclasses
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from include.config.loading import load_model
from include.gate.checks.champion import Champion
from include.gate.evidence import Evidence, HoldoutScores
from include.gate.shadow import Shadow, ShadowDay, ShadowSoFar, compare_with_shadow
from tests.gate_evidence import DAYS, ROWS, evidence_of, model_of

CHECK = Champion(at_most=0.02, min_rows=600, resamples=300)
FIRST = date(2013, 3, 1)
MODEL = model_of("binary", {"kind": "quality", "metric": "roc_auc", "at_least": 0.6})


def shadow_of(*losses: tuple[float, float], rows: int = 100, **declared: Any) -> ShadowSoFar:
    """Return a shadow with a day for each pair of the losses of shadow and champion."""
    days = [ShadowDay(FIRST + timedelta(days=n), rows, *pair) for n, pair in enumerate(losses)]
    return ShadowSoFar(Shadow.model_validate(declared), CHECK, FIRST, days)


def test_a_shadow_is_complete_with_enough_days_and_enough_rows() -> None:
    assert shadow_of(*[(0.4, 0.4)] * 7).complete
    assert not shadow_of(*[(0.4, 0.4)] * 6).complete
    assert not shadow_of(*[(0.4, 0.4)] * 7, rows=85).complete  # 595 rows, and the check needs 600
    few = shadow_of(*[(0.4, 0.4)] * 6)
    assert few.describe_progress() == "outcomes of 6 of 7 days and 600 of 600 rows are known"
    assert few.last_run_date == date(2013, 3, 31)


@pytest.mark.parametrize(
    ("losses", "passed"),
    [
        ([(0.40, 0.40)] * 7, True),
        ([(0.38, 0.40)] * 7, True),
        ([(0.407, 0.40)] * 7, True),  # by 1.75 % of at most 2 %
        ([(0.409, 0.40)] * 7, False),
        ([(0.36, 0.40), (0.45, 0.40)] * 4, False),  # better by luck on half of the days: at worst, it is not
    ],
)
def test_a_shadow_is_not_worse_by_the_tolerance_of_the_gate(losses: list[tuple[float, float]], passed: bool) -> None:
    verdict = shadow_of(*losses).compare("champion 1", "log_loss", seed=1)
    assert (verdict.name, verdict.subject, verdict.threshold, verdict.passed) == ("shadow", "log_loss", 0.02, passed)


def test_days_count_by_their_rows() -> None:
    """A bad day of few rows weighs little, as if all rows were compared at once."""
    days = [
        *(ShadowDay(FIRST + timedelta(days=n), 1000, 0.4, 0.4) for n in range(7)),
        ShadowDay(FIRST + timedelta(days=7), 10, 0.8, 0.4),
    ]
    verdict = ShadowSoFar(Shadow(), CHECK, FIRST, days).compare("champion 1", "log_loss", seed=1)
    assert verdict.passed
    assert verdict.sentence.startswith("log_loss 0.4006 against 0.4 of champion 1 on the same 7,010 rows of 8 days")


def test_a_loss_that_cannot_be_compared_does_not_pass() -> None:
    """A champion without any loss: no share of it can be allowed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        verdict = shadow_of(*[(0.0, 0.0)] * 7).compare("champion 1", "log_loss", seed=1)
    assert (verdict.measured, verdict.passed) == (None, False)


# --- a newer version and the running shadow ---------------------------------------------------------------------------


def evidence(*, noise_of_shadow: float, days: int = DAYS) -> Evidence:
    """Return evidence of a newer version that scores well, and of a running shadow with some noise."""
    rng = np.random.default_rng(3)
    rate = rng.uniform(0.05, 0.95, ROWS)
    truth = (rng.random(ROWS) < rate).astype(np.float64)
    shadow = np.clip(rate + rng.normal(scale=noise_of_shadow, size=ROWS), 0.02, 0.98)
    made = evidence_of(MODEL, truth=truth, fitted_truth=truth, challenger=rate, linear=rate, champion=shadow)
    return dataclasses.replace(made, days=np.datetime64("2013-03-01") + np.arange(ROWS) % days)


@pytest.mark.parametrize(("noise", "clearly_better"), [(0.0, False), (0.05, False), (0.25, True)])
def test_a_running_shadow_is_reset_only_by_a_version_that_is_clearly_better(noise: float, clearly_better: bool) -> None:
    verdict = compare_with_shadow(Shadow(better_by=0.02), CHECK, evidence(noise_of_shadow=noise), 4)
    assert verdict.passed is clearly_better
    assert "of version 4, the running shadow, on the same 6,000 rows" in verdict.sentence
    assert verdict.sentence.endswith("at most -2.00% is required")


def test_a_better_version_below_the_declared_margin_does_not_reset_it() -> None:
    better = compare_with_shadow(Shadow(better_by=0.02), CHECK, evidence(noise_of_shadow=0.25), 4)
    assert better.measured is not None
    margin = min(0.99, -better.measured + 0.01)
    assert not compare_with_shadow(Shadow(better_by=margin), CHECK, evidence(noise_of_shadow=0.25), 4).passed


def test_a_shadow_that_cannot_score_the_holdout_days_goes_on() -> None:
    missing = dataclasses.replace(
        evidence(noise_of_shadow=0.25), champion=None, champion_missing="the features lack wind, which version 4 needs"
    )
    verdict = compare_with_shadow(Shadow(), CHECK, missing, 4)
    assert (verdict.passed, verdict.measured) == (False, None)


def test_a_shadow_without_a_finite_score_goes_on() -> None:
    scores = HoldoutScores("champion 4", np.full(ROWS, np.nan))
    verdict = compare_with_shadow(
        Shadow(), CHECK, dataclasses.replace(evidence(noise_of_shadow=0.25), champion=scores), 4
    )
    assert not verdict.passed


# --- configuration ----------------------------------------------------------------------------------------------------


def test_a_shadow_that_can_only_expire_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"wait_days \(7\) must be more than days_with_outcomes \(7\)"):
        Shadow(days_with_outcomes=7, wait_days=7)


def test_the_gates_check_against_the_champion_decides_about_a_shadow() -> None:
    assert MODEL.champion_check.min_rows == 3000
    assert load_model("late_ferry").shadow is None
