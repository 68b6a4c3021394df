"""Run steps from their wheel in the workspace: the results are equal to those of the worker, to the bit."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from polars.testing import assert_frame_equal
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from dags import databricks as dags_databricks
from dags.databricks import StepOperator
from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.errors import UnfinishedError
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.names import wheel_requirements
from include.core.project import Databricks as Place
from include.core.project import Project
from include.core.records import Featured, Scored
from include.core.settings import Settings
from include.io import postgres
from include.io.registry import Fit, Registry, reference_rows
from include.io.tables import Tables
from include.operations.simulate import simulate
from include.steps.build_features import build_features
from include.steps.land import land
from include.steps.score import score
from include.steps.validate import validate
from include.training.training_set import estimator_inputs
from tests.databricks.conftest import Databricks
from tests.databricks.test_submit_once import Task
from tools import wheel as tools_wheel
from tools.stack import ROOT
from tools.wheel import build, hashed_requirements

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

RUN_DATES = Interval(start=date(2013, 1, 1), end=date(2013, 1, 4))
VOLUME = "/Volumes/main/nightly/wheels"


@pytest.fixture(scope="module")
def commit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Commit a copy of this folder in a repository of its own, so that uncommitted changes are tested too."""
    repository = tmp_path_factory.mktemp("repository")
    for name in ("include", "plugins"):
        shutil.copytree(ROOT / name, repository / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "LICENSE"):
        shutil.copy(ROOT / name, repository)

    def git(*arguments: str) -> str:
        about = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
        done = subprocess.run(["git", *about, *arguments], cwd=repository, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "as it is")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tools_wheel, "ROOT", repository)
        yield git("rev-parse", "HEAD")


@pytest.fixture
def project() -> Project:
    place = Place(wheels=VOLUME, new_cluster={"spark_version": "17.3.x-scala2.13", "num_workers": 0})
    return load_project("flights").model_copy(update={"databricks": place, "run_on": {"build_features": "databricks"}})


