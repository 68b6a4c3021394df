"""The digest of a prediction batch: the ids of batches follow from it, so it must never change."""

import random
from datetime import date

import polars as pl
import pytest

from include.core.schemas import STORED_PREDICTION
from include.io.postgres.predictions import batch_digest, begin_batch_digest

LABELS = pl.DataFrame(
    {
        "day": [date(2026, 3, 1)] * 4,
        "horizon": [0, 0, 0, 0],
        "entity_id": ["a", "b", "c", "ü"],
        "score": [0.1, 0.7, 1 / 3, 0.5],
        "prediction": [1.0, 0.0, 2.0, 1.0],
        "lower": [None, None, None, None],
        "upper": [None, None, None, 2.5],
        "label": [None, "late", None, "früh"],
        "probabilities": [None, None, '{"b": 0.30, "a": 0.7}', '{"a":1}'],
        "reasons": [None, None, None, None],
    },
    schema={"day": pl.Date, "horizon": pl.Int32, "entity_id": pl.String, **STORED_PREDICTION},
)
AHEAD = LABELS.with_columns(horizon=pl.Series([0, 0, 1, 2], dtype=pl.Int32))
FROZEN = {
    "labels": (LABELS, "db72276e3b5d0eb6f04a1ed6897aaffd58acc588a0532f24890111818e7159b3"),
    "ahead": (AHEAD, "0643bfc9159124f12adb132ff835613f007334043efd0ae65196c748ac838bcc"),
    "scores": (
        LABELS.select("entity_id", "score", "prediction"),
        "df93a0238a4edb2144146111a7f68ea42e04994246b49ee4e890658629c41ae1",
    ),
    "none": (LABELS.clear(), "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"),
}


@pytest.mark.parametrize("name", FROZEN)
def test_the_digest_of_equal_rows_never_changes(name: str) -> None:
    rows, digest = FROZEN[name]
    assert batch_digest(rows) == digest


@pytest.mark.parametrize("name", ["labels", "ahead", "scores"])
def test_the_digest_does_not_depend_on_blocks(name: str) -> None:
    rows, expected = FROZEN[name]
    chosen = random.Random(7)
    for _ in range(20):
        digest, at = begin_batch_digest(rows.height), 0
        while at < rows.height:
            size = chosen.randint(0, 3)
            digest.add(rows.slice(at, size))
            at += size
        assert digest.hexdigest() == expected


def test_large_columns_are_kept_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.io.postgres.predictions.KEPT_BYTES", 1)
    monkeypatch.setattr("include.io.postgres.predictions.READ_BYTES", 3)
    assert batch_digest(LABELS) == FROZEN["labels"][1]
