"""From features to the scores of a champion, on Delta tables, PostgreSQL and MLflow.

These tests check what a training may read, and that results exist once although steps are killed or run concurrently.
"""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa
from mlflow import MlflowClient
from pydantic import SecretStr
from sklearn.pipeline import Pipeline

from include.config.loading import load_project
from include.config.model import Model
from include.core import schemas
from include.core.erasure import Erasures
from include.core.errors import ActionRequiredError, ConfigError, DataError
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.project import Project
from include.core.records import Evaluated, TableRef
from include.core.settings import Settings
from include.gate.config import Gate
from include.io import postgres, training_sets
from include.io.registry import EVALUATED, Registry
from include.io.registry import runs as registry_runs
from include.io.registry.client import MlflowConnection
from include.io.tables import Scope, Tables
from include.operations.decide import withdraw
from include.operations.reproduce import reproduce
from include.runner.run import run
from include.steps import fit as fit_step
from include.steps.evaluate import evaluate
from include.steps.extract import extract
from include.steps.fit import fit
from include.steps.promote import promote
from include.steps.score import score
from include.steps.verdicts import give_verdicts
from include.training import labelled_rows, training_set
from include.training.config import Candidate
from include.training.problem_types import get_problem_type
from tests.integration.processes import processes
from tests.integration.shop import settings_of
from tests.integration.training import (
    DAY,
    DAYS,
    FERRIES,
    MODEL,
    PROJECT,
    RUN,
    WHOLE,
    after,
    change,
    client,
    correct,
    enter_all,
    ferries,
    fit_all,
    fit_one,
    prepare_all,
    runs,
    train,
    train_and_gate,
    versions,
    write_all,
)
from tests.landing import deliveries_of
from tests.marks import mostly_drills

pytestmark = pytest.mark.timeout(300)

# --- fit --------------------------------------------------------------------------------------------------------------


def test_validation_and_holdout_days_are_later_than_the_days_fitted(prepared: Settings) -> None:
    fitted = fit(MODEL, RUN, prepared, candidate="linear")
    assert fitted.interval == Interval(start=date(2013, 3, 3), end=date(2013, 3, 13))
    assert fitted.validation == Interval(start=date(2013, 3, 14), end=date(2013, 3, 16))
    assert fitted.holdout == Interval(start=date(2013, 3, 17), end=date(2013, 3, 21))
    assert fitted.rows == 11 * FERRIES
    run_made = client(prepared).get_run(fitted.run_id)
    assert run_made.data.metrics["validation_rows"] == 3 * FERRIES
    assert run_made.data.metrics["fitted_rows"] == 11 * FERRIES
    assert {"validation_log_loss", "validation_brier", "fit_seconds"} <= run_made.data.metrics.keys()
    assert 0.7 < run_made.data.metrics["validation_roc_auc"] < 1
    assert not [name for name in run_made.data.metrics if "holdout" in name], "a candidate must not see these days"
    tags = run_made.data.tags
    assert tags["fit_digest"] == fitted.digest
    assert (tags["day"], tags["as_of"]) == ("2013-03-22", "2013-03-22T07:00:00+00:00")
    assert (tags["interval_start"], tags["interval_end"]) == ("2013-03-03", "2013-03-21")
    assert (tags["validation_start"], tags["validation_end"]) == ("2013-03-14", "2013-03-16")
    assert tags["holdout_start"] == "2013-03-17"
    assert (tags["candidate"], tags["project"], tags["model"]) == ("linear", "ferries", "late_ferry")
    assert (tags["seed"], tags["run_id"], tags["git_commit"]) == (str(MODEL.seed), "test", "unknown")
    assert tags["config_digest"] == MODEL.digest
    tables = Tables(prepared)
    assert int(tags["features_version"]) == tables.version("features_ferries")
    assert int(tags["outcome_version"]) == tables.version("clean_ferries__logbook")
    inputs = {entry.dataset.name: json.loads(entry.dataset.source) for entry in run_made.inputs.dataset_inputs}
    assert inputs["features_ferries"] == {
        "path": tables.uri("features_ferries"),
        "version": tables.version("features_ferries"),
        "predicate": "day >= '2013-03-03' AND day <= '2013-03-21' AND data_view IN ('point_in_time')",
    }
    assert inputs["clean_ferries__logbook"]["version"] == tables.version("clean_ferries__logbook")


def test_outcomes_of_the_run_date_and_later_are_not_read(prepared: Settings) -> None:
    before = fit(MODEL, RUN, prepared, candidate="linear")
    later = Interval(start=DAY, end=DAYS.end)
    change(prepared, "clean_ferries__logbook", later, pl.lit(1000.0).alias("delay_minutes"))
    change(prepared, "features_ferries", later, pl.lit(99.0).alias("leaving_hour"))
    assert fit(MODEL, RUN, prepared, candidate="linear").digest == before.digest
    change(prepared, "clean_ferries__logbook", later.shifted(start=-1), pl.lit(1000.0).alias("delay_minutes"))
    assert fit(MODEL, RUN, prepared, candidate="linear").digest != before.digest


@pytest.mark.parametrize("minutes_before_cutoff", [5, -5])
def test_a_correction_counts_if_it_came_before_the_cutoff(prepared: Settings, minutes_before_cutoff: int) -> None:
    before = fit(MODEL, RUN, prepared, candidate="linear")
    correct(prepared, DAY - timedelta(days=8), minutes_before_cutoff=minutes_before_cutoff)
    after = fit(MODEL, RUN, prepared, candidate="linear")
    assert (after.digest != before.digest) == (minutes_before_cutoff > 0)
    assert after.rows == before.rows


