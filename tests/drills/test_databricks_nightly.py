"""Build features, fit candidates and score entities of a whole nightly run on Databricks.

The results are equal to those of the worker, to the bit.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.names import features_table, scores_table
from include.io.registry import Registry
from include.io.tables import Tables
from include.steps.build_features import build_features
from include.steps.fit import fit
from include.steps.score import score
from tests.databricks.live import CONFIG, WHEELS, Live, living
from tools import demo

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.timeout(1800)]

PROJECT, MODEL = load_project("flights"), load_model("late_arrival")
# as short as the gate allows
HISTORY = Interval(start=PROJECT.first_day, end=date(2013, 2, 14))
RUN_DATE = Interval.of(date(2013, 2, 15))
LATER = "features_version"  # of scores: the features were made again
OF_PROJECT = f"include/projects/{PROJECT.name}/project.yaml"
OF_MODEL = f"include/projects/{PROJECT.name}/models/{MODEL.name}/model.yaml"


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with living(Interval.of(HISTORY.start)) as found:
        mlflow = demo.settings_of(found.stack).mlflow_tracking_uri.get_secret_value()  # without a password
        settings = {"mlflow_tracking_uri": mlflow, "mlflow_registry_uri": mlflow}
        section = {"databricks": {**CONFIG["databricks"], "settings": settings}}
        before = yaml.safe_dump({"databricks": CONFIG["databricks"]})
        found.repository.write(OF_PROJECT, lambda text: text.replace(before, yaml.safe_dump(section)))
        there = yaml.safe_dump({"run_on": {"fit": "databricks", "score": "databricks"}})
        found.repository.write(OF_MODEL, lambda text: f"{text}\n{there}")
        found.repository.commit("Training and scoring are on Databricks")
        found.airflow_has(found.deploy())
        yield found


def test_the_night_runs_and_agrees(live: Live) -> None:
    assert demo.run(live.stack, PROJECT, HISTORY, RUN_DATE, (MODEL.name,)) == 0
    assert set(live.databricks.results) == {"SUCCESS"}
    ran = Counter(run["spec"]["tasks"][0]["task_key"] for run in live.databricks.runs)
    fits = len(MODEL.candidates) * len({HISTORY.end, RUN_DATE.end})
    assert ran == {"build_features": 1, "fit": fits, "score": 1}
    lists = {each["requirements"] for run in live.databricks.runs for each in run["spec"]["tasks"][0]["libraries"]}
    assert len(lists) == 1
    assert min(lists).startswith(WHEELS)


def test_features_and_scores_are_those_of_the_worker(live: Live) -> None:
    settings = demo.settings_of(live.stack)
    tables, of_night = Tables(settings), pl.col("day") == RUN_DATE.start
    names = [features_table(PROJECT.name), scores_table(MODEL.name)]
    before = {name: tables.version(name) for name in names}
    build_features(PROJECT, RUN_DATE, settings)
    score(MODEL, RUN_DATE, settings, versions={RUN_DATE.start: 1})
    for name in names:
        there, here = (
            tables.scan(name, version).filter(of_night).sort("entity_id").collect() for version in (before[name], None)
        )
        assert tables.version(name) > before[name]
        assert here.height > 900
        assert_frame_equal(here.drop(LATER, strict=False), there.drop(LATER, strict=False))


def test_fits_are_those_of_the_worker(live: Live, tmp_path: Path) -> None:
    settings = demo.settings_of(live.stack)
    apart = type(settings).model_validate({
        **settings.model_dump(),
        "mlflow_tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "artifacts": str(tmp_path / "artifacts"),
    })
    there, here = Registry(settings), Registry(apart)
    prepared_day = Tables(settings).scan(features_table(PROJECT.name)).filter(pl.col("day") == RUN_DATE.start).collect()
    for candidate in MODEL.candidates:
        fitted = fit(MODEL, Interval.of(HISTORY.end), apart, candidate=candidate.name)
        own = here.get_fit(fitted.run_id)
        theirs = there.find_fit(MODEL, own.digest)
        assert theirs is not None, "the same data, code and config have the same digest"
        scores = [
            registry.load(run, run.model_digest, MODEL).predict(prepared_day).tolist()
            for registry, run in ((here, own), (there, theirs))
        ]
        assert scores[0] == scores[1]
