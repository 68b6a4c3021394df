"""Hash what is hashed already by further keys. Pure: `operations/rehash.py` and `operations/pull.py` read and write."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import polars as pl

from include.core import schemas
from include.core.feeds import ColumnType, Feed
from include.core.personal import HASH, SEALED, HashKey
from include.core.project import Project

_PART: dict[ColumnType, str] = {
    "string": r"[^-]*",
    "timestamp": r"[^-]*",
    "boolean": r"[^-]*",
    "integer": r"-?\d+",
    "date": r".{10}",
    "double": r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?",
}
"""What a column of a key looks like in an `entity_id`: see `storable.key_part`."""


@dataclass(frozen=True)
class Rotation:
    """The keys that rows are hashed with, and those that follow them."""

    before: HashKey
    after: HashKey

    def hashed(self, stored: str) -> str:
        """Return a stored identifier as all keys hash it.

        What is no hash was landed before its column was declared an identifier, so it is hashed by all of them.
        """
        further = self.after.after(self.before)
        return further.hashed(stored) if HASH.fullmatch(stored) else self.after.hashed(stored)

    def sealed(self, stored: str) -> str:
        """Return sealed text, sealed by the newest key; a text that was not sealed by the product stays."""
        plain = self.before.open(stored)
        return stored if plain == stored else self.after.seal(plain)

    def raw(self, feed: Feed, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows of a raw or quarantine table with identifiers hashed, and text sealed, by all keys."""
        public = [name for name, column in feed.kept.items() if column.data_class == "public"]
        sealed = [_mapped(rows, name, self.sealed, only=pl.col(name).str.starts_with(SEALED)) for name in public]
        return rows.with_columns(*sealed, *(_mapped(rows, name, self.hashed) for name in identifiers(feed)))


def clean(project: Project, feed: Feed, rows: pl.DataFrame, hashed: Callable[[str], str]) -> pl.DataFrame:
    """Return rows of a clean table with identifiers hashed further, and so the key of the entity."""
    rows = rows.with_columns(_mapped(rows, name, hashed) for name in identifiers(feed))
    if not schemas.has_entity(project, feed):
        return rows
    return rows.with_columns(schemas.entity_id(project)).select(rows.columns)


def identifiers(feed: Feed) -> list[str]:
    """Return the columns of a feed that are hashed."""
    return [name for name, column in feed.kept.items() if column.data_class == "identifier"]


def has_hashed_key(project: Project) -> bool:
    """Return whether the key of the project's entity has an identifier, so that each `entity_id` has a hash."""
    return not set(project.entity.key).isdisjoint(identifiers(project.feeds[project.entity.feed]))


def entity_ids(project: Project, ids: Iterable[str], hashed: Callable[[str], str]) -> dict[str, str]:
    """Map each `entity_id` to the one whose hashes are hashed further.

    Args:
        project: its entity has an identifier in its key.
        ids: as `schemas.entity_id` makes them; another text stays as it is.
        hashed: hashes a hash further.
    """
    feed = project.feeds[project.entity.feed]
    types = [feed.columns[name].type for name in project.entity.key]
    parts = [_PART[kind] for kind in types[:-1]] + [r".*"]
    form = re.compile("-".join(f"({part})" for part in parts), re.DOTALL)
    is_hash = [name in identifiers(feed) for name in project.entity.key]

    def further(entity_id: str) -> str:
        found = form.fullmatch(entity_id)
        if found is None:
            return entity_id
        pairs = zip(found.groups(), is_hash, strict=True)
        return "-".join(
            hashed(part) if of_identifier and HASH.fullmatch(part) else part for part, of_identifier in pairs
        )

    return {entity_id: further(entity_id) for entity_id in ids}


def _mapped(rows: pl.DataFrame, name: str, change: Callable[[str], str], *, only: pl.Expr | None = None) -> pl.Series:
    """Return a column of text with each value changed."""
    found = rows.filter(only)[name] if only is not None else rows[name]
    values = found.drop_nulls().unique().to_list()
    return rows[name].replace({value: change(value) for value in values}) if values else rows[name]
