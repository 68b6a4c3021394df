"""How a fit is used and how good it is, whatever its problem type. Pure functions of frames.

What depends on the problem type is in `problem_types`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from include.training.calibration import expected_calibration_error as expected_calibration_error
from include.training.problem_types import PROBLEM_TYPES, get_problem_type

CHOSEN_BY = {kind: each.chosen_by for kind, each in PROBLEM_TYPES.items()}
"""Problem type -> the metric by which the best candidate is chosen, the least being best."""


def inputs(frame: pl.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> pd.DataFrame:
    """Return what estimators take: numbers as float64 with NaN for missing, labels as objects with None for missing."""
    return frame.select(
        *(pl.col(name).cast(pl.Float64) for name in numeric), *(pl.col(name).cast(pl.String) for name in categorical)
    ).to_pandas()


def predict(problem_type: str, estimator: Any, features: pd.DataFrame) -> np.ndarray:
    """Return a score (f64) for each row."""
    return get_problem_type(problem_type).predict(estimator, features)


def metrics(problem_type: str, truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """Measure scores on rows whose outcome is known; what is not defined (one class, no row) is left out."""
    return get_problem_type(problem_type).metrics(truth, score)