def test_fits_read_what_the_first_fit_of_the_run_date_read(prepared: Settings) -> None:
    """Later come a backdated correction of outcomes, a repair of an earlier day, and a day that was never prepared."""
    first: Any = run("fit", MODEL, RUN, prepared, candidate="linear")
    correct(prepared, DAY - timedelta(days=8), minutes_before_cutoff=5)
    repaired = DAY - timedelta(days=3)
    repair_day(prepared, repaired)
    change(prepared, "features_ferries", Interval.of(repaired), pl.lit(7.0).alias("leaving_hour"))
    again: Any = run("fit", MODEL, RUN, prepared, candidate="linear")
    # the tables have newer versions with the same rows; the shared database keeps the origin of the first fit
    assert again == first.model_copy(update={"logged": False, "origin": again.origin})
    versions = {name: getattr(again.origin, name) for name in ("features_version", "outcome_version")}
    assert again.origin == first.origin.model_copy(update=versions)
    version = train(prepared)
    assert reproduce(MODEL, version.model_version or 0, prepared).differing == 0
    other = MODEL.model_copy(update={"seed": 2})
    assert (
        registry_tags(prepared, fit(other, RUN, prepared, candidate="linear"))["data_digest"]
        == (registry_tags(prepared, first)["data_digest"])
    )
    repair_day(prepared, DAY)  # a person decides that the run date knows more
    assert (
        registry_tags(prepared, fit(MODEL, RUN, prepared, candidate="linear"))["data_digest"]
        != (registry_tags(prepared, first)["data_digest"])
    )
    assert kinds(prepared).count("training") == 1
    run("fit", MODEL, RUN, prepared, candidate="linear")
    assert kinds(prepared).count("training") == 2
    run("fit", MODEL, RUN, prepared, candidate="linear", data_view="latest")
    assert kinds(prepared).count("training") == 2, "latest has no record"


def test_features_of_days_that_are_not_prepared_are_not_read(prepared: Settings) -> None:
    """A run that is building a day has written its features, and not yet its record."""
    unprepared = DAY - timedelta(days=3)
    with postgres.connection.engine(prepared).begin() as connection:
        connection.execute(sa.text("SET session_replication_role = replica"))
        connection.execute(sa.text(f"DELETE FROM journal WHERE subject LIKE '{unprepared} record %'"))
    fitted = fit(MODEL, RUN, prepared, candidate="linear")
    assert registry_tags(prepared, fitted)["missing_days"] == str(unprepared)


def repair_day(settings: Settings, day: date) -> None:
    """Enter another record of a prepared day, as `repair` does."""
    project = load_project("ferries")
    with postgres.journal.write_journal(settings, project.name) as journal:
        known = journal.known()
        record = known.records[day].model_copy(update={"number": 2, "watermark": known.watermark})
        journal.add([Entry.prepared_day(record, by="Ada", why="a test file")])


def registry_tags(settings: Settings, fitted: Any) -> Mapping[str, str]:
    return Registry(settings).get_fit(fitted.run_id).tags


def kinds(settings: Settings) -> list[str]:
    return postgres.journal.read_entries(settings, "ferries")["kind"].to_list()


def test_a_training_with_latest_reads_later_corrections(prepared: Settings) -> None:
    """Outcomes were corrected too late for the run date, and features were rebuilt with them."""
    prepared_day = fit(MODEL, RUN, prepared, candidate="linear")
    correct(prepared, DAY - timedelta(days=8), minutes_before_cutoff=-600)
    tables, day = Tables(prepared), Interval.of(DAY - timedelta(days=7))
    own = tables.scan("features_ferries").filter(pl.col("day") == day.start).collect()
    again = own.with_columns(data_view=pl.lit("latest"), leaving_hour=pl.lit(7.0))
    tables.replace("features_ferries", pl.concat([own, again]), Scope(day), sort_by=["entity_id"])
    fitted = [fit_one(prepared, c.name, data_view="latest") for c in MODEL.candidates]
    latest = next(each for each in fitted if each.candidate == "linear")
    assert latest.digest != prepared_day.digest
    assert latest.rows == prepared_day.rows
    best = evaluate(MODEL, RUN, prepared, fitted=fitted)
    tags = client(prepared).get_model_version("late_ferry", str(best.model_version)).tags
    assert tags["data_view"] == "latest"
    assert fit(MODEL, RUN, prepared, candidate="linear").digest == prepared_day.digest


def test_a_fit_is_reused_after_other_days_were_written(prepared: Settings) -> None:
    before = fit_one(prepared, "linear")
    version = Tables(prepared).version("features_ferries")
    change(prepared, "features_ferries", Interval.of(DAYS.start), pl.lit(3.0).alias("leaving_hour"))
    assert Tables(prepared).version("features_ferries") > version
    assert fit_one(prepared, "linear").run_id == before.run_id
    assert len(runs(prepared)) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 2},
        {"train_days": 18},
        {"validation_days": 2},
        {"holdout_days": 4},
        {"candidates": (MODEL.candidates[0].model_copy(update={"params": {"kind": "linear", "C": 0.2}}),)},
    ],
)
def test_a_changed_declaration_is_another_fit(prepared: Settings, changed: dict[str, Any]) -> None:
    before = fit(MODEL, RUN, prepared, candidate="linear")
    assert fit(MODEL.model_copy(update=changed), RUN, prepared, candidate="linear").digest != before.digest


