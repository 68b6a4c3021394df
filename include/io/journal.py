"""Read what a run knows from the journal, and export the journal beside the database.

On the worker, the journal is read from the shared database. A step on Databricks cannot reach that database: the worker
leaves a copy of the entries up to a watermark beside the tables, and the step reads it.
"""

import io
import json
import re
from dataclasses import dataclass
from typing import Any

import polars as pl

from include.core.errors import ActionRequiredError
from include.core.journal import Known
from include.core.project import Project
from include.core.settings import NO_DATABASE, Settings
from include.io import postgres, storage
from include.io.landing import read, write_whole

NUMBERS_IN_A_FOLDER = 1000
"""Sequence numbers of one folder of the export: a step lists at most so many files."""


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


def begin_remote(settings: Settings, project: Project, *, copy: bool) -> int:
    """Return the watermark of a step that is about to be submitted to Databricks.

    Args:
        settings: places and connections.
        project: the project.
        copy: whether to write a copy of the journal for the step.

    Raises:
        UnfinishedError: a rotation of the hash key, or an erasure, has not finished.
    """
    watermark = read_watermark(settings, project)  # first: what is entered from now on is newer
    postgres.running.require_all_finished(settings, project.name)
    if copy:
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
        first, newest = lines[0]["sequence"], lines[-1]["sequence"]
        text = "".join(f"{json.dumps(line, sort_keys=True)}\n" for line in lines)
        write_whole(filesystem, _file(folder, first, newest), text.encode())
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


@dataclass(frozen=True)
class Restored:
    """The result of a restore: how many entries were `added`, and the numbers of those that only the database has.

    `promotions` are the rows of the promotion history that followed from decisions of people and were missing.
    """

    added: int
    not_exported: tuple[int, ...]
    promotions: int = 0


def restore(settings: Settings, project: str) -> Restored:
    """Add the exported entries that the journal in the shared database lacks. Entries that it has already stay.

    Raises:
        ActionRequiredError: there is no export, an entry is missing in it, or one differs from that of the database.
    """
    lines = read_exported(settings, project)
    added = postgres.journal.restore_lines(settings, project, [lines[number] for number in sorted(lines)])
    promotions = postgres.promotions.restore_decided(settings, project)  # also what a killed restore left out
    ahead = postgres.journal.read_lines(settings, project, max(lines, default=0))
    return Restored(added, tuple(line["sequence"] for line in ahead), promotions)


def read_exported(settings: Settings, project: str) -> dict[int, dict[str, Any]]:
    """Map the sequence number of each exported entry to the entry.

    Raises:
        ActionRequiredError: there is no export.
    """
    filesystem, folder = _folder(settings, project)
    lines: dict[int, dict[str, Any]] = {}
    for part in _parts(filesystem, folder):
        for first, last in _exported(filesystem, part):
            content = read(filesystem, _file(folder, first, last)) or b""
            lines |= {line["sequence"]: line for line in map(json.loads, content.splitlines())}
    if not lines:
        raise ActionRequiredError(
            f"{project}: there is no export of the journal in {folder}; point nightly_journal to the folder that has "
            f"the folder {project}"
        )
    return lines


def _folder(settings: Settings, project: str) -> tuple[Any, str]:
    """Return the filesystem and folder of a project's export."""
    filesystem, root = storage.filesystem(settings, settings.journal)
    return filesystem, f"{root.rstrip('/')}/{project}"


def _file(folder: str, first: int, last: int) -> str:
    """Return the path of the file with these entries: in a folder for each thousand of first numbers."""
    return f"{folder}/{first // NUMBERS_IN_A_FOLDER:09d}/{first:012d}-{last:012d}.jsonl"


def _newest_exported(filesystem: Any, folder: str) -> int:
    """Return the newest exported sequence number. It lists the newest folder only, since there are years of files."""
    for part in reversed(_parts(filesystem, folder)):
        if exported := _exported(filesystem, part):  # a run that was killed may have left an empty folder
            return max(last for _, last in exported)
    return 0


def _parts(filesystem: Any, folder: str) -> list[str]:
    """Return the folders of an export, in order."""
    return sorted(f"{folder}/{name}" for name in _names(filesystem, folder) if re.fullmatch(r"\d{9}", name))


def _exported(filesystem: Any, part: str) -> list[tuple[int, int]]:
    """Return the first and last sequence number of each file in a folder of an export, in order."""
    found = (re.fullmatch(r"(\d{12})-(\d{12})\.jsonl", name) for name in _names(filesystem, part))
    return sorted((int(each[1]), int(each[2])) for each in found if each)


def _names(filesystem: Any, folder: str) -> list[str]:
    filesystem.invalidate_cache()
    try:
        return [name.rstrip("/").rsplit("/", 1)[-1] for name in filesystem.ls(folder, detail=False)]
    except FileNotFoundError:
        return []


def _copy(settings: Settings, project: Project, watermark: int) -> str:
    return f"{settings.tables.rstrip('/')}/_journal/{project.name}/{watermark}.parquet"
