"""Types of landed values: which text is parsed, and which becomes null and is left to `validate`."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from include.config.loading import load_project
from include.core import schemas
from include.core.feeds import Column, ColumnType
from include.core.formats.csv import Csv


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("integer", "12", 12),
        ("integer", "-7", -7),
        ("integer", "1.0", None),
        ("integer", "9999999999999999999", None),
        ("double", "1.5", 1.5),
        ("double", "-0.1", -0.1),
        ("double", "1,5", None),
        ("double", "NaN", None),
        ("double", "inf", None),
        ("double", "1e999", None),
        ("boolean", "true", True),
        ("boolean", "false", False),
        ("boolean", "True", None),
        ("boolean", "1", None),
        ("date", "2013-03-10", date(2013, 3, 10)),
        ("date", "10.3.2013", None),
        ("date", "2013-02-30", None),
        ("timestamp", "2013-03-10T07:30:00Z", datetime(2013, 3, 10, 7, 30, tzinfo=UTC)),
        ("timestamp", "2013-03-10T03:30:00-04:00", datetime(2013, 3, 10, 7, 30, tzinfo=UTC)),
        ("timestamp", "2013-03-10T07:30:00.000001Z", datetime(2013, 3, 10, 7, 30, 0, 1, tzinfo=UTC)),
        ("timestamp", "2013-03-10T07:30:00", None),  # the timezone is not known
        ("timestamp", "2013-03-10", None),
        ("string", " as it is ", " as it is "),
        *[(kind, None, None) for kind in ("integer", "double", "boolean", "date", "timestamp", "string")],
        *[(kind, "x", None) for kind in ("integer", "double", "boolean", "date", "timestamp")],
    ],
)
def test_text_is_parsed_or_null(kind: str, text: str | None, value: object) -> None:
    expression = schemas.parse(pl.col("text"), kind, Csv())
    frame = pl.DataFrame({"text": [text]}, schema={"text": pl.String}).select(expression)
    assert frame.item() == value
    assert frame.dtypes == [schemas.POLARS[kind]]


@pytest.mark.parametrize(
    ("kind", "text", "kept"),
    [
        ("date", "85-01-02", False),
        ("date", "0985-01-02", False),
        ("date", "1000-01-01", True),
        ("date", "9999-12-31", True),
        ("date", "10000-01-01", False),
        ("timestamp", "24-03-04T20:00:00Z", False),
        ("timestamp", "1000-01-01T04:00:00Z", False),  # it is the year 999 in New York
        ("timestamp", "1000-01-02T00:00:00Z", True),
        ("timestamp", "9999-12-31T18:59:59-05:00", True),
        ("timestamp", "9999-12-31T23:59:59-05:00", False),
        ("timestamp", "+262142-12-31T23:59:59Z", False),
        ("string", "one\ntwo\x7f\ufffe", True),
        ("string", "one\x00two", False),
    ],
)
def test_what_postgresql_and_its_clients_can_hold(kind: ColumnType, text: str, kept: bool) -> None:
    frame = pl.DataFrame({"text": [text]})
    value = frame.select(
        schemas.typed(
            pl.col("text"), Column.model_validate({"type": kind, "class": "public"}), Csv(), "America/New_York"
        )
    ).item()
    assert (value is not None) == kept


def test_an_entity_id_is_readable() -> None:
    project = load_project("ferries")
    row = {
        "company": "UA",
        "ferry": 1545,
        "origin": "BAT",
        "departs_at": datetime(2013, 1, 1, 10, 15, tzinfo=UTC),
    }
    frame = pl.DataFrame([row], schema_overrides={"departs_at": pl.Datetime("us", "UTC")})
    assert frame.select(schemas.entity_id(project)).item() == "UA-1545-BAT-20130101T1015Z"


def test_no_table_layer_keeps_a_sensitive_column() -> None:
    project = load_project("ferries")
    for feed in project.feeds.values():
        sensitive = {name for name, column in feed.columns.items() if column.data_class == "sensitive"}
        assert not sensitive & (schemas.raw(feed).keys() | schemas.clean(project, feed).keys())
    assert any(c.data_class == "sensitive" for feed in project.feeds.values() for c in feed.columns.values())


def test_only_feeds_with_the_whole_key_have_an_entity_id() -> None:
    project = load_project("ferries")
    with_entity = {name for name, feed in project.feeds.items() if "entity_id" in schemas.clean(project, feed)}
    assert with_entity == {"sailings", "logbook"}
