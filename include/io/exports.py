"""What readers see of each run date, as files for those who cannot reach the database (`exports` in `model.yaml`)."""

import io
import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl
import sqlalchemy as sa

from include.config.loading import load_model, model_names
from include.config.model import Model
from include.core.errors import ConfigError
from include.core.exports import FORMATS, MANIFEST, Format, exported_columns, file_of, folder_of
from include.core.feeds import HORIZON
from include.core.names import predictions_view
from include.core.project import Project
from include.core.settings import Settings
from include.io import storage
from include.io.landing import sha256, write_whole
from include.io.postgres import schema
from include.io.postgres.connection import engine, execute, lock_in, transaction
from include.io.postgres.migrations.model_views import columns_of
from include.io.postgres.schema import batches, publications, published

log = logging.getLogger(__name__)

RECENT = "interval '3 days'"
"""How far back a call looks for run dates whose export was cut off: over a weekend."""


@dataclass(frozen=True)
class Seen:
    """What readers see of a run date: the newest move of its pointer."""

    publication: int
    batch_id: str | None
    model_version: int | None
    as_of: datetime | None
    published_at: datetime


def export_published(settings: Settings, project: Project, model: Model, days: Iterable[date]) -> None:
    """Write what readers see of run dates now, and remove the files of those of which they see nothing.

    A step calls it after its commit, also if it changed nothing: if it was killed in between, its next try writes what
    is missing; so does the next call about any run date, if readers' pointer moved in the last days. Equal content is
    not written again.

    Raises:
        ConfigError: the model has exports, and the installation has no place for them. Readers see the batch.
    """
    if model.exports is None:
        return
    if not settings.exports:
        raise ConfigError(
            f"{model.folder / 'model.yaml'}: exports: {model.exports}: the predictions are published, but there is no "
            'place for files; add "exports": "s3://…" to the extra of the connection nightly_tables (or set '
            "NIGHTLY_EXPORTS), then run the step again"
        )
    place = Place(settings, settings.exports)
    wanted = {*days}
    for day, publication in _recent(settings, model.name).items():
        kept = place.manifest(folder_of(project.name, model.name, day))
        if kept is None or kept.get("publication") != publication:
            wanted.add(day)
    for day in sorted(wanted):
        _export(settings, place, project, model, model.exports, day)


def export_erased(settings: Settings, project: Project) -> None:
    """Write the files of all run dates again from whose published batch rows of persons were ever erased."""
    for model in (load_model(name) for name in model_names(project.name)):
        if model.exports is None or not settings.exports:
            continue
        joined = published.join(batches, batches.c.batch_id == published.c.batch_id)
        changed = sa.select(published.c.day).select_from(joined)
        changed = changed.where(published.c.model == model.name, batches.c.erased > 0)
        with engine(settings).connect() as connection:
            days = [*connection.scalars(changed)]
        export_published(settings, project, model, days)


class Place:
    """The folder or bucket with the files of exports."""

    def __init__(self, settings: Settings, uri: str) -> None:
        self.filesystem, root = storage.filesystem(settings, uri)
        self.root = root.rstrip("/")

    def manifest(self, folder: str) -> dict[str, Any] | None:
        """Return the manifest of a folder; None if there is none, or it is not one."""
        with suppress(FileNotFoundError, ValueError):
            found = json.loads(self.filesystem.cat_file(f"{self.root}/{folder}/{MANIFEST}"))
            return found if isinstance(found, dict) else None
        return None

    def has(self, folder: str, manifest: dict[str, Any]) -> bool:
        """Return whether a folder has this manifest and its file, and no file of another format."""
        if self.manifest(folder) != manifest:
            return False
        sizes = {form: self._size(folder, file_of(form)) for form in FORMATS}
        return sizes == {form: manifest["bytes"] if form == manifest["format"] else None for form in FORMATS}

    def put(self, folder: str, manifest: dict[str, Any], content: bytes) -> None:
        """Replace the files of a folder: there is no manifest while they do not agree."""
        self.remove(folder, keep=manifest["file"])
        write_whole(self.filesystem, f"{self.root}/{folder}/{manifest['file']}", content)
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        write_whole(self.filesystem, f"{self.root}/{folder}/{MANIFEST}", f"{text}\n".encode())

    def remove(self, folder: str, keep: str | None = None) -> bool:
        """Remove the files of a folder, the manifest first; return whether there were any."""
        there = [
            name for name in (MANIFEST, *map(file_of, FORMATS)) if name != keep and self._size(folder, name) is not None
        ]
        for name in there:
            self.filesystem.rm_file(f"{self.root}/{folder}/{name}")
        return bool(there)

    def _size(self, folder: str, name: str) -> int | None:
        try:
            return int(self.filesystem.info(f"{self.root}/{folder}/{name}")["size"])
        except FileNotFoundError:
            return None


