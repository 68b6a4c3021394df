"""What a report is about: a version, its rows and scores, and the champion that it wants to replace."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

import numpy as np
import polars as pl

from include.config.model import Model
from include.core.horizons import target_day
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import GateDecision
from include.quality.examples import HIDDEN, shown
from include.training.problem_types import ProblemType
from include.training.training_set import LABEL


@dataclass(frozen=True)
class ReportedVersion:
    """A version with its scores of the holdout rows, and where it came from.

    Attributes:
        version: its number.
        score: one row for each holdout row.
        decision_threshold: from which score on it predicts 1 (binary).
        numeric: its numeric inputs.
        categorical: its inputs with labels.
        tags: of its MLflow run.
        libraries: the packages that its files name, with their versions.
    """

    version: int
    score: np.ndarray
    decision_threshold: float
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    tags: Mapping[str, str]
    libraries: Mapping[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Its input columns."""
        return (*self.numeric, *self.categorical)


MAX_FITTED = 200_000
"""The most rows fitted on that describe the inputs. Two standard errors of a quantile are then 0.2 % of the rows."""


@dataclass(frozen=True)
class ReportSubject:
    """All that a report shows.

    Attributes:
        model: `model.yaml`.
        project: of the model.
        decision: of the gate, on this version.
        fit: the days fitted on.
        validation: the days on which candidates were compared.
        holdout: the days on which the gate decided.
        fitted_rows: features of at most MAX_FITTED of the rows fitted on; of an adopted version, of those that a fit
            here would be on.
        fitted_truth: the outcomes (f64) of all rows fitted on.
        holdout_rows: the rows that the scores are of.
        challenger: the version that the report is about.
        predict: its scores of other rows.
        to_beat: the champion of that day, None if there is none.
        champion_missing: why the champion cannot score these rows.
        missing_days: days that should have labelled rows and have none.
    """

    model: Model
    project: Project
    decision: GateDecision
    fit: Interval
    validation: Interval
    holdout: Interval
    fitted_rows: pl.DataFrame
    fitted_truth: np.ndarray
    holdout_rows: pl.DataFrame
    challenger: ReportedVersion
    predict: Callable[[pl.DataFrame], np.ndarray]
    to_beat: ReportedVersion | None = None
    champion_missing: str | None = None
    missing_days: tuple[date, ...] = ()

    @property
    def champion(self) -> ReportedVersion | None:
        """The version to beat, None if there is none or it cannot score these rows."""
        return None if self.champion_missing else self.to_beat

    @property
    def fitted_here(self) -> bool:
        """Whether the version was fitted on the rows of `fitted_rows`; one that was adopted was fitted elsewhere."""
        return "adopted_from" not in self.challenger.tags

    @property
    def problem(self) -> ProblemType:
        """The problem type of the model."""
        return self.model.problem

    @cached_property
    def truth(self) -> np.ndarray:
        """The outcomes (f64) of the holdout rows."""
        return self.holdout_rows[LABEL].to_numpy()

    @cached_property
    def days(self) -> np.ndarray:
        """The target day of each holdout row."""
        return self.holdout_rows.select(target_day()).to_series().to_numpy()

    @cached_property
    def dummy(self) -> np.ndarray:
        """The scores of the dummy baseline on the holdout rows."""
        return self.problem.repeat(self.problem.constant(self.fitted_truth), len(self.truth))

    @property
    def entities_are_personal(self) -> bool:
        """Whether a row is about somebody: a column of the entity's key is not public."""
        of_entity = self.project.feeds[self.project.entity.feed].columns
        return any(of_entity[name].data_class != "public" for name in self.project.entity.key)

    def is_personal(self, column: str) -> bool:
        """Return whether a feature has the name of a column that is not public in some feed."""
        return any(
            column in feed.columns and feed.columns[column].data_class != "public"
            for feed in self.project.feeds.values()
        )

    def label(self, column: str, value: str | None) -> str:
        """Return a label of a feature for people, hidden if it may be personal."""
        if value is None:
            return "missing"
        return HIDDEN if self.is_personal(column) else shown(self.project, value)


def by_frequency(values: Sequence[str | None], most: int) -> list[str | None]:
    """Return the most frequent labels, the most frequent first, equal ones in the order of the alphabet."""
    counted = pl.Series("label", values, dtype=pl.String).value_counts()
    ordered = counted.sort("count", "label", descending=[True, False], nulls_last=True)
    return ordered["label"].head(most).to_list()
