"""`make export-model`: what it writes, that ONNX scores as scikit-learn does, and that it is refused where not.

The tests of ONNX need the packages of requirements-export.txt. `make test-unit` installs them beside the environment,
as `make export-model` does; they are skipped without them.
"""

import json
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import TypeAdapter
from threadpoolctl import threadpool_limits

from include.config.loading import load_model
from include.core.errors import ActionRequiredError
from include.io.registry.models import REFERENCE_SCORE, LoadedModel, LoggedModel, ModelFiles, load_files
from include.training.declared import pipeline
from include.training.estimators import AnyEstimator
from include.training.problem_types import get_problem_type
from include.training.training_set import estimator_inputs
from include.training.transforms import AnyTransform
from tests.differential import frozen
from tools.export_model.written import Exported, write
from tools.stack import ROOT

EXPORT = Path(sys.prefix) / "export"
if EXPORT.exists():
    sys.path.append(str(EXPORT))  # behind all others: the packages that both have are those of this process

FROZEN = [
    pytest.param(path, id=path.name.partition(".")[0]) for path in sorted(ROOT.glob("tests/*/reference/models/*"))
]
ROWS = 400
NUMERIC, CATEGORICAL = ("size", "distance", "constant", "empty"), ("town", "kind")


@pytest.fixture
def onnx() -> SimpleNamespace:
    pytest.importorskip("onnxruntime", reason="make export-model installs it")
    from tools.export_model import compared, converted, graph, predictors, transformers

    return SimpleNamespace(
        compared=compared, convert=converted.convert, graph=graph, predictors=predictors, transformers=transformers,
        NotPortableError=graph.NotPortableError,
    )  # fmt: skip


def frame(seed: int = 7) -> pl.DataFrame:
    """Return rows with missing numbers and labels, rare labels, and columns that say nothing."""
    random = np.random.default_rng(seed)
    names = ["Ålesund", "Bergen", "Bodø", "Molde", "Røst", "Ny-Ålesund"]
    towns = random.choice(names, ROWS, p=[0.4, 0.3, 0.2, 0.06, 0.03, 0.01]).astype(object)
    towns[random.random(ROWS) < 0.05] = None
    return pl.DataFrame({
        "size": np.where(random.random(ROWS) < 0.1, np.nan, random.normal(50, 20, ROWS)),
        "distance": random.exponential(1000, ROWS),
        "constant": np.ones(ROWS),
        "empty": pl.Series([None] * ROWS, dtype=pl.Float64),
        "town": pl.Series([*towns], dtype=pl.String),
        "kind": random.choice(["car", "foot"], ROWS),
    }).with_columns(pl.col("size").fill_nan(None))  # fmt: skip


def outcomes(rows: pl.DataFrame, problem_type: str) -> np.ndarray:
    size, far = rows["size"].fill_null(20).to_numpy(), rows["distance"].to_numpy() / 1000
    north = rows["town"].is_in(["Bodø", "Røst"]).fill_null(value=True).to_numpy()
    value = size / 10 + far + 4 * north + np.random.default_rng(1).normal(0, 1, len(rows))
    if problem_type == "binary":
        return np.asarray(value > np.median(value), dtype=float)
    if problem_type == "multiclass":
        return np.asarray(np.digitize(value, np.quantile(value, [0.3, 0.7])), dtype=float)
    return np.asarray(np.maximum(np.round(value), 0) if problem_type == "count" else value)


def fitted(estimator: dict[str, Any], problem_type: str = "regression", transforms: Any = ()) -> LoadedModel:
    """Return a declared candidate, fitted on made-up rows."""
    problem = get_problem_type(problem_type).of(quantiles=(0.1, 0.5, 0.9), classes=("few", "some", "many"))
    declared = [TypeAdapter(AnyTransform).validate_python(each) for each in transforms]
    made = pipeline(TypeAdapter(AnyEstimator).validate_python(estimator), declared, problem, 3)
    rows = frame()
    with threadpool_limits(1):  # as fits are; on a busy machine, threads that wait for each other take minutes
        made.fit(estimator_inputs(rows, NUMERIC, CATEGORICAL), outcomes(rows, problem_type))
    return LoadedModel(made, NUMERIC, CATEGORICAL, problem_type, 0.5, (0.1, 0.5, 0.9), ("few", "some", "many"))


