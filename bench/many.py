"""`make bench-many`: how long a nightly run of fifty small models takes, against the core-seconds of its tasks.

The benchmark starts a stack of its own with one project, a copy of the smallest one with fifty copies of its model. All
DAGs of a run date start at once, as they do at night; scoring waits for the features. With two cores, nothing can end
before half of the core-seconds have passed.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import typer

from bench import cpu
from bench.models import write_project
from bench.night import measure_idle
from bench.results import Result
from bench.table import goals_table
from include.config.loading import load_project, model_names
from include.core.interval import Interval
from tools.console import console_for_people
from tools.demo import AirflowApi, command, days, days_to_run
from tools.stack import Stack
from tools.stack.environment import PROJECTS

MODELS = 50
AT_ONCE = 2
GOAL = 1.1
NAME = "ferries_50"

console = console_for_people()


@contextmanager
def many_models(models: int) -> Iterator[Path]:
    """Write a project with so many models to a folder that `NIGHTLY_PROJECTS` names meanwhile."""
    with tempfile.TemporaryDirectory(prefix="nightly-many-") as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs as another user, who must be able to enter the folder
        write_project(Path(folder) / "projects" / NAME, range(models), simulated=True)
        with patch.dict(os.environ, {PROJECTS: str(Path(folder) / "projects")}):
            yield Path(folder)


def train_all(stack: Stack, names: list[str], day: date) -> None:
    """Train a version of each model and make it the champion, whatever the gate says of it."""
    from_day = str(day + timedelta(days=1))

    def train(name: str) -> None:
        command(stack, "evaluate", "--model", name, "--day", str(day))
        promoted = ("--version", "1", "--from-day", from_day, "--by", "bench", "--why", "a version for each", "--force")
        command(stack, "promote", "--model", name, *promoted)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(train, names))


def measure(models: int) -> tuple[float, float, float]:
    """Return the seconds of a nightly run, the core-seconds of its tasks, and the idle core-seconds a second."""
    with many_models(models) as folder:
        project = load_project(NAME)
        names = model_names(NAME)
        stack = Stack(folder / "home")
        history, _ = days_to_run(project)
        run_dates = [history.end + timedelta(days=n) for n in (1, 2)]
        dag_ids = [f"{NAME}_prepare", f"{NAME}_monitor", *(f"{name}_score" for name in names)]
        try:
            stack.start(schedule=False)
            command(stack, "migrate")
            command(stack, "simulate", *days(project, Interval(start=history.start, end=run_dates[-1])))
            command(stack, "prepare", *days(project, history))
            train_all(stack, names, history.end)
            airflow = AirflowApi(stack, project)
            airflow.wait_for_dags(dag_ids)
            airflow.follow(airflow.run(dag_ids, "warm", run_dates[0]))
            idle = measure_idle()
            before, began = cpu.used(), time.monotonic()
            airflow.follow(airflow.run(dag_ids, "measured", run_dates[1]))
            seconds = time.monotonic() - began
            return seconds, cpu.used() - before - idle * seconds, idle
        finally:
            stack.stop()


def results(models: int = MODELS) -> list[Result]:
    """Return how long a nightly run of many models takes against the goal."""
    seconds, cores, idle = measure(models)
    least = cores / len(os.sched_getaffinity(0))
    note = f"{seconds:.0f} s, {cores:.0f} core-s of tasks; idle {60 * idle:.0f} core-s a minute"
    return [
        Result(
            f"a nightly run of {models} small models, in seconds",
            f"{GOAL:g} × core-seconds of its tasks / cores",
            seconds / least,
            "times",
            seconds <= GOAL * least,
            note,
            is_elapsed=True,
        )
    ]


def main(models: Annotated[int, typer.Option(help="how many models")] = MODELS) -> None:
    """Measure, and print the goal; exit code 1 if it is missed."""
    cpu.adopt_orphans()
    found = results(models)
    console.print(goals_table(found))
    sys.exit(any(each.passed is False for each in found))


if __name__ == "__main__":
    typer.run(main)
