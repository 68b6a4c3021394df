"""The task that writes the page for everybody again after what it shows has changed. Several DAGs have it."""

from collections.abc import Callable
from typing import Any

from airflow.sdk import task

from dags.common import Json, run_step
from dags.params import run_date
from include.core.interval import Interval
from include.core.project import Project


def write_public_page(project: Project, interval: Callable[[], Interval] | None = None, **arguments: Any) -> Any:
    """Return the task `public_page`, on which nothing waits: a page that fails holds up no prediction.

    Args:
        project: whose page it is.
        interval: the run dates of the run; by default its run date.
        arguments: arguments of the task.
    """

    @task(task_display_name="Write the public page", **arguments)
    def public_page() -> Json:
        """Write the page for everybody, with what readers see now; an equal page is not written again."""
        return run_step("public_page", project, interval() if interval else Interval.of(run_date(project)))

    return public_page()