def with_scores(model: LoadedModel) -> pl.DataFrame:
    """Return reference rows as a fit stores them."""
    rows = frame(8).head(64)
    scores = model.predict(rows).reshape(rows.height, -1)
    return rows.with_columns(pl.Series(f"{REFERENCE_SCORE}_{n}", column) for n, column in enumerate(scores.T))


def export(onnx: SimpleNamespace, model: LoadedModel) -> dict[str, Any]:
    """Convert and compare."""
    converted, labels = onnx.convert(model, "ferries")
    return dict(onnx.compared.require_equal(converted.SerializeToString(), model, with_scores(model), labels))


def exported(packed: Path) -> Exported:
    model = load_model(packed.name.partition(".")[0])
    with frozen.unpacked(packed) as folder:
        files = ModelFiles.within(folder)
    loaded = load_files(files, LoggedModel("", f"frozen {model.name}", "accept"), model.stored)
    about = {"model": model.name, "version": 3, "semantic_version": "1.2.0+0123456789ab", "title": model.title}
    return Exported(about, files, loaded, model.stored.kind)


@pytest.mark.parametrize("packed", FROZEN)
def test_the_champions_of_the_example_projects_export(packed: Path, onnx: SimpleNamespace, tmp_path: Path) -> None:
    given = exported(packed)
    manifest = write(given, tmp_path / "export")
    assert manifest["onnx"]["compared"]["largest_difference"] < 1e-9
    assert manifest["onnx"]["compared"]["made_rows"] > 200
    examples = json.loads((tmp_path / "export" / "examples.json").read_text())
    rows = pl.DataFrame([row["inputs"] for row in examples], infer_schema_length=None)
    content = (tmp_path / "export" / "model.onnx").read_bytes()
    found = onnx.compared.scores_of(content, rows, given.model.numeric, given.model.categorical)
    np.testing.assert_allclose(found, [row["scores"] for row in examples], rtol=1e-9, atol=1e-9)
    assert ModelFiles.within(tmp_path / "export" / "mlflow").digest == given.files.digest == manifest["digest"]


ESTIMATORS = [
    (kind, problem)
    for kind in ("linear", "boosted", "forest")
    for problem in ("binary", "multiclass", "regression", "count", "quantile")
    if (kind, problem) != ("forest", "quantile")
]


@pytest.mark.parametrize(("kind", "problem_type"), ESTIMATORS)
def test_each_estimator_of_scikit_learn_exports_for_each_problem_type(
    kind: str, problem_type: str, onnx: SimpleNamespace
) -> None:
    found = export(onnx, fitted({"kind": kind}, problem_type))
    assert max(found["largest_difference"], found["largest_difference_of_made_rows"]) <= 1e-6


TRANSFORMS: list[dict[str, Any]] = [
    {"kind": "drop_missing"},
    {"kind": "impute", "by": "mean"},
    {"kind": "impute", "by": "mode"},
    {"kind": "impute", "by": "constant", "value": "nowhere"},
    {"kind": "rare_labels", "less_than": 0.05},
    {"kind": "one_hot", "min_rows": 20},
    {"kind": "ordinal", "min_rows": 20},
    {"kind": "label_counts"},
    {"kind": "label_counts", "as_share": True},
    {"kind": "target_mean"},
    {"kind": "cap_outliers", "method": "mad"},
    {"kind": "discretise", "bins": 5},
    {"kind": "scale"},
    {"kind": "scale", "by": "range"},
    {"kind": "scale", "by": "robust"},
    {"kind": "power"},
    {"kind": "log"},
    {"kind": "rank", "quantiles": 50},
    {"kind": "drop_constant"},
    {"kind": "drop_duplicated"},
    {"kind": "drop_correlated"},
    {"kind": "select_univariate", "keep": 3},
    {"kind": "select_l1"},
]


@pytest.mark.drill  # six seconds of a core; CI has the champions, which use most of them
@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda each: "-".join(map(str, each.values())))
def test_each_transform_exports(transform: dict[str, Any], onnx: SimpleNamespace) -> None:
    found = export(onnx, fitted({"kind": "linear"}, "binary", [transform]))
    assert max(found["largest_difference"], found["largest_difference_of_made_rows"]) <= 1e-6


