"""What is shown of rows: cut, and nothing personal, also where a supplier put it under another name."""

import polars as pl
import pytest

from include.config.loading import load_project
from include.quality.examples import HIDDEN, MISSING, examples, sentence, shown

PROJECT = load_project("flights")


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
def test_hidden(text: str) -> None:
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
def test_shown(text: str, seen: str) -> None:
    assert shown(PROJECT, text) == seen


def test_three_rows_with_their_public_key() -> None:
    raw = pl.DataFrame({
        "_row": [2, 3, 4, 5],
        "_malformed": ["tailnum", None, None, None],
        "carrier": ["UA", "ada@example.org", None, "UA"],
        "flight": ["x", "2", "3", "4"],
        "origin": ["EWR"] * 4,
        "dest": ["Nowhere", None, "LAX", "LAX"],
        "scheduled_departure": ["2013-03-04T13:00:00Z"] * 4,
        "tailnum": ["0123abcd"] * 4,
    })
    typed = raw.with_columns(_malformed=pl.Series(["tailnum,flight", None, None, None]))
    key = {"flight": "x", "origin": "EWR", "scheduled_departure": "2013-03-04T13:00:00Z"}
    found = examples(PROJECT, "actuals", ["dest"], raw, typed, [0, 1, 2, 3])
    assert found == [
        {"row": 2, "key": {"carrier": "UA", **key}, "value": "Nowhere"},
        {"row": 3, "key": {"carrier": HIDDEN, **key, "flight": "2"}, "value": MISSING},
        {"row": 4, "key": {"carrier": MISSING, **key, "flight": "3"}, "value": "LAX"},
    ]
    assert sentence(found[:1]) == (
        "line 2 (carrier UA, flight x, origin EWR, scheduled_departure 2013-03-04T13:00:00Z): Nowhere"
    )
    [malformed] = examples(PROJECT, "actuals", ["_malformed"], raw, typed, [0])
    assert malformed["value"] == "malformed: tailnum, flight"
    [identifier] = examples(PROJECT, "actuals", ["tailnum", "dest"], raw, typed, [0])
    assert identifier["value"] == f"{HIDDEN}, Nowhere"
    [entity] = examples(PROJECT, "actuals", ["entity_id"], raw, typed, [3])
    assert entity["value"] == "UA, 4, EWR, 2013-03-04T13:00:00Z"
