"""Markup, formulas and control characters from outside are shown as text in every page, log line, message and view."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
import yaml

from include.core.errors import DataError
from include.core.feeds import Feed
from include.core.interval import Interval
from include.core.log_lines import protect_logs
from include.core.printable import INDENT, is_printable
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres
from include.runner.run import run
from tests.integration.drugstore import moment, put
from tests.integration.shop import PostgreSQL
from tests.landing import rows_of
from tests.pages import BREAKING_OUT, CONTROL, FORMULA, HOSTILE, MARKUP, RICH, Structure, assert_complete_in_itself
from tests.planting import Told

pytestmark = pytest.mark.timeout(600)

DAY = date(2026, 11, 12)
SALES_DAY = DAY - timedelta(days=7)
NIGHT = Interval.of(DAY)
NAMES = ("<img src=x onerror=alert(1)>", "=cmd|' C'!A1", "[red]x[\u2044red]", "&lt;b&gt;_*x*_")
"""Names of files that are landed."""
REFUSED = ("a\n12:00:00 refused: nothing", "a\x1b[2K", "a\u202efdp", "a\u200bb", "a\u009bm", "a\u3164")
"""Names of files that are refused."""
TEXT = {"type": "string", "class": "public", "format": "(?s).*"}
SQL = "SELECT item_id, price, valid_on, note FROM shop.hostile WHERE valid_on_day = :day ORDER BY item_id"


def with_notes(declared: dict[str, Any]) -> None:
    """Add a text column that may have any form to each feed, and a feed that is extracted."""
    public = {"class": "public"}
    declared["feeds"]["prices"] = {
        "source": {"kind": "sql", "connection": "shop_db", "query": SQL},
        "live_from": date(2026, 11, 1),
        "key": ["item_id"],
        "day_column": "valid_on",
        "columns": {
            "item_id": {"type": "string", "format": "[a-z0-9-]+", **public},
            "price": {"type": "double", **public},
            "valid_on": {"type": "date", **public},
        },
    }
    for feed in declared["feeds"].values():
        feed["columns"]["note"] = TEXT


def expect(project: Project, at_most: float, quarantining: str) -> None:
    """Declare rules about the text: some show a value, some an example of a row, some a list of values."""
    share: dict[str, Any] = {
        "expect": "share_of_quarantined_rows_to_be_at_most",
        "max_value": at_most,
        "severity": "critical",
    }
    by_row: list[dict[str, Any]] = [
        {"expect": "column_values_to_not_match_regex", "regex": "img"},
        {"expect": "column_values_to_not_be_in_set", "value_set": list(HOSTILE)},
    ]
    others: list[dict[str, Any]] = [
        {"expect": "column_most_common_value_to_be_in_set", "value_set": [MARKUP[::-1]], "notes": MARKUP},
        {"expect": "column_distinct_values_to_equal_set", "value_set": [CONTROL], "description": RICH},
        {"expect": "column_value_lengths_to_equal", "value": 1},
    ]
    rules = [share]
    rules += [{**rule, "column": "note", "severity": quarantining} for rule in by_row]
    rules += [{**rule, "column": "note", "severity": "warning"} for rule in others]
    path = project.folder / "expectations.yaml"
    path.write_text(yaml.safe_dump(dict.fromkeys(project.feeds, rules)), encoding="utf-8")


def hostile_rows(
    feed: Feed, right: dict[str, str], key: str, values: list[str], texts: tuple[str, ...]
) -> pl.DataFrame:
    """Return a row for each column and hostile text, and rows with the most common one."""
    rows = [{column: text} for column in feed.columns for text in texts if column != key]
    rows += [{"note": MARKUP}] * 20 + [{key: text} for text in texts]
    columns = dict.fromkeys(feed.columns, pl.String())
    return pl.DataFrame([{**right, key: values[n], **row} for n, row in enumerate(rows)], schema=columns)


def deliver(project: Project, settings: Settings) -> Settings:
    """Deliver JSON lines, CSV and Parquet, and rows of a query, with hostile values, headers and names."""
    at, feeds = moment(DAY - timedelta(days=1), 20), project.feeds
    items, numbers = [f"i{n}" for n in range(100)], [str(n) for n in range(1, 100)]
    lines = HOSTILE
    in_csv = (MARKUP, BREAKING_OUT, FORMULA, RICH, CONTROL.replace("\r", ""))
    plan = hostile_rows(
        feeds["plan"],
        {"item_id": "", "store_id": "1", "delivery_date": str(DAY), "planned": "7", "note": "x"},
        "item_id", items, lines,
    )  # fmt: skip
    put(settings, f"plan/{DAY}/{NAMES[0]}.jsonl", "".join(f"{json.dumps(r)}\n" for r in plan.to_dicts()).encode(), at)
    sales = hostile_rows(
        feeds["sales"],
        {"item_id": "", "sale_date": str(SALES_DAY), "cashier": "Ilse Plan", "pieces": "2,5", "note": "x"},
        "item_id", items, in_csv,
    )  # fmt: skip
    put(settings, f"sales/{SALES_DAY}/{NAMES[1]}.csv", sales.write_csv(separator=";").encode(), at)
    stores = hostile_rows(
        feeds["stores"],
        {"store_id": "", "region": "north", "area": "10.5", "note": "x"},
        "store_id", numbers, lines,
    )  # fmt: skip
    content = io.BytesIO()
    stores.write_parquet(content)
    put(settings, "stores/stores.parquet", content.getvalue(), at)
    # what is refused: hostile headers and claims, and names that are not printable
    earlier = SALES_DAY - timedelta(days=1)
    for n, text in enumerate((MARKUP, BREAKING_OUT, FORMULA, RICH, CONTROL.replace("\r", ""))):
        wrong = sales.head(3).rename({"note": text})
        put(settings, f"sales/{earlier - timedelta(days=n)}/h.csv", wrong.write_csv(separator=";").encode(), at)
    for n, text in enumerate(HOSTILE):
        key = f"sales/{SALES_DAY - timedelta(days=8 + n)}/c.csv"
        put(settings, key, b"item_id;sale_date;cashier;pieces;note\n", at)
        claims = {"feed": text, "size": text, "sha256": text, "rows": text, "available_at": text, text: text}
        put(settings, f"{key}.json", json.dumps(claims).encode(), at)
    for name in (*NAMES[2:], *REFUSED):
        put(settings, f"sales/{SALES_DAY - timedelta(days=1)}/{name}.csv", b"a;b\n", at)

    shop = PostgreSQL(settings)
    prices = hostile_rows(
        feeds["prices"],
        {"item_id": "", "price": "1.5", "valid_on": str(DAY), "note": "x"},
        "item_id", items, lines,
    )  # fmt: skip
    shop.run(f"CREATE TABLE shop.hostile ({', '.join(f'{name} text' for name in prices.columns)}, valid_on_day date)")
    with shop.engine.begin() as connection:
        values = ", ".join(f":{name}" for name in prices.columns)
        connection.execute(sa.text(f"INSERT INTO shop.hostile VALUES ({values}, '{DAY}')"), prices.to_dicts())
    return shop.settings


@pytest.fixture
def protected() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    protect_logs()
    yield
    logging.setLogRecordFactory(before)


def pages_of(settings: Settings, project: Project) -> list[str]:
    """Return the page of each feed."""
    pages = [path.read_text(encoding="utf-8") for path in Path(settings.artifacts).rglob("*.html")]
    assert len(pages) == len(project.feeds)
    return pages


def texts_in(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield what the views and tables of the shared database have for people."""
    columns = {
        "data_quality": ("observed",),
        "quality_results": ("observed", "examples::text"),
        "journal": ("why",),
        "objects": ("why",),
        "alerts": ("sentence",),
    }
    with postgres.connection.engine(settings).connect() as connection:
        for table, names in columns.items():
            for name in names:
                found = connection.execute(sa.text(f"SELECT {name} FROM {table}")).scalars()
                yield from ((f"{table}.{name}", text) for text in found if text is not None)


