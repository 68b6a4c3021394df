"""How a fit is used and how good it is. Pure functions of frames."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import polars as pl
from sklearn.metrics import (
    brier_score_loss,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)

ProblemType = Literal["binary", "regression"]

CHOSEN_BY: Mapping[ProblemType, str] = {"binary": "log_loss", "regression": "mae"}
"""The metric by which the best candidate is chosen, the least being best.

log_loss, not roc_auc: what is published is a probability and a decision by a fixed threshold, so its level counts, not
the order of rows alone. mae, not rmse: a few very late flights must not choose the model."""


def inputs(frame: pl.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> pd.DataFrame:
    """What estimators take: numbers as float64 with NaN for missing, labels as objects with None for missing."""
    return frame.select(
        *(pl.col(name).cast(pl.Float64) for name in numeric), *(pl.col(name).cast(pl.String) for name in categorical)
    ).to_pandas()


def predict(problem_type: ProblemType, estimator: Any, features: pd.DataFrame) -> np.ndarray:
    """A score a row: the probability of 1, or the predicted value."""
    if problem_type == "binary":
        return np.asarray(estimator.predict_proba(features)[:, 1], dtype=np.float64)
    return np.asarray(estimator.predict(features), dtype=np.float64)


def metrics(problem_type: ProblemType, truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """How good scores are on rows whose outcome is known. What is not defined (one class, no row) is left out.

    Classification: log_loss, brier, base_rate, and roc_auc. Regression: mae and rmse (in the outcome's unit), r2.
    """
    measured = {"rows": float(len(truth))}
    if not len(truth):
        return measured
    if problem_type == "binary":
        measured |= {
            "log_loss": log_loss(truth, score, labels=[0.0, 1.0]),
            "brier": brier_score_loss(truth, score),
            "base_rate": float(truth.mean()),
        }
        if 0.0 < measured["base_rate"] < 1.0:
            measured["roc_auc"] = roc_auc_score(truth, score)
    else:
        measured |= {
            "mae": mean_absolute_error(truth, score),
            "rmse": float(np.sqrt(mean_squared_error(truth, score))),
        }
        if truth.var() > 0:
            measured["r2"] = r2_score(truth, score)
    return {name: float(value) for name, value in measured.items() if np.isfinite(value)}


def expected_calibration_error(truth: np.ndarray, score: np.ndarray, bins: int = 10) -> float:
    """How far scores are from observed rates: rows sorted by score in `bins` of equal count, the distance of mean
    score and observed rate in each, weighted by rows (Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated
    Probabilities Using Bayesian Binning, AAAI 2015). From 0, which is best, to 1; truth is 0 or 1.

    Rows of equal score take their common rate, so that the order in which they come does not matter.
    """
    order = np.argsort(score, kind="stable")
    _, tied, count = np.unique(score[order], return_inverse=True, return_counts=True)
    rate = (np.bincount(tied, weights=truth[order]) / count)[tied]
    gaps = np.array_split(score[order] - rate, bins)
    return float(sum(abs(gap.sum()) for gap in gaps) / len(truth))
