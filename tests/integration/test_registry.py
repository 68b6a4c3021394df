"""The registry on MLflow: a fit and a version exist once and are found again. Uses SQLite, without a server."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from mlflow import MlflowClient
from mlflow.data.dataset_source_registry import get_dataset_source_from_json
from mlflow.models import Model as LoggedFiles
from mlflow.types import DataType
from sklearn.dummy import DummyClassifier, DummyRegressor
from threadpoolctl import threadpool_info

from include.config.loading import load_model
from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.records import GateDecision
from include.core.settings import Settings
from include.io.registry import EVALUATED, DeltaPart, Fit, FitInput, FitRun, LoadedModel, ModelFiles, Registry
from include.io.registry import versions as registry_versions
from include.io.registry.client import MlflowConnection
from include.io.tables import Scope, Tables
from include.training.config import Candidate

MODEL = load_model("late_ferry").model_copy(
    update={"numeric": ("hour", "gust"), "categorical": ("company",), "decision_threshold": 0.35}
)
NOW = datetime(2026, 3, 1, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty MLflow database. Creating its tables takes seconds, so tests copy it."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def settings(tmp_path: Path, empty_mlflow: Path) -> Settings:
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    return Settings(
        landing=str(tmp_path / "landing"),
        tables=str(tmp_path / "tables"),
        artifacts=str(tmp_path / "artifacts"),
        journal=str(tmp_path / "journal"),
        database_url="postgresql://nowhere",
        mlflow_tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        hash_key="the hash key of the tests, which is long",
        run_id="test",
    )


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return Registry(settings)


@pytest.fixture
def client(settings: Settings) -> MlflowClient:
    return MlflowClient(settings.mlflow_tracking_uri.get_secret_value())


INPUTS = pd.DataFrame({"hour": [1.0, 2.0], "gust": [np.nan, 3.0], "company": ["UA", None]})


def make_fit(digest: str = "d1", **changed: Any) -> Fit:
    fit = {
        "model": MODEL,
        "candidate": Candidate(name="linear", params={"kind": "linear", "C": 0.1}),
        "digest": digest,
        "estimator": DummyClassifier(strategy="prior").fit(INPUTS, [0.0, 1.0]),
        "tags": {"project": "ferries", "model": "late_ferry", "day": date(2026, 3, 1), "seed": 7},
        "metrics": {"log_loss": 0.5, "rows": 12.0},
        "inputs": [FitInput("features_ferries", DeltaPart("/tables/features_ferries", 0, "day >= '2026-01-01'"), 12)],
        "reference": pl.DataFrame({"hour": [1.0, 2.0], "gust": [None, 3.0], "company": ["UA", None]}),
        "started_at": NOW,
    }
    return Fit(**{**fit, **changed})


def versions(client: MlflowClient) -> list[int]:
    return sorted(int(v.version) for v in client.search_model_versions("name = 'late_ferry'"))


def test_a_fit_is_logged_completely(registry: Registry, client: MlflowClient, settings: Settings) -> None:
    fit = registry.log_fit(make_fit())
    run = client.get_run(fit.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.start_time == NOW.timestamp() * 1000
    assert client.get_experiment(run.info.experiment_id).name == "ferries/late_ferry"
    assert run.data.params == {"kind": "linear", "C": "0.1"}
    assert run.data.metrics == {"log_loss": 0.5, "rows": 12.0}
    assert run.data.tags.items() >= {"fit_digest": "d1", "day": "2026-03-01", "seed": "7"}.items()
    logged = client.get_logged_model(fit.model_id)
    assert logged.source_run_id == fit.run_id
    assert str(logged.status) == "READY"
    assert logged.artifact_location.startswith(f"{settings.artifacts}/ferries/late_ferry/")
    assert {m.key: m.value for m in logged.metrics or []} == {"log_loss": 0.5, "rows": 12.0}


def test_inputs_are_logged_with_path_version_and_predicate(registry: Registry, client: MlflowClient) -> None:
    read = DeltaPart("/tables/features_ferries", 0, "day >= '2026-01-01'")
    about: dict[str, Any] = {"deliveries": ("logbook/2@b", "logbook/1@a"), "origin": {"git_commit": "2e5fd9e"}}
    fit = make_fit(inputs=[FitInput("features_ferries", read, 12, **about)])
    (entry,) = client.get_run(registry.log_fit(fit).run_id).inputs.dataset_inputs
    assert entry.dataset.name == "features_ferries"
    assert {tag.key: tag.value for tag in entry.tags} == {
        "mlflow.data.context": "training",
        "git_commit": "2e5fd9e",
        "deliveries": "2",
        "deliveries_digest": "d3fa15e6dc4de7f4a9f8e4627089757176e635b9fc49259a1210defa74ff50c7",
    }
    assert json.loads(entry.dataset.profile or "") == {
        "num_rows": 12,
        "num_deliveries": 2,
        "deliveries": ["logbook/1@a", "logbook/2@b"],
    }
    source = get_dataset_source_from_json(entry.dataset.source, entry.dataset.source_type)
    assert isinstance(source, DeltaPart)
    assert (source.path, source.version, source.predicate) == ("/tables/features_ferries", 0, "day >= '2026-01-01'")


def test_in_unity_catalog_a_model_has_three_names(registry: Registry, client: MlflowClient) -> None:
    registry.connection.catalog = "main.nightly"
    fit = registry.log_fit(make_fit())
    version = registry.register(MODEL, fit, {})
    registry.point(version.model, version.version)
    assert version.model == "late_ferry"
    assert [found.name for found in client.search_model_versions()] == ["main.nightly.late_ferry"]
    assert registry.aliased("late_ferry") == registry.get_version("late_ferry", 1).version == 1
    assert registry.load(version, fit.model_digest, MODEL).numeric == MODEL.numeric
    assert registry.files(version, fit.model_digest).megabytes > 0
    with pytest.raises(ActionRequiredError, match="late_ferry has no version 2"):
        registry.get_version("late_ferry", 2)


def test_another_version_of_a_table_is_another_dataset(registry: Registry, client: MlflowClient) -> None:
    """MLflow keeps one dataset per name and digest, with the first source that was logged."""
    later = [FitInput("features_ferries", DeltaPart("/tables/features_ferries", 1, "day >= '2026-01-01'"), 12)]
    found = []
    for fit in (registry.log_fit(make_fit("d1")), registry.log_fit(make_fit("d2", inputs=later))):
        (entry,) = client.get_run(fit.run_id).inputs.dataset_inputs
        found.append(DeltaPart.from_json(entry.dataset.source).version)
    assert found == [0, 1]


def test_a_logged_delta_input_loads_its_rows(settings: Settings) -> None:
    tables = Tables(settings)
    days = Interval(start=date(2026, 1, 1), end=date(2026, 1, 3))
    rows = pl.DataFrame({"day": days.days, "x": [1, 2, 3]})
    ref = tables.replace("t", rows, Scope(days), sort_by=["day"])
    tables.replace("t", rows.with_columns(x=pl.lit(9, pl.Int64)), Scope(days), sort_by=["day"])
    part = DeltaPart(tables.uri("t"), ref.version, Scope(Interval.of(days.days[1]), {"x": [1, 2]}).sql())
    assert part.load()["x"].to_list() == [2]


def test_a_logged_model_is_loaded_as_it_was(registry: Registry) -> None:
    fit = registry.log_fit(make_fit())
    loaded = registry.load(fit, fit.model_digest, MODEL)
    assert (loaded.numeric, loaded.categorical) == (("hour", "gust"), ("company",))
    assert (loaded.problem_type, loaded.decision_threshold) == ("binary", 0.35)
    assert loaded.estimator.predict_proba(pd.DataFrame({"hour": [1.0]}))[0, 1] == 0.5
    assert registry.load(registry.register(MODEL, fit, {}), fit.model_digest, MODEL).numeric == loaded.numeric


def test_a_logged_model_has_only_the_expected_files(registry: Registry, client: MlflowClient) -> None:
    folder = Path(client.get_logged_model(registry.log_fit(make_fit()).model_id).artifact_location)
    requirements = (folder / "requirements.txt").read_text(encoding="utf-8")
    assert "scikit-learn==" in requirements
    assert all("==" in line for line in requirements.splitlines())
    inputs = LoggedFiles.load(str(folder)).get_input_schema()
    assert {c.name: c.type for c in inputs.inputs} == {
        "hour": DataType.double,
        "gust": DataType.double,
        "company": DataType.string,
    }
    before = sorted(folder.iterdir())
    fit = registry.get_fit(_run_of(client))
    registry.load(registry.register(MODEL, fit, {}), fit.model_digest, MODEL)
    assert sorted(folder.iterdir()) == before, "loading must not write to the folder of artifacts"


def _run_of(client: MlflowClient) -> str:
    experiment = client.get_experiment_by_name("ferries/late_ferry")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id])[0].info.run_id


def test_only_the_settings_decide_which_mlflow_is_used(
    registry: Registry, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1/elsewhere")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:1/elsewhere")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "elsewhere")
    fit = registry.log_fit(make_fit())
    registry.load(registry.register(MODEL, fit, {}), fit.model_digest, MODEL)
    assert versions(client) == [1]
    assert os.environ["MLFLOW_TRACKING_URI"] == os.environ["MLFLOW_REGISTRY_URI"] == "http://127.0.0.1:1/elsewhere"


def test_the_address_of_mlflow_does_not_stay_in_the_environment(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry.find_fit(MODEL, "d1")
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_telemetry_is_off() -> None:
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_fit_is_found_by_its_digest(registry: Registry) -> None:
    fit = registry.log_fit(make_fit("d1"))
    assert registry.find_fit(MODEL, "d2") is None
    found = registry.find_fit(MODEL, "d1")
    assert found is not None
    assert (found.run_id, found.model_id, found.digest) == (fit.run_id, fit.model_id, "d1")
    assert registry.get_fit(fit.run_id).digest == "d1"


def test_of_two_concurrent_fits_the_recorded_one_that_finished_first_is_used(registry: Registry) -> None:
    first = registry.log_fit(make_fit())
    second = registry.log_fit(make_fit(started_at=NOW.replace(year=2025)))  # started earlier, ended later
    assert second.run_id != first.run_id
    for recorded, expected in (
        ([first.run_id, second.run_id], first),
        ([second.run_id], second),
        ([], None),
        (None, first),
    ):
        found = registry.find_fit(MODEL, "d1", recorded)
        assert (found and found.run_id) == (expected and expected.run_id)


def test_an_unfinished_run_is_not_a_fit_and_is_marked_as_killed(
    registry: Registry, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowConnection, "upload", killed)
        registry.log_fit(make_fit())
    left = _run_of(client)
    assert client.get_run(left).info.status == "RUNNING"
    assert registry.find_fit(MODEL, "d1") is None
    with pytest.raises(ActionRequiredError, match="RUNNING, not a finished fit"):
        registry.get_fit(left)
    fit = registry.log_fit(make_fit())
    assert fit.run_id != left
    assert client.get_run(left).info.status == "KILLED"


def test_the_error_names_an_unknown_run(registry: Registry) -> None:
    with pytest.raises(ActionRequiredError, match="no run 0123"):
        registry.get_fit("0123")


def test_registering_twice_makes_one_version(registry: Registry, client: MlflowClient) -> None:
    fit = registry.log_fit(make_fit())
    first, again = (registry.register(MODEL, fit, {"candidate": "linear"}) for _ in range(2))
    assert first == again
    assert versions(client) == [1]
    assert first.run_id == fit.run_id
    assert first.evaluated
    assert first.tags.items() >= {"fit_digest": "d1", "candidate": "linear", EVALUATED: "test"}.items()
    found = client.get_model_version("late_ferry", "1")
    assert client.get_logged_model(fit.model_id).artifact_location == client.get_model_version_download_uri(
        found.name, found.version
    )


def test_a_title_is_text_in_the_description_that_mlflow_renders_as_markdown(
    registry: Registry, client: MlflowClient
) -> None:
    titled = MODEL.model_copy(update={"title": "<img src=x> [a](http://b)\u202e"})
    registry.register(titled, registry.log_fit(make_fit(model=titled)), {})
    described = client.get_registered_model("late_ferry")
    assert described.description == r"\<img src=x\> \[a\](http\://b)\\u202e"


def test_another_digest_is_another_version(registry: Registry, client: MlflowClient) -> None:
    for digest in ("d1", "d2"):
        registry.register(MODEL, registry.log_fit(make_fit(digest)), {})
    assert versions(client) == [1, 2]


def bare(client: MlflowClient, fit: FitRun) -> None:
    """Create the version that a step leaves behind if it is killed right after it created it."""
    client.create_model_version(
        "late_ferry", source=client.get_logged_model(fit.model_id).artifact_location, run_id=fit.run_id
    )


def test_a_version_left_untagged_by_a_killed_step_is_used(registry: Registry, client: MlflowClient) -> None:
    fit = registry.log_fit(make_fit())
    client.create_registered_model("late_ferry")
    bare(client, fit)
    assert not registry.get_version("late_ferry", 1).evaluated
    version = registry.register(MODEL, fit, {"candidate": "linear"})
    assert (version.version, version.evaluated) == (1, True)
    assert versions(client) == [1]


def race(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> None:
    """Call `meanwhile` after the first search for a version has found none."""
    look = registry_versions._versions_of

    def searched(*arguments: Any) -> Any:
        monkeypatch.setattr(registry_versions, "_versions_of", look)
        found = look(*arguments)
        meanwhile()
        return found

    monkeypatch.setattr(registry_versions, "_versions_of", searched)


def test_of_two_concurrent_versions_the_newer_is_deleted(
    registry: Registry, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = registry.log_fit(make_fit())
    race(monkeypatch, lambda: bare(client, fit))
    version = registry.register(MODEL, fit, {})
    assert version.version == 1
    assert version.evaluated
    assert versions(client) == [1]


def test_a_version_of_another_run_with_the_same_digest_is_found(registry: Registry, client: MlflowClient) -> None:
    """Two processes fitted at the same time, and each would register its own run."""
    fit = registry.log_fit(make_fit())
    experiment = client.get_experiment_by_name("ferries/late_ferry")
    assert experiment is not None
    other = client.create_run(experiment.experiment_id, tags={"fit_digest": "d1"}).info.run_id
    registry.register(MODEL, fit, {})
    again = registry.register(MODEL, replace(fit, run_id=other, tags={}), {})
    assert again.version == 1
    assert versions(client) == [1]


def test_an_evaluated_version_is_never_deleted(registry: Registry, client: MlflowClient) -> None:
    fit = registry.log_fit(make_fit())
    client.create_registered_model("late_ferry")
    bare(client, fit)
    bare(client, fit)
    client.set_model_version_tag("late_ferry", "2", EVALUATED, "another")
    assert registry.register(MODEL, fit, {}).version == 2
    assert versions(client) == [2]


def test_the_number_of_a_deleted_version_is_never_used_again(registry: Registry, client: MlflowClient) -> None:
    fit = registry.log_fit(make_fit())
    registry.register(MODEL, fit, {})
    client.delete_model_version("late_ferry", "1")
    assert registry.register(MODEL, fit, {}).version == 2


def test_the_error_for_an_unknown_version_lists_the_newest_ones(registry: Registry) -> None:
    with pytest.raises(ActionRequiredError, match=r"no version 7.*run evaluate first"):
        registry.get_version("late_ferry", 7)
    registry.register(MODEL, registry.log_fit(make_fit()), {})
    with pytest.raises(ActionRequiredError, match=r"no version 7.*the newest are 1"):
        registry.get_version("late_ferry", 7)


def test_the_champion_alias_moves_to_another_version(registry: Registry) -> None:
    assert registry.aliased("late_ferry") is None
    for digest in ("d1", "d2"):
        registry.register(MODEL, registry.log_fit(make_fit(digest)), {})
    assert registry.aliased("late_ferry") is None
    for version in (2, 1):
        registry.point("late_ferry", version)
        assert registry.aliased("late_ferry") == version


def test_another_process_may_create_the_experiment_first(
    registry: Registry, client: MlflowClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = MlflowClient.get_experiment_by_name
    created = []

    def unknown_at_first(self: MlflowClient, name: str) -> Any:
        if not created:
            created.append(client.create_experiment(name, artifact_location=f"{settings.artifacts}/{name}"))
            return None
        return known(self, name)

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", unknown_at_first)
    run = registry.log_fit(make_fit())
    assert client.get_run(run.run_id).info.experiment_id == created[0]


def test_the_error_for_a_deleted_experiment_has_the_command_that_restores_it(
    registry: Registry, client: MlflowClient
) -> None:
    registry.log_fit(make_fit())
    experiment = client.get_experiment_by_name("ferries/late_ferry")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(ActionRequiredError, match="mlflow experiments restore"):
        registry.find_fit(MODEL, "d1")


# --- MLflow may say anything ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["{home}/of-others", "file://{home}/of-others", "{home}/artifacts/%2e%2e/of-others",
                                   "file://{home}/artifacts/%2e%2e/of-others", "{home}/artifacts-of-others",
                                   "{home}/artifacts/link", "http://127.0.0.1:1/x", "s3://artifacts/x"])  # fmt: skip
def test_files_are_neither_written_nor_read_where_mlflow_says_if_that_is_not_below_the_artifacts(
    registry: Registry, client: MlflowClient, tmp_path: Path, place: str
) -> None:
    fit = registry.log_fit(make_fit())
    version = registry.register(MODEL, fit, {})
    elsewhere = tmp_path / "of-others"
    shutil.copytree(client.get_logged_model(fit.model_id).artifact_location, elsewhere)
    (tmp_path / "artifacts" / "link").symlink_to(elsewhere)
    location = place.format(home=tmp_path)
    with sqlite3.connect(tmp_path / "mlflow.db") as mlflow:
        mlflow.execute("UPDATE logged_models SET artifact_location = ?", [location])
        mlflow.execute("UPDATE model_versions SET source = ?, storage_location = ?", [location, location])
        mlflow.execute("UPDATE runs SET artifact_uri = ?", [location])
        mlflow.execute("UPDATE experiments SET artifact_location = ?", [location])
    before = sorted(tmp_path.rglob("*"))
    checks = GateDecision.model_construct(passed=True, gate_id="g", champion=None, checks=())
    for attempt in (
        lambda: registry.load(fit, fit.model_digest, MODEL),
        lambda: registry.load(version, fit.model_digest, MODEL),
        lambda: registry.files(version, fit.model_digest),
        lambda: registry.record_gate(version, checks),
        lambda: registry.log_fit(make_fit("d2")),
    ):
        with pytest.raises(ActionRequiredError, match=r"not below .*nightly_artifacts.*nothing was read or written"):
            attempt()
    assert sorted(tmp_path.rglob("*")) == before


def test_what_was_compared_is_loaded_even_if_the_folder_changes(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other containers share the folder of temporary files."""
    fit = registry.log_fit(make_fit())
    read = ModelFiles.within.__func__  # type: ignore[attr-defined]

    def then_changed(cls: type[ModelFiles], folder: Path) -> ModelFiles:
        found: ModelFiles = read(cls, folder)
        for file in folder.iterdir():
            file.write_bytes(b"of somebody else")
        return found

    monkeypatch.setattr(ModelFiles, "within", classmethod(then_changed))
    assert registry.load(fit, fit.model_digest, MODEL).inputs == ("hour", "gust", "company")


