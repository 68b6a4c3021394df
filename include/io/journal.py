"""Read what a run knows from the journal, and export the journal beside the database.

On the worker, the journal is read from the shared database. A step on Databricks cannot reach that database: the worker
leaves a copy of the entries up to a watermark beside the tables, and the step reads it.
"""

import io
import json
import re
from typing import Any

import polars as pl

from include.core.errors import ActionRequiredError
from include.core.journal import Known
from include.core.project import Project
from include.core.settings import NO_DATABASE, Settings
from include.io import postgres, storage
from include.io.landing import read, write_whole


def read_journal(settings: Settings, project: Project, watermark: int | None = None) -> Known:
    """Return what the journal says up to a watermark, by default the newest."""
    if watermark is None:
        watermark = read_watermark(settings, project)
    if settings.database_url.get_secret_value() == NO_DATABASE:
        filesystem, path = storage.filesystem(settings, _copy(settings, project, watermark))
        content = read(filesystem, path)
        if content is None:
            raise FileNotFoundError(f"the copy of the journal, {path}, is gone; run the task again")
        return Known.of(watermark, pl.read_parquet(io.BytesIO(content)))
    return Known.of(watermark, postgres.journal.read_entries(settings, project.name, watermark))


def read_watermark(settings: Settings, project: Project) -> int:
    """Return the newest sequence number.

    Raises:
        ValueError: the step has no database. It must be told the watermark of a copy.
    """
    if settings.database_url.get_secret_value() == NO_DATABASE:
        raise ValueError("a step without the shared database needs the watermark of a copy")
    return postgres.journal.read_watermark(settings, project.name)


def leave_copy(settings: Settings, project: Project) -> int:
    """Write a copy of the journal for a step on Databricks; return its watermark."""
    watermark = read_watermark(settings, project)
    write_copy(settings, project, watermark, postgres.journal.read_entries(settings, project.name, watermark))
    return watermark


def write_copy(settings: Settings, project: Project, watermark: int, entries: pl.DataFrame) -> None:
    """Write the entries up to a watermark (columns of `core.journal.ENTRIES`) beside the tables."""
    content = io.BytesIO()
    entries.write_parquet(content)
    filesystem, path = storage.filesystem(settings, _copy(settings, project, watermark))
    write_whole(filesystem, path, content.getvalue())


def export(settings: Settings, project: str) -> int:
    """Write the entries that are not exported yet, as JSON lines; return the newest exported sequence number.

    Two writers at once may export the same entries twice; `restore` takes each of them once.
    """
    filesystem, folder = _folder(settings, project)
    newest = _newest_exported(filesystem, folder)
    lines = postgres.journal.read_lines(settings, project, newest)
    if lines:
        newest = lines[-1]["sequence"]
        text = "".join(f"{json.dumps(line, sort_keys=True)}\n" for line in lines)
        name = f"{lines[0]['sequence']:012d}-{newest:012d}.jsonl"
        write_whole(filesystem, f"{folder}/{name}", text.encode())
    return newest


def require_exported(settings: Settings, project: str) -> None:
    """Refuse to go on if the export has entries that the database lacks: new entries would get the same numbers.

    Raises:
        ActionRequiredError: it has. The message says how to restore them.
    """
    filesystem, folder = _folder(settings, project)
    exported = _newest_exported(filesystem, folder)
    newest = postgres.journal.read_watermark(settings, project)
    if exported > newest:
        raise ActionRequiredError(
            f"{project}: the export of the journal, {folder}, has entries up to {exported}, but the journal in the "
            f"shared database ends at {newest}: the database was emptied, or the export is another installation's. "
            f"Restore it (python -m include.cli journal restore --project {project}), or export to an empty place"
        )


def restore(settings: Settings, project: str) -> int:
    """Add the exported entries to the journal in the shared database; return how many it lacked.

    Raises:
        ActionRequiredError: an entry is missing in the export, or differs from that of the database.
    """
    filesystem, folder = _folder(settings, project)
    lines: dict[int, dict[str, Any]] = {}
    for first, last in _exported(filesystem, folder):
        content = read(filesystem, f"{folder}/{first:012d}-{last:012d}.jsonl") or b""
        lines |= {line["sequence"]: line for line in map(json.loads, content.splitlines())}
    return postgres.journal.restore_lines(settings, project, [lines[number] for number in sorted(lines)])


def _folder(settings: Settings, project: str) -> tuple[Any, str]:
    """Return the filesystem and folder of a project's export."""
    filesystem, root = storage.filesystem(settings, settings.journal)
    return filesystem, f"{root.rstrip('/')}/{project}"


def _newest_exported(filesystem: Any, folder: str) -> int:
    return max((last for _, last in _exported(filesystem, folder)), default=0)


def _exported(filesystem: Any, folder: str) -> list[tuple[int, int]]:
    """Return the first and last sequence number of each exported file, in order."""
    filesystem.invalidate_cache()
    names = filesystem.ls(folder, detail=False) if filesystem.exists(folder) else []
    found = (re.fullmatch(r"(\d{12})-(\d{12})\.jsonl", name.rsplit("/", 1)[-1]) for name in names)
    return sorted((int(each[1]), int(each[2])) for each in found if each)


def _copy(settings: Settings, project: Project, watermark: int) -> str:
    return f"{settings.tables.rstrip('/')}/_journal/{project.name}/{watermark}.parquet"
