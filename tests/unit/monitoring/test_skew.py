"""Which differences the monitor `skew` finds, and which of them are alerts. By hand, without any table."""

from datetime import date
from typing import Any

import polars as pl
import pytest

from include.config.loading import load_model
from include.monitoring.skew import (
    SkewCheck,
    SkewMonitor,
    difference,
    signature_differences,
    summarise,
    unlike_training,
)

MODEL = load_model("late_ferry").monitored
KEY = ("id",)
STORED = pl.DataFrame({"id": [1, 2, 3, 4], "x": [1.0, float("nan"), None, 0.3], "label": ["a", None, "b", "c"]})


@pytest.mark.parametrize(
    ("again", "missing", "differ"),
    [
        (STORED, 0, {}),
        (STORED.reverse(), 0, {}),
        (STORED.with_columns(pl.col("x").fill_nan(None)), 0, {"x": 1}),
        (STORED.with_columns(pl.col("label").fill_null("")), 0, {"label": 1}),
        (STORED.with_columns(x=pl.col("x") * (1 + 1e-15) + 1e-16), 0, {"x": 2}),
        (STORED.drop("x"), 0, {"x": 4}),
        (STORED.head(3), 1, {}),
        (pl.concat([STORED.head(3), STORED.tail(1).with_columns(id=pl.lit(9, pl.Int64))]), 2, {}),
        (STORED.with_columns(pl.lit("new").alias("more")), 0, {}),
    ],
)
def test_rows_are_compared_to_the_bit(again: pl.DataFrame, missing: int, differ: dict[str, int]) -> None:
    assert difference(STORED, again, KEY, ["x", "label"], exact=True) == (missing, differ)


def test_last_bits_count_only_where_they_can_be_equal() -> None:
    almost = STORED.with_columns(x=pl.col("x") * (1 + 1e-12))
    assert difference(STORED, almost, KEY, ["x"], exact=True)[1] == {"x": 2}
    assert difference(STORED, almost, KEY, ["x"], exact=False)[1] == {}
    other = STORED.with_columns(x=pl.col("x") * (1 + 1e-6))
    assert difference(STORED, other, KEY, ["x"], exact=False)[1] == {"x": 2}


def test_what_a_version_was_trained_on_is_valid_json_whatever_its_numbers() -> None:
    trained = pl.DataFrame({"x": [1.0, float("inf"), float("nan"), None], "none": [None, None, None, None]})
    assert summarise([trained], ["x", "none"], []) == {
        "x": {"low": 1.0, "high": 1.0},
        "none": {"low": None, "high": None},
    }


def test_a_summary_of_parts_is_that_of_all_rows() -> None:
    rows = pl.DataFrame({"x": [3.0, None, 1.0, 2.0, float("nan")], "c": ["a", "b", None, "a", "c"]})
    whole = summarise([rows], ["x"], ["c"])
    assert whole["x"] == {"low": 1.0, "high": 3.0}
    for cut in range(6):
        assert summarise([rows[:cut], rows[cut:]], ["x"], ["c"]) == whole


def test_hashes_of_identifiers_are_neither_stored_as_labels_nor_unseen() -> None:
    one, other = (each * 32 for each in "ab")
    rows = pl.DataFrame({"c": ["Tor", one, f"Tor-{one}"]})
    summary = summarise([rows], [], ["c"])
    assert len(summary["c"]["labels"]) == 1
    assert unlike_training(summary, pl.DataFrame({"c": [one, other, "Tor", "Bat"]})).unseen == {"c": 0.25}


def test_what_training_did_not_have_is_a_share_of_the_rows() -> None:
    trained = pl.DataFrame({
        "x": [0.0, 10.0, None],
        "month": [1.0, 2.0, 2.0],
        "flag": [0.0, 0.0, 0.0],
        "c": ["Tor", "Bat", None],
    })
    summary = summarise([trained], ["x", "month", "flag"], ["c"])
    assert "Tor" not in str(summary["c"]), "labels are stored as digests"
    rows = pl.DataFrame({
        "x": [5.0, 10.5, 50.0, None],
        "month": [3, 3, 3, 3],
        "flag": [True, False, False, False],
        "c": ["Tor", "Zur", None, "Bat"],
    })
    found = unlike_training(summary, rows)
    assert found.unseen == {"c": 0.25}
    assert found.outside == {"x": 0.5, "month": 1.0, "flag": 0.25}
    assert found.far == {"x": 0.25}, "the next month and the first holiday are not far outside"


def test_a_column_that_is_gone_or_of_another_type_is_named() -> None:
    trained = {"x": "Float64", "c": "String", "gone": "Float64"}
    served = {"x": "Int64", "c": "String"}
    assert signature_differences(["x", "c", "gone"], trained, served) == (
        "x was Float64 in training and is Int64 now",
        "the features have no column gone any more",
    )
    assert signature_differences(["x"], {}, served) == ()


@pytest.mark.parametrize(
    ("found", "rules"),
    [
        ({}, []),
        ({"state": "skipped", "why": "a person was erased"}, []),
        ({"state": "failed", "why": "files are gone"}, ["skew"]),
        ({"features": {"x": 2}, "scores": {"score": 1}}, ["skew"]),
        ({"missing": 1}, ["skew"]),
        ({"signature": ("x was Float64",)}, ["skew: signature"]),
        ({"unseen": {"c": 0.2}, "far": {"x": 0.2}, "outside": {"x": 1.0}}, []),
        ({"unseen": {"c": 0.3}, "far": {"x": 0.3, "year": 1.0}}, ["skew: unseen labels", "skew: outside training"]),
        ({"far": {"year": 1.0}}, []),
    ],
)
def test_what_is_an_alert(found: dict[str, Any], rules: list[str]) -> None:
    check = SkewCheck(date(2013, 3, 1), "a batch", 3, rows=1000, **found)
    alerts = SkewMonitor(ignore=("year",)).alerts(MODEL, check)
    assert [alert.rule for alert in alerts] == rules
    assert all(alert.day == date(2013, 3, 2) and "docs/runbooks/alert-skew.md" in alert.sentence for alert in alerts)
    assert not any("year" in alert.sentence for alert in alerts)
    noticed = "published scores of 2013-03-01 are not those that the raw tables give"
    seen = [alert.effect for alert in alerts if alert.effect]
    assert seen == [noticed] * bool(found.get("missing") or found.get("scores"))
