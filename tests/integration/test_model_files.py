"""Only the files of the fit are loaded: whoever can write to MLflow can change files, versions and tags."""

import json
import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import sqlalchemy as sa
import yaml
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from pydantic import SecretStr
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from include.core.errors import ActionRequiredError, ConfigError, DataError
from include.core.interval import Interval
from include.core.records import Evaluated
from include.core.settings import NO_DATABASE, Settings
from include.io import postgres
from include.io.registry import Registry
from include.io.registry.models import ModelFiles
from include.io.registry.runs import READ_BACK
from include.io.tables import Tables
from include.operations.reproduce import reproduce
from include.runner import remote
from include.steps.evaluate import evaluate
from include.steps.fit import fit, record_fit
from include.steps.gate import gate
from include.steps.promote import promote
from include.steps.score import read_digests, score
from include.training.serialization import Cloudpickle
from tests.integration.training import (
    DAY,
    FERRIES,
    MODEL,
    RUN,
    after,
    client,
    fit_all,
    fit_one,
    runs,
    train,
    train_and_gate,
    versions,
)

NAME = "late_ferry"
NEXT = DAY + timedelta(days=1)


class Unknown(DummyClassifier):  # type: ignore[misc]
    """An estimator that model.yaml does not name."""


class Planted:
    """Writes a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return (Path.touch, (self.proof,))


def files_of(settings: Settings, run_id: str) -> Path:
    """Return where the artifact store has the files of a fit."""
    model_id = Registry(settings).get_fit(run_id).model_id
    return Path(client(settings).get_logged_model(model_id).artifact_location)


def folder(settings: Settings, version: int = 1) -> Path:
    """Return where the artifact store has the files of a version."""
    return files_of(settings, client(settings).get_model_version(NAME, str(version)).run_id)


def plant(settings: Settings, proof: Path) -> None:
    """Replace the model of version 1 by a pickle, and let `MLmodel` say so."""
    files = folder(settings)
    (files / "model.skops").unlink()
    (files / "model.pkl").write_bytes(cloudpickle.dumps(Planted(proof)))
    described = yaml.safe_load((files / "MLmodel").read_text(encoding="utf-8"))
    described["flavors"]["sklearn"].update(pickled_model="model.pkl", serialization_format="cloudpickle")
    (files / "MLmodel").write_text(yaml.safe_dump(described), encoding="utf-8")


def plant_with_tags(settings: Settings, proof: Path) -> None:
    """Change the tags of run and version too, as if these files had been fitted."""
    plant(settings, proof)
    digest = ModelFiles.within(folder(settings)).digest
    mlflow = client(settings)
    mlflow.set_tag(mlflow.get_model_version(NAME, "1").run_id, "model_digest", digest)
    mlflow.set_model_version_tag(NAME, "1", "model_digest", digest)


def trust_more(settings: Settings, proof: Path) -> None:
    """Only let `MLmodel` trust another type."""
    files = folder(settings)
    described = yaml.safe_load((files / "MLmodel").read_text(encoding="utf-8"))
    described["flavors"]["sklearn"]["skops_trusted_types"].append("os.system")
    (files / "MLmodel").write_text(yaml.safe_dump(described), encoding="utf-8")


def make_again(settings: Settings, proof: Path) -> None:
    """Delete the registered model and make it again: version 1 is another fit of the same model."""
    mlflow = client(settings)
    other = next(run for run in fit_all(settings) if run.run_id != mlflow.get_model_version(NAME, "1").run_id)
    tags = mlflow.get_model_version(NAME, "1").tags
    mlflow.delete_registered_model(NAME)
    mlflow.create_registered_model(NAME)
    mlflow.create_model_version(NAME, source=str(files_of(settings, other.run_id)), run_id=other.run_id, tags=tags)


def evaluated(settings: Settings) -> tuple[Evaluated, list[Any]]:
    fitted = fit_all(settings)
    return evaluate(MODEL, RUN, settings, fitted=fitted), fitted


def all_openings(settings: Settings) -> dict[str, Callable[[], Any]]:
    best, fitted = evaluated(settings)
    return {
        "score": lambda: score(MODEL, RUN, settings, versions={DAY: 1}),
        "reproduce": lambda: reproduce(MODEL, 1, settings),
        "gate": lambda: gate(MODEL, RUN, settings, evaluated=best, fitted=fitted),
        "promote": lambda: promote(MODEL, after(1), settings, version=1, by="me", why="test", force=True),
    }


@pytest.mark.parametrize("attack", [plant, plant_with_tags, trust_more, make_again])
def test_nothing_opens_other_files_than_those_of_the_fit(
    prepared: Settings, attack: Callable[[Settings, Path], None], tmp_path: Path
) -> None:
    openings, proof = all_openings(prepared), tmp_path / "proof"
    digest = postgres.model_files.read_versions(prepared, NAME)[1].model_digest
    attack(prepared, proof)
    for what, opening in openings.items():
        with pytest.raises(ActionRequiredError, match="version 1 of late_ferry is not what was fitted") as refused:
            opening()
        for said in (digest, "deleted and made again", f"cli gate --model {NAME}", "cli promote"):
            assert said in str(refused.value), what
    assert not proof.exists(), "the planted pickle was run"


def test_evaluate_opens_only_the_files_of_the_fit(prepared: Settings, tmp_path: Path) -> None:
    _, fitted = evaluated(prepared)
    plant_with_tags(prepared, tmp_path / "proof")
    with pytest.raises(ActionRequiredError, match=r"the fit of late_ferry in run \w+ is not what was.*runs delete"):
        evaluate(MODEL, RUN, prepared, fitted=fitted)
    with pytest.raises(ActionRequiredError, match="somebody changed the run in MLflow"):
        fit_all(prepared)  # finds the run again, with another tag than the one that was recorded
    assert not (tmp_path / "proof").exists()


def test_a_planted_pickle_is_not_run_even_if_its_digest_were_known(prepared: Settings, tmp_path: Path) -> None:
    """model.yaml says skops, so no pickle is ever loaded."""
    train(prepared)
    plant(prepared, tmp_path / "proof")
    digest = ModelFiles.within(folder(prepared)).digest
    version = Registry(prepared).get_version(NAME, 1)
    with pytest.raises(ActionRequiredError, match=r"has model.pkl, and model.yaml says serialization: skops"):
        Registry(prepared).load(version, digest, MODEL)
    assert not (tmp_path / "proof").exists()
    pickled = MODEL.model_copy(update={"serialization": Cloudpickle(kind="cloudpickle", reason="of a test")})
    with pytest.raises(ActionRequiredError):
        Registry(prepared).load(version, digest, pickled)
    assert (tmp_path / "proof").exists(), "this test would not notice a pickle that is run"


def test_a_champion_of_other_files_is_not_compared(prepared: Settings, tmp_path: Path) -> None:
    train(prepared)
    promote(MODEL, after(1), prepared, version=1, by="me", why="test", force=True)
    fitted = fit_all(prepared, run_date=after(2))
    best = evaluate(MODEL, after(2), prepared, fitted=fitted)
    assert best.model_version == 2
    plant_with_tags(prepared, tmp_path / "proof")
    with pytest.raises(ActionRequiredError, match="version 1 of late_ferry is not what was fitted"):
        gate(MODEL, after(2), prepared, evaluated=best, fitted=fitted)
    assert not (tmp_path / "proof").exists()
    promote(MODEL, after(3), prepared, version=2, by="me", why="champion is broken", force=True)  # as the message says


def test_the_numbers_of_a_deleted_registered_model_are_not_used_again(prepared: Settings) -> None:
    assert train(prepared).model_version == 1
    client(prepared).delete_registered_model(NAME)
    fitted = fit_all(prepared, run_date=after(2))
    assert evaluate(MODEL, after(2), prepared, fitted=fitted).model_version == 2
    assert versions(prepared) == [2]
    with pytest.raises(ActionRequiredError, match="late_ferry has no version 1 in the registry"):
        score(MODEL, RUN, prepared, versions={DAY: 1})


def test_a_fit_that_was_lost_and_made_again_gets_a_new_number(prepared: Settings) -> None:
    """It has the same digest of the fit, and other files."""
    lost = train(prepared)
    client(prepared).delete_registered_model(NAME)
    for run in runs(prepared):
        client(prepared).delete_run(run.info.run_id)
    again = train(prepared)
    assert (lost.model_version, again.model_version) == (1, 2)
    assert again.run_id != lost.run_id
    assert score(MODEL, RUN, prepared, versions={DAY: 2}).rows


def test_a_version_that_evaluate_did_not_make_is_not_loaded(prepared: Settings) -> None:
    fitted = fit_one(prepared, "linear")
    client(prepared).create_registered_model(NAME)
    source = str(files_of(prepared, fitted.run_id))
    client(prepared).create_model_version(NAME, source=source, run_id=fitted.run_id)
    with pytest.raises(ActionRequiredError, match="late_ferry has no version 1 in the shared database, so it is not"):
        score(MODEL, RUN, prepared, versions={DAY: 1})


def test_a_fit_that_was_not_recorded_is_not_evaluated(prepared: Settings) -> None:
    fitted = fit(MODEL, RUN, prepared, candidate="linear")
    with pytest.raises(ActionRequiredError, match=f"no fit of MLflow run {fitted.run_id}.*run fit again"):
        evaluate(MODEL, RUN, prepared, fitted=[fitted])


@pytest.mark.parametrize("lost", ["all", "MLmodel", "model.skops"])
def test_missing_files_are_named(prepared: Settings, lost: str) -> None:
    train(prepared)
    if lost == "all":
        shutil.rmtree(folder(prepared))
    else:
        (folder(prepared) / lost).unlink()
    said = "gone from the artifact store.*Restore" if lost != "model.skops" else "is not what was fitted"
    with pytest.raises(ActionRequiredError, match=rf"version 1 of late_ferry.*{said}.*cli gate --model late_ferry"):
        score(MODEL, RUN, prepared, versions={DAY: 1})
    with pytest.raises(ActionRequiredError, match=rf"the fit of late_ferry.*{said}.*mlflow runs delete --run-id") as no:
        train(prepared)
    client(prepared).delete_run(str(no.value).split("--run-id ")[1].split(",")[0])  # as the message says
    assert train(prepared).model_version == 2


def test_recorded_files_never_change(prepared: Settings) -> None:
    train(prepared)
    for statement in ("UPDATE fits SET model_digest = repeat('0', 64)", "DELETE FROM model_versions"):
        with (
            pytest.raises(sa.exc.DBAPIError, match="never changed"),
            postgres.connection.engine(prepared).begin() as connection,
        ):
            connection.execute(sa.text(statement))


def test_a_step_on_databricks_is_given_the_digests(prepared: Settings, tmp_path: Path) -> None:
    """It reaches tables and MLflow only; what travels is JSON, whose keys are text."""
    train(prepared)
    options = {
        "versions": {DAY: 1},
        "digests": read_digests(prepared, MODEL, [1]),
        "features": postgres.days.read_features(prepared, "ferries", RUN, "point_in_time"),
    }
    given = json.loads(remote.Call.model_construct(options=options).model_dump_json())["options"]
    assert [*given["digests"]] == ["1"]
    there = prepared.model_copy(update={"database_url": SecretStr(NO_DATABASE)})
    remote_score = remote._typed(score)
    assert remote_score(MODEL, RUN, there, **given).rows == FERRIES
    plant_with_tags(prepared, tmp_path / "proof")
    with pytest.raises(ActionRequiredError, match="is not what was fitted"):
        remote_score(MODEL, RUN, there, **given)
    assert not (tmp_path / "proof").exists()


def test_a_champion_that_scores_otherwise_here_is_not_used(prepared: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second version of a library would take an environment of its own; a changed method stands for it."""
    best = train(prepared)
    kind = {"linear": LogisticRegression, "boosted": HistGradientBoostingClassifier}[best.candidate]
    right = kind.predict_proba
    monkeypatch.setattr(kind, "predict_proba", lambda self, X: right(self, X) * [1, 0.999])
    with pytest.raises(DataError, match=r"version 1 of late_ferry scores \d+ of its 64 reference rows otherwise here"):
        score(MODEL, RUN, prepared, versions={DAY: 1})
    assert not Tables(prepared).exists("scores_late_ferry")


