"""Whether a version is as good for one part of the rows as for the others: error rates, calibration, cost. Pure.

Each rate is a ratio of two sums over rows. Its intervals are of resamples of whole days, as in `gate/resampling.py`.
With many slices and rates, some differ by chance: a difference counts only if chance does not explain it, corrected
for the number of all comparisons (Holm 1979). Its standard error is that of the resamples, or that of independent rows
if that is larger: with ten days, resamples of days alone find too small an error in half of the cases.

Few rows that are all alike have no spread, so neither error says how far they are from what is true. Two more limits
hold there: a share of rows is compared by Fisher's exact test, too (Fisher 1935; SciPy), and its interval is at least
Wilson's (1927); what depends on probable outcomes has at least the error that the probabilities imply (Spiegelhalter
1986).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from include.gate.checks.fairness import Fairness
from include.gate.checks.slices import SURE, Group, Slices, labels_of
from include.gate.resampling import DRAWS, holm
from include.report.measures import CONFIDENCE, Estimate, has_costs
from include.report.subject import ReportSubject, by_frequency

MIN_ROWS = 300
"""A smaller slice is not compared, if the gate declares no other number."""
MIN_COUNTED = 30
"""A rate that is of fewer rows of a slice, such as of its few outcomes of 1, is not compared."""
MAX_SLICES = 20
"""The most slices of a column that `model.yaml` does not name."""


@dataclass(frozen=True)
class Rate:
    """Something about rows that is a ratio of two sums, such as the false positive rate.

    Attributes:
        name: of the rate.
        meaning: what it says, in words.
        top: of each row (f64), what is added up above the line.
        bottom: of each row (f64), what is added up below it.
        is_share: whether people read it in percent.
        is_error: whether it compares predictions with outcomes.
        variance: of `top` in each row (f64) if the scores are right as probabilities; None if they are none.
    """

    name: str
    meaning: str
    top: np.ndarray
    bottom: np.ndarray
    is_share: bool = True
    is_error: bool = True
    variance: np.ndarray | None = None

    @property
    def counts_rows(self) -> bool:
        """Whether it is a share of rows: `top` and `bottom` are 0 or 1."""
        return bool(np.isin((self.top, self.bottom), (0, 1)).all() and (self.top <= self.bottom).all())


@dataclass(frozen=True)
class SliceComparison:
    """A rate of a slice, and the same rate of all other rows.

    Attributes:
        column: the slice's column.
        value: its label, hidden if it may be personal.
        rows: of the slice.
        rate: the name of the rate.
        inside: the rate in the slice.
        others: the rate of all other rows.
        difference: inside minus others.
        chance: the probability of so large a difference by chance, corrected for all comparisons; None of one day.
    """

    column: str
    value: str
    rows: int
    rate: Rate
    inside: Estimate
    others: float
    difference: float
    chance: float | None

    @property
    def is_beyond_chance(self) -> bool:
        """Whether chance does not explain the difference."""
        return self.chance is not None and self.chance <= SURE


@dataclass(frozen=True)
class SlicesCompared:
    """All comparisons of a version.

    Attributes:
        rates: what was compared.
        overall: each rate of all rows, by name.
        comparisons: of each slice and rate, in the order of the columns, the largest slices first.
        small: how many slices were left out because they have too few rows.
        min_rows: the fewest rows of a slice.
    """

    rates: tuple[Rate, ...]
    overall: dict[str, float]
    comparisons: tuple[SliceComparison, ...]
    small: int
    min_rows: int

    @property
    def beyond_chance(self) -> list[SliceComparison]:
        """The differences that chance does not explain: those of errors and calibration first, the surest first."""
        found = (each for each in self.comparisons if each.is_beyond_chance)
        return sorted(found, key=lambda each: (not each.rate.is_error, each.chance or 0.0, -abs(each.difference)))


def fairness(subject: ReportSubject) -> SlicesCompared:
    """Return how a version does in each slice of public columns, against all other rows."""
    found, min_rows = _slices(subject), _min_rows(subject)
    measured = rates(subject)
    days, number = np.unique(subject.days, return_inverse=True)
    drawn = np.random.default_rng(subject.model.seed).multinomial(
        len(days), np.full(len(days), 1 / max(len(days), 1)), size=DRAWS
    )
    compared: list[SliceComparison] = []
    small = 0
    for column, value, inside in found:
        if inside.sum() < min_rows:
            small += 1
        elif not inside.all():
            for rate in (_skill(subject, inside), *measured):
                compared += _compare(rate, column, value, inside, number, drawn)
    known = [each for each in compared if each.chance is not None]
    adjusted = iter(holm([each.chance or 0.0 for each in known]) if known else [])
    compared = [each if each.chance is None else replace(each, chance=next(adjusted)) for each in compared]
    measured = [_skill(subject, np.ones(len(subject.truth), dtype=bool)), *measured]
    overall = {rate.name: _ratio(rate.top.sum(), rate.bottom.sum()) for rate in measured}
    return SlicesCompared(tuple(measured), overall, tuple(compared), small, min_rows)


def rates(subject: ReportSubject) -> list[Rate]:
    """Return what is compared, by the problem type."""
    problem, truth, score = subject.problem, subject.truth, subject.challenger.score
    decided = problem.decide(score, subject.challenger.decision_threshold)
    one = np.ones(len(truth))
    if problem.kind == "binary":
        found = [
            Rate("predicted as 1", "share of rows that are predicted as 1", decided, one, is_error=False),
            Rate(
                "false positive rate", "of the rows with outcome 0, predicted as 1", decided * (truth == 0), truth == 0
            ),
            Rate(
                "false negative rate",
                "of the rows with outcome 1, predicted as 0",
                (1 - decided) * (truth == 1),
                truth == 1,
            ),
            Rate(
                "calibration gap",
                "mean score minus share of outcomes that are 1",
                score - truth,
                one,
                variance=score * (1 - score),
            ),
        ]
    elif not problem.predicts_numbers:
        wrong, highest = (decided != truth).astype(np.float64), score.max(axis=1)
        found = [
            Rate("wrong labels", "share of rows whose label is predicted wrongly", wrong, one),
            Rate(
                "calibration gap",
                "mean probability of the predicted label minus share of right ones",
                highest - 1 + wrong,
                one,
                variance=highest * (1 - highest),
            ),
        ]
    else:
        point = problem.point(score)
        level = (
            Rate("level", "sum of predictions by sum of outcomes; 100 % is right", point, truth)
            if problem.kind == "count"
            else Rate(
                "mean error", "mean of prediction minus outcome, in the outcome's unit", point - truth, one, False
            )
        )
        found = [level, Rate("too low", "share of predictions below the outcome", (point < truth) * one, one)]
        if score.ndim == 2:
            inside = (score[:, 0] <= truth) & (truth <= score[:, -1])
            found.append(Rate("coverage", "share of outcomes between the limits", inside * one, one))
    if has_costs(subject.model):
        cost = subject.model.costs.by_row(truth, decided, subject.model.classes)
        meaning, variance = f"{subject.model.costs.unit} for each prediction", _variance_of_cost(subject, decided)
        found.append(Rate("cost", meaning, cost, one, is_share=False, is_error=False, variance=variance))
    return [replace(rate, top=rate.top.astype(np.float64), bottom=rate.bottom.astype(np.float64)) for rate in found]


def _variance_of_cost(subject: ReportSubject, decided: np.ndarray) -> np.ndarray | None:
    """Return the variance of each row's cost if the scores are right as probabilities; None if they are none."""
    if not subject.problem.scores_are_probabilities:
        return None
    score, model = subject.challenger.score, subject.model
    probable = np.stack([1 - score, score], axis=1) if score.ndim == 1 else score
    costs = [
        model.costs.by_row(np.full(len(decided), label), decided, model.classes) for label in range(probable.shape[1])
    ]
    cost = np.stack(costs, axis=1)
    return np.asarray((probable * cost**2).sum(axis=1) - (probable * cost).sum(axis=1) ** 2)


