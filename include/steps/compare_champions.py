"""Measure the champion, former champions and the dummy baseline on the same rows of each run date.

The champion's predictions are those that are published. A former champion's are those that it stored for the day, as
its champion or as a shadow; otherwise it scores the rows now, from the features of the prepared day. What was measured
is stored, so each day is measured once, on at most `rows` rows.
"""

import logging
from collections.abc import Mapping
from datetime import date, timedelta
from functools import lru_cache, partial
from typing import Any

import numpy as np
import polars as pl
from mlflow.exceptions import MlflowException

from include.config.model import Model
from include.core.errors import ActionRequiredError, DataError
from include.core.horizons import KEY, with_horizon
from include.core.interval import BLOCK_DAYS, Interval
from include.core.names import features_table
from include.core.personal import PROTECTED
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres
from include.io.postgres.comparisons import DueComparison
from include.io.registry import LoadedModel, Registry
from include.io.tables import Tables
from include.monitoring.degradation import ALL, CHAMPION, DUMMY, ComparedDay, Comparison, ModelAge
from include.steps.training_summary import summary_of_version

log = logging.getLogger(__name__)

MAX_VALUES = 100
"""Values of a slice that are measured, those with the most rows."""

MAX_CHARACTERS = 200
"""Values of a slice that begin with the same characters are one."""

MAX_LOADED = 8
"""Versions that are held in memory. Days are compared in order, so that those of a day before are still there."""

MISSING = (ActionRequiredError, DataError, FileNotFoundError)
"""What is raised when a version or its features are not there, or cannot be used. Only that version is left out."""


def compare_champions(project: Project, model: Model, settings: Settings, declared: Comparison, since: date) -> int:
    """Measure each run date from `since` on that is due; return how many. A killed run leaves whole blocks of days."""
    due = postgres.comparisons.read_due(settings, project, model.monitored, declared, since)
    comparing = _Comparing(project, model, settings, declared)
    for start in range(0, len(due), BLOCK_DAYS):
        part = due[start : start + BLOCK_DAYS]
        compared = {each: comparing.of_day(each) for each in part}
        postgres.comparisons.replace_comparisons(settings, model.monitored, compared)
    return len(due)


def champion_ages(model: str, days: list[date], settings: Settings) -> dict[date, ModelAge]:
    """Return the champion of each run date and when it was trained."""
    interval = Interval(start=min(days), end=max(days))
    champions = postgres.promotions.read_champions(settings, model, interval)
    recorded = postgres.model_files.read_versions(settings, model)
    ages = {}
    for day, version in champions.items():
        fit = recorded.get(version)
        ages[day] = ModelAge(version, None if fit is None else fit.trained_day)
    return ages