def _export(settings: Settings, place: Place, project: Project, model: Model, form: Format, day: date) -> None:
    """Write the files of a run date.

    The lock lets one writer of a model's files go after the other. Each reads what readers see when its turn comes,
    so the files of the last one are about the batch that was committed last.
    """
    folder = folder_of(project.name, model.name, day)
    with transaction(settings) as cursor:
        lock_in(cursor, f"export {model.name}")
        seen, rows = _read(cursor, project, model, day)
        if seen is None or seen.batch_id is None:
            if place.remove(folder):
                log.info("%s %s: the exported files are removed, since nothing is published", model.name, day)
            return
        content = as_bytes(rows, form)
        manifest = {
            "project": project.name,
            "model": model.name,
            "day": day.isoformat(),
            "model_version": seen.model_version,
            "batch_id": seen.batch_id,
            "publication": seen.publication,
            "published_at": _text(seen.published_at),
            "as_of": _text(seen.as_of),
            "rows": rows.height,
            "columns": rows.columns,
            "file": file_of(form),
            "format": form,
            "bytes": len(content),
            "sha256": sha256(content),
        }
        if not place.has(folder, manifest):
            place.put(folder, manifest, content)
            log.info("%s %s: %d rows of batch %s are exported", model.name, day, rows.height, seen.batch_id)


def as_bytes(rows: pl.DataFrame, form: Format) -> bytes:
    """Return a file with rows, the same bytes for the same rows. Times in CSV are ISO 8601 in UTC."""
    buffer = io.BytesIO()
    if form == "csv":
        rows.write_csv(buffer, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
    else:
        rows.write_parquet(buffer, compression="snappy")  # every reader knows it
    return buffer.getvalue()


def _read(cursor: Any, project: Project, model: Model, day: date) -> tuple[Seen | None, pl.DataFrame]:
    """Return the newest move of a run date and the rows that it shows."""
    names = exported_columns(project, columns_of(project, model))
    columns = [
        sa.cast(sa.column(name), sa.Text).label(name) if name == "probabilities" else sa.column(name) for name in names
    ]
    view = sa.table(predictions_view(model.name), sa.column("day", schema.DATE))
    selecting = (
        sa
        .select(*columns)
        .select_from(view)
        .where(view.c.day == sa.literal(day, schema.DATE))
        .order_by(sa.column(HORIZON), sa.collate(sa.column("entity_id", schema.TEXT), "C"))
    )
    while True:
        seen = _seen(cursor, model.name, day)
        execute(cursor, selecting)
        rows = pl.DataFrame(cursor.fetch_arrow_table())
        if _seen(cursor, model.name, day) == seen:  # nobody published in between
            return seen, rows


def _seen(cursor: Any, model: str, day: date) -> Seen | None:
    p, b = publications.c, batches.c
    newest = (
        sa
        .select(p.id, sa.cast(p.batch_id, sa.Text), b.model_version, b.as_of, p.published_at)
        .select_from(publications.outerjoin(batches, b.batch_id == p.batch_id))
        .where(p.model == sa.literal(model, schema.TEXT), p.day == sa.literal(day, schema.DATE))
        .order_by(p.id.desc())
        .limit(sa.literal_column("1"))
    )
    execute(cursor, newest)
    row = cursor.fetchone()
    return None if row is None else Seen(*row)


def _recent(settings: Settings, model: str) -> dict[date, int]:
    """Return the newest move of each run date that moved in the last days."""
    p = publications.c
    moved = (
        sa
        .select(p.day, sa.func.max(p.id))
        .where(p.model == model, p.published_at > sa.func.now() - sa.text(RECENT))
        .group_by(p.day)
    )
    with engine(settings).connect() as connection:
        return dict(connection.execute(moved).all())


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
