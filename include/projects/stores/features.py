"""Row features of a department of a store on a day, from what was known at the cutoff. DataFrame -> DataFrame."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from include.features import Feeds

OF_DEPARTMENT = ("store", "department")
WINDOWS = (7, 28)
WEEKS = 4


def build(feeds: Feeds) -> DataFrame:
    """Return one row for each run date (`day`), horizon and department of the plan: `entity_id` and the features."""
    rows = calendar(feeds.current("plan"))
    rows = promotions(rows, feeds.current("promotions"))
    rows = rows.join(F.broadcast(feeds.current("departments")), ["day", "department"], "left")
    rows = rows.join(F.broadcast(known_days(feeds)), "day", "left")
    rows = daily_sales(rows, feeds)
    rows = same_weekday(rows, feeds)
    return rows.drop("trade_day", "target_day", *(f"days_known_{days}d" for days in WINDOWS))


def calendar(plan: DataFrame) -> DataFrame:
    """Add the weekday (0 is Monday) and the day of the month, because of pay days, of the day that is predicted."""
    return plan.withColumns({"day_of_week": F.weekday("target_day"), "day_of_month": F.dayofmonth("target_day")})


def promotions(rows: DataFrame, promoted: DataFrame) -> DataFrame:
    """Add the products on displays and on the outer pages of the mailer; null where marketing has no row."""
    key = ["day", "horizon", "target_day", "entity_id"]
    return rows.join(promoted.select(*key, "on_display", "on_front_page"), key, "left")


def known_days(feeds: Feeds) -> DataFrame:
    """Return for each run date of how many of the newest days it knows the sales."""
    days = feeds.history("sales").select("day", "age").distinct()
    return days.groupBy("day").agg(*(F.count_if(F.col("age") <= n).alias(f"days_known_{n}d") for n in WINDOWS))


def daily_sales(rows: DataFrame, feeds: Feeds) -> DataFrame:
    """Add sales a day of the department and of the store, over the newest days that are known.

    A window without a sale has no rows, which means 0. What is divided by are the days that the run date knows, because
    in the first weeks it knows fewer than the window has.
    """
    before = set(rows.columns)
    rows = feeds.add_windows(
        rows,
        "sales",
        by=[OF_DEPARTMENT, "store"],
        days=WINDOWS,
        units=("units", "sum"),
        receipts=("units", "count"),
        coupons=("coupons", "sum"),
    )
    made = [name for name in rows.columns if name not in before]
    return rows.withColumns({
        name: F.try_divide(F.coalesce(name, F.lit(0)), F.col(f"days_known_{name.rsplit('_', 1)[1]}")) for name in made
    })


def same_weekday(rows: DataFrame, feeds: Feeds) -> DataFrame:
    """Add what the department sold on the weekday of the predicted day, one to four weeks before that day.

    The lags count from the run date: a week before the day that is 6 days ahead was yesterday. A day that the run date
    does not know is null; one without a sale is 0.
    """
    ages = range(1, 7 * WEEKS + 1)
    rows = feeds.add_lags(rows, "sales", by=OF_DEPARTMENT, ages=list(ages), units=("units", "sum"))
    lags = [f"units_store_department_lag{age}" for age in ages]
    sold = F.array(*(F.coalesce(lag, F.lit(0)) for lag in lags))
    for week in range(1, WEEKS + 1):
        age = F.lit(7 * week) - F.col("horizon")
        value = F.when(F.col("days_known_28d") >= age, F.get(sold, age - 1))
        rows = rows.withColumn(f"units_{week}_weeks_before", value)
    return rows.drop(*lags)
