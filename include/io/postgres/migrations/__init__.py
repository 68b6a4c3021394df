"""Alembic migrations of the shared database. `migrate` runs them, from a checkout or from a wheel.

To change a table, or a view that analysts see, add a numbered file to `versions/`; never edit a file that was deployed.
Migrations only go forward: to undo one, add another or restore a backup. The tables of entities are not here:
projects declare them, and `migrate` creates them after the last revision, as it does the views of models. Then it gives
each role its rights (`roles`).
"""

from collections.abc import Sequence
from pathlib import Path

import psycopg2.errors
import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.util.exc import CommandError
from sqlalchemy.dialects import postgresql

from include.core.errors import ActionRequiredError
from include.core.project import Project
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine, lock, lock_timeout
from include.io.postgres.migrations import entities as entity_tables
from include.io.postgres.migrations import model_views, roles

MIGRATIONS = Path(__file__).parent
NEWEST = max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))[:4]
"""The revision that this code needs."""


def require_migrated(settings: Settings) -> None:
    """Refuse to work on a database that older or newer code migrated: a step could misread its tables.

    Raises:
        ActionRequiredError: the database is at another revision than this code.
    """
    with engine(settings).connect() as connection:
        there = connection.scalar(sa.text("SELECT to_regclass('nightly_ml_version') IS NOT NULL"))
        revision = connection.scalar(sa.text("SELECT version_num FROM nightly_ml_version")) if there else None
    if revision == NEWEST:
        return
    advice = (
        "Run: python -m include.cli migrate"
        if revision is None or revision < NEWEST
        else "Run the newest code: in Airflow, clear the task with the latest bundle version (docs/upgrade.md)"
    )
    raise ActionRequiredError(f"the shared database is at revision {revision}, and this code needs {NEWEST}. {advice}")


def migrate(settings: Settings, projects: Sequence[Project]) -> str:
    """Bring the database up to this code, and tables of entities and views of models up to the projects.

    Everything is one transaction. A second migration at the same time waits, and then finds nothing to do.

    Returns:
        The revision of the database.

    Raises:
        ConfigError: the type of a public column changed.
        ActionRequiredError: the database is newer than this code, this login is not its owner, or a role may do more
            than it should.
        LockTimeoutError: another session holds a lock for too long, for example a reader with an open transaction.
    """
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    try:
        return _migrate(engine(settings), config, projects)
    except psycopg2.errors.LockNotAvailable:  # of a statement that did not go through SQLAlchemy
        raise lock_timeout(engine(settings), readers=True) from None


def _migrate(database: sa.Engine, config: AlembicConfig, projects: Sequence[Project]) -> str:
    with database.begin() as connection:
        roles.require_owner(connection)
        _lock_migrations(connection)
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ActionRequiredError(f"The database was migrated by newer code. Deploy that code. {error}") from error
        for project in projects:
            entity_tables.extend(connection, project)
            _declare(connection, project)
            model_views.extend(connection, project)
        roles.restrict(connection)
        return str(connection.scalar(sa.text("SELECT version_num FROM nightly_ml_version")))


def _declare(connection: sa.Connection, project: Project) -> None:
    """Record what the pages of the plugins show of a project, since they read no YAML, and what `drop_month` obeys."""
    values = {
        "title": project.title,
        "timezone": str(project.timezone),
        "predictions_months": project.retention.predictions,
    }
    there = postgresql.insert(schema.projects).values(project=project.name, **values)
    connection.execute(
        there.on_conflict_do_update(
            index_elements=["project"], set_={**values, "migrated_at": sa.func.clock_timestamp()}
        )
    )


def _lock_migrations(connection: sa.Connection) -> None:
    """Wait for other migrations. The first one has no table of locks yet."""
    if not sa.inspect(connection).has_table(schema.locks.name):
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended('migrate', 0))"))
    if sa.inspect(connection).has_table(schema.locks.name):
        lock(connection, "migrate")
