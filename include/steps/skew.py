"""skew: build a sample of published predictions again from the raw tables, compare, and raise alerts.

For the run date before each one of the interval, and up to `LOOK_BACK_DAYS` before that for what no run has checked,
`monitoring/skew.py` says what is compared. Nothing but the checks is written.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property

import polars as pl
from pyspark.sql import functions as F

from include.config.loading import load_model, model_names
from include.config.model import Model
from include.core.changes import features_digest
from include.core.errors import ActionRequiredError, ConfigError, DataError
from include.core.feeds import HORIZON
from include.core.horizons import KEY, key_in, with_horizon
from include.core.interval import Interval
from include.core.journal import Known
from include.core.names import features_table
from include.core.point_in_time import known_deliveries
from include.core.project import Project
from include.core.records import Alert, PreparedDay, Skewed
from include.core.schemas import PREDICTION_COLUMNS
from include.core.settings import Settings
from include.features.feeds import small_frame
from include.io import postgres, spark
from include.io.journal import read_journal
from include.io.postgres.skew import PublishedBatch
from include.io.registry import LoadedModel, Registry, score_rows
from include.io.tables import Tables
from include.monitoring.skew import (
    LOOK_BACK_DAYS,
    SkewCheck,
    SkewMonitor,
    difference,
    signature_differences,
    unlike_training,
)
from include.steps.build_features import features_frame
from include.steps.clean_again import clean_again
from include.steps.monitor import alerts_about, open_watch
from include.steps.score import read_digests
from include.steps.training_summary import summary_of_version
from include.training import training_set

log = logging.getLogger(__name__)

COMPARED = [name for name in PREDICTION_COLUMNS if name != "probabilities"]
"""Columns of predictions that are compared; probabilities follow from the same scores, and are stored as text."""


def skew(project: Project, interval: Interval, settings: Settings) -> Skewed:
    """Check each published batch that was not checked yet, of the run dates before those of the interval.

    A check belongs to its batch and is recorded in one statement, so a repeated or killed run ends the same. One that
    failed is made again by the runs of the next days.
    """
    models = [load_model(name) for name in model_names(project.name)]
    days = interval.shifted(start=-1 - LOOK_BACK_DAYS, end=-1)
    waiting = {
        model.name: [
            _Published(model, batch, postgres.skew.read_sample(settings, batch, own.rows))
            for batch in postgres.skew.read_unchecked(settings, model.name, days)
        ]
        for model in models
        if (own := _monitor(model)).rows
    }
    recomputing = _Recomputing(project, settings, read_journal(settings, project), days)
    checks = recomputing.checks([each for of_model in waiting.values() for each in of_model])
    prepared_days = postgres.freshness.read_preparations(settings, project.name, until=interval.end)
    alerts: list[Alert] = []
    for model in models:
        postgres.skew.record_checks(settings, model.name, checks.get(model.name, []))
        watch = open_watch(project, model, interval, settings, prepared_days)
        alerts += alerts_about(model, [_monitor(model).run(watch)])
    made = [check for of_model in checks.values() for check in of_model]
    return Skewed(
        interval=interval,
        rows=sum(check.rows for check in made),
        days=len(made),
        alerts=postgres.alerts.raise_alerts(settings, project.name, alerts, scope="skew", looked=interval.days),
    )


@dataclass(frozen=True)
class _Published:
    """A published batch and the sample of its rows."""

    model: Model
    batch: PublishedBatch
    sample: pl.DataFrame

    @property
    def keys(self) -> pl.DataFrame:
        """KEY of the sample."""
        return self.sample.select(pl.lit(self.batch.day).alias("day"), HORIZON, "entity_id")


def _monitor(model: Model) -> SkewMonitor:
    return next(monitor for monitor in model.all_monitors if isinstance(monitor, SkewMonitor))


class _Recomputing:
    """Builds and scores published rows again; what models have in common is done once."""

    def __init__(self, project: Project, settings: Settings, journal: Known, days: Interval) -> None:
        self.project, self.settings, self.journal = project, settings, journal
        self.tables, self.registry = Tables(settings), Registry(settings)
        found = postgres.days.read_prepared_days(settings, project.name, days)
        self.prepared = {each.day: each for each in found}
        self.pulled = postgres.hash_keys.was_pulled(settings, project.name)
        self.exact = project.run_on.get("build_features") != "databricks" and not spark.on_databricks()

    @cached_property
    def digest(self) -> str:
        """Digest of the declarations and the code of the features, as they are now."""
        return features_digest(self.project)

    def checks(self, published: Sequence[_Published]) -> dict[str, list[SkewCheck]]:
        """Check batches of any models; return the checks by model. Rows that several models score are built once."""
        wanted: dict[date, list[pl.DataFrame]] = {}
        for each in published:
            if not self._why_not(each):
                wanted.setdefault(each.batch.day, []).append(each.keys)
        built: dict[date, pl.DataFrame] = {}
        failed: dict[date, str] = {}
        for part in Interval.covering(wanted):
            try:
                rows = self._build(part, pl.concat([keys for day in part.days for keys in wanted[day]]).unique())
                built |= {day: rows.filter(pl.col("day") == day) for day in part.days}
            except (ActionRequiredError, ConfigError, DataError) as error:
                failed |= dict.fromkeys(part.days, str(error))
        checks: dict[str, list[SkewCheck]] = {}
        for each in published:
            batch = each.batch
            check = SkewCheck(batch.day, batch.batch_id, batch.model_version)
            if why := self._why_not(each):
                log.info("%s %s: not compared: %s", each.model.name, batch.day, why)
                check = replace(check, state="skipped", why=why)
            elif batch.day in failed:
                log.warning("%s %s: %s", each.model.name, batch.day, failed[batch.day])
                check = replace(check, state="failed", why=failed[batch.day])
            else:
                check = self._try_to_compare(each, check, built[batch.day])
            checks.setdefault(each.model.name, []).append(check)
        return checks

    def _why_not(self, published: _Published) -> str:
        """Return why a comparison would say nothing; empty if it says something."""
        batch, prepared = published.batch, self.prepared.get(published.batch.day)
        record = self.journal.records.get(batch.day)
        if batch.rows == 0:
            return "it has no rows"
        if self.pulled:
            return "its rows were pulled from another installation, which has the raw tables"
        if prepared is None or record is None:
            return "the day has no record of what it knew"
        if batch.as_of != record.as_of:
            return "it was published with data: latest, which has no record"
        if prepared.config_digest not in (None, self.digest):
            return "the features were built by other code or declarations than those of now"
        if any(sequence > record.watermark for sequence in self.journal.erased.hashes.values()):
            return "a person was erased since the day was prepared"
        return ""

    def _build(self, interval: Interval, keys: pl.DataFrame) -> pl.DataFrame:
        """Return the features of some rows, built again from the deliveries that the records of their days name."""
        known = known_deliveries(self.project, self.journal, interval)
        deliveries = self.journal.deliveries.join(known.select("delivery_id").unique(), on="delivery_id")
        by_feed = {str(feed): part for (feed,), part in deliveries.partition_by("feed", as_dict=True).items()}
        instead = {}
        if not spark.on_databricks():
            for name, of_feed in by_feed.items():
                instead[name] = clean_again(self.project, name, of_feed, self.journal.erased, self.settings)
        with spark.job() as (session, staged):
            frame, _ = features_frame(
                session, self.tables, self.project, interval, self.journal, known, staged, instead
            )
            key = key_in(frame.columns)
            chosen = frame.join(F.broadcast(small_frame(session, keys.select(key))), key, "left_semi")
            rows = pl.from_arrow(chosen.toArrow())
        assert isinstance(rows, pl.DataFrame)
        return with_horizon(rows.lazy()).collect().sort(KEY)

    def _try_to_compare(self, published: _Published, check: SkewCheck, built: pl.DataFrame) -> SkewCheck:
        """Compare; whatever an estimator raises is a failed check of its model, and no other model is affected."""
        try:
            again = built.join(published.keys, on=KEY, how="semi").sort(KEY)
            return self._compare(published, check, again)
        except (ActionRequiredError, DataError) as error:
            return replace(check, state="failed", why=str(error))
        except Exception as error:  # an estimator may raise anything on the rows of today
            log.exception("%s %s: the comparison failed; other models go on.", published.model.name, check.day)
            why = f"{type(error).__name__}; its text is in the log of the step"
            return replace(check, state="failed", why=why)

    def _compare(self, published: _Published, check: SkewCheck, again: pl.DataFrame) -> SkewCheck:
        """Compare what was built again with the stored features, and what it scores with what was published."""
        model, batch = published.model, published.batch
        prepared = self.prepared[batch.day]
        stored = self._stored(prepared, published.keys)
        loaded = self._load(model, batch.model_version)
        training_set.require_columns(model.name, loaded.inputs, again.columns, "the features that were built again")
        of_score = again.with_columns(as_of=pl.lit(batch.as_of), features_version=pl.lit(0, pl.Int64))
        scored = score_rows(loaded, batch.model_version, of_score)
        columns = [name for name in stored.columns if name not in (*KEY, "as_of", "data_view")]
        missing, features = difference(stored, again, KEY, columns, exact=self.exact)
        sample = published.keys.hstack(published.sample.drop(HORIZON, "entity_id"))
        # Another processor may have made the scores, or an earlier version of the product, which scored a day at once.
        _, scores = difference(sample, scored, KEY, COMPARED, exact=False)
        summary = summary_of_version(model, batch.model_version, loaded, self.settings)
        types = {name: str(kind) for name, kind in stored.schema.items()}
        unlike = unlike_training(summary.inputs, stored)
        found = replace(
            check,
            rows=published.sample.height,
            exact=self.exact,
            missing=missing,
            features=features,
            scores=scores,
            signature=signature_differences(loaded.inputs, summary.types, types),
            unseen=unlike.unseen,
            outside=unlike.outside,
            far=unlike.far,
        )
        log.info(
            "%s %s: %d published rows built again; %d columns of features and %d of predictions differ",
            model.name, batch.day, found.rows, len(features), len(scores),
        )  # fmt: skip
        return found

    def _stored(self, prepared: PreparedDay, keys: pl.DataFrame) -> pl.DataFrame:
        """Return the features that were scored, of some rows."""
        table = features_table(self.project.name)
        at = self.tables.scan(table, prepared.table_versions[table])
        of_day = at.filter(pl.col("day") == prepared.day, pl.col("data_view") == "point_in_time")
        try:
            return with_horizon(of_day).join(keys.lazy(), on=KEY, how="semi").collect().sort(KEY)
        except FileNotFoundError as error:
            raise DataError(f"files of the features of {prepared.day} are gone: {error}") from error

    def _load(self, model: Model, version: int) -> LoadedModel:
        digest = read_digests(self.settings, model, [version])[version]
        return self.registry.load(self.registry.get_version(model.name, version), digest, model)