def test_a_changed_lock_is_another_fit(prepared: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = fit(MODEL, RUN, prepared, candidate="linear")
    lock = tmp_path / "requirements.txt"
    lock.write_text("scikit-learn==9", encoding="utf-8")
    assert any(path.exists() for path in fit_step.LOCKS)
    monkeypatch.setattr(fit_step, "LOCKS", [lock])
    assert fit(MODEL, RUN, prepared, candidate="linear").digest != before.digest


def test_another_python_is_another_fit(prepared: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fit(MODEL, RUN, prepared, candidate="linear")
    monkeypatch.setattr(fit_step, "PYTHON", "3.99")
    assert fit(MODEL, RUN, prepared, candidate="linear").digest != before.digest


def test_a_fit_in_another_installation_is_the_same_to_the_bit(prepared: Settings, tmp_path: Path) -> None:
    """The other installation wrote its tables in another order: table versions differ, rows are equal."""
    elsewhere = prepared.model_copy(
        update={
            "tables": str(tmp_path / "elsewhere" / "tables"),
            "artifacts": str(tmp_path / "elsewhere" / "artifacts"),
            "journal": str(tmp_path / "elsewhere" / "journal"),
            "mlflow_tracking_uri": SecretStr(f"sqlite:///{tmp_path / 'elsewhere.db'}"),
        }
    )
    write_all(elsewhere)
    write_all(elsewhere)
    here, there = (fit_all(s) for s in (prepared, elsewhere))
    assert [f.digest for f in here] == [f.digest for f in there]
    for one, other in zip(here, there, strict=True):
        first, second = (
            Registry(s).load(Registry(s).get_fit(f.run_id), f.model_digest, MODEL).predict(ferries())
            for s, f in ((prepared, one), (elsewhere, other))
        )
        np.testing.assert_array_equal(first, second)


def test_missing_days_are_tagged(prepared: Settings) -> None:
    gone = DAY - timedelta(days=3)
    Tables(prepared).replace("features_ferries", lambda rows: rows.clear(), Scope(Interval.of(gone)), sort_by=["day"])
    fitted = fit(MODEL, RUN, prepared, candidate="linear")
    assert client(prepared).get_run(fitted.run_id).data.tags["missing_days"] == str(gone)
    assert fitted.holdout == Interval(start=date(2013, 3, 16), end=date(2013, 3, 21))


def test_too_few_labelled_days_are_refused_with_the_days_to_prepare(prepared: Settings) -> None:
    with pytest.raises(ActionRequiredError, match="11 labelled days are known on 2013-03-12, and 16 are needed"):
        fit(MODEL, Interval.of(date(2013, 3, 12)), prepared, candidate="linear")
    assert runs(prepared) == []


def test_a_training_for_several_run_dates_is_refused(prepared: Settings) -> None:
    with pytest.raises(ActionRequiredError, match="2013-03-21 to 2013-03-22 has 2; train each day by itself"):
        fit(MODEL, RUN.shifted(start=-1), prepared, candidate="linear")


def test_a_run_date_that_lacks_a_required_feed_is_refused(prepared: Settings) -> None:
    with pytest.raises(DataError, match=r"2013-03-29 has no accepted delivery"):
        fit(MODEL, Interval.of(DAYS.end + timedelta(days=1)), prepared, candidate="linear")


def test_unknown_candidates_and_parameters_are_refused(prepared: Settings) -> None:
    with pytest.raises(ConfigError, match="no candidate 'boostd'; did you mean 'boosted'"):
        fit(MODEL, RUN, prepared, candidate="boostd")
    wrong = Candidate(name="boosted", params={"kind": "boosted", "max_iters": 3})
    with pytest.raises(
        ConfigError, match=r"model.yaml: candidates, boosted: .* unexpected keyword argument 'max_iters'"
    ):
        fit(MODEL.model_copy(update={"candidates": (wrong,)}), RUN, prepared, candidate="boosted")


def test_a_training_with_one_class_is_refused(prepared: Settings) -> None:
    change(prepared, "clean_ferries__logbook", DAYS, pl.lit(0.0).alias("delay_minutes"))
    with pytest.raises(DataError, match="have the outcome 0"):
        fit(MODEL, RUN, prepared, candidate="linear")


def test_a_missing_table_is_named(with_mlflow: Settings) -> None:
    with pytest.raises(DataError, match="features_ferries does not exist yet"):
        fit(MODEL, RUN, with_mlflow, candidate="linear")


# --- evaluate ---------------------------------------------------------------------------------------------------------


def test_the_best_candidate_becomes_a_version_of_its_logged_model(prepared: Settings) -> None:
    fitted = fit_all(prepared)
    evaluated = evaluate(MODEL, RUN, prepared, fitted=fitted)
    mlflow = client(prepared)
    loss = {f.candidate: mlflow.get_run(f.run_id).data.metrics["validation_log_loss"] for f in fitted}
    assert evaluated.candidate == min(loss, key=lambda name: loss[name])
    assert evaluated.validation_metrics["log_loss"] == pytest.approx(loss[evaluated.candidate])
    assert (evaluated.validation, evaluated.interval) == (fitted[0].validation, fitted[0].holdout)
    assert evaluated.rows == evaluated.metrics["rows"] == 5 * FERRIES
    assert (evaluated.model, evaluated.model_version) == ("late_ferry", 1)
    best = next(f for f in fitted if f.candidate == evaluated.candidate)
    assert evaluated.run_id == best.run_id
    logged = Registry(prepared).get_fit(best.run_id)
    source = mlflow.get_model_version_download_uri("late_ferry", "1")
    assert source == mlflow.get_logged_model(logged.model_id).artifact_location
    tags = mlflow.get_model_version("late_ferry", "1").tags
    assert tags["fit_digest"] == best.digest
    assert (tags["day"], tags["candidate"]) == ("2013-03-22", best.candidate)
    assert (tags["validation_start"], tags["validation_end"]) == ("2013-03-14", "2013-03-16")
    assert (tags["holdout_start"], tags["holdout_end"]) == ("2013-03-17", "2013-03-21")
    assert float(tags["validation_log_loss"]) == evaluated.validation_metrics["log_loss"]
    assert float(tags["holdout_log_loss"]) == evaluated.metrics["log_loss"]
    assert tags[EVALUATED] == "test"


def test_the_order_of_fits_does_not_matter_and_the_first_declared_wins_a_tie(prepared: Settings) -> None:
    same = tuple(Candidate(name=name, params=MODEL.candidates[0].params) for name in ("b_first", "a_second"))
    model = MODEL.model_copy(update={"candidates": same})
    fitted = fit_all(prepared, model)
    assert fitted[0].digest != fitted[1].digest
    assert [evaluate(model, RUN, prepared, fitted=f).candidate for f in (fitted, fitted[::-1])] == ["b_first"] * 2


def test_outcomes_of_the_holdout_days_choose_no_candidate(prepared: Settings) -> None:
    """In the holdout, delays are turned around, so that the worse candidate of other days is the better one there."""
    best = train(prepared)
    holdout = Interval(start=date(2013, 3, 17), end=date(2013, 3, 21))
    change(prepared, "clean_ferries__logbook", holdout, (-pl.col("delay_minutes")).alias("delay_minutes"))
    turned = train(prepared)
    assert (turned.candidate, turned.validation_metrics) == (best.candidate, best.validation_metrics)
    assert turned.metrics["roc_auc"] < 0.5 < best.metrics["roc_auc"]


def test_a_second_training_finds_the_same_version(prepared: Settings) -> None:
    first = train(prepared)
    assert train(prepared) == first
    assert versions(prepared) == [1]
    assert len(runs(prepared)) == 2


def test_another_run_date_makes_another_version(prepared: Settings) -> None:
    train(prepared)
    assert train(prepared, run_date=RUN.shifted(start=1, end=1)).model_version == 2


class TestDayWithoutLabels:
    """The file of the outcome is optional, and there is none of DAY, which the run date after it would know."""

    @pytest.fixture(autouse=True)
    def optional(self, monkeypatch: pytest.MonkeyPatch) -> None:
        logbook = PROJECT.feeds["logbook"].model_copy(update={"required": False})
        project = PROJECT.model_copy(update={"feeds": {**PROJECT.feeds, "logbook": logbook}})
        for step in ("fit", "evaluate", "gate"):
            monkeypatch.setattr(f"include.steps.{step}.load_project", lambda _: project)

    def test_takes_up_the_version_of_the_day_before(self, with_mlflow: Settings) -> None:
        write_all(with_mlflow, without=[("logbook", DAY)])
        first, again = train_and_gate(with_mlflow), train_and_gate(with_mlflow, run_date=after(1))
        assert again == first
        assert (versions(with_mlflow), len(runs(with_mlflow))) == ([1], 2)
        assert train(with_mlflow, run_date=after(2)).model_version == 2

    def test_makes_a_version_if_an_earlier_day_was_corrected(self, with_mlflow: Settings) -> None:
        write_all(with_mlflow, without=[("logbook", DAY)])
        train(with_mlflow)
        correct(with_mlflow, DAY - timedelta(days=3), minutes_before_cutoff=-60)
        assert train(with_mlflow, run_date=after(1)).model_version == 2


@pytest.mark.parametrize(("period", "before"), [("validation", "interval"), ("holdout", "validation")])
def test_each_period_must_be_later_than_the_one_before(prepared: Settings, period: str, before: str) -> None:
    fitted = fit_one(prepared, "linear")
    overlapping = Interval(start=getattr(fitted, before).end, end=getattr(fitted, period).end)
    with pytest.raises(DataError, match="each must be later than those before"):
        evaluate(MODEL, RUN, prepared, fitted=[fitted.model_copy(update={period: overlapping})])
    assert versions(prepared) == []


def test_evaluate_uses_the_rows_that_were_fitted_although_they_changed_since(prepared: Settings) -> None:
    fitted = fit_all(prepared)
    expected = evaluate(MODEL, RUN, prepared, fitted=fitted)
    change(prepared, "features_ferries", DAYS, pl.lit(1.0).alias("leaving_hour"))
    assert evaluate(MODEL, RUN, prepared, fitted=fitted) == expected


def test_candidates_fitted_on_different_rows_are_not_compared(prepared: Settings) -> None:
    first = fit_one(prepared, "linear")
    change(prepared, "features_ferries", DAYS, pl.lit(1.0).alias("leaving_hour"))
    second = fit_one(prepared, "boosted")
    with pytest.raises(DataError, match="changed between the fits of linear, boosted"):
        evaluate(MODEL, RUN, prepared, fitted=[first, second])


def test_a_fit_of_another_day_or_digest_is_refused(prepared: Settings) -> None:
    fitted = fit_one(prepared, "linear")
    with pytest.raises(ActionRequiredError, match="no candidate was fitted"):
        evaluate(MODEL, RUN, prepared, fitted=[])
    with pytest.raises(DataError, match="has the run date 2013-03-22, not 2013-03-23"):
        evaluate(MODEL, RUN.shifted(start=1, end=1), prepared, fitted=[fitted])
    with pytest.raises(DataError, match="is not the fit it says it is"):
        evaluate(MODEL, RUN, prepared, fitted=[fitted.model_copy(update={"digest": "another"})])
    with pytest.raises(ActionRequiredError, match="no fit of MLflow run 0123"):
        evaluate(MODEL, RUN, prepared, fitted=[fitted.model_copy(update={"run_id": "0123"})])


def test_candidates_fitted_in_one_process_share_the_training_set(
    prepared: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fit, evaluate and gate need the same rows, which are read and joined once."""
    build, built = training_set.build_training_set, []

    def counted(*arguments: Any, **named: Any) -> Any:
        built.append(arguments)
        return build(*arguments, **named)

    monkeypatch.setattr(training_set, "build_training_set", counted)
    train_and_gate(prepared)
    assert len(built) == 1


def test_a_training_that_reads_its_rows_in_blocks_is_that_of_all_rows_at_once(
    prepared: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fit, evaluate and gate read each run date by itself, and reproduce reads all of them together."""
    with monkeypatch.context() as patch:
        patch.setattr(labelled_rows, "BLOCK_BYTES", 1)
        decision = train_and_gate(prepared)
    assert decision.model_version is not None
    assert {"single input", "shuffled labels"} <= {
        check.name for check in decision.checks if check.measured is not None
    }
    training_sets._NEWEST.clear()
    found = reproduce(MODEL, decision.model_version, prepared)
    assert (found.rows, found.differing, found.largest_difference) == (19 * FERRIES, 0, 0.0)


# --- reproduce --------------------------------------------------------------------------------------------------------


def test_a_version_is_reproduced_to_the_bit_from_its_rows(prepared: Settings) -> None:
    made = train(prepared.model_copy(update={"git_commit": "fedcba987654"}))
    before = ([run.info.run_id for run in runs(prepared)], versions(prepared))
    change(prepared, "features_ferries", DAYS, pl.lit(1.0).alias("leaving_hour"))
    later = prepared.model_copy(update={"git_commit": "0123456789ab"})
    found = reproduce(MODEL, made.model_version or 0, later)
    assert (found.day, found.candidate, found.rows) == (DAY, made.candidate, 19 * FERRIES)
    assert (found.differing, found.largest_difference, found.changed) == (0, 0.0, ("commit",))
    assert ([run.info.run_id for run in runs(prepared)], versions(prepared)) == before, "reproduce must write nothing"


def test_a_version_that_changed_code_makes_differently_is_reported_with_the_changes(prepared: Settings) -> None:
    made = train(prepared)
    others = ({"kind": "linear", "C": 0.2}, {"kind": "boosted", "max_iter": 9, "min_samples_leaf": 50})
    candidates = [Candidate(name=old.name, params=params) for old, params in zip(MODEL.candidates, others, strict=True)]
    changed = MODEL.model_copy(update={"candidates": tuple(candidates)})
    found = reproduce(changed, made.model_version or 0, prepared)
    assert 0 < found.differing <= found.rows
    assert 0 < found.largest_difference < 1
    assert found.changed == ("model.yaml or estimator.py",)


def test_a_version_that_cannot_be_reproduced_is_reported_with_its_commit(prepared: Settings) -> None:
    made = train(prepared.model_copy(update={"git_commit": "0123456789ab"}))
    version = made.model_version or 0
    without = MODEL.model_copy(update={"candidates": (Candidate(name="new", params={"kind": "linear"}),)})
    with pytest.raises(ActionRequiredError, match=r"no candidate '\w+'.* Commit 0123456789ab made it"):
        reproduce(without, version, prepared)
    narrower = MODEL.model_copy(update={"numeric": MODEL.numeric[1:]})
    with pytest.raises(ActionRequiredError, match=r"are not those that .* Commit 0123456789ab made it"):
        reproduce(narrower, version, prepared)
    of_day = pl.col("feed").eq("logbook") & pl.col("day").eq(date(2013, 3, 10))
    [used] = deliveries_of(prepared).filter(of_day)["delivery_id"]
    withdraw(load_project("ferries"), used, prepared, by="Ada", why="a test file")
    said = rf"changed; {re.escape(used)} was accepted then, and is withdrawn now: a test file. Commit"
    with pytest.raises(ActionRequiredError, match=said):
        reproduce(narrower, version, prepared)
    with pytest.raises(ActionRequiredError, match="has no version 7"):
        reproduce(MODEL, 7, prepared)


def from_database(declared: dict[str, Any]) -> None:
    """Declare that the logbook is in a database, of which nothing else is known than what a training needs."""
    logbook = declared["feeds"]["logbook"]
    needed = ("company", "ferry", "origin", "dest", "departs_at", "delay_minutes")
    logbook["columns"] = {name: logbook["columns"][name] for name in needed}
    logbook["source"] = {
        "kind": "sql",
        "connection": "shop_db",
        "query": f"SELECT {', '.join(needed)} FROM voyages WHERE departs_at >= :day AND departs_at < :day + 1",
        "immutable": True,
    }
    del logbook["path"], logbook["lookback_days"]


def test_a_version_of_outcomes_from_a_database_is_reproduced_without_the_database(
    with_mlflow: Settings, load_changed: Callable[..., Project]
) -> None:
    project = load_changed("ferries", from_database)
    url = with_mlflow.database_url.get_secret_value()
    departs_at = pl.col("day").cast(pl.Datetime("us")).dt.offset_by("17h").dt.replace_time_zone("UTC")
    rows = ferries().with_columns(departs_at=departs_at, ferry=pl.int_range(pl.len()) % FERRIES)
    rows = rows.with_columns(schemas.entity_id(project))
    moments = pl.DataFrame({"day": DAYS.days, "as_of": [project.cutoff_at(day) for day in DAYS.days]})
    features = rows.drop("delay_minutes", "departs_at", "ferry").join(moments, on="day")
    features = features.with_columns(data_view=pl.lit("point_in_time"))
    Tables(with_mlflow).replace("features_ferries", features, WHOLE, sort_by=["day", "entity_id"])
    outcome_days = Interval(start=DAYS.start, end=DAY - timedelta(days=1))
    enter_all(with_mlflow, without=[("logbook", day - timedelta(days=1)) for day in DAYS.days])
    prepare_all(with_mlflow)
    rows.select(project.feeds["logbook"].columns.keys()).write_database("voyages", url, engine="adbc")
    run_dates = Interval(start=DAYS.start + timedelta(days=1), end=DAY)
    extract(project, run_dates, settings_of(with_mlflow, url))
    waiting = deliveries_of(with_mlflow).filter(pl.col("feed") == "logbook")
    assert waiting["day"].to_list() == outcome_days.days
    give_verdicts(project, waiting, with_mlflow, listed=waiting, erased=Erasures())

    made = train(with_mlflow)
    version = made.model_version or 0
    with postgres.connection.engine(with_mlflow).begin() as connection:
        connection.execute(sa.text("DROP TABLE voyages"))
    found = reproduce(MODEL, version, with_mlflow)  # these settings have no connection either
    assert (found.rows, found.differing) == (19 * FERRIES, 0)
    used = waiting["delivery_id"][-1]
    withdraw(project, used, with_mlflow, by="Ada", why="a test")
    assert reproduce(MODEL, version, with_mlflow).differing == 0
    narrower = MODEL.model_copy(update={"numeric": MODEL.numeric[1:]})
    with pytest.raises(
        ActionRequiredError, match=rf"{re.escape(used)} was accepted then, and is withdrawn now: a test"
    ):
        reproduce(narrower, version, with_mlflow)


# --- killed and concurrent steps --------------------------------------------------------------------------------------

KILLED_IN_FIT = {
    "while the estimator is fitted": (Pipeline, "fit"),
    "after the run was made": (MlflowClient, "log_inputs"),
    "before the model's files are there": (MlflowConnection, "upload"),
    "before the run is finished": (MlflowClient, "set_terminated"),
    "after the run is finished": (registry_runs, "_mark_killed"),
}
KILLED_IN_EVALUATE = {
    "before the version is made": (MlflowClient, "create_model_version"),
    "before the version is tagged": (MlflowClient, "set_model_version_tag"),
}


def child(what: str, where: str) -> str:
    """Run in a process of its own, with the settings of its environment.

    Args:
        what: the step, or "at once".
        where: the place to kill it, or the folder in which two processes wait for each other before they create a
            version.
    """
    settings = Settings()
    if what == "at once":
        create = MlflowClient.create_model_version
        deadline = time.monotonic() + 120

        def together(*arguments: Any, **named: Any) -> Any:
            (Path(where) / str(os.getpid())).touch()
            while len(list(Path(where).iterdir())) < 2:
                assert time.monotonic() < deadline, "the other process has failed: it creates no version"
                time.sleep(0.01)
            return create(*arguments, **named)

        MlflowClient.create_model_version = together  # type: ignore[method-assign]
        return train(settings).model_dump_json()
    owner, method = {**KILLED_IN_FIT, **KILLED_IN_EVALUATE}[where]
    fitted = fit_all(settings) if what == "evaluate" else []
    setattr(owner, method, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    if what == "evaluate":
        evaluate(MODEL, RUN, settings, fitted=fitted)
    else:
        fit(MODEL, RUN, settings, candidate="linear")
    return "not killed"


def run_children(settings: Settings, *given: Sequence[str]) -> list[str | None]:
    """Run `child` with each of these arguments at once; return what it returns, or None if it was killed."""
    with processes(settings, len(given)) as started:
        called = {"do": "run_function", "at": "tests.integration.test_models:child"}
        return started.all([{**called, "arguments": arguments} for arguments in given])


def killed(settings: Settings, *arguments: str) -> None:
    assert run_children(settings, arguments) == [None]


@pytest.mark.parametrize(
    "where", mostly_drills(KILLED_IN_FIT, ("before the run is finished", "after the run is finished"))
)
def test_a_killed_fit_is_made_again_unless_it_was_recorded(prepared: Settings, where: str) -> None:
    """A finished run that was not recorded may be somebody else's, so it stays; so does one that lacks only its end."""
    killed(prepared, "fit", where)
    left = {r.info.run_id for r in runs(prepared) if r.info.status == "FINISHED"}
    assert bool(left) == (where == "after the run is finished")
    fitted = fit_one(prepared, "linear")
    assert fitted.run_id not in left
    assert fit_one(prepared, "linear").run_id == fitted.run_id, "a recorded fit must be reused"
    statuses = [r.info.status for r in runs(prepared)]
    assert statuses.count("FINISHED") == 1 + (where in ("before the run is finished", "after the run is finished"))
    assert set(statuses) <= {"FINISHED", "KILLED"}
    assert train(prepared).model_version == 1
    assert versions(prepared) == [1]


@pytest.mark.parametrize("where", mostly_drills(KILLED_IN_EVALUATE, ("before the version is tagged",)))
def test_a_killed_evaluation_makes_one_version(prepared: Settings, where: str) -> None:
    killed(prepared, "evaluate", where)
    assert versions(prepared) == ([] if where == "before the version is made" else [1])
    evaluated = train(prepared)
    assert versions(prepared) == [evaluated.model_version]
    assert Registry(prepared).get_version("late_ferry", evaluated.model_version or 0).evaluated
    assert [r.info.status for r in runs(prepared)] == ["FINISHED"] * 2


def test_two_concurrent_trainings_make_one_version(prepared: Settings, tmp_path: Path) -> None:
    """Both processes fit, and both find no version before either creates one."""
    meet = tmp_path / "meet"
    meet.mkdir()
    said = run_children(prepared, *[("at once", str(meet))] * 2)
    made = [Evaluated.model_validate_json(each or "") for each in said]
    assert len(list(meet.iterdir())) == 2
    assert made[0].model_version == made[1].model_version
    assert versions(prepared) == [made[0].model_version]
    assert train(prepared).model_version == made[0].model_version


# --- score, and the whole chain ---------------------------------------------------------------------------------------


def test_the_chain_from_training_to_scores(prepared: Settings) -> None:
    """Call the steps as `cli` and the DAGs do, through `run`, which records each of them."""
    fitted = [run("fit", MODEL, RUN, prepared, candidate=c.name) for c in MODEL.candidates]
    evaluated = run("evaluate", MODEL, RUN, prepared, fitted=fitted)
    decided: Any = run("gate", MODEL, RUN, prepared, evaluated=evaluated, fitted=fitted)
    assert decided.passed, decided.why_not
    run("promote", MODEL, after(1), prepared, version=decided.model_version)
    days = Interval(start=DAY, end=DAYS.end)
    champions = postgres.promotions.read_champions(prepared, "late_ferry", days)
    scored: Any = run("score", MODEL, days, prepared, versions=champions)
    assert scored.unscored == (DAY,)
    assert {d.day: d.rows for d in scored.days} == dict.fromkeys(days.days[1:], FERRIES)
    rows = Tables(prepared).scan("scores_late_ferry").collect()
    assert rows.height == scored.rows == FERRIES * 6
    known = ferries().join(rows, on=["day", "entity_id"])
    late = (known["delay_minutes"].is_null() | (known["delay_minutes"] > 15)).cast(pl.Float64)
    assert get_problem_type("binary").metrics(late.to_numpy(), known["score"].to_numpy())["roc_auc"] > 0.7
    with postgres.connection.engine(prepared).connect() as connection:
        recorded = connection.execute(
            sa.text("SELECT step, state, model_version, table_version FROM step_runs ORDER BY id")
        ).all()
    assert [tuple(row) for row in recorded] == [
        ("fit", "success", None, None),
        ("fit", "success", None, None),
        ("evaluate", "success", 1, None),
        ("gate", "success", 1, None),
        ("promote", "success", 1, None),
        ("score", "success", None, scored.table_version),
    ]


def test_a_single_day_has_the_scores_of_a_range_to_the_bit(prepared: Settings) -> None:
    version = train(prepared).model_version or 0
    days = Interval(start=DAYS.start, end=DAYS.end)
    score(MODEL, days, prepared, versions=dict.fromkeys(days.days, version))
    in_range = Tables(prepared).scan("scores_late_ferry").sort("day", "entity_id").collect()
    for day in days.days[::6]:
        score(MODEL, Interval.of(day), prepared, versions={day: version})
    alone = Tables(prepared).scan("scores_late_ferry").sort("day", "entity_id").collect()
    assert alone.equals(in_range)


def test_scores_are_those_of_the_features_that_the_prepared_day_names(prepared: Settings) -> None:
    """Another run has written other features of the day, and they do not count, or not yet."""
    version = train(prepared).model_version or 0
    before = score(MODEL, RUN, prepared, versions={DAY: version})
    scores = Tables(prepared).scan("scores_late_ferry").sort("entity_id").collect()
    tables, scope = Tables(prepared), Scope(RUN)
    tables.replace("features_ferries", lambda rows: rows.head(3), scope, sort_by=["entity_id"])
    assert score(MODEL, RUN, prepared, versions={DAY: version}).days == before.days
    assert Tables(prepared).scan("scores_late_ferry").sort("entity_id").collect().equals(scores)
    lost = TableRef(table="features_ferries", version=tables.version("features_ferries"), interval=RUN, rows=FERRIES)
    with pytest.raises(DataError, match=f"has 3 rows of {DAY}, and the prepared day has {FERRIES}"):
        score(MODEL, RUN, prepared, versions={DAY: version}, features={DAY: lost})


def test_a_day_that_is_not_prepared_is_not_scored(prepared: Settings) -> None:
    version, later = train(prepared).model_version or 0, DAYS.end + timedelta(days=1)
    with pytest.raises(DataError, match=f"ferries has no features of {later} .*prepare the day first"):
        score(MODEL, Interval.of(later), prepared, versions={later: version})


@pytest.mark.parametrize("candidate", [c.name for c in MODEL.candidates])
def test_unseen_labels_and_missing_values_are_scored(prepared: Settings, candidate: str) -> None:
    """Score a company that is in no training set, on a day without winds."""
    fitted = fit_one(prepared, candidate)
    version = evaluate(MODEL, RUN, prepared, fitted=[fitted]).model_version or 0
    nothing = [pl.lit(None, pl.Float64).alias(name) for name in MODEL.numeric if name != "leaving_hour"]
    labels = [pl.lit("ZZ").alias("company"), pl.lit(None, pl.String).alias("dest")]
    change(prepared, "features_ferries", RUN, *nothing, *labels)
    scored = score(MODEL, RUN, prepared, versions={DAY: version})
    assert scored.rows == FERRIES
    found = Tables(prepared).scan("scores_late_ferry").collect()["score"]
    assert found.is_between(0, 1).all()


def test_a_training_accepts_a_column_without_values(prepared: Settings) -> None:
    change(prepared, "features_ferries", DAYS, pl.lit(None, pl.Float64).alias("wind_gust_mph"))
    assert train(prepared).model_version == 1


def test_the_error_names_a_column_that_the_version_needs_and_features_lack(prepared: Settings) -> None:
    version = train(prepared).model_version or 0
    tables = Tables(prepared)
    shorter = tables.scan("features_ferries").drop("humidity_percent").collect()
    elsewhere = prepared.model_copy(update={"tables": f"{prepared.tables}_after"})
    Tables(elsewhere).replace("features_ferries", shorter, WHOLE, sort_by=["day", "entity_id"])
    with pytest.raises(DataError, match=f"late_ferry, version {version}, needs humidity_percent"):
        there = TableRef(table="features_ferries", version=0, interval=RUN, rows=FERRIES)
        score(MODEL, RUN, elsewhere, versions={DAY: version}, features={DAY: there})


REGRESSION = """
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline


def build(params, numeric, categorical, seed):
    numbers = ColumnTransformer([("numbers", "passthrough", list(numeric))])
    return Pipeline([("prepare", numbers), ("fit", HistGradientBoostingRegressor(random_state=seed, **params))])
"""


GATE_OF_DELAY = Gate.model_validate({
    "checks": [
        {"kind": "enough_rows", "at_least": 400},
        {"kind": "quality", "metric": "r2", "at_least": 0.1},
        {"kind": "calibration", "at_most": 5.0},
        {"kind": "linear_baseline", "candidate": "trees_2", "at_most": 0.1},
        {"kind": "slices", "by": ["origin"], "min_rows": 100, "at_most": 0.1},
        {"kind": "changed_decisions", "over": 15.0},
        {"kind": "score_shift", "at_most": 10.0},
        {"kind": "scoring_time", "at_most": 5000},
    ]
})


@pytest.fixture
def ferry_delay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A second model: a folder with a declaration and an estimator, nothing else."""
    folder = tmp_path / "projects" / "ferries" / "models" / "ferry_delay"
    folder.mkdir(parents=True)
    (folder / "estimator.py").write_text(REGRESSION, encoding="utf-8")
    monkeypatch.setenv("NIGHTLY_PROJECTS", str(tmp_path / "projects"))
    name = "include.projects.ferries.models.ferry_delay.estimator"
    module = ModuleType(name)
    exec(REGRESSION, module.__dict__)  # noqa: S102  # a module that is not below `include`
    monkeypatch.setitem(sys.modules, name, module)
    candidates: Sequence[Candidate] = [Candidate(name=f"trees_{n}", params={"max_iter": n}) for n in (2, 30)]
    return MODEL.model_copy(
        update={
            "name": "ferry_delay",
            "outcome": "ferry_delay",
            "problem_type": "regression",
            "numeric": ("leaving_hour", "precipitation_inches"),
            "categorical": ("origin",),
            "candidates": tuple(candidates),
            "gate": GATE_OF_DELAY,
        }
    )


def test_a_second_model_of_another_problem_type_needs_only_a_folder(prepared: Settings, ferry_delay: Model) -> None:
    evaluated = train(prepared, ferry_delay)
    assert evaluated.candidate == "trees_30"
    assert evaluated.metrics.keys() == {"rows", "mae", "rmse", "r2", "wape", "mape"}
    known = ferries().filter(pl.col("day").is_between(evaluated.interval.start, evaluated.interval.end))
    assert evaluated.rows == known["delay_minutes"].drop_nulls().len() < known.height
    assert evaluated.metrics["r2"] > 0.2
    decision = train_and_gate(prepared, ferry_delay)
    assert decision.passed, decision.why_not
    promote(ferry_delay, after(1), prepared, version=evaluated.model_version or 0)
    scored = score(ferry_delay, after(1), prepared, versions={after(1).start: 1})
    assert scored.rows == FERRIES, "all ferries are scored, including those that will have no outcome"
    rows = Tables(prepared).scan("scores_ferry_delay").collect()
    assert rows["prediction"].to_list() == rows["score"].to_list()
    assert rows["score"].max() > 10
    assert versions(prepared, "late_ferry") == []
