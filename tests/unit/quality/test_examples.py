"""Examples of rows are truncated and hide personal data, even if a supplier put it into another column."""

import polars as pl
import pytest

from include.config.loading import load_project
from include.quality.examples import HIDDEN, MISSING, examples, observed, sentence, shown

PROJECT = load_project("ferries")


@pytest.mark.parametrize(
    "text",
    [
        "ada.brown7@example.org",
        "call ada@example today",
        "mailto:ada%40example.org",
        "ada＠example.org",  # noqa: RUF001  a full-width sign
        "x" * 60 + " ada@example.org",
        "N7ZQX1",
        "by N7ZQX1, late",
        "(N7ZQX1)",
    ],
)
def test_personal_data_is_hidden(text: str) -> None:
    assert shown(PROJECT, text) == HIDDEN


@pytest.mark.timeout(20)  # it would take hours
def test_no_text_of_a_supplier_keeps_the_search_for_identifiers_busy() -> None:
    """A format is tried on 2,000 characters at most, wherever it is tried."""
    feed = PROJECT.feeds["logbook"]
    slow = next(c for c in feed.columns.values() if c.data_class == "identifier").model_copy(
        update={"format": "[a-z]*[a-z]*[a-z]*[0-9]"}
    )
    columns = {**feed.columns, "slow": slow}
    project = PROJECT.model_copy(update={"feeds": {"logbook": feed.model_copy(update={"columns": columns})}})
    assert shown(project, "a" * 50_000).endswith("…")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Nowhere", "Nowhere"),
        ("B6", "B6"),
        ("2013-03-04T13:00:00Z", "2013-03-04T13:00:00Z"),
        ("a\x00b\nc\u202e", "a\\u0000b\\nc\\u202e"),
        ("x" * 40, "x" * 40),
        ("x" * 41, "x" * 39 + "…"),
    ],
)
def test_other_text_is_shown_and_truncated(text: str, seen: str) -> None:
    assert shown(PROJECT, text) == seen


def test_examples_are_three_rows_with_their_public_key() -> None:
    raw = pl.DataFrame({
        "_row": [2, 3, 4, 5],
        "_malformed": ["vessel", None, None, None],
        "company": ["UA", "ada@example.org", None, "UA"],
        "ferry": ["x", "2", "3", "4"],
        "origin": ["BAT"] * 4,
        "dest": ["Nowhere", None, "HOB", "HOB"],
        "departs_at": ["2013-03-04T13:00:00Z"] * 4,
        "vessel": ["0123abcd"] * 4,
    })
    ferry = pl.col("ferry").cast(pl.Int64, strict=False)
    typed = raw.with_columns(ferry, _malformed=pl.Series(["vessel,ferry", None, None, None]))
    key = {"ferry": "(form a)", "origin": "BAT", "departs_at": "2013-03-04T13:00:00Z"}
    found = examples(PROJECT, "logbook", ["dest"], raw, typed, [0, 1, 2, 3])
    assert found == [
        {"row": 2, "key": {"company": "UA", **key}, "value": "Nowhere"},
        {"row": 3, "key": {"company": "(form aaa@aaaaaaa.aaa)", **key, "ferry": "2"}, "value": MISSING},
        {"row": 4, "key": {"company": MISSING, **key, "ferry": "3"}, "value": "HOB"},
    ]
    assert sentence(found[:1]) == (
        "line 2 (company UA, ferry (form a), origin BAT, departs_at 2013-03-04T13:00:00Z): Nowhere"
    )
    [malformed] = examples(PROJECT, "logbook", ["_malformed"], raw, typed, [0])
    assert malformed["value"] == ("malformed: vessel (found text of another form); ferry (found a)")
    [identifier] = examples(PROJECT, "logbook", ["vessel", "dest"], raw, typed, [0])
    assert identifier["value"] == f"{HIDDEN}, Nowhere"
    [entity] = examples(PROJECT, "logbook", ["entity_id"], raw, typed, [3])
    assert entity["value"] == "UA, 4, BAT, 2013-03-04T13:00:00Z"


def test_text_without_a_declared_format_may_be_anything_and_is_not_shown() -> None:
    raw = pl.DataFrame({
        "_row": [2],
        "_malformed": pl.Series([None], dtype=pl.String),
        **{name: ["Ada Brown"] for name in PROJECT.feeds["sailings"].kept},
        "distance_miles": ["49170"],
        "departs_at": ["+49 170 1"],
    })
    typed = raw.with_columns(distance_miles=49170.0, departs_at=None)
    columns = ["arrives_local", "dest", "distance_miles", "departs_at"]
    [found] = examples(PROJECT, "sailings", columns, raw, typed, [0])
    assert found["value"] == "(form aaa aaaaa), (form aaa aaaaa), 49170, (form +99 999 9)"


@pytest.mark.parametrize(
    ("columns", "value", "said"),
    [
        (["origin"], ["BAT", "PAU"], "['BAT', 'PAU']"),
        (["origin"], ["BAT", "Ada Brown"], HIDDEN),
        (["arrives_local"], ["1530"], HIDDEN),
        (["vessel"], "0123abcd", HIDDEN),
        (["ferry"], [1, 49170], "[1, 49170]"),
        (["ferry"], {"values": ["Ada Brown"]}, HIDDEN),
        (["entity_id"], "UA-1-BAT", HIDDEN),
    ],
)
def test_what_was_observed_is_shown_only_in_the_declared_form(columns: list[str], value: object, said: str) -> None:
    feed = "logbook" if columns == ["vessel"] else "sailings"
    assert observed(PROJECT, feed, columns, value) == said


def test_a_malformed_value_that_looks_like_an_identifier_is_not_shown() -> None:
    """A number of eight digits can be a date too."""
    vessel = PROJECT.feeds["logbook"].columns["vessel"].model_copy(update={"format": "[0-9]{8}"})
    when = vessel.model_copy(update={"type": "date", "data_class": "public", "format": None})
    feed = PROJECT.feeds["logbook"].model_copy(update={"columns": {"vessel": vessel, "when": when}, "key": ("when",)})
    project = PROJECT.model_copy(update={"feeds": {"logbook": feed}})
    for text, said in (("12031985", "99999999"), ("12.03.1985", "12.03.1985")):
        raw = pl.DataFrame({"_row": [1], "vessel": ["x"], "when": [text], "_malformed": [None]})
        typed = raw.with_columns(when=pl.lit(None, pl.Date), _malformed=pl.lit("when"))
        [found] = examples(project, "logbook", ["_malformed"], raw, typed, [0])
        assert found["value"] == f"malformed: when (found {said})"
