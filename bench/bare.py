"""Prepare, score and publish the flights in one plain script, in one process and without the product.

It uses polars, pyarrow and scikit-learn, and does what `land`, `validate`, `build_features`, `score` and `publish` do
with a range of days: it reads the files in landing in blocks, types their values, applies the rules of
`expectations.yaml`, writes clean and quarantined rows and features as Parquet, scores, and COPYs what the product
publishes into tables with the same keys. It works on some days at a time, so its memory is bounded.

It has no Airflow, hashes of identifiers, checksums, corrections, versions or pointers, and keeps no raw rows; of rules
it keeps counts only. `bench/backfill.py` and `bench/scale.py` measure what those cost.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import adbc_driver_postgresql.dbapi
import joblib
import polars as pl
import pyarrow as pa
import typer
from threadpoolctl import threadpool_limits

from bench.bare_feeds import ACTUALS, FEEDS, SCHEDULE, WEATHER, PlainFeed, check

ZONE = ZoneInfo("America/New_York")
RATE_WINDOWS_DAYS = (1, 7, 28)
RATES_BY = ("carrier", "dest", "origin")
PUBLIC = ("carrier", "flight", "origin", "dest", "scheduled_departure", "distance_miles")

BLOCK_BYTES = 4 << 20  # of text, read at a time
PIECE_BYTES = 32 << 20  # of text, checked at a time: many small files or a part of a large one
DAYS_BYTES = 8 << 20  # of packed files of a feed, whose days are handled together
SCORED_ROWS = 50_000  # at a time

TABLES = (
    """
CREATE TABLE predictions (batch_id uuid, model text NOT NULL, day date NOT NULL, horizon integer,
    entity_id text COLLATE "C", score double precision NOT NULL, prediction double precision NOT NULL,
    PRIMARY KEY (batch_id, horizon, entity_id))
""",
    """
CREATE TABLE entities (day date, horizon integer, entity_id text COLLATE "C", carrier text, flight bigint, origin text,
    dest text, scheduled_departure timestamptz, distance_miles double precision,
    PRIMARY KEY (day, horizon, entity_id))
""",
)


@dataclass
class Phases:
    """Seconds and core-seconds of this process by phase. Those of PostgreSQL are not in them."""

    used: dict[str, tuple[float, float]] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add what the block takes to a phase."""
        began, before = time.monotonic(), time.process_time()
        yield
        seconds, cores = self.used.get(name, (0.0, 0.0))
        self.used[name] = (seconds + time.monotonic() - began, cores + time.process_time() - before)


def blocks(file: Path) -> Iterator[bytes]:
    """Yield an unpacked file in blocks of whole records: each ends at a line break outside quotes."""
    rest = b""
    with pa.input_stream(str(file), compression="gzip") as stream:
        while read := stream.read(BLOCK_BYTES):
            rest += read
            end = rest.rfind(b"\n") + 1
            while rest.count(b'"', 0, end) % 2:
                end = rest.rfind(b"\n", 0, end - 1) + 1
            if end:
                yield rest[:end]
                rest = rest[end:]
    if rest:
        yield rest


def read_text(feed: PlainFeed, files: dict[date, Path]) -> Iterator[pl.DataFrame]:
    """Yield the rows of files as text, with the day of each file and the moments at which it begins and ends."""
    piece, size = [], 0
    for day, file in files.items():
        first, last = (_midnight(each) for each in (day, day + timedelta(days=1)))
        of_file = (pl.lit(day).alias("day"), pl.lit(first).alias("_begins"), pl.lit(last).alias("_ends"))
        header: list[str] | None = None
        for block in blocks(file):
            text = pl.read_csv(block, has_header=header is None, new_columns=header, infer_schema=False)
            header = text.columns
            piece.append(text.select(*feed.columns, *of_file))
            size += len(block)
            if size >= PIECE_BYTES:
                yield pl.concat(piece)
                piece, size = [], 0
    if piece:
        yield pl.concat(piece)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZONE).astimezone(ZoneInfo("UTC"))


