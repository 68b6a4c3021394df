"""Errors of predicted numbers as shares of the outcomes, so that they mean the same in any unit. Pure functions."""

from collections.abc import Mapping

import numpy as np

RELATIVE_ERRORS: Mapping[str, str] = {
    "wape": "sum of absolute errors as a share of the sum of absolute outcomes; not defined when all outcomes are 0",
    "mape": "mean of absolute errors as shares of their outcomes; not defined when an outcome is 0",
}
"""The metrics of `relative_errors`, with their meanings."""


def relative_errors(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return wape and mape, without what is not defined.

    Both belong together: mape counts a small outcome as much as a large one, wape counts units.
    """
    errors, size = np.abs(truth - predicted), np.abs(truth)
    measured = {}
    if size.sum() > 0:
        measured["wape"] = float(errors.sum() / size.sum())
    if len(size) and size.min() > 0:
        measured["mape"] = float((errors / size).mean())
    return measured
