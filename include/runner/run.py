"""Run one step and record it in `step_runs`: the one way in which `cli` and `dags/` call steps.

A step on Databricks reaches tables and MLflow only. What the shared database has to know of it is written here, on the
worker, after the step.
"""

import logging
from datetime import datetime
from typing import Any, Literal

from include.config.model import Model
from include.core.errors import NotReadyError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import StepResult
from include.core.settings import Settings, utc_now
from include.io import postgres
from include.steps.declared import STEPS

log = logging.getLogger(__name__)


def run(name: str, config: Project | Model, interval: Interval, settings: Settings, **options: Any) -> StepResult:
    """Run a step and record how it ended, also when it fails.

    Raises:
        Exception: whatever the step raises.
    """
    step, started_at = STEPS[name], utc_now()
    try:
        result = step.function(config, interval, settings, **options)
        step.finish(result, settings)
    except NotReadyError:
        _record(name, config, interval, settings, started_at, "skipped")
        raise
    except Exception as error:
        try:
            _record(name, config, interval, settings, started_at, "failed", error=error)
        except Exception:
            log.exception("the failure of %s could not be recorded", name)
        raise
    _record_success(name, config, interval, result, settings, started_at)
    return result


def record(
    name: str,
    config: Project | Model,
    interval: Interval,
    result: StepResult | None,
    settings: Settings,
    started_at: datetime,
) -> None:
    """Do the same for a step that ran on Databricks. `result` is None when it raised `NotReadyError`."""
    if result is None:
        _record(name, config, interval, settings, started_at, "skipped")
        return
    STEPS[name].finish(result, settings)
    _record_success(name, config, interval, result, settings, started_at)


def _record_success(
    name: str,
    config: Project | Model,
    interval: Interval,
    result: StepResult,
    settings: Settings,
    started_at: datetime,
) -> None:
    if result.skipped:
        log.info("skipped: %s", result.skipped)
    if result.tentative:
        return
    state: Literal["skipped", "success"] = "skipped" if result.skipped else "success"
    _record(
        name,
        config,
        interval,
        settings,
        started_at,
        state,
        rows=result.rows,
        table_version=result.table_version,
        model_version=result.model_version,
    )


def _record(
    name: str,
    config: Project | Model,
    interval: Interval,
    settings: Settings,
    started_at: datetime,
    state: Literal["success", "skipped", "failed"],
    **about: Any,
) -> None:
    project, model = config.recorded_as
    postgres.audit.record_step(
        settings,
        name,
        project,
        interval,
        model=model,
        state=state,
        started_at=started_at,
        ended_at=utc_now(),
        **about,
    )
