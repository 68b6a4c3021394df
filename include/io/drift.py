"""Summarise the days of a model from features, predictions and outcomes, for the monitor `drift`.

The edges of a feature are frozen once, from the training data of the first champion that has it. So training is not
slowed, a version of an older release of the product needs nothing, and a new champion changes no summary. What a
version was trained on is the sum of the summaries of the days that its training read, as their records have them now.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

import numpy as np
import polars as pl

from include.core.errors import DataError
from include.core.feeds import HORIZON
from include.core.horizons import with_horizon
from include.core.interval import Interval
from include.core.names import features_table
from include.core.project import Project
from include.core.records import TableRef
from include.core.settings import Settings
from include.io import postgres
from include.io.postgres.model_files import RecordedFit
from include.io.tables import Tables
from include.monitoring.drift_summary import (
    SUMMARISED_BY,
    Edges,
    Summarised,
    Summary,
    WatchedSeries,
    summarise_day,
)
from include.monitoring.records import MonitoredModel

log = logging.getLogger(__name__)

INPUT, PREDICTION, OUTCOME = "input", "prediction", "outcome"
SCORE, PREDICTED_LABEL, VALUE = "score", "label", "value"
COLUMNS_AT_ONCE = 25
"""Columns of a day that are held in memory together."""

FROZEN_FROM_ROWS = 100_000
"""Rows of the training data, spread evenly, of which the quantiles become edges."""


@dataclass(frozen=True)
class DriftSource:
    """A model, with where its data are and how its days are summarised."""

    project: Project
    model: MonitoredModel
    settings: Settings
    slices: tuple[str, ...]
    min_rows: int

    def summarised(self, interval: Interval, days_before: int) -> Summarised | None:
        """Summarise the days that changed; return the summaries of all days that the interval is compared with.

        Args:
            interval: the run dates to measure.
            days_before: how many days before them are needed.

        Returns:
            The summaries, None before the first champion whose training data are known.
        """
        training = {version: days for version, fit in self._fits.items() if (days := self._training_days(fit))}
        champions = [
            version for version in postgres.drift.read_champions(self.settings, self.model.name) if version in training
        ]
        if not champions:
            log.info("%s: no champion whose training data are known; drift is not measured", self.model.name)
            return None
        self._freeze(champions, training)
        edges = postgres.drift.read_edges(self.settings, self.model.name)
        needed = _needed(interval.days, self._versions(interval.days), training, days_before)
        changed = [
            *self._summarise_inputs(edges, needed),
            *self._summarise_predictions(edges, needed),
            *self._summarise_outcomes(edges, needed),
        ]
        after = {day + timedelta(days=ago) for day in changed for ago in range(days_before + 1)}
        later = postgres.drift.read_measured(
            self.settings, self.model.name, (day for day in after if day <= interval.end)
        )
        run_dates = sorted({*interval.days, *later})
        versions = self._versions(run_dates)
        return Summarised(
            edges,
            self._by_run_date(_needed(run_dates, versions, training, days_before)),
            versions,
            {version: (days_read.start, days_read.end) for version, days_read in training.items()},
            run_dates,
        )

    def _versions(self, run_dates: Sequence[date]) -> dict[date, int]:
        """Return the version that predicted on each run date that is published."""
        published = postgres.drift.read_published(self.settings, self.model.name, run_dates)
        return {day: each.model_version for day, each in published.items()}

    @cached_property
    def _tables(self) -> Tables:
        return Tables(self.settings)

    @cached_property
    def _fits(self) -> Mapping[int, RecordedFit]:
        return postgres.model_files.read_versions(self.settings, self.model.name)

    def _training_days(self, fit: RecordedFit) -> Interval | None:
        """Return the run dates whose features a training read; of an old record, the days that it declared."""
        if fit.origin is not None:
            return fit.origin.run_dates
        if not self.model.train_days:
            return None
        newest = fit.fit_end if fit.trained_day is None else fit.trained_day - timedelta(days=1)
        return Interval(start=newest - timedelta(days=self.model.train_days - 1), end=newest)

    # --- edges ---

    def _freeze(self, champions: list[int], training: Mapping[int, Interval]) -> None:
        """Freeze the edges of what has none yet, by the earliest champion that has it.

        After a person's decision to freeze them again, the newest champion comes first, whose data were accepted.
        """
        number, there = postgres.drift.read_frozen(self.settings, self.model.name)
        first, newest = champions[0], champions[-1]
        if number:
            first, champions = newest, [newest, *champions[:-1]]
        inputs = [name for name in (*self.model.numeric, *self.model.categorical) if (INPUT, name) not in there]
        if inputs:
            # What the newest champion lacks, no champion needs; to ask all of them would take long each night.
            known = self._columns(training[newest])
            inputs = [name for name in inputs if known is None or name in known]
        for version in champions:
            found: dict[tuple[str, str], Edges] = {}
            if inputs:
                found |= self._edges_of_inputs(inputs, training[version])
                inputs = [name for name in inputs if (INPUT, name) not in found]
            if version == first and (OUTCOME, self.model.outcome) not in there:
                found |= self._edges_of_results(training[version])
            postgres.drift.freeze_edges(self.settings, self.model.name, version, found, number)
            if not inputs:
                break

    def _columns(self, days: Interval) -> list[str] | None:
        """Return the columns of the features of the newest of some days; None if none is prepared, or it is gone."""
        features = postgres.days.read_features(self.settings, self.project.name, days)
        try:
            return self._scan(features[max(features)].version).collect_schema().names() if features else None
        except (DataError, FileNotFoundError):
            return None

    def _edges_of_inputs(self, names: list[str], days: Interval) -> dict[tuple[str, str], Edges]:
        features = postgres.days.read_features(self.settings, self.project.name, days)
        step = max(1, sum(each.rows for each in features.values()) // FROZEN_FROM_ROWS)
        values: dict[str, list[pl.Series]] = {}
        for day, ref in features.items():
            try:
                for part in self._read(day, ref, names, step):
                    for name in part.columns:
                        values.setdefault(name, []).append(part[name])
            except (DataError, FileNotFoundError) as error:
                log.warning("%s: %s is left out of the edges: %s", self.model.name, day, error)
        made = {}
        for name, parts in values.items():
            if name in self.model.numeric:
                numbers = [part.cast(pl.Float64).fill_null(float("nan")).to_numpy() for part in parts]
                made[INPUT, name] = Edges.of_numbers(np.concatenate(numbers))
            else:
                made[INPUT, name] = Edges.of_labels(pl.concat([part.cast(pl.String) for part in parts]))
        return made

    def _edges_of_results(self, days: Interval) -> dict[tuple[str, str], Edges]:
        """Return the edges of outcomes and predictions; predictions of a number are counted as outcomes are."""
        outcome, score = (OUTCOME, self.model.outcome), (PREDICTION, SCORE)
        if self.model.problem_type == "binary":
            return {outcome: Edges.of_numbers(np.array([0.0, 1.0])), score: Edges.of_probabilities()}
        if self.model.problem_type == "multiclass":
            numbers = np.arange(len(self.model.classes), dtype=float)
            label = Edges(labels=tuple(sorted(self.model.classes)))
            return {
                outcome: Edges.of_numbers(numbers),
                score: Edges.of_probabilities(),
                (PREDICTION, PREDICTED_LABEL): label,
            }
        values = postgres.drift.read_outcomes(self.settings, self.project.name, self.model.outcome, days)
        if not values.height:
            return {}
        made = Edges.of_numbers(values[VALUE].fill_null(float("nan")).to_numpy())
        return {outcome: made, score: made}

    # --- days ---

    def _summarise_inputs(self, edges: Mapping[tuple[str, str], Edges], days: list[date]) -> list[date]:
        own = {name: each for (role, name), each in edges.items() if role == INPUT}
        features = {
            day: ref
            for each in Interval.covering(days)
            for day, ref in postgres.days.read_features(self.settings, self.project.name, each).items()
        }
        digest = self._digests(own)
        digests = {
            day: digest(features[day].version, features[day].rows)
            for day in days
            if day in features and features[day].rows
        }

        def summarise(day: date) -> dict[WatchedSeries, Summary]:
            made: dict[WatchedSeries, Summary] = {}
            try:
                for part in self._read(day, features[day], [*own], by=self.slices):
                    columns = {name: own[name] for name in part.columns if name in own}
                    made |= summarise_day(part, INPUT, columns, self.slices, self.min_rows)
            except (DataError, FileNotFoundError) as error:
                log.warning("%s: the inputs of %s are not summarised: %s", self.model.name, day, error)
            return made

        empty = [day for day in days if day not in digests]
        return postgres.drift.replace_summaries(self.settings, self.model.name, INPUT, digests, summarise, empty=empty)

    def _read(
        self, day: date, ref: TableRef, names: list[str], step: int = 1, by: tuple[str, ...] = ()
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows of a day, `COLUMNS_AT_ONCE` columns at a time, with the columns of `by` that there are.

        With `step`, only every so many rows, by the order of their entities.
        """
        rows = self._scan(ref.version)
        there = rows.collect_schema().names()
        own = (pl.col("day") == day) & (pl.col("data_view") == "point_in_time")
        rows = rows.filter(own, pl.col(HORIZON) <= self.model.horizon_days)
        if step > 1:
            rows = rows.sort(HORIZON, "entity_id").gather_every(step)
        present = [name for name in names if name in there]
        slices = [name for name in by if name in there]
        for start in range(0, len(present), COLUMNS_AT_ONCE):
            yield rows.select([*dict.fromkeys([*present[start : start + COLUMNS_AT_ONCE], *slices])]).collect()

    def _scan(self, version: int) -> pl.LazyFrame:
        """Return the features at a version. The days of a range backfill are of one version, which is opened once."""
        return with_horizon(self._tables.scan(features_table(self.project.name), version))

    def _summarise_predictions(self, edges: Mapping[tuple[str, str], Edges], days: list[date]) -> list[date]:
        own = {name: each for (role, name), each in edges.items() if role == PREDICTION}
        batches = postgres.drift.read_published(self.settings, self.model.name, days)
        digest = self._digests(own)
        digests = {day: digest(batches[day].batch_id) for day in days if day in batches and own}

        def summarise(day: date) -> dict[WatchedSeries, Summary]:
            rows = postgres.drift.read_scores(self.settings, self.project, batches[day].batch_id, day, self.slices)
            return dict(summarise_day(rows, PREDICTION, own, self.slices, self.min_rows))

        empty = [day for day in days if day not in digests]
        return postgres.drift.replace_summaries(
            self.settings, self.model.name, PREDICTION, digests, summarise, empty=empty
        )

    def _summarise_outcomes(self, edges: Mapping[tuple[str, str], Edges], days: list[date]) -> list[date]:
        """Summarise outcomes; return the run dates that first know the days that changed."""
        name = self.model.outcome
        if (OUTCOME, name) not in edges:
            return []
        own, feed = {name: edges[OUTCOME, name]}, self.project.feeds[self.project.outcomes[name].feed]
        by_day = {feed.needed_day(day) for day in days}
        found = postgres.drift.read_outcome_digests(self.settings, self.project.name, name, by_day)
        digest = self._digests(own)
        digests = {day: digest(of_day) for day, of_day in found.items()}

        def summarise(day: date) -> dict[WatchedSeries, Summary]:
            rows = postgres.drift.read_outcomes(self.settings, self.project.name, name, Interval.of(day))
            return dict(summarise_day(rows.rename({VALUE: name}), OUTCOME, own, (), self.min_rows))

        empty = [day for day in by_day if day not in digests]
        made = postgres.drift.replace_summaries(
            self.settings, self.model.name, OUTCOME, digests, summarise, empty=empty
        )
        return [feed.first_run_date(day) for day in made]

    def _by_run_date(self, days: Sequence[date]) -> dict[WatchedSeries, dict[date, Summary]]:
        """Return the summaries of run dates; an outcome is of the run date that first knows it."""
        feed = self.project.feeds[self.project.outcomes[self.model.outcome].feed]
        wanted = {*days}
        read = postgres.drift.read_summaries(
            self.settings, self.model.name, {*days, *(feed.needed_day(day) for day in days)}
        )
        found = {}
        for series, by_day in read.items():
            moved = (
                {feed.first_run_date(day): each for day, each in by_day.items()} if series.role == OUTCOME else by_day
            )
            within = {day: each for day, each in moved.items() if day in wanted}
            if within:
                found[series] = within
        return found

    def _digests(self, edges: Mapping[str, Edges]) -> Callable[..., str]:
        """Return the function that makes the digest of what the summary of a day depends on.

        The digest is of a JSON list. What is the same for all days comes first and is digested once.
        """
        frozen = {name: vars(each) for name, each in sorted(edges.items())}
        how = [SUMMARISED_BY, frozen, sorted(self.slices), self.min_rows, self.model.horizon_days]
        begun = hashlib.sha256(json.dumps(how, sort_keys=True).removesuffix("]").encode())

        def digest(*of: str | int) -> str:
            of_day = begun.copy()
            of_day.update(f", {json.dumps(of).removeprefix('[')}".encode())
            return of_day.hexdigest()

        return digest


def _needed(
    run_dates: Sequence[date], versions: Mapping[date, int], training: Mapping[int, Interval], days_before: int
) -> list[date]:
    """Return the days that run dates are compared with: those before them, and those of their versions' training."""
    before = (day - timedelta(days=ago) for day in run_dates for ago in range(days_before + 1))
    trained = {training[version] for version in versions.values() if version in training}
    newest = max(run_dates)
    return sorted({*before, *(day for each in trained for day in each.days if day <= newest)})
