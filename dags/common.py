"""Shared by all DAG files: default arguments, the settings of the running task, assets, and the call of a step.

Steps are imported inside tasks, because Airflow pays for a heavy import at the top of a DAG file at every parse.
"""

import logging
import os
import warnings
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

from airflow.providers.standard.decorators.python import _PythonDecoratedOperator
from airflow.sdk import Asset, CronTriggerTimetable, Param, get_current_context, get_parsing_context
from airflow.sdk.bases.decorator import TaskDecorator, task_decorator_factory
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags import params
from dags.alerts import RUN_FAILED, TASK_FAILED
from dags.connections import resolve
from dags.events import extra_of
from dags.lineage import remember
from include.config.loading import load_project, project_names
from include.config.model import Model
from include.core.errors import ActionRequiredError, LockTimeoutError, NotReadyError, UnreachableError
from include.core.intake import NotYetError
from include.core.interval import Interval
from include.core.log_lines import protect_logs
from include.core.printable import markdown
from include.core.project import Project
from include.core.records import StepResult
from include.core.settings import Settings

log = logging.getLogger(__name__)
protect_logs()  # in each process that parses a DAG file: before a task runs, Airflow parses its file


def quiet_logs() -> None:
    """Keep a thousand lines out of the log of each task of a model.

    When skops is imported, it looks for names in every loaded module, and Airflow's modules warn about each name. A
    filter that is set while Airflow parses a file is gone when its task runs, so tasks set it.
    """
    warnings.filterwarnings("ignore", message="The `airflow", module=r"skops\.")


# The record of a step, as XCom stores it. It is not `dict`, because Airflow would make one XCom for each key.
Json = Any

DEFAULT_ARGS: dict[str, Any] = {
    "retries": 3,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=15),
    "execution_timeout": timedelta(hours=2),
    "on_failure_callback": TASK_FAILED,  # after the last try
}

WAIT: dict[str, Any] = {
    # reschedule frees the slot between checks; the task cannot defer, because the triggerer cannot import `include`
    "mode": "reschedule",
    "poke_interval": timedelta(seconds=20),
    # A timeout is not retried. A check that raised an error is, with the retries of DEFAULT_ARGS.
    "timeout": timedelta(hours=12),
}


class ModelTask(_PythonDecoratedOperator):
    """A task with a record that names a run or a version in MLflow. Airflow's pages link to these.

    `plugins/nightly_links` finds such tasks by the name of this class and its module.
    """


class QualityTask(_PythonDecoratedOperator):
    """A task that validates deliveries. Airflow's pages link to the page about them, as they do for `ModelTask`."""


quality_task = cast(TaskDecorator, partial(task_decorator_factory, decorated_operator_class=QualityTask))
"""The decorator `@task`, for a `QualityTask`."""

model_task = cast(TaskDecorator, partial(task_decorator_factory, decorated_operator_class=ModelTask))
"""The decorator `@task`, for a `ModelTask`."""


def owners() -> str:
    """Return the owners of all projects, and so of the DAGs of the bundle."""
    return ", ".join(sorted({load_project(name).owner for name in project_names()})) or "airflow"


def to_build(names: Iterable[str], kind: str) -> list[str]:
    """Return the models or projects whose DAG `<name>_<kind>` this process needs.

    Airflow parses the file of a task again in each task, and then says which DAG it looks for. The others are not even
    loaded, so that the start of a task does not depend on how many models there are.
    """
    wanted = get_parsing_context().dag_id
    return [name for name in names if wanted in (None, f"{name}_{kind}")]


def describe(text: str, config: Project | Model, project: Project) -> str:
    """Fill in the text of a DAG.

    Args:
        text: names fields of `config` in braces, and `{first_day}` and `{last_day}`, for examples of commands. Airflow
            renders it as Markdown; title and owner are text in it.
        config: the project or model whose DAG it is.
        project: whose first week the examples are about.

    Returns:
        The text.
    """
    week = {"first_day": project.first_day, "last_day": project.first_day + timedelta(days=6)}
    return text.format(
        **config.model_dump() | week | {"title": markdown(config.title), "owner": markdown(config.owner)}
    )


def described(text: str, config: Project | Model, project: Project) -> dict[str, Any]:
    """Return the text of a DAG as its `doc_md`, and its first line as the name that Airflow's pages show."""
    heading = text.strip().partition("\n")[0].removeprefix("### ")
    return {"doc_md": describe(text, config, project), "dag_display_name": heading.format(**config.model_dump())}


def schedule(project: Project, cron: str | None = None) -> CronTriggerTimetable:
    """Return a schedule in the project's timezone, the nightly one by default; Airflow reads a bare cron as UTC."""
    return CronTriggerTimetable(cron or project.schedule, timezone=project.timezone)


def nightly(project: Project, owner: str, **more: Param) -> dict[str, Any]:
    """Return the arguments of a DAG that handles one run date per run.

    It runs by its schedule and does not catch up on missed days: on-call backfills those on purpose. Its form starts
    it for any day.

    Args:
        project: the project that gives the DAG its first day, timezone and form.
        owner: the person or team responsible for the DAG.
        more: further fields of the form.
    """
    return {
        "start_date": datetime.combine(project.first_day, datetime.min.time(), project.zone),
        "catchup": False,
        "default_args": {**DEFAULT_ARGS, "owner": owner},
        "params": {"day": params.day(project), **more},
        "dagrun_timeout": timedelta(hours=24),
        "on_failure_callback": RUN_FAILED,
    }


