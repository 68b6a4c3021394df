"""The gate of a model that counts: a good model passes, and each check refuses the model that is bad in its way."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from include.gate.evidence import Evidence
from tests.gate_evidence import ORIGINS, ROWS, decided, evidence_of, failed, model_of, table, with_score

MODEL = model_of(
    "count",
    {"kind": "quality", "metric": "d2", "at_least": 0.2},
    {"kind": "changed_decisions", "over": 3},
)


def good() -> Evidence:
    """Return evidence of a model that knows the expected sales of each store, and of weeks that differ."""
    rng = np.random.default_rng(3)
    expected = np.exp(rng.normal(1, 0.6, ROWS))
    return evidence_of(
        MODEL,
        truth=rng.poisson(expected).astype(float),
        fitted_truth=rng.poisson(expected).astype(float),
        challenger=expected,
        linear=expected * 0.8 + 0.6,
        champion=expected * 0.98 + 0.06,
        naive=rng.poisson(expected).astype(float),
    )


def test_a_good_model_passes_every_check() -> None:
    checks = decided(MODEL, good())
    assert failed(checks) == [], table(checks)
    assert [check.name for check in checks] == [
        *("enough rows", "quality", "calibration", "dummy baseline", "linear baseline", "seasonal naive", "champion"),
        *("slices", "slices", "changed decisions", "score shift", "leakage check", "single input"),
        *("newer inputs", "newer inputs", "scoring time", "size", "signature", "former champions", "shuffled labels"),
    ]


def half_of(evidence: Evidence) -> Evidence:
    """Expect the half: the order is right, and the level is too low."""
    return with_score(evidence, evidence.challenger.score / 2, as_champion=True)


def zero(evidence: Evidence) -> Evidence:
    """Say that nothing is sold anywhere, which has a small absolute error where sales are rare."""
    return with_score(evidence, np.zeros(ROWS))


def mean(evidence: Evidence) -> Evidence:
    return with_score(evidence, np.full(ROWS, evidence.fitted_truth.mean()))


def worse_than_last_week(evidence: Evidence) -> Evidence:
    """Last week is nearly this week, and the model knows less."""
    return replace(evidence, naive=evidence.truth + (np.arange(ROWS) % 4 == 0))


def wrong_for_one_origin(evidence: Evidence) -> Evidence:
    wrong = np.where(ORIGINS == "PAU", np.roll(evidence.challenger.score, 2), evidence.challenger.score)
    return with_score(evidence, wrong, as_champion=True)


def leaking(evidence: Evidence) -> Evidence:
    return with_score(evidence, np.maximum(evidence.truth, 0.01))


RELATIVE = {"linear baseline", "champion", "changed decisions", "score shift"}
ZERO = {*RELATIVE, "quality", "calibration", "seasonal naive", "slices"}


@pytest.mark.parametrize(
    ("planted", "check", "implied"),
    [
        (half_of, "calibration", {"quality", "dummy baseline", "seasonal naive"}),
        (zero, "dummy baseline", ZERO),
        (mean, "quality", {*RELATIVE, "dummy baseline", "seasonal naive"} - {"changed decisions"}),
        (worse_than_last_week, "seasonal naive", set()),
        (wrong_for_one_origin, "slices", {"quality", "dummy baseline", "seasonal naive"}),
        (leaking, "leakage check", {"score shift"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_bad_model_is_refused_by_its_check(
    planted: Callable[[Evidence], Evidence], check: str, implied: set[str]
) -> None:
    checks = decided(MODEL, planted(good()))
    assert set(failed(checks)) == {check, *implied}, table(checks)


def test_the_seasonal_naive_is_left_out_where_most_entities_have_no_history() -> None:
    rare = np.where(np.arange(ROWS) % 3 == 0, 0.0, np.nan)
    for naive in (None, rare):
        checks = decided(MODEL, replace(good(), naive=naive))
        assert "seasonal naive" not in {check.name for check in checks}
