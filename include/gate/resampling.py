"""How much a measured value could differ by chance: resamples of whole days. Pure functions of arrays.

A bootstrap of days (Efron and Tibshirani 1993, ch. 13): days are drawn with replacement, each with all of its rows.
Rows of a day have causes in common, such as its weather; rows drawn singly would give intervals that are too narrow
(cluster bootstrap, Field and Welsh 2007). An interval is from the 5th to the 95th percentile of the draws, so that each
of its ends is passed by chance in 5 % of cases.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

CONFIDENCE = 0.9
"""The share of draws inside an interval."""
DRAWS = 1000
"""How often days are drawn for a ratio of sums, which costs next to nothing."""
METRIC_DRAWS = 100
"""How often they are drawn for a metric that has to be measured again on the rows of each draw."""
METRIC_ROWS = 10_000
"""Of more rows, this many are taken for such a metric, so that its cost does not depend on the data."""

T = TypeVar("T")
Between = tuple[float, float]
"""The lower and the upper end of an interval."""


def ratio_draws(
    days: np.ndarray, loss: np.ndarray, against: np.ndarray, *, seed: int, resamples: int = DRAWS
) -> np.ndarray:
    """Return for each draw of days the share by which the mean of `loss` exceeds that of `against`.

    Raises:
        ValueError: there is no row.
    """
    if not len(days):
        raise ValueError("no rows to compare")
    _, number = np.unique(days, return_inverse=True)
    count = int(number.max()) + 1
    sums, sums_against = (np.bincount(number, weights=values, minlength=count) for values in (loss, against))
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(drawn @ sums / (drawn @ sums_against) - 1.0)


def metric_draws(days: np.ndarray, measure: Callable[[np.ndarray], T], *, seed: int) -> list[T]:
    """Return what `measure` finds on the rows (their numbers) of each draw of days."""
    rows = sample_of(len(days), METRIC_ROWS, seed)
    return [measure(rows[drawn]) for drawn in day_draws(days[rows], METRIC_DRAWS, seed)]


def day_draws(days: np.ndarray, draws: int, seed: int) -> list[np.ndarray]:
    """Return for each draw of days the numbers of their rows."""
    _, number = np.unique(days, return_inverse=True)
    order = np.argsort(number, kind="stable")
    of_day = np.split(order, np.cumsum(np.bincount(number))[:-1])
    drawn = np.random.default_rng(seed).integers(0, len(of_day), size=(draws, len(of_day)))
    return [np.concatenate([of_day[day] for day in days_drawn]) for days_drawn in drawn]


def sample_of(rows: int, most: int, seed: int) -> np.ndarray:
    """Return the numbers of at most so many rows, in ascending order; the same for the same seed."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def between(draws: Sequence[float] | np.ndarray, days: np.ndarray) -> Between | None:
    """Return the interval of draws; None of a single day, which cannot be drawn differently, or without a number."""
    found = np.asarray(draws, dtype=np.float64)
    found = found[np.isfinite(found)]
    if not len(found) or len(np.unique(days)) < 2:
        return None
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def chance_of_excess(excess: float, limit: float, draws: np.ndarray, days: int) -> float:
    """Return the probability of so large an excess if the true one were the limit: a one-sided p-value.

    It is normal, with the standard error of the draws: a percentile of draws would end at one in a thousand, too coarse
    for many slices. Of 50 sound slices over 5 or 12 days, one or more is refused in 0 to 3 % of simulated cases.
    Student's t with a degree of freedom for each day would miss nearly every bad slice over 5 days (decision 44 has
    the figures).
    """
    from scipy.stats import norm

    spread = float(np.std(draws, ddof=1)) * np.sqrt(days / (days - 1))
    if spread == 0:
        return 0.0 if excess > limit else 1.0
    return float(norm.sf((excess - limit) / spread))


def holm(chances: Sequence[float]) -> list[float]:
    """Return p-values adjusted for how many there are (Holm 1979), in the order given.

    The chance that any of them is under 5 % although nothing is wrong is then at most 5 %, however they depend on each
    other: slices by origin and by company have rows in common.
    """
    order = np.argsort(chances, kind="stable")
    count = len(chances)
    steps = np.asarray(chances, dtype=np.float64)[order] * (count - np.arange(count))
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]
