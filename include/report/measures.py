"""What a report measures. Pure functions of arrays and frames; random numbers come from the model's seed.

Intervals are percentiles of a bootstrap in which whole days are drawn (Efron and Tibshirani 1993, ch. 13; Field and
Welsh 2007): rows of a day have causes in common, so that rows drawn singly would give too narrow an interval.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from include.config.model import Model
from include.gate.checks.slices import Group, Slices
from include.gate.resampling import day_draws, sample_of
from include.report.subject import ReportSubject, by_frequency
from include.training.problem_types import ProblemType

RESAMPLES = 200
CONFIDENCE = 0.95
MAX_MEASURED = 50_000
"""Rows that a resample draws from."""
MAX_PERMUTED = 3_000
REPEATS = 3
MAX_DEPENDENCE = 400
GRID = 9
MAX_GRID_LABELS = 8
MAX_SLICES = 40


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its interval; None where there are too few days, or it is not defined."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class SliceMeasured:
    """The rows with one value of a column: how many, the loss of version, champion and dummy baseline.

    `checked` is whether it has as many rows as the gate's check needs.
    """

    column: str
    value: str
    rows: int
    loss: float
    champion: float | None
    dummy: float
    checked: bool = True


@dataclass(frozen=True)
class Importance:
    """By how much the loss rises if the values of an input are shuffled: the mean, the least and the most."""

    name: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Dependence:
    """What the version predicts on average if an input has each of some values: for each output, a number a value."""

    name: str
    values: tuple[float | str | None, ...]
    predicted: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class ExpectedCost:
    """The cost of a prediction, in the owner's unit, of version, champion and the best constant."""

    unit: str
    version: Estimate
    constant: float
    champion: float | None
    rows_a_day: float
    by_threshold: tuple[tuple[float, float], ...] = ()


