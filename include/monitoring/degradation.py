"""Did the champion get worse? It is measured against former champions, the dummy baseline, its own past and its age.

Pure. `steps/compare_champions.py` has the loss of the published predictions, of former champions and of the dummy
baseline on the same rows of each run date; the rules here look at windows of such days. All intervals are of resamples
of whole days, and many comparisons are corrected by Holm, as in the gate. A rule asks for an effect that matters *and*
for evidence beyond chance. Days whose outcomes a run date cannot know do not count, so runs in any order find the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import numpy as np
from pydantic import Field

from include.core.records import Alert
from include.gate.resampling import chance_of_excess, day_draws, holm, ratio_draws
from include.monitoring.base import Monitor, Watch
from include.monitoring.records import DayValue, Findings, MonitoredModel

ALL = "all"
DUMMY, CHAMPION = -1, 0
"""Places of a comparison; former champions have 1 (the one before the champion of the day), 2 and so on."""

SURE = 0.01
"""An effect is an alert only if chance explains it with at most this probability, for all comparisons together."""

TREND_CONFIDENCE = 0.95
MIN_WEEKS = 6
SEED = 1

FORMER = "degradation: former champions"
TREND = "degradation: trend of the loss"
CALIBRATION = "degradation: calibration"
SLICES = "degradation: slices"
AGE = "degradation: age"


@dataclass(frozen=True)
class ComparedDay:
    """The mean loss of one version, or of the dummy baseline, on rows of a run date that all of them scored.

    Attributes:
        day: the run date.
        last_day: the last day that it predicts.
        place: DUMMY, CHAMPION, or 1 for the champion before, 2 for the one before that.
        version: the version; 0 for the dummy baseline.
        slice: the column by which rows are divided, or ALL.
        value: its value, or ALL.
        rows: the rows.
        loss: the mean loss.
    """

    day: date
    last_day: date
    place: int
    version: int
    slice: str
    value: str
    rows: int
    loss: float


@dataclass(frozen=True)
class ModelAge:
    """The champion of a run date, and the run date of its training; None if that is not known."""

    version: int
    trained_day: date | None


Ages = Mapping[date, ModelAge]
"""The champion of each run date that has one."""


@dataclass(frozen=True)
class Comparison:
    """What is to be compared: so many former champions, on so many rows of a run date, by these columns."""

    last: int
    rows: int
    slices: tuple[str, ...]


class DegradationMonitor(Monitor):
    """Raises an alert when the champion is worse than others, gets worse, is not calibrated any more, or is old."""

    kind: Literal["degradation"] = "degradation"
    last: int = Field(default=3, ge=0, le=10, description="former champions that score the same rows")
    rows: int = Field(default=1000, ge=50, description="published rows of a run date that are compared")
    window_days: int = Field(default=28, ge=7, description="newest run dates that are looked at")
    min_days: int = Field(default=10, ge=3, description="with fewer measured days, nothing is said")
    worse_by: float = Field(
        default=0.05, ge=0, description="share by which the loss may be over that of a former champion"
    )
    slice_worse_by: float = Field(
        default=0.1, ge=0, description="share by which the loss in a slice may be over that of the dummy baseline there"
    )
    slice_rows: int = Field(default=300, ge=1, description="a slice with fewer rows in the window is left out")
    slices: tuple[str, ...] | None = Field(
        default=None,
        description="public columns of the entity; by default those of the monitor `performance`",
        examples=[["region"]],
    )
    trend_weeks: int = Field(default=12, ge=MIN_WEEKS, le=52, description="weeks of the trend of the loss")
    trend_at_most: float = Field(
        default=0.15, gt=0, description="share by which the loss, relative to the dummy baseline's, may rise over them"
    )
    calibration_at_most: float | None = Field(
        default=None,
        gt=0,
        description="how far the level may be off. Binary: |mean score - mean outcome|, 0.1 by default. Quantile: "
        "|coverage - the difference of the quantiles|, 0.08. Regression and count: change of the mean error against "
        "the days before the window, as a share of the mean absolute error, 0.3",
        examples=[0.08],
    )
    max_age_days: int | None = Field(
        default=92, ge=1, description="days since the training of the champion; null: any age"
    )

    def run(self, watch: Watch) -> Findings:
        """Compare what is new, then apply the rules to each run date."""
        slices = watch.slices if self.slices is None else self.slices
        days = watch.interval.days
        # Older days say nothing to a rule, and would cost the first run of an installation hours.
        since = watch.outcome_feed.needed_day(days[0]) - timedelta(days=self._reach_days - 1)
        watch.compare(Comparison(self.last, self.rows, slices), since)
        compared = watch.compared_days(since=since)
        metric = _CALIBRATED_BY.get(watch.model.problem_type)
        level = watch.measured_days(metric, 1) if metric else []
        scale = watch.measured_days("mae", 1) if metric == "mean_error" else []
        ages = watch.champions(days)
        alerts: list[Alert] = []
        for run_date in days:
            until = watch.outcome_feed.needed_day(run_date)
            first = until - timedelta(days=self._reach_days - 1)
            known = [each for each in compared if first <= each.day and each.last_day <= until]
            found = {
                FORMER: self.against_former(known, until),
                TREND: self.trend(known, until),
                CALIBRATION: self.calibration(watch.model, _up_to(level, until), _up_to(scale, until), until),
                SLICES: self.by_slice(known, until),
                AGE: self.age(ages.get(run_date), run_date),
            }
            alerts += [_alert(watch.model, rule, run_date, said) for rule, said in found.items() if said]
        return Findings(alerts=tuple(alerts))

    def against_former(self, compared: Sequence[ComparedDay], until: date) -> str:
        """Say which former champion is better, or that the dummy baseline is; empty if none is."""
        days = _by_day(each for each in self._window(compared, until) if each.slice == ALL)
        measured = []
        for place in sorted({each.place for of_day in days.values() for each in of_day.values()} - {CHAMPION}):
            pairs = [
                (of_day[CHAMPION], of_day[place]) for of_day in days.values() if {CHAMPION, place} <= of_day.keys()
            ]
            if len(pairs) >= self.min_days:
                limit = 0.0 if place == DUMMY else self.worse_by
                measured.append((_name(pairs), len(pairs), limit, *_excess(pairs, limit)))
        worse = self._sure(measured)
        return f"its loss is {'; '.join(worse)}" if worse else ""

    def by_slice(self, compared: Sequence[ComparedDay], until: date) -> str:
        """Say in which slices the dummy baseline is better; empty if in none."""
        by_slice: dict[tuple[str, str], list[ComparedDay]] = {}
        for each in self._window(compared, until):
            if each.slice != ALL:
                by_slice.setdefault((each.slice, each.value), []).append(each)
        measured = []
        for (column, value), of_slice in sorted(by_slice.items()):
            pairs = [
                (of_day[CHAMPION], of_day[DUMMY])
                for of_day in _by_day(of_slice).values()
                if {CHAMPION, DUMMY} <= of_day.keys()
            ]
            if len(pairs) >= self.min_days and sum(own.rows for own, _ in pairs) >= self.slice_rows:
                name = f"the dummy baseline's in {column}={value}"
                measured.append((name, len(pairs), self.slice_worse_by, *_excess(pairs, self.slice_worse_by)))
        worse = self._sure(measured)
        return f"of {len(measured)} slices, its loss is {'; '.join(worse[:5])}" if worse else ""

    def trend(self, compared: Sequence[ComparedDay], until: date) -> str:
        """Say by how much the loss rose over the weeks, relative to the dummy baseline's; empty if it did not.

        The dummy baseline's loss has what makes some weeks harder than others. The slope is Theil's and Sen's, the
        median of the slopes of all pairs of weeks, so that one bad week does not make a trend.
        """
        weeks: dict[int, list[tuple[ComparedDay, ComparedDay]]] = {}
        for day, of_day in _by_day(each for each in compared if each.slice == ALL).items():
            age = (until - day).days // 7
            if age < self.trend_weeks and {CHAMPION, DUMMY} <= of_day.keys():
                weeks.setdefault(age, []).append((of_day[CHAMPION], of_day[DUMMY]))
        points = [
            (-age, sum(own.loss * own.rows for own, _ in pairs) / total)
            for age, pairs in sorted(weeks.items(), reverse=True)
            if len(pairs) >= 3 and (total := sum(dummy.loss * dummy.rows for _, dummy in pairs)) > 0
        ]
        if len(points) < MIN_WEEKS:
            return ""
        from scipy.stats import theilslopes

        at, loss = np.array(points).T
        slope, _, low, high = theilslopes(loss, at, TREND_CONFIDENCE)
        over = float(at[-1] - at[0])
        rise, ends = slope * over / np.median(loss), (low * over / np.median(loss), high * over / np.median(loss))
        if rise <= self.trend_at_most or low <= 0:
            return ""
        return (
            f"its loss, relative to the dummy baseline's, rose by {rise:.1%} over {len(points)} weeks "
            f"({ends[0]:.1%} to {ends[1]:.1%}); at most {self.trend_at_most:.1%} is allowed"
        )

    def calibration(
        self, model: MonitoredModel, level: Sequence[DayValue], scale: Sequence[DayValue], until: date
    ) -> str:
        """Say how far the level of the predictions is off; empty if it is not.

        Args:
            model: the model.
            level: its level on each day: calibration_gap, coverage or mean_error.
            scale: its mean absolute error on each day, where the level is an error in the outcome's unit.
            until: the newest day that counts.
        """
        kind, start = model.problem_type, until - timedelta(days=self.window_days - 1)
        limit = self.calibration_at_most or _LEVEL_LIMITS.get(kind, np.inf)
        recent = np.array([each.value for each in level if start <= each.day <= until])
        if len(recent) < self.min_days:
            return ""
        draws = _mean_draws(recent)
        if kind in ("regression", "count"):
            first = start - timedelta(days=2 * self.window_days)
            before = np.array([each.value for each in level if first <= each.day < start])
            errors = [each.value for each in scale if first <= each.day <= until]
            if len(before) < self.min_days or not (unit := float(np.mean(errors or [0.0]))):
                return ""
            off, draws = (recent.mean() - before.mean()) / unit, (draws - _mean_draws(before)) / unit
            what = f"its mean error changed by {off:+.0%} of its mean absolute error against the days before"
        else:
            right = model.quantiles[-1] - model.quantiles[0] if kind == "quantile" else 0.0
            off, draws = recent.mean() - right, draws - right
            name = "the share of outcomes within its limits" if kind == "quantile" else "its mean score"
            what = f"{name} is off by {off:+.3f}"
        if abs(off) <= limit or chance_of_excess(abs(off), limit, draws, len(recent)) > SURE:
            return ""
        return f"{what} over {len(recent)} days; at most {limit:g} is allowed"

    def age(self, champion: ModelAge | None, run_date: date) -> str:
        """Say how old the champion is, if it is older than declared."""
        if champion is None or champion.trained_day is None or self.max_age_days is None:
            return ""
        days = (run_date - champion.trained_day).days
        if days <= self.max_age_days:
            return ""
        return (
            f"version {champion.version} was trained on {champion.trained_day}, {days} days ago; at most "
            f"{self.max_age_days} days is allowed"
        )

    @property
    def _reach_days(self) -> int:
        """Days that the rules look at, the newest one that a run date can know included."""
        return max(self.window_days, 7 * self.trend_weeks)

    def _window(self, compared: Sequence[ComparedDay], until: date) -> list[ComparedDay]:
        start = until - timedelta(days=self.window_days - 1)
        return [each for each in compared if start <= each.day <= until]

    def _sure(self, measured: Sequence[tuple[str, int, float, float, float]]) -> list[str]:
        """Say which excesses are over their limit beyond chance: name, days, limit, excess and chance of each."""
        adjusted = holm([each[4] for each in measured])
        return [
            f"{excess:.1%} over {name} on {days} days (p {chance:.2g} by Holm; at most {limit:.1%} is allowed)"
            for (name, days, limit, excess, _), chance in zip(measured, adjusted, strict=True)
            if excess > limit and chance <= SURE
        ]


_CALIBRATED_BY = {
    "binary": "calibration_gap",
    "quantile": "coverage",
    "regression": "mean_error",
    "count": "mean_error",
}
"""What says how the level of predictions is off; multiclass has a largest gap only, whose mean says nothing."""

_LEVEL_LIMITS = {"binary": 0.1, "quantile": 0.08, "regression": 0.3, "count": 0.3}


def _up_to(values: Sequence[DayValue], until: date) -> list[DayValue]:
    return [each for each in values if each.last_day <= until]


def _by_day(compared: Iterable[ComparedDay]) -> dict[date, dict[int, ComparedDay]]:
    found: dict[date, dict[int, ComparedDay]] = {}
    for each in compared:
        found.setdefault(each.day, {})[each.place] = each
    return found


def _excess(pairs: Sequence[tuple[ComparedDay, ComparedDay]], limit: float) -> tuple[float, float]:
    """Return by which share the first loss of pairs is over the second, and the chance of it if the limit were true."""
    days = np.arange(len(pairs))  # a day's sum stands for its rows: resampling draws whole days
    own, other = (np.array([pair[n].loss * pair[n].rows for pair in pairs]) for n in (0, 1))
    if other.sum() <= 0:
        return 0.0, 1.0
    excess = float(own.sum() / other.sum() - 1.0)
    draws = ratio_draws(days, own, other, seed=SEED)
    return excess, chance_of_excess(excess, limit, draws[np.isfinite(draws)], len(pairs))


def _mean_draws(values: np.ndarray) -> np.ndarray:
    return np.array([values[drawn].mean() for drawn in day_draws(np.arange(len(values)), 500, SEED)])


def _name(pairs: Sequence[tuple[ComparedDay, ComparedDay]]) -> str:
    place, versions = pairs[0][1].place, sorted({other.version for _, other in pairs})
    if place == DUMMY:
        return "the dummy baseline's"
    if len(versions) == 1:
        return f"that of former champion {versions[0]}"
    which = "the champion before" if place == 1 else f"the {place} champions before"
    return f"that of {which} (versions {', '.join(map(str, versions[-3:]))})"


def _alert(model: MonitoredModel, rule: str, run_date: date, said: str) -> Alert:
    return Alert(
        subject=model.name,
        rule=rule,
        day=run_date,
        effect="" if rule == AGE else "scores are published, but worse than they could be",
        sentence=f"{model.name}: {said}. Look at views champion_performance and model_performance. Owner: "
        f"{model.owner}. Runbook: docs/runbooks/alert-degradation.md",
    )
