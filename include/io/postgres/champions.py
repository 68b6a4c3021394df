"""What other programs hear of a new champion, read from the promotion history in the shared database."""

from typing import Any

import sqlalchemy as sa

from include.core.champions import ChampionChange, move_of
from include.core.settings import Settings
from include.io.postgres.connection import engine
from include.io.postgres.schema import promotions
from include.io.postgres.version_moves import read_digest

UNITY_CATALOG = "databricks-uc"
"""The registry in which names of models begin with catalog and schema."""


def registered_name(settings: Settings, model: str) -> str:
    """Return the name under which the registry of these settings has a model."""
    registry = settings.mlflow_registry_uri or settings.mlflow_tracking_uri
    in_catalog = settings.catalog and registry.get_secret_value() == UNITY_CATALOG
    return f"{settings.catalog}.{model}" if in_catalog else model


def read_change(connection: sa.Connection, promotion: Any, registered: str) -> ChampionChange | None:
    """Return how a promotion changed the newest champion; None if that stayed or was changed again since.

    Args:
        connection: the transaction.
        promotion: a row of the promotion history.
        registered: the name of the model in the registry.
    """
    of_model, rows = promotions.c.model == promotion.model, promotions.c
    newest = sa.select(rows.id, rows.model_version).order_by(rows.from_day.desc(), rows.id.desc()).limit(1)
    now = connection.execute(newest.where(of_model)).one()
    # Rows of one rollback are written the newest day first, so what is older than this row was there before it.
    before = connection.execute(newest.where(of_model, rows.id < promotion.id)).one_or_none()
    previous = None if before is None else before.model_version
    if now.id != promotion.id or previous == promotion.model_version:
        return None
    versions = sa.table("versions", *map(sa.column, ("model", "model_version", "semantic_version")))
    name = sa.select(versions.c.semantic_version).where(
        versions.c.model == promotion.model, versions.c.model_version == promotion.model_version
    )
    return ChampionChange(
        promotion=promotion.id,
        model=promotion.model,
        model_version=promotion.model_version,
        semantic_version=connection.scalar(name),
        digest=read_digest(connection, promotion.model, promotion.model_version),
        previous_version=previous,
        from_day=promotion.from_day,
        move=move_of(promotion.by, promotion.rolled_back_from),
        forced=promotion.forced,
        why=promotion.why,
        model_uri=f"models:/{registered}/{promotion.model_version}",
    )


def read_change_by_run(settings: Settings, model: str) -> ChampionChange | None:
    """Return how this run changed the newest champion of a model; None if it did not."""
    newest = sa.select(promotions).where(promotions.c.model == model)
    newest = newest.order_by(promotions.c.from_day.desc(), promotions.c.id.desc()).limit(1)
    with engine(settings).connect() as connection:
        found = connection.execute(newest).one_or_none()
        if found is None or found.run_id != settings.run_id:
            return None
        return read_change(connection, found, registered_name(settings, model))
