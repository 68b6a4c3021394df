"""Fit a candidate of a model with nothing else in memory, and print what it takes beside its rows, as JSON.

`bench/scale.py` compares the step `fit` with it. It uses the environment of a stack.
"""

import importlib
import json
from datetime import date
from pathlib import Path

import psutil
import typer
from threadpoolctl import threadpool_limits

from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.settings import Settings
from include.io.journal import read_journal
from include.io.training_sets import read_at, read_training_set

MEGABYTE = 2**20


def main(model: str, candidate: str, day: str) -> None:
    """Print megabytes of the float matrix of a run date's training, and of the estimator's fit beside it."""
    config, settings, run_date = load_model(model), Settings(), date.fromisoformat(day)
    project = load_project(config.project)
    state = read_at(project, config, run_date, settings, read_journal(settings, project), "point_in_time")
    rows = read_training_set(project, config, Interval.of(run_date), settings, state, "point_in_time")
    inputs, labels = rows.fit_inputs(config.numeric, config.categorical)
    estimator = importlib.import_module(f"include.projects.{project.name}.models.{model}.estimator")
    chosen = next(each for each in config.candidates if each.name == candidate)
    unfitted = estimator.build(chosen.params, config.numeric, config.categorical, config.seed)
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    with threadpool_limits(1):  # as in the step
        unfitted.fit(inputs, labels)
    typer.echo(json.dumps({"matrix": inputs.size * 8 / MEGABYTE, "alone": (_peak() - before) / MEGABYTE}))


def _peak() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    typer.run(main)
