"""The estimators that `model.yaml` may declare learn, take what a night can bring, and are stored without code."""

import hashlib
import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from pydantic import Field, TypeAdapter, ValidationError
from sklearn.dummy import DummyClassifier
from threadpoolctl import threadpool_limits

from include.config.loading import load_model
from include.config.model import Model
from include.core.code import code_digest
from include.core.errors import ConfigError
from include.io.registry import FitRun, LoadedModel, ModelFiles, Registry, models, reference_rows
from include.io.registry.models import packages_of, saved
from include.operations.check_code import check_estimator
from include.operations.problems import Problems
from include.steps import fit as fit_step
from include.training import declared
from include.training.config import Candidate, Training
from include.training.estimators import AnyEstimator, plugin
from include.training.estimators.linear import Linear
from include.training.problem_types import PROBLEM_TYPES
from include.training.training_set import estimator_inputs
from include.training.transforms.fitted import NumberedClasses
from tests.own_projects import use_own_projects
from tests.unit.io.test_model_files import load
from tests.unit.training.test_transforms import transform

NUMERIC, CATEGORICAL = ("hour", "empty", "constant"), ("company", "none")
KINDS = ("linear", "boosted", "forest", "lightgbm", "xgboost")
QUICK: dict[str, dict[str, Any]] = {
    "linear": {"alpha": 0.1},
    "boosted": {"max_iter": 60, "min_samples_leaf": 20},
    "forest": {"trees": 20},
    "lightgbm": {"max_iter": 60, "min_samples_leaf": 20},
    "xgboost": {"max_iter": 60, "min_samples_leaf": 5},
}


def estimator(kind: str, **settings: Any) -> Any:
    return TypeAdapter(AnyEstimator).validate_python({"kind": kind, **QUICK.get(kind, {}), **settings})


def model_of(problem_type: str, **candidate: Any) -> Model:
    use_own_projects()
    declared = {"name": "declared", **candidate}
    return load_model("late_ferry").model_copy(
        update={
            "problem_type": problem_type,
            "numeric": NUMERIC,
            "categorical": CATEGORICAL,
            "classes": ("a", "b", "c") if problem_type == "multiclass" else (),
            "quantiles": (0.1, 0.5, 0.9),
            "candidates": (Candidate.model_validate(declared),),
        }
    )


def rows(count: int, seed: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame({
        "hour": random.uniform(0, 24, count),
        "empty": np.full(count, np.nan),
        "constant": np.full(count, 1e308),
        "company": random.choice(["UA", "B6"], count),
        "none": pl.Series([None] * count, dtype=pl.String),
    })


def outcome(problem_type: str, frame: pl.DataFrame) -> np.ndarray:
    signal = frame["hour"].to_numpy() + 8.0 * (frame["company"] == "UA").to_numpy()
    if problem_type == "binary":
        return (signal > 16).astype(float)
    if problem_type == "multiclass":
        return np.digitize(signal, [11, 21]).astype(float)
    return np.floor(signal / 3) if problem_type == "count" else signal * 100


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_an_estimator_learns_is_stored_and_takes_what_a_night_can_bring(kind: str, problem_type: str) -> None:
    if kind == "forest" and problem_type == "quantile":
        pytest.skip("forest cannot predict quantiles")
    model = model_of(problem_type, estimator=estimator(kind), transforms=(transform("cap_outliers"),))
    fitted, night = rows(900, 1), rows(200, 2)
    truth, problem = outcome(problem_type, fitted), model.problem
    X = estimator_inputs(fitted, NUMERIC, CATEGORICAL)
    with threadpool_limits(1):
        made = fit_step._build(model, model.candidates[0]).fit(X, truth)
    scored = LoadedModel.of(model, made).predict(night)
    loss = problem.metrics(outcome(problem_type, night), scored)[problem.chosen_by]
    constant = problem.repeat(problem.constant(truth), night.height)
    assert loss < 0.7 * problem.metrics(outcome(problem_type, night), constant)[problem.chosen_by]

    odd = night.with_columns(company=pl.lit("NEW"), none=pl.lit("seen"), hour=pl.lit(None, pl.Float64), empty=1e308)
    assert np.isfinite(LoadedModel.of(model, made).predict(odd)).all()
    with saved(model, "declared", made, reference_rows(night, model.features, 1)) as (path, _):
        loaded = load(path, model)
        assert loaded.predict(night).tolist() == scored.tolist()
    cuts = ((0, 1), (1, 7), (8, 67), (75, None))
    blocks = np.concatenate([loaded.predict(night.slice(*cut)) for cut in cuts])
    np.testing.assert_allclose(blocks, scored, rtol=1e-12, atol=1e-14)
    if kind != "linear":  # the sums of linear algebra are added in another order
        assert (blocks == scored).all()
    with threadpool_limits(2):
        again = fit_step._build(model, model.candidates[0])
    with threadpool_limits(1):
        again.fit(X, truth)
    assert LoadedModel.of(model, again).predict(night).tolist() == scored.tolist()


def digest_before_kinds(model: Model) -> str:
    """The digest as it was before a candidate could declare an estimator."""
    decides = model.model_dump(mode="json", include=set(Training.model_fields))
    decides["candidates"] = [{"name": each["name"], "params": each["params"]} for each in decides["candidates"]]
    code = code_digest([model.folder / "estimator.py"])
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode() + code.encode()).hexdigest()