def test_a_logged_regression_is_loaded_as_a_regression(registry: Registry) -> None:
    model: Model = MODEL.model_copy(update={"problem_type": "regression"})
    fit = registry.log_fit(make_fit(model=model, estimator=DummyRegressor().fit(INPUTS, [0.0, 1.0])))
    loaded = registry.load(fit, fit.model_digest, model)
    assert loaded.problem_type == "regression"


def test_a_loaded_model_predicts_what_the_fitted_one_did(registry: Registry) -> None:
    """The predictions are equal to the bit, whatever other columns the rows have."""
    rows = pl.DataFrame({"company": ["UA", None], "other": ["x", "y"], "gust": [None, 3.0], "hour": [1, 2]})
    fit = make_fit()
    logged = registry.log_fit(fit)
    fitted, loaded = LoadedModel.of(MODEL, fit.estimator), registry.load(logged, logged.model_digest, MODEL)
    assert loaded.inputs == fitted.inputs == ("hour", "gust", "company")
    scores = loaded.predict(rows)
    assert scores.dtype == np.float64
    assert scores.tolist() == fitted.predict(rows).tolist() == [0.5, 0.5]


def test_a_model_predicts_with_one_thread() -> None:
    """With more threads, the order of additions varies, and the last bits differ from run to run."""
    threads = []

    class Estimator:
        def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
            threads.extend(pool["num_threads"] for pool in threadpool_info())
            return np.zeros((len(X), 2))

    LoadedModel.of(MODEL, Estimator()).predict(pl.DataFrame({"hour": [1.0], "gust": [2.0], "company": ["UA"]}))
    assert set(threads) == {1}