def run_step(step: str, config: Project | Model, interval: Interval, **options: Any) -> Json:
    """Run a step of `include` and return its record as JSON. An error that a person has to fix is not retried.

    If a required file claims a moment that is still ahead, or a database does not answer, the task retries the step 3
    times within minutes (`DEFAULT_ARGS`), then it fails: clear it after the moment that the message names. Only the
    sensors `wait_for_files` and `extract` wait for hours.
    """
    quiet_logs()
    from include.runner.run import run

    try:
        result: StepResult = run(step, config, interval, settings(_sources(step, config)), **options)
    except NotReadyError as error:
        raise skipped(str(error), get_current_context()) from error
    except (LockTimeoutError, NotYetError, UnreachableError):
        raise
    except ActionRequiredError as error:
        raise AirflowFailException(f"{step} of {config.name} for {interval}: {error}") from error
    if result.skipped:
        raise skipped(result.skipped, get_current_context())
    remember(get_current_context()["task"], step, config, result)
    announce(get_current_context(), interval, result)
    return result.model_dump(mode="json")


def skipped(why: str, context: Any) -> AirflowSkipException:
    """Return the error that skips the running task; `airflow dags backfill` reads the XCom `skipped`."""
    context["ti"].xcom_push(key="skipped", value=why)
    return AirflowSkipException(why)


def run_range_step(
    step: str, config: Project | Model, interval: Interval, days: Iterable[date], **options: Any
) -> Json:
    """Run a step for days of a range and return its record as JSON; a day that fails does not stop the others.

    While it runs, the log and the XCom `progress` say how many days are done.
    """
    quiet_logs()
    from include.runner.ranges import run_range

    ti = get_current_context()["ti"]

    def report(text: str) -> None:
        log.info("%s", text)
        ti.xcom_push(key="progress", value=text)

    try:
        found = settings(_sources(step, config))
        result = run_range(step, config, interval, days, found, report=report, **options)
    except LockTimeoutError:
        raise
    except ActionRequiredError as error:
        raise AirflowFailException(f"{step} of {config.name} for {interval}: {error}") from error
    announce(get_current_context(), interval, result)
    return result.model_dump(mode="json")


def _sources(step: str, config: Project | Model) -> list[str]:
    """Return the connections to the databases that a step reads."""
    from include.steps.declared import STEPS

    return config.connections if STEPS[step].reads_sources and isinstance(config, Project) else []


def settings(sources: Iterable[str] = ()) -> Settings:
    """Return the settings of the running task, from the connections; `sources` are those to databases of feeds."""
    context = get_current_context()
    commit = getattr(getattr(context["ti"], "bundle_instance", None), "version", None) or _checked_out()
    return resolve(context["run_id"], commit, sources)


def announce(context: Any, interval: Interval, result: StepResult) -> None:
    """Say in the asset events of the running task what its step made: run date, rows, versions and batches.

    Who subscribes to an asset reads it in the extra of the event, and asks the database for nothing.
    """
    for asset in getattr(context.get("task"), "outlets", ()):
        context["outlet_events"][asset].extra = extra_of(interval, result)


def _asset(project: str, name: str, place: str, description: str) -> Asset:
    return Asset(name=name, uri=f"nightly-ml://{place}", group=project, extra={"description": description})


def features_asset(project: Project) -> Asset:
    """Return the asset for the features of a project."""
    said = f"{project.title}: the features of a run date are built; the table is features_{project.name}."
    return _asset(project.name, f"features_{project.name}", f"{project.name}/features", said)


def versions_asset(model: Model) -> Asset:
    """Return the asset for the evaluated versions of a model."""
    said = f"{model.title}: a version is registered and evaluated; the gate has not decided on it yet."
    return _asset(model.project, f"versions_{model.name}", f"{model.project}/{model.name}/versions", said)


def champions_asset(model: Model) -> Asset:
    """Return the asset for the champions of a model."""
    said = f"{model.title}: another version is the champion; the view promotion_history says why."
    return _asset(model.project, f"champions_{model.name}", f"{model.project}/{model.name}/champions", said)


def announce_champion(model: Model) -> None:
    """Say in the asset event of the running task how it changed the champion; without a change there is no event.

    A step that is repeated describes the same promotion again, so a program compares the number of the promotion.
    """
    from include.io.postgres.champions import read_change_by_run

    context, asset = get_current_context(), champions_asset(model)
    change = read_change_by_run(settings(), model.name)
    if change is None:
        running = context["ti"].task  # Airflow makes an event for each outlet that the task has when it succeeds
        running.outlets = [outlet for outlet in running.outlets if outlet != asset]
        return
    context["outlet_events"][asset].extra = change.model_dump(mode="json", exclude={"why"})


def predictions_asset(model: Model) -> Asset:
    """Return the asset for the published predictions of a model."""
    said = f"{model.title}: readers see the predictions of a run date; the view is current_predictions."
    return _asset(model.project, f"predictions_{model.name}", f"{model.project}/{model.name}/predictions", said)


def outcomes_asset(project: Project) -> Asset:
    """Return the asset for the recorded outcomes of a project."""
    said = f"{project.title}: true outcomes became known; the view is predictions_with_outcomes."
    return _asset(project.name, f"outcomes_{project.name}", f"{project.name}/outcomes", said)


def _checked_out() -> str:
    """Return the commit of a bundle that Airflow does not version: the folder of an image or of a clone."""
    import subprocess

    if commit := os.environ.get("NIGHTLY_GIT_COMMIT"):
        return commit
    head = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    found = subprocess.run(head, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
