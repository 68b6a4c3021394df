"""`make bench-spark`: measure the start of Spark, and the features of one day and of many days.

It compares Spark's defaults, our settings (`include/io/spark_conf`), and the Spark Connect server that tasks share. It
runs the real `build_features` on simulated days, which are landed and validated once. Each job is a process of its own,
as a task is. Compare the ratios to the default of the same run; seconds are not comparable between machines. The
benchmark checks that all ways make the same features.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from polars.testing import assert_frame_equal
from pydantic import SecretStr
from rich.table import Table

from bench import cpu
from include.config.loading import load_project
from include.core.interval import Interval
from include.core.names import features_table
from include.core.settings import Settings
from include.io.tables import Tables
from tests.servers import serving
from tools.console import console_for_people
from tools.demo import command, days, settings_of
from tools.spark_server import SPARK_SETTINGS, spark_server
from tools.stack import ROOT, Stack

PROJECT = load_project("flights")
DAY = date(2013, 3, 4)  # an ordinary Monday
ROUNDS = 3
DEFAULT, OURS, FIRST, WARM = "default", "ours", "server, first job", "server, warm"
NEEDED = "spark.sql.parquet.outputTimestampType TIMESTAMP_MICROS"  # Delta reads INT96, Spark's default, as nanoseconds
WARM_JOBS = 4  # jobs before the server is measured, because the JVM still compiles during them

console = console_for_people()

JOB = """
import json, sys, time
from include.config.loading import load_project
from include.core.interval import Interval
from include.io.spark import session
from include.core.settings import Settings
from include.steps.build_features import build_features

given = json.load(sys.stdin)
project, interval = load_project(given["project"]), Interval.model_validate(given["interval"])
settings = Settings.model_validate(given["settings"])
began = time.monotonic()
session().range(1).count()
started = time.monotonic()
build_features(project, interval, settings)
print(json.dumps({"start": started - began, "job": time.monotonic() - started}))
"""


@dataclass(frozen=True)
class Took:
    """The time that a job took.

    Attributes:
        start: seconds to start Spark and count to one.
        job: seconds of `build_features` after that.
        cores: core-seconds of both, of the process, the JVM and PostgreSQL.
    """

    start: float
    job: float
    cores: float


@dataclass(frozen=True)
class Jobs:
    """The times of the jobs for a day and for many days."""

    day: list[Took] = field(default_factory=list)
    many: list[Took] = field(default_factory=list)

    def least(self) -> list[float]:
        """Return the least start, job and core-seconds of a day, then the least job and core-seconds of many days."""
        of_day = [min(getattr(took, name) for took in self.day) for name in ("start", "job", "cores")]
        return of_day + [min(getattr(took, name) for took in self.many) for name in ("job", "cores") if self.many]


class SparkBench:
    """Clean tables on which jobs are measured."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings

    def job(self, interval: Interval, environment: Mapping[str, str]) -> Took:
        """Run `build_features` of an interval in a process of its own, into a new table."""
        shutil.rmtree(Path(self.settings.tables) / features_table(PROJECT.name), ignore_errors=True)
        known = json.loads(json.dumps(self.settings.model_dump(), default=SecretStr.get_secret_value))
        given = {"project": PROJECT.name, "interval": interval.model_dump(mode="json"), "settings": known}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
        before = cpu.used()
        done = subprocess.run(
            [sys.executable, "-c", JOB],
            input=json.dumps(given),
            cwd=ROOT,
            env={**inherited, "SPARK_LOCAL_DIRS": str(self.folder), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"build_features of {interval} failed:\n{done.stderr[-4000:]}")
        return Took(**json.loads(done.stdout), cores=cpu.used() - before)

    def features(self) -> pl.DataFrame:
        """Return the features that the last job made."""
        return Tables(self.settings).scan(features_table(PROJECT.name)).collect().sort("day", "entity_id")


@contextmanager
def bench_of(folder: Path, interval: Interval) -> Iterator[SparkBench]:
    """Land and validate simulated days beside a PostgreSQL server, which is stopped at the end."""
    stack = Stack(folder / "home")
    stack.postgres()
    try:
        command(stack, "migrate")
        for step in ("simulate", "land", "validate"):
            command(stack, step, *days(PROJECT, interval))
        yield SparkBench(folder, settings_of(stack))
    finally:
        stack.stop()


@contextmanager
def _server(folder: Path) -> Iterator[dict[str, str]]:
    """Start a new server; yield the environment variable by which processes use it."""
    environment = os.environ | SPARK_SETTINGS | {"SPARK_LOCAL_DIRS": str(folder)}
    with serving(spark_server, env=environment, cwd=folder, stderr=subprocess.DEVNULL) as (port, _):
        yield {"SPARK_REMOTE": f"sc://127.0.0.1:{port}"}


def measure(bench: SparkBench, many: Interval) -> dict[str, Jobs]:
    """Measure each way. The ways take turns, so that other load on the machine affects all of them."""
    conf = bench.folder / "default-conf"
    conf.mkdir()
    (conf / "spark-defaults.conf").write_text(NEEDED, encoding="utf-8")
    day, made = Interval.of(DAY), []
    began, before = time.monotonic(), cpu.used()
    with _server(bench.folder) as server:
        seconds, cores = time.monotonic() - began, cpu.used() - before
        first = bench.job(day, server)
        for _ in range(WARM_JOBS):
            bench.job(day, server)
        took = {DEFAULT: Jobs(), OURS: Jobs(), FIRST: Jobs(), WARM: Jobs()}
        took[FIRST].day.append(Took(first.start + seconds, first.job, first.cores + cores))
        for n in range(ROUNDS):
            for way, environment in {DEFAULT: {"SPARK_CONF_DIR": str(conf)}, OURS: {}, WARM: server}.items():
                console.print(f"  {n + 1} of {ROUNDS}: {way}")
                took[way].day.append(bench.job(day, environment))
                took[way].many.append(bench.job(many, environment))
                made.append(bench.features())
    for found in made[1:]:
        assert_frame_equal(found, made[0], rel_tol=1e-12, abs_tol=0)
    console.print(f"  {made[0].height} rows of {len(many.days)} days, the same each way")
    return took


def show(took: Mapping[str, Jobs], many: Interval) -> None:
    """Print the least of each time, because other load only adds to it; in brackets, the ratio to the default."""
    table = Table("", "start", "a day", "core-s", f"{len(many.days)} days", "core-s")
    usual = took[DEFAULT].least()
    for way, jobs in took.items():
        table.add_row(way, *(f"{n:.1f} ({n / of:.2f})" for n, of in zip(jobs.least(), usual, strict=False)))
    console.print(table)


def main(
    number: Annotated[
        int, typer.Option("--days", min=DAY.timetuple().tm_yday, max=364, help="Days of the long job.")
    ] = 91,
) -> None:
    """Measure, and print a table."""
    cpu.adopt_orphans()
    many = Interval(start=PROJECT.first_day, end=PROJECT.first_day + timedelta(days=number - 1))
    with tempfile.TemporaryDirectory(prefix="nightly-bench-") as temporary:
        # as root, PostgreSQL runs as another user, who must be able to enter the folder
        Path(temporary).chmod(0o711)
        with bench_of(Path(temporary), many) as bench:
            took = measure(bench, many)
    show(took, many)


if __name__ == "__main__":
    typer.run(main)
