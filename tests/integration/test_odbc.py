"""docs/power-bi.md: what columns arrive as through ODBC, psycopg, pandas, and Arrow in DuckDB."""

import re
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa

from include.core.settings import Settings
from tools.stack import ROOT

PAGE = (ROOT / "docs" / "power-bi.md").read_text(encoding="utf-8")
MOMENT = datetime(2026, 3, 9, 5, 30, 0, 123456, tzinfo=UTC)
ROW = """
SELECT DATE '2026-03-09' AS day, 2 AS horizon, 3::bigint AS ferry, 0.25::float8 AS score, NULL::float8 AS error,
    true AS correct, 'Ærø' || repeat('x', 9000) AS entity_id, TIMESTAMPTZ '2026-03-09 05:30:00.123456+00' AS as_of,
    jsonb_build_object('a', repeat('y', 300)) AS probabilities
"""
TEXT, JSON = "Ærø" + "x" * 9000, '{"a": "' + "y" * 300 + '"}'


def through_odbc(url: sa.URL, more: str) -> dict[str, Any]:
    import pyodbc

    server = f"Server={url.query['host']};Database={url.database};UID={url.username}"
    connection = pyodbc.connect(f"Driver={{PostgreSQL Unicode}};{server};{more}")
    try:
        cursor = connection.execute(ROW)
        names = [column[0] for column in cursor.description]
        return dict(zip(names, cursor.fetchone(), strict=True))
    finally:
        connection.close()


def test_types_through_odbc_with_and_without_the_settings_of_the_page(settings: Settings) -> None:
    url = sa.make_url(settings.database_url.get_secret_value())
    same = {"day": date(2026, 3, 9), "horizon": 2, "ferry": 3, "score": 0.25, "error": None}
    same |= {"entity_id": TEXT, "probabilities": JSON}
    plain = through_odbc(url, "ConnSettings=SET TIME ZONE 'UTC'")
    assert plain == {**same, "correct": "1", "as_of": MOMENT.replace(tzinfo=None)}
    found = re.search(r"SSLmode=verify-full;(BoolsAsChar=.*)$", PAGE, re.MULTILINE)
    assert found is not None
    local = datetime.fromisoformat("2026-03-09T01:30:00.123456")
    as_the_page_says = through_odbc(url, found[1])
    assert as_the_page_says == {**same, "correct": True, "as_of": local}
    assert type(as_the_page_says["correct"]) is bool  # 1 == True


def test_types_through_psycopg_pandas_and_arrow_in_duckdb(settings: Settings) -> None:
    import adbc_driver_postgresql.dbapi as adbc
    import duckdb
    import pandas as pd
    import psycopg

    url = settings.database_url.get_secret_value()
    with psycopg.connect(url) as connection:
        row = connection.execute(ROW.encode()).fetchone()
    assert row == (date(2026, 3, 9), 2, 3, 0.25, None, True, TEXT, MOMENT, {"a": "y" * 300})

    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
    types = {name: str(kind) for name, kind in pd.read_sql(ROW, engine).dtypes.items()}
    assert types | {"error": "-"} == {
        "day": "object", "horizon": "int64", "ferry": "int64", "score": "float64", "error": "-", "correct": "bool",
        "entity_id": "object", "as_of": "datetime64[ns, UTC]", "probabilities": "object",
    }  # fmt: skip

    with adbc.connect(url) as arrow, arrow.cursor() as cursor:
        cursor.execute(ROW)
        predictions = cursor.fetch_arrow_table()
    duck = duckdb.connect()
    duck.register("predictions", predictions)
    described = {name: kind for name, kind, *_ in duck.sql("DESCRIBE SELECT * FROM predictions").fetchall()}
    assert described == {
        "day": "DATE", "horizon": "INTEGER", "ferry": "BIGINT", "score": "DOUBLE", "error": "DOUBLE",
        "correct": "BOOLEAN", "entity_id": "VARCHAR", "as_of": "TIMESTAMP WITH TIME ZONE", "probabilities": "JSON",
    }  # fmt: skip
    found = duck.sql("SELECT as_of AT TIME ZONE 'UTC' FROM predictions").fetchall()
    assert found == [(MOMENT.replace(tzinfo=None),)]


def test_a_comment_is_read_as_the_page_says(settings: Settings) -> None:
    found = re.search(r"`(SELECT col_description.*?)`", PAGE)
    assert found is not None
    engine = sa.create_engine(
        sa.make_url(settings.database_url.get_secret_value()).set(drivername="postgresql+psycopg2"),
        poolclass=sa.NullPool,
    )
    with engine.connect() as connection:
        connection.execute(sa.text("SET ROLE reader"))
        assert str(connection.exec_driver_sql(found[1]).scalar()).startswith("Run date")