def test_a_model_without_declared_estimators_keeps_its_digest() -> None:
    model = load_model("late_ferry")
    assert model.needs_python
    assert model.digest == digest_before_kinds(model)


def test_the_digest_covers_settings_and_the_code_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("binary", estimator=estimator("boosted"), transforms=(transform("rare_labels"),))
    assert not model.needs_python
    others = [
        model_of("binary", estimator=estimator("boosted", max_iter=61), transforms=(transform("rare_labels"),)),
        model_of("binary", estimator=estimator("boosted")),
        model_of("binary", estimator=estimator("forest"), transforms=(transform("rare_labels"),)),
    ]
    assert len({each.digest for each in (model, *others)}) == 4
    read: list[str] = []

    def recorded(files: Any) -> str:
        read.extend(path.name for path in files)
        return "code"

    before = model.digest
    monkeypatch.setattr(declared, "code_digest", recorded)
    assert model.digest != before
    assert {"declared.py", "fitted.py", "choosing.py", "boosted.py", "labels.py", "select.py"} <= set(read)
    assert not {"forest.py", "linear.py", "numbers.py", "impute.py"} & set(read)


def test_types_of_an_estimator_are_trusted_only_where_it_is_declared() -> None:
    tree = "sklearn.tree._tree.Tree"
    assert tree in model_of("binary", estimator=estimator("forest")).stored.trusted
    assert tree not in model_of("binary", estimator=estimator("boosted")).stored.trusted


def test_the_champion_of_a_kind_that_is_declared_no_more_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    before, now = (model_of("binary", estimator=estimator(kind)) for kind in ("forest", "boosted"))
    fitted = rows(300, 1)
    X, y = estimator_inputs(fitted, NUMERIC, CATEGORICAL), outcome("binary", fitted)
    forest = fit_step._build(before, before.candidates[0]).fit(X, y)
    with saved(before, "declared", forest, reference_rows(fitted, before.features, 1)) as (path, _):
        monkeypatch.setattr(
            models, "open_verified", lambda *given: models.load_files(ModelFiles.within(path), given[1], given[3])
        )
        registry = Registry.__new__(Registry)
        registry.connection = None  # type: ignore[assignment]
        loaded = registry.load(FitRun("run", "m-1", "fit", "files", {}), "files", now)
        assert (loaded.predict(fitted) == forest.predict_proba(X)[:, 1]).all()


class Dull(Linear):
    """An estimator of another package."""

    kind: Literal["dull"] = "dull"
    level: float = Field(default=1, gt=0)


def test_an_estimator_comes_from_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [EntryPoint("dull", f"{__name__}:Dull", plugin.GROUP), EntryPoint("odd", "json:dumps", plugin.GROUP)]
    monkeypatch.setattr(plugin, "entry_points", lambda group: [each for each in found if each.group == group])
    monkeypatch.setattr(EntryPoint, "load", lambda self: Dull if self.name == "dull" else json.dumps)
    made = estimator("plugin", plugin="dull", settings={"level": 2})
    model = model_of("binary", estimator=made)
    fitted = rows(300, 1)
    X = estimator_inputs(fitted, NUMERIC, CATEGORICAL)
    predict = fit_step._build(model, model.candidates[0]).fit(X, outcome("binary", fitted))
    assert np.isfinite(predict.predict_proba(X)).all()
    assert model.digest != model_of("binary", estimator=estimator("plugin", plugin="dull")).digest
    for settings, says in (
        ({"plugin": "dul"}, "no installed package has an entry point 'dul' in nightly_ml.estimators; did you mean"),
        ({"plugin": "odd"}, "odd is .* not a subclass of include.training.estimators.Estimator"),
        ({"plugin": "dull", "settings": {"level": 0}}, "dull: settings.level: Input should be greater than 0"),
        ({"plugin": "dull", "settings": {"levle": 1}}, "dull: settings.levle: Extra inputs"),
    ):
        with pytest.raises(ValidationError, match=says):
            estimator("plugin", **settings)


