"""Waits for data that several DAGs share: never for the state of another DAG."""

from datetime import date

from dags.common import log, settings
from include.config import Project
from include.contracts import Interval


def night_is_ready(project: Project, day: date) -> bool:
    """Whether the night of a day is prepared; says which is missing."""
    from include.io import database

    missing = database.missing_nights(settings(), project.name, Interval.of(day))
    for night in missing:
        log.info("waiting for the features of %s: %s_prepare of that day has not finished", night, project.name)
    return not missing
