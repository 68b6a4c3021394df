"""What it would have cost on the holdout days to decide otherwise: by another threshold, or with predictions raised.

Pure. The same rows are used for each way to decide, so differences are paired; their intervals are of resamples of
whole days, as in `gate/resampling.py`. The best way on some rows looks better there than it is: `later` is what the
best of the earlier half of the days costs on the later half.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log10

import numpy as np

from include.gate.resampling import DRAWS
from include.report.measures import CONFIDENCE, Estimate, has_costs
from include.report.subject import ReportSubject

GRID = 41
TENTHS = tuple(round(n / 10, 1) for n in range(1, 10))
CHANGES = (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.5)
"""By which share all counts are raised or lowered, in the table."""
SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""How many outcomes are not above the prediction, in the table for other numbers."""


@dataclass(frozen=True)
class Alternative:
    """One way to decide.

    Attributes:
        name: in words.
        at: its place on the axis.
        cost: of a prediction, in the owner's unit.
        difference: of that to the current way, on the same rows.
        rates: how the rows are decided, by name: shares of rows.
    """

    name: str
    at: float
    cost: Estimate
    difference: Estimate
    rates: dict[str, float]


@dataclass(frozen=True)
class Later:
    """The best way of the earlier half of the days, measured on the later half."""

    name: str
    days: int
    difference: Estimate


@dataclass(frozen=True)
class Alternatives:
    """The ways to decide.

    Attributes:
        axis: what differs between them.
        unit: of the costs.
        current: the place of the current way.
        curve: all ways, in order of their place.
        table: those that people ask for.
        cheapest: the way with the least cost on these days.
        by_theory: the sentence about what is best if scores are right; None if nothing is known about it.
        rows_a_day: predictions a day.
        later: None if there are too few days.
    """

    axis: str
    unit: str
    current: float
    curve: tuple[Alternative, ...]
    table: tuple[Alternative, ...]
    cheapest: Alternative
    by_theory: str | None
    rows_a_day: float
    later: Later | None


@dataclass(frozen=True)
class Ways:
    """A family of ways to decide: their places, how they decide, and what people call them."""

    axis: str
    current: float
    grid: Sequence[float]
    asked: Sequence[float]
    decide: Callable[[float], np.ndarray]
    name: Callable[[float], str]
    rates: Callable[[np.ndarray], dict[str, float]]
    by_theory: str | None = None


def alternatives(subject: ReportSubject) -> Alternatives | None:
    """Return what other ways to decide would have cost; None without rows or costs in `model.yaml`."""
    if not len(subject.truth) or not has_costs(subject.model):
        return None
    ways, costs = _ways(subject), subject.model.costs
    places = sorted({*ways.grid, *ways.asked, ways.current})
    by_row = [costs.by_row(subject.truth, ways.decide(at), subject.model.classes) for at in places]
    days, number = np.unique(subject.days, return_inverse=True)
    count = np.bincount(number, minlength=len(days)).astype(np.float64)
    by_day = np.array([np.bincount(number, weights=cost, minlength=len(days)) for cost in by_row])
    own = by_day[places.index(ways.current)]

    def difference(costs_of_days: np.ndarray, to: np.ndarray, rows: np.ndarray) -> Estimate:
        return _mean(costs_of_days - to, rows, subject.model.seed)

    found = tuple(
        Alternative(
            ways.name(at),
            at,
            _mean(of_days, count, subject.model.seed),
            difference(of_days, own, count),
            ways.rates(ways.decide(at)),
        )
        for at, of_days in zip(places, by_day, strict=True)
    )
    least = int(by_day.sum(axis=1).argmin())
    shown = {*(each for each in ways.asked if each in places), ways.current, places[least]}
    later = None
    if (half := len(days) // 2) > 1:
        best = int(by_day[:, :half].sum(axis=1).argmin())
        later = Later(
            ways.name(places[best]), len(days) - half, difference(by_day[best, half:], own[half:], count[half:])
        )
    return Alternatives(
        axis=ways.axis,
        unit=costs.unit,
        current=ways.current,
        curve=found,
        table=tuple(each for each in found if each.at in shown),
        cheapest=found[least],
        by_theory=ways.by_theory,
        rows_a_day=len(subject.truth) / len(days),
        later=later,
    )


def _mean(by_day: np.ndarray, rows: np.ndarray, seed: int) -> Estimate:
    """Return a mean over rows, with its interval from sums of days."""
    value = float(by_day.sum() / rows.sum())
    if len(rows) < 2:
        return Estimate(value)
    drawn = np.random.default_rng(seed).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=DRAWS)
    low, high = np.quantile(drawn @ by_day / (drawn @ rows), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, float(low), float(high))


