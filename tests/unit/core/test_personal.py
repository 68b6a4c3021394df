"""The hash key is strong, is recognised and never shown; text of another form cannot be read without it."""

import json
import pickle

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.core.errors import ConfigError
from include.core.feeds import Column, Feed
from include.core.personal import SEALED, HashKey, opened, protect

TEXT = "the hash key of the tests, which is long"
KEY, OTHER = HashKey.of(TEXT), HashKey.of(f"{TEXT}.")
PERSON, PHONE = "Erika Mustermann", "+49 170 1234567"

FEED = Feed.model_validate({
    "path": "orders/{day}/*.csv",
    "format": {"kind": "csv", "null_values": ["NA"]},
    "key": ["number"],
    "day_column": "on",
    "columns": {
        "number": {"type": "integer", "class": "public"},
        "on": {"type": "date", "class": "public"},
        "paid": {"type": "boolean", "class": "public"},
        "code": {"type": "string", "class": "public", "format": "[A-Z]{2}(?=\\Z)"},  # polars has no look-ahead
        "note": {"type": "string", "class": "public"},
        "buyer": {"type": "string", "class": "identifier", "format": "[0-9]{3}"},
        "phone": {"type": "string", "class": "sensitive"},
    },
})
RIGHT = {"number": "7", "on": "2026-03-04", "paid": "true", "code": "DE", "note": "x", "buyer": "123", "phone": PHONE}


def raw(**texts: str | None) -> pl.DataFrame:
    return pl.DataFrame([{"_row": 2, **RIGHT, **texts}], schema_overrides=dict.fromkeys(RIGHT, pl.String))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("tiger7", "has 6 bytes, and at least 32 are needed"),
        ("0123456789abcdef0123456789abcde", "has 31 bytes"),
        ("a" * 64, "repeats itself"),
        ("0123456789abcdef" * 2, "repeats itself"),
        ("ab12" * 7 + "cab1 ", "repeats itself"),
    ],
)
def test_a_key_that_can_be_guessed_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        HashKey.of(text)
    assert "make one: python -c" in str(caught.value)
    assert not text.strip() or text not in str(caught.value)


def test_a_key_is_recognised_by_its_fingerprint_and_never_printed() -> None:
    assert len(KEY.fingerprint) == 32
    assert KEY.fingerprint == HashKey.of(TEXT).fingerprint != OTHER.fingerprint
    assert KEY.fingerprint != KEY.hashed(TEXT)
    assert TEXT not in repr(KEY)
    assert pickle.loads(pickle.dumps(KEY)) == KEY  # noqa: S301


@pytest.mark.parametrize(
    ("column", "text"),
    [("number", PHONE), ("number", "7.5"), ("on", "04.03.2026"), ("paid", "yes"), ("code", PERSON), ("code", "DE\n")],
)
def test_text_of_another_form_is_sealed_and_can_be_opened_with_the_key(column: str, text: str) -> None:
    landed = raw(**{column: text})
    stored = protect(FEED, landed, KEY)
    assert stored[column].item().startswith(SEALED)
    assert text not in stored.drop("phone").write_csv()
    assert (
        stored[column].item()
        == protect(FEED, landed, KEY)[column].item()
        != protect(FEED, landed, OTHER)[column].item()
    )
    assert opened(FEED, stored, KEY)[column].item() == text
    assert opened(FEED, stored, OTHER)[column].item() == stored[column].item()
    rest = [name for name in RIGHT if name not in (column, "buyer", "phone")]
    assert stored.select(rest).equals(landed.select(rest))


@pytest.mark.parametrize(("column", "text"), [("number", "NA"), ("number", None), ("note", PERSON), ("code", "NA")])
def test_text_of_the_declared_form_and_what_means_no_value_are_kept(column: str, text: str | None) -> None:
    assert protect(FEED, raw(**{column: text}), KEY)[column].item() == text


def test_identifiers_are_hashed_in_any_form() -> None:
    stored = protect(FEED, raw(buyer=PERSON), KEY)
    assert (stored["buyer"].item(), stored["_malformed"].item()) == (KEY.hashed(PERSON), "buyer")
    assert protect(FEED, raw(), KEY)["_malformed"].item() is None


@given(st.text())
def test_what_was_sealed_is_opened(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    assert KEY.open(KEY.seal(text)) == text


@pytest.mark.parametrize("text", [SEALED, f"{SEALED}x", f"{SEALED}!!", f"{SEALED}{'A' * 32}", f"{SEALED}ä"])
def test_text_of_a_supplier_that_looks_sealed_stays_as_it_is(text: str) -> None:
    assert KEY.open(text) == text


# --- several keys -----------------------------------------------------------------------------------------------------

RING = HashKey.of(json.dumps([TEXT, f"{TEXT}."]))


def test_further_keys_hash_what_the_first_has_hashed() -> None:
    assert RING.hashed("Ada") == OTHER.hashed(KEY.hashed("Ada"))
    assert RING.fingerprint == OTHER.hashed(KEY.fingerprint)
    assert len({RING.fingerprint, KEY.fingerprint, OTHER.fingerprint}) == 3
    assert HashKey.of(json.dumps([TEXT])) == KEY
    assert HashKey.of(RING.text) == RING
    assert TEXT not in repr(RING)


def test_keys_are_found_by_the_fingerprint_of_the_first_ones() -> None:
    assert RING.until(KEY.fingerprint) == KEY
    assert RING.until(RING.fingerprint) == RING
    assert RING.until(OTHER.fingerprint) is None
    assert RING.after(KEY) == OTHER


def test_text_is_sealed_by_the_newest_key_alone() -> None:
    assert OTHER.open(RING.seal("Ada")) == "Ada" == RING.open(OTHER.seal("Ada"))
    assert KEY.open(RING.seal("Ada")) != "Ada"


def test_a_text_of_more_than_two_thousand_characters_has_no_form() -> None:
    """Some expressions take hours on a long text that was made for them."""
    column = Column.model_validate({"type": "string", "class": "identifier", "format": r"[a-z@.]+@.+\..+"})
    assert column.has_form("a@b.c")
    assert not column.has_form("a@b.c" + "c" * 2_000)