def _skill(subject: ReportSubject, inside: np.ndarray) -> Rate:
    """Return the loss by that of the constant that is best in the slice, and outside by that of the best there."""
    problem, truth = subject.problem, subject.truth
    constant = np.zeros(len(truth))
    for where in (inside, ~inside):
        if where.any():
            best = problem.repeat(problem.constant(truth[where]), int(where.sum()))
            constant[where] = problem.loss_by_row(truth[where], best)
    own = problem.loss_by_row(truth, subject.challenger.score)
    return Rate(f"{problem.chosen_by} left", "loss, as a share of that of the best constant there", own, constant)


def _compare(
    rate: Rate, column: str, value: str, inside: np.ndarray, number: np.ndarray, drawn: np.ndarray
) -> Iterator[SliceComparison]:
    """Yield the comparison of one rate, if it is of enough rows.

    Args:
        rate: of all rows.
        column: of the slice.
        value: its label.
        inside: which rows are in the slice.
        number: the day of each row.
        drawn: how often each resample has each day.
    """
    if min(np.count_nonzero(rate.bottom[inside]), np.count_nonzero(rate.bottom[~inside])) < MIN_COUNTED:
        return

    def by_day(values: np.ndarray, where: np.ndarray) -> np.ndarray:
        return np.bincount(number, weights=values * where, minlength=drawn.shape[1])

    top, bottom = by_day(rate.top, inside), by_day(rate.bottom, inside)
    other_top, other_bottom = by_day(rate.top, ~inside), by_day(rate.bottom, ~inside)
    of_slice, of_others = _ratio(top.sum(), bottom.sum()), _ratio(other_top.sum(), other_bottom.sum())
    difference, estimate, chance = of_slice - of_others, Estimate(of_slice), None
    if not np.isfinite(difference):
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = (drawn @ top) / (drawn @ bottom)
        apart = inner - (drawn @ other_top) / (drawn @ other_bottom)
    inner, apart = inner[np.isfinite(inner)], apart[np.isfinite(apart)]
    days = int((bottom != 0).sum())
    if days > 1 and len(apart) > DRAWS // 2:
        low, high = np.quantile(inner, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        of_rows = np.hypot(_error(rate, inside, of_slice), _error(rate, ~inside, of_others))
        chance = _chance(difference, max(float(np.std(apart, ddof=1)) * np.sqrt(days / (days - 1)), float(of_rows)))
        if rate.counts_rows:
            least_low, least_high, exact = _of_counts(
                (int(top.sum()), int(bottom.sum())), (int(other_top.sum()), int(other_bottom.sum()))
            )
            low, high, chance = min(low, least_low), max(high, least_high), max(chance, exact)
        estimate = Estimate(of_slice, float(low), float(high))
    yield SliceComparison(column, value, int(inside.sum()), rate, estimate, of_others, difference, chance)


def _error(rate: Rate, inside: np.ndarray, value: float) -> float:
    """Return the standard error of a ratio of sums over rows that are independent (Cochran 1977, ch. 2)."""
    residual = rate.top[inside] - value * rate.bottom[inside]
    least = 0.0 if rate.variance is None else rate.variance[inside].sum()
    return float(np.sqrt(max((residual**2).sum(), least)) / rate.bottom[inside].sum())


def _chance(difference: float, error: float) -> float:
    """Return the probability of a difference at least so large in either direction, if there is none in truth."""
    from scipy.stats import norm

    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * norm.sf(abs(difference) / error))


