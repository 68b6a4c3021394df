"""How far scores are from observed rates. Pure functions of arrays."""

import numpy as np


def expected_calibration_error(truth: np.ndarray, score: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error, from 0 (best) to 1; truth is 0 or 1.

    Rows are sorted by score into `bins` of equal count. The error is the distance of mean score and observed rate in
    each bin, weighted by rows (Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian
    Binning, AAAI 2015).

    Rows of equal score take their common rate, so that the order in which they come does not matter.
    """
    order = np.argsort(score, kind="stable")
    _, tied, count = np.unique(score[order], return_inverse=True, return_counts=True)
    rate = (np.bincount(tied, weights=truth[order]) / count)[tied]
    gaps = np.array_split(score[order] - rate, bins)
    return float(sum(abs(gap.sum()) for gap in gaps) / len(truth))
