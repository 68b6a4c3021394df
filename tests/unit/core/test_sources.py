"""SQL feeds: what their declaration may say, what a query binds, and that equal rows are equal bytes."""

import sqlite3
from collections.abc import Callable
from datetime import date
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql, sqlite

from include.core.errors import ConfigError
from include.core.extraction import checksum, in_order, key_of
from include.core.project import Project
from include.core.sources import Sql, for_sqlalchemy
from include.io.sources.blocks import failed

QUERY = "SELECT item_id, price, valid_on FROM prices WHERE valid_on = :day"
SNAPSHOT = {"kind": "snapshot", "day_column": None}


@pytest.fixture
def load(load_changed: Callable[..., Project]) -> Callable[..., Project]:
    """Load the project `drugstore` with a feed `prices` (None: without the key)."""

    def make(query: str = QUERY, source: dict[str, Any] | None = None, **keys: Any) -> Project:
        def change(declared: dict[str, Any]) -> None:
            feed = {
                "source": {"kind": "sql", "connection": "shop_db", "query": query, **(source or {})},
                "live_from": date(2026, 11, 1),
                "key": ["item_id"],
                "day_column": "valid_on",
                "columns": {
                    "item_id": {"type": "string", "class": "public"},
                    "price": {"type": "double", "class": "public"},
                    "valid_on": {"type": "date", "class": "public"},
                },
                **keys,
            }
            declared["feeds"]["prices"] = {key: value for key, value in feed.items() if value is not None}

        return load_changed("drugstore", change)

    return make


