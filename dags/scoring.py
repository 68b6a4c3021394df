"""Score and publish as the nightly DAG calls them, and the versions that the range DAG asks for too."""

from datetime import date

from dags import params
from dags.common import Json, run_step, settings
from include.config import Model
from include.contracts import Interval, Scored


def versions(model: Model, interval: Interval) -> dict[date, int]:
    """Day -> the version to score it with, as the form says; days without one are absent."""
    from include.io import ledger

    return ledger.chosen(settings(), model.name, interval, params.param("model", "as_of"))


def score_day(model: Model, interval: Interval) -> Json:
    """Score with the version that the form asks for; skipped when there is none, as before the first champion."""
    return run_step("score", model, interval, knowledge=params.knowledge(), versions=versions(model, interval))


def publish_day(model: Model, scored: Json) -> Json:
    """Publish what was scored."""
    record = Scored.model_validate(scored)
    knowledge, mode = params.knowledge(), params.publish_mode()
    return run_step("publish", model, record.interval, days=record.days, mode=mode, knowledge=knowledge)
