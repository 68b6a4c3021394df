"""Row features of a department of a store on a day, from what was known at the cutoff. DataFrame -> DataFrame."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from include.features import Feeds

WEEKS, LAGS = (7, 28), (7, 14, 21, 28)


def build(feeds: Feeds) -> DataFrame:
    """Return one row for each department of the plan and run date (`day`): `entity_id` and the features."""
    rows = calendar(feeds.current("plan"))
    rows = promotions(rows, feeds.current("promotions"))
    rows = rows.join(F.broadcast(feeds.current("departments")), ["day", "department"], "left")
    rows = sales(rows, feeds)
    return rows.drop("trade_day")


def calendar(plan: DataFrame) -> DataFrame:
    """Add the weekday (0 is Monday) and the week of the month, in which pay days and benefits fall."""
    return plan.withColumns({
        "day_of_week": F.weekday("trade_day"),
        "day_of_month": F.dayofmonth("trade_day"),
    })


def promotions(rows: DataFrame, promoted: DataFrame) -> DataFrame:
    """Add the products on displays and on the outer pages of the mailer; null where marketing has no row."""
    on = ["day", "store", "department", "trade_day"]
    return rows.join(promoted.withColumnRenamed("valid_on", "trade_day"), on, "left")


def sales(rows: DataFrame, feeds: Feeds) -> DataFrame:
    """Add sales a day over the newest days that are known, and those of the same weekday in the weeks before.

    A window without a sale has no rows, which means 0. What is divided by are the days that the run date knows, because
    in the first weeks it knows fewer than the window has.
    """
    of_department = ("store", "department")
    rows = feeds.add_windows(
        rows, "sales", by=[of_department, "store"], days=WEEKS, units=("units", "sum"), receipts=("units", "count")
    )
    rows = feeds.add_windows(rows, "sales", by=of_department, days=[28], coupons=("coupons", "sum"))
    rows = feeds.add_lags(rows, "sales", by=of_department, ages=LAGS, units=("units", "sum"))
    rows = rows.join(F.broadcast(known_days(feeds)), "day", "left")
    lags = {f"units_lag{age}": F.coalesce(f"units_store_department_lag{age}", F.lit(0)) for age in LAGS}
    rows = rows.withColumns({
        name: F.when(F.col("days_known_28d") >= age, value)
        for age, (name, value) in zip(LAGS, lags.items(), strict=True)
    })
    made = [f"{name}_{group}_{n}d" for name in ("units", "receipts") for group in GROUPS for n in WEEKS]
    made.append("coupons_store_department_28d")
    daily = {name: F.coalesce(name, F.lit(0)) / F.col(f"days_known_{name.rsplit('_', 1)[1]}") for name in made}
    return rows.withColumns(daily).drop(*(f"units_store_department_lag{age}" for age in LAGS), "days_known_7d")


GROUPS = ("store_department", "store")


def known_days(feeds: Feeds) -> DataFrame:
    """Return for each run date of how many of the newest days it knows the sales."""
    days = feeds.history("sales").select("day", "age").distinct()
    counts = {f"days_known_{n}d": F.count_if(F.col("age") <= n) for n in WEEKS}
    return days.groupBy("day").agg(*(count.alias(name) for name, count in counts.items()))