def test_the_target_mean_of_several_classes_exports(onnx: SimpleNamespace) -> None:
    export(onnx, fitted({"kind": "linear"}, "multiclass", [{"kind": "target_mean"}]))


def test_what_does_not_convert_is_named_with_what_to_choose(onnx: SimpleNamespace) -> None:
    with pytest.raises(onnx.NotPortableError, match=r"Imputer\) draws by a hash .* by: median"):
        export(onnx, fitted({"kind": "linear"}, "binary", [{"kind": "impute", "by": "random_sample"}]))
    model = fitted({"kind": "linear"})
    from sklearn.preprocessing import FunctionTransformer

    model.estimator.steps.insert(-1, ("own", FunctionTransformer(abs)))
    with pytest.raises(onnx.NotPortableError, match=r"step own \(FunctionTransformer\) calls abs"):
        export(onnx, model)


def test_an_estimator_of_another_library_is_named(onnx: SimpleNamespace) -> None:
    class Strange:
        pass

    model = fitted({"kind": "linear"})
    model.estimator.steps[-1] = ("predict", Strange())
    with pytest.raises(onnx.NotPortableError, match=r"step predict \(Strange\) does not convert to ONNX"):
        onnx.convert(model, "ferries")


def test_what_skl2onnx_alone_knows_is_converted_by_it(onnx: SimpleNamespace) -> None:
    from sklearn.neural_network import MLPRegressor

    model = fitted({"kind": "linear"})
    rows = frame()
    network = MLPRegressor(hidden_layer_sizes=(4,), max_iter=50, random_state=1, tol=1.0)
    made = model.estimator.set_params(predict=network)
    made.fit(estimator_inputs(rows, NUMERIC, CATEGORICAL), outcomes(rows, "regression"))
    assert export(onnx, replace(model, estimator=made))["made_rows"] > 50


