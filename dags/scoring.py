"""Score and publish in the nightly DAG. The range DAG shares the choice of versions."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from airflow.sdk import get_current_context

from dags import params
from dags.common import Json, predictions_asset, run_step, settings, skipped
from dags.steps import runs_on_databricks, step_task
from include.config.model import Model
from include.core.interval import Interval
from include.core.records import Alert, Scored, TableRef

NO_CALLBACK: dict[str, Any] = {"on_failure_callback": None}
"""Arguments of the tasks of a shadow: `report_shadow` raises the alert, also when a task was killed."""


def versions(model: Model, interval: Interval) -> dict[date, int]:
    """Map each day to the version that the form selects for it; days without one are absent."""
    from include.io import postgres

    return postgres.promotions.read_versions(settings(), model.name, interval, params.param("version", "champion"))


def features(model: Model, interval: Interval) -> dict[date, TableRef]:
    """Map each prepared day to its features, of the data view that the form selects."""
    from include.io import postgres

    return postgres.days.read_features(settings(), model.project, interval, params.data_view())


def digests(model: Model, chosen: Mapping[date, int]) -> dict[int, str]:
    """Map each version to the digest of its files, as the shared database recorded it at the fit."""
    from include.steps.score import read_digests

    return read_digests(settings(), model, chosen.values())


def score_day(model: Model, interval: Callable[[], Interval]) -> Any:
    """Return the task `score`. It is skipped if there is no version for the day, as before the first champion."""

    def options() -> dict[str, Any]:
        chosen = versions(model, interval())
        given = {"data_view": params.data_view(), "versions": chosen, "features": features(model, interval())}
        # Databricks does not reach the shared database; on the worker, the step reads them itself
        return given | ({"digests": digests(model, chosen)} if runs_on_databricks(model, "score") else {})

    return step_task(
        "score",
        model,
        interval,
        options,
        doc="Score all entities of the day with its champion; skipped before the first champion.",
        task_display_name="Score the entities",
    )


def score_shadow(model: Model, interval: Callable[[], Interval]) -> Any:
    """Return the task `score_shadow`. It is skipped if no version is the shadow of the day."""

    def options() -> dict[str, Any]:
        from include.steps.shadow import read_shadow_versions

        days = interval()
        chosen = read_shadow_versions(model, days, settings()) if params.data_view() == "point_in_time" else {}
        if not chosen:
            raise skipped(f"{model.name}: no version scores beside the champion on {days}", get_current_context())
        given = {"versions": chosen, "features": features(model, days)}
        return given | ({"digests": digests(model, chosen)} if runs_on_databricks(model, "score") else {})

    return step_task(
        "score",
        model,
        interval,
        options,
        task_id="score_shadow",
        doc="Score the same features with the version that is on trial as a shadow; skipped if there is none.",
        task_display_name="Score with the shadow",
        **NO_CALLBACK,
    )


def publish_day(model: Model, scored: Json) -> Json:
    """Publish the scores of a day."""
    record = Scored.model_validate(scored)
    data_view, mode = params.data_view(), params.publish_mode()
    done = run_step("publish", model, record.interval, days=record.days, mode=mode, data_view=data_view)
    if len(version := {each.model_version for each in record.days}) == 1:
        events = get_current_context()["outlet_events"]
        events[predictions_asset(model)].extra["model_version"] = version.pop()
    return done


def raise_if_not_scored(model: Model, interval: Interval) -> str:
    """Raise an alert if a task of the shadow failed in this run; return what happened, in a sentence."""
    ti = get_current_context()["ti"]
    tasks = ["score_shadow", "shadow"]
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=tasks, run_ids=[ti.run_id])[ti.run_id]
    failed = [each for each in tasks if states.get(each) == "failed"]
    from include.io import postgres

    alerts = [shadow_failed(model, interval, f"{ti.dag_id}.{each}", ti.run_id) for each in failed[:1]]
    looking: dict[str, Any] = {"scope": f"shadow of {model.name}", "looked": [interval.end], "as_of_now": True}
    postgres.alerts.raise_alerts(settings(), model.project, alerts, **looking)
    return alerts[0].sentence if alerts else f"{model.name}: the shadow did not fail"


def shadow_failed(model: Model, interval: Interval, where: str, run_id: str) -> Alert:
    """Return the alert for a shadow that could not be scored."""
    return Alert(
        subject=model.name,
        rule="shadow not scored",
        day=interval.end,
        tier=model.tier,
        models=(model.name,),
        sentence=(
            f"{model.name}: the version on trial as a shadow has no scores of {interval.end}, because {where} failed "
            f"(run {run_id}; its log says why). Readers are not affected: the champion's scores are published as "
            "always. The shadow only takes a day longer. Safe to run again: clear the task. "
            f"Owner: {model.owner}. Runbook: docs/runbooks/shadow.md"
        ),
    )
