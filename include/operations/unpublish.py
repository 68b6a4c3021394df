"""unpublish: readers see of each day again what they saw before its newest publication. By hand only."""

import logging
from datetime import datetime

from include.config.model import Model
from include.core.interval import Interval
from include.core.records import Unpublished
from include.core.settings import Settings
from include.io import postgres

log = logging.getLogger(__name__)


def unpublish(model: Model, interval: Interval, settings: Settings, *, since: datetime | None = None) -> Unpublished:
    """Undo the newest publication of each day, all days at once or none; again, the one before it.

    With `since` only what was published at that moment or later is undone: what a run published, and not what a day had
    before, where the run changed nothing. A day whose first publication is undone has no scores for readers until it is
    published again. No batch is taken away. `rows`: days that changed.
    """
    days = postgres.predictions.unpublish(settings, model.name, interval, since)
    for day in days:
        now = "nothing is published now" if day.batch_id is None else f"batch {day.batch_id} is published again"
        log.info("%s %s: batch %s is undone, %s", model.name, day.day, day.undone, now)
    return Unpublished(interval=interval, rows=len(days), model=model.name, days=tuple(days))
