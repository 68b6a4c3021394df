"""A table is changed once, and what it was before is gone, in folders and on S3."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from include.core.errors import DataError
from include.core.interval import Interval
from include.core.settings import Settings
from include.io import rewritten, storage
from include.io.tables import Scope, Tables
from tests.landing import places
from tests.s3 import on_s3

DAYS = Interval(start=date(2026, 3, 1), end=date(2026, 3, 2))
TABLE = "raw_shop__orders"
MARK = "hash_key:of a test"


@pytest.fixture(params=["folders", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    made = places(tmp_path)
    return on_s3(made, request.getfixturevalue("s3")) if request.param == "s3" else made


def write(settings: Settings, value: str) -> Tables:
    tables = Tables(settings)
    rows = pl.DataFrame([
        {"day": day, "delivery_id": f"d{day}", "_row": row, "who": f"{value}-{row}"}
        for day in DAYS.days
        for row in (1, 2)
    ])
    tables.replace(TABLE, rows, Scope(DAYS), sort_by=["day", "_row"])
    return tables


def louder(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("who").str.to_uppercase() + "!")


def people(tables: Tables) -> list[str]:
    return sorted(tables.scan(TABLE).collect()["who"].unique())


def contents(settings: Settings) -> str:
    """Return all bytes of the table's folder, log and statistics included."""
    filesystem, path = storage.filesystem(settings, f"{settings.tables}/{TABLE}")
    filesystem.invalidate_cache()
    found = [filesystem.cat_file(name) for name in filesystem.find(path)]
    return b"".join(found).decode("latin-1")


def test_a_change_with_a_mark_is_made_once(settings: Settings) -> None:
    write(settings, "ada")
    tables = write(settings, "eva")
    assert rewritten.rewrite(tables, TABLE, louder, MARK)
    version = tables.version(TABLE)
    assert not rewritten.rewrite(tables, TABLE, louder, MARK)
    assert (people(tables), tables.version(TABLE)) == (["EVA-1!", "EVA-2!"], version)
    rewritten.forget(settings, tables, TABLE)
    assert not rewritten.rewrite(tables, TABLE, louder, MARK)  # the mark outlives the entry of its commit
    assert rewritten.rewrite(tables, TABLE, louder, f"{MARK} later")
    assert people(tables) == ["EVA-1!!", "EVA-2!!"]


def test_what_a_table_was_before_is_in_none_of_its_files(settings: Settings) -> None:
    write(settings, "ada")
    tables = write(settings, "eva")
    assert all(name in contents(settings) for name in ("ada-1", "eva-1"))  # the log has them as statistics
    rewritten.rewrite(tables, TABLE, louder, MARK)
    rewritten.forget(settings, tables, TABLE)
    assert not any(name in contents(settings) for name in ("ada-1", "eva-1"))
    assert people(tables) == ["EVA-1!", "EVA-2!"]
    with pytest.raises(DataError, match=f"version 1 of table .*{TABLE} is gone: older versions were removed"):
        tables.scan(TABLE, 1)
    write(settings, "max")
    assert people(tables) == ["max-1", "max-2"]
    rewritten.forget(settings, tables, TABLE)
    rewritten.forget(settings, tables, TABLE)
    assert people(tables) == ["max-1", "max-2"]


def test_an_empty_table_forgets_too(settings: Settings) -> None:
    tables = write(settings, "ada")
    tables.replace(TABLE, lambda rows: rows.clear(), Scope(DAYS), sort_by=["day"])
    assert rewritten.rewrite(tables, TABLE, louder, MARK)
    rewritten.forget(settings, tables, TABLE)
    assert people(tables) == []
    assert "ada-1" not in contents(settings)


def test_a_table_is_removed_whole(settings: Settings) -> None:
    tables = write(settings, "ada")
    assert rewritten.names_of(settings, tables) == [TABLE]
    assert rewritten.remove(settings, tables, TABLE)
    assert not rewritten.remove(settings, tables, TABLE)
    assert rewritten.names_of(settings, tables) == []
    assert people(write(settings, "eva")) == ["eva-1", "eva-2"]
