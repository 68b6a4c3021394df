"""The versions of Delta tables that the shared database names. They stay readable when old files are removed."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from include.config.loading import model_names, project_names
from include.core.names import clean_table, features_table
from include.core.project import Project
from include.core.settings import Settings
from include.io.postgres.connection import engine
from include.io.postgres.schema import fits, journal, prepared_days

RECORD, TRAINING, FIT = "a prepared day", "the record of a training", "a fit"

FEATURES_VERSIONS, OUTCOME_VERSION = ("features_version", "first_features_version"), "outcome_version"

Named = dict[str, dict[int, str]]
"""By table and version, what names it."""


def read_named_versions(settings: Settings, project: Project) -> Named:
    """Return what prepared days, records of trainings and fits name.

    Gate decisions, promotions and batches name a version of a model, and so its fit; batches name a prepared day, too.
    Models that are not declared any more may have been of this project, so their fits count.
    """
    found: Named = {}
    features = features_table(project.name)
    with engine(settings).connect() as connection:
        of_day = sa.func.jsonb_each_text(prepared_days.c.table_versions).table_valued("key", "value").lateral()
        days = sa.select(of_day.c.key, sa.cast(of_day.c.value, sa.BigInteger)).distinct()
        days = days.select_from(prepared_days.join(of_day, sa.true()))
        _add(found, RECORD, connection.execute(days.where(prepared_days.c.project == project.name)))
        version = journal.c.entry["features_version"].as_integer()
        trainings = sa.select(sa.literal(features), version).distinct()
        of_project = (journal.c.project == project.name, journal.c.kind == "training")
        _add(found, TRAINING, connection.execute(trainings.where(*of_project)))
        of_fits = sa.select(fits.c.origin).where(fits.c.origin.is_not(None), fits.c.model.not_in(_others(project)))
        for origin in connection.scalars(of_fits.distinct()):
            add_fit(found, project, origin)
    return found


def add_fit(found: Named, project: Project, read: Mapping[str, Any]) -> None:
    """Add the versions of tables that a fit read, by the names that `FitOrigin` and the tags of its run have.

    The feed of its outcome may have been another one than today, so the version counts for each feed.
    """
    of_features = [(features_table(project.name), read.get(name)) for name in FEATURES_VERSIONS]
    of_outcome = [(clean_table(project.name, feed), read.get(OUTCOME_VERSION)) for feed in project.feeds]
    _add(found, FIT, [(table, int(version)) for table, version in (*of_features, *of_outcome) if version is not None])


def read_fits_without_origin(settings: Settings, project: Project) -> list[str]:
    """Return the MLflow runs of fits of an older version of the product: only MLflow knows what they read."""
    statement = sa.select(fits.c.mlflow_run).where(fits.c.origin.is_(None), fits.c.model.not_in(_others(project)))
    with engine(settings).connect() as connection:
        return list(connection.scalars(statement.order_by(fits.c.mlflow_run)))


def _others(project: Project) -> list[str]:
    """Return the models of other projects."""
    return [model for name in project_names() if name != project.name for model in model_names(name)]


def _add(found: Named, why: str, pairs: Iterable[Any]) -> None:
    for table, version in pairs:
        found.setdefault(table, {}).setdefault(int(version), why)
