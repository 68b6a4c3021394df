"""What all DAG files share: policy, the settings of the running task, and the call of a step.

Steps are imported inside tasks: a heavy import at the top of a DAG file is paid at every parse.
"""

import logging
import os
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

from airflow.providers.standard.decorators.python import _PythonDecoratedOperator
from airflow.sdk import Asset, CronTriggerTimetable, Param, get_current_context
from airflow.sdk.bases.decorator import TaskDecorator, task_decorator_factory
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags import params
from dags.alerts import RUN_FAILED, TASK_FAILED
from dags.connections import resolve
from include.config import Model, Project
from include.contracts import Interval, StepResult
from include.errors import NeedsAttention, NotYet
from include.settings import Settings

log = logging.getLogger(__name__)

# a step's record as XCom holds it; not `dict`, of which Airflow would make one XCom a key
Json = Any

POLICY: dict[str, Any] = {
    "retries": 3,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=15),
    "execution_timeout": timedelta(hours=2),
    "on_failure_callback": TASK_FAILED,  # after the last try
}
WAIT: dict[str, Any] = {
    # reschedule: it frees its slot between looks, and the triggerer cannot import `include`
    "mode": "reschedule",
    "poke_interval": timedelta(seconds=20),
    "timeout": timedelta(hours=12),  # not tried again then; a look that failed is, as by POLICY
}


class ModelTask(_PythonDecoratedOperator):
    """A task whose record names a run or a version in MLflow. Airflow's pages link it there: plugins/nightly_links
    knows it by the name of this class and module."""


model_task = cast(TaskDecorator, partial(task_decorator_factory, decorated_operator_class=ModelTask))
"""`@task`, for a `ModelTask`."""


def every_night(project: Project) -> CronTriggerTimetable:
    """The project's schedule in its own timezone: a bare cron string would mean UTC."""
    return CronTriggerTimetable(project.schedule, timezone=project.timezone)


def nightly(project: Project, owner: str, **more: Param) -> dict[str, Any]:
    """Arguments of a DAG that handles one day a run: one run each night, none for nights that were missed (on-call
    backfills those knowingly), and a form to start it for any day, with `more` params."""
    return {
        "start_date": datetime.combine(project.first_day, datetime.min.time(), project.zone),
        "catchup": False,
        "default_args": {**POLICY, "owner": owner},
        "params": {"day": params.day(project), **more},
        "dagrun_timeout": timedelta(hours=24),
        "on_failure_callback": RUN_FAILED,
    }


def run_step(step: str, config: Project | Model, interval: Interval, **options: Any) -> Json:
    """Run a step of `include` and return its record as JSON. What a person has to mend fails without retries."""
    from include.run import run

    try:
        result: StepResult = run(step, config, interval, settings(), **options)
    except NotYet as error:
        raise AirflowSkipException(str(error)) from error
    except NeedsAttention as error:
        raise AirflowFailException(f"{step} of {config.name} for {interval}: {error}") from error
    if result.skipped:
        raise AirflowSkipException(result.skipped)
    return result.model_dump(mode="json")


def run_days(step: str, config: Project | Model, interval: Interval, days: Iterable[date], **options: Any) -> Json:
    """Run a step for days of a range, where a bad day stops only itself, and return its record as JSON. How far it is
    stands in the log and in the XCom `progress` while it runs."""
    from include.ranges import run_range

    ti = get_current_context()["ti"]

    def tell(text: str) -> None:
        log.info("%s", text)
        ti.xcom_push(key="progress", value=text)

    try:
        return run_range(step, config, interval, days, settings(), tell=tell, **options).model_dump(mode="json")
    except NeedsAttention as error:
        raise AirflowFailException(f"{step} of {config.name} for {interval}: {error}") from error


def settings() -> Settings:
    """Return the settings of the running task, from the connections."""
    context = get_current_context()
    commit = getattr(getattr(context["ti"], "bundle_instance", None), "version", None) or _checked_out()
    return resolve(context["run_id"], commit)


def features_asset(project: Project) -> Asset:
    """The features of a night."""
    return Asset(name=f"features_{project.name}", uri=f"nightly-ml://{project.name}/features")


def versions_asset(model: Model) -> Asset:
    """Evaluated versions of a model."""
    return Asset(name=f"versions_{model.name}", uri=f"nightly-ml://{model.project}/{model.name}/versions")


def champions_asset(model: Model) -> Asset:
    """Which version of a model is champion from when on."""
    return Asset(name=f"champions_{model.name}", uri=f"nightly-ml://{model.project}/{model.name}/champions")


def predictions_asset(model: Model) -> Asset:
    """What is published of a model."""
    return Asset(name=f"predictions_{model.name}", uri=f"nightly-ml://{model.project}/{model.name}/predictions")


def outcomes_asset(project: Project) -> Asset:
    """The outcomes that became known."""
    return Asset(name=f"outcomes_{project.name}", uri=f"nightly-ml://{project.name}/outcomes")


def _checked_out() -> str:
    """The commit of a bundle that is a plain folder, which Airflow does not version: an image's, or that of a clone."""
    import subprocess

    if commit := os.environ.get("NIGHTLY_GIT_COMMIT"):
        return commit
    head = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    found = subprocess.run(head, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
