"""The part of `io/native.py` that needs no Delta: columns that polars computes on executors."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from include.config.loading import load_project
from include.core.feeds import Outcome
from include.core.outcomes import outcomes_of
from include.io import native
from include.io.spark import session

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]


def test_outcomes_are_evaluated_by_polars_on_executors() -> None:
    """Spark would round 2.5 to 3, and refuse `DELAY_minutes` in polars' case."""
    outcomes = {"rounded": Outcome(feed="logbook", sql="ROUND(DELAY_minutes)"), "one": Outcome(feed="logbook", sql="1")}
    project = load_project("ferries").model_copy(update={"outcomes": outcomes})
    rows = pl.DataFrame({
        "day": [date(2013, 3, 1)] * 3,
        "departs_at": [datetime(2013, 3, 1, 8, tzinfo=UTC)] * 3,
        "company": ["UA", None, "EV"],
        "delay_minutes": [2.5, -2.5, None],
    })
    frame = session().createDataFrame(rows.to_arrow())
    added = native.with_columns(frame, outcomes_of(project, "logbook"))
    assert added.columns == [*frame.columns, "rounded", "one"]
    assert [tuple(row) for row in added.select(*frame.columns).collect()] == [tuple(row) for row in frame.collect()]
    values = [tuple(row) for row in added.select("rounded", "one").collect()]
    assert values == [(2.0, 1.0), (-2.0, 1.0), (None, 1.0)]


def test_a_feed_without_outcomes_is_left_as_it_is() -> None:
    frame = session().range(1)
    assert native.with_columns(frame, {}) is frame


def test_an_error_names_outcomes_and_entity_where_and_no_value() -> None:
    frame = session().createDataFrame(pl.DataFrame({"company": ["an airline"]}).to_arrow())
    added = native.with_columns(frame, {"one": lambda rows: rows.with_columns(one=pl.col("company").cast(pl.Float64))})
    with pytest.raises(Exception, match=r"the SQL of an outcome, or entity\.where, cannot be") as raised:
        added.collect()
    assert "an airline" not in str(raised.value)
