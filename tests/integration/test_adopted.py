"""Read a model that was fitted elsewhere: what its files say, and what is loaded of it."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cloudpickle
import mlflow.sklearn
import pandas as pd
import pytest
import skops.io
import yaml
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from include.core.errors import ActionRequiredError, DataError
from include.io.registry.adopted import ForeignModel, foreign_model
from include.training.serialization import Cloudpickle, Skops

INPUTS = pd.DataFrame({"hour": [1.0, 2.0], "company": ["UA", "B6"], "count": [1, 2]})
MODEL = LogisticRegression().fit(INPUTS[["hour"]], [0, 1])
PICKLED = Cloudpickle(kind="cloudpickle", reason="of a test")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model that a notebook saved, which takes a while."""
    folder = tmp_path_factory.mktemp("notebook") / "home"
    mlflow.sklearn.save_model(
        MODEL,
        str(folder),
        serialization_format="cloudpickle",
        signature=infer_signature(INPUTS, [0, 1]),
        pip_requirements=["scikit_learn==1.0", "NumPy==1.20 ; python_version > '3'", "skops==0.1", "pandas>=1"],
    )
    return folder


@pytest.fixture
def folder(home: Path, tmp_path: Path) -> Path:
    """Return a copy of that folder."""
    return Path(shutil.copytree(home, tmp_path / "home"))


def read(folder: Path) -> ForeignModel:
    with foreign_model(None, str(folder)) as found:  # type: ignore[arg-type]  # a folder needs no MLflow
        return found


def change(folder: Path, **changes: Any) -> Path:
    """Change what MLmodel says; None removes a key."""
    described = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
    described.update(changes)
    kept = {name: value for name, value in described.items() if value is not None}
    (folder / "MLmodel").write_text(yaml.safe_dump(kept), encoding="utf-8")
    return folder


def test_its_files_say_columns_versions_and_when_it_was_logged(folder: Path) -> None:
    found = read(change(folder, utc_time_created="2013-03-01 10:00:00.5"))
    assert dict(found.columns or {}) == {"hour": "number", "company": "text", "count": "number"}
    assert found.created_at == datetime(2013, 3, 1, 10, 0, 0, 500_000, tzinfo=UTC)
    assert found.run_id is None
    assert found.versions.keys() == {"scikit-learn", "numpy"}, (
        "not the packages that only store, nor what is not pinned"
    )
    assert [each.split(" (")[0] for each in found.other_libraries] == ["numpy 1.20"], (
        "MLmodel knows scikit-learn better"
    )


def test_what_its_files_do_not_say_is_unknown(folder: Path) -> None:
    (folder / "requirements.txt").unlink()
    flavor = {"sklearn": {"pickled_model": "model.pkl"}}
    found = read(change(folder, utc_time_created="yesterday", signature=None, flavors=flavor))
    assert (found.columns, found.created_at) == (None, None)
    assert found.other_libraries == ["scikit-learn of an unknown version"]


def test_only_a_file_beside_mlmodel_is_the_estimator(folder: Path) -> None:
    for name in ("../home/model.pkl", str(folder / "other"), "other.pkl", None):
        with pytest.raises(ActionRequiredError, match="there is no file"):
            read(change(folder, flavors={"sklearn": {"pickled_model": name}}))
    with pytest.raises(ActionRequiredError, match="not a model of scikit-learn: it has xgboost"):
        read(change(folder, flavors={"xgboost": {}}))
    (folder / "MLmodel").write_text("{", encoding="utf-8")
    with pytest.raises(ActionRequiredError, match="MLmodel cannot be read"):
        read(folder)


def test_a_pickle_needs_a_reason_also_where_model_yaml_declares_pickles(folder: Path) -> None:
    found = read(folder)
    for serialization in (Skops(), PICKLED):
        with pytest.raises(ActionRequiredError, match="is a pickle"):
            found.estimator(serialization, None)
        loaded = found.estimator(serialization, "our own")
        assert loaded.coef_.tolist() == MODEL.coef_.tolist()


def test_a_file_that_is_no_zip_is_a_pickle_whatever_mlmodel_says(folder: Path) -> None:
    (folder / "model.skops").write_bytes((folder / "model.pkl").read_bytes())
    said = {"sklearn": {"pickled_model": "model.skops", "serialization_format": "skops", "sklearn_version": "1.0"}}
    assert read(change(folder, flavors=said)).is_pickle
    (folder / "model.skops").write_bytes(skops.io.dumps(MODEL))
    found = read(folder)
    assert not found.is_pickle
    assert found.estimator(PICKLED, None).coef_.tolist() == MODEL.coef_.tolist()
    (folder / "model.skops").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="is no file of skops"):
        read(folder).estimator(Skops(), None)


class Leaves:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> Any:
        return (os._exit, (3,))


def test_a_pickle_that_cannot_be_loaded_says_why_and_with_which_libraries_it_was_fitted(folder: Path) -> None:
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(MODEL).replace(b"LogisticRegression", b"LogisticRegressiom"))
    with pytest.raises(DataError, match=r"LogisticRegressiom.*It was fitted with numpy 1\.20.*must be importable here"):
        read(folder).estimator(Skops(), "our own")
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(Leaves()))
    with pytest.raises(DataError, match="its process ended with code 3"):
        read(folder).estimator(Skops(), "our own")


def test_a_class_of_a_notebook_is_refused_with_what_to_do(folder: Path) -> None:
    own = type("OfNotebook", (LogisticRegression,), {"__module__": "__main__"})
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(own().fit(INPUTS[["hour"]], [0, 1])))
    with pytest.raises((ActionRequiredError, DataError)) as refused:
        read(folder).estimator(Skops(), "our own")
    assert "OfNotebook" in str(refused.value)
    assert "estimator.py" in str(refused.value)