@pytest.fixture
def here(settings: Settings, project: Project, commit: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Land and validate some days, with the commit of the wheel in the settings."""
    found = settings.model_copy(update={"git_commit": commit})
    simulate(project, RUN_DATES, found)
    land(project, RUN_DATES, found)
    validate(project, RUN_DATES, found)
    monkeypatch.setattr(dags_databricks, "settings", lambda: found)
    return found


class Step(Task):
    """The task of a step for some days."""

    def __init__(
        self,
        config: Project | Model,
        step: str = "build_features",
        prepared_days: Interval = RUN_DATES,
        **given: Any,
    ) -> None:
        super().__init__(deferrable=True)
        self.config, self.step, self.prepared_days, self.given = config, step, prepared_days, given

    def operator(self) -> StepOperator:
        asked: dict[str, Callable[[], Any]] = {
            "interval": lambda: self.prepared_days,
            "options": lambda: {"data_view": "point_in_time"},
        }
        return StepOperator(
            task_id=self.step, step=self.step, config=self.config, given=self.given, polling_period_seconds=1, **asked
        )


def upload(commit: str, databricks: Databricks, out: Path, *, exchanged: bool = False) -> None:
    """Put the wheel, or another one, and the list of what it needs into the volume, as `make deploy` does."""
    made = build(commit, out)
    listed = made.with_name(wheel_requirements(commit))
    listed.write_text(hashed_requirements(commit, made, f"{VOLUME}/{made.name}"), encoding="utf-8")
    if exchanged:
        made.write_bytes(made.read_bytes() + b"another")
    for file in (made, listed):
        databricks.upload(file, f"{VOLUME}/{file.name}")


def use_mlflow_of(here: Settings, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let steps of models in the workspace use the MLflow of these settings."""
    assert project.databricks is not None
    mlflow = {"mlflow_tracking_uri": here.mlflow_tracking_uri.get_secret_value()}
    place = project.databricks.model_copy(
        update={"settings": {**mlflow, "mlflow_registry_uri": mlflow["mlflow_tracking_uri"]}}
    )
    monkeypatch.setattr(dags_databricks, "load_project", lambda _: project.model_copy(update={"databricks": place}))


def fitted(model: Model, features: pl.DataFrame) -> Fit:
    """Return a linear fit on features, with outcomes that follow from one of them."""
    rows = features.drop_nulls(model.numeric[0])
    scaled = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    columns = ColumnTransformer([
        ("numbers", scaled, [*model.numeric]),
        ("labels", OneHotEncoder(handle_unknown="ignore"), [*model.categorical]),
    ])
    estimator = make_pipeline(columns, LogisticRegression())
    outcome = (rows[model.numeric[0]] > rows[model.numeric[0]].median()).to_numpy()
    estimator.fit(estimator_inputs(rows, model.numeric, model.categorical), outcome)
    return Fit(
        model=model,
        candidate=model.candidates[0],
        digest="of a test",
        estimator=estimator,
        tags={"project": model.project, "model": model.name, "day": RUN_DATES.end, "seed": 7},
        metrics={"log_loss": 0.5},
        inputs=[],
        reference=reference_rows(rows, model.features, 7),
        started_at=datetime.now(UTC),
    )


def test_features_are_the_same_to_the_bit(
    project: Project, here: Settings, commit: str, databricks: Databricks, tmp_path: Path
) -> None:
    upload(commit, databricks, tmp_path / "dist")
    record = Featured.model_validate(Step(project).attempt())
    [run] = databricks.runs
    assert databricks.results == ["SUCCESS"]
    there = Tables(here).scan("features_flights", record.table_version).sort("day", "entity_id").collect()
    assert {prepared_day.day for prepared_day in postgres.days.read_prepared_days(here, "flights", RUN_DATES)} == {
        *RUN_DATES.days
    }

    shutil.rmtree(Path(here.tables) / "features_flights")
    again = build_features(project, RUN_DATES, here)
    assert_frame_equal(
        there, Tables(here).scan("features_flights", again.table_version).sort("day", "entity_id").collect()
    )
    assert record.rows == again.rows == there.height > 3000
    [task] = run["spec"]["tasks"]
    assert task["libraries"] == [{"requirements": f"{VOLUME}/{wheel_requirements(commit)}"}]
    assert task["new_cluster"]["custom_tags"] == {"project": "flights", "commit": commit}


def test_scores_are_the_same_to_the_bit(
    project: Project,
    here: Settings,
    commit: str,
    databricks: Databricks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload(commit, databricks, tmp_path / "dist")
    use_mlflow_of(here, project, monkeypatch)
    model, built, registry = load_model("late_arrival"), build_features(project, RUN_DATES, here), Registry(here)
    fit = registry.log_fit(fitted(model, Tables(here).scan("features_flights").collect()))
    number = registry.register(model, fit, {}).version
    given: dict[str, Any] = {
        "versions": dict.fromkeys(RUN_DATES.days, number),
        "features": {day.day: built.table.model_copy(update={"rows": day.rows}) for day in built.prepared_days},
        "digests": {number: fit.model_digest},
    }
    record = Scored.model_validate(Step(model, "score", **given).attempt())
    assert databricks.results == ["SUCCESS"]
    there = Tables(here).scan("scores_late_arrival", record.table_version).sort("day", "entity_id").collect()

    again = score(model, RUN_DATES, here, **given)
    assert again.table_version is not None and again.table_version > (record.table_version or 0)
    assert_frame_equal(
        there,
        Tables(here).scan("scores_late_arrival", again.table_version).sort("day", "entity_id").collect(),
        check_exact=True,
    )
    assert record.days == again.days
    assert there.height == built.rows > 3000
    assert there["score"].n_unique() > 1000


def test_a_wheel_that_was_exchanged_is_not_run(
    project: Project, here: Settings, commit: str, databricks: Databricks, tmp_path: Path
) -> None:
    upload(commit, databricks, tmp_path / "dist", exchanged=True)
    with pytest.raises(AirflowFailException, match="does not match its hash"):
        Step(project).attempt()


@pytest.mark.parametrize("step", ["build_features", "score"])
def test_nothing_is_submitted_while_an_erasure_is_not_finished(
    project: Project, settings: Settings, databricks: Databricks, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(dags_databricks, "settings", lambda: settings)
    monkeypatch.setattr(dags_databricks, "load_project", lambda _: project)
    with postgres.journal.write_journal(settings, project.name) as writer:
        writer.add([Entry(kind="erasure", subject="h:" + "0" * 64, entry={}, by="Ada", why="ticket")])
    with pytest.raises(UnfinishedError, match="--again"):
        Step(load_model("late_arrival") if step == "score" else project, step).attempt()
    assert databricks.runs == []


def test_a_missing_wheel_is_named(project: Project, here: Settings, databricks: Databricks) -> None:
    with pytest.raises(AirflowFailException, match=f"make deploy TARGET={VOLUME}"):
        Step(project).attempt()


def test_an_error_that_a_person_has_to_fix_is_reported(
    project: Project, here: Settings, commit: str, databricks: Databricks, tmp_path: Path
) -> None:
    upload(commit, databricks, tmp_path / "dist")
    shutil.rmtree(Path(here.tables) / "clean_flights__schedule")
    with pytest.raises(
        AirflowFailException, match=r"\(code\): .*DataError: table .*clean_flights__schedule does not exist yet"
    ):
        Step(project).attempt()
    assert not Tables(here).exists("features_flights")


@pytest.mark.drill
def test_a_step_that_comes_too_early_is_skipped_and_runs_when_it_is_cleared(
    project: Project,
    here: Settings,
    commit: str,
    databricks: Databricks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload(commit, databricks, tmp_path / "dist")
    build_features(project, RUN_DATES, here)
    use_mlflow_of(here, project, monkeypatch)
    fit = Step(load_model("late_arrival"), "fit", Interval.of(RUN_DATES.end), candidate="linear")
    for attempt in (1, 2):
        with pytest.raises(AirflowSkipException, match="labelled days"):
            fit.attempt()
        fit.instance.max_tries += 4  # as Airflow does when a task is cleared
        assert databricks.results == ["SUCCESS"] * attempt
    steps = "SELECT step, state FROM step_runs WHERE step = 'fit'"
    with postgres.connection.engine(here).connect() as connection:
        assert [*connection.execute(sa.text(steps))] == [("fit", "skipped")] * 2
