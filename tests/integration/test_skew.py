"""skew and the comparison with former champions on a prepared project.

Published rows are built again from the raw tables, and what differs is found. The installation is made once: 21 days of
ferries, two versions that are trained on them, and one published day.
"""

import json
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from include.config.loading import load_project
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import Skewed
from include.core.settings import Settings
from include.io import postgres
from include.io.registry import Registry
from include.io.tables import Scope, Tables
from include.monitoring.degradation import DegradationMonitor
from include.monitoring.skew import SkewMonitor
from include.operations.simulate import simulate
from include.steps import monitor as monitoring
from include.steps import skew as step
from include.steps import training_summary
from include.steps.build_features import build_features, record_prepared_days
from include.steps.land import land
from include.steps.outcomes import outcomes
from include.steps.publish import publish
from include.steps.score import score
from include.steps.skew import skew
from include.steps.validate import validate
from tests.conftest import Install
from tests.integration import small
from tests.integration.training import MODEL, cloned, train

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

DAYS = Interval(start=date(2013, 1, 1), end=date(2013, 1, 21))
TRAINED = (date(2013, 1, 17), date(2013, 1, 19))
DAY, RUN = date(2013, 1, 20), Interval.of(date(2013, 1, 21))
ROWS = 45
SMALL = MODEL.model_copy(
    update={
        "train_days": 18,
        "min_fit_days": 5,
        "validation_days": 2,
        "holdout_days": 2,
        "monitors": (),
        "candidates": MODEL.candidates[:1],
    }
)


class Killed(BaseException):
    """The end of a process."""


def _kill(*_: Any, **__: Any) -> None:
    raise Killed


@pytest.fixture(scope="module")
def project() -> Project:
    return load_project("ferries")


@pytest.fixture(scope="module")
def published(
    project: Project, install: Install, postgres_url: sa.URL, mlflow_made: str, tmp_path_factory: Any
) -> Iterator[Settings]:
    """DAY is prepared, scored and published. Not to be changed."""
    with install(tmp_path_factory.mktemp("skew")) as made, cloned(postgres_url, mlflow_made) as mlflow:
        settings = made.model_copy(update={"mlflow_tracking_uri": mlflow})
        simulate(project, DAYS, settings)
        land(project, DAYS, settings)
        validate(project, DAYS, settings)
        record_prepared_days(build_features(project, DAYS, settings), settings)
        for day in TRAINED:
            version = train(settings, SMALL, Interval.of(day)).model_version
            assert version is not None
            small.promoted(settings, SMALL.name, version, day + timedelta(days=1))
        scored = score(SMALL, Interval.of(DAY), settings, versions={DAY: version})
        publish(SMALL, Interval.of(DAY), settings, days=scored.days)
        yield settings


@pytest.fixture
def copy(published: Settings, install: Install, tmp_path: Path) -> Iterator[Settings]:
    """The installation, to change."""
    with install(tmp_path, like=published) as made:
        shutil.copytree(published.tables, made.tables)
        same = {"mlflow_tracking_uri": published.mlflow_tracking_uri, "artifacts": published.artifacts}
        yield made.model_copy(update=same)


def run(settings: Settings, project: Project, monkeypatch: pytest.MonkeyPatch, **monitor: Any) -> Skewed:
    model = SMALL.model_copy(update={"monitors": (SkewMonitor(**monitor),)})
    monkeypatch.setattr(step, "model_names", lambda _: [model.name])
    monkeypatch.setattr(step, "load_model", lambda _: model)
    return skew(project, RUN, settings)


def checks(settings: Settings) -> list[dict[str, Any]]:
    return small.select(settings, "SELECT * FROM skew_checks ORDER BY day")


