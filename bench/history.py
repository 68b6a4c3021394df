"""`make bench-history`: does a nightly run cost more after three years than after a month?

1,100 run dates of the test project `ferries` run one after the other, each with its own deliveries: land, validate,
build_features, score, publish, outcomes and monitor, and what the sensors ask before them. Once a week `maintain` runs
after them. Tables are on an S3 server in a process of its own, which counts requests; the database is PostgreSQL. The
mean of ten nights from the thirtieth on is compared with that of the last ten: tables have a checkpoint every ten
commits, and the requests of a night depend on how many came after it.

No model is trained in these nights: one version is fitted on the first days, so that nights are comparable.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from datetime import date, timedelta
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import psutil
import sqlalchemy as sa
import typer
from pydantic import SecretStr
from rich.table import Table

from bench.results import Result
from tests.own_projects import use_own_projects
from tools.console import console_for_people

use_own_projects()  # before the next imports, which load one

from include.config.loading import load_project  # noqa: E402
from include.core.interval import Interval  # noqa: E402
from include.core.settings import Settings  # noqa: E402
from include.io import postgres  # noqa: E402
from include.io.postgres.migrations import migrate  # noqa: E402
from include.io.registry import Registry  # noqa: E402
from include.operations.simulate import simulate  # noqa: E402
from include.runner.run import run  # noqa: E402
from include.steps.arrivals import missing_files  # noqa: E402
from tests.integration.training import MODEL  # noqa: E402
from tests.s3 import KEYS, bucket  # noqa: E402
from tests.servers import serving  # noqa: E402
from tools.postgres import Postgres  # noqa: E402
from tools.stack import s3_server  # noqa: E402

NIGHTS, FIRST, COMPARED = 1100, 30, 10
LIMIT = 1.2
TRAINED = 26  # the night whose training makes the only version: the first that has enough labelled days
EVERY = 7

PROJECT = load_project("ferries")
REQUEST = re.compile(rb'"(?:GET|HEAD|PUT|POST|DELETE) /')
ROWS_READ = """
SELECT coalesce(sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_user_tables
"""

console = console_for_people()


@dataclass(frozen=True)
class Used:
    """What a night used: core-seconds, S3 requests, rows that PostgreSQL read, and core-seconds of the sensors."""

    core_seconds: float
    requests: float
    rows_read: float
    sensor: float

    def __sub__(self, other: "Used") -> "Used":
        return Used(*(getattr(self, each.name) - getattr(other, each.name) for each in fields(Used)))


class CountedInstallation:
    """An installation with tables on S3, whose use is counted."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.log = folder / "s3.log"
        output = stack.enter_context(self.log.open("wb"))
        serve = serving(s3_server, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=output)
        port, self.s3 = stack.enter_context(serve)
        endpoint = f"http://127.0.0.1:{port}"
        server = Postgres(folder / "postgres", folder / "postgres.log", {})
        server.start()
        stack.callback(server.stop)
        place = bucket(endpoint)
        keys = KEYS | {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "eu-west-1"}
        self.settings = Settings(
            landing=f"{place}/landing",
            tables=f"{place}/tables",
            artifacts=f"{place}/artifacts",
            journal=f"{place}/journal",
            database_url=server.url("nightly", "nightly"),
            mlflow_tracking_uri=server.url("mlflow", "mlflow"),
            hash_key="the hash key of a bench, which is long",
            storage_options={name: SecretStr(value) for name, value in keys.items()},
            run_id="bench",
        )
        migrate(self.settings, [PROJECT])
        Registry(self.settings).prepare()
        self._sensors = 0.0

    def used(self) -> Used:
        """Return what was used since the start."""
        with postgres.connection.engine(self.settings).connect() as connection:
            rows = float(connection.execute(sa.text(ROWS_READ)).scalar_one())
        return Used(self._core_seconds(), len(REQUEST.findall(self.log.read_bytes())), rows, self._sensors)

    def _core_seconds(self) -> float:
        """Return those of this process and its children, such as Spark's; the S3 server is not the product's."""
        total = time.process_time()
        for process in psutil.Process().children(recursive=True):
            if process.pid != self.s3.pid:
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def night(self, day: date, *, scored: bool) -> None:
        """Run a run date as the DAGs do."""
        settings, interval = self.settings, Interval.of(day)
        simulate(PROJECT, interval, settings)
        began = time.process_time()
        missing_files(PROJECT, day, settings)
        self._sensors += time.process_time() - began
        for step in ("land", "validate", "build_features"):
            run(step, PROJECT, interval, settings)
        began = time.process_time()
        postgres.days.read_unprepared_days(settings, PROJECT.name, interval)
        self._sensors += time.process_time() - began
        if scored:
            for step in ("score", "publish"):
                run(step, MODEL, interval, settings, versions={day: 1})
        for step in ("outcomes", "monitor"):
            run(step, PROJECT, interval, settings)

    def backfill(self, days: Interval) -> None:
        """Run a range of days in one run, as the DAG of a project for ranges does."""
        settings = self.settings
        simulate(PROJECT, days, settings)
        for step in ("land", "validate", "build_features"):
            run(step, PROJECT, days, settings)
        for step in ("score", "publish"):
            run(step, MODEL, days, settings, versions=dict.fromkeys(days.days, 1))
        for step in ("outcomes", "monitor"):
            run(step, PROJECT, days, settings)
        run("maintain", PROJECT, Interval.of(days.end), settings)

    def train(self, day: date) -> None:
        """Make the only version the champion of all later days."""
        of_day = Interval.of(day)
        fitted = [run("fit", MODEL, of_day, self.settings, candidate=each.name) for each in MODEL.candidates]
        evaluated: Any = run("evaluate", MODEL, of_day, self.settings, fitted=fitted)
        after = Interval.of(day + timedelta(days=1))
        promotion = {"version": evaluated.model_version, "by": "bench", "why": "one fixed version", "force": True}
        run("promote", MODEL, after, self.settings, **promotion)


@contextmanager
def installed() -> Iterator[CountedInstallation]:
    """Start the servers in a folder of their own, and end them after the block."""
    with tempfile.TemporaryDirectory(prefix="nightly-history-") as name, ExitStack() as stack:
        Path(name).chmod(0o711)  # as root, PostgreSQL runs as another user
        yield CountedInstallation(Path(name), stack)


def nights(count: int = NIGHTS, first: int = FIRST, *, maintained: bool = True, ranged: int = 0) -> list[Used]:
    """Run nights; return what each used, the night of maintenance without it.

    Args:
        count: how many nights.
        first: the night that the last ones are compared with.
        maintained: whether `maintain` runs once a week.
        ranged: so many days after the first nights are one range backfill and no nights. They cost a fraction, and
            leave the same rows, but few commits of Delta tables.
    """
    found = []
    skipped = 0
    with installed() as here:
        for number in range(1, count + 1):
            if ranged and number == first + COMPARED:
                last = PROJECT.first_day + timedelta(days=number + ranged - 2)
                here.backfill(Interval(start=PROJECT.first_day + timedelta(days=number - 1), end=last))
                skipped = ranged
            day = PROJECT.first_day + timedelta(days=skipped + number - 1)
            before = here.used()
            here.night(day, scored=number > TRAINED)
            found.append(here.used() - before)
            if number == TRAINED:
                here.train(day)
            if maintained and number % EVERY == 0:
                run("maintain", PROJECT, Interval.of(day), here.settings)
            if number in (first, count) or number % 50 == 0:
                console.print(f"  night {number}: {found[-1]}")
    return found


def compare(found: Sequence[Used], first: int = FIRST) -> list[Result]:
    """Return the ratio of the last nights to those from `first` on, for all that is counted."""
    early, late = found[first - 1 : first - 1 + COMPARED], found[-COMPARED:]
    results = []
    for each in fields(Used):
        before, after = (mean(getattr(night, each.name) for night in part) for part in (early, late))
        ratio = after / before if before else float("inf") if after else 1.0
        words = each.name.replace("_", " ")
        note = f"{words}: {before:,.2f} in {COMPARED} nights from {first} on, {after:,.2f} in the last ones"
        results.append(Result(f"{len(found)} nights: {words}", f"{LIMIT} times", ratio, "times", ratio <= LIMIT, note))
    return results


def results() -> list[Result]:
    """Run the nights of three years; return each goal with its figure."""
    return compare(nights())


def main(
    count: Annotated[int, typer.Option("--nights", min=FIRST + 2 * COMPARED, help="How many nights.")] = NIGHTS,
    ranged: Annotated[
        int, typer.Option("--range", min=0, help="Days after the first nights that one range backfill makes.")
    ] = 0,
    *,
    maintained: Annotated[bool, typer.Option(help="Whether `maintain` runs once a week.")] = True,
) -> None:
    """Run the nights, and print each goal with its figure; exit code 1 if a goal is missed."""
    found = compare(nights(count, maintained=maintained, ranged=ranged))
    table = Table("goal", "limit", "figure", "", "note")
    for each in found:
        table.add_row(each.goal, each.limit, f"{each.figure:.2f}", "✓" if each.passed else "✗", each.note)
    console.print(table)
    if not all(each.passed for each in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
