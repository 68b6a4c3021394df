"""Run one step and record it in `step_runs`. `cli` and `dags/` start every step through here.

A step on Databricks reaches only tables and MLflow. The worker writes its results to the shared database afterwards.
"""

import logging
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import NotReadyError
from include.core.installed import installed_versions
from include.core.intake import NotYetError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import StepResult
from include.core.settings import Settings, utc_now
from include.io import postgres
from include.io.journal import export, require_exported
from include.runner.cost import Cost, Meter
from include.steps.declared import STEPS, Step

log = logging.getLogger(__name__)


def run(
    name: str,
    config: Project | Model,
    interval: Interval,
    settings: Settings,
    *,
    record_waiting: bool = True,
    **options: Any,
) -> StepResult:
    """Run a step and record how it ended and what it cost, even if it fails.

    Args:
        name: the step, a key of `STEPS`.
        config: the project or model to run it for.
        interval: the days to handle.
        settings: places, connections and the id of this run.
        record_waiting: whether a step that has to wait is recorded as failed. A sensor asks again within minutes.
        **options: passed on to the step.

    Raises:
        Exception: whatever the step raises.
    """
    step = STEPS[name]
    attempt = _Attempt(name, config, interval, settings, utc_now(), options.get("candidate"), Meter())
    with postgres.connection.kept_open(settings):
        try:
            with postgres.running.running(settings, config.recorded_as[0]):
                _require_exported(step, config, settings)
                result = step.function(config, interval, settings, **options)
                _finish(step, config, result, settings)
        except NotReadyError:
            attempt.record("skipped")
            raise
        except Exception as error:
            if isinstance(error, NotYetError) and not record_waiting:
                raise
            try:
                attempt.record("failed", error=error)
            except Exception:
                log.exception("The failure of %s could not be recorded.", name)
            raise
        attempt.record_result(result)
    return result


def record(
    name: str,
    config: Project | Model,
    interval: Interval,
    result: StepResult | None,
    settings: Settings,
    started_at: datetime,
    watermark: int,
    part: str | None = None,
) -> None:
    """Record a step that ran on Databricks. Its CPU time and memory are not known here; units follow from its time.

    Args:
        name: the step, a key of `STEPS`.
        config: the project or model that it ran for.
        interval: the days that it handled.
        result: what the step returned; None if it raised `NotReadyError`.
        settings: places, connections and the id of this run.
        started_at: when the step started.
        watermark: the newest entry of the journal when the step was submitted.
        part: the candidate that it fitted, if it did.

    Raises:
        ChangedMeanwhileError: a person was erased, or the hash key rotated, since then. Nothing is written.
        ActionRequiredError: the step writes the journal, and the database is behind the export. Nothing is written.
    """
    attempt = _Attempt(name, config, interval, settings, started_at, part)
    if result is None:
        attempt.record("skipped")
        return
    with postgres.running.running(settings, config.recorded_as[0]):
        postgres.running.require_same_rows(settings, config.recorded_as[0], watermark)
        _require_exported(STEPS[name], config, settings)
        _finish(STEPS[name], config, result, settings)
    attempt.record_result(result)


def _require_exported(step: Step, config: Project | Model, settings: Settings) -> None:
    """Refuse to add entries to a journal that is behind its export, wherever the step runs."""
    if step.writes_journal:
        require_exported(settings, config.recorded_as[0])


def _finish(step: Step, config: Project | Model, result: StepResult, settings: Settings) -> None:
    step.finish(result, settings)
    if step.writes_journal:
        export(settings, config.recorded_as[0])


@dataclass(frozen=True)
class _Attempt:
    """One run of a step, to be recorded when it has ended."""

    step: str
    config: Project | Model
    interval: Interval
    settings: Settings
    started_at: datetime
    part: str | None = None
    meter: Meter | None = None

    def record_result(self, result: StepResult) -> None:
        """Record a step that returned; a tentative result is not recorded, since its days do not count as done."""
        if result.skipped:
            log.info("skipped: %s", result.skipped)
        if result.tentative:
            return
        self.record(
            "skipped" if result.skipped else "success",
            rows=result.rows,
            table_version=result.table_version,
            model_version=result.model_version,
        )

    def record(self, state: Literal["success", "skipped", "failed"], **about: Any) -> None:
        """Record how the step ended."""
        name, model = self.config.recorded_as
        project = self.config if isinstance(self.config, Project) else load_project(name)
        ended_at, took = utc_now(), self.meter.read() if self.meter else Cost()
        dbus = None
        if self.meter is None and project.databricks and project.databricks.dbu_per_hour:
            dbus = (ended_at - self.started_at).total_seconds() / 3600 * project.databricks.dbu_per_hour
        prices = project.prices
        postgres.audit.record_step(
            self.settings,
            self.step,
            name,
            self.interval,
            model=model,
            state=state,
            started_at=self.started_at,
            ended_at=ended_at,
            **asdict(took),
            part=self.part,
            ran_on=project.day_of(ended_at),
            libraries=installed_versions() if self.meter else None,
            dbus=dbus,
            cost=prices.cost(took.core_seconds, dbus) if prices else None,
            currency=prices.currency if prices else None,
            **about,
        )
