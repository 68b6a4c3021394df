"""Score and publish in the nightly DAG. The range DAG shares the choice of versions."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from dags import params
from dags.common import Json, run_step, settings
from dags.steps import runs_on_databricks, step_task
from include.config.model import Model
from include.core.interval import Interval
from include.core.records import Scored, TableRef


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
    )


def publish_day(model: Model, scored: Json) -> Json:
    """Publish the scores of a day."""
    record = Scored.model_validate(scored)
    data_view, mode = params.data_view(), params.publish_mode()
    return run_step("publish", model, record.interval, days=record.days, mode=mode, data_view=data_view)
