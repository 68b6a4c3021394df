"""The ways that `bench/publish.py` compares. Each is a process of its own, which gets JSON as input.

All of them write the same rows into the same two tables of the product: predictions, and the entities of the project.
`publish` is the product's own step, from its Delta tables. `ingest` is what a plain script does: it reads the same
Delta tables a day at a time, sorts by the key, and copies with ADBC. It has no digest, no check and no pointer. The
others get the rows as two Parquet files, and write them as the documentation of each library shows.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi
import polars as pl
import psutil
import sqlalchemy as sa

from bench import cpu
from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.settings import Settings
from include.io.postgres import schema
from include.steps.publish import publish
from tests.own_projects import use_own_projects

KEY = ("day", "horizon", "entity_id")
TABLES = ("predictions", "entities_ferries")
SPARK = {"spark.ui.enabled": "false", "spark.driver.memory": "1g", "spark.sql.session.timeZone": "UTC"}

Given = dict[str, Any]


def by_publish(given: Given) -> None:
    """Publish with the product's step."""
    settings = Settings.model_validate(given["settings"])
    model = load_model(given["model"])
    published = publish(model, Interval(start=given["days"][0], end=given["days"][-1]), settings)
    states = {day.state for day in published.days}
    if published.rows != given["rows"] or states != {given.get("state", "published")}:
        raise SystemExit(f"{published.rows} rows were {states}")


def by_nights(given: Given) -> None:
    """Publish each day by itself, as nightly runs do."""
    settings, model = Settings.model_validate(given["settings"]), load_model(given["model"])
    rows = [publish(model, Interval(start=day, end=day), settings).rows for day in given["days"]]
    if sum(rows) != given["rows"]:
        raise SystemExit(f"{sum(rows)} rows were published")


def by_ingest(given: Given) -> None:
    """Copy both tables with ADBC, a day in a transaction."""
    with adbc_driver_postgresql.dbapi.connect(given["url"]) as connection, connection.cursor() as cursor:
        for day, batch in zip(given["days"], given["batches"], strict=True):
            cursor.adbc_ingest("predictions", predictions_of(given, day, batch).to_arrow(), mode="append")
            cursor.adbc_ingest("entities_ferries", entities_of(given, day).to_arrow(), mode="append")
            connection.commit()


def predictions_of(given: Given, day: str, batch: str) -> pl.DataFrame:
    """Return the rows of predictions of a day, from the table of scores."""
    scores = pl.scan_delta(given["scores"]).filter(pl.col("day") == date.fromisoformat(day))
    return scores.select(
        pl.lit(bytes.fromhex(batch.replace("-", ""))).alias("batch_id"),
        pl.lit(given["model"]).alias("model"),
        *KEY,
        "score",
        "prediction",
    ).sort(KEY).collect()  # fmt: skip


def entities_of(given: Given, day: str) -> pl.DataFrame:
    """Return the rows of entities of a day, from the clean table."""
    clean = pl.scan_delta(given["clean"]).filter(pl.col("day") == date.fromisoformat(day))
    columns = ("day", pl.lit(0, pl.Int32).alias("horizon"), "entity_id", *given["public"])
    return clean.select(*columns).sort(KEY).collect()


def by_sqlalchemy(given: Given) -> None:
    """Insert lists of dicts with `Connection.execute`, which sends many rows a statement."""
    engine = sa.create_engine(_psycopg2(given))
    project = load_project("ferries")
    with engine.begin() as connection:
        for table, name in ((schema.predictions, "predictions"), (_entities(project), "entities_ferries")):
            rows = pl.read_parquet(given["files"][name]).to_dicts()
            connection.execute(sa.insert(table), rows)


def by_pandas(given: Given) -> None:
    """Insert frames with `DataFrame.to_sql`."""
    engine = sa.create_engine(_psycopg2(given))
    with engine.begin() as connection:
        for name in TABLES:
            frame = pl.read_parquet(given["files"][name]).to_pandas()
            types: Any = {"batch_id": schema.UUID} if name == "predictions" else None
            frame.to_sql(name, connection, if_exists="append", index=False, dtype=types)


def by_spark(given: Given) -> None:
    """Write with Spark's JDBC source, on a local Spark with two cores."""
    spark = given["spark"]
    for name in TABLES:
        frame = spark.read.parquet(given["files"][name])
        options = {"driver": "org.postgresql.Driver", "reWriteBatchedInserts": "true"}
        frame.write.jdbc(given["jdbc"], name, mode="append", properties=options)


def _start_spark(given: Given) -> None:
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master("local[2]").config("spark.jars", given["jar"])
    for name, value in SPARK.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    spark.read.parquet(given["files"]["predictions"]).count()
    given["spark"] = spark


def _psycopg2(given: Given) -> sa.URL:
    return sa.make_url(given["url"]).set(drivername="postgresql+psycopg2")


def _entities(project: Any) -> sa.Table:
    return schema.entities(project.name, *project.entity.public)


WAYS: dict[str, Callable[[Given], None]] = {
    "publish": by_publish,
    "nights": by_nights,
    "ingest": by_ingest,
    "sqlalchemy": by_sqlalchemy,
    "pandas": by_pandas,
    "spark": by_spark,
}


def peak_mb() -> float:
    """Return the most memory that this process had at once, in MB, as the kernel counts resident pages."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Do it, and print seconds, core-seconds of this process and of its children, and peak memory in MB."""
    given = json.load(sys.stdin)
    use_own_projects()
    if given["way"] == "spark":
        _start_spark(given)
    before, began = cpu.used() + sum(psutil.Process().cpu_times()[:2]), time.monotonic()
    WAYS[given["way"]](given)
    seconds = time.monotonic() - began
    cores = cpu.used() + sum(psutil.Process().cpu_times()[:2]) - before
    sys.stdout.write(json.dumps({"seconds": seconds, "client": cores, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
