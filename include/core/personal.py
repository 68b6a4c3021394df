"""Protect personal data with the hash key. Pure: which columns are protected is in the declaration of the feed.

An identifier becomes a keyed hash, which joins rows and cannot be turned back. Text of a public column that does not
have the declared form may be the value of another column. It is sealed: encrypted, so that nobody reads it in a table,
and a correction of the declaration can still make a value of it.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Collection
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


HASH = re.compile(r"[0-9a-f]{32}")
"""The form of a hashed identifier."""

PROTECTED = f"{HASH.pattern}|{SEALED}"
"""A regular expression that finds protected data in a text: a hash of an identifier, alone or as a part, or a seal."""


@dataclass(frozen=True)
class HashKey:
    """The keys that identifiers are hashed with, one after the other, the oldest first. They are never printed.

    Usually it is one key. After each rotation (`cli rehash`) it is one more: what was hashed by the keys before is
    hashed by the new one, H(new, H(old, identifier)), so that nobody needs the identifiers again.
    """

    secrets: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the key of a text, or the keys of a text that is a JSON list, such as `["old key", "new key"]`.

        Raises:
            ConfigError: one is empty, too short, or so uniform that it could be guessed, or comes twice.
        """
        keys = _listed(text)
        for number, key in enumerate(keys, 1):
            wrong = _weakness(key) or ("comes twice" if key in keys[: number - 1] else None)
            if wrong:
                which = "" if len(keys) == 1 else f", key {number} of {len(keys)},"
                raise ConfigError(
                    f"{KEY}{which} {wrong}, so identifiers could be guessed from their hashes. Nothing was hashed. If "
                    f"deliveries were landed before, put the key of that time back; else make one: {MAKE_ONE}"
                )
        return cls(tuple(key.encode() for key in keys))

    @property
    def text(self) -> str:
        """Return the text that `of` reads. It is secret."""
        keys = [secret.decode() for secret in self.secrets]
        return keys[0] if len(keys) == 1 else json.dumps(keys)

    def continued(self, key: str) -> Self:
        """Return these keys and one more."""
        return type(self)((*self.secrets, key.encode()))

    @property
    def fingerprint(self) -> str:
        """Return a text by which the keys are recognised, and from which they cannot be computed.

        Further keys continue it as they continue a hash.
        """
        return self.hashed(_FINGERPRINT)

    def until(self, fingerprint: str) -> Self | None:
        """Return the first keys, up to those that have this fingerprint; None if no keys have it."""
        rings = (type(self)(self.secrets[:count]) for count in range(1, len(self.secrets) + 1))
        return next((ring for ring in rings if ring.fingerprint == fingerprint), None)

    def after(self, earlier: "HashKey") -> Self:
        """Return the keys that follow those of an earlier time. What these had hashed they hash further."""
        return type(self)(self.secrets[len(earlier.secrets) :])

    def hashed(self, identifier: str) -> str:
        """Return the HMAC-SHA256 of an identifier by each key in turn (each time the first 128 bits, hex)."""
        for secret in self.secrets:
            identifier = _keyed(secret, identifier).hex()[:32]
        return identifier

    def each_hash(self, identifier: str) -> list[str]:
        """Return the hash by the first key, by the first two, and so on: those that it had before each rotation."""
        return [type(self)(self.secrets[:count]).hashed(identifier) for count in range(1, len(self.secrets) + 1)]

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

        return AESSIV(_keyed(self.secrets[-1], "sealed text"))


_FINGERPRINT = "fingerprint of the hash key"


def _keyed(secret: bytes, text: str) -> bytes:
    return hmac.digest(secret, text.encode(), hashlib.sha256)


def _listed(text: str) -> list[str]:
    """Return the keys of a text: those of a JSON list, or the text itself."""
    if not text.startswith("["):
        return [text]
    try:
        keys = json.loads(text)
    except ValueError:
        keys = None
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) for key in keys):
        raise ConfigError(f'{KEY} begins with [ and is no JSON list of keys, such as ["old key", "new key"]')
    return keys


def _weakness(key: str) -> str | None:
    """Say why a key could be guessed; None if it could not."""
    size = len(key.encode())
    if not key.strip():
        return "is empty"
    if size < MIN_KEY_BYTES:
        return f"has {size} bytes, and at least {MIN_KEY_BYTES} are needed"
    if len(set(key)) < MIN_KEY_CHARACTERS or key in (key + key)[1:-1]:
        return "repeats itself"
    return None


def protect(feed: Feed, records: pl.DataFrame, key: HashKey, columns: Collection[str] | None = None) -> pl.DataFrame:
    """Hash identifiers, and seal text of public columns that does not have the declared form.

    `_malformed` names the identifiers of a row that had a wrong format. Raw tables have no sensitive columns.

    Args:
        feed: the declaration.
        records: text as delivered.
        key: the hash key.
        columns: those to protect, all by default; the others stay as they are.
    """
    kept = {name: column for name, column in feed.kept.items() if columns is None or name in columns}
    identifiers = {name: column for name, column in kept.items() if column.data_class == "identifier"}
    records = records.with_columns(values.present(pl.col(name), feed.format) for name in identifiers)
    malformed: list[pl.Expr] = [pl.lit(None, pl.String())]
    hashed: list[pl.Expr] = []
    for name, column in identifiers.items():
        written = records[name].drop_nulls().unique().to_list()
        wrong = column.without_form(written)
        malformed.append(pl.when(pl.col(name).is_in(wrong)).then(pl.lit(name)))
        keyed = {value: key.hashed(value) for value in written}
        hashed.append(pl.col(name).replace_strict(keyed, default=None, return_dtype=pl.String()))
    joined = pl.concat_str(malformed, separator=",", ignore_nulls=True).replace("", None)
    sealed = [_sealed(records[name], column, feed, key) for name, column in kept.items() if name not in identifiers]
    return records.with_columns(joined.alias("_malformed"), *hashed, *sealed)


def has_sealed_text(feed: Feed) -> pl.Expr:
    """Return whether a row of a raw table has text that may be sealed; never null."""
    sealed = [pl.col(name).str.starts_with(SEALED).fill_null(value=False) for name in _public(feed)]
    return pl.any_horizontal(pl.repeat(value=False, n=pl.len(), dtype=pl.Boolean), *sealed)


def opened(feed: Feed, raw: pl.DataFrame, key: HashKey) -> pl.DataFrame:
    """Return rows of a raw table with the text as it was landed, but for identifiers."""
    found = {name: raw[name].filter(raw[name].str.starts_with(SEALED)).unique() for name in _public(feed)}
    plain = {name: {text: key.open(text) for text in texts} for name, texts in found.items()}
    return raw.with_columns(pl.col(name).replace(texts) for name, texts in plain.items() if texts)


def _public(feed: Feed) -> list[str]:
    return [name for name, column in feed.kept.items() if column.data_class == "public"]


def _sealed(texts: pl.Series, column: Column, feed: Feed, key: HashKey) -> pl.Series:
    if column.type == "string" and column.format is None:
        return texts  # any text has the form
    text = pl.col(texts.name)
    wrong = values.present(text, feed.format).is_not_null() & formed(text, column, feed.format).is_null()
    found = texts.unique().to_frame().filter(wrong).to_series()
    return texts.replace({value: key.seal(value) for value in found}) if found.len() else texts
