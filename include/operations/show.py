"""show: a Delta table as it was, at a version or a moment. Personal columns are as stored: hashed, or not there."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

import polars as pl

from include.config.loading import load_project, model_names, project_names
from include.core.errors import ActionRequiredError, DataError, nearest
from include.core.names import clean_table, features_table, quarantine_table, raw_table, scores_table
from include.core.settings import Settings
from include.io.tables import Tables


@dataclass(frozen=True)
class Shown:
    """Rows of a table at a version, and when that version was committed (UTC)."""

    table: str
    version: int
    committed_at: datetime
    rows: pl.LazyFrame

    def count(self) -> int:
        """Return the number of rows."""
        with self._readable():
            return int(self.rows.select(pl.len()).collect().item())

    def head(self, rows: int) -> pl.DataFrame:
        """Return the first rows."""
        with self._readable():
            return self.rows.head(rows).collect()

    def write(self, file: Path, kind: Literal["csv", "parquet"]) -> None:
        """Write all rows to a new file, in a stream.

        Raises:
            ActionRequiredError: there is such a file.
        """
        if file.exists():
            raise ActionRequiredError(f"{file} exists; give the name of a new file")
        with self._readable():
            if kind == "parquet":
                self.rows.sink_parquet(file)
            else:
                self.rows.sink_csv(file)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Say so if files of this version were removed: the log still has it."""
        try:
            yield
        except (FileNotFoundError, pl.exceptions.ComputeError) as error:
            raise DataError(
                f"{self.table}: files of version {self.version} are gone: {str(error).splitlines()[0]}. maintenance "
                "removes those of versions that nothing names (docs/maintenance.md); an erasure and a rotation of the "
                "hash key remove older versions, and the view human_actions says when"
            ) from error


def show(
    table: str,
    settings: Settings,
    *,
    version: int | None = None,
    as_of: datetime | None = None,
    day: date | None = None,
) -> Shown:
    """Return the rows of a table as it was; nothing is read yet.

    Args:
        table: its name, such as `features_<project>`.
        settings: where tables are.
        version: a version of the table; None: the newest.
        as_of: instead of a version, a moment: the newest version that was committed up to it. Without a timezone, UTC.
        day: only rows of this day.

    Raises:
        ActionRequiredError: there is no such table or version; the message says which there are.
    """
    if version is not None and as_of is not None:
        raise ActionRequiredError("give --table-version or --as-of, not both")
    tables = Tables(settings)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", table) or not tables.exists(table):
        raise ActionRequiredError(
            f"there is no table {table!r} in {tables.root}{nearest(table, _declared())}; names are such as "
            "raw_<project>__<feed>, clean_<project>__<feed>, features_<project>, scores_<model>"
        )
    there = tables.versions(table)
    found = _found(table, there, version, as_of)
    rows = tables.scan(table, found)
    return Shown(table, found, there[found], rows if day is None else rows.filter(pl.col("day") == day))


def _found(table: str, there: Mapping[int, datetime], version: int | None, as_of: datetime | None) -> int:
    first, last = min(there), max(there)
    known = f"it has the versions {first} ({_text(there[first])}) to {last} ({_text(there[last])})"
    if as_of is not None:
        moment = as_of if as_of.tzinfo else as_of.replace(tzinfo=UTC)
        before = [number for number, at in there.items() if at <= moment]
        if not before:
            raise ActionRequiredError(f"{table} had no version on {_text(moment)}: {known}")
        return max(before)
    if version is not None and version not in there:
        raise ActionRequiredError(f"{table} has no version {version}: {known}")
    return last if version is None else version


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _declared() -> list[str]:
    """Return the names of the tables that the projects declare."""
    found = []
    for project in map(load_project, project_names()):
        found.append(features_table(project.name))
        for feed in project.feeds:
            found += [make(project.name, feed) for make in (raw_table, clean_table, quarantine_table)]
        found += map(scores_table, model_names(project.name))
    return found
