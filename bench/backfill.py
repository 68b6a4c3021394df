"""`make bench-backfill`: measure a year in one run and many run dates at once, and compare both with goals.

The benchmark starts a stack of its own in a folder of its own: landed files, Airflow, Spark, PostgreSQL and MLflow. The
goals are ratios of times measured in the same run, because seconds are not comparable between machines. The benchmark
also checks that `bench/bare.py` makes the same features and scores as the product.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from statistics import mean
from typing import Annotated, Any
from urllib.parse import quote

import joblib
import polars as pl
import sqlalchemy as sa
import typer
from polars.testing import assert_frame_equal
from rich.table import Table

from bench import cpu
from bench.results import Result
from bench.table import goals_table
from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.settings import Settings
from include.io.registry import Registry
from include.io.tables import Tables
from include.steps.score import read_digests
from tools.console import console_for_people
from tools.demo import AirflowApi, command, days, settings_of
from tools.stack import ROOT, Stack

PROJECT, MODEL = load_project("flights"), "late_arrival"
YEAR = Interval(start=PROJECT.first_day, end=PROJECT.first_day + timedelta(days=363))
HISTORY = Interval(start=PROJECT.first_day, end=date(2013, 3, 5))  # the days that the only version is trained on
NIGHTLY = (f"{PROJECT.name}_prepare", f"{MODEL}_score")
COLD, WARM = 2, 3  # run dates handled one after the other: to warm up, to measure
MANY = 28
AT_A_TIME = 16

YEAR_GOAL, MANY_GOAL = 3.0, 1.25

RUN_SECONDS = 3600

console = console_for_people()


class BackfillBench:
    """A stack whose runs are timed."""

    def __init__(self, home: Path, nightly: Sequence[str] = NIGHTLY) -> None:
        self.nightly = nightly
        self.stack = Stack(home)
        self.stack.start(schedule=False)
        command(self.stack, "migrate")
        self.airflow = AirflowApi(self.stack, PROJECT)
        self.airflow.wait_for_dags([*nightly, f"{PROJECT.name}_backfill_range"])

    @property
    def settings(self) -> Settings:
        """The settings of the stack."""
        return settings_of(self.stack)

    def run(self, dag_id: str, run_id: str, day: date, **conf: Any) -> float:
        """Start a run by hand, wait until it ends, and return the seconds it took."""
        began = time.monotonic()
        self.airflow.run([dag_id], run_id, day, **conf)
        self._await(dag_id, {run_id}, lambda: [self._get(f"{dag_id}/dagRuns/{quote(run_id)}")])
        return time.monotonic() - began

    def backfill(self, dag_id: str, interval: Interval) -> None:
        """Backfill an interval as `airflow dags backfill` does, and wait until the last run ends."""
        body = {
            "dag_id": dag_id,
            "from_date": PROJECT.cutoff_at(interval.start).isoformat(),
            "to_date": PROJECT.cutoff_at(interval.end).isoformat(),
            "max_active_runs": AT_A_TIME,
        }
        self.airflow.client.post("/api/v2/backfills", json=body).raise_for_status()
        runs = {run["dag_run_id"] for run in self._runs(dag_id) if run["run_type"] == "backfill"}
        assert len(runs) == len(interval.days), f"{dag_id}: {len(runs)} runs for the days {interval}"
        self._await(dag_id, runs, lambda: self._runs(dag_id))

    def _await(self, dag_id: str, run_ids: set[str], read: Callable[[], Sequence[dict[str, Any]]]) -> None:
        """Wait until the runs succeed. It polls seldom, because answering costs core-seconds too."""
        deadline = time.monotonic() + RUN_SECONDS
        while going := [run for run in read() if run["dag_run_id"] in run_ids and run["state"] != "success"]:
            if failed := [run["dag_run_id"] for run in going if run["state"] == "failed"]:
                raise SystemExit(f"{dag_id}: {', '.join(failed)} failed; logs are below {self.airflow.logs}")
            if time.monotonic() > deadline:
                raise SystemExit(f"{dag_id}: {len(going)} runs are not done after {RUN_SECONDS} s")
            time.sleep(1)

    def _runs(self, dag_id: str) -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = self._get(f"{dag_id}/dagRuns?limit=100&order_by=-id")["dag_runs"]
        return runs

    def _get(self, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.airflow.client.get(f"/api/v2/dags/{path}").raise_for_status().json()
        return answer

    def run_date(self, day: date) -> None:
        """Run the DAGs of a run date one after the other."""
        for dag_id in self.nightly:
            self.run(dag_id, f"nightly__{day}", day)

    def with_one_version(self, count: int) -> list[date]:
        """Train a version on HISTORY, make it the champion, and return so many run dates after it, with their files."""
        first = HISTORY.end + timedelta(days=1)
        run_dates = [first + timedelta(days=n) for n in range(count)]
        command(self.stack, "simulate", *days(PROJECT, Interval(start=HISTORY.start, end=run_dates[-1])))
        conf = {"start": str(HISTORY.start), "end": str(HISTORY.end)}
        self.run(f"{PROJECT.name}_backfill_range", "history", HISTORY.end, **conf)
        command(self.stack, "evaluate", "--model", MODEL, "--day", str(HISTORY.end))
        promoted = (
            "--version",
            "1",
            "--from-day",
            str(first),
            "--by",
            "bench",
            "--why",
            "one fixed version",
            "--force",
        )
        command(self.stack, "promote", "--model", MODEL, *promoted)
        return run_dates

    def dump_version(self, file: Path) -> None:
        """Write the only version as `bench/bare.py` loads it."""
        registry, config = Registry(self.settings), load_model(MODEL)
        digest = read_digests(self.settings, config, [1])[1]
        loaded = registry.load(registry.get_version(MODEL, 1), digest, config)
        parts = ("estimator", "numeric", "categorical", "decision_threshold")
        joblib.dump({name: getattr(loaded, name) for name in parts}, file)

    def forget(self) -> None:
        """Remove everything that was made from the landed files. MLflow stays, with its only version."""
        postgres = self.stack.postgres()
        postgres.query("DROP DATABASE nightly WITH (FORCE)")
        self.stack.postgres()
        shutil.rmtree(self.stack.home / "tables")
        command(self.stack, "migrate")

    def steps(self) -> dict[str, float]:
        """Return the seconds of each step, summed over all its runs since the last `forget`."""
        engine = sa.create_engine(sa.make_url(self.settings.database_url.get_secret_value()))
        with engine.connect() as connection:
            query = "SELECT step, sum(seconds) FROM step_runs GROUP BY step ORDER BY min(started_at)"
            return {step: float(seconds) for step, seconds in connection.execute(sa.text(query))}


def measure_run_dates(bench: BackfillBench) -> tuple[float, float]:
    """Return the core-seconds of one warm run date, and the seconds of MANY run dates, AT_A_TIME at a time."""
    run_dates = bench.with_one_version(COLD + WARM + MANY)
    for day in run_dates[:COLD]:
        bench.run_date(day)
    measured = []
    for day in run_dates[COLD : COLD + WARM]:
        before = cpu.used()
        bench.run_date(day)
        measured.append(cpu.used() - before)
    console.print(f"  warm run dates: {', '.join(f'{each:.1f}' for each in measured)} core-seconds")
    many = Interval(start=run_dates[COLD + WARM], end=run_dates[-1])
    began, before = time.monotonic(), cpu.used()
    for dag_id in NIGHTLY:
        bench.backfill(dag_id, many)
    seconds = time.monotonic() - began
    console.print(f"  {MANY} run dates: {seconds:.1f} s, {(cpu.used() - before) / MANY:.1f} core-seconds for each")
    return mean(measured), seconds


def measure_year(bench: BackfillBench) -> tuple[float, dict[str, float]]:
    """Return the seconds of the year as one run of `backfill_range`, from empty tables, and those of each step."""
    command(bench.stack, "simulate", *days(PROJECT, YEAR))
    bench.forget()
    conf = {"start": str(YEAR.start), "end": str(YEAR.end), "models": [MODEL], "version": "1"}
    before = cpu.used()
    seconds = bench.run(f"{PROJECT.name}_backfill_range", "year", YEAR.end, **conf)
    console.print(f"  the year: {seconds:.1f} s, {cpu.used() - before:.1f} core-seconds")
    return seconds, bench.steps()


def measure_bare(bench: BackfillBench, out: Path) -> tuple[float, dict[str, float]]:
    """Return the seconds of `bench/bare.py` as a process, and those of its phases."""
    model = out / "model.joblib"
    bench.dump_version(model)
    postgres = bench.stack.postgres()
    postgres.query("CREATE DATABASE bare OWNER nightly")
    landing = bench.stack.home / "landing" / PROJECT.name
    arguments = [str(landing), str(model), str(out), postgres.url("nightly", "bare")]
    before = cpu.used()
    with timed() as took:
        done = _python("-m", "bench.bare", *arguments)
    console.print(f"  the script: {took[0]:.1f} s, {cpu.used() - before:.1f} core-seconds")
    phases = dict(line.split()[:2] for line in done.splitlines())
    return took[0], {name: float(seconds) for name, seconds in phases.items()}


def measure_spark_start() -> float:
    """Return the seconds of a process that starts a local Spark, counts to one and ends."""
    code = "from include.io.spark import session; session().range(1).count(); session().stop()"
    with timed() as took:
        _python("-c", code)
    return took[0]


def check_equal(bench: BackfillBench, out: Path) -> None:
    """Check that features and scores are those of the script, except for the last bit of a division."""
    tables = Tables(bench.settings)
    for table, folder in ((f"features_{PROJECT.name}", "features"), (f"scores_{MODEL}", "scores")):
        expected = pl.read_parquet(out / folder / "*.parquet").sort("day", "entity_id")
        found = tables.scan(table).collect().select(expected.columns).sort("day", "entity_id")
        assert expected["day"].n_unique() == len(YEAR.days)
        assert_frame_equal(found, expected, rel_tol=1e-12, abs_tol=0)
        console.print(f"  {table}: {found.height} rows of {len(YEAR.days)} days, equal to the script's")


@contextmanager
def timed() -> Iterator[list[float]]:
    """Measure the seconds of the block; they are added to the list at its end."""
    took: list[float] = []
    began = time.monotonic()
    yield took
    took.append(time.monotonic() - began)


def _python(*arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "SPARK_REMOTE"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments[:2])} failed")
    return done.stdout


def show(steps: dict[str, float], phases: dict[str, float]) -> None:
    """Print the seconds of each step of the year beside those of the script."""
    alike = {
        "land": "read",
        "validate": "validate",
        "build_features": "features",
        "score": "score",
        "publish": "publish",
    }
    table = Table("step of the year", "seconds", "of the script", "seconds")
    for step, seconds in steps.items():
        phase = alike.get(step, "")
        table.add_row(step, f"{seconds:.1f}", phase, f"{phases[phase]:.1f}" if phase else "")
    console.print(table)


def measure(home: Path | None = None) -> list[Result]:
    """Measure on a stack of its own, and return the goals."""
    with tempfile.TemporaryDirectory(prefix="nightly-bench-") as temporary:
        # as root, PostgreSQL runs as another user, who must be able to enter the folder
        Path(temporary).chmod(0o711)
        out = Path(temporary)
        bench = BackfillBench(home or out / "home")
        try:
            console.print(f"[bold]{MANY} run dates, {AT_A_TIME} at a time[/bold]")
            one, many = measure_run_dates(bench)
            console.print(f"[bold]{len(YEAR.days)} days in one run[/bold]")
            year, steps = measure_year(bench)
            bare, phases = measure_bare(bench, out)
            check_equal(bench, out)
        finally:
            bench.stack.stop()
        start = measure_spark_start()
    show(steps, phases)
    cores = len(os.sched_getaffinity(0))
    in_one_run = f"{YEAR_GOAL:g} × the script ({bare:.1f} s) + one Spark start ({start:.1f} s)"
    at_once = f"{MANY_GOAL:g} × {MANY} × core-seconds of a warm run date ({one:.1f}) / {cores} cores"
    allowed = {
        (f"{len(YEAR.days)} days in one run", in_one_run): (year, YEAR_GOAL * bare + start),
        (f"{MANY} run dates, {AT_A_TIME} at a time", at_once): (many, MANY_GOAL * MANY * one / cores),
    }
    return [
        Result(
            goal,
            f"{words} = {most:.1f} s",
            taken,
            "s",
            taken <= most,
            f"{taken / most:.2f} of what is allowed",
            is_elapsed=True,
        )
        for (goal, words), (taken, most) in allowed.items()
    ]


def results() -> list[Result]:
    """Return the goals of a year in one run and of many run dates at once."""
    return measure()


def main(
    home: Annotated[Path | None, typer.Option(help="Folder of the stack; default: a temporary one.")] = None,
) -> None:
    """Measure, and print each goal with the result; exit code 1 if a goal is missed."""
    cpu.adopt_orphans()
    found = measure(home)
    console.print(goals_table(found))
    raise typer.Exit(int(any(each.passed is False for each in found)))


if __name__ == "__main__":
    typer.run(main)
