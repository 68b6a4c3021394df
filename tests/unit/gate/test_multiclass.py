"""The gate of a model of several labels: a good model passes, and each check refuses the model bad in its way."""

from collections.abc import Callable

import numpy as np
import pytest

from include.gate.evidence import Evidence
from tests.gate_evidence import ORIGINS, ROWS, decided, evidence_of, failed, model_of, table, with_score

MODEL = model_of(
    "multiclass",
    {"kind": "quality", "metric": "balanced_accuracy", "at_least": 0.5},
    classes=("early", "on time", "late"),
)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def drawn(rng: np.random.Generator, rates: np.ndarray) -> np.ndarray:
    """Return a label for each row, by its rates."""
    return (rng.random(len(rates))[:, None] > rates.cumsum(axis=1)).sum(axis=1).astype(float)


def good() -> Evidence:
    """Return evidence of a model that knows the rate of each label."""
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(ROWS, 3)) * 1.3 + [0.3, 0.0, -0.3]
    return evidence_of(
        MODEL,
        truth=drawn(rng, softmax(logits)),
        fitted_truth=drawn(rng, softmax(logits)),
        challenger=softmax(logits),
        linear=softmax(logits * 0.8),
        champion=softmax(logits * 0.95),
    )


def test_a_good_model_passes_every_check() -> None:
    checks = decided(MODEL, good())
    assert failed(checks) == [], table(checks)
    assert [check.name for check in checks] == [
        *(
            "enough rows",
            "quality",
            "calibration",
            "calibration error",
            "dummy baseline",
            "linear baseline",
            "champion",
        ),
        *("slices", "slices", "changed decisions", "score shift", "leakage check", "single input"),
        *("newer inputs", "newer inputs", "scoring time", "size", "signature", "former champions", "shuffled labels"),
    ]


def favourite(evidence: Evidence) -> Evidence:
    """Say `late` too often: the order of rows is right, the level is not."""
    tilted = evidence.challenger.score * [1.0, 1.0, 1.6]
    return with_score(evidence, tilted / tilted.sum(axis=1, keepdims=True), as_champion=True)


def too_sure(evidence: Evidence) -> Evidence:
    """Be as right as before, and more sure of it."""
    return with_score(evidence, softmax(2.2 * np.log(evidence.challenger.score)), as_champion=True)


def rates(evidence: Evidence) -> Evidence:
    """Predict the most frequent label for all: a good accuracy where it is frequent, and no skill."""
    shares = np.bincount(evidence.fitted_truth.astype(int)) / ROWS
    return with_score(evidence, np.tile(shares, (ROWS, 1)))


def wrong_for_one_origin(evidence: Evidence) -> Evidence:
    other = np.roll(evidence.challenger.score, 2, axis=0)
    return with_score(
        evidence, np.where((ORIGINS == "PAU")[:, None], other, evidence.challenger.score), as_champion=True
    )


def leaking(evidence: Evidence) -> Evidence:
    return with_score(evidence, np.where(np.arange(3) == evidence.truth[:, None], 0.98, 0.01), as_champion=True)


@pytest.mark.parametrize(
    ("planted", "check", "implied"),
    [
        (favourite, "calibration", set()),
        (too_sure, "calibration error", set()),
        (
            rates,
            "dummy baseline",
            {"quality", "linear baseline", "champion", "changed decisions", "score shift"},
        ),
        (wrong_for_one_origin, "slices", {"calibration error", "dummy baseline", "quality"}),
        (leaking, "leakage check", set()),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_bad_model_is_refused_by_its_check(
    planted: Callable[[Evidence], Evidence], check: str, implied: set[str]
) -> None:
    checks = decided(MODEL, planted(good()))
    assert set(failed(checks)) == {check, *implied}, table(checks)