class TestDeclaration:
    @pytest.mark.parametrize(
        ("keys", "said"),
        [
            ({"path": "prices/{day}.csv"}, "path: a feed with a source is not read from files; remove the key"),
            ({"format": {"kind": "csv"}}, "format: a feed with a source is not read from files; remove the key"),
            ({"versions": "by_name"}, "versions: a feed with a source is not read from files; remove the key"),
            ({"source": None, "query": ""}, "query: it must be one SELECT"),
            ({"query": "DELETE FROM prices WHERE valid_on = :day"}, "query: it must be one SELECT"),
            ({"query": f"{QUERY}; SELECT 1"}, "query: it has several statements; write one SELECT"),
            ({"query": "SELECT 1 WHERE 1 = :dya"}, "query: it binds :dya; did you mean 'day'?"),
            ({"query": "SELECT * FROM prices"}, "source.query: it does not bind :day, so it gives the same rows"),
            ({"query": "SELECT * FROM prices WHERE ':day' < :as_of"}, "source.query: it does not bind :day"),
            ({"live_from": None}, "live_from: nothing says from when rows of past days count"),
            ({"source": {"immutable": True}}, "live_from: a query that binds :as_of or is immutable counts from"),
            ({"source": {"connection": "shop db"}}, "source.connection"),
            ({"source": {"timezone": "Berlin"}}, "no timezone 'Berlin'; did you mean 'Europe/Berlin'?"),
            ({"source": {"immutable": True}, "query": "SELECT 1", "live_from": None, **SNAPSHOT},
             "source.immutable: the query binds neither :day nor :as_of"),
            ({"query": "SELECT 1", **SNAPSHOT}, "one whose query binds nothing from its extraction; remove the key"),
        ],
    )  # fmt: skip
    def test_a_wrong_declaration_is_refused(
        self, load: Callable[..., Project], keys: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            load(**keys)
        assert said in str(caught.value)

    def test_a_feed_needs_files_or_a_source(self, load_changed: Callable[..., Project]) -> None:
        with pytest.raises(ConfigError, match="path: a feed needs the pattern of its files, or a `source`"):
            load_changed("drugstore", lambda declared: declared["feeds"]["plan"].pop("path"))

    def test_files_cannot_have_the_names_of_extractions(self, load_changed: Callable[..., Project]) -> None:
        def change(declared: dict[str, Any]) -> None:
            declared["feeds"]["plan"]["path"] = "sql/{day}/*.jsonl"
            declared["feeds"]["stores"] |= {"source": {"kind": "sql", "connection": "c", "query": "SELECT 1"}}
            del declared["feeds"]["stores"]["path"], declared["feeds"]["stores"]["format"]

        with pytest.raises(ConfigError, match=r"feeds.plan.path: deliveries that are extracted .* names sql/…"):
            load_changed("drugstore", change)

    def test_runs_wait_for_files_of_other_feeds_only(self, load: Callable[..., Project]) -> None:
        project, day = load(), date(2026, 11, 5)
        assert project.required(day) == {"plan": day, "prices": day}
        assert project.required_file_days(day) == [("plan", day)]
        assert (set(project.sql_feeds), project.connections) == ({"prices"}, ["shop_db"])

    def test_from_when_a_delivery_counts_follows_from_the_query(self, load: Callable[..., Project]) -> None:
        def claims(**keys: Any) -> tuple[bool, bool]:
            feed = load(**keys).feeds["prices"]
            assert feed.source is not None
            return feed.source.claims, feed.dated

        assert claims() == (False, True)
        assert claims(query=f"{QUERY} AND at <= :as_of", live_from=None) == (True, True)
        assert claims(source={"immutable": True}, live_from=None) == (True, True)
        assert claims(query="SELECT 1", live_from=None, **SNAPSHOT) == (False, False)
        project = load(query="SELECT 1", live_from=None, **SNAPSHOT)
        assert key_of("prices", project.feeds["prices"], date(2026, 11, 5)) == "sql/prices"


class TestParameters:
    @pytest.mark.parametrize(
        ("query", "binds", "compiled"),
        [
            ("SELECT 1 WHERE d = :day", {"day"}, "SELECT 1 WHERE d = ($1)"),
            ("SELECT 1 WHERE d = :day::date", {"day"}, "SELECT 1 WHERE d = ($1)::date"),
            ("SELECT d::date WHERE d=:day and e=:day;", {"day"}, "SELECT d::date WHERE d=($1) and e=($1)"),
            ("SELECT ':day', \"a:day\", $$:day$$, $t$:day$t$", set(), "SELECT ':day', \"a:day\", $$:day$$, $t$:day$t$"),
            (r"SELECT E'it\':s :day', '12:30:45', 'it''s :day', '\:day', ':a::b'", set(),
             r"SELECT E'it\':s :day', '12:30:45', 'it''s :day', '\:day', ':a::b'"),
            ("SELECT 1 -- :as_of; it's\n WHERE :day = d", {"day"}, "SELECT 1 -- :as_of; it's\n WHERE ($1) = d"),
            ("SELECT a[1:2] /* :x */ WHERE d <= :as_of", {"as_of"}, "SELECT a[1:2] /* :x */ WHERE d <= ($1)"),
            ("WITH x AS (SELECT 1) SELECT ';' FROM x", set(), "WITH x AS (SELECT 1) SELECT ';' FROM x"),
        ],
    )  # fmt: skip
    def test_only_what_is_a_parameter_is_bound(self, query: str, binds: set[str], compiled: str) -> None:
        assert Sql(kind="sql", connection="c", query=query).binds == binds
        text = sa.text(for_sqlalchemy(query)).compile(dialect=postgresql.dialect(paramstyle="numeric_dollar"))
        assert str(text) == compiled

    @given(st.text("':day\"\\-a $\n;", max_size=30))
    def test_text_within_quotes_reaches_the_database_as_it_is(self, text: str) -> None:
        literal = "'" + text.replace("'", "''") + "'"
        statement = sa.text(for_sqlalchemy(f"SELECT {literal}, :day")).compile(dialect=sqlite.dialect())
        with sqlite3.connect(":memory:") as connection:
            assert connection.execute(str(statement), ("x",)).fetchone() == (text, "x")


class TestBytes:
    texts = st.none() | st.text("ab:-1\n", max_size=4)
    rows = st.lists(st.tuples(texts, texts, texts), max_size=6)

    @given(rows, st.randoms())
    def test_equal_rows_have_equal_checksums_in_any_order_and_any_order_of_columns(
        self, rows: list[tuple[str | None, ...]], random: Any
    ) -> None:
        names = ["item_id", "price", "valid_on"]
        frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
        other = random.sample(rows, len(rows))
        shuffled = pl.DataFrame(other, schema=dict.fromkeys(names, pl.String), orient="row").select(names[::-1])
        assert checksum(in_order(frame, FEED)) == checksum(in_order(shuffled, FEED))

    @given(rows, rows)
    def test_other_rows_have_other_checksums(
        self, rows: list[tuple[str | None, ...]], others: list[tuple[str | None, ...]]
    ) -> None:
        names = dict.fromkeys(["item_id", "price", "valid_on"], pl.String)
        one, other = (in_order(pl.DataFrame(each, schema=names, orient="row"), FEED) for each in (rows, others))
        assert (checksum(one) == checksum(other)) == one.equals(other)


FEED: Any = type("Feed", (), {"key": ("item_id",)})()


class TestErrorsOfDrivers:
    """A driver that gives no SQLSTATE may put a value of a row into its text."""

    def test_without_a_code_the_text_is_not_shown(self) -> None:
        class ConversionError(Exception):
            pass

        text = "Conversion failed when converting the varchar value 'Mary Smith 1970-01-01'"
        assert "Mary" not in str(failed(ConversionError(), None, text, connecting=False))
        assert "ConversionError" in str(failed(ConversionError(), None, text, connecting=False))

    def test_of_sqlite_and_of_connecting_it_is(self) -> None:
        error = sqlite3.OperationalError("no such table: prices")
        assert "no such table: prices" in str(failed(error, None, str(error), connecting=False))
        assert "no route" in str(failed(OSError(), None, "no route to host", connecting=True))