@pytest.mark.usefixtures("protected")
def test_hostile_texts_from_outside_are_shown_and_not_obeyed(
    load_changed: Callable[..., Project], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    project, told = load_changed("drugstore", with_notes), Told(caplog)
    settings = deliver(project, settings)
    expect(project, 0.0, "warning")
    told.run("extract", project, NIGHT, settings)
    landed = told.run("land", project, NIGHT, settings)
    assert len(landed.refused) >= 10 + len(REFUSED)
    with pytest.raises(DataError) as caught:
        run("validate", project, NIGHT, settings)
    refused = pages_of(settings, project)
    texts = list(texts_in(settings))
    assert any("<img src=x onerror=" in text for where, text in texts if where == "data_quality.observed")
    assert all("['<img src=x onerror=" in Structure(page).text for page in refused)

    expect(project, 1.0, "critical")
    told.run("validate", project, NIGHT, settings)
    texts += texts_in(settings)
    for page in (*refused, *pages_of(settings, project)):
        assert_complete_in_itself(page)
        read = Structure(page)
        assert {tag for tag, _ in read.elements} <= ELEMENTS | {f"/{tag}" for tag in ELEMENTS}
        assert "<img src=x onerror=" in read.text, "a value is shown"
        assert MARKUP[::-1] in read.text and MARKUP in read.text, "so is what a rule says"
        assert all(is_printable(line) for line in read.text.splitlines())
    assert any(f"{NAMES[0]}.jsonl" in Structure(page).text for page in refused)

    for record in caplog.records:
        first, *more = record.getMessage().split("\n")
        assert is_printable(first.replace("\t", " ")), record
        assert all(line.startswith(INDENT) and is_printable(line.replace("\t", " ")) for line in more), record
    assert "a\\n12:00:00 refused: nothing.csv: its name has characters that are not printable" in caplog.text
    assert "\\u001b[2K" in caplog.text and "\\u202efdp" in caplog.text and "a\\u3164" in caplog.text

    assert all(map(is_printable, [*caught.value.lines, *caught.value.by_day.values()]))
    for refusal in landed.refused:
        assert is_printable(refusal.why) and is_printable(refusal.uri)
    assert {where for where, _ in texts} >= {"data_quality.observed", "journal.why", "objects.why"}
    assert [(where, text) for where, text in texts if not is_printable(text)] == []

    for feed in project.feeds:  # data keeps its bytes
        raw = rows_of(settings, f"raw_drugstore__{feed}")["note"].to_list()
        assert {MARKUP, FORMULA, RICH, BREAKING_OUT} <= set(raw), feed
        assert (CONTROL.replace("\r", "") if feed == "sales" else CONTROL) in raw, feed


ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "h1", "h2", "p", "dl", "dt", "dd", "section",
    "span", "b", "code", "div", "ul", "li", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
