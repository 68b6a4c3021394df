"""`entity_fraction` in project.yaml: a training on a fraction of the entities shows how good a model may be.

Nothing that it made can be promoted, scored or published, not even after the key was removed.
"""

import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from include.config.loading import load_model, load_project
from include.core.errors import ActionRequiredError, ConfigError, DataError
from include.core.fraction import in_fraction
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import StepResult
from include.core.settings import Settings
from include.io import postgres
from include.io.tables import Tables
from include.runner.run import run
from include.steps.evaluate import evaluate
from include.steps.gate import gate
from include.steps.promote import promote
from include.steps.publish import publish
from include.steps.score import score
from tests.integration.training import (
    DAY,
    FERRIES,
    MODEL,
    RUN,
    WHOLE,
    after,
    fit_all,
    runs,
    train,
    train_and_gate,
    versions,
)
from tests.landing import deliver_day
from tests.own_projects import FOLDER

pytestmark = pytest.mark.timeout(300)

SHARE = 0.5
TABLE = "features_ferries_fraction_0_5"
RUN_DATES = Interval(start=date(2013, 3, 4), end=date(2013, 3, 6))

Declare = Callable[[float | None], Project]


@pytest.fixture
def declare_fraction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Declare]:
    """Return a function that writes `entity_fraction` into project.yaml, or removes it (None)."""
    folder = tmp_path / "projects"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "ferries" / "project.yaml"
    without = path.read_text(encoding="utf-8")
    monkeypatch.setenv("NIGHTLY_PROJECTS", str(folder))

    def declare(share: float | None) -> Project:
        path.write_text(without if share is None else f"entity_fraction: {share}\n{without}", encoding="utf-8")
        forget()
        return load_project("ferries")

    yield declare
    monkeypatch.undo()
    forget()


def forget() -> None:
    load_project.cache_clear()
    load_model.cache_clear()


@pytest.fixture
def with_fraction(prepared: Settings, declare_fraction: Declare) -> Settings:
    """Add features of a fraction of the entities of 28 days, and `entity_fraction` in project.yaml."""
    declare_fraction(SHARE)
    tables = Tables(prepared)
    rows = tables.scan("features_ferries").filter(in_fraction(SHARE)).collect()
    assert 0.4 < rows.height / (SHARE * FERRIES * 28) < 1.6
    tables.replace(TABLE, rows, WHOLE, sort_by=["day", "entity_id"])
    return prepared


