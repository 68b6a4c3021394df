"""`make bench-night`: what a warm nightly run of one model costs, with everything that watches it.

The benchmark starts a stack of its own. A run date is `<project>_prepare`, `<model>_score` and `<project>_monitor`, one
after the other. The cost of the idle stack is measured too, and left out.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import mean

import sqlalchemy as sa
import typer
from rich.table import Table

from bench import cpu
from bench.backfill import NIGHTLY, PROJECT, BackfillBench
from bench.results import Result
from bench.table import goals_table
from tools.console import console_for_people

COLD, WARM = 7, 7
"""Run dates to warm up, and to measure. The JVM of the Spark server still compiles during its first dozen jobs, and a
night has two. A whole week is measured, because one of its nights writes a report."""
IDLE_SECONDS = 60
GOAL = 12.0

console = console_for_people()


@dataclass(frozen=True)
class NightCost:
    """What a warm nightly run costs.

    Attributes:
        name: of what ran it.
        cores: core-seconds above the idle services.
        seconds: from its start to its end.
        idle: core-seconds a second of the idle services.
    """

    name: str
    cores: float
    seconds: float
    idle: float


def measure(name: str, run: Callable[[date], None], run_dates: Sequence[date]) -> NightCost:
    """Run COLD run dates, measure the idle services, then the other run dates one after the other."""
    for day in run_dates[:COLD]:
        run(day)
    idle = measure_idle()
    cores, seconds = [], []
    for day in run_dates[COLD:]:
        before, began = cpu.used(), time.monotonic()
        run(day)
        seconds.append(time.monotonic() - began)
        cores.append(cpu.used() - before - idle * seconds[-1])
    console.print(f"  {name}: {', '.join(f'{each:.1f}' for each in cores)} core-seconds; idle {idle:.2f} a second")
    return NightCost(name, mean(cores), mean(seconds), idle)


def measure_idle() -> float:
    """Return the core-seconds a second of services that have nothing to run."""
    time.sleep(10)  # what a run leaves to do, such as writing logs
    before, began = cpu.used(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    return (cpu.used() - before) / (time.monotonic() - began)


def costs_table(costs: Sequence[NightCost]) -> Table:
    """Return a table of costs for a terminal."""
    table = Table("a warm nightly run", "core-seconds", "seconds", "idle core-seconds a minute")
    for each in costs:
        table.add_row(each.name, f"{each.cores:.1f}", f"{each.seconds:.0f}", f"{60 * each.idle:.0f}")
    return table


def result(cost: NightCost, goal: str, limit: float | None = None) -> Result:
    """Return the record of a cost."""
    return Result(
        goal,
        "" if limit is None else f"{limit:.0f} core-s",
        cost.cores,
        "core-s",
        None if limit is None else cost.cores <= limit,
        f"{cost.seconds:.0f} s; idle {60 * cost.idle:.0f} core-s a minute",
    )


def steps_of(bench: BackfillBench, run_dates: Sequence[date]) -> dict[str, float]:
    """Return the core-seconds of each step a run date, as the steps measured them, without Spark and PostgreSQL."""
    engine = sa.create_engine(sa.make_url(bench.settings.database_url.get_secret_value()))
    query = (
        "SELECT step, sum(core_seconds) / :nights FROM step_runs "
        "WHERE interval_start BETWEEN :first AND :last AND interval_start = interval_end "
        "GROUP BY step ORDER BY min(started_at)"
    )
    with engine.connect() as connection:
        bounds = {"first": run_dates[0], "last": run_dates[-1], "nights": len(run_dates)}
        found = connection.execute(sa.text(query), bounds)
        return {step: float(cores) for step, cores in found}


def results() -> list[Result]:
    """Return the cost of a warm nightly run against its goal."""
    with tempfile.TemporaryDirectory(prefix="nightly-bench-") as temporary:
        Path(temporary).chmod(0o711)  # as root, PostgreSQL runs as another user, who must be able to enter the folder
        bench = BackfillBench(Path(temporary) / "home", [*NIGHTLY, f"{PROJECT.name}_monitor"])
        try:
            run_dates = bench.with_one_version(COLD + WARM)
            cost = measure("nightly-ml", bench.run_date, run_dates)
            steps = steps_of(bench, run_dates[COLD:])
        finally:
            bench.stack.stop()
    table = Table("step", "core-seconds a run date")
    for step, cores in steps.items():
        table.add_row(step, f"{cores:.2f}")
    table.add_row("starts of tasks, Airflow's services, PostgreSQL, Spark", f"{cost.cores - sum(steps.values()):.2f}")
    console.print(table)
    return [result(cost, "a warm nightly run of one model, monitored, above the idle stack", GOAL)]


def main() -> None:
    """Measure, print each step, and the goal; exit code 1 if it is missed."""
    cpu.adopt_orphans()
    found = results()
    console.print(goals_table(found))
    raise typer.Exit(int(any(each.passed is False for each in found)))


if __name__ == "__main__":
    typer.run(main)
