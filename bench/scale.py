"""`make bench-scale`: measure each step at 1, 10, 100 or 1,000 times the example, against `bench/bare.py`.

Each step is a process of its own, `python -m include.cli`. Beside it are a PostgreSQL server and a Spark server, which
has just started and compiles in its first job. Their core-seconds count for the step that used them, and are shown
apart. The peak of memory is that of the step's own process. The benchmark checks that the script makes the same
features and scores.

Everything is in a temporary folder, except the scaled files, which are kept for the next time (`bench/scaled.py`).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import joblib
import polars as pl
import psutil
import typer
from polars.testing import assert_frame_equal
from rich.table import Table

from bench import cpu, machine
from bench.results import Result
from bench.scaled import CACHE, MODEL, OF, PROJECT, count_rows, scaled
from bench.table import goals_table
from include.config.loading import load_model, load_project
from include.core.interval import Interval
from tests.servers import serving
from tools.console import console_for_people
from tools.spark_server import SPARK_SETTINGS, spark_server
from tools.stack import ROOT, Stack

DAYS = {1: 46, 10: 46, 100: 46, 1000: 3}
TRAINABLE_DAYS = 46  # as many as the model needs to be fitted and evaluated
MEMORY_MB = 1500
MATRICES = 3
SCRIPTS = 3.0
WALL = 0.7
GOAL_TIMES = 100  # of the goals about time

RANGE_STEPS = ("land", "validate", "build_features", "score", "publish")
"""The steps that do what the script does."""

console = console_for_people()


@dataclass(frozen=True)
class ProcessCost:
    """What a process cost.

    Attributes:
        seconds: from its start to its end.
        cores: its core-seconds.
        postgres: core-seconds of PostgreSQL in that time.
        spark: likewise of the Spark server.
        peak_mb: its highest resident memory, or that of its largest child.
        output: what it printed.
    """

    seconds: float
    cores: float
    postgres: float
    spark: float
    peak_mb: float
    output: str = field(repr=False)

    @property
    def all_cores(self) -> float:
        """Core-seconds, those of the servers included."""
        return self.cores + self.postgres + self.spark


class ScaleBench:
    """The servers that the steps use, and the environment in which they find them and the scaled files."""

    def __init__(self, folder: Path, files: Path, spark_port: int, spark: psutil.Process) -> None:
        self.folder, self.files, self.spark = folder, files, spark
        os.environ["NIGHTLY_PROJECTS"] = str(files / "projects")
        self.stack = Stack(folder / "home")
        self.postgres = self.stack.postgres()
        self.environment = self.stack.cli_environment() | {
            "NIGHTLY_LANDING": str(files / "landing"),
            "SPARK_REMOTE": f"sc://127.0.0.1:{spark_port}",
        }
        self.environment.pop("NIGHTLY_SPARK_TOKEN_FILE", None)  # the server here asks for none

    def step(self, name: str, *arguments: str) -> ProcessCost:
        """Run a command of the product. The gate ends with 1 if it rejects, which is no error."""
        return self.run("-m", "include.cli", name, *arguments, codes=(0, 1) if name == "gate" else (0,))

    def run(self, *arguments: str, codes: Sequence[int] = (0,)) -> ProcessCost:
        """Run Python in a process of its own.

        Raises:
            SystemExit: it failed.
        """
        server = self.postgres.server()
        assert server is not None
        before = cpu.used_by_tree(server), cpu.used_by_tree(self.spark)
        began = time.monotonic()
        log = self.folder / "log"
        with log.open("wb") as messages:
            # Started by a small process: the kernel counts the memory of whoever starts one as its first peak.
            command = [sys.executable, "-S", "-E", "-c", RUN, sys.executable, *arguments]
            done = subprocess.run(
                command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=messages, text=True, check=False
            )
        seconds = time.monotonic() - began
        after = cpu.used_by_tree(server), cpu.used_by_tree(self.spark)
        output, _, last = done.stdout.rstrip("\n").rpartition("\n")
        used = json.loads(last)
        if used["code"] not in codes:
            lines = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
            raise SystemExit(f"{' '.join(arguments[:3])} failed:\n{lines}")
        postgres, spark = (now - then for now, then in zip(after, before, strict=True))
        return ProcessCost(seconds, used["cores"], postgres, spark, used["peak_kb"] / 1024, output)


RUN = """
import json, os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(pid, 0)
code = os.waitstatus_to_exitcode(status)
print()
print(json.dumps({"code": code, "cores": used.ru_utime + used.ru_stime, "peak_kb": used.ru_maxrss}))
"""


@contextmanager
def bench_of(times: int, interval: Interval, cache: Path) -> Iterator[ScaleBench]:
    """Start the servers, and write the scaled files; stop and remove all but the files at the end."""
    console.print(f"writing the files of {times} times the flights, unless they are there")
    files = scaled(times, interval, cache)
    with tempfile.TemporaryDirectory(prefix="nightly-scale-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o711)  # as root, PostgreSQL runs as another user, who must be able to enter the folder
        environment = os.environ | SPARK_SETTINGS | {"SPARK_LOCAL_DIRS": temporary}
        with serving(spark_server, env=environment, cwd=temporary, stderr=subprocess.DEVNULL) as (port, spark):
            bench = ScaleBench(folder, files, port, psutil.Process(spark.pid))
            try:
                bench.step("migrate")
                yield bench
            finally:
                bench.stack.stop()


def measure_steps(bench: ScaleBench, interval: Interval, only: Sequence[str] = ()) -> dict[str, ProcessCost]:
    """Return the cost of each step, in pipeline order.

    If the interval is too short for a training, the model is first trained on the days before it, which is not
    measured.
    """
    costs: dict[str, ProcessCost] = {}
    is_trained_before = interval.start > load_project(OF).first_day
    if is_trained_before:
        history = Interval(start=load_project(OF).first_day, end=interval.start - timedelta(days=1))
        console.print(f"  first {history}, at the usual size")
        for name in ("land", "validate", "build_features"):
            bench.step(name, *_days(history))
        _train(bench, history)
    for name, arguments in _commands(interval):
        if (name in TRAINING and is_trained_before) or (only and name not in only):
            continue
        cost = bench.step(name, *arguments)
        console.print(
            f"  {name}: {cost.seconds:.1f} s, {cost.cores:.1f} core-seconds, PostgreSQL {cost.postgres:.1f}, "
            f"Spark {cost.spark:.1f}, {cost.peak_mb:,.0f} MB"
        )
        costs[name] = cost
    return costs


TRAINING = ("fit", "evaluate", "gate")


def _train(bench: ScaleBench, interval: Interval) -> None:
    for name, arguments in _commands(interval):
        if name in ("fit", "evaluate"):
            bench.step(name, *arguments)


def _commands(interval: Interval) -> list[tuple[str, tuple[str, ...]]]:
    of_project, of_model = _days(interval), ("--model", MODEL, *_days(interval)[2:])
    day = ("--model", MODEL, "--day", str(interval.end))
    return [
        ("land", of_project),
        ("validate", of_project),
        ("build_features", of_project),
        ("fit", day),
        ("evaluate", day),
        ("gate", day),
        ("score", (*of_model, "--version", "1")),
        ("publish", (*of_model, "--version", "1")),
        ("outcomes", of_project),
        ("monitor", of_project),
    ]


def _days(interval: Interval) -> tuple[str, ...]:
    return ("--project", PROJECT, "--start", str(interval.start), "--end", str(interval.end))


def measure_script(bench: ScaleBench, times: int) -> ProcessCost:
    """Return the cost of `bench/bare.py` with the model that the product used, and compare what both made."""
    model, out = bench.folder / "model.joblib", bench.folder / "bare"
    bench.run("-m", "bench.scale", "export", str(model))
    out.mkdir()
    bench.postgres.query("CREATE DATABASE bare OWNER nightly")
    landing, url = str(bench.files / "landing" / PROJECT), bench.postgres.url("nightly", "bare")
    cost = bench.run("-m", "bench.bare", landing, str(model), str(out), url, "--times", str(times))
    bench.run("-m", "bench.scale", "compare", str(out))
    shutil.rmtree(out)
    return cost


def measure_fit_alone(bench: ScaleBench, interval: Interval) -> tuple[float, float]:
    """Return the megabytes of the matrix of the training, and what the estimator that needs most takes beside it."""
    found = [
        json.loads(bench.run("-m", "bench.fit_alone", MODEL, each.name, str(interval.end)).output)
        for each in load_model(MODEL).candidates
    ]
    return found[0]["matrix"], max(each["alone"] for each in found)


def show(costs: dict[str, ProcessCost], script: ProcessCost | None) -> None:
    """Print what each step cost, and the script."""
    table = Table("step", "seconds", "core-seconds", "PostgreSQL", "Spark", "all", "peak MB")
    total = {"": costs, "prepare + score + publish": {name: costs[name] for name in RANGE_STEPS if name in costs}}
    for name, cost in costs.items():
        table.add_row(name, *_figures([cost]))
    for name, summed in total.items():
        table.add_row(name or "all steps", *_figures([*summed.values()]))
    if script:
        table.add_row("the script", *_figures([script]))
    console.print(table)
    if script:
        for line in script.output.split("\n"):
            console.print(f"  the script: {line}")


def _figures(costs: Sequence[ProcessCost]) -> list[str]:
    times = [
        sum(each) for each in zip(*((c.seconds, c.cores, c.postgres, c.spark, c.all_cores) for c in costs), strict=True)
    ]
    return [*(f"{each:,.1f}" for each in times), f"{max(c.peak_mb for c in costs):,.0f}"]


def compare_with_goals(
    times: int,
    costs: dict[str, ProcessCost],
    script: ProcessCost | None,
    fit_alone: tuple[float, float] | None,
    load: machine.Load,
) -> list[Result]:
    """Return the goals with what was measured. Those about time have a verdict only at their own size."""
    size = f"{times:,} times the flights"
    note = "" if load.is_trusted else f"the machine was busy: {load}"
    name, worst = max(((n, c.peak_mb) for n, c in costs.items() if n != "fit"), key=lambda each: each[1])
    found = [
        Result(f"memory of a step, {size}", f"{MEMORY_MB} MB", worst, "MB", worst <= MEMORY_MB, f"the largest: {name}")
    ]
    if "fit" in costs and fit_alone:
        matrix, alone = fit_alone
        allowed, peak = MATRICES * matrix + alone, costs["fit"].peak_mb
        words = (
            f"{MATRICES} × its matrix ({matrix:,.0f} MB) + the estimator alone ({alone:,.0f} MB) = {allowed:,.0f} MB"
        )
        # At a smaller size, the libraries are most of it.
        passed = peak <= allowed if times >= GOAL_TIMES else None
        found.append(Result(f"memory of fit, {size}", words, peak, "MB", passed))
    if script and all(name in costs for name in RANGE_STEPS):
        cores = sum(costs[name].all_cores for name in RANGE_STEPS)
        seconds = sum(costs[name].seconds for name in RANGE_STEPS)
        for goal, limit, figure in (
            ("core-seconds of prepare + score + publish", SCRIPTS, cores / script.all_cores),
            ("seconds of prepare + score + publish", WALL, seconds / cores),
        ):
            of = "the script" if limit == SCRIPTS else "core-seconds"
            # Others slow a program down, but add few core-seconds.
            has_verdict = times == GOAL_TIMES and (limit == SCRIPTS or load.is_trusted)
            passed = figure <= limit if has_verdict else None
            found.append(Result(f"{goal}, {size}", f"{limit:g} × {of}", figure, f"× {of}", passed, note))
    return found


def measure(times: int, days: int | None = None, only: Sequence[str] = (), cache: Path = CACHE) -> list[Result]:
    """Measure all steps at a size, and the script; print both, and return the goals."""
    first, length = load_project(OF).first_day, days or DAYS[times]
    shift = 0 if length >= TRAINABLE_DAYS else TRAINABLE_DAYS
    interval = Interval(start=first + timedelta(days=shift), end=first + timedelta(days=shift + length - 1))
    with bench_of(times, interval, cache) as bench:
        console.print(f"[bold]{times:,} times, {interval}: {count_rows(bench.files, interval):,} rows[/bold]")
        console.print(f"  {machine.describe()}")
        meter = machine.LoadMeter()
        costs = measure_steps(bench, interval, only)
        is_alike = not shift and all(name in costs for name in RANGE_STEPS)
        script = measure_script(bench, times) if is_alike else None
        load = meter.read()
        fit_alone = measure_fit_alone(bench, interval) if "fit" in costs else None
    show(costs, script)
    console.print(f"  {load}{'' if load.is_trusted else ': too busy to trust seconds'}")
    return compare_with_goals(times, costs, script, fit_alone, load)


def results() -> list[Result]:
    """Return the goals at 100 times the flights, and of memory at 1,000 times."""
    cpu.adopt_orphans()
    return [*measure(100), *measure(1000)]


app = typer.Typer(add_completion=False)


@app.command("measure")
def main(
    times: Annotated[int, typer.Option(help="how many times the rows of the flights: 1, 10, 100 or 1000")] = 100,
    days: Annotated[int | None, typer.Option(help="run dates in one run; default: 46, with 1000 times 3")] = None,
    only: Annotated[str, typer.Option(help="these steps, with commas; default: all")] = "",
) -> None:
    """Measure one size, and print each goal with the result; exit code 1 if a goal is missed."""
    cpu.adopt_orphans()
    found = measure(times, days, [name for name in only.split(",") if name])
    console.print(goals_table(found))
    raise typer.Exit(int(any(each.passed is False for each in found)))


@app.command(hidden=True)
def export(file: Path) -> None:
    """Write the model for the script, in the environment of the stack."""
    from include.core.settings import Settings
    from include.io.registry import Registry
    from include.steps.score import read_digests

    settings, config = Settings(), load_model(MODEL)
    registry = Registry(settings)
    loaded = registry.load(registry.get_version(MODEL, 1), read_digests(settings, config, [1])[1], config)
    parts = ("estimator", "numeric", "categorical", "decision_threshold")
    joblib.dump({name: getattr(loaded, name) for name in parts}, file)


@app.command(hidden=True)
def compare(out: Path) -> None:
    """Check day by day that features and scores are those of the script, except for the last bit of a division."""
    from include.core.settings import Settings
    from include.io.tables import Tables

    tables = Tables(Settings())
    for table, folder in ((f"features_{PROJECT}", "features"), (f"scores_{MODEL}", "scores")):
        made = pl.scan_parquet(out / folder / "*.parquet")
        days = made.select(pl.col("day").unique().sort()).collect()["day"]
        for day in days:
            expected = made.filter(pl.col("day") == day).collect().sort("entity_id")
            found = tables.scan(table).filter(pl.col("day") == day).select(expected.columns).collect().sort("entity_id")
            assert_frame_equal(found, expected, rel_tol=1e-12, abs_tol=1e-15)


if __name__ == "__main__":
    app()
