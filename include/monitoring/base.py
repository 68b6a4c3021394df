"""What every monitor has in common, and what it is given. One file beside this one for each monitor."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from include.core.feeds import Feed
from include.core.interval import Interval
from include.core.project import Project
from include.core.variants import Variant
from include.monitoring.drift_summary import Summarised
from include.monitoring.records import DayValue, Findings, MonitoredModel, Preparation, Punctuality, ScoreHealth
from include.training.config import Training

if TYPE_CHECKING:  # every DAG file loads this module
    import polars as pl

    from include.monitoring.degradation import Ages, ComparedDay, Comparison
    from include.monitoring.estimate import ExpectedMetric
    from include.monitoring.skew import SkewCheck


@dataclass(frozen=True)
class Watch(ABC):
    """One model and the run dates that monitors look at, with what they may read of the shared database."""

    project: Project
    model: MonitoredModel
    interval: Interval
    prepared_days: Mapping[date, Preparation]

    @property
    def slices(self) -> tuple[str, ...]:
        """The columns of the entity by which the monitor `performance` measures."""
        return ()

    @property
    def outcome_feed(self) -> Feed:
        """The feed that brings the model's outcome."""
        return self.project.feeds[self.project.outcomes[self.model.outcome].feed]

    @abstractmethod
    def measure(
        self, slices: Sequence[str], min_rows: int, measure_day: Callable[["pl.DataFrame"], "pl.DataFrame"]
    ) -> tuple[int, int]:
        """Measure each published day whose basis changed; return how many days and rows that were.

        Args:
            slices: public columns of the entity that `measure_day` gets beside score, prediction and outcome.
            min_rows: of a slice; measured days are measured again when it changes.
            measure_day: gets the predictions of one day, returns the rows to store.
        """

    @abstractmethod
    def measured_days(self, metric: str, min_rows: int) -> list[DayValue]:
        """Return the metric over all rows of each day with at least `min_rows`, the newest first.

        Days whose outcomes the last run date of the interval cannot know are left out.
        """

    @abstractmethod
    def punctuality(self, deadlines: Mapping[date, datetime]) -> Mapping[date, Punctuality]:
        """Return for each day whether its predictions were published by its deadline."""

    @abstractmethod
    def skew_checks(self, days: Interval) -> "list[SkewCheck]":
        """Return the checks of the batches of these run dates that are published, in order of days."""

    @abstractmethod
    def compare(self, declared: "Comparison", since: date) -> None:
        """Measure champion, former champions and dummy baseline on each published day from `since` on that changed."""

    @abstractmethod
    def compared_days(self, *, since: date) -> "list[ComparedDay]":
        """Return what `compare` measured of the run dates from a day on."""

    @abstractmethod
    def champions(self, days: Sequence[date]) -> "Ages":
        """Return the champion of each of these run dates, and when it was trained."""

    def score_health(self, days: Interval) -> Sequence[ScoreHealth]:
        """Return the numeric health of the published scores of these days, the oldest first; a watch may have none."""
        return ()

    def estimates(self, metric: str, days: Interval) -> "Sequence[ExpectedMetric]":
        """Estimate the published days that were not yet; return the expected metric of these days, in order."""
        return ()

    def summaries(self, slices: Sequence[str], min_rows: int, days_before: int) -> Summarised | None:
        """Summarise the days that changed; return the summaries of all, None if the model has no champion yet.

        Args:
            slices: columns by which rows are looked at, too.
            min_rows: of a slice.
            days_before: how many days before the interval are needed.
        """
        return None

    def record_drift(self, rows: Mapping[date, Sequence[Mapping[str, Any]]]) -> int:
        """Store how far series are from a reference on each run date, and return how many rows changed."""
        return 0


class Monitor(Variant):
    """A monitor with its settings. A kind that `model.yaml` does not list runs with its defaults."""

    def require_fit(self, model: Training, project: Project) -> None:
        """Raise ValueError when a setting does not fit the model or its project; its text begins with the key."""

    @abstractmethod
    def run(self, watch: Watch) -> Findings:
        """Look at each run date of the interval; count no later days, so that a repeated run finds the same."""
