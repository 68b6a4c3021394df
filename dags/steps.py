"""Make the tasks of steps that may run on Databricks (`run_on` in the configuration)."""

from collections.abc import Callable, Mapping
from typing import Any

from airflow.sdk import task

from dags.common import Json, model_task, run_step
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
    task_id: str | None = None,
    **arguments: Any,
) -> Any:
    """Return the task of a step, to run on the worker or on Databricks as the config says.

    Args:
        step: the name of the step.
        config: the project or model to run it for.
        interval: the days, computed when the task runs.
        options: the options of the step, computed when the task runs.
        doc: the text for Airflow's pages.
        task_id: by default the name of the step.
        arguments: arguments of the task.
    """
    if runs_on_databricks(config, step):
        from dags.databricks import StepOperator  # this import costs half a second at each parse

        given: dict[str, Any] = {"interval": interval, "options": options, "doc_md": doc, **arguments}
        return StepOperator(task_id=task_id or step, step=step, config=config, **given).output

    @(model_task if isinstance(config, Model) else task)(task_id=task_id or step, doc_md=doc, **arguments)
    def on_worker() -> Json:
        return run_step(step, config, interval(), **options())

    return on_worker()


def runs_on_databricks(config: Project | Model, step: str) -> bool:
    """Return whether the step runs on Databricks; otherwise it runs on the worker."""
    return (step, "databricks") in config.run_on.items()