def _of_counts(inside: tuple[int, int], others: tuple[int, int]) -> tuple[float, float, float]:
    """Return the ends of Wilson's interval of the share inside, and the chance of Fisher's test that shares are equal.

    Args:
        inside: how many rows of the slice are counted, of how many.
        others: the same of all other rows.
    """
    from scipy.stats import binomtest, fisher_exact

    ends = binomtest(*inside).proportion_ci(CONFIDENCE, method="wilson")
    table = [[counted, rows - counted] for counted, rows in (inside, others)]
    return float(ends.low), float(ends.high), float(fisher_exact(table).pvalue)


def _slices(subject: ReportSubject) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield column, label and rows of each slice: those of the gate's checks, else of each public input with labels."""
    for column, groups in _columns(subject):
        values = labels_of(subject.holdout_rows, column, groups)
        if column not in groups and values.n_unique() > MAX_SLICES and not _declared(subject):
            continue
        for value in by_frequency(values.drop_nulls().to_list(), values.n_unique()):
            inside = values.eq(value).fill_null(False).to_numpy()
            yield column, str(value) if column in groups else subject.label(column, value), inside


def _columns(subject: ReportSubject) -> Iterator[tuple[str, dict[str, Group]]]:
    """Yield the columns whose slices are compared, with their groups; never one that may be personal."""
    asked = [
        (column, check.groups)
        for check in _declared(subject)
        for column in (check.by if isinstance(check, Slices) else (check.by,))
    ]
    found = dict(asked or [(column, dict[str, Group]()) for column in subject.challenger.categorical])
    for column, groups in found.items():
        of_features = groups[column].of if column in groups else column
        if of_features in subject.holdout_rows.columns and not subject.is_personal(of_features):
            yield column, groups


def slice_columns(subject: ReportSubject) -> list[str]:
    """Return the columns of the rows that slices are made of."""
    return sorted({groups[column].of if column in groups else column for column, groups in _columns(subject)})


def _declared(subject: ReportSubject) -> Sequence[Slices | Fairness]:
    return [check for check in subject.model.gate.checks if isinstance(check, Slices | Fairness)]


def _min_rows(subject: ReportSubject) -> int:
    return min((check.min_rows for check in _declared(subject)), default=MIN_ROWS)


def _ratio(top: float, bottom: float) -> float:
    return float(top / bottom) if bottom else float("nan")
