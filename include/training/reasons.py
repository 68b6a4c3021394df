"""Why a model predicts what it predicts: by how much each input moves a score from that of a typical row. Pure.

The contributions are Shapley values by sampled orders (Štrumbelj and Kononenko 2014), with one typical row as the
background (the baseline Shapley value of Sundararajan and Najmi 2020) and each order used backwards too (Mitchell,
Cooper, Frank and Holmes 2022). The inputs of the typical row are replaced by those of the row one after the other, and
the change of the score is the contribution of the input that was replaced. So contributions of any model add up: they
are the difference of the two scores. For a model without interactions, such as a linear one, they are exact.

They are on the scale on which models add up: log-odds of a probability, the logarithm of an expected number, else the
outcome's unit.
"""

import json
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from include.training.problem_types import ProblemType

PAIRS = 1
"""Orders that are drawn; each is used forwards and backwards."""
SEED = 20180612
"""Of the orders: the same for all rows and runs, so that a row has the same reasons in each backfill."""
BLOCK_ROWS = 50_000
"""Rows that are scored at once."""
DIGITS = 6
"""Significant digits that are stored: a sum on another number of rows differs in the last bits, and these not."""
LEAST = 1e-9
"""Probabilities and expected numbers are cut there, so that no logarithm is infinite."""

Predict = Callable[[pl.DataFrame], np.ndarray]


def typical_row(rows: pl.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> pl.DataFrame:
    """Return one row with the median of each number and the most frequent label; null where there is no value."""
    values: dict[str, pl.Series] = {}
    for name in numeric:
        values[name] = pl.Series([rows[name].cast(pl.Float64).fill_nan(None).median()], dtype=pl.Float64)
    for name in categorical:
        labels = rows[name].cast(pl.String).drop_nulls()
        values[name] = pl.Series(labels.mode().sort().head(1).to_list() or [None], dtype=pl.String)
    return pl.DataFrame(values)


def explain(predict: Predict, problem: ProblemType, rows: pl.DataFrame, typical: pl.DataFrame, top: int) -> list[str]:
    """Return the strongest contributions to the score of each row, as JSON.

    Args:
        predict: scores a frame with the columns of `typical`.
        problem: what the scores are.
        rows: at least the columns of `typical`.
        typical: one row.
        top: the most contributions of a row; those of 0 are left out.

    Returns:
        For each row `{"base": score of the typical row, "rest": sum of all other contributions, "top": [[input,
        contribution], …]}`: base, rest and contributions add up to the score, on the scale of `linked`.
    """
    of_block = max(1, BLOCK_ROWS // max(1, 2 * PAIRS * (len(typical.columns) - 1)))
    found: list[str] = []
    for at in range(0, rows.height, of_block):
        block = rows.slice(at, of_block).select(pl.col(name).cast(kind) for name, kind in typical.schema.items())
        base, contributions = contributions_of(predict, problem, block, typical)
        found += [_told(typical.columns, *each, top) for each in zip(base, contributions, strict=True)]
    return found


def contributions_of(
    predict: Predict, problem: ProblemType, rows: pl.DataFrame, typical: pl.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Return the score of the typical row for each row (n), and the contribution of each input (n x inputs).

    Both are on the scale of `linked`. The first is the same for all rows, but for a multiclass model, where it is that
    of the label that is predicted for the row.
    """
    names, count = typical.columns, rows.height
    random = np.random.default_rng(SEED)
    forwards = [random.permutation(len(names)) for _ in range(PAIRS)]
    orders = [each for order in forwards for each in (order, order[::-1])]
    mixed = [
        rows.select(pl.col(name) if at in replaced else pl.lit(typical[name]).first().alias(name)
                    for at, name in enumerate(names))
        for order in orders
        for replaced in ({*order[:length].tolist()} for length in range(1, len(names)))
    ]  # fmt: skip
    score = predict(pl.concat([typical, rows, *mixed]))
    own = score[1 : count + 1]
    base = linked(problem, np.repeat(score[:1], count, axis=0), own)
    last = linked(problem, own, own)
    between = linked(problem, score[count + 1 :], np.concatenate([own] * len(mixed))) if mixed else np.empty(0)
    steps = between.reshape(len(orders), len(names) - 1, count)
    contributions = np.zeros((count, len(names)))
    for order, path in zip(orders, steps, strict=True):
        changes = np.diff(np.vstack([base, path, last]), axis=0)
        contributions[:, order] += changes.T / len(orders)
    return base, contributions


def linked(problem: ProblemType, score: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return scores on the scale on which models add up.

    Args:
        problem: what the scores are.
        score: the scores.
        of: scores of as many rows, whose most probable label is the one to look at (multiclass).
    """
    if problem.scores_are_probabilities:
        likely = score if score.ndim == 1 else score[np.arange(len(score)), of.argmax(axis=1)]
        likely = np.clip(likely, LEAST, 1 - LEAST)
        return np.asarray(np.log(likely) - np.log1p(-likely))
    point = problem.point(score)
    return np.log(np.maximum(point, LEAST)) if problem.kind == "count" else point


def _told(names: Sequence[str], base: float, contributions: np.ndarray, top: int) -> str:
    rounded = [_rounded(each) for each in contributions]
    strongest = sorted(range(len(names)), key=lambda at: -abs(rounded[at]))[:top]
    chosen = [[names[at], rounded[at]] for at in strongest if rounded[at]]
    rest = contributions.sum() - sum(contributions[at] for at in strongest)
    return json.dumps({"base": _rounded(base), "rest": _rounded(rest), "top": chosen}, ensure_ascii=False)


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}") if abs(number) > LEAST else 0.0