def _ways(subject: ReportSubject) -> Ways:
    problem = subject.problem
    if problem.kind == "binary":
        return _thresholds(subject)
    return _raised(subject) if problem.predicts_numbers else _rules(subject)


def _thresholds(subject: ReportSubject) -> Ways:
    score, truth, costs = subject.challenger.score, subject.truth, subject.model.costs
    low, high = float(score.min()), float(score.max())
    false_positive, false_negative = costs.false_positive or 0.0, costs.false_negative or 0.0
    theory = None
    if total := false_positive + false_negative:
        theory = (
            f"By theory, the threshold {false_positive / total:.3g} is best if scores are right as probabilities: "
            f"{false_positive:g} / ({false_positive:g} + {false_negative:g})."
        )

    def rates(decided: np.ndarray) -> dict[str, float]:
        return {
            "predicted as 1": float(decided.mean()),
            "false positive rate": _share(decided == 1, truth == 0),
            "false negative rate": _share(decided == 0, truth == 1),
            "precision": _share(truth == 1, decided == 1),
        }

    return Ways(
        axis="decision threshold",
        current=subject.challenger.decision_threshold,
        grid=np.unique(np.quantile(score, np.linspace(0, 1, GRID)).round(max(4, decimals_of(high - low)))).tolist(),
        asked=[each for each in TENTHS if low < each < high],
        decide=lambda at: subject.problem.decide(score, at),
        name=lambda at: f"threshold {at:.3g}",
        rates=rates,
        by_theory=theory,
    )


def _raised(subject: ReportSubject) -> Ways:
    """Return predictions that are all raised or lowered: counts by a share, other numbers by an amount."""
    point, truth, costs = subject.problem.point(subject.challenger.score), subject.truth, subject.model.costs
    under, over = costs.under or 0.0, costs.over or 0.0
    theory = None
    if under + over:
        theory = (
            f"By theory, {under / (under + over):.0%} of outcomes should not be above the prediction: "
            f"{under:g} / ({under:g} + {over:g})."
        )

    def rates(raised: np.ndarray) -> dict[str, float]:
        return {"outcome not above": float((truth <= raised).mean()), "too low": float((truth > raised).mean())}

    if subject.problem.kind == "count":
        return Ways(
            axis="change of all predictions",
            current=0.0,
            grid=np.linspace(-0.5, 1.0, GRID).round(4).tolist(),
            asked=CHANGES,
            decide=lambda at: point * (1 + at),
            name=lambda at: "as predicted" if at == 0 else f"{at:+.0%}",
            rates=rates,
            by_theory=theory,
        )
    amounts = np.quantile(truth - point, np.linspace(0.1, 0.9, GRID))
    decimals = decimals_of(float(amounts[-1] - amounts[0]))
    return Ways(
        axis="amount added to all predictions",
        current=0.0,
        grid=np.unique(amounts.round(decimals)).tolist(),
        asked=np.quantile(truth - point, SHARES).round(decimals).tolist(),
        decide=lambda at: point + at,
        name=lambda at: "as predicted" if at == 0 else f"{at:+,.{max(decimals, 0)}f}",
        rates=rates,
        by_theory=theory,
    )


def decimals_of(width: float) -> int:
    """Return how many decimals tell amounts of such a range apart by a hundredth of it or less; negative: of tens."""
    return 2 - floor(log10(width)) if width > 0 else 4


def _rules(subject: ReportSubject) -> Ways:
    """Return the label that is most probable, and the label whose expected cost is least."""
    score, truth, costs = subject.challenger.score, subject.truth, subject.model.costs
    labels = np.arange(score.shape[1], dtype=np.float64)
    classes = subject.model.classes
    table = np.array([costs.by_row(labels, np.full(len(labels), label), classes) for label in labels])
    decided = {
        0.0: subject.problem.decide(score, subject.challenger.decision_threshold),
        1.0: (score @ table.T).argmin(axis=1).astype(np.float64),
    }
    constants = {2.0 + place: np.full(len(truth), label) for place, label in enumerate(labels)}
    names = {0.0: "most probable label", 1.0: "least expected cost"}
    names |= {2.0 + place: f"always {classes[place] if classes else place}" for place in range(len(labels))}

    def rates(chosen: np.ndarray) -> dict[str, float]:
        return {"wrong labels": float((chosen != truth).mean())}

    return Ways(
        axis="rule",
        current=0.0,
        grid=[*decided, *constants],
        asked=[*decided, *constants],
        decide=lambda at: {**decided, **constants}[at],
        name=names.__getitem__,
        rates=rates,
    )


def _share(what: np.ndarray, of: np.ndarray) -> float:
    return float((what & of).sum() / of.sum()) if of.any() else float("nan")
