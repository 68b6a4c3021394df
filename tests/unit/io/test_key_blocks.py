"""Blocks of rows in the order of the key."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from include.core.horizons import KEY
from include.io.key_blocks import find_limits, in_key_order, is_first, read_blocks, split


def frame(rows: int, horizons: int = 1) -> pl.DataFrame:
    """Return rows in an order that is not that of the key; the first has no `entity_id`."""
    number = pl.int_range(rows, dtype=pl.Int32, eager=True)
    ids = pl.when(pl.col("n") > 0).then(pl.format("store-{}-ü", pl.col("n") * 7919 % rows // horizons))
    return (
        pl
        .DataFrame({"n": number})
        .select(pl.lit(date(2026, 3, 1)).alias("day"), (pl.col("n") % horizons).alias("horizon"), entity_id=ids)
        .reverse()
    )


@pytest.mark.parametrize(("rows", "horizons"), [(0, 1), (1, 1), (1000, 1), (20_000, 1), (20_000, 3)])
def test_blocks_have_all_rows_in_the_order_of_the_key(rows: int, horizons: int, tmp_path: Path) -> None:
    made = frame(rows, horizons)
    found = list(read_blocks(split(made.lazy(), find_limits(made.lazy(), rows, 1000), tmp_path / "blocks")))
    whole = pl.concat(found)
    assert_frame_equal(whole.drop_nulls(), made.drop_nulls().sort(KEY))
    assert whole.height == rows, "rows without an id must not be lost"
    assert len(found) >= rows // 1000 - 1
    assert max(block.height for block in found) < 1500


def test_a_row_without_an_id_begins_no_block(tmp_path: Path) -> None:
    """Such scores are refused, with a sentence."""
    ids = ["a", "b", None, "c"]
    made = pl.DataFrame({"day": [date(2026, 3, 1)] * 4, "horizon": [0, 0, 1, 1], "entity_id": ids})
    limits = find_limits(made.lazy(), 4, 1)
    assert limits == [(0, "b"), (1, "c")]
    assert sum(block.height for block in read_blocks(split(made.lazy(), limits, tmp_path / "blocks"))) == 4


def test_rows_with_one_key_are_in_one_block(tmp_path: Path) -> None:
    made = pl.concat([frame(5000), frame(5000)])
    blocks = split(made.lazy(), find_limits(made.lazy(), 10_000, 500), tmp_path / "blocks")
    keys = [set(block["entity_id"]) for block in read_blocks(blocks)]
    assert len(keys) > 5
    assert sum(len(each) for each in keys) == len(set().union(*keys))


def test_each_whole_key_is_counted_once() -> None:
    ids = ["b", None, "a", "a", None, "b", "b"]
    made = pl.DataFrame({"day": [date(2026, 3, 1)] * 7, "horizon": [0, 0, 0, 0, 0, 0, 1], "entity_id": ids})
    assert in_key_order(made).select(is_first().sum()).item() == 3
    assert made.clear().select(is_first().sum()).item() == 0
