"""`make new-model` writes a folder with a model that can be trained, or refuses and writes nothing."""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from jsonschema import Draft202012Validator
from threadpoolctl import threadpool_limits

from include.config import loading
from include.config.loading import load_model
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.yaml_file import read_yaml
from include.training.labelled_rows import LabelledRows
from include.training.training_set import TrainingSet
from tests.own_projects import FOLDER
from tools.new_model import MODEL_SCHEMA, new_model
from tools.thresholds import Reached, reached, thresholds_of, with_thresholds

DAY = date(2026, 3, 7)


@pytest.fixture
def projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a copy of the projects, to which a test can add models."""
    folder = tmp_path / "projects"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__", "ferry_delay"))
    monkeypatch.setenv("NIGHTLY_PROJECTS", str(folder))
    loading.load_project.cache_clear()
    loading.load_model.cache_clear()
    yield folder
    loading.load_project.cache_clear()
    loading.load_model.cache_clear()


def estimator_of(folder: Path) -> ModuleType:
    """Return the module `estimator.py` of a new model."""
    spec = importlib.util.spec_from_file_location("second_estimator", folder / "estimator.py")
    assert spec is not None
    assert spec.loader is not None
    estimator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(estimator)
    return estimator


@pytest.mark.parametrize(("outcome", "problem_type"), [("ferry_delay", "regression"), ("late_ferry", "binary")])
def test_a_new_model_can_be_trained(projects: Path, outcome: str, problem_type: str) -> None:
    folder = new_model("ferries", "second", outcome, "late_ferry", projects)
    model = load_model("second")
    assert (model.problem_type, model.outcome, model.project) == (problem_type, outcome, "ferries")
    assert model.features == load_model("late_ferry").features
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "estimator.py", "model.yaml"]
    first = (folder / "model.yaml").read_text(encoding="utf-8").splitlines()[0]
    schema = folder / first.removeprefix("# yaml-language-server: $schema=")
    assert schema.resolve() == MODEL_SCHEMA, "the path to the schema for editors is wrong"
    declared = read_yaml(folder / "model.yaml")
    Draft202012Validator(json.loads(schema.read_text(encoding="utf-8"))).validate(json.loads(json.dumps(declared)))

    estimator = estimator_of(folder)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"hour": rng.uniform(0, 24, 600), "gust": np.nan, "company": rng.choice(["UA", "B6"], 600)})
    signal = frame["hour"].to_numpy() * 2 - 24
    truth = (signal > 0).astype(float) if problem_type == "binary" else signal
    for candidate in model.candidates:
        fitted = estimator.build(candidate.params, ["hour", "gust"], ["company"], 1).fit(frame, truth)
        new = frame.assign(company=None)
        score = fitted.predict_proba(new)[:, 1] if problem_type == "binary" else fitted.predict(new)
        assert np.corrcoef(score, truth)[0, 1] > 0.8


@pytest.mark.parametrize("unit", [0.001, 1, 60, 100_000])
def test_the_linear_baseline_of_a_new_model_fits_an_outcome_in_any_unit(projects: Path, unit: float) -> None:
    folder = new_model("ferries", "second", "ferry_delay", "late_ferry", projects)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"hour": rng.uniform(0, 24, 2000), "company": rng.choice(["UA", "B6"], 2000)})
    revenue = 20 * frame["hour"].to_numpy() + 100 * (frame["company"] == "UA") + 300 + rng.normal(scale=10, size=2000)
    linear = estimator_of(folder).build({"kind": "linear"}, ["hour"], ["company"], 1)
    score = linear.fit(frame, unit * revenue.to_numpy()).predict(frame) / unit
    assert np.abs(score - revenue).mean() < 15, "the noise has 8, and a constant 124"


def test_like_copies_the_problem_type_of_a_model_with_the_same_outcome(projects: Path) -> None:
    new_model("ferries", "second", "ferry_delay", "late_ferry", projects)
    new_model("ferries", "third", "ferry_delay", "second", projects)
    assert load_model("third").problem_type == "regression"


TRUTHS = {
    "binary": lambda signal: (signal > 0).astype(float),
    "multiclass": lambda signal: np.digitize(signal, [-8, 8]).astype(float),
    "regression": lambda signal: signal,
    "count": lambda signal: np.floor(np.exp((signal + 24) / 16)),
    "quantile": lambda signal: signal,
}


@pytest.mark.parametrize("problem_type", TRUTHS)
def test_each_problem_type_has_a_template(projects: Path, problem_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = "ferry_delay"
    if problem_type == "multiclass":
        file = projects / "ferries" / "project.yaml"
        labels = "\n  size: {feed: logbook, sql: \"'a'\", labels: [a, b, c]}\n"
        file.write_text(file.read_text(encoding="utf-8").rstrip() + labels, encoding="utf-8")
        outcome = "size"
    folder = new_model("ferries", "second", outcome, None, projects, problem_type)
    model = load_model("second")
    assert model.problem_type == problem_type
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"hour": rng.uniform(0, 24, 600), "company": rng.choice(["UA", "B6"], 600)})
    truth = TRUTHS[problem_type](frame["hour"].to_numpy() * 2 - 24)
    estimator = estimator_of(folder)
    monkeypatch.setitem(sys.modules, "include.projects.ferries.models.second.estimator", estimator)
    days = np.repeat(np.arange(6), 100)
    rows = pl.DataFrame({
        "day": [date(2026, 3, 1) + timedelta(days=int(n)) for n in days],
        "horizon": pl.zeros(600, pl.Int32, eager=True),
        "entity_id": [str(n) for n in range(600)],
        "hour": frame["hour"].to_numpy(),
        "company": frame["company"].to_list(),
        "label": truth,
    })
    for candidate in model.candidates:
        with threadpool_limits(1):  # threads of a busy machine wait for each other
            fitted = estimator.build(candidate.params, ["hour"], ["company"], 1).fit(frame, truth)
        score = model.problem.predict(fitted, frame)
        loss = model.problem.metrics(truth, score)[model.problem.chosen_by]
        dummy = model.problem.repeat(model.problem.constant(truth), len(truth))
        assert loss < 0.6 * model.problem.metrics(truth, dummy)[model.problem.chosen_by], candidate.name

    small = model.model_copy(update={"numeric": ("hour",), "categorical": ("company",)})
    found = TrainingSet(
        day=date(2026, 3, 7),
        as_of=datetime(2026, 3, 7, tzinfo=UTC),
        labelled=LabelledRows.of(rows),
        fit=Interval(start=date(2026, 3, 1), end=date(2026, 3, 3)),
        validation=Interval.of(date(2026, 3, 4)),
        holdout=Interval(start=date(2026, 3, 5), end=date(2026, 3, 6)),
        missing=(),
    )
    text = (folder / "model.yaml").read_text(encoding="utf-8")
    new, lines = with_thresholds(text, reached(small, found, np.full(200, np.nan)))
    assert [line for line in lines if line.endswith("left")] == []
    (folder / "model.yaml").write_text(new, encoding="utf-8")
    load_model.cache_clear()
    checks: dict[str, Any] = {check.kind: check for check in load_model("second").gate.checks}
    assert checks["enough_rows"].at_least == checks["champion"].min_rows == 100
    assert new.count("  # ") >= text.count("  # ") + len(lines) - 1
    if problem_type != "binary":
        assert checks["quality"].metric == model.problem.chosen_by


def test_thresholds_are_in_the_unit_of_the_outcome(projects: Path) -> None:
    """A thousand times larger outcomes give a thousand times larger thresholds, but for shares."""
    new_model("ferries", "second", "ferry_delay", None, projects)
    problem = load_model("second").problem

    def settings(unit: float) -> dict[str, float]:
        days = Interval.of(DAY)
        made = Reached(problem, days, 500, {"mae": 40.0 * unit}, {"mae": 20.0 * unit}, 1.5 * unit, naive=30.0 * unit)
        return {each.kind: float(each.settings.rpartition(" ")[2]) for each in thresholds_of(made)}

    small, large = settings(1), settings(1000)
    shares = {"enough_rows": 250.0, "champion": 250.0, "dummy_baseline": 0.25}
    assert small == {"quality": 30.0, "calibration": 4.0, "changed_decisions": 10.0, "score_shift": 10.0, **shares}
    assert large == {kind: value if kind in shares else 1000 * value for kind, value in small.items()}


@pytest.mark.parametrize("problem_type", ["binary", "regression", "count", "quantile"])
def test_a_new_model_passes_ruff(projects: Path, problem_type: str) -> None:
    folder = new_model("ferries", "second", "late_ferry", None, projects, problem_type)
    settings = ["--config", str(Path(__file__).parents[2] / "pyproject.toml")]
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, *settings, str(folder)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "outcome", "like", "says"),
    [
        ("late_ferry", "ferry_delay", None, "there is a model 'late_ferry' already"),
        ("Second", "ferry_delay", None, "lower-case letters"),
        ("../second", "ferry_delay", None, "lower-case letters"),
        ("second", "ferry_delays", None, "no outcome 'ferry_delays'; did you mean 'ferry_delay'"),
        ("second", "ferry_delay", "late_fery", "no such model; did you mean 'late_ferry'"),
    ],
)
def test_a_wrong_argument_is_refused_and_nothing_is_written(
    projects: Path, name: str, outcome: str, like: str | None, says: str
) -> None:
    before = sorted(projects.rglob("*"))
    with pytest.raises(ActionRequiredError, match=says):
        new_model("ferries", name, outcome, like, projects)
    assert sorted(projects.rglob("*")) == before
