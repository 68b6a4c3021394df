"""What a report of a period knows: counts, losses, costs, decisions, incidents, deliveries. Pure.

`io/postgres/periods.py` reads these records, `period_words.py` makes sentences of them, and `period_page.py` the page.
No record has a row about an entity or the name of a person.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from include.core.interval import Interval
from include.core.periods import Period
from include.training.costs import Costs

if TYPE_CHECKING:
    from include.config.model import Model


LABELLED = ("binary", "multiclass")
"""The problem types whose predictions are labels; errors of the others are amounts."""


@dataclass(frozen=True)
class DayOfVersion:
    """What readers see of a run date: the version and how many predictions it has."""

    day: date
    version: int
    rows: int


@dataclass(frozen=True)
class LossDay:
    """The mean loss of the champion and of the dummy baseline on the same rows of a run date."""

    day: date
    rows: int
    loss: float
    dummy: float | None = None


@dataclass(frozen=True)
class MetricDay:
    """A metric of the published predictions of a run date."""

    day: date
    metric: str
    value: float
    rows: int


@dataclass(frozen=True)
class DayErrors:
    """The errors of the published predictions of a run date whose outcomes are known, added up.

    Attributes:
        day: the run date.
        version: that predicted.
        rows: predictions with a known outcome.
        pairs: of a model with labels, binary included: how often each pair of outcome and prediction occurs.
        under, over: of a model of numbers: by how much predictions were too low, and too high, in all.
        baseline_under, baseline_over: the same of the baseline; None if it is not known.
    """

    day: date
    version: int
    rows: int
    pairs: Mapping[tuple[int, int], int] | None = None
    under: float = 0.0
    over: float = 0.0
    baseline_under: float | None = None
    baseline_over: float | None = None


@dataclass(frozen=True)
class CostDay:
    """What the predictions of a run date cost, and what the baseline would have cost; None if it is not known."""

    day: date
    rows: int
    cost: float
    baseline: float | None


@dataclass(frozen=True)
class DriftedFeature:
    """A feature that was far from a reference period on some run dates of the period.

    Attributes:
        role: input, prediction or outcome.
        feature: its name.
        days: run dates on which an effect was large.
        strength: the greatest effect, as a multiple of its limit.
        effect: the measure that was greatest, in words.
        value: of that measure.
    """

    role: str
    feature: str
    days: int
    strength: float
    effect: str
    value: float


@dataclass(frozen=True)
class VersionDecided:
    """What the gate decided about a version, and what became of it as far as the run date of the report knows."""

    day: date
    version: int
    candidate: str
    passed: bool
    reasons: tuple[str, ...] = ()
    then: str = ""


@dataclass(frozen=True)
class Promoted:
    """A change of the champion."""

    from_day: date
    version: int
    by_person: bool
    forced: bool
    rolled_back_from: int | None
    why: str


@dataclass(frozen=True)
class PersonDecided:
    """What a person decided about a version that waited for one."""

    version: int
    state: str
    why: str


@dataclass(frozen=True)
class SkewFound:
    """The checks of published rows against rows that were built again.

    Attributes:
        days: run dates of which a batch was compared; a day that was published again has a check of each batch.
        rows: that were compared.
        differing: of these.
    """

    days: int = 0
    rows: int = 0
    differing: int = 0


@dataclass(frozen=True)
class ModelPeriod:
    """A model in a period.

    Attributes:
        name, title, metric: of the model; the metric is the loss by which candidates are chosen.
        meanings: of each metric.
        unit: of costs; None if its owner declared none.
        due: run dates that had a champion, so that predictions were due.
        published: what was published of the run dates of the period.
        window: the days whose outcomes became known in the period.
        losses, losses_before: by run date, of this period and of the one before.
        metrics, metrics_before: the same of all metrics.
        costs, costs_before: the same of costs.
        drifted, watched: the features that drifted, and how many are watched.
        skew, decided, promoted, people, retrained: what was found and decided.
    """

    name: str
    title: str
    metric: str
    meanings: Mapping[str, str]
    unit: str | None
    due: Sequence[date]
    published: Sequence[DayOfVersion]
    window: Interval
    losses: Sequence[LossDay] = ()
    losses_before: Sequence[LossDay] = ()
    metrics: Sequence[MetricDay] = ()
    metrics_before: Sequence[MetricDay] = ()
    costs: Sequence[CostDay] = ()
    costs_before: Sequence[CostDay] = ()
    drifted: Sequence[DriftedFeature] = ()
    watched: int = 0
    skew: SkewFound = SkewFound()
    decided: Sequence[VersionDecided] = ()
    promoted: Sequence[Promoted] = ()
    people: Sequence[PersonDecided] = ()
    retrained: Sequence[tuple[date, str]] = ()

    @property
    def rows(self) -> int:
        """The predictions that readers see."""
        return sum(each.rows for each in self.published)

    @property
    def missing(self) -> list[date]:
        """The run dates that had a champion and have no predictions."""
        there = {each.day for each in self.published}
        return [day for day in self.due if day not in there]


@dataclass(frozen=True)
class IncidentFound:
    """An incident as the run date of the report knows it.

    Attributes:
        severity, rule, subject: what it is.
        first_day: the first run date that saw it.
        recovered_day: the first run date without it; None if it was open when the period ended.
        what: in a sentence; empty if the sentence is newer than the period, or of a failed task.
    """

    severity: str
    rule: str
    subject: str
    first_day: date
    recovered_day: date | None
    what: str = ""

    def lasted(self, end: date) -> int:
        """Return for how many run dates it lasted; of one that is open, up to the last of the period."""
        return max(1, ((self.recovered_day or end + timedelta(days=1)) - self.first_day).days)


@dataclass(frozen=True)
class SupplierFound:
    """The deliveries of a supplier: punctuality by run date, quality by delivery."""

    supplier: str
    feeds: tuple[str, ...]
    due: int = 0
    late: int = 0
    missing: int = 0
    deliveries: int = 0
    refused: int = 0
    rows: int = 0
    quarantined: int = 0
    failed: int = 0


@dataclass(frozen=True)
class StepTotal:
    """What the runs of a step took and cost on the calendar days of the period."""

    step: str
    runs: int
    failed: int
    seconds: float
    core_seconds: float
    cost: float | None


@dataclass(frozen=True)
class PeriodFacts:
    """Everything that a report says."""

    project: str
    title: str
    owner: str
    period: Period
    due: Sequence[date]
    prepared: Sequence[date]
    models: Sequence[ModelPeriod]
    incidents: Sequence[IncidentFound] = ()
    suppliers: Sequence[SupplierFound] = ()
    steps: Sequence[StepTotal] = ()
    cost_before: float | None = None
    currency: str | None = None

    @property
    def not_prepared(self) -> list[date]:
        """The run dates of the period that were not prepared."""
        there = {*self.prepared}
        return [day for day in self.due if day not in there]


def baseline_decision(model: "Model", constant: float | Sequence[float]) -> float:
    """Return what the baseline predicts for every row: the decision that is best by what the version was trained on.

    Args:
        model: has the costs.
        constant: the dummy baseline of the version: the share of ones, the share of each label, or the number that is
            best on its training rows.
    """
    import numpy as np

    problem, costs = model.problem, model.costs
    if problem.kind not in LABELLED:
        return float(problem.decide(problem.repeat(np.asarray(constant, dtype=float), 1), 0.5)[0])
    shares = [1 - float(constant), float(constant)] if isinstance(constant, int | float) else [*constant]
    labels = np.arange(len(shares), dtype=float)
    expected = [
        float((costs.by_row(labels, np.full(len(labels), each), model.classes) * np.asarray(shares)).sum())
        for each in labels
    ]
    return float(labels[int(np.argmin(expected))])


def cost_of(costs: Costs, classes: tuple[str, ...], errors: DayErrors, baseline: float | None) -> CostDay:
    """Return what the predictions of a run date cost.

    Args:
        costs: as the owner declares them.
        classes: the labels of the outcome, if it has labels.
        errors: the errors of the run date.
        baseline: what the baseline predicts for every row; None if it is not known.
    """
    import numpy as np

    if errors.pairs is None:
        mine = _of_numbers(costs, errors.under, errors.over)
        known = errors.baseline_under is not None and errors.baseline_over is not None
        other = _of_numbers(costs, errors.baseline_under or 0.0, errors.baseline_over or 0.0) if known else None
        return CostDay(errors.day, errors.rows, mine, other)
    pairs = sorted(errors.pairs.items())
    truth = np.array([pair[0] for pair, _ in pairs], dtype=float)
    predicted = np.array([pair[1] for pair, _ in pairs], dtype=float)
    rows = np.array([count for _, count in pairs], dtype=float)
    mine = float((costs.by_row(truth, predicted, classes) * rows).sum())
    other = None
    if baseline is not None:
        other = float((costs.by_row(truth, np.full(len(truth), baseline), classes) * rows).sum())
    return CostDay(errors.day, errors.rows, mine, other)


def _of_numbers(costs: Costs, under: float, over: float) -> float:
    return (costs.under or 0.0) * under + (costs.over or 0.0) * over


def mean_loss(days: Sequence[LossDay]) -> float | None:
    """Return the mean loss over all rows; None without any."""
    rows = sum(each.rows for each in days)
    return sum(each.loss * each.rows for each in days) / rows if rows else None


def mean_dummy(days: Sequence[LossDay]) -> tuple[float, float] | None:
    """Return the mean losses of champion and dummy baseline on the rows that have both; None without any."""
    both = [(each.rows, each.loss, each.dummy) for each in days if each.dummy is not None]
    rows = sum(count for count, *_ in both)
    if not rows:
        return None
    return sum(n * loss for n, loss, _ in both) / rows, sum(n * dummy for n, _, dummy in both) / rows


def mean_metric(days: Sequence[MetricDay], metric: str) -> float | None:
    """Return the mean of a metric over the run dates, weighted by their rows; None without any."""
    found = [(each.value, each.rows) for each in days if each.metric == metric]
    rows = sum(count for _, count in found)
    return sum(value * count for value, count in found) / rows if rows else None


@dataclass(frozen=True)
class Worth:
    """What predictions cost in a unit; saved is counted on the rows whose baseline is known."""

    unit: str
    rows: int
    cost: float
    compared: int
    saved: float | None


def worth_of(unit: str, days: Sequence[CostDay]) -> Worth:
    """Return what the predictions of some run dates cost, and what they saved against the baseline."""
    both = [(each.rows, each.cost, each.baseline) for each in days if each.baseline is not None]
    saved = sum(baseline - cost for _, cost, baseline in both) if both else None
    return Worth(
        unit, sum(each.rows for each in days), sum(each.cost for each in days), sum(n for n, *_ in both), saved
    )


def worths(models: Sequence[ModelPeriod]) -> list[Worth]:
    """Return what all models cost together, by unit: EUR and minutes are never added."""
    units: dict[str, list[CostDay]] = {}
    for model in models:
        if model.unit is not None and model.costs:
            units.setdefault(model.unit, []).extend(model.costs)
    return [worth_of(unit, days) for unit, days in units.items()]
