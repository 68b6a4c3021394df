"""The tasks of steps that the config may send to Databricks (`run_on`)."""

from collections.abc import Callable, Mapping
from typing import Any

from airflow.sdk import task

from dags.common import Json, run_step
from include.config.model import Model
from include.core.interval import Interval
from include.core.project import Project


def step_task(
    step: str,
    config: Project | Model,
    interval: Callable[[], Interval],
    options: Callable[[], Mapping[str, Any]],
    *,
    doc: str,
    **arguments: Any,
) -> Any:
    """The task of a step, where the config says that it runs. What it is asked for follows when it runs."""
    if runs_on_databricks(config, step):
        from dags.databricks import StepOperator  # half a second, at each parse

        given: dict[str, Any] = {"interval": interval, "options": options, "doc_md": doc, **arguments}
        return StepOperator(task_id=step, step=step, config=config, **given).output

    @task(task_id=step, doc_md=doc, **arguments)
    def on_worker() -> Json:
        return run_step(step, config, interval(), **options())

    return on_worker()


def runs_on_databricks(config: Project | Model, step: str) -> bool:
    """Else it runs on the worker."""
    return (step, "databricks") in config.run_on.items()
