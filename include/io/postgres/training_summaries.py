"""What each version was trained on, in the shared database: a row is written once for each version."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.settings import Settings
from include.io.postgres.connection import engine
from include.io.postgres.schema import models, training_summaries


@dataclass(frozen=True)
class TrainingSummary:
    """What a version was trained on: see the comments of `schema.training_summaries`."""

    rows: int = 0
    inputs: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    constant: float | list[float] | None = None
    why: str = ""
    predicts: Mapping[str, Any] | None = None


def read_summary(settings: Settings, model: str, version: int) -> TrainingSummary | None:
    """Return what a version was trained on, None if it is not recorded yet."""
    table = training_summaries.c
    columns = [table[each.name] for each in fields(TrainingSummary)]
    statement = sa.select(*columns).where(table.model == model, table.model_version == version)
    with engine(settings).connect() as connection:
        row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else TrainingSummary(**row)


def record_summary(settings: Settings, model: str, version: int, summary: TrainingSummary) -> None:
    """Record what a version was trained on. What is recorded stays."""
    values = {"model": model, "model_version": version, "run_id": settings.run_id, **asdict(summary)}
    with engine(settings).begin() as connection:
        connection.execute(postgresql.insert(training_summaries).values(**values).on_conflict_do_nothing())


def record_predicts(settings: Settings, model: str, version: int, predicts: Mapping[str, Any]) -> None:
    """Record what a version predicts, of whose training an earlier release recorded the rest."""
    table = training_summaries.c
    own = (table.model == model) & (table.model_version == version) & table.predicts.is_(None)
    with engine(settings).begin() as connection:
        connection.execute(sa.update(training_summaries).where(own).values(predicts=predicts))


def drop_labels(connection: sa.Connection, projects: Collection[str]) -> None:
    """Drop the digests of labels of all versions of projects: after a rotation, the labels have other hashes."""
    table = training_summaries.c
    of_projects = sa.select(models.c.model).where(models.c.project.in_(projects))
    statement = sa.select(table.model, table.model_version, table.inputs).where(table.model.in_(of_projects))
    for model, version, inputs in connection.execute(statement).all():
        _store_inputs(
            connection, model, version, {n: each | dict.fromkeys({*each} & {"labels"}) for n, each in inputs.items()}
        )


def having_labels(digests: Collection[str]) -> sa.ColumnElement[bool]:
    """Return the condition of versions whose training had one of these labels."""
    text = sa.cast(training_summaries.c.inputs, sa.Text)
    return sa.or_(sa.false(), *(sa.func.strpos(text, f'"{digest}"') > 0 for digest in digests))


def forget_labels(connection: sa.Connection, digests: Collection[str]) -> None:
    """Remove the digests of some labels."""
    table = training_summaries.c
    statement = sa.select(table.model, table.model_version, table.inputs).where(having_labels(digests))
    for model, version, inputs in connection.execute(statement).all():
        left = {
            name: each | {"labels": [label for label in each["labels"] if label not in digests]}
            if each.get("labels")
            else each
            for name, each in inputs.items()
        }
        _store_inputs(connection, model, version, left)


def _store_inputs(connection: sa.Connection, model: str, version: int, inputs: Mapping[str, Any]) -> None:
    table = training_summaries.c
    own = (table.model == model) & (table.model_version == version)
    connection.execute(sa.update(training_summaries).where(own).values(inputs=inputs))
