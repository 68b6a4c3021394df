"""Score and publish as the nightly and the range DAG both call them."""

from dags import params
from dags.common import Json, run_step, settings
from include.config import Model
from include.contracts import Interval, Scored


def versions(model: Model, interval: Interval) -> dict[str, object]:
    """The version to score each day with, as the form says."""
    from include.io import ledger

    return {"versions": ledger.chosen(settings(), model.name, interval, params.param("model", "as_of"))}


def score_day(model: Model, interval: Interval) -> Json:
    """Score with the version that the form asks for; skipped when there is none, as before the first champion."""
    return run_step("score", model, interval, knowledge=params.knowledge(), **versions(model, interval))


def publish_day(model: Model, scored: Json) -> Json:
    """Publish what was scored."""
    record = Scored.model_validate(scored)
    knowledge, mode = params.knowledge(), params.publish_mode()
    return run_step("publish", model, record.interval, days=record.days, mode=mode, knowledge=knowledge)