def rows_in(settings: Settings, table: str) -> int:
    with postgres.connection.engine(settings).connect() as connection:
        return int(connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_a_training_on_a_fraction_is_evaluated_and_makes_no_version(with_fraction: Settings) -> None:
    fitted = fit_all(with_fraction)
    evaluated = evaluate(MODEL, RUN, with_fraction, fitted=fitted)
    assert evaluated.model_version is None
    assert 0.6 < evaluated.metrics["roc_auc"] < 1
    assert 0 < evaluated.rows == evaluated.metrics["rows"] < 5 * FERRIES
    assert {run.data.tags["entity_fraction"] for run in runs(with_fraction)} == {str(SHARE)}
    decision = gate(MODEL, RUN, with_fraction, evaluated=evaluated, fitted=fitted)
    assert not decision.passed
    assert (decision.why_not or "").startswith("entity fraction: cannot be promoted (")
    assert "project.yaml has entity_fraction: 0.5; take it out" in (decision.why_not or "")
    assert decision.subject == f"candidate {evaluated.candidate}"
    assert versions(with_fraction) == []
    assert rows_in(with_fraction, "gate_decisions") == 0


def test_fits_on_a_fraction_cannot_be_used_after_the_key_is_removed(
    with_fraction: Settings, declare_fraction: Declare
) -> None:
    fitted = fit_all(with_fraction)
    evaluated = evaluate(MODEL, RUN, with_fraction, fitted=fitted)
    declare_fraction(None)
    with pytest.raises(DataError, match=r"was fitted with entity_fraction 0.5, and project.yaml has 1 now"):
        evaluate(MODEL, RUN, with_fraction, fitted=fitted)
    decision = gate(MODEL, RUN, with_fraction, evaluated=evaluated, fitted=fitted)
    assert not decision.passed
    assert "run fit and evaluate again" in (decision.why_not or "")
    for force in (False, True):
        with pytest.raises(ActionRequiredError, match="late_ferry has no version 1 in the registry"):
            promote(MODEL, after(1), with_fraction, version=1, by="Ada", why="it looked good", force=force)
    with pytest.raises(ActionRequiredError, match="late_ferry has no version 1 in the registry"):
        score(MODEL, RUN, with_fraction, versions={DAY: 1})

    again = fit_all(with_fraction)
    assert {each.run_id for each in again}.isdisjoint(each.run_id for each in fitted)
    whole = evaluate(MODEL, RUN, with_fraction, fitted=again)
    assert (whole.model_version, whole.rows) == (1, 5 * FERRIES)
    assert score(MODEL, after(1), with_fraction, versions={after(1).start: 1}).rows == FERRIES


def test_a_fraction_with_all_rows_is_kept_apart_too(with_fraction: Settings, declare_fraction: Declare) -> None:
    """A fit on a fraction is not reused, even if its rows are equal to all rows."""
    almost = declare_fraction(0.999999)
    tables = Tables(with_fraction)
    tables.replace(
        "features_ferries_fraction_0_999999", tables.scan("features_ferries").collect(), WHOLE, sort_by=["entity_id"]
    )
    tried = train(with_fraction)
    assert (almost.entity_fraction, tried.model_version, tried.rows) == (0.999999, None, 5 * FERRIES)
    declare_fraction(None)
    assert train(with_fraction).model_version == 1


def test_nothing_is_promoted_scored_or_published_while_the_key_is_set(
    with_fraction: Settings, declare_fraction: Declare
) -> None:
    """This holds even for a version that passed the gate before."""
    declare_fraction(None)
    passed = train_and_gate(with_fraction)
    assert passed.passed, passed.why_not
    promote(MODEL, after(1), with_fraction, version=1)
    kept = {"promotions": 1, "gate_decisions": 1, "batches": 0, "published": 0}
    declare_fraction(SHARE)
    steps: dict[str, Callable[[], StepResult]] = {
        "promote": lambda: promote(MODEL, after(2), with_fraction, version=1, by="Ada", why="again", force=True),
        "score": lambda: score(MODEL, after(1), with_fraction, versions={after(1).start: 1}),
        "publish": lambda: publish(MODEL, after(1), with_fraction),
    }
    for name, step in steps.items():
        with pytest.raises(
            ConfigError, match=rf"project.yaml: entity_fraction: 0.5: {name} needs all entities, never a fraction"
        ):
            step()
    assert {table: rows_in(with_fraction, table) for table in kept} == kept
    assert not Tables(with_fraction).exists("scores_late_ferry")


@pytest.mark.spark
def test_features_of_a_fraction_prepare_no_day(settings: Settings, declare_fraction: Declare) -> None:
    """Tasks that wait for the day keep waiting, and a range backfill does not take the days as done."""
    project = declare_fraction(SHARE)
    deliver_day(project, settings, *RUN_DATES.days)
    for step in ("land", "validate", "build_features"):
        run(step, project, RUN_DATES, settings)
    assert 0 < Tables(settings).scan(TABLE).select(pl.len()).collect().item() < 9
    project = declare_fraction(None)
    assert postgres.days.read_unprepared_days(settings, "ferries", RUN_DATES) == RUN_DATES.days
    assert postgres.audit.read_done_days(settings, "validate", "ferries") == {*RUN_DATES.days}
    assert postgres.audit.read_done_days(settings, "build_features", "ferries") == set()
    assert not Tables(settings).exists("features_ferries")

    assert run("build_features", project, RUN_DATES, settings).rows == 9
    assert postgres.days.read_unprepared_days(settings, "ferries", RUN_DATES) == []
