"""Row features of a flight, from what its run date knew. DataFrame -> DataFrame: no reading, no writing."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from include.features import Feeds


def build(feeds: Feeds) -> DataFrame:
    """Return one row for each flight of each run date (`day`): `entity_id` and the features."""
    flights = feeds.current("schedule")
    flights = calendar(flights, feeds.timezone)
    flights = traffic(flights)
    flights = weather(flights, feeds.current("weather"))
    flights = feeds.add_windows(
        flights, "actuals", by=["carrier", "dest", "origin"], days=[1, 7, 28], late_rate=("late_arrival", "share")
    )
    return flights.drop("flight", "scheduled_departure", "scheduled_arrival_local", "hour", "wind_direction_degrees")


def calendar(flights: DataFrame, timezone: str) -> DataFrame:
    """Add when a flight leaves and arrives by the wall clock (hours and fractions), and on what kind of day.

    An arrival that is not a time (expectations only warn about it) is null, because Spark would fail on it.
    """
    departs = F.from_utc_timestamp("scheduled_departure", timezone)
    arrives = F.regexp_extract("scheduled_arrival_local", "^([01][0-9]|2[0-4])[0-5][0-9]$", 0)
    return flights.withColumns({
        "departure_hour": F.hour(departs) + F.minute(departs) / 60,
        "arrival_hour": F.substring(arrives, 1, 2).try_cast("int") + F.substring(arrives, 3, 2).try_cast("int") / 60,
        "day_of_week": F.weekday("day"),  # 0 is Monday
        "month": F.month("day"),
        "is_weekend": F.weekday("day") >= 5,
    })


def traffic(flights: DataFrame) -> DataFrame:
    """How many departures are scheduled, itself included: same airport and hour, and same route.

    Null where the airport, the hour or the route is not known.
    """
    flights = flights.withColumn("hour", F.date_trunc("hour", "scheduled_departure"))
    same_hour, same_route = ["day", "origin", "hour"], ["day", "origin", "dest"]
    # Counts are few, so they are sent to the flights. A window would sort all flights, once for each.
    by_hour = flights.groupBy(same_hour).agg(F.count("*").alias("departures_same_hour"))
    by_route = flights.groupBy(same_route).agg(F.count("*").alias("departures_same_route"))
    return flights.join(F.broadcast(by_hour), same_hour, "left").join(F.broadcast(by_route), same_route, "left")


def weather(flights: DataFrame, observed: DataFrame) -> DataFrame:
    """The weather of the hour at the airport of departure; `weather_missing` is 1 where there is none."""
    hourly = observed.withColumn("weather_missing", F.lit(0.0)).withColumnRenamed("observed_at", "hour")
    joined = flights.join(F.broadcast(hourly), ["day", "origin", "hour"], "left")
    return joined.fillna({"weather_missing": 1.0})
