"""The training set that a process keeps: built once for the same rows, and never returned for others."""

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from include.config.loading import load_model, load_project
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.journal import Known
from include.core.settings import Settings
from include.io import training_sets
from include.io.training_sets import ReadAt, read_training_set
from tests.landing import places

PROJECT = load_project("ferries")
EMPTY = Known(9, pl.DataFrame(), {})


def at(watermark: int = 1, outcome: int = 3) -> ReadAt:
    return ReadAt(watermark, {"features": 2, "outcome": outcome}, 2, EMPTY)


ASKED: dict[str, Any] = {
    "project": PROJECT,
    "model": load_model("late_ferry"),
    "interval": Interval.of(date(2013, 3, 1)),
    "read_at": at(),
    "data_view": "point_in_time",
}
OTHERS: dict[str, Any] = {
    "project": PROJECT.model_copy(update={"entity_fraction": 0.5}),
    "model": ASKED["model"].model_copy(update={"train_days": 9}),
    "interval": Interval.of(date(2013, 3, 2)),
    "read_at": at(outcome=4),
    "data_view": "latest",
    "tables": "elsewhere",
}


class EmptyTables:
    def __init__(self, settings: Settings) -> None:
        self.root = settings.tables

    def scan(self, table: str, version: int) -> pl.LazyFrame:
        return pl.LazyFrame(schema={"day": pl.Date, "data_view": pl.String})


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return the list of built training sets, in order. Nothing is kept from another test."""
    found: list[object] = []

    def build(*_: Any, **__: Any) -> object:
        found.append(object())
        return found[-1]

    monkeypatch.setattr(training_sets.training_set, "build_training_set", build)
    monkeypatch.setattr(training_sets, "_NEWEST", [])
    monkeypatch.setattr(training_sets, "Tables", EmptyTables)
    return found


def read(tables: str = "here", **changed: Any) -> object:
    settings = places(Path(tables))
    return read_training_set(settings=settings, **{**ASKED, **changed})


def test_equal_rows_are_built_once(built: list[object]) -> None:
    again = {"project": load_project("ferries"), "model": load_model("late_ferry")}
    assert read() is read(**again)
    assert len(built) == 1


def test_another_watermark_is_another_state(built: list[object]) -> None:
    assert read() is not read(read_at=at(watermark=2))


@pytest.mark.parametrize("what", OTHERS)
def test_other_rows_are_built_again(built: list[object], what: str) -> None:
    assert read() is not read(**{what: OTHERS[what]})


def test_only_one_training_set_is_kept(built: list[object]) -> None:
    for days in (1, 2, 1):
        read(interval=Interval.of(date(2013, 3, days)))
    assert len(built) == 3
    assert len(training_sets._NEWEST) == 1


def test_a_failed_build_is_not_kept(built: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> object:
        raise DataError("a row too many")

    with monkeypatch.context() as patch, pytest.raises(DataError):
        patch.setattr(training_sets.training_set, "build_training_set", fails)
        read()
    assert read() is built[0]
