"""The gate of a model that predicts limits: a good model passes, and each check refuses the model bad in its way."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from include.gate.evidence import Evidence
from tests.gate_evidence import ORIGINS, ROWS, decided, evidence_of, failed, model_of, table, with_score

MODEL = model_of(
    "quantile",
    {"kind": "quality", "metric": "d2", "at_least": 0.1},
    {"kind": "changed_decisions", "over": 15},
    {"kind": "score_shift", "at_most": 6},
)
Z = np.array([-1.2816, 0.0, 1.2816])  # the quantiles 0.1, 0.5 and 0.9 of a normal distribution


def good() -> Evidence:
    """Return evidence of a model that knows expectation and spread of each row."""
    rng = np.random.default_rng(3)
    expected, spread = rng.normal(50, 15, ROWS), rng.uniform(4, 12, ROWS)
    truth, before, fitted = (expected + spread * rng.normal(size=ROWS) for _ in range(3))
    return evidence_of(
        MODEL,
        truth=truth,
        fitted_truth=fitted,
        challenger=expected[:, None] + spread[:, None] * Z,
        linear=expected[:, None] + 8 * Z,
        champion=expected[:, None] + 1 + (spread[:, None] + 0.5) * Z,
        naive=before,
    )


def test_a_good_model_passes_every_check() -> None:
    checks = decided(MODEL, good())
    assert failed(checks) == [], table(checks)
    assert [check.name for check in checks] == [
        *("enough rows", "quality", "calibration", "dummy baseline", "linear baseline", "seasonal naive", "champion"),
        *("slices", "slices", "changed decisions", "score shift", "leakage check", "single input"),
        *("newer inputs", "newer inputs", "scoring time", "size", "signature", "former champions", "shuffled labels"),
    ]


def too_narrow(evidence: Evidence) -> Evidence:
    """Limits that are a third as wide: the predicted number is right, and how sure it is, is not."""
    middle = evidence.challenger.score[:, [1]]
    return with_score(evidence, middle + (evidence.challenger.score - middle) / 3, as_champion=True)


def too_wide(evidence: Evidence) -> Evidence:
    """Limits that no outcome is beyond: they are always right, and say nothing."""
    middle = evidence.challenger.score[:, [1]]
    return with_score(evidence, middle + (evidence.challenger.score - middle) * 4, as_champion=True)


def constants(evidence: Evidence) -> Evidence:
    return with_score(evidence, np.tile(np.quantile(evidence.fitted_truth, [0.1, 0.5, 0.9]), (ROWS, 1)))


def worse_than_last_week(evidence: Evidence) -> Evidence:
    return replace(evidence, naive=evidence.truth + 2)


def wrong_for_one_origin(evidence: Evidence) -> Evidence:
    other = np.roll(evidence.challenger.score, 2, axis=0)
    return with_score(
        evidence, np.where((ORIGINS == "PAU")[:, None], other, evidence.challenger.score), as_champion=True
    )


def leaking(evidence: Evidence) -> Evidence:
    return with_score(evidence, evidence.truth[:, None] + 0.1 * Z, as_champion=True)


@pytest.mark.parametrize(
    ("planted", "check", "implied"),
    [
        (too_narrow, "calibration", set()),
        (too_wide, "calibration", set()),
        (
            constants,
            "dummy baseline",
            {"quality", "linear baseline", "seasonal naive", "champion", "changed decisions", "score shift"},
        ),
        (worse_than_last_week, "seasonal naive", set()),
        (wrong_for_one_origin, "slices", {"quality", "calibration", "dummy baseline", "seasonal naive"}),
        (leaking, "leakage check", {"calibration"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_bad_model_is_refused_by_its_check(
    planted: Callable[[Evidence], Evidence], check: str, implied: set[str]
) -> None:
    checks = decided(MODEL, planted(good()))
    assert set(failed(checks)) == {check, *implied}, table(checks)
