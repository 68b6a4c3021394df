"""Fixtures for tests that train models; see `training.py`."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

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
    in_database,
    train,
    write_all,
)

Copied = Callable[[Settings, Path], AbstractContextManager[Settings]]
"""The fixture `copied`."""


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


@pytest.fixture(scope="session")
def prepared_once(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Path]]:
    """Return an installation with features and outcomes of 28 days, and its folder. Tests copy both."""
    folder = tmp_path_factory.mktemp("prepared")
    with install(folder) as settings:
        write_all(settings)
        yield settings, folder


@pytest.fixture
def prepared(
    prepared_once: tuple[Settings, Path], install: Install, postgres_url: sa.URL, mlflow_made: str, tmp_path: Path
) -> Iterator[Settings]:
    """Return an installation with features and outcomes of 28 days, and no training."""
    like, folder = prepared_once
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with install(tmp_path, like=like) as settings, cloned(postgres_url, mlflow_made) as mlflow:
        yield settings.model_copy(update={"mlflow_tracking_uri": mlflow})


@pytest.fixture(scope="session")
def trained_once(
    postgres_url: sa.URL, mlflow_made: str, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """Return an installation with version 1 of DAY and version 2 of the day after, for `copied`."""
    with install(tmp_path_factory.mktemp("trained")) as shared, cloned(postgres_url, mlflow_made) as mlflow:
        settings = shared.model_copy(update={"mlflow_tracking_uri": mlflow})
        write_all(settings)
        assert [train(settings, run_date=after(days)).model_version for days in (0, 1)] == [1, 2]
        yield settings


@pytest.fixture
def trained(trained_once: Settings, copied: Copied, tmp_path: Path) -> Iterator[Settings]:
    """Return a copy of `trained_once`."""
    with copied(trained_once, tmp_path) as settings:
        yield settings


@pytest.fixture(scope="session")
def copied(install: Install, postgres_url: sa.URL) -> Copied:
    """Return a function that copies an installation into a folder, except the files of models, which are shared."""

    @contextmanager
    def copy(like: Settings, folder: Path) -> Iterator[Settings]:
        shutil.copytree(like.tables, folder / "tables")
        name = sa.make_url(like.mlflow_tracking_uri.get_secret_value()).database or ""
        with install(folder, like=like) as settings, cloned(postgres_url, name) as mlflow:
            yield settings.model_copy(update={"mlflow_tracking_uri": mlflow, "artifacts": like.artifacts})

    return copy
