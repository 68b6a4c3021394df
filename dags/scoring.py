"""Score and publish as the nightly and the range DAG both call them."""

from dags.common import Json, run_step, settings
from include.config import Model
from include.contracts import Interval, Scored


def score_champion(model: Model, interval: Interval) -> Json:
    """Score each day with the champion that the ledger names for it; skipped when no day has one."""
    from include.io import ledger

    versions = ledger.champions(settings(), model.name, interval)
    return run_step("score", model, interval, versions=versions)


def publish_scores(model: Model, scored: Json) -> Json:
    """Publish what was scored, day by day."""
    record = Scored.model_validate(scored)
    return run_step("publish", model, record.interval, days=record.days)
