"""Features of a department, on a handful of rows: nothing that the run date cannot know. `e2e` has real days."""

from datetime import UTC, date, datetime, timedelta
from functools import reduce
from typing import Any

import polars as pl
import pytest
from pyspark.sql import DataFrame, SparkSession

from include.config.loading import load_project
from include.core import schemas
from include.features import Feeds
from include.features.returned import typed
from include.io.spark import session
from include.projects.stores import features

pytestmark = pytest.mark.spark

DAY = date(2017, 3, 7)
"""A Tuesday."""


@pytest.fixture(scope="module")
def spark() -> SparkSession:
    return session()


def delivery(spark: SparkSession, feed: str, day: date, rows: list[dict[str, Any]]) -> DataFrame:
    """Return rows of the store 367 as clean tables have them, with usual values for what a test does not say."""
    project = load_project("stores")
    usual: dict[str, dict[str, Any]] = {
        "plan": {"trade_day": day, "promoted_products": 10, "mailer_share": 0.5, "is_holiday": False},
        "promotions": {"valid_on": day, "on_display": 1, "on_front_page": 0},
        "sales": {"sold_at": datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=18), "card": "hash"},
        "departments": {"products": 100, "private_brand_share": 0.2},
    }
    kinds: dict[str, Any] = {
        "string": pl.String,
        "integer": pl.Int64,
        "double": pl.Float64,
        "boolean": pl.Boolean,
        "date": pl.Date,
    }
    kinds |= {"timestamp": pl.Datetime("us", "UTC"), "date": pl.Date}
    columns = project.feeds[feed].kept
    common = {"store": "367", "department": "DELI", "receipt": "", "amount": 1.0, "coupons": 0}
    made = [
        {name: (common | usual[feed] | {"receipt": str(10_000_000 + n)} | row)[name] for name in columns}
        for n, row in enumerate(rows)
    ]
    frame = pl.DataFrame(made, schema={name: kinds[column.type] for name, column in columns.items()})
    placed = frame.with_columns(day=pl.lit(day), delivery_id=pl.lit("a"), _row=pl.int_range(pl.len(), dtype=pl.Int64))
    if schemas.has_entity(project, project.feeds[feed]):
        placed = placed.with_columns(schemas.entity_id(project))
    return spark.createDataFrame(placed.to_arrow())


def built(
    spark: SparkSession, deliveries: dict[str, dict[date, list[dict[str, Any]]]], run_date: date = DAY
) -> list[dict[str, Any]]:
    """Return the features of a run date that knows all of the deliveries, by horizon and department."""
    frames = {
        feed: reduce(DataFrame.unionByName, [delivery(spark, feed, day, rows) for day, rows in of_days.items()])
        for feed, of_days in deliveries.items()
    }
    known = pl.DataFrame(
        [(run_date, feed, day, "a", len(rows)) for feed, days in deliveries.items() for day, rows in days.items()],
        schema={"run_date": pl.Date, "feed": pl.String, "day": pl.Date, "delivery_id": pl.String, "rows": pl.Int64},
        orient="row",
    )
    frame = typed(features.build(Feeds(load_project("stores"), frames, known)), horizons=True)
    return sorted((row.asDict() for row in frame.collect()), key=lambda row: (row["horizon"], row["department"]))


def ago(days: int) -> date:
    return DAY - timedelta(days=days)


def test_the_same_weekday_is_that_of_the_predicted_day(spark: SparkSession) -> None:
    """What is sold `n` days ago is `n`, so each value says its day; 0 to 6 days ahead, the newest is yesterday's."""
    ahead = [DAY + timedelta(days=n) for n in range(7) if (DAY + timedelta(days=n)).weekday() != 6]
    found = built(
        spark,
        {
            "plan": {day: [{}] for day in ahead},
            "promotions": {day: [{"on_display": day.day}] for day in ahead},
            "departments": {ago(40): [{}]},
            "sales": {ago(n): [{"units": n}] for n in range(1, 29)},
        },
    )
    assert [row["horizon"] for row in found] == [0, 1, 2, 3, 4, 6]
    for row in found:
        horizon, target = int(row["horizon"]), DAY + timedelta(days=int(row["horizon"]))
        assert [row[f"units_{week}_weeks_before"] for week in (1, 2, 3, 4)] == [7 * w - horizon for w in (1, 2, 3, 4)]
        assert row["day_of_week"] == target.weekday()
        assert row["day_of_month"] == row["on_display"] == target.day
        assert row["day"] == DAY
        assert row["units_store_department_7d"] == 4.0
        assert row["units_store_department_28d"] == 14.5


def test_windows_are_means_of_the_days_that_are_known(spark: SparkSession) -> None:
    """A day without a sale of the department counts as 0; one before the first delivery does not count at all."""
    other = {"department": "MEAT", "units": 30, "coupons": 3}
    found = built(
        spark,
        {
            "plan": {DAY: [{}, {"department": "MEAT"}, {"department": "PASTRY"}]},
            "promotions": {DAY: [{}]},
            "departments": {ago(1): [{}]},
            "sales": {ago(1): [{"units": 2}, {"units": 4}, other], ago(2): [other], ago(9): [other, {"units": 6}]},
        },
    )
    deli, meat, pastry = found
    assert (deli["units_store_department_7d"], deli["units_store_department_28d"]) == (6 / 2, 12 / 3)
    assert (deli["receipts_store_department_7d"], deli["receipts_store_department_28d"]) == (2 / 2, 3 / 3)
    assert (meat["coupons_store_department_28d"], deli["coupons_store_department_28d"]) == (9 / 3, 0.0)
    assert [row["units_store_28d"] for row in found] == [102 / 3] * 3
    assert (pastry["units_store_department_7d"], pastry["units_1_weeks_before"]) == (0.0, None)
    assert (deli["on_display"], meat["on_display"]) == (1.0, None)
    assert (deli["private_brand_share"], meat["private_brand_share"]) == (0.2, None)


def test_a_run_date_without_any_sales_has_rows_without_them(spark: SparkSession) -> None:
    """All that it knows is too old for the window of 7 days."""
    deliveries: dict[str, Any] = {"plan": {DAY: [{}]}, "promotions": {DAY: [{}]}, "departments": {ago(1): [{}]}}
    [row] = built(spark, {**deliveries, "sales": {ago(60): [{"units": 1}]}})
    assert row["units_store_department_7d"] is None
    assert row["units_1_weeks_before"] is None
