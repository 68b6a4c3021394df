"""The wait for data that several DAGs share: never for the state of another DAG."""

from airflow.sdk import task

from dags import params
from dags.common import WAIT, Json, log, settings
from dags.params import run_day
from include.core.interval import Interval
from include.core.project import Project


def wait_for_night(project: Project) -> Json:
    """The task `wait_for_features` of a nightly DAG; its log names the night that is missing."""

    @task.sensor(**WAIT)
    def wait_for_features() -> bool:
        """Wait for the night to be prepared: its row in `nights` is written last."""

        from include.io import postgres

        knowledge = params.knowledge()
        missing = postgres.days.missing_nights(settings(), project.name, Interval.of(run_day(project)), knowledge)
        for night in missing:
            log.info(
                "waiting for the features of %s (as of: %s): %s_prepare of that day has not finished",
                night, knowledge, project.name,
            )  # fmt: skip
        return not missing

    return wait_for_features()
