"""`make new-model` writes a folder with a model that can be trained, or refuses and writes nothing."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator

from include.config import loading
from include.config.loading import load_model
from include.core.errors import ActionRequiredError
from include.core.yaml_file import read_yaml
from tests.own_projects import FOLDER
from tools.new_model import MODEL_SCHEMA, new_model


@pytest.fixture
def projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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


def test_like_a_model_that_the_templates_do_not_fit_writes_nothing(projects: Path) -> None:
    path = projects / "ferries" / "models" / "late_ferry" / "model.yaml"
    text = path.read_text(encoding="utf-8").replace("categorical: [company, origin, dest]", "categorical: []")
    text = text[: text.index("    - kind: slices")] + text[text.index("    - {kind: changed_decisions") :]
    text = text.replace("  checks:\n", "  checks:\n    - {kind: slices, by: [month]}\n")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ActionRequiredError, match=r"like late_ferry cannot be made by the templates \(gate.checks.*by"):
        new_model("ferries", "second", "ferry_delay", "late_ferry", projects)
    assert not (projects / "ferries" / "models" / "second").exists()


@pytest.mark.parametrize("outcome", ["ferry_delay", "late_ferry"])
def test_a_new_model_passes_ruff(projects: Path, outcome: str) -> None:
    folder = new_model("ferries", "second", outcome, None, projects)
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
