"""Features of a ferry, from what its run date knows. Functions map DataFrames to DataFrames, without I/O."""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

RATE_WINDOWS_DAYS = (1, 7, 28)
RATES_BY = ("company", "dest", "origin")


def build(feeds: Mapping[str, DataFrame], known: DataFrame, timezone: str) -> DataFrame:
    """Return one row per ferry and run date: `day` date, `entity_id` string, labels as string, all else double.

    `feeds`: clean rows of all deliveries, `logbook` with the outcomes as columns. `known` (run_date, feed, day,
    delivery_id): which delivery of which day each run date knows. `timezone`: of the wall clock in calendar features.
    """
    ferries = current_as_of(feeds["sailings"], known, "sailings")
    ferries = calendar(ferries, timezone)
    ferries = traffic(ferries)
    ferries = winds(ferries, current_as_of(feeds["winds"], known, "winds"))
    ferries = with_late_rates(ferries, late_rates(feeds["logbook"], known))
    numbers = [name for name, kind in ferries.dtypes if name.startswith(("late_rate_", "ferries_", "is_"))]
    numbers += [
        "leaving_hour", "arrival_hour", "day_of_week", "month", "distance_miles", "temperature_f", "dew_point_f",
        "humidity_percent", "wind_speed_mph", "wind_gust_mph", "precipitation_inches", "pressure_millibars",
        "visibility_miles", "winds_missing",
    ]  # fmt: skip
    return ferries.select(
        F.col("run_date").alias("day"),
        "entity_id",
        "company",
        "origin",
        "dest",
        *(F.col(name).cast("double").alias(name) for name in sorted(numbers)),
    )


def current_as_of(rows: DataFrame, known: DataFrame, feed: str) -> DataFrame:
    """Return the rows of a feed that each run date knows, with `run_date`."""
    of_feed = known.where(F.col("feed") == feed).select("run_date", "day", "delivery_id")
    return rows.join(F.broadcast(of_feed), ["day", "delivery_id"]).drop("day", "delivery_id", "_row")


def calendar(ferries: DataFrame, timezone: str) -> DataFrame:
    """Add local departure and arrival times (hours with fractions), and the kind of day.

    An arrival that is not a time is null, because Spark would fail on it; the expectation is only a warning.
    """
    departs = F.from_utc_timestamp("departs_at", timezone)
    arrives = F.regexp_extract("arrives_local", "^([01][0-9]|2[0-4])[0-5][0-9]$", 0)
    return ferries.withColumns({
        "leaving_hour": F.hour(departs) + F.minute(departs) / 60,
        "arrival_hour": F.substring(arrives, 1, 2).try_cast("int") + F.substring(arrives, 3, 2).try_cast("int") / 60,
        "day_of_week": F.weekday("run_date"),  # 0 is Monday
        "month": F.month("run_date"),
        "is_weekend": F.weekday("run_date") >= 5,
    })


def traffic(ferries: DataFrame) -> DataFrame:
    """Add the number of scheduled departures, this one included, of the same pier and hour and of the same route."""
    ferries = ferries.withColumn("hour", F.date_trunc("hour", "departs_at"))
    same_hour = Window.partitionBy("run_date", "origin", "hour")
    same_route = Window.partitionBy("run_date", "origin", "dest")
    return ferries.withColumns({
        "ferries_same_hour": F.count("*").over(same_hour),
        "ferries_same_route": F.count("*").over(same_route),
    })


def winds(ferries: DataFrame, observed: DataFrame) -> DataFrame:
    """Add the winds of the hour at the pier of departure; `winds_missing` is 1 if there are none."""
    hourly = observed.withColumn("winds_missing", F.lit(0.0)).withColumnRenamed("observed_at", "hour")
    joined = ferries.join(F.broadcast(hourly), ["run_date", "origin", "hour"], "left")
    return joined.fillna({"winds_missing": 1.0})


def late_rates(logbook: DataFrame, known: DataFrame) -> DataFrame:
    """Return one row per run date and group ("company UA"): the `shares` of late arrivals in the days before.

    The fields `1d`, `7d` and `28d` have the shares of 1, 7 and 28 days; null without a ferry. Rows are first counted by
    day and delivery, so that a year is small before the windows multiply it. Sums of 0 and 1 are exact, so the order of
    rows cannot change a bit. One pass covers all groups; a pass per column would read the logbook each time.
    """
    groups = F.array_compact(F.array(*(_group(by) for by in RATES_BY)))
    daily = (
        logbook
        .select("day", "delivery_id", "late_ferry", F.explode(groups).alias("group"))
        .groupBy("day", "delivery_id", "group")
        .agg(F.sum("late_ferry").alias("late"), F.count("late_ferry").alias("ferries"))
    )
    of_feed = known.where(F.col("feed") == "logbook").select("run_date", "day", "delivery_id")
    days_before = F.date_diff("run_date", "day")
    windows = daily.join(F.broadcast(of_feed), ["day", "delivery_id"]).where(days_before >= 1)
    shares = []
    for days in RATE_WINDOWS_DAYS:
        within = days_before <= days
        late, ferries = F.sum(F.when(within, F.col("late"))), F.sum(F.when(within, F.col("ferries")))
        shares.append(F.try_divide(late, ferries).alias(f"{days}d"))
    return windows.groupBy("run_date", "group").agg(F.struct(*shares).alias("shares"))


def with_late_rates(ferries: DataFrame, rates: DataFrame) -> DataFrame:
    """Add `late_rate_company_7d` and so on, null for a group without ferries. Spark computes the rates once."""
    for by in RATES_BY:
        grouped = ferries.withColumn("group", _group(by))
        joined = grouped.join(F.broadcast(rates), ["run_date", "group"], "left")
        shares = {f"late_rate_{by}_{days}d": F.col("shares")[f"{days}d"] for days in RATE_WINDOWS_DAYS}
        ferries = joined.withColumns(shares).drop("shares", "group")
    return ferries


def _group(by: str) -> Column:
    return F.concat(F.lit(f"{by} "), F.col(by))