def test_rows_that_are_built_again_are_equal_to_the_bit(
    project: Project, copy: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what is built again comes from the raw tables, so a later change of clean rows does not matter
    warmer = pl.col("temperature_f") + 1
    scope = Scope(Interval.of(DAY))
    Tables(copy).replace("clean_ferries__winds", lambda rows: rows.with_columns(warmer), scope, sort_by=["_row"])
    first = run(copy, project, monkeypatch)
    [check] = checks(copy)
    assert (check["state"], check["why"], check["exact"], check["missing"]) == ("compared", "", True, 0)
    assert (check["features"], check["scores"], check["signature"]) == ({}, {}, [])
    assert check["rows"] == first.rows == ROWS
    assert first.alerts == ()
    of_champion = f"SELECT rows, constant, why, inputs FROM training_summaries WHERE model_version = {len(TRAINED)}"
    [trained] = small.select(copy, of_champion)
    assert trained["why"] == "" and trained["rows"] > 500 and 0 < trained["constant"] < 1
    assert len(trained["inputs"]["origin"]["labels"]) == 3
    again = run(copy, project, monkeypatch)
    assert (again.days, again.rows) == (0, 0), "a batch is checked once"


def test_a_change_of_clean_rows_or_of_published_scores_is_found_and_alerted_once(
    project: Project, copy: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody changed the clean winds before the features of DAY were built, and a published score."""
    Tables(copy).replace(
        "features_ferries",
        lambda rows: rows.with_columns(temperature_f=pl.col("temperature_f") + 1),
        Scope(Interval.of(DAY)),
        sort_by=["entity_id"],
    )
    newest = Tables(copy).version("features_ferries")
    with postgres.connection.engine(copy).begin() as connection:
        changed = "UPDATE prepared_days SET table_versions = table_versions || jsonb_build_object('features_ferries', "
        connection.execute(sa.text(changed + f"{newest}) WHERE day = '{DAY}'"))
        connection.execute(sa.text("ALTER TABLE predictions DISABLE TRIGGER ALL"))
        least = f"SELECT min(entity_id) FROM predictions WHERE day = '{DAY}'"
        connection.execute(sa.text(f"UPDATE predictions SET score = 0.123 WHERE entity_id = ({least})"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(postgres.alerts, "raise_alerts", _kill)
        run(copy, project, monkeypatch, rows=10_000)
    assert len(checks(copy)) == 1, "it was killed between the check and its alert"
    [alert] = run(copy, project, monkeypatch, rows=10_000).alerts
    [check] = checks(copy)
    assert list(check["features"]) == ["temperature_f"] and check["features"]["temperature_f"] > 0.9 * ROWS
    assert check["scores"] == {"score": 1}
    assert (alert.subject, alert.rule, alert.day) == ("late_ferry", "skew", RUN.start)
    assert "features differ in temperature_f (" in alert.sentence and "score (1 rows)" in alert.sentence
    assert "docs/runbooks/alert-skew.md" in alert.sentence
    assert run(copy, project, monkeypatch).alerts == ()


# --- degradation ------------------------------------------------------------------------------------------------------


def compared(settings: Settings) -> list[dict[str, Any]]:
    columns = "day, place, model_version, slice, slice_value, rows, loss, xmin::text"
    return small.select(settings, f"SELECT {columns} FROM champion_comparisons ORDER BY 1, 2, 4, 5")


def test_former_champions_and_the_dummy_baseline_score_the_rows_of_the_champion_once(
    project: Project, copy: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SMALL.model_copy(update={"monitors": (DegradationMonitor(slices=("origin",), rows=50, max_age_days=1),)})
    monkeypatch.setattr(monitoring, "model_names", lambda _: [model.name])
    monkeypatch.setattr(monitoring, "load_model", lambda _: model)
    outcomes(project, RUN, copy)
    unread = "`evaluate` has recorded what monitors need of the training rows"
    monkeypatch.setattr(training_summary, "training_set_of_run", lambda *_: pytest.fail(unread))
    loaded = loads(monkeypatch)
    [alert] = [each for each in monitoring.monitor(project, RUN, copy).alerts if each.rule.startswith("degradation")]
    assert (alert.rule, alert.day) == ("degradation: age", RUN.start)
    assert "version 2 was trained on 2013-01-19, 2 days ago" in alert.sentence
    assert loaded == [1], "the champion's predictions are published, and what its scores mean is recorded"
    found = compared(copy)
    of_all = {each["place"]: each for each in found if each["slice"] == "all"}
    assert [(place, each["model_version"], each["rows"]) for place, each in of_all.items()] == [
        (-1, 0, ROWS), (0, 2, ROWS), (1, 1, ROWS)
    ]  # fmt: skip
    assert {each["slice_value"] for each in found if each["slice"] == "origin"} == {"BAT", "PAU", "STG"}
    truth = small.select(copy, f"SELECT entity_id, value FROM outcomes WHERE day = '{DAY}' AND outcome = 'late_ferry'")
    known = pl.DataFrame(truth)
    rows = Tables(copy).scan("features_ferries").filter(pl.col("day") == DAY).collect()
    joined = rows.join(known, on="entity_id")
    registry = Registry(copy)
    digest = postgres.model_files.read_versions(copy, model.name, [1])[1].model_digest
    former = registry.load(registry.get_version(model.name, 1), digest, model)
    by_hand = model.problem.loss_by_row(joined["value"].to_numpy(), former.predict(joined)).mean()
    assert of_all[1]["loss"] == pytest.approx(by_hand) != pytest.approx(of_all[0]["loss"])
    monitoring.monitor(project, RUN, copy)
    assert compared(copy) == found, "nothing was written again"


@pytest.mark.parametrize(
    ("predicts", "versions", "places"),
    [
        (None, [1, 2], [-1, 0, 1]),  # as before migration 0041
        (json.dumps({"problem_type": "regression", "quantiles": [], "classes": []}), [1], [0, 1]),
    ],
)
def test_a_version_whose_scores_mean_something_else_has_no_dummy_baseline(
    predicts: str | None,
    versions: list[int],
    places: list[int],
    project: Project,
    copy: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = SMALL.model_copy(update={"monitors": (DegradationMonitor(),)})
    monkeypatch.setattr(monitoring, "model_names", lambda _: [model.name])
    monkeypatch.setattr(monitoring, "load_model", lambda _: model)
    outcomes(project, RUN, copy)
    with postgres.connection.engine(copy).begin() as connection:
        connection.execute(sa.text("UPDATE training_summaries SET predicts = :predicts"), {"predicts": predicts})
    loaded = loads(monkeypatch)
    monitoring.monitor(project, RUN, copy)
    assert sorted(loaded) == versions
    [of_champion] = small.select(copy, "SELECT predicts FROM training_summaries WHERE model_version = 2")
    assert of_champion["predicts"] is not None, "so it is loaded once only"
    assert [each["place"] for each in compared(copy) if each["slice"] == "all"] == places


def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each version is added when it is loaded."""
    found: list[int] = []
    load = Registry.load

    def counted(self: Registry, version: Any, *arguments: Any) -> Any:
        found.append(version.version)
        return load(self, version, *arguments)

    monkeypatch.setattr(Registry, "load", counted)
    return found
