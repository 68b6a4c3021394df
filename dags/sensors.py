"""Sensors that wait for rows of databases, never for the state of another DAG."""

from datetime import timedelta
from functools import partial
from typing import Any, cast

from airflow.providers.standard.decorators.sensor import DecoratedSensorOperator
from airflow.sdk import PokeReturnValue, task
from airflow.sdk.bases.decorator import TaskDecorator, task_decorator_factory
from airflow.sdk.exceptions import AirflowSensorTimeout

from dags import params
from dags.alerts import LateFeedsError
from dags.common import WAIT, Json, log, run_step, settings
from dags.params import run_date
from include.core.intake import NotYetError
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import utc_now


def wait_for_features(project: Project) -> Json:
    """Return the task `wait_for_features` of a nightly DAG; its log names the day that is not prepared."""

    @task.sensor(task_display_name="Wait for features", **WAIT)
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


class WaitForRows(DecoratedSensorOperator):
    """A sensor for the rows of queries. When its time is over, its error names the feeds that are late."""

    def __init__(self, *, project: Project, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.project = project

    def execute(self, context: Any) -> Any:
        """Check once.

        Raises:
            LateFeedsError: the time is over, and queries gave no row.
        """
        from include.steps.extract import missing_rows

        try:
            return super().execute(context)
        except AirflowSensorTimeout as error:
            if missing := missing_rows(self.project, run_date(self.project), settings()):
                raise LateFeedsError(missing) from error
            raise


rows_sensor = cast(
    TaskDecorator, partial(task_decorator_factory, decorated_operator_class=WaitForRows, multiple_outputs=False)
)


def extract_rows(project: Project) -> Json:
    """Return the task `extract` of `<project>_prepare`, which tries again until each query that is waited for has rows.

    It asks another team's database, so it waits longer between two tries than for a file.
    """
    waiting = WAIT | {"poke_interval": timedelta(minutes=5)}

    @rows_sensor(project=project, task_display_name="Extract rows of queries", **waiting)
    def extract() -> PokeReturnValue:
        """Run the queries of feeds after the cutoff, and write their rows to raw tables; hash identifiers."""
        day = run_date(project)
        if utc_now() < project.cutoff_at(day):
            log.info("waiting for the cutoff of %s, %s", day, project.cutoff_at(day))
            return PokeReturnValue(is_done=False)
        try:
            record = run_step("extract", project, Interval.of(day), record_waiting=False)
        except NotYetError as error:
            log.info("waiting: %s", error)
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=record)

    return extract()
