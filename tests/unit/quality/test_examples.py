"""Examples of rows are truncated and hide personal data, even if a supplier put it into another column."""

import polars as pl
import pytest

from include.config.loading import load_project
from include.quality.examples import HIDDEN, MISSING, examples, sentence, shown

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


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Nowhere", "Nowhere"),
        ("B6", "B6"),
        ("2013-03-04T13:00:00Z", "2013-03-04T13:00:00Z"),
        ("a\x00b\nc", "a�b�c"),
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
    typed = raw.with_columns(_malformed=pl.Series(["vessel,ferry", None, None, None]))
    key = {"ferry": "x", "origin": "BAT", "departs_at": "2013-03-04T13:00:00Z"}
    found = examples(PROJECT, "logbook", ["dest"], raw, typed, [0, 1, 2, 3])
    assert found == [
        {"row": 2, "key": {"company": "UA", **key}, "value": "Nowhere"},
        {"row": 3, "key": {"company": HIDDEN, **key, "ferry": "2"}, "value": MISSING},
        {"row": 4, "key": {"company": MISSING, **key, "ferry": "3"}, "value": "HOB"},
    ]
    assert sentence(found[:1]) == ("line 2 (company UA, ferry x, origin BAT, departs_at 2013-03-04T13:00:00Z): Nowhere")
    [malformed] = examples(PROJECT, "logbook", ["_malformed"], raw, typed, [0])
    assert malformed["value"] == ("malformed: vessel (found text of another form); ferry (found a)")
    [identifier] = examples(PROJECT, "logbook", ["vessel", "dest"], raw, typed, [0])
    assert identifier["value"] == f"{HIDDEN}, Nowhere"
    [entity] = examples(PROJECT, "logbook", ["entity_id"], raw, typed, [3])
    assert entity["value"] == "UA, 4, BAT, 2013-03-04T13:00:00Z"
