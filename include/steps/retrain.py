"""retrain: ask for a training if alerts of the run date are a reason that `model.yaml` names."""

import logging
from datetime import timedelta

from include.config.loading import load_project
from include.config.model import Model
from include.core.interval import Interval
from include.core.records import Retrained
from include.core.settings import Settings
from include.io import postgres
from include.monitoring.performance import PerformanceMonitor

log = logging.getLogger(__name__)


def retrain(model: Model, interval: Interval, settings: Settings) -> Retrained:
    """Record a request for a training of the run date, once, and return its reason. The DAG starts the run.

    Nothing is asked for a run date whose next cutoff has passed: a backfill of old days starts no training. Nor is it
    within `cool_down_days` of another request whose training began.

    Args:
        model: the model.
        interval: the run date.
        settings: the database.
    """
    project, day = load_project(model.project), interval.end
    nothing = Retrained(interval=interval, rows=0, model=model.name)
    if model.retrained is None:
        return nothing.model_copy(update={"why_not": "model.yaml has no retrain"})
    if postgres.journal.read_clock(settings) >= project.cutoff_at(day + timedelta(days=1)):
        return nothing.model_copy(update={"why_not": f"{day} is past, and a backfill asks for no training"})
    rules = [rule.name for each in model.all_monitors if isinstance(each, PerformanceMonitor) for rule in each.rules]
    alerts = postgres.retrainings.read_alerts(settings, project.name, model.name, day)
    reasons = model.retrained.reasons(alerts, rules)
    if not reasons:
        return nothing.model_copy(update={"why_not": f"no alert of {day} asks for a training"})
    cool_down = model.retrained.cool_down_days
    why, near = postgres.retrainings.request(
        settings, project.name, model.name, day, reasons=reasons, cool_down_days=cool_down
    )
    if why is None:
        why_not = f"a training of {near} was asked for and began, and retrain.cool_down_days is {cool_down}"
        return nothing.model_copy(update={"why_not": why_not})
    log.info("%s: a training of %s is asked for: %s", model.name, day, why)
    return nothing.model_copy(update={"rows": 1, "why": why})
