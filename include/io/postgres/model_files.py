"""The digests of model files, in the shared database: of each fit, and which fit each version is.

Files are in MLflow, and whoever can write there can change its tags too. Only what is recorded here decides which files
may be loaded. A row is written once: by `fit` for its run, by `evaluate` for its version.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import date

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.errors import ActionRequiredError
from include.core.records import Adopted, FitOrigin, Fitted
from include.core.semantic import SemanticVersion, next_version
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine, lock


@dataclass(frozen=True)
class RecordedFit:
    """A fit as it was recorded: its run in MLflow, the newest day that it has seen, what decided it, and its files.

    `horizon_days` is the largest horizon of its rows.
    `trained_day` is its run date, and `tags_digest` is of the tags of the run that are read back. Both are None of a
    fit that an older version of the product recorded.
    `adopted_from` is where an adopted model came from, and `adopted_run` the MLflow run there; None if it was fitted
    here. The same files from another place are the same fit.
    `origin` is what the first run that recorded it says; None if an older version of the product recorded it.
    """

    mlflow_run: str
    model: str
    candidate: str
    fit_end: date
    fit_digest: str
    model_digest: str
    trained_day: date | None
    tags_digest: str | None
    horizon_days: int = 0
    adopted_from: str | None = field(default=None, compare=False)
    adopted_run: str | None = field(default=None, compare=False)
    origin: FitOrigin | None = field(default=None, compare=False)


_FITS, _VERSIONS = schema.fits, schema.model_versions
_COLUMNS = [_FITS.c[each.name] for each in fields(RecordedFit)]


def record_fit(settings: Settings, fitted: Fitted) -> None:
    """Record the files of a fit. Recording them again changes nothing.

    Raises:
        ActionRequiredError: the fit was recorded with other files.
    """
    if not fitted.model_digest:
        raise ActionRequiredError(
            f"{fitted.model}: MLflow run {fitted.run_id} does not say which files its fit made; somebody changed its "
            f"tags. Delete the run (mlflow runs delete --run-id {fitted.run_id}), and run fit again"
        )
    row = RecordedFit(
        mlflow_run=fitted.run_id,
        model=fitted.model,
        candidate=fitted.candidate,
        fit_end=fitted.interval.end,
        fit_digest=fitted.digest,
        model_digest=fitted.model_digest,
        horizon_days=fitted.horizon_days,
        trained_day=fitted.trained_day,
        tags_digest=fitted.tags_digest,
        adopted_from=fitted.source if isinstance(fitted, Adopted) else None,
        adopted_run=fitted.source_run if isinstance(fitted, Adopted) else None,
        origin=fitted.origin,
    )
    with engine(settings).begin() as connection:
        origin = None if row.origin is None else row.origin.model_dump(mode="json")
        values = {**vars(row), "origin": origin, "run_id": settings.run_id}
        connection.execute(postgresql.insert(_FITS).values(**values).on_conflict_do_nothing())
        there = _fits(connection, _FITS.c.mlflow_run == row.mlflow_run)[0]
    if there.tags_digest is None:  # an older version of the product recorded it
        row = replace(row, tags_digest=None, trained_day=None)
    if there != row:
        what, said, was = (
            ("files", row.model_digest, there.model_digest)
            if there.model_digest != row.model_digest
            else ("tags", row.tags_digest, there.tags_digest)
        )
        raise ActionRequiredError(
            f"{row.model}: MLflow says that run {row.mlflow_run} has {what} {said}, and the shared database "
            f"recorded {was} when it was fitted: somebody changed the run in MLflow. Find out who, "
            f"delete the run (mlflow runs delete --run-id {row.mlflow_run}), and run fit again"
        )


def knows_fit(settings: Settings, fitted: Fitted) -> bool:
    """Return whether the run of a fit is recorded."""
    with engine(settings).connect() as connection:
        return bool(_fits(connection, _FITS.c.mlflow_run == fitted.run_id))


def runs_of_fit(settings: Settings, fit_digest: str) -> list[str]:
    """Return the recorded runs of a fit, by the digest of everything that decides it."""
    with engine(settings).connect() as connection:
        return [fit.mlflow_run for fit in _fits(connection, _FITS.c.fit_digest == fit_digest)]


def read_fit(settings: Settings, model: str, mlflow_run: str) -> RecordedFit:
    """Return the recorded fit of a run of MLflow.

    Raises:
        ActionRequiredError: no fit of this model was recorded for the run.
    """
    with engine(settings).connect() as connection:
        found = _fits(connection, (_FITS.c.mlflow_run == mlflow_run) & (_FITS.c.model == model))
    if not found:
        raise ActionRequiredError(
            f"{model}: the shared database has no fit of MLflow run {mlflow_run}, so its files are not loaded; "
            "run fit again"
        )
    return found[0]


def record_version(settings: Settings, model: str, version: int, mlflow_run: str) -> str | None:
    """Record the fit that a version is, and the semantic version that follows from the one recorded before.

    Recording it again changes nothing, and another fit is ignored.

    Returns:
        The semantic version; None if an older version of the product recorded it.
    """
    own = (_VERSIONS.c.model == model) & (_VERSIONS.c.model_version == version)
    values = {"model": model, "model_version": version, "mlflow_run": mlflow_run, "run_id": settings.run_id}
    with engine(settings).begin() as connection:
        lock(connection, f"versions {model}")  # so that no two follow the same one
        if (there := connection.execute(sa.select(_VERSIONS.c.semantic_version).where(own)).one_or_none()) is not None:
            return None if there.semantic_version is None else str(there.semantic_version)
        declared = _declared(connection, mlflow_run)
        before, was = _newest_semantic(connection, model)
        semantic, changed = next_version(before, was, declared)
        named = {"semantic_version": str(semantic), "changed": changed}
        connection.execute(sa.insert(_VERSIONS).values(**values, **named))
    return str(semantic)


def read_names(settings: Settings, model: str, versions: Iterable[int] | None = None) -> dict[int, str]:
    """Return the semantic version of each version, as the view `versions` shows it; of all if none are named.

    A version that an older version of the product recorded has none.
    """
    view = sa.table("versions", *map(sa.column, ("model", "model_version", "semantic_version")))
    statement = sa.select(view.c.model_version, view.c.semantic_version).where(
        view.c.model == model,
        view.c.semantic_version.is_not(None),
        sa.true() if versions is None else view.c.model_version.in_(list(versions)),
    )
    with engine(settings).connect() as connection:
        return {row.model_version: row.semantic_version for row in connection.execute(statement)}


def read_versions(settings: Settings, model: str, versions: Iterable[int] | None = None) -> dict[int, RecordedFit]:
    """Return the recorded fits of versions, of all versions if none are named.

    Raises:
        ActionRequiredError: one of the named versions is not recorded.
    """
    statement = (
        sa
        .select(_VERSIONS.c.model_version, *_COLUMNS)
        .join_from(_VERSIONS, _FITS)
        .where(_VERSIONS.c.model == model)
        .order_by(_VERSIONS.c.model_version)
    )
    with engine(settings).connect() as connection:
        found = {row.model_version: _fit(row) for row in connection.execute(statement)}
    if versions is None:
        return found
    wanted = sorted(set(versions))
    if missing := [version for version in wanted if version not in found]:
        there = f"the newest are {', '.join(map(str, sorted(found, reverse=True)[:5]))}" if found else "it has none yet"
        raise ActionRequiredError(
            f"{model} has no version {', '.join(map(str, missing))} in the shared database, so it is not loaded: "
            f"{there}. A version is made by evaluate: python -m include.cli gate --model {model} --day DAY; if it is "
            f"to replace a champion that cannot be loaded: python -m include.cli promote --model {model} --version N "
            "--from-day DAY --by NAME --why REASON --force"
        )
    return {version: found[version] for version in wanted}


def _fits(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[RecordedFit]:
    return [_fit(row) for row in connection.execute(sa.select(*_COLUMNS).where(where))]


def _newest_semantic(connection: sa.Connection, model: str) -> tuple[SemanticVersion | None, dict[str, str]]:
    """Return the newest semantic version of a model, which is the greatest, and what its fit declared."""
    of_model = (_VERSIONS.c.model == model) & _VERSIONS.c.semantic_version.is_not(None)
    found = connection.execute(sa.select(_VERSIONS.c.semantic_version, _VERSIONS.c.mlflow_run).where(of_model)).all()
    if not found:
        return None, {}
    newest = max(found, key=lambda row: SemanticVersion.of(row.semantic_version))
    return SemanticVersion.of(newest.semantic_version), _declared(connection, newest.mlflow_run)


def _declared(connection: sa.Connection, mlflow_run: str) -> dict[str, str]:
    """Return what a fit declared, part by part; nothing if that was not recorded."""
    origin = connection.scalar(sa.select(_FITS.c.origin).where(_FITS.c.mlflow_run == mlflow_run))
    return {} if origin is None else dict(origin["declared"])


def _fit(row: sa.Row) -> RecordedFit:
    values = {each.name: getattr(row, each.name) for each in fields(RecordedFit)}
    origin = values.pop("origin")
    return RecordedFit(**values, origin=None if origin is None else FitOrigin.model_validate(origin))
