"""Hashing on: an `entity_id` and the rows of tables become what they would be with all keys from the start."""

import json
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.core import rehash, schemas
from include.core.personal import HashKey, protect
from include.core.project import Project
from include.core.rehash import Rotation

OLD, NEW = "the old key of the tests, which has leaked", "the new key of the tests, known to nobody yet"
BEFORE, AFTER = HashKey.of(OLD), HashKey.of(json.dumps([OLD, NEW]))
ROTATION = Rotation(BEFORE, AFTER)
TYPES = ("string", "integer", "double", "date", "timestamp", "boolean")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(alphabet="ab-%0f \n", max_size=6) | st.just("0123456789abcdef" * 2),
    "integer": st.integers(min_value=-(2**63), max_value=2**63 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "date": st.dates(min_value=date(1000, 1, 1)),
    "timestamp": st.datetimes(min_value=datetime(1000, 1, 1)),  # noqa: DTZ001 (hypothesis wants none)
    "boolean": st.booleans(),
}


def keyed(load_changed: Callable[..., Project], types: tuple[str, ...], at: int) -> Project:
    """Return a project whose entity's key has columns of these types, and an identifier at a place."""
    columns = {f"k{n}": {"type": kind, "class": "public"} for n, kind in enumerate(types)}
    names = [*columns]
    names.insert(at, "customer")
    columns["customer"] = {"type": "string", "class": "identifier", "format": ".*"}

    def change(declared: dict[str, Any]) -> None:
        declared["feeds"]["plan"]["columns"] = {"delivery_date": {"type": "date", "class": "public"}, **columns}
        declared["feeds"]["plan"]["key"] = names
        declared["entity"] = {"feed": "plan", "key": names, "public": []}

    return load_changed("drugstore", change)


@pytest.mark.parametrize("at", [0, 1, 3, 6])
def test_an_entity_id_becomes_the_one_with_all_keys(load_changed: Callable[..., Project], at: int) -> None:
    project = keyed(load_changed, TYPES, at)
    feed = project.feeds["plan"]

    @settings(max_examples=150, deadline=None)
    @given(st.tuples(*VALUES.values()), st.text(alphabet="Ada Lovelace-", min_size=1, max_size=8))
    def becomes(values: tuple[Any, ...], customer: str) -> None:
        row = {f"k{n}": value for n, value in enumerate(values)} | {"customer": BEFORE.hashed(customer)}
        shape = {name: schemas.dtype(column) for name, column in feed.kept.items() if name != "delivery_date"}
        rows = pl.DataFrame([row]).select(pl.col(name).cast(kind) for name, kind in shape.items())
        old, new = (
            each.select(schemas.entity_id(project)).item()
            for each in (rows, rows.with_columns(customer=pl.lit(AFTER.hashed(customer))))
        )
        assert rehash.entity_ids(project, [old], ROTATION.hashed) == {old: new}

    becomes()


def test_a_project_without_an_identifier_in_its_key_has_no_hashes_in_its_ids(
    load_changed: Callable[..., Project],
) -> None:
    assert not rehash.has_hashed_key(load_changed("drugstore", lambda declared: None))
    assert rehash.has_hashed_key(keyed(load_changed, (), 0))


def test_raw_rows_become_those_with_all_keys(load_changed: Callable[..., Project]) -> None:
    feed = load_changed("drugstore", lambda declared: None).feeds["sales"]
    landed = pl.DataFrame({
        "item_id": ["i1", "sealed:of a supplier", None],
        "sale_date": ["2026-11-05", "Erika Mustermann", "2026-11-05"],
        "cashier": ["Ada Lovelace", "no name at all", None],
        "pieces": ["2,5", "0170 5550199", "sealed:"],
    })
    assert ROTATION.raw(feed, protect(feed, landed, BEFORE)).equals(protect(feed, landed, AFTER))


def test_a_value_from_before_its_column_was_an_identifier_is_hashed_by_all_keys() -> None:
    assert ROTATION.hashed("Ada Lovelace") == AFTER.hashed("Ada Lovelace")
    assert ROTATION.hashed(BEFORE.hashed("Ada Lovelace")) == AFTER.hashed("Ada Lovelace")