YAML = """
candidates:
  - name: linear
    estimator: {kind: boosted, max_iter: 20}
    transforms:
      - {kind: rare_labels, columns: [company]}
      - {kind: scale, columns: [leaving_hour]}
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("kind: boosted", "kind: bosted", 2, "there is no 'bosted'; did you mean 'boosted'"),
        ("kind: scale", "kind: scal", 5, "there is no 'scal'; did you mean 'scale'"),
        ("max_iter", "max_itr", 2, "unknown key; did you mean 'max_iter'"),
        ("[leaving_hour]", "[leaving_hou]", 5, "no column 'leaving_hou'.* did you mean 'leaving_hour'"),
        ("[leaving_hour]", "[company]", 5, "company has labels here, and scale is for numbers"),
        ("kind: scale", "kind: remove_outlier_rows", 5, "remove_outlier_rows removes rows, so it must stand before"),
        ("estimator: {kind: boosted, max_iter: 20}", "params: {}", 3, "transforms: need an `estimator` here"),
        ("max_iter: 20}", "max_iter: 20}\n    params: {a: 1}", 3, "params: are for estimator.py"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    from include.config.loading import load_project, read_model

    folder = tmp_path / "other"
    folder.mkdir()
    text = (load_model("late_ferry").folder / "model.yaml").read_text(encoding="utf-8")
    head, _, tail = text.partition("\ncandidates:")
    tail = tail[tail.index("\n\n") :]
    (folder / "model.yaml").write_text(head + YAML + tail, encoding="utf-8")
    read_model(folder / "model.yaml", load_project("ferries"))
    assert old in YAML
    (folder / "model.yaml").write_text(head + YAML.replace(old, new) + tail, encoding="utf-8")
    with pytest.raises(ConfigError, match=says) as refused:
        read_model(folder / "model.yaml", load_project("ferries"))
    begins = head.count("\n") + 2
    assert f"model.yaml, line {begins + line}" in str(refused.value)


def test_estimator_py_is_needed_only_by_a_candidate_that_declares_no_estimator(tmp_path: Path) -> None:
    alone = model_of("binary", estimator=estimator("boosted")).model_copy(update={"folder": tmp_path})
    found = Problems()
    check_estimator(tmp_path / "estimator.py", alone, found)
    assert found.problems == []
    of_python = model_of("binary").model_copy(update={"folder": tmp_path})
    check_estimator(tmp_path / "estimator.py", of_python, found)
    assert ["is missing" in problem.what for problem in found.problems] == [True]


def test_a_range_that_estimator_py_does_not_take_is_found_without_data() -> None:
    model = load_model("late_ferry")
    for name, expected in (("C", []), ("Q", ["search.ranges.Q"])):
        declared = {"name": "linear", "params": {"kind": "linear"}}
        ranges = {name: {"low": 0.1, "high": 1.0}}
        candidate = Candidate.model_validate({**declared, "search": {"trials": 2, "ranges": ranges}})
        found = Problems()
        check_estimator(model.folder / "estimator.py", model.model_copy(update={"candidates": (candidate,)}), found)
        assert [key for problem in found.problems for key in expected if key in problem.what] == expected
        assert len(found.problems) == len(expected)


class WithoutGaps(DummyClassifier):
    """Refuses classes that are not 0, 1, 2, …, as XGBoost does."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        if (np.unique(y) != np.arange(len(np.unique(y)))).any():
            raise ValueError(f"Invalid classes: {np.unique(y)}")
        return super().fit(X, y, sample_weight)


@pytest.mark.parametrize("there", [[0.0, 2.0, 2.0, 2.0], [1.0, 2.0, 0.0, 2.0]])
def test_days_to_fit_on_may_lack_a_class(there: list[float]) -> None:
    """A fold of a search has fewer days than a fit, and a rare class may be on none of them."""
    features = pl.DataFrame({"hour": [1.0, 2.0, 3.0, 4.0]})
    made = NumberedClasses(WithoutGaps(strategy="prior")).fit(features.to_numpy(), np.array(there))
    loaded = LoadedModel(made, ("hour",), (), "multiclass", 0.5, classes=("a", "b", "c"))
    shares = [there.count(each) / 4 for each in (0.0, 1.0, 2.0)]
    assert loaded.predict(features) == pytest.approx(np.tile(shares, (4, 1)))
    assert made.predict(features.to_numpy()).tolist() == [2.0] * 4
    model = model_of("multiclass", estimator=estimator("linear"))
    model = model.model_copy(update={"numeric": ("hour",), "categorical": ()})
    with saved(model, "declared", NumberedClasses(DummyClassifier()).fit(features, np.array(there)), features):
        pass  # it is loaded again, and compared


def test_a_logged_model_names_the_packages_of_its_parts() -> None:
    def packages(*transforms: Any) -> set[str]:
        model = model_of("binary", estimator=estimator("linear"), transforms=transforms)
        return {*packages_of(fit_step._build(model, model.candidates[0]))}

    assert packages(transform("label_counts")) - packages() == {"feature_engine"}
    assert packages() == {*models.REQUIREMENTS}
