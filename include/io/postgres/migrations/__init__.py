"""Alembic migrations of the shared database, run by `migrate`, from a checkout or a wheel alike.

A change of a table or view that analysts see is a new file in `versions/`, numbered on; a file that has been
deployed is not edited. Forward only: what undoes a migration is another one, or a backup. The tables of entities are
not here: they follow from what projects declare, and `migrate` makes them after the last revision.
"""

from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.util.exc import CommandError

from include.core.errors import ActionRequiredError
from include.core.project import Project
from include.core.settings import Settings
from include.io.postgres.connection import engine, lock
from include.io.postgres.migrations import entities as entity_tables

MIGRATIONS = Path(__file__).parent


def migrate(settings: Settings, projects: Sequence[Project]) -> str:
    """Bring the database up to this code, and the tables of entities up to the projects; returns the revision.

    All in one transaction; a second one at once waits, and then finds nothing to do.
    Raises `ConfigError` when the type of a public column changed, `ActionRequiredError` when the database is newer.
    """
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine(settings).begin() as connection:
        lock(connection, "migrate")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ActionRequiredError(
                f"the database was migrated by newer code than this; deploy that: {error}"
            ) from error
        for project in projects:
            entity_tables.extend(connection, project)
        return str(connection.scalar(sa.text("SELECT version_num FROM nightly_ml_version")))