def test_an_estimator_of_types_that_are_not_trusted_is_not_logged(
    prepared: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.steps.fit.train", lambda *_: Unknown().fit(None, [0, 1]))
    with pytest.raises(ConfigError, match=r"candidates, linear: .*not trusted: tests.*Unknown.*Nothing was logged"):
        fit(MODEL, RUN, prepared, candidate="linear")
    assert runs(prepared) == []


def test_a_changed_run_date_in_mlflow_is_noticed(prepared: Settings) -> None:
    """A version may be champion only after the days whose outcomes it has seen."""
    train_and_gate(prepared)
    client(prepared).set_model_version_tag(NAME, "1", "day", "2013-03-02")
    options: dict[str, Any]
    for options in ({}, {"by": "me", "why": "test", "force": True}):
        with pytest.raises(
            ActionRequiredError, match=r"run date 2013-03-02 in MLflow, and the shared database has .*2013-03-22"
        ):
            promote(MODEL, Interval.of(DAY - timedelta(days=5)), prepared, version=1, **options)


def test_the_days_that_a_champion_has_seen_are_not_asked_from_mlflow(prepared: Settings) -> None:
    train(prepared)
    promote(MODEL, after(1), prepared, version=1, by="me", why="test", force=True)
    fitted = fit_all(prepared, run_date=after(2))
    best = evaluate(MODEL, after(2), prepared, fitted=fitted)
    client(prepared).set_model_version_tag(NAME, "1", "fit_end", "2013-12-31")  # as if it had seen every holdout day
    decision = gate(MODEL, after(2), prepared, evaluated=best, fitted=fitted)
    [compared] = [check for check in decision.checks if check.name == "champion"]
    assert compared.measured is not None, compared.sentence


def plant_fit(settings: Settings, digest: str) -> str:
    """Make a finished run of a fit, with its tags and with a model of other files, as whoever writes to MLflow can."""
    mlflow = client(settings)
    own = next(run for run in runs(settings) if run.data.tags["fit_digest"] == digest)
    assert own.outputs is not None
    real = Path(mlflow.get_logged_model(own.outputs.model_outputs[-1].model_id).artifact_location)
    run_id = mlflow.create_run(own.info.experiment_id, start_time=1, tags=dict(own.data.tags)).info.run_id
    logged = mlflow.create_logged_model(own.info.experiment_id, name="linear", source_run_id=run_id)
    mlflow.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    shutil.copytree(real, logged.artifact_location, dirs_exist_ok=True)
    (Path(logged.artifact_location) / "reference.parquet").write_bytes(b"another model")
    mlflow.set_tag(run_id, "model_digest", ModelFiles.within(Path(logged.artifact_location)).digest)
    mlflow.set_terminated(run_id, end_time=2)
    return str(run_id)


def test_a_run_that_somebody_else_finished_first_is_not_the_fit(
    prepared: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a fit logs its model, its run is there for everybody to read."""
    planted: list[str] = []
    finish = MlflowClient.set_terminated

    def plant_first(self: MlflowClient, run_id: str, *given: Any, **more: Any) -> None:
        if not planted:
            planted.append("")
            planted[0] = plant_fit(prepared, self.get_run(run_id).data.tags["fit_digest"])
        finish(self, run_id, *given, **more)

    monkeypatch.setattr(MlflowClient, "set_terminated", plant_first)
    own = fit_one(prepared, "linear")
    assert own.logged
    assert own.run_id != planted[0]
    again = fit_one(prepared, "linear")
    assert (again.run_id, again.logged) == (own.run_id, False), "the recorded run is used, not the one finished first"


def test_a_fit_that_nobody_recorded_is_not_used(prepared: Settings) -> None:
    """Whoever writes to MLflow could have put it there. On Databricks, the step cannot ask which are recorded."""
    fit(MODEL, RUN, prepared, candidate="linear")  # killed before it was recorded
    [left] = runs(prepared)
    there = prepared.model_copy(update={"database_url": SecretStr(NO_DATABASE)})
    found = Registry(there).find_fit(MODEL, left.data.tags["fit_digest"])
    assert found is not None
    record = fit_one(prepared, "linear")
    assert record.run_id != left.info.run_id
    unknown = record.model_copy(update={"run_id": found.run_id, "model_digest": found.model_digest, "logged": False})
    with pytest.raises(ActionRequiredError, match=f"mlflow runs delete --run-id {found.run_id}, and run fit again"):
        record_fit(unknown, prepared)


@pytest.mark.parametrize(
    ("tag", "value"),
    [("data_digest", "0" * 64), ("data_view", "latest"), ("features_version", "0"), ("git_commit", "another")],
)
def test_changed_tags_of_a_fit_are_noticed(prepared: Settings, tag: str, value: str) -> None:
    """The gate would read other rows, or other features of the champion; reproduce would blame another commit."""
    best, fitted = evaluated(prepared)
    client(prepared).set_tag(best.run_id, tag, value)
    openings: list[Callable[[], Any]] = [
        lambda: evaluate(MODEL, RUN, prepared, fitted=fitted),
        lambda: gate(MODEL, RUN, prepared, evaluated=best, fitted=fitted),
        lambda: reproduce(MODEL, 1, prepared),
        lambda: fit_one(prepared, best.candidate),
    ]
    for opening in openings:
        with pytest.raises(ActionRequiredError, match="omebody changed the run in MLflow"):
            opening()


def test_all_tags_that_are_read_back_are_compared() -> None:
    """A step that reads another tag has to add it to `READ_BACK`."""
    read = set()
    for file in Path("include").rglob("*.py"):
        found = re.findall(r"run\.tags(?:\.get\(|\[)f?[\"']([^\"']+)", file.read_text(encoding="utf-8"))
        read |= {name.replace("{what}", what) for name in found for what in ("features", "outcome")}
    assert read - set(READ_BACK) == set()
    assert read >= {"data_digest", "watermark", "outcome_version"}, "this test finds nothing"


def test_a_forced_promotion_does_not_believe_the_run_date_in_mlflow(prepared: Settings) -> None:
    """Without a decision of the gate, only the record of the fit has the run date."""
    train(prepared)
    client(prepared).set_model_version_tag(NAME, "1", "day", "2013-03-02")
    with pytest.raises(ActionRequiredError, match="somebody changed the tag `day`"):
        promote(MODEL, Interval.of(DAY - timedelta(days=5)), prepared, version=1, by="me", why="test", force=True)
