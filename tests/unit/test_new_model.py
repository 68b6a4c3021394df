"""`make new-model`: the folder that it writes is a model that learns, and it writes nothing where it cannot be one."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from include.config import loading
from include.config.loading import load_model
from include.core.errors import ActionRequiredError
from tools.new_model import new_model


@pytest.fixture
def projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the projects, of which one can be written to."""
    folder = tmp_path / "projects"
    shutil.copytree(loading.PROJECTS, folder, ignore=shutil.ignore_patterns("__pycache__", "arrival_delay"))
    monkeypatch.setattr(loading, "PROJECTS", folder)
    loading.load_project.cache_clear()
    loading.load_model.cache_clear()
    yield folder
    loading.load_project.cache_clear()
    loading.load_model.cache_clear()


@pytest.mark.parametrize(("outcome", "task"), [("arrival_delay", "regression"), ("late_arrival", "binary")])
def test_what_it_writes_is_a_model_that_learns(projects: Path, outcome: str, task: str) -> None:
    folder = new_model("flights", "second", outcome, "late_arrival", projects)
    model = load_model("second")
    assert (model.problem_type, model.outcome, model.project) == (task, outcome, "flights")
    assert model.features == load_model("late_arrival").features
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "estimator.py", "model.yaml"]

    spec = importlib.util.spec_from_file_location("second_estimator", folder / "estimator.py")
    assert spec is not None
    assert spec.loader is not None
    estimator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(estimator)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"hour": rng.uniform(0, 24, 600), "gust": np.nan, "carrier": rng.choice(["UA", "B6"], 600)})
    signal = frame["hour"].to_numpy() * 2 - 24
    truth = (signal > 0).astype(float) if task == "binary" else signal
    for candidate in model.candidates:
        fitted = estimator.build(candidate.params, ["hour", "gust"], ["carrier"], 1).fit(frame, truth)
        new = frame.assign(carrier=None)
        score = fitted.predict_proba(new)[:, 1] if task == "binary" else fitted.predict(new)
        assert np.corrcoef(score, truth)[0, 1] > 0.8


def test_like_a_model_of_the_same_outcome_it_has_its_task(projects: Path) -> None:
    new_model("flights", "second", "arrival_delay", "late_arrival", projects)
    new_model("flights", "third", "arrival_delay", "second", projects)
    assert load_model("third").problem_type == "regression"


def test_like_a_model_that_the_templates_do_not_fit_nothing_is_written(projects: Path) -> None:
    path = projects / "flights" / "models" / "late_arrival" / "model.yaml"
    text = path.read_text(encoding="utf-8").replace("categorical: [carrier, origin, dest]", "categorical: []")
    text = text[: text.index("    - kind: slices")] + text[text.index("    - {kind: changed_decisions") :]
    text = text.replace("  checks:\n", "  checks:\n    - {kind: slices, by: [month]}\n")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(
        ActionRequiredError, match=r"like late_arrival cannot be made by the templates \(gate.checks.*by"
    ):
        new_model("flights", "second", "arrival_delay", "late_arrival", projects)
    assert not (projects / "flights" / "models" / "second").exists()


@pytest.mark.parametrize("outcome", ["arrival_delay", "late_arrival"])
def test_what_it_writes_passes_the_checks(projects: Path, outcome: str) -> None:
    folder = new_model("flights", "second", outcome, None, projects)
    settings = ["--config", str(Path(__file__).parents[2] / "pyproject.toml")]
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, *settings, str(folder)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "outcome", "like", "says"),
    [
        ("late_arrival", "arrival_delay", None, "there is a model 'late_arrival' already"),
        ("Second", "arrival_delay", None, "lower-case letters"),
        ("../second", "arrival_delay", None, "lower-case letters"),
        ("second", "arrival_delays", None, "no outcome 'arrival_delays'; did you mean 'arrival_delay'"),
        ("second", "arrival_delay", "late_arival", "no such model; did you mean 'late_arrival'"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    projects: Path, name: str, outcome: str, like: str | None, says: str
) -> None:
    before = sorted(projects.rglob("*"))
    with pytest.raises(ActionRequiredError, match=says):
        new_model("flights", name, outcome, like, projects)
    assert sorted(projects.rglob("*")) == before