def test_native_categories_that_a_converter_takes_for_numbers_are_refused(
    onnx: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As skl2onnx did: no error, and other scores. Only the comparison stands between that and readers."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model, converters = fitted({"kind": "boosted"}), onnx.predictors.PREDICTORS
    trees = [tree for (tree,) in model.estimator.steps[-1][1]._predictors]
    assert any(tree.nodes["is_categorical"].any() for tree in trees)

    def careless(graph: Any, estimator: Any, given: Any, where: str) -> str:
        taken = deepcopy(estimator)
        for (tree,) in taken._predictors:
            tree.nodes["is_categorical"] = 0
        found: str = converters[HistGradientBoostingRegressor](graph, taken, given, where)
        return found

    export(onnx, model)
    monkeypatch.setattr(onnx.predictors, "PREDICTORS", {**converters, HistGradientBoostingRegressor: careless})
    with pytest.raises(onnx.NotPortableError, match=r"score otherwise in ONNX .* by up to"):
        export(onnx, model)


def test_one_category_on_the_wrong_side_is_refused_though_no_reference_row_has_it(onnx: SimpleNamespace) -> None:
    """Reference rows are few; a label that none of them has is asked about all the same."""
    model = fitted({"kind": "boosted"})
    rows = with_scores(model).filter(pl.col("town").ne_missing("Bodø"))
    converted, labels = onnx.convert(model, "ferries")
    table = next(node for node in converted.graph.node if node.op_type == "LabelEncoder")
    keys = next(each for each in table.attribute if each.name == "keys_strings")
    keys.strings[list(keys.strings).index("Bodø".encode())] = b"Bergen" + b" "
    with pytest.raises(onnx.NotPortableError, match=r"rows made of them .* town with each known label"):
        onnx.compared.require_equal(converted.SerializeToString(), model, rows, labels)


def test_a_difference_just_over_the_tolerance_is_refused_and_the_row_is_named(onnx: SimpleNamespace) -> None:
    model = fitted({"kind": "linear"})
    converted, labels = onnx.convert(model, "ferries")
    content, rows = converted.SerializeToString(), with_scores(model)
    score, is_fifth = pl.col(f"{REFERENCE_SCORE}_0"), pl.int_range(pl.len()) == 5

    def moved(share: float) -> pl.DataFrame:
        return rows.with_columns(pl.when(is_fifth).then(score + share * score.abs().clip(1)).otherwise(score))

    onnx.compared.require_equal(content, model, moved(0.5e-6), labels)
    with pytest.raises(onnx.NotPortableError, match=r"^1 of 64 stored reference rows .* the score of row 5 is"):
        onnx.compared.require_equal(content, model, moved(3e-6), labels)


def test_small_whole_numbers_and_flags_get_values_far_out_too(onnx: SimpleNamespace) -> None:
    """`features.py` may give any number; 1e6 has no room in 16 bits."""
    model = fitted({"kind": "linear"})
    rows = frame().with_columns(constant=pl.lit(value=True), distance=pl.lit(7, pl.Int16))
    made = onnx.compared.hard_rows(rows, model, {})
    assert {-1e6, 0.0, 1e6} <= {*made["distance"]} & {*made["constant"]}


def test_an_empty_label_is_refused_as_onnx_cannot_tell_it_from_a_missing_one(onnx: SimpleNamespace) -> None:
    rows = frame().with_columns(town=pl.col("town").replace("Bergen", ""))
    model = fitted({"kind": "linear"})
    model.estimator.fit(estimator_inputs(rows, NUMERIC, CATEGORICAL), outcomes(rows, "regression"))
    with pytest.raises(onnx.NotPortableError, match="town has the empty label"):
        onnx.convert(model, "ferries")


class TestFolder:
    """What is written without ONNX, for which no other package is needed."""

    @pytest.fixture
    def given(self) -> Exported:
        model = fitted({"kind": "linear"}, "binary")
        rows = with_scores(model)
        path = Path("reference.parquet")
        contents = {"MLmodel": b"flavors: {}", path.name: _parquet(rows)}
        files = ModelFiles("", 0.1, contents)
        about = {"model": "late_ferry", "version": 3, "semantic_version": None, "title": "Late ferry"}
        return Exported(about, files, model, "skops")

    def test_files_rows_and_words_are_written(self, given: Exported, tmp_path: Path) -> None:
        files = _digested(given, tmp_path)
        manifest = write(files, tmp_path / "export", with_onnx=False)
        assert json.loads((tmp_path / "export" / "model.json").read_text()) == json.loads(json.dumps(manifest))
        assert manifest["inputs"] == {**dict.fromkeys(NUMERIC, "number"), **dict.fromkeys(CATEGORICAL, "label")}
        assert manifest["onnx"] is None and not (tmp_path / "export" / "model.onnx").exists()
        assert (tmp_path / "export" / "mlflow" / "MLmodel").read_bytes() == b"flavors: {}"
        assert "predict_proba(rows)[:, 1]" in (tmp_path / "export" / "README.md").read_text()
        rows = json.loads((tmp_path / "export" / "examples.json").read_text())
        assert len(rows) == 10 and all(row["inputs"]["empty"] is None and len(row["scores"]) == 1 for row in rows)

    def test_files_that_are_not_those_of_the_digest_leave_nothing_behind(self, given: Exported, tmp_path: Path) -> None:
        with pytest.raises(ActionRequiredError, match="have the digest"):
            write(given, tmp_path / "export", with_onnx=False)
        assert [*tmp_path.iterdir()] == []

    def test_an_export_is_replaced_and_another_folder_is_not(self, given: Exported, tmp_path: Path) -> None:
        files, target = _digested(given, tmp_path), tmp_path / "export"
        write(files, target, with_onnx=False)
        (target / "old").touch()
        write(files, target, with_onnx=False)
        assert not (target / "old").exists()
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "mine.png").touch()
        with pytest.raises(ActionRequiredError, match="is not empty, and is no export"):
            write(files, tmp_path / "photos", with_onnx=False)
        assert (tmp_path / "photos" / "mine.png").exists()


def _parquet(rows: pl.DataFrame) -> bytes:
    import io

    target = io.BytesIO()
    rows.write_parquet(target)
    return target.getvalue()


def _digested(given: Exported, folder: Path) -> Exported:
    """Return the same with the digest of its files."""
    place = folder / "files"
    place.mkdir()
    for name, content in given.files.contents.items():
        (place / name).write_bytes(content)
    found = ModelFiles.within(place)
    for name in given.files.contents:
        (place / name).unlink()
    place.rmdir()
    return replace(given, files=found)
