"""Plant personal data in every column of a feed, and look for it wherever something is stored or shown.

A value is not planted where it may be: in a public column whose declared form it has.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from include.core.base import Record
from include.core.feeds import Column, Feed
from include.core.schemas import formed
from include.core.settings import Settings
from include.io import postgres
from include.runner.run import run

PLANTED = {
    "name": "Erika Mustermann",
    "phone": "+49 170 5550199",
    "phone with points": "0170.555.0199",
    "e-mail": "erika@planted.example",
    "IBAN": "DE89370400440532013000",
    "IBAN with spaces": "DE89 3704 0044 0532 0130 00",
}
NEEDLES = ("mustermann", "5550199", "555.0199", "planted.example", "DE893704", "DE89 3704")
"""What is looked for: a part of each planted value, so that a value that was cut short is found too."""


class Told:
    """What a run told people: log lines, errors, and the records that go through XCom."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        self._caplog, self.said = caplog, list[str]()

    def run(self, step: str, *given: Any, **named: Any) -> Any:
        """Run a step; the text of an error is a message too."""
        try:
            record = run(step, *given, **named)
        except Exception as error:
            self.said.append(f"{step}: {error!r} {error.__cause__!r} {getattr(error, 'by_day', '')}")
            raise
        assert isinstance(record, Record)
        self.said.append(f"{step}: {record.model_dump_json()}")
        return record

    def texts(self) -> list[tuple[str, str]]:
        return [("the log", self._caplog.text), *(("a message", said) for said in self.said)]


def plant(
    feed: Feed, right: Mapping[str, str], key: tuple[str, list[str]], identifier: str, times: int = 1
) -> pl.DataFrame:
    """Return rows as text: one for each column and planted value, and so many times as many right ones.

    Args:
        feed: the declaration.
        right: a value for each column.
        key: the column of the key that differs from row to row, and enough values for it.
        identifier: a value that has the form of an identifier of the project; it is planted too.
        times: how many right rows there are for each planted one.
    """
    rows = [
        {column: text}
        for column, declared in feed.columns.items()
        for text in (*PLANTED.values(), identifier)
        if not may_be(declared, feed, text)
    ]
    name, values = key
    all_rows = [*rows, *({} for _ in rows * times)]
    some = [{**right, name: value, **row} for value, row in zip(values, all_rows, strict=False)]
    assert len(some) == len(all_rows)
    assert {column for row in rows for column in row} == set(feed.columns) - free_text(feed)
    return pl.DataFrame(some, schema=dict.fromkeys(feed.columns, pl.String()))


def free_text(feed: Feed) -> set[str]:
    """Return the public columns in which any text has the declared form."""
    return {
        name
        for name, column in feed.columns.items()
        if (column.data_class, column.type, column.format) == ("public", "string", None)
    }


def may_be(column: Column, feed: Feed, text: str) -> bool:
    """Return whether a text may be stored and shown as it is."""
    if column.data_class != "public":
        return False
    return pl.select(formed(pl.lit(text), column, feed.format)).item() is not None


def stored(settings: Settings, *databases: str, besides: tuple[Path, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield the name and text of each file below the places but landing, and of each table of the databases.

    The text of a Parquet file is that of its values and of its bytes, in which statistics are.
    """
    for folder in (Path(settings.tables), Path(settings.artifacts), Path(settings.journal), *besides):
        for path in folder.rglob("*"):
            if path.is_file():
                yield str(path), path.read_bytes().decode("latin-1")
                if path.suffix == ".parquet":
                    rows = pl.read_parquet(path, hive_partitioning=False)
                    yield f"rows of {path}", json.dumps(rows.to_dicts(), default=str, ensure_ascii=False)
    for url in databases:
        engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
        with engine.connect() as connection:
            names = sa.text(
                "SELECT schemaname, tablename FROM pg_tables "
                "WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'shop')"
            )
            for schema, table in connection.execute(names).all():
                rows = connection.execute(sa.text(f'SELECT t::text FROM "{schema}"."{table}" t')).scalars()
                yield f"table {table}", "\n".join(rows)
        engine.dispose()


def shared_database(settings: Settings) -> str:
    """Return the URL of the shared database, with its password."""
    return settings.database_url.get_secret_value()


def assert_nothing_planted(texts: Iterator[tuple[str, str]] | list[tuple[str, str]], *identifiers: str) -> None:
    """Raise if a planted value is in one of the texts."""
    needles, looked_at = [needle.lower() for needle in (*NEEDLES, *identifiers)], 0
    for where, text in texts:
        looked_at += 1
        lower = text.lower()
        for needle in needles:
            at = lower.find(needle)
            assert at < 0, f"{needle} is in {where}: …{text[max(at - 80, 0) : at + 80]}…"
    assert looked_at


def quality_results(settings: Settings) -> str:
    """Return all quality results as text."""
    with postgres.connection.engine(settings).connect() as connection:
        return "\n".join(map(str, connection.execute(sa.text("SELECT t::text FROM quality_results t")).scalars()))
