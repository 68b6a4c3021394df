"""Sensors that several DAGs share. They wait for data, never for the state of another DAG."""

from airflow.sdk import task

from dags import params
from dags.common import WAIT, Json, log, settings
from dags.params import run_date
from include.core.interval import Interval
from include.core.project import Project


def wait_for_features(project: Project) -> Json:
    """Return the task `wait_for_features` of a nightly DAG; its log names the day that is not prepared."""

    @task.sensor(**WAIT)
    def wait_for_features() -> bool:
        """Wait until the day is prepared: `prepare` writes its row in `prepared_days` last."""
        from include.io import postgres

        data_view = params.data_view()
        missing = postgres.days.read_unprepared_days(
            settings(), project.name, Interval.of(run_date(project)), data_view
        )
        for prepared_day in missing:
            log.info(
                "waiting for the features of %s (data: %s): %s_prepare of that day has not finished",
                prepared_day, data_view, project.name,
            )  # fmt: skip
        return not missing

    return wait_for_features()
