"""Protect personal data with the hash key. Pure: which columns are protected is in the declaration of the feed.

An identifier becomes a keyed hash, which joins rows and cannot be turned back. Text of a public column that does not
have the declared form may be the value of another column. It is sealed: encrypted, so that nobody reads it in a table,
and a correction of the declaration can still make a value of it.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Any, Self

import polars as pl

from include.core.errors import ConfigError
from include.core.feeds import Column, Feed
from include.core.formats import values
from include.core.schemas import formed

MIN_KEY_BYTES = 32
MIN_KEY_CHARACTERS = 10
"""How many different characters a key has; one of random hexadecimal digits practically always has more."""

SEALED = "sealed:"
"""How sealed text begins. Only text that was sealed with the key can be opened, so a supplier may write it too."""

KEY = "the hash key (Airflow connection nightly_hash_key, or NIGHTLY_HASH_KEY)"
MAKE_ONE = "python -c 'import secrets; print(secrets.token_hex(32))'"


@dataclass(frozen=True)
class HashKey:
    """The key that identifiers are hashed with. It is never printed."""

    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the key.

        Raises:
            ConfigError: it is empty, too short, or so uniform that it could be guessed.
        """
        size = len(text.encode())
        if not text.strip():
            wrong = "is empty"
        elif size < MIN_KEY_BYTES:
            wrong = f"has {size} bytes, and at least {MIN_KEY_BYTES} are needed"
        elif len(set(text)) < MIN_KEY_CHARACTERS or text in (text + text)[1:-1]:
            wrong = "repeats itself"
        else:
            return cls(text.encode())
        raise ConfigError(
            f"{KEY} {wrong}, so identifiers could be guessed from their hashes. Nothing was hashed. If deliveries were "
            f"landed before, put the key of that time back; else make one: {MAKE_ONE}"
        )

    @property
    def fingerprint(self) -> str:
        """Return a text by which the key is recognised, and from which it cannot be computed."""
        return self._keyed("fingerprint of the hash key").hex()[:32]

    def hashed(self, identifier: str) -> str:
        """Return the HMAC-SHA256 of an identifier (first 128 bits, hex)."""
        return self._keyed(identifier).hex()[:32]

    def seal(self, text: str) -> str:
        """Encrypt a text; equal texts are equal afterwards, so that a delivery that is landed again has equal rows."""
        return SEALED + base64.urlsafe_b64encode(self._cipher().encrypt(f" {text}".encode(), None)).decode()

    def open(self, text: str) -> str:
        """Return the text that was sealed, or the same text if it was not sealed with this key."""
        from cryptography.exceptions import InvalidTag

        if not text.startswith(SEALED):
            return text
        try:
            sealed = base64.urlsafe_b64decode(text.removeprefix(SEALED))
            return str(self._cipher().decrypt(sealed, None).decode())[1:]
        except (InvalidTag, ValueError):
            return text

    def _cipher(self) -> Any:
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        return AESSIV(self._keyed("sealed text"))

    def _keyed(self, text: str) -> bytes:
        return hmac.new(self.secret, text.encode(), hashlib.sha256).digest()


def protect(feed: Feed, records: pl.DataFrame, key: HashKey) -> pl.DataFrame:
    """Hash identifiers, and seal text of public columns that does not have the declared form.

    `_malformed` names the identifiers of a row that had a wrong format. Raw tables have no sensitive columns.
    """
    identifiers = {name: column for name, column in feed.kept.items() if column.data_class == "identifier"}
    records = records.with_columns(values.present(pl.col(name), feed.format) for name in identifiers)
    malformed: list[pl.Expr] = [pl.lit(None, pl.String())]
    hashed: list[pl.Expr] = []
    for name, column in identifiers.items():
        written = records[name].drop_nulls().unique().to_list()
        wrong = [value for value in written if not column.has_form(value)]
        malformed.append(pl.when(pl.col(name).is_in(wrong)).then(pl.lit(name)))
        keyed = {value: key.hashed(value) for value in written}
        hashed.append(pl.col(name).replace_strict(keyed, default=None, return_dtype=pl.String()))
    joined = pl.concat_str(malformed, separator=",", ignore_nulls=True).replace("", None)
    sealed = [
        _sealed(records[name], column, feed, key) for name, column in feed.kept.items() if name not in identifiers
    ]
    return records.with_columns(joined.alias("_malformed"), *hashed, *sealed)


def opened(feed: Feed, raw: pl.DataFrame, key: HashKey) -> pl.DataFrame:
    """Return rows of a raw table with the text as it was landed, but for identifiers."""
    names = [name for name, column in feed.kept.items() if column.data_class == "public"]
    found = {name: raw[name].filter(raw[name].str.starts_with(SEALED)).unique() for name in names}
    plain = {name: {text: key.open(text) for text in texts} for name, texts in found.items()}
    return raw.with_columns(pl.col(name).replace(texts) for name, texts in plain.items() if texts)


def _sealed(texts: pl.Series, column: Column, feed: Feed, key: HashKey) -> pl.Series:
    text = pl.col(texts.name)
    wrong = values.present(text, feed.format).is_not_null() & formed(text, column, feed.format).is_null()
    found = texts.to_frame().filter(wrong).to_series().unique()
    return texts.replace({value: key.seal(value) for value in found}) if found.len() else texts
