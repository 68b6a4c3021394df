"""Are the published predictions as good as they should be, compared with what came true? Pure."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from include.core.errors import DataError, nearest
from include.core.feeds import HORIZON
from include.core.project import Project
from include.core.records import Alert
from include.core.threshold import Threshold
from include.monitoring.base import Monitor, Watch
from include.monitoring.records import DayValue, Findings, MonitoredModel
from include.training.config import Training
from include.training.problem_types import get_problem_type

if TYPE_CHECKING:  # every DAG file loads this module
    import polars as pl

ALL = "all"

NO_VALUE = "(none)"
MAX_SLICE_CHARACTERS = 200
"""Longer values are cut: they are part of a key, and PostgreSQL has no rows of an index beyond 2704 bytes."""


class Rule(Threshold):
    """Too poor: the metric over all rows breaks its threshold on at least `days` of the newest `of` measured days."""

    days: int = Field(ge=1, description="so many days that break the threshold are too many", examples=[3])
    of: int = Field(ge=1, description="newest measured days that are looked at", examples=[7])

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.days > self.of:
            raise ValueError(f"{self.days} days of the newest {self.of} can never break it; days is at most `of`")
        return self

    @property
    def name(self) -> str:
        """Tells the rules of a model apart, in `alerts`."""
        side = "at_most" if self.at_least is None else "at_least"
        return f"{self.metric} {side} {self.threshold:g}, {self.days} of {self.of} days"

    def breach(self, model: MonitoredModel, measured: Sequence[DayValue], run_date: date) -> Alert | None:
        """Return the alert if the rule is broken as of a run date; None if not, or if too few days are measured.

        Args:
            model: the model.
            measured: the days that may count, the newest first. They can be of several versions; each day's is named.
            run_date: the run date.
        """
        newest = measured[: self.of]
        broken = [found for found in newest if not self.holds(found.value)]
        if len(broken) < self.days:
            return None
        days = ", ".join(f"{found.day}: {found.value:.3f} (version {found.model_version})" for found in broken)
        side = "under" if self.at_most is None else "over"
        return Alert(
            subject=model.name,
            rule=self.name,
            day=run_date,
            effect="scores are published, but poorer than agreed",
            badness=max(abs(found.value - self.threshold) for found in broken),
            sentence=(
                f"{model.name}: {self.metric} is {side} {self.threshold:g} on {len(broken)} of the newest "
                f"{len(newest)} days measured, and {self.days} of {self.of} are too many: {days}. Look at view "
                f"model_performance for slices and days, and at the data of the run date in data_quality. To go back "
                f"to another version (view promotion_history): "
                f"python -m include.cli promote --model {model.name} --version VERSION --from-day "
                f"{run_date + timedelta(days=1)} --by YOU --why WHY. Owner: {model.owner}. "
                "Runbook: docs/runbooks/alert-rule-broken.md"
            ),
        )


class PerformanceMonitor(Monitor):
    """Measures published predictions against outcomes, and raises an alert when a rule is broken."""

    kind: Literal["performance"] = "performance"
    slices: tuple[str, ...] = Field(default=(), description="public columns of the entity to measure by")
    min_rows: int = Field(default=30, ge=1, description="a slice, and a day of a rule, with fewer rows is left out")
    rules: tuple[Rule, ...] = Field(default=(), description="each raises an alert once a run date while it is broken")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.slices)) < len(self.slices):
            raise ValueError("slices: a column is listed twice")
        if len({rule.name for rule in self.rules}) < len(self.rules):
            raise ValueError("rules: two are the same")
        return self

    def require_fit(self, model: Training, project: Project) -> None:
        """Refuse metrics and columns that do not exist."""
        known = get_problem_type(model.problem_type).performance_metrics
        for rule in self.rules:
            if rule.metric not in known:
                raise ValueError(
                    f"rules: {model.problem_type} has no metric {rule.metric!r}{nearest(rule.metric, known)}"
                )
        for column in self.slices:
            if column not in project.entity.public:
                meant = nearest(column, project.entity.public)
                raise ValueError(f"slices: {project.name} has no public column {column!r}{meant}")
            if column == ALL:
                raise ValueError(f"slices: {ALL!r} is what all rows together are called; rename the column")

    def run(self, watch: Watch) -> Findings:
        """Measure what changed, then apply the rules to each run date."""
        days, rows = watch.measure(self.slices, self.min_rows, partial(self.measure_day, watch.model))
        return Findings(days=days, rows=rows, alerts=tuple(self._alerts(watch)))

    def _alerts(self, watch: Watch) -> Iterator[Alert]:
        for rule in self.rules:
            measured = watch.measured_days(rule.metric, self.min_rows)
            for run_date in watch.interval.days:
                until = watch.outcome_feed.needed_day(run_date)
                if alert := rule.breach(watch.model, [m for m in measured if m.last_day <= until], run_date):
                    yield alert

    def measure_day(self, model: MonitoredModel, rows: "pl.DataFrame") -> "pl.DataFrame":
        """Measure one run date's predictions: over all rows, and by each value of each slice with at least `min_rows`.

        Where there are predictions for later days, the horizon is a slice, too.

        Args:
            model: the model.
            rows: horizon, the columns of predictions, outcome (f64, null: not known, or known to have none), and the
                slices' columns as text. Only rows with an outcome are measured.

        Returns:
            slice, slice_value, metric, value (f64), rows; the value is null where a metric is not defined, as AUC of
            one class.

        Raises:
            DataError: an outcome is none that the problem type can have.
        """
        import polars as pl

        known = rows.drop_nulls("outcome")
        problem_type = model.problem
        if wrong := problem_type.wrong_labels(known["outcome"].to_numpy()):
            raise DataError(
                f"{model.name}: {wrong} of {known.height} values of outcome {model.outcome} are other than "
                f"{problem_type.labels}"
            )
        parts = [(ALL, ALL, known)]
        ahead = HORIZON in rows.columns and bool((rows[HORIZON] > 0).any())
        for column in (*self.slices, HORIZON) if ahead else self.slices:
            values = pl.col(column).cast(pl.String).fill_null(NO_VALUE).str.slice(0, MAX_SLICE_CHARACTERS)
            of_value = known.with_columns(values).partition_by(column, as_dict=True)
            parts += [
                (column, str(value), part)
                for (value,), part in sorted(of_value.items())
                if part.height >= self.min_rows
            ]
        measured = [
            (column, value, metric, figure, part.height)
            for column, value, part in parts
            for metric, figure in _performance(model, part).items()
        ]
        schema = {"slice": pl.String, "slice_value": pl.String, "metric": pl.String, "value": pl.Float64}
        return pl.DataFrame(measured, schema={**schema, "rows": pl.Int64}, orient="row")


def _performance(model: MonitoredModel, known: "pl.DataFrame") -> dict[str, float | None]:
    """Return each metric of the model's problem type, None where it is not defined."""
    problem = model.problem
    return problem.performance(known["outcome"].to_numpy(), problem.scores_of(known), known["prediction"].to_numpy())
