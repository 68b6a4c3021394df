"""Fit a candidate of a model with nothing else in memory, and print what it takes beside its rows, as JSON.

`bench/scale.py` compares the step `fit` with it. It uses the environment of a stack.
"""

import importlib
import json
from datetime import date
from pathlib import Path

import polars as pl
import psutil
import typer

from include.config.loading import load_model, load_project
from include.core.names import clean_table, features_table
from include.core.settings import Settings
from include.io.tables import Tables

MEGABYTE = 2**20


def main(model: str, candidate: str, start: str, end: str) -> None:
    """Print megabytes of the matrix of a training on the features of some days, and of the fit beside it."""
    config = load_model(model)
    project, tables = load_project(config.project), Tables(Settings())
    days = pl.col("day").is_between(date.fromisoformat(start), date.fromisoformat(end))
    columns = [*config.numeric, *config.categorical]
    outcome = project.outcomes[config.outcome]
    known = tables.scan(clean_table(project.name, outcome.feed)).filter(days)
    label = pl.sql_expr(outcome.sql).cast(pl.Float64).alias("_label")
    labels = known.select("day", "entity_id", label).unique(["day", "entity_id"])
    features = tables.scan(features_table(project.name)).filter(days).select("day", "entity_id", *columns)
    rows = features.join(labels, on=["day", "entity_id"]).collect(engine="streaming")
    inputs, expected = rows.select(columns).to_pandas(), rows["_label"].to_numpy()
    matrix = rows.height * len(columns) * 8 / MEGABYTE
    del rows
    estimator = importlib.import_module(f"include.projects.{project.name}.models.{model}.estimator")
    chosen = next(each for each in config.candidates if each.name == candidate)
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    estimator.build(chosen.params, config.numeric, config.categorical, config.seed).fit(inputs, expected)
    typer.echo(json.dumps({"matrix": matrix, "alone": (_peak() - before) / MEGABYTE}))


def _peak() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    typer.run(main)