def clean_rows(feed: PlainFeed, files: dict[date, Path], out: Path, limit: int, phases: Phases) -> pl.DataFrame:
    """Read files, write their clean and quarantined rows, count those that break a rule, and return the clean ones.

    Raises:
        ValueError: a file breaks a rule about whole deliveries.
    """
    kept: list[pl.DataFrame] = []
    counts: list[pl.DataFrame] = []
    pieces = read_text(feed, files)
    while True:
        with phases.phase("read"):
            text = next(pieces, None)
        if text is None:
            break
        with phases.phase("validate"):
            checked = check(feed, text)
            for rows, kind in ((checked.clean, "clean"), (checked.quarantined, "quarantine")):
                if not rows.is_empty():
                    write(rows, out / kind / feed.name, f"{rows['day'][0]}-{len(kept)}")
            kept.append(checked.clean)
            counts.append(checked.counts)
    with phases.phase("validate"):
        rows, counted = pl.concat(kept), pl.concat(counts).group_by("day").sum().sort("day")
        write(counted, out / "quality" / feed.name, f"{counted['day'][0]}")
        feed.require_whole(rows, counted, limit)
    return rows


def write(rows: pl.DataFrame, folder: Path, name: str) -> None:
    """Write rows as a Parquet file of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(folder / f"{name}.parquet")


def some_days(files: dict[date, Path]) -> Iterator[list[date]]:
    """Yield days, so many at a time that their files are about DAYS_BYTES together."""
    chunk, size = [], 0
    for day, file in files.items():
        chunk.append(day)
        size += file.stat().st_size
        if size >= DAYS_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def count_late(actuals: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return the flights and the late ones of each day, by each of RATES_BY."""
    late = actuals.select(
        "day", *RATES_BY, late=pl.col("arr_delay_minutes").is_null() | (pl.col("arr_delay_minutes") > 15)
    )
    return {by: late.group_by("day", by).agg(late=pl.col("late").sum(), flights=pl.len()) for by in RATES_BY}


def late_rates(daily: pl.DataFrame, by: str) -> pl.DataFrame:
    """Return each group's share of late arrivals in the 1, 7 and 28 days before each day; null without a flight."""
    before = pl.DataFrame({"before": range(1, max(RATE_WINDOWS_DAYS) + 1)})
    windows = daily.join(before, how="cross").with_columns(day=pl.col("day") + pl.duration(days="before"))
    shares = []
    for days in RATE_WINDOWS_DAYS:
        within = pl.col("before") <= days
        flights = pl.col("flights").filter(within).sum()
        share = pl.col("late").filter(within).sum() / pl.when(flights > 0).then(flights)
        shares.append(share.alias(f"late_rate_{by}_{days}d"))
    return windows.group_by("day", by).agg(shares)


