"""Compute the year in one plain script with polars and scikit-learn, in one process and without the product.

It reads the files in landing, makes the features of the flights project, scores them, and COPYs what the product
publishes. It has no Airflow, expectations, checksums, corrections, versions or pointers. `bench/backfill.py` measures
what those cost.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import adbc_driver_postgresql.dbapi
import joblib
import polars as pl
import typer

ZONE = "America/New_York"
RATE_WINDOWS_DAYS = (1, 7, 28)
RATES_BY = ("carrier", "dest", "origin")
ENTITY = ("carrier", "flight", "origin", "scheduled_departure")
PUBLIC = (*ENTITY[:3], "dest", "scheduled_departure", "distance_miles")


def read(landing: Path, feed: str, types: dict[str, Any]) -> pl.DataFrame:
    """Read all files of a feed, with parsed timestamps and the local date as `day`."""
    names = types.keys()
    moment = next(name for name in names if name in ("scheduled_departure", "observed_at"))
    text = pl.read_csv(f"{landing}/{feed}/*/*.csv.gz", columns=list(names), schema_overrides=types)
    departs = pl.col(moment).str.to_datetime("%+", time_unit="us", time_zone="UTC")
    return text.with_columns(departs).with_columns(day=pl.col(moment).dt.convert_time_zone(ZONE).dt.date())


def make_features(schedule: pl.DataFrame, weather: pl.DataFrame, actuals: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each flight, as `include/projects/flights/features.py` does: day, entity_id, labels, f64."""
    local = pl.col("scheduled_departure").dt.convert_time_zone(ZONE)
    moment = pl.col("scheduled_departure").dt.strftime("%Y%m%dT%H%MZ")
    arrives = pl.col("scheduled_arrival_local").str.extract("^((?:[01][0-9]|2[0-4])[0-5][0-9])$", 1)
    hour, minute = arrives.str.slice(0, 2).cast(pl.Float64), arrives.str.slice(2, 2).cast(pl.Float64)
    flights = schedule.with_columns(
        entity_id=pl.concat_str("carrier", "flight", "origin", moment, separator="-"),
        hour=pl.col("scheduled_departure").dt.truncate("1h"),
        departure_hour=local.dt.hour().cast(pl.Float64) + local.dt.minute().cast(pl.Float64) / 60,
        arrival_hour=hour + minute / 60,
        day_of_week=pl.col("day").dt.weekday() - 1,
        month=pl.col("day").dt.month(),
        is_weekend=pl.col("day").dt.weekday() >= 6,
    ).with_columns(
        departures_same_hour=pl.len().over("day", "origin", "hour"),
        departures_same_route=pl.len().over("day", "origin", "dest"),
    )
    hourly = weather.with_columns(weather_missing=0.0).rename({"observed_at": "hour"}).drop("wind_direction_degrees")
    flights = flights.join(hourly, on=["day", "origin", "hour"], how="left")
    flights = flights.with_columns(pl.col("weather_missing").fill_null(1.0))
    late = actuals.with_columns(late=(pl.col("arr_delay_minutes").is_null() | (pl.col("arr_delay_minutes") > 15)))
    for by in RATES_BY:
        flights = flights.join(_late_rates(late, flights["day"].unique(), by), on=["day", by], how="left")
    left_out = [*ENTITY[1:2], "scheduled_departure", "scheduled_arrival_local", "hour"]
    labels = ["day", "entity_id", "carrier", "origin", "dest"]
    return flights.drop(left_out).select(*labels, pl.exclude(labels).cast(pl.Float64))


def _late_rates(late: pl.DataFrame, run_dates: pl.Series, by: str) -> pl.DataFrame:
    """Return each group's share of late arrivals in the 1, 7 and 28 days before each day; null without a flight."""
    daily = late.group_by("day", by).agg(late=pl.col("late").sum(), flights=pl.len())
    before = pl.DataFrame({"before": range(1, max(RATE_WINDOWS_DAYS) + 1)})
    windows = daily.join(before, how="cross").with_columns(day=pl.col("day") + pl.duration(days="before"))
    shares = []
    for days in RATE_WINDOWS_DAYS:
        within = pl.col("before") <= days
        flights = pl.col("flights").filter(within).sum()
        share = pl.col("late").filter(within).sum() / pl.when(flights > 0).then(flights)
        shares.append(share.alias(f"late_rate_{by}_{days}d"))
    return windows.filter(pl.col("day").is_in(run_dates.implode())).group_by("day", by).agg(shares)


def score(model: dict[str, Any], features: pl.DataFrame) -> pl.DataFrame:
    """Return day, entity_id, score and prediction of each row."""
    columns = [pl.col(name).cast(pl.String) for name in model["categorical"]]
    rows = features.select(*model["numeric"], *columns).to_pandas()
    scores = pl.Series("score", model["estimator"].predict_proba(rows)[:, 1])
    decided = (scores >= model["decision_threshold"]).cast(pl.Float64).alias("prediction")
    return features.select("day", "entity_id").with_columns(scores, decided)


def publish(database_url: str, scores: pl.DataFrame, entities: pl.DataFrame) -> None:
    """Replace two tables, and COPY predictions and entities into them."""
    with adbc_driver_postgresql.dbapi.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("bare_predictions", scores.to_arrow(), mode="replace")
        cursor.adbc_ingest("bare_entities", entities.to_arrow(), mode="replace")
        connection.commit()


def main(landing: Path, model: Path, out: Annotated[Path, typer.Argument(help="a folder")], database_url: str) -> None:
    """Read, make features, score and publish all days in landing; write features and scores to `out`."""
    with _timed("read"):
        text, number = pl.String(), pl.Float64()
        schedule = read(
            landing,
            "schedule",
            {"carrier": text, "flight": pl.Int64(), "origin": text, "dest": text, "scheduled_departure": text,
             "scheduled_arrival_local": text, "distance_miles": number, "is_holiday": pl.Boolean()},
        )  # fmt: skip
        measured = ["temperature_f", "dew_point_f", "humidity_percent", "wind_direction_degrees", "wind_speed_mph",
                    "wind_gust_mph", "precipitation_inches", "pressure_millibars", "visibility_miles"]  # fmt: skip
        weather = read(landing, "weather", {"origin": text, "observed_at": text, **dict.fromkeys(measured, number)})
        labels = dict.fromkeys(("carrier", "origin", "dest", "scheduled_departure"), text)
        actuals = read(landing, "actuals", {**labels, "arr_delay_minutes": number})
    with _timed("features"):
        features = make_features(schedule, weather, actuals).sort("day", "entity_id")
        features.write_parquet(out / "features.parquet")
    with _timed("score"):
        scores = score(joblib.load(model), features)
        scores.write_parquet(out / "scores.parquet")
    with _timed("publish"):
        moment = pl.col("scheduled_departure").dt.strftime("%Y%m%dT%H%MZ")
        entity_id = pl.concat_str("carrier", "flight", "origin", moment, separator="-").alias("entity_id")
        publish(database_url, scores, schedule.select("day", entity_id, *PUBLIC))


@contextmanager
def _timed(phase: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    typer.echo(f"{phase} {time.monotonic() - began:.2f}")


if __name__ == "__main__":
    typer.run(main)
