"""What a single input says about the outcome, without any model. Pure functions of arrays and frames.

The rows fitted on are divided by the value of one input: numbers at their quantiles, labels as they are, missing values
by themselves. Each part predicts the constant that fits it best, and that prediction is measured on the holdout rows.
So an input that has the outcome in it is found whatever the model made of it, and honest inputs with many labels are
not flattered, since other rows are measured than those that the constants are from.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from include.gate.resampling import sample_of
from include.training.problem_types import ProblemType

if TYPE_CHECKING:  # every DAG file loads this module
    import polars as pl

PARTS = 64
"""Into how many parts numbers are divided."""
LEAST_ROWS = 20
"""A part with fewer rows predicts what all rows together would."""
MOST_ROWS = 20_000
"""Of more rows, this many are taken, so that the cost does not depend on the data."""


def metric_of(problem_type: ProblemType) -> str:
    """Return the metric that says how much an input alone knows."""
    return "roc_auc" if "roc_auc" in problem_type.gate_metrics else "d2"


def limit_of(problem_type: ProblemType) -> float:
    """Return what no honest input reaches by itself: the limit of `leakage_check` if it is of the same metric."""
    leakage = problem_type.leakage
    return leakage.threshold if leakage.metric == metric_of(problem_type) else 0.8


def measure_inputs(
    problem_type: ProblemType,
    inputs: Sequence[str],
    fitted: "Callable[[np.ndarray], pl.DataFrame]",
    fitted_truth: np.ndarray,
    held_out: "pl.DataFrame",
    truth: np.ndarray,
    *,
    seed: int,
) -> dict[str, float]:
    """Return for each input how much it alone knows of the outcome, the most first; without those not measurable.

    `fitted` returns the features of the rows fitted on, by their numbers.
    """
    learn, test = (sample_of(len(values), MOST_ROWS, seed) for values in (fitted_truth, truth))
    if not len(learn) or not len(test):
        return {}
    metric, found, learned = metric_of(problem_type), {}, fitted(learn)
    for name in inputs:
        if name not in learned.columns or name not in held_out.columns:
            continue
        score = scores_of_input(problem_type, learned[name], fitted_truth[learn], held_out[name][test])
        quality = problem_type.explained if metric == "d2" else problem_type.metrics
        value = quality(truth[test], score).get(metric)
        if value is not None and np.isfinite(value):
            found[name] = float(value)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def scores_of_input(
    problem_type: ProblemType, learned: "pl.Series", learned_truth: np.ndarray, scored: "pl.Series"
) -> np.ndarray:
    """Return the scores that rows get from the values of one input, as the rows fitted on teach them."""
    own, other = _parts(learned, scored)
    overall = np.asarray(problem_type.constant(learned_truth))
    score = problem_type.repeat(overall, len(other)).copy()
    order = np.argsort(own, kind="stable")
    numbers, first = np.unique(own[order], return_index=True)
    for number, rows in zip(numbers, np.split(order, first[1:]), strict=True):
        if number >= 0 and len(rows) >= LEAST_ROWS:
            constant = np.asarray(problem_type.constant(learned_truth[rows]))
            # One row of all kinds is added, so that what never happened in a part is not called impossible.
            score[other == number] = (len(rows) * constant + overall) / (len(rows) + 1)
    return score


def _parts(learned: "pl.Series", scored: "pl.Series") -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each value's part; -1 for a label that was not learned."""
    import polars as pl

    if learned.dtype == pl.String:
        labels = learned.drop_nulls().unique().sort()
        known = dict(zip(labels.to_list(), range(len(labels)), strict=True))
        own, other = (
            np.array([known.get(value, -1) if value is not None else len(labels) for value in values], dtype=np.int64)
            for values in (learned.to_list(), scored.to_list())
        )
        return own, other
    own_values, other_values = (values.cast(pl.Float64).fill_null(np.nan).to_numpy() for values in (learned, scored))
    there = own_values[np.isfinite(own_values)]
    edges = np.unique(np.quantile(there, np.linspace(0, 1, PARTS + 1)[1:-1])) if len(there) else np.array([])
    placed = [
        np.where(np.isfinite(values), np.searchsorted(edges, values, side="right"), len(edges) + 1)
        for values in (own_values, other_values)
    ]
    return placed[0], placed[1]
