"""How a model becomes files and is loaded: which types, which bytes, and what its reference rows must score."""

import ast
import json
from collections.abc import Iterator
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from include.config.loading import load_model
from include.config.model import Model
from include.core.errors import ActionRequiredError, ConfigError, DataError
from include.io.registry import models
from include.io.registry.models import LoadedModel, LoggedModel, ModelFiles, reference_rows, saved
from include.training.serialization import Cloudpickle, Skops
from tools.stack import ROOT

MODEL = load_model("late_ferry").model_copy(update={"numeric": ("hour",), "categorical": ("company",)})
ROWS = pl.DataFrame({"hour": np.arange(500.0), "company": [f"c{n}" for n in range(500)], "entity_id": ["x"] * 500})
REFERENCE = reference_rows(ROWS, MODEL.features, seed=1)


class Own(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator of a team, which skops does not know."""

    plus = 0.0

    def fit(self, X: pd.DataFrame, y: Any) -> "Own":
        self.classes_ = np.array([0.0, 1.0])
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        p = X["hour"].to_numpy() / 1000 + self.plus
        return np.column_stack([1 - p, p])


INPUTS = pd.DataFrame({"hour": [1.0, 2.0], "company": ["UA", None]})
OWN = f"{__name__}.Own"
TRUSTS = MODEL.model_copy(update={"serialization": Skops(types=(OWN,))})
PICKLED = MODEL.model_copy(update={"serialization": Cloudpickle(kind="cloudpickle", reason="of a test")})


def own() -> Own:
    return Own().fit(INPUTS, [0, 1])


def load(path: Path, model: Model) -> LoadedModel:
    return models.load_files(
        ModelFiles.within(path), LoggedModel.of_version("late_ferry", 3, "late_ferry"), model.stored
    )


@pytest.fixture
def files() -> Iterator[Path]:
    with saved(TRUSTS, "own", own(), REFERENCE) as (path, _):
        yield path


# --- the only way to load ---------------------------------------------------------------------------------------------

LOADERS = {"cloudpickle", "dill", "joblib", "pickle", "skops"}


def test_only_one_module_can_load_a_model() -> None:
    """Whatever else loads a model would not compare its digest."""
    found, searched = [], 0
    for path in (p for folder in ("include", "dags", "plugins", "tools") for p in (ROOT / folder).rglob("*.py")):
        searched += 1
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            if LOADERS & {module.split(".")[0] for module in modules}:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} imports {', '.join(modules)}")
            of_mlflow = isinstance(node, ast.Attribute) and ast.unparse(node.value).startswith("mlflow")
            if of_mlflow and node.attr in ("load_model", "pyfunc"):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} has {ast.unparse(node)}")
            if any(module.startswith("mlflow") for module in modules) and {"load_model", "pyfunc"} & set(names):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} imports load_model of MLflow")
    assert searched > 150, "too few files were searched"
    # `unpickle` is a process of its own, for a pickle that a person trusts. The settings import for tasks to come. What
    # `executors` pickles is the product's own, with a model's files as they are, and a step sends it to its executors.
    allowed = ("io/registry/models", "io/registry/unpickle", "io/executors")
    known = (*(f"include/{name}.py:" for name in allowed), "tools/airflow_local_settings.py:")
    others = [line for line in found if not line.startswith(known)]
    assert len(found) > len(others), "the search does not see the one module that loads models"
    assert not others, "load models by `Registry.load`, which compares the digest of their files:\n" + "\n".join(others)


# --- types ------------------------------------------------------------------------------------------------------------


def test_a_type_that_is_not_trusted_is_refused_before_anything_is_logged() -> None:
    with (
        pytest.raises(ConfigError, match=r"model.yaml: candidates, own: .*not trusted.*Nothing was logged") as refused,
        saved(MODEL, "own", own(), REFERENCE),
    ):
        pass
    assert f"serialization: {{kind: skops, types: [{OWN}]}}" in str(refused.value)


def test_a_declared_type_is_saved_and_loaded(files: Path) -> None:
    assert load(files, TRUSTS).predict(ROWS).tolist() == own().predict_proba(ROWS.to_pandas())[:, 1].tolist()


def test_a_type_is_loaded_only_if_model_yaml_names_it(files: Path) -> None:
    """The list of trusted types in `MLmodel` has it; that list is not asked."""
    assert OWN in (files / "MLmodel").read_text(encoding="utf-8")
    with pytest.raises(ActionRequiredError, match=f"version 3 of late_ferry has types that model.yaml does.*{OWN}"):
        load(files, MODEL)


def test_what_skops_cannot_save_is_refused_with_what_to_do() -> None:
    class Local(Own):
        """Not at the top level of a module."""

    words = r"skops cannot save the estimator.*top level.*cloudpickle, reason: …\}. Nothing was logged"
    with pytest.raises(ConfigError, match=words), saved(MODEL, "own", Local().fit(INPUTS, [0, 1]), REFERENCE):
        pass
    nameless = make_pipeline(FunctionTransformer(lambda X: X), own()).fit(INPUTS, [0, 1])
    with pytest.raises(ConfigError, match=words), saved(TRUSTS, "own", nameless, REFERENCE):
        pass
    with saved(PICKLED, "own", Local().fit(INPUTS, [0, 1]), REFERENCE) as (path, _):
        assert load(path, PICKLED).predict(ROWS).tolist() == own().predict_proba(ROWS.to_pandas())[:, 1].tolist()


def test_a_pickle_is_not_loaded_if_model_yaml_says_skops() -> None:
    with (
        saved(PICKLED, "own", own(), REFERENCE) as (path, _),
        pytest.raises(ActionRequiredError, match=r"has model\.pkl, and model\.yaml says serialization: skops"),
    ):
        load(path, TRUSTS)


# --- reference rows ---------------------------------------------------------------------------------------------------


def test_reference_rows_have_no_identifier_and_are_about_no_entity() -> None:
    assert REFERENCE.columns == ["hour", "company"]
    assert REFERENCE.height == 64
    pairs = zip(REFERENCE["hour"], REFERENCE["company"], strict=True)
    assert sum(company == f"c{hour:.0f}" for hour, company in pairs) < 8, "values of one row are still together"
    assert REFERENCE.equals(reference_rows(ROWS, MODEL.features, seed=1))
    assert reference_rows(ROWS.head(3), MODEL.features, seed=1).height == 3


def test_another_behaviour_of_a_library_is_refused(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second version of a library would take an environment of its own; a changed method stands for it."""
    (files / "requirements.txt").write_text("scikit-learn==1.2.2\nnumpy==" + installed_version("numpy"))
    load(files, TRUSTS)  # other versions, equal scores
    monkeypatch.setattr(Own, "plus", 1e-6)
    here = installed_version("scikit-learn")
    with pytest.raises(DataError, match=r"version 3 of late_ferry scores 64 of its 64 reference rows otherwise") as no:
        load(files, TRUSTS)
    for said in ("by up to 1e-06", f"fitted with scikit-learn 1.2.2 (here {here})", "cli gate --model late_ferry"):
        assert said in str(no.value)
    assert "numpy" not in str(no.value)


def test_the_last_bits_may_differ_on_another_processor(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Own, "plus", 1e-14)
    load(files, TRUSTS)


def test_an_error_of_another_library_is_refused_with_its_version(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "requirements.txt").write_text("scikit-learn==1.2.2")
    monkeypatch.setattr(Own, "predict_proba", lambda self, X: self.gone)
    with pytest.raises(DataError, match=r"cannot be used here: AttributeError.*gone.*fitted with scikit-learn 1.2.2"):
        load(files, TRUSTS)


# --- digest -----------------------------------------------------------------------------------------------------------


def test_the_digest_covers_every_file_and_name(files: Path) -> None:
    before = ModelFiles.within(files)
    assert (files / "reference.parquet").exists()
    (files / "registered_model_meta").write_text("MLflow adds it when it downloads a version")
    assert ModelFiles.within(files) == before
    for path in sorted(p for p in files.iterdir() if p.name != "registered_model_meta"):
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        assert ModelFiles.within(files).digest != before.digest, path.name
        path.write_bytes(content)
        path.rename(path.with_suffix(".other"))
        assert ModelFiles.within(files).digest != before.digest, path.name
        path.with_suffix(".other").rename(path)
    (files / "code").mkdir()
    (files / "code" / "registered_model_meta").write_text("")
    assert ModelFiles.within(files).digest != before.digest


def test_files_have_what_the_estimator_needs_and_nothing_of_this_machine(files: Path) -> None:
    described = (files / "MLmodel").read_text(encoding="utf-8")
    assert str(ROOT) not in described
    assert "skops==" in (files / "requirements.txt").read_text(encoding="utf-8")
    assert json.loads(json.dumps(sorted(p.name for p in files.iterdir()))) == [
        "MLmodel",
        "conda.yaml",
        "model.skops",
        "python_env.yaml",
        "reference.parquet",
        "requirements.txt",
    ]


def test_an_estimator_of_scikit_learn_needs_no_declaration() -> None:
    with saved(MODEL, "prior", DummyClassifier().fit(INPUTS, [0.0, 1.0]), REFERENCE) as (path, _):
        assert load(path, MODEL).predict(ROWS.head(2)).tolist() == [0.5, 0.5]
