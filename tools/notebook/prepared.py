# mypy: ignore-errors
# The arguments of a cell are the names that other cells return; marimo finds them, and they have no types.
"""Prepared features, outcomes and predictions of a project. Copy this file before you change it."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="full")


@app.cell
def _():
    import os

    import marimo as mo

    from include.config.loading import model_names
    from include.core.settings import Settings
    from tools.notebook import read

    settings, project = Settings(), os.environ["NOTEBOOK_PROJECT"]
    mo.md(f"# Prepared data of {project}")
    return mo, model_names, project, read, settings


@app.cell
def _(mo, model_names, project, read, settings):
    days = read.prepared_days(settings, project)
    day = mo.ui.dropdown([str(each) for each in days["day"]], value=str(days["day"][0]), label="run date")
    model = mo.ui.dropdown(model_names(project), value=model_names(project)[0], label="model")
    mo.vstack([days, mo.hstack([day, model], justify="start")])
    return day, model


@app.cell
def _(day, mo, project, read, settings):
    from datetime import date

    chosen = date.fromisoformat(day.value)
    features = read.features(settings, project, chosen)
    mo.vstack([mo.md("## Features"), features])
    return chosen, features


@app.cell
def _(chosen, mo, model, read, settings):
    predictions = read.predictions(settings, model.value, chosen)
    mo.vstack([mo.md("## Predictions and outcomes"), predictions])
    return (predictions,)


if __name__ == "__main__":
    app.run()
