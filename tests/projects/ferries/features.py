"""Features of a ferry, from what its run date knows. Functions map DataFrames to DataFrames, without I/O."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from include.features import Feeds


def build(feeds: Feeds) -> DataFrame:
    """Return one row for each ferry of each run date (`day`): `entity_id` and the features."""
    ferries = feeds.current("sailings")
    ferries = calendar(ferries, feeds.timezone)
    ferries = traffic(ferries)
    ferries = winds(ferries, feeds.current("winds"))
    ferries = feeds.add_windows(
        ferries, "logbook", by=["company", "dest", "origin"], days=[1, 7, 28], late_rate=("late_ferry", "share")
    )
    return ferries.drop("ferry", "departs_at", "arrives_local", "hour", "wind_direction_degrees")


def calendar(ferries: DataFrame, timezone: str) -> DataFrame:
    """Add local departure and arrival times (hours with fractions), and the kind of day.

    An arrival that is not a time is null, because Spark would fail on it; the expectation is only a warning.
    """
    departs = F.from_utc_timestamp("departs_at", timezone)
    arrives = F.regexp_extract("arrives_local", "^([01][0-9]|2[0-4])[0-5][0-9]$", 0)
    return ferries.withColumns({
        "leaving_hour": F.hour(departs) + F.minute(departs) / 60,
        "arrival_hour": F.substring(arrives, 1, 2).try_cast("int") + F.substring(arrives, 3, 2).try_cast("int") / 60,
        "day_of_week": F.weekday("day"),  # 0 is Monday
        "month": F.month("day"),
        "is_weekend": F.weekday("day") >= 5,
    })


def traffic(ferries: DataFrame) -> DataFrame:
    """Add the number of scheduled departures, this one included, of the same pier and hour and of the same route."""
    ferries = ferries.withColumn("hour", F.date_trunc("hour", "departs_at"))
    same_hour = Window.partitionBy("day", "origin", "hour")
    same_route = Window.partitionBy("day", "origin", "dest")
    return ferries.withColumns({
        "ferries_same_hour": F.count("*").over(same_hour),
        "ferries_same_route": F.count("*").over(same_route),
    })


def winds(ferries: DataFrame, observed: DataFrame) -> DataFrame:
    """Add the winds of the hour at the pier of departure; `winds_missing` is 1 if there are none."""
    hourly = observed.withColumn("winds_missing", F.lit(0.0)).withColumnRenamed("observed_at", "hour")
    joined = ferries.join(F.broadcast(hourly), ["day", "origin", "hour"], "left")
    return joined.fillna({"winds_missing": 1.0})
