"""`make bench-spark`: what the features of a day and of a year cost on a Spark of one's own as it comes, on ours
(`include/io/spark_conf`), and on the Spark Connect server that tasks share.

The real `build_features` on real replayed days, which are landed and validated once. Each job is a process of its own,
as a task is. Ratios to Spark as it comes, in the same run, count; seconds mean nothing elsewhere. All make the same
features, which is checked.
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
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from statistics import mean
from typing import Annotated

import polars as pl
import typer
from polars.testing import assert_frame_equal
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from bench import cpu
from include.contracts import Interval
from include.io.tables import Tables
from include.naming import features_table
from include.settings import Settings
from tests.servers import serving
from tools.demo import PROJECT, command, days, settings_of
from tools.spark_server import SPARK_SETTINGS, spark_server
from tools.stack import ROOT, Stack

DAY = date(2013, 3, 4)  # an ordinary Monday
REPEATS = 3
AS_IT_COMES = "a Spark of one's own, as it comes"
NEEDED = "spark.sql.parquet.outputTimestampType TIMESTAMP_MICROS"  # of Spark's own, INT96, Delta makes nanoseconds
WARM_JOBS = 4  # of the server, before its later jobs are measured: it compiles less and less

console = Console(highlight=False, soft_wrap=True)

JOB = """
import json, sys, time
from include.config import load_project
from include.contracts import Interval
from include.io.spark import session
from include.settings import Settings
from include.steps.build_features import build_features

asked = json.load(sys.stdin)
project, interval = load_project(asked["project"]), Interval.model_validate(asked["interval"])
settings = Settings.model_validate(asked["settings"])
began = time.monotonic()
session().range(1).count()
started = time.monotonic()
build_features(project, interval, settings)
print(json.dumps({"start": started - began, "job": time.monotonic() - started}))
"""


@dataclass(frozen=True)
class Took:
    """Seconds to start Spark until it counts to one, and of `build_features` after that; core-seconds of both, with the
    process and the JVM that does the work."""

    start: float
    job: float
    cores: float


class Bench:
    """Clean tables, and what jobs on them take."""

    def __init__(self, folder: Path, interval: Interval) -> None:
        self.folder = folder
        self.settings = _landed(folder, interval)

    def job(self, interval: Interval, environment: Mapping[str, str]) -> Took:
        """`build_features` of an interval, into a table that is not there yet, by a process of its own."""
        shutil.rmtree(Path(self.settings.tables) / features_table(PROJECT.name), ignore_errors=True)
        known = json.loads(json.dumps(self.settings.model_dump(), default=SecretStr.get_secret_value))
        asked = {"project": PROJECT.name, "interval": interval.model_dump(mode="json"), "settings": known}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
        before = cpu.used()
        done = subprocess.run(
            [sys.executable, "-c", JOB],
            input=json.dumps(asked),
            cwd=ROOT,
            env=inherited | {"SPARK_LOCAL_DIRS": str(self.folder)} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"build_features of {interval} failed:\n{done.stderr[-4000:]}")
        return Took(**json.loads(done.stdout), cores=cpu.used() - before)

    def jobs(self, interval: Interval, environment: Mapping[str, str], count: int = REPEATS) -> Took:
        """The mean of some."""
        took = [self.job(interval, environment) for _ in range(count)]
        return Took(*(mean(getattr(each, name) for each in took) for name in ("start", "job", "cores")))

    def features(self) -> pl.DataFrame:
        """Those that the last job made."""
        return Tables(self.settings).scan(features_table(PROJECT.name)).collect().sort("day", "entity_id")


def _landed(folder: Path, interval: Interval) -> Settings:
    stack = Stack(folder / "home")
    stack.postgres()
    try:
        command(stack, "migrate")
        for step in ("replay", "land", "validate"):
            command(stack, step, *days(interval))
    finally:
        stack.stop()
    return settings_of(stack)  # features need no PostgreSQL


@contextmanager
def _server(folder: Path) -> Iterator[dict[str, str]]:
    """A fresh server, as the variable that leads to it."""
    environment = os.environ | SPARK_SETTINGS | {"SPARK_LOCAL_DIRS": str(folder)}
    with serving(spark_server, env=environment, cwd=folder, stderr=subprocess.DEVNULL) as (port, _):
        yield {"SPARK_REMOTE": f"sc://127.0.0.1:{port}"}


def measure(bench: Bench, many: Interval) -> dict[str, tuple[Took, Took | None]]:
    """Way -> a day's job, and that of many days."""
    as_it_comes = bench.folder / "no-conf"
    as_it_comes.mkdir()
    (as_it_comes / "spark-defaults.conf").write_text(NEEDED, encoding="utf-8")
    took: dict[str, tuple[Took, Took | None]] = {}
    made: list[pl.DataFrame] = []

    def both(way: str, environment: Mapping[str, str]) -> None:
        console.print(f"  {way}")
        took[way] = bench.jobs(Interval.of(DAY), environment), bench.job(many, environment)
        made.append(bench.features())

    both(AS_IT_COMES, {"SPARK_CONF_DIR": str(as_it_comes)})
    both("a Spark of one's own, ours", {})
    began, before = time.monotonic(), cpu.used()
    with _server(bench.folder) as server:
        seconds, cores = time.monotonic() - began, cpu.used() - before
        first = bench.job(Interval.of(DAY), server)
        took["the server, started for it"] = Took(first.start + seconds, first.job, first.cores + cores), None
        bench.jobs(Interval.of(DAY), server, WARM_JOBS)
        both("the server, warm", server)
    for found in made[1:]:
        assert_frame_equal(found, made[0], rel_tol=1e-12, abs_tol=0)
    console.print(f"  {made[0].height} rows of {len(many.days)} days, the same each way")
    return took


def show(took: Mapping[str, tuple[Took, Took | None]], many: Interval) -> None:
    """Seconds, and in brackets what they are of Spark's as it comes."""
    table = Table("", "start", "a day", "both", "core-seconds of both", f"{len(many.days)} days")

    def cells(day: Took, all_days: Took | None) -> list[float]:
        return [day.start, day.job, day.start + day.job, day.cores, *([all_days.job] if all_days else [])]

    usual = cells(*took[AS_IT_COMES])
    for way, each in took.items():
        table.add_row(way, *(f"{n:.1f} ({n / of:.2f})" for n, of in zip(cells(*each), usual, strict=False)))
    console.print(table)


def main(
    number: Annotated[
        int, typer.Option("--days", min=DAY.timetuple().tm_yday, max=364, help="Days of the long job.")
    ] = 364,
) -> None:
    """Measure, and print a table."""
    cpu.adopt_orphans()
    many = Interval(start=PROJECT.first_day, end=PROJECT.first_day + timedelta(days=number - 1))
    with tempfile.TemporaryDirectory(prefix="nightly-bench-") as temporary:
        # PostgreSQL, which root does not run as root, must pass through
        Path(temporary).chmod(0o711)
        took = measure(Bench(Path(temporary), many), many)
    show(took, many)


if __name__ == "__main__":
    typer.run(main)
