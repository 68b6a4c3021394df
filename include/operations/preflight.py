"""preflight: find what the runs of a DAG for a range of days would wait for, before somebody starts them.

It only reads. `airflow dags backfill` calls it through `cli preflight`.
"""

from datetime import date
from typing import Literal

from pydantic import Field

from include.config.loading import is_simulated, load_model, load_project, model_names, project_names
from include.core.base import Record
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres
from include.steps.arrivals import missing_by_day
from include.steps.extract import failing_by_day

Kind = Literal["prepare", "train", "score", "monitor", "simulate"]


class Preflight(Record):
    """The result of `preflight`. `kind` is None if the DAG is not one of the product's DAGs with one run per day."""

    kind: Kind | None = None
    waits: dict[date, list[str]] = Field(default={}, description="what a day's run would wait for, as sentences")
    fix: str | None = Field(default=None, description="the command that makes the missing data, if there is one")
    published: dict[str, list[date]] = Field(default={}, description="the days of a model that readers see")


def preflight(dag_id: str, interval: Interval, settings: Settings) -> Preflight:
    """Return what the runs of a DAG for these days would find."""
    kind, project, model = _find(dag_id)
    if kind is None or project is None or kind == "simulate":
        return Preflight(kind=kind)
    waits = (_inputs if kind == "prepare" else _prepared_days)(project, interval, settings)
    publishes = model if kind == "score" else None
    published = (
        {publishes: sorted(postgres.predictions.read_pointers(settings, publishes, interval)["day"])}
        if publishes
        else {}
    )
    return Preflight(kind=kind, waits=waits, fix=_fix(project, kind, sorted(waits)), published=published)


def _find(dag_id: str) -> tuple[Kind | None, Project | None, str | None]:
    of_projects: tuple[Kind, ...] = ("prepare", "monitor", "simulate")
    of_models: tuple[Kind, ...] = ("train", "score")
    for name in project_names():
        for kind in of_projects:
            if dag_id == f"{name}_{kind}":
                return kind, load_project(name), None
    for name in model_names():
        for kind in of_models:
            if dag_id == f"{name}_{kind}":
                return kind, load_project(load_model(name).project), name
    return None, None, None


def _fix(project: Project, kind: Kind, days: list[date]) -> str | None:
    if not days or (kind == "prepare" and not is_simulated(project)):
        return None
    if kind == "prepare":
        return f"python -m include.cli simulate --project {project.name} --start {days[0]} --end {days[-1]}"
    return f"airflow dags backfill {project.name}_prepare -s {days[0]} -e {days[-1]}"


def _inputs(project: Project, interval: Interval, settings: Settings) -> dict[date, list[str]]:
    """Return the missing files, and the queries that cannot be run. Whether a query has rows is not asked."""
    files, queries = missing_by_day(project, interval, settings), failing_by_day(project, interval, settings)
    found = {day: [*files.get(day, ()), *queries.get(day, ())] for day in interval.days}
    return {day: sentences for day, sentences in found.items() if sentences}


def _prepared_days(project: Project, interval: Interval, settings: Settings) -> dict[date, list[str]]:
    missing = postgres.days.read_unprepared_days(settings, project.name, interval)
    return {day: [f"{day} is not prepared: {project.name}_prepare"] for day in missing}