class _Comparing:
    """What the comparisons of several days share: loaded versions and their dummy baselines."""

    def __init__(self, project: Project, model: Model, settings: Settings, declared: Comparison) -> None:
        self.project, self.model, self.settings, self.declared = project, model, settings, declared
        self.tables, self.problem = Tables(settings), model.problem
        self.loaded = lru_cache(MAX_LOADED)(self._load)
        self.constant = lru_cache(None)(self._constant)

    def of_day(self, due: DueComparison) -> list[ComparedDay]:
        """Return what is measured of a run date; nothing if no outcome is known."""
        rows = postgres.comparisons.read_rows(self.settings, self.project, self.model.monitored, due, self.declared)
        if rows.is_empty():
            return []
        truth = rows["outcome"].to_numpy()
        if self.problem.wrong_labels(truth):
            return []  # the monitor `performance` reports it
        losses = {(CHAMPION, due.version): self.problem.loss_by_row(truth, self.problem.scores_of(rows))}
        for place, version in enumerate(due.former, 1):
            if (score := self._score(due, version, rows)) is not None:
                losses[place, version] = self.problem.loss_by_row(truth, score)
        if (constant := self.constant(due.version)) is not None:
            losses[DUMMY, 0] = self.problem.loss_by_row(truth, self.problem.repeat(constant, len(truth)))
        last_day = due.day + timedelta(days=due.horizon_days)
        found = []
        for (place, version), loss in losses.items():
            measured = partial(ComparedDay, due.day, last_day, place, version)
            found.append(measured(ALL, ALL, len(loss), float(loss.mean())))
            if place in (CHAMPION, DUMMY):
                for column in self.declared.slices:
                    values = pl.col(column).str.slice(0, MAX_CHARACTERS).alias("value")
                    by_value = rows.select(values, loss=pl.Series(loss)).drop_nulls("value")
                    by_value = by_value.filter(~pl.col("value").str.contains(PROTECTED))  # or `erase` would miss it
                    of_values = by_value.group_by("value").agg(pl.len().alias("rows"), pl.col("loss").mean())
                    largest = of_values.sort("rows", "value", descending=[True, False]).head(MAX_VALUES)
                    found += [measured(column, value, *each) for value, *each in largest.rows()]
        return found

    def _score(self, due: DueComparison, version: int, rows: pl.DataFrame) -> np.ndarray | None:
        """Return the scores of the rows by a former champion; None if it has none for all of them."""
        stored = postgres.comparisons.read_stored(self.settings, self.model.name, due.day, version, rows)
        if stored is not None:
            score = self.problem.scores_of(stored)
            return score if np.isfinite(score).all() else None
        loaded = self.loaded(version)
        if loaded is None:
            return None
        try:
            features = self._features(due.day, rows, loaded)
        except MISSING as error:
            log.warning("%s %s: former champion %d is left out: %s", self.model.name, due.day, version, error)
            return None
        try:
            score = loaded.predict(features)
        except Exception:  # an estimator of an older release may raise anything on the columns of today
            log.exception("%s %s: former champion %d is left out.", self.model.name, due.day, version)
            return None
        return score if np.isfinite(score).all() else None

    def _features(self, day: date, rows: pl.DataFrame, loaded: LoadedModel) -> pl.DataFrame:
        """Return the inputs of the rows as the prepared day has them, in the order of the rows."""
        features = postgres.days.read_features(self.settings, self.project.name, Interval.of(day)).get(day)
        if features is None:
            raise DataError(f"{self.project.name}: {day} is not prepared")
        at = with_horizon(self.tables.scan(features_table(self.project.name), features.version))
        if absent := sorted({*loaded.inputs} - {*at.collect_schema().names()}):
            raise DataError(f"the features of {day} lack {', '.join(absent)}")
        of_day = at.filter(pl.col("day") == day, pl.col("data_view") == "point_in_time")
        columns = list(dict.fromkeys([*KEY, *loaded.inputs]))
        found = rows.select(KEY).lazy().join(of_day.select(columns), on=KEY, maintain_order="left").collect()
        if found.height != rows.height:
            raise DataError(f"the features of {day} lack {rows.height - found.height} of {rows.height} published rows")
        return found

    def _load(self, version: int) -> LoadedModel | None:
        """Return a version that predicts the same; None if it cannot be loaded or predicts something else."""
        registry = Registry(self.settings)
        try:
            digest = postgres.model_files.read_versions(self.settings, self.model.name, [version])[version].model_digest
            loaded = registry.load(registry.get_version(self.model.name, version), digest, self.model)
        except MISSING as error:
            log.warning("%s: version %d cannot be loaded: %s", self.model.name, version, error)
            return None
        except MlflowException:  # it is down: the next run compares
            raise
        except Exception:  # a library of today may raise anything on the files of an older one
            log.exception("%s: version %d cannot be loaded, and is left out.", self.model.name, version)
            return None
        return loaded if self._predicts_the_same(version, loaded.predicts) else None

    def _predicts_the_same(self, version: int, predicts: Mapping[str, Any]) -> bool:
        model = self.model
        own = {"problem_type": model.problem_type, "quantiles": [*model.quantiles], "classes": [*model.classes]}
        compared = [*own] if self.problem.kind in ("quantile", "multiclass") else ["problem_type"]
        if any(predicts[name] != own[name] for name in compared):
            log.warning("%s: version %d predicts something else, and is not compared", model.name, version)
            return False
        return True

    def _constant(self, version: int) -> float | np.ndarray | None:
        """Return the dummy baseline of a version; None if it is not known, or predicts something else."""
        summary = postgres.training_summaries.read_summary(self.settings, self.model.name, version)
        if summary is None or summary.predicts is None:
            loaded = self.loaded(version)
            if loaded is None:
                return None
            summary = summary_of_version(self.model, version, loaded, self.settings)
            postgres.training_summaries.record_predicts(self.settings, self.model.name, version, loaded.predicts)
        elif not self._predicts_the_same(version, summary.predicts):
            return None
        return None if summary.constant is None else np.asarray(summary.constant, dtype=np.float64)
