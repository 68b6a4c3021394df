"""Run one step and keep the record of it: the one way that `cli` and `dags/` call steps.

A step on Databricks touches tables and MLflow only, so what PostgreSQL has to know of a run (its seconds and rows,
the nights that became ready) is written here, on the worker, after the step.
"""

import importlib
import logging
from datetime import datetime
from typing import Any, Literal

from include.config import Model, Project
from include.contracts import Featured, Interval, StepResult
from include.errors import NeedsAttention, NotYet
from include.io import database
from include.settings import Settings, utc_now

log = logging.getLogger(__name__)


def run(step: str, config: Project | Model, interval: Interval, settings: Settings, **options: Any) -> StepResult:
    """Call `include.steps.<step>.<step>` and record it in `step_runs`, also when it fails.

    `nights`, which training and scoring wait for, are written here, last: features are there when a night is.
    Raises whatever the step raises.
    """
    function = getattr(importlib.import_module(f"include.steps.{step}"), step)
    about = _about(config, utc_now())
    try:
        result: StepResult = function(config, interval, settings, **options)
        _keep_nights(result, settings)
    except NotYet:
        database.record_step(settings, step, interval=interval, state="skipped", ended_at=utc_now(), **about)
        raise
    except Exception as error:
        try:
            database.record_step(
                settings, step, interval=interval, state="failed", ended_at=utc_now(), error=error, **about
            )
        except Exception:
            log.exception("that %s failed could not be recorded", step)
        raise
    _record_success(step, interval, result, settings, about)
    return result


def record(
    step: str,
    config: Project | Model,
    interval: Interval,
    result: StepResult | None,
    settings: Settings,
    started_at: datetime,
) -> None:
    """The same of a step that was done on Databricks; None: it raised `NotYet`."""
    if result is None:
        about = _about(config, started_at)
        database.record_step(settings, step, interval=interval, state="skipped", ended_at=utc_now(), **about)
        return
    _keep_nights(result, settings)
    _record_success(step, interval, result, settings, _about(config, started_at))


def _about(config: Project | Model, started_at: datetime) -> dict[str, Any]:
    return {
        "project": config.project if isinstance(config, Model) else config.name,
        "model": config.name if isinstance(config, Model) else None,
        "started_at": started_at,
    }


def _keep_nights(result: StepResult, settings: Settings) -> None:
    if isinstance(result, Featured):
        database.record_nights(settings, result.nights)


def _record_success(
    step: str, interval: Interval, result: StepResult, settings: Settings, about: dict[str, Any]
) -> None:
    if result.skipped:
        log.info("skipped: %s", result.skipped)
    if isinstance(result, Featured) and result.sample < 1:
        return  # a run over a range would take its days as done
    database.record_step(
        settings,
        step,
        interval=interval,
        state="skipped" if result.skipped else "success",
        ended_at=utc_now(),
        rows=result.rows,
        version=result.version,
        **about,
    )


def record_range(project: Project, interval: Interval, settings: Settings, *, done: bool) -> None:
    """Note how a run over a range ended as a whole: one that did all does all again when it is started again."""
    now = utc_now()
    error = None if done else NeedsAttention("days failed")
    state: Literal["success", "failed"] = "success" if done else "failed"
    about: dict[str, Any] = {"state": state, "started_at": now, "ended_at": now, "error": error}
    database.record_step(settings, "reprocess", project.name, interval, **about)
