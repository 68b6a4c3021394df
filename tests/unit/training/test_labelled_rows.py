"""Rows in blocks of run dates: the same as all at once, also where rows are about later days."""

from datetime import date, timedelta

import polars as pl
import pytest

from include.core.horizons import target_day
from include.core.interval import Interval
from include.training.labelled_rows import LabelledRows, blocks_of

FIRST = date(2026, 3, 1)
RUN_DATES = Interval(start=FIRST, end=FIRST + timedelta(days=7))
ROWS = pl.DataFrame(
    [(day, horizon, f"{n}", float(n + horizon)) for day in RUN_DATES.days for horizon in range(3) for n in range(4)],
    schema={"day": pl.Date, "horizon": pl.Int32, "entity_id": pl.String, "label": pl.Float64},
    orient="row",
)


def read(block: Interval) -> pl.DataFrame:
    return ROWS.filter(pl.col("day").is_between(block.start, block.end))


@pytest.mark.parametrize("days", [1, 3, 8])
def test_rows_of_target_days_are_found_in_whatever_block_they_are(days: int) -> None:
    whole, cut = LabelledRows.of(ROWS), LabelledRows.in_blocks([*RUN_DATES.chunks(days)], read)
    assert cut.digest == whole.digest
    for first, last in ((0, 0), (2, 3), (8, 9), (20, 21)):
        wanted = Interval(start=FIRST + timedelta(days=first), end=FIRST + timedelta(days=last))
        expected = ROWS.filter(target_day().is_between(wanted.start, wanted.end))
        assert pl.concat(cut.parts(wanted, horizon_days=2)).equals(expected)
        assert (cut.labels[cut.within(wanted)] == expected["label"].to_numpy()).all()


def test_a_row_with_the_key_of_another_is_counted_in_its_block() -> None:
    rows = LabelledRows.in_blocks([*RUN_DATES.chunks(2)], lambda block: pl.concat([read(block), read(block).head(1)]))
    assert rows.doubled == 4


def test_blocks_are_whole_run_dates_and_have_each_of_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = pl.DataFrame({"day": RUN_DATES.days[1:7], "len": [5, 5, 5, 50, 1, 1]})
    monkeypatch.setattr("include.training.labelled_rows.BLOCK_BYTES", 10 * (80 + 8))
    blocks = blocks_of(RUN_DATES, counts, columns=1)
    assert [day for block in blocks for day in block.days] == RUN_DATES.days
    assert [(block.start.day, block.end.day) for block in blocks] == [(1, 3), (4, 4), (5, 5), (6, 8)]


def test_no_rows_are_one_block() -> None:
    assert blocks_of(RUN_DATES, pl.DataFrame(schema={"day": pl.Date, "len": pl.UInt32}), columns=1) == [RUN_DATES]
    assert len(LabelledRows.in_blocks([RUN_DATES], lambda _: ROWS.clear()).labels) == 0