def draws(days: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return the places of the rows of each resample; none if there are fewer than two days."""
    return day_draws(days, RESAMPLES, seed) if len(np.unique(days)) > 1 else []


def estimates(
    measure: Callable[[np.ndarray], dict[str, float]], rows: np.ndarray, resamples: Sequence[np.ndarray]
) -> dict[str, Estimate]:
    """Return what a function measures of places of rows, with intervals from resamples of those places."""
    whole = measure(rows)
    drawn = [measure(each) for each in resamples]
    found = {}
    for name, value in whole.items():
        values = [each[name] for each in drawn if name in each and np.isfinite(each[name])]
        if len(values) < max(20, len(drawn) // 2):
            found[name] = Estimate(value)
            continue
        low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        found[name] = Estimate(value, float(low), float(high))
    return found


def metrics_with_intervals(subject: ReportSubject, score: np.ndarray) -> dict[str, Estimate]:
    """Return the metrics of the problem type on the holdout rows, but for the number of rows."""
    kept = sample_of(len(subject.truth), MAX_MEASURED, subject.model.seed)
    truth, score, days = subject.truth[kept], score[kept], subject.days[kept]

    def measure(places: np.ndarray) -> dict[str, float]:
        return {k: v for k, v in subject.problem.metrics(truth[places], score[places]).items() if k != "rows"}

    return estimates(measure, np.arange(len(kept)), draws(days, subject.model.seed))


def difference_to_champion(subject: ReportSubject) -> Estimate | None:
    """Return the share by which the loss is above the champion's on the same rows, paired by day."""
    if subject.champion is None or not len(subject.truth):
        return None
    own = subject.problem.loss_by_row(subject.truth, subject.challenger.score)
    other = subject.problem.loss_by_row(subject.truth, subject.champion.score)

    def measure(places: np.ndarray) -> dict[str, float]:
        return {"share": float(own[places].mean() / other[places].mean() - 1)} if other[places].mean() else {}

    kept = np.arange(len(own))
    return estimates(measure, kept, draws(subject.days, subject.model.seed)).get("share")


def slices(subject: ReportSubject) -> list[SliceMeasured]:
    """Return the slices that the gate's check `slices` declares, the largest first in each column."""
    found: list[SliceMeasured] = []
    problem, champion = subject.problem, subject.champion
    losses = [
        problem.loss_by_row(subject.truth, score)
        for score in (subject.challenger.score, *([champion.score] if champion else []), subject.dummy)
    ]
    for check in subject.model.gate.checks:
        if not isinstance(check, Slices):
            continue
        for column in check.by:
            group = check.groups.get(column)
            values = _values(subject.holdout_rows, column, group)
            for value in by_frequency(values.drop_nulls().to_list(), MAX_SLICES):
                inside = (values == value).fill_null(False).to_numpy()
                own, *other, dummy = (float(loss[inside].mean()) for loss in losses)
                name = str(value) if group else subject.label(column, value)
                against = other[0] if other else None
                count = int(inside.sum())
                found.append(SliceMeasured(column, name, count, own, against, dummy, count >= check.min_rows))
    return found


def _values(rows: pl.DataFrame, column: str, group: Group | None) -> pl.Series:
    if group is None:
        return rows[column].cast(pl.String)
    named = {label: name for name, members in group.values.items() for label in members}
    return rows[group.of].cast(pl.String).replace_strict(named, default=group.otherwise, return_dtype=pl.String)


def importances(subject: ReportSubject) -> list[Importance]:
    """Return the permutation importance of each input (Breiman 2001), the largest first, on up to MAX_PERMUTED rows."""
    seed = subject.model.seed
    rows = subject.holdout_rows[sample_of(subject.holdout_rows.height, MAX_PERMUTED, seed)]
    truth = rows["label"].to_numpy()
    before = float(subject.problem.loss_by_row(truth, subject.predict(rows)).mean())
    found = []
    for place, name in enumerate(subject.challenger.inputs):
        rises = []
        for repeat in range(REPEATS):
            mixed = rows[name].sample(fraction=1, shuffle=True, seed=(seed + 1_000 * repeat + place) % 2**32)
            score = subject.predict(rows.with_columns(mixed.alias(name)))
            rises.append(float(subject.problem.loss_by_row(truth, score).mean()) - before)
        found.append(Importance(name, float(np.mean(rises)), min(rises), max(rises)))
    return sorted(found, key=lambda each: (-each.mean, each.name))


def dependence(subject: ReportSubject, name: str) -> Dependence:
    """Return the partial dependence of an input (Friedman 2001), on up to MAX_DEPENDENCE rows."""
    rows = subject.holdout_rows[sample_of(subject.holdout_rows.height, MAX_DEPENDENCE, subject.model.seed)]
    column = subject.fitted_rows[name]
    values: list[float | str | None]
    if name in subject.challenger.categorical:
        values = list(by_frequency(column.cast(pl.String).to_list(), MAX_GRID_LABELS))
    else:
        finite = column.cast(pl.Float64).drop_nulls().to_numpy()
        grid = np.quantile(finite, np.linspace(0.05, 0.95, GRID)) if len(finite) else np.array([])
        values = [float(each) for each in np.unique(grid)]
    kind = rows[name].dtype
    numeric = pl.Float64 if kind.is_numeric() or kind == pl.Boolean else kind
    mean: dict[str, list[float]] = {}
    for value in values:
        scores = outputs(subject.problem, subject.predict(rows.with_columns(pl.lit(value, numeric).alias(name))))
        for output, score in scores.items():
            mean.setdefault(output, []).append(float(score.mean()))
    return Dependence(name, tuple(values), {output: tuple(each) for output, each in mean.items()})


def outputs(problem: ProblemType, score: np.ndarray) -> dict[str, np.ndarray]:
    """Return the numbers that scores consist of, by name: of a label, of a quantile, or one."""
    if score.ndim == 1:
        return {"probability of 1" if problem.scores_are_probabilities else "prediction": score}
    quantiles = getattr(problem, "quantiles", None)
    names = [f"{q:.0%}" for q in quantiles] if quantiles is not None else list(getattr(problem, "classes", ()))
    return {name: score[:, place] for place, name in enumerate(names)}


def moves(problem: ProblemType, score: np.ndarray, champion: np.ndarray) -> np.ndarray:
    """Return how far the score of each row is from the champion's: the difference, or the total variation distance."""
    if score.ndim == 1:
        return np.asarray(score - champion)
    if problem.predicts_numbers:
        return np.asarray(problem.point(score) - problem.point(champion))
    return np.asarray(0.5 * np.abs(score - champion).sum(axis=1))


def has_costs(model: Model) -> bool:
    """Return whether the owner has written what errors cost."""
    return not any(name.startswith("costs") for name in model.unwritten)


def expected_cost(subject: ReportSubject) -> ExpectedCost | None:
    """Return what predictions cost on the holdout days, None without rows or costs in model.yaml."""
    if not len(subject.truth) or not has_costs(subject.model):
        return None
    problem, truth, costs = subject.problem, subject.truth, subject.model.costs

    def of(score: np.ndarray, threshold: float) -> np.ndarray:
        return costs.by_row(truth, problem.decide(score, threshold), subject.model.classes)

    own = of(subject.challenger.score, subject.challenger.decision_threshold)
    measured = estimates(
        lambda places: {"cost": float(own[places].mean())},
        np.arange(len(own)),
        draws(subject.days, subject.model.seed),
    )
    champion = subject.champion
    if problem.kind == "binary":
        constant = min(float(costs.by_row(truth, np.full(len(truth), n)).mean()) for n in (0.0, 1.0))
        grid = np.unique(np.quantile(subject.challenger.score, np.linspace(0, 1, 41)))
        curve = tuple((float(t), float(of(subject.challenger.score, t).mean())) for t in grid)
    else:
        constant, curve = float(of(subject.dummy, subject.challenger.decision_threshold).mean()), ()
    return ExpectedCost(
        unit=costs.unit,
        version=measured["cost"],
        constant=constant,
        champion=float(of(champion.score, champion.decision_threshold).mean()) if champion else None,
        rows_a_day=len(truth) / max(len(np.unique(subject.days)), 1),
        by_threshold=curve,
    )
