"""Fixtures for tests that train models; see `training.py`."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from mlflow import MlflowClient

from include.core.settings import Settings
from tests.conftest import Install
from tests.own_projects import use_own_projects

use_own_projects()  # before the next import, which loads one
from tests.integration.training import (  # noqa: E402
    administer,
    after,
    cloned,
    enter_all,
    in_database,
    prepare_all,
    record_files,
    train,
    write_all,
)


@pytest.fixture(scope="session")
def mlflow_made(postgres_url: sa.URL) -> str:
    """Return the name of an MLflow database with tables. Creating them takes seconds; cloning is fast."""
    name = "mlflow_made"
    administer(postgres_url, f"CREATE DATABASE {name}")
    MlflowClient(in_database(postgres_url, name).get_secret_value()).search_experiments()
    return name


@pytest.fixture
def with_mlflow(settings: Settings, postgres_url: sa.URL, mlflow_made: str) -> Iterator[Settings]:
    """Return an empty installation whose MLflow database has tables."""
    with cloned(postgres_url, mlflow_made) as mlflow:
        yield settings.model_copy(update={"mlflow_tracking_uri": mlflow})


@pytest.fixture
def prepared(with_mlflow: Settings) -> Settings:
    """Return an installation with features and outcomes of 28 days, and no training."""
    write_all(with_mlflow)
    return with_mlflow


@pytest.fixture(scope="module")
def trained_once(
    postgres_url: sa.URL, mlflow_made: str, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, str]]]:
    """Return an MLflow database with version 1 of DAY and version 2 of the day after, and the places of its files."""
    folder = tmp_path_factory.mktemp("trained")
    places = {name: str(folder / name) for name in ("landing", "tables", "artifacts")}
    with install(folder) as shared, cloned(postgres_url, mlflow_made) as mlflow:
        settings = shared.model_copy(update={**places, "mlflow_tracking_uri": mlflow})
        write_all(settings)
        assert [train(settings, run_date=after(days)).model_version for days in (0, 1)] == [1, 2]
        yield sa.make_url(mlflow.get_secret_value()).database or "", places


@pytest.fixture
def trained(
    with_mlflow: Settings, postgres_url: sa.URL, trained_once: tuple[str, dict[str, str]]
) -> Iterator[Settings]:
    """Return a copy of `trained_once` with its own databases; tables and models are shared."""
    name, places = trained_once
    with cloned(postgres_url, name) as mlflow:
        settings = with_mlflow.model_copy(update={"mlflow_tracking_uri": mlflow, **places})
        enter_all(settings)
        prepare_all(settings)
        record_files(settings)
        yield settings