def make_features(schedule: pl.DataFrame, weather: pl.DataFrame, rates: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Return the features of each flight as `include/projects/flights/features.py` does, beside its public columns.

    The rows are sorted by day and entity_id.
    """
    moment = pl.col("scheduled_departure").dt.strftime("%Y%m%dT%H%MZ")
    arrives = pl.col("scheduled_arrival_local").str.extract("^((?:[01][0-9]|2[0-4])[0-5][0-9])$", 1)
    hour, minute = arrives.str.slice(0, 2).cast(pl.Float64), arrives.str.slice(2, 2).cast(pl.Float64)
    local = pl.col("scheduled_departure").dt.convert_time_zone(ZONE.key).dt.replace_time_zone(None)
    flights = schedule.with_columns(
        entity_id=pl.concat_str("carrier", "flight", "origin", moment, separator="-"),
        hour=pl.col("scheduled_departure").dt.truncate("1h"),
        local=local,
        arrival_hour=hour + minute / 60,
        day_of_week=pl.col("day").dt.weekday() - 1,
        month=pl.col("day").dt.month(),
        is_weekend=pl.col("day").dt.weekday() >= 6,
    ).with_columns(
        departure_hour=pl.col("local").dt.hour().cast(pl.Float64) + pl.col("local").dt.minute().cast(pl.Float64) / 60,
        departures_same_hour=pl.len().over("day", "origin", "hour"),
        departures_same_route=pl.len().over("day", "origin", "dest"),
    )
    hourly = weather.with_columns(weather_missing=0.0).rename({"observed_at": "hour"}).drop("wind_direction_degrees")
    flights = flights.join(hourly, on=["day", "origin", "hour"], how="left")
    flights = flights.with_columns(pl.col("weather_missing").fill_null(1.0))
    for by, of_group in rates.items():
        flights = flights.join(of_group, on=["day", by], how="left")
    labels = ["day", "entity_id", *PUBLIC, "scheduled_arrival_local", "hour", "local"]
    as_features = (pl.exclude(labels).cast(pl.Float64), pl.col("distance_miles").cast(pl.Float64))
    return flights.select("day", "entity_id", *PUBLIC[:-1], *as_features).sort("day", "entity_id")


def features_of(flights: pl.DataFrame) -> pl.DataFrame:
    """Return the rows as the product stores them as features."""
    return flights.drop("flight", "scheduled_departure")


def score(model: dict[str, Any], flights: pl.DataFrame) -> pl.DataFrame:
    """Return day, entity_id, score and prediction of each row."""
    columns = [pl.col(name).cast(pl.String) for name in model["categorical"]]
    parts = flights.select(*model["numeric"], *columns).iter_slices(SCORED_ROWS)
    with threadpool_limits(1):  # threads that wait for each other would spin
        scores = [pl.Series("score", model["estimator"].predict_proba(rows.to_pandas())[:, 1]) for rows in parts]
    scored = pl.concat(scores)
    decided = (scored >= model["decision_threshold"]).cast(pl.Float64).alias("prediction")
    return flights.select("day", "entity_id").with_columns(scored, decided)


def publish(connection: Any, scores: pl.DataFrame, flights: pl.DataFrame) -> None:
    """COPY predictions and entities of whole days in one transaction."""
    batches = {day: uuid.uuid5(uuid.NAMESPACE_OID, str(day)).bytes for day in scores["day"].unique()}
    horizon = pl.lit(0, pl.Int32).alias("horizon")
    batch = pl.col("day").replace_strict(batches, return_dtype=pl.Binary).alias("batch_id")
    predictions = scores.select(
        batch, pl.lit("bare").alias("model"), "day", horizon, "entity_id", "score", "prediction"
    )
    with connection.cursor() as cursor:
        cursor.adbc_ingest("predictions", predictions.to_arrow(), mode="append")
        cursor.adbc_ingest("entities", flights.select("day", horizon, "entity_id", *PUBLIC).to_arrow(), mode="append")
    connection.commit()


def files_of(landing: Path, feed: PlainFeed) -> dict[date, Path]:
    """Return the file of each day, by day."""
    found = sorted(landing.glob(f"{feed.name}/*/*.csv.gz"))
    return {date.fromisoformat(file.parent.name): file for file in found}


def main(
    landing: Path,
    model: Path,
    out: Annotated[Path, typer.Argument(help="an empty folder")],
    database_url: Annotated[str, typer.Argument(help="an empty database")],
    times: Annotated[int, typer.Option(help="how many times the rows of the flights the files have")] = 1,
) -> None:
    """Read, check, make features, score and publish all days in landing; print seconds and core-seconds by phase."""
    phases = Phases()
    files = {feed.name: files_of(landing, feed) for feed in FEEDS}
    loaded = joblib.load(model)
    clean = partial(clean_rows, out=out, limit=times, phases=phases)
    daily: dict[str, list[pl.DataFrame]] = {by: [] for by in RATES_BY}
    for days in some_days(files["actuals"]):
        actuals = clean(ACTUALS, {day: files["actuals"][day] for day in days})
        with phases.phase("features"):
            for by, counts in count_late(actuals).items():
                daily[by].append(counts)
    with phases.phase("features"):
        rates = {by: late_rates(pl.concat(counts), by) for by, counts in daily.items()}
    with adbc_driver_postgresql.dbapi.connect(database_url) as connection:
        with connection.cursor() as cursor:
            for table in TABLES:
                cursor.execute(table)
        for days in some_days(files["schedule"]):
            schedule, weather = (
                clean(feed, {day: files[feed.name][day] for day in days}) for feed in (SCHEDULE, WEATHER)
            )
            with phases.phase("features"):
                flights = make_features(schedule, weather, rates)
                write(features_of(flights), out / "features", f"{days[0]}")
            with phases.phase("score"):
                scores = score(loaded, flights)
                write(scores, out / "scores", f"{days[0]}")
            with phases.phase("publish"):
                publish(connection, scores, flights)
    for name, (seconds, cores) in phases.used.items():
        typer.echo(f"{name} {seconds:.2f} {cores:.2f}")


if __name__ == "__main__":
    typer.run(main)
