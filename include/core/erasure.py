"""Which rows belong to an erased person, and what the journal says of erased persons. Pure.

An entry of the kind `erasure` has the hash of an identifier, by which later deliveries recognise the person, and how
many rows of each delivery were removed. From that entry on, the person's rows count nowhere: who reads raw rows leaves
them out, so that a table that is restored from a backup brings nobody back.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Self

import polars as pl

from include.core.errors import ConfigError
from include.core.feeds import HORIZON, Feed
from include.core.formats import values
from include.core.personal import KEY, SEALED, HashKey
from include.core.schemas import formed


@dataclass(frozen=True)
class Erasures:
    """The erased persons of a project.

    Attributes:
        hashes: sequence number of the entry, by the hash of the identifier.
        keys: fingerprint of the keys, by the hash that they made.
        rows: how many rows of each delivery were removed.
    """

    hashes: Mapping[str, int] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: pl.DataFrame) -> Self:
        """Return what the entries of the journal say (columns of `journal.ENTRIES`)."""
        found = entries.filter(pl.col("kind") == "erasure").select("sequence", "subject", "entry").rows()
        rows, keys = Counter[str](), dict[str, str]()
        for _, subject, text in found:
            entry = json.loads(text)
            rows.update(entry["rows"])
            keys[subject] = entry["hash_key"]
        return cls({subject: sequence for sequence, subject, _ in reversed(found)}, keys, dict(rows))

    def under(self, key: HashKey) -> Self:
        """Return the same with the hashes that the key makes now: later keys of a ring hash earlier hashes on.

        Raises:
            ConfigError: an erased person would not be recognised by this key.
        """
        hashes = {self._ever(hashed, key)[-1]: sequence for hashed, sequence in self.hashes.items()}
        return type(self)(hashes, dict.fromkeys(hashes, key.fingerprint), self.rows)

    def ever(self, key: HashKey) -> list[str]:
        """Return the hashes of the entries, and what they became with each later key: a rotation leaves some texts.

        Raises:
            ConfigError: see `under`.
        """
        return [each for hashed in self.hashes for each in self._ever(hashed, key)]

    def _ever(self, hashed: str, key: HashKey) -> list[str]:
        earlier = key.until(self.keys[hashed])
        if earlier is None:
            raise ConfigError(
                f"{KEY} is another one than that of erased persons ({self.keys[hashed]}), so they would not be "
                "recognised and would come back. Put the old key back: docs/runbooks/hash-key.md"
            )
        return [hashed, *key.after(earlier).each_hash(hashed)]


def without_erased(feed: Feed, records: pl.DataFrame, erased: Erasures, key: HashKey) -> pl.DataFrame:
    """Return rows as delivered, with identifiers in plain text, without those of erased persons.

    A row is a person's if the identifier is in a column of identifiers, or in a public column in which it is malformed,
    as in a file with swapped columns.
    """
    if not erased.hashes:
        return records
    hashes = erased.under(key).hashes
    theirs = pl.lit(value=False)
    for name, column in feed.kept.items():
        written = values.present(pl.col(name), feed.format)
        if column.data_class == "public":
            written = pl.when(formed(written, column, feed.format).is_null()).then(written)
        texts = records.select(written).to_series().drop_nulls().unique()
        found = [text for text in texts if key.hashed(text) in hashes]
        theirs |= written.is_in(found).fill_null(value=False)
    return records.filter(~theirs)


def without_erased_hashes(feed: Feed, raw: pl.DataFrame, erased: Erasures, key: HashKey) -> pl.DataFrame:
    """Return rows of a raw table, with personal data protected, without those of erased persons."""
    if not erased.hashes:
        return raw
    return raw.filter(~Person(tuple(erased.under(key).hashes), key).rows_of(raw.select(*feed.kept)))


def identifiers(feed: Feed) -> list[str]:
    """Return the columns of class `identifier`."""
    return [name for name, column in feed.kept.items() if column.data_class == "identifier"]


@dataclass(frozen=True)
class Person:
    """How rows of tables are recognised as those of some persons.

    Attributes:
        hashes: hashes of their identifiers. A row is theirs if one of its texts has one of them in it, as the key of an
            entity has, or if it is the sealed text of the identifier.
        key: the hash key.
        entities: target day and `entity_id` of entities that are theirs, although their key has no identifier.
    """

    hashes: tuple[str, ...]
    key: HashKey
    entities: frozenset[tuple[date, str]] = frozenset()

    def rows_of(self, rows: pl.DataFrame, day: date | None = None) -> pl.Series:
        """Return which rows are theirs.

        Args:
            rows: some rows of a table; only columns of text are looked at.
            day: their run date, if the table has a row for each entity.
        """
        theirs = pl.repeat(value=False, n=pl.len(), dtype=pl.Boolean)
        for name, kind in rows.schema.items():
            if kind == pl.String and self.hashes:
                text = pl.col(name)
                theirs |= text.str.contains_any([*self.hashes]).fill_null(value=False)
                sealed = rows[name].filter(rows[name].str.starts_with(SEALED)).unique()
                found = [each for each in sealed if self.key.hashed(self.key.open(each).strip()) in self.hashes]
                theirs |= text.is_in(found).fill_null(value=False)
        if day is not None and "entity_id" in rows.columns:
            horizon = pl.col(HORIZON).fill_null(0) if HORIZON in rows.columns else pl.lit(0)
            by_horizon: dict[int, list[str]] = {}
            for of_day, entity in self.entities:
                by_horizon.setdefault((of_day - day).days, []).append(entity)
            for ahead, ids in by_horizon.items():
                if ahead >= 0:
                    theirs |= (horizon == ahead) & pl.col("entity_id").is_in(ids)
        return rows.select(theirs.alias("theirs")).to_series()
