"""What `simulate` makes of the receipts of 2017, compared with the source by other means."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from include.config.loading import load_project
from include.core.interval import Interval
from include.core.local_time import hours_of
from include.core.project import Project
from include.operations.simulate import make_frame
from include.projects.stores import simulate
from include.projects.stores.simulate import DEPARTMENTS, SOURCE_START, source_day

NEW_YORK, CHICAGO = ZoneInfo("America/New_York"), ZoneInfo("America/Chicago")
SATURDAY, SUNDAY = date(2017, 3, 11), date(2017, 3, 12)
"""On this Sunday, clocks were put forward."""


@pytest.fixture(scope="module")
def project() -> Project:
    return load_project("stores")


def of_source(day: date) -> Iterator[dict[str, Any]]:
    """Yield the lines of a day by the clock in New York, without any of the code that is tested."""
    begin = datetime.combine(day, datetime.min.time(), NEW_YORK).astimezone(UTC).replace(tzinfo=None)
    end = datetime.combine(day + timedelta(days=1), datetime.min.time(), NEW_YORK).astimezone(UTC).replace(tzinfo=None)
    folder = simulate._source_file("transactions").parent
    lines = pl.scan_parquet(folder / "transactions.parquet").filter(
        pl.col("transaction_timestamp").is_between(begin, end, closed="left")
    )
    products = pl.scan_parquet(folder / "products.parquet").select("product_id", "department")
    yield from lines.join(products, on="product_id").collect().iter_rows(named=True)


def test_the_busiest_stores_and_all_departments_are_planned_each_day(project: Project) -> None:
    plan = make_frame(project, "plan", SATURDAY)
    assert plan.select("store", "department").is_unique().all()
    assert plan["store"].n_unique() == 40
    assert {"367", "406", "356"} <= {*plan["store"]}, "the three with most receipts"
    assert {*plan["department"]} == {*DEPARTMENTS}
    assert plan.height == 40 * 8


@pytest.mark.parametrize("day", [date(2017, 2, 14), SATURDAY, SUNDAY, date(2017, 11, 5), date(2017, 12, 31)])
def test_sales_are_those_of_the_source(project: Project, day: date) -> None:
    sales = make_frame(project, "sales", day)
    wanted: dict[tuple[str, str], list[float]] = {}
    stores = {*make_frame(project, "plan", day)["store"]}
    for line in of_source(day):
        if str(line["store_id"]) in stores and line["department"] in DEPARTMENTS:
            totals = wanted.setdefault((str(line["basket_id"]), str(line["department"])), [0, 0.0, 0])
            totals[0] += line["quantity"]
            totals[1] += line["sales_value"]
            totals[2] += line["coupon_disc"] > 0
    found = {(r["receipt"], r["department"]): [r["units"], r["amount"], r["coupons"]] for r in sales.to_dicts()}
    assert len(found) > 300
    assert found.keys() == wanted.keys()
    for key, values in found.items():
        assert values == pytest.approx(wanted[key], abs=0.006), key


@pytest.mark.parametrize("day", [date(2017, 2, 14), SUNDAY, date(2017, 7, 4)])
def test_a_receipt_keeps_the_time_on_the_wall(project: Project, day: date) -> None:
    walls = {
        (
            str(line["basket_id"]),
            line["transaction_timestamp"].replace(tzinfo=UTC).astimezone(NEW_YORK).replace(tzinfo=None),
        )
        for line in of_source(day)
    }
    sales = make_frame(project, "sales", day).select("receipt", "sold_at").rows()
    assert {(receipt, at.astimezone(CHICAGO).replace(tzinfo=None)) for receipt, at in sales} <= walls


def test_no_receipt_is_of_an_hour_that_the_clock_skips(project: Project) -> None:
    hours = {at.astimezone(CHICAGO).strftime("%H") for at in make_frame(project, "sales", SUNDAY)["sold_at"]}
    assert hours <= {*hours_of(SUNDAY, CHICAGO)}
    assert len(hours_of(SUNDAY, CHICAGO)) == 23
    shifted = SUNDAY + timedelta(days=simulate.CYCLE_DAYS)  # 11 March 2018, on which they are put forward too
    assert make_frame(project, "sales", shifted).height == make_frame(project, "sales", SUNDAY).height


def test_the_books_have_each_planned_department_with_its_sales(project: Project) -> None:
    plan, settled = (make_frame(project, feed, SATURDAY) for feed in ("plan", "settled"))
    key = ["store", "department", "trade_day"]
    assert settled.select(key).equals(plan.select(key))
    sales = make_frame(project, "sales", SATURDAY)
    for name in ("units", "coupons"):
        assert settled[name].sum() == sales[name].sum()
    assert settled["receipts"].sum() == sales.height
    quiet = settled.filter(pl.col("receipts") == 0)
    assert quiet.height > 30
    assert quiet["units"].sum() == 0


@pytest.mark.parametrize("day", [date(2017, 1, 24), SATURDAY, date(2017, 12, 30)])
def test_promotions_are_those_of_the_week(project: Project, day: date) -> None:
    folder = simulate._source_file("promotions").parent
    products = pl.read_parquet(folder / "products.parquet").filter(pl.col("department") == "GROCERY")
    week = int(
        pl
        .read_parquet(folder / "transactions.parquet", columns=["week", "transaction_timestamp"])
        .filter(pl.col("transaction_timestamp") >= datetime.combine(day, datetime.min.time()) + timedelta(hours=12))
        .sort("transaction_timestamp")["week"][0]
    )
    rows = (
        pl
        .scan_parquet(folder / "promotions.parquet")
        .filter(
            pl.col("week") == week,
            pl.col("store_id") == 367,
            pl.col("product_id").is_in(products["product_id"].to_list()),
        )
        .collect()
    )
    [plan] = make_frame(project, "plan", day).filter(store="367", department="GROCERY").to_dicts()
    [shown] = make_frame(project, "promotions", day).filter(store="367", department="GROCERY").to_dicts()
    assert plan["promoted_products"] == rows.height > 1000
    assert plan["mailer_share"] == pytest.approx((rows["mailer_location"] != "0").mean(), abs=0.0006)
    assert shown["on_display"] == (rows["display_location"] != "0").sum()
    assert shown["on_front_page"] == rows["mailer_location"].is_in([*"DFHL"]).sum()


def test_any_date_has_the_rows_of_a_day_of_2017_with_its_weekday(project: Project) -> None:
    for day in Interval(start=date(2026, 1, 1), end=date(2026, 12, 31)).days:
        source = source_day(day)
        assert source.weekday() == day.weekday()
        assert SOURCE_START <= source <= date(2017, 12, 31)
    later = SATURDAY + timedelta(days=simulate.CYCLE_DAYS)
    assert (
        make_frame(project, "settled", later)
        .drop("trade_day")
        .equals(make_frame(project, "settled", SATURDAY).drop("trade_day"))
    )


def test_equal_days_have_equal_rows_in_another_process(project: Project) -> None:
    """Caches are dropped, because another process has none."""
    before = {feed: make_frame(project, feed, SATURDAY) for feed in project.feeds}
    for cached in (simulate.source_lines, simulate.source_stores, simulate.source_promotions, simulate._sales):
        cached.cache_clear()
    for feed, rows in before.items():
        assert make_frame(project, feed, SATURDAY).equals(rows), feed


def test_the_office_sends_nothing_for_sundays_but_the_tills_do(project: Project) -> None:
    def needed(run_date: date) -> set[tuple[str, date]]:
        return {*project.delivered_days(run_date)}

    monday = SUNDAY + timedelta(days=1)
    assert ("sales", SUNDAY) in needed(monday)
    of_office = [(feed, day) for feed, day in needed(SUNDAY) | needed(monday) if feed != "sales"]
    assert {day.weekday() for _, day in of_office} == {0, 1, 2, 3, 4, 5}
    assert ("settled", SATURDAY - timedelta(days=7)) in needed(SATURDAY)
    assert {day for feed, day in needed(monday) if feed == "plan"} == {
        *Interval(start=monday, end=monday + timedelta(days=5)).days
    }


def test_everything_is_ready_before_the_cutoff(project: Project) -> None:
    for feed, declared in project.feeds.items():
        days, local = simulate.READY_AT[feed]
        if not declared.is_snapshot:
            first = declared.first_run_date(SATURDAY)
            assert SATURDAY + timedelta(days=days) <= first
            assert days < (first - SATURDAY).days or local < project.cutoff


def test_personal_columns_are_made_up_or_hashed(project: Project) -> None:
    emails = make_frame(project, "plan", SATURDAY)["manager_email"]
    assert all(email.endswith("@example.org") for email in emails)
    assert "manager_email" not in project.feeds["plan"].kept
    card = project.feeds["sales"].columns["card"]
    assert card.data_class == "identifier"
    assert all(card.has_form(number) for number in make_frame(project, "sales", SATURDAY)["card"])


def test_spoiled_rows_break_a_rule(project: Project) -> None:
    plan = make_frame(project, "plan", SATURDAY)
    spoiled = simulate.spoil(plan)
    assert (spoiled["mailer_share"] > 1).sum() == simulate.SPOILED_ROWS == 3
    assert spoiled.tail(-3).equals(plan.tail(-3))
