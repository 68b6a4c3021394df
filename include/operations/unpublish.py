"""unpublish: point readers of each day back to the batch before its newest publication. By hand only."""

import logging
from datetime import datetime

from include.config.loading import load_project
from include.config.model import Model
from include.core.interval import Interval
from include.core.records import Unpublished
from include.core.settings import Settings
from include.io import postgres
from include.io.exports import export_published
from include.steps.public_page import refresh_public_page, require_public_page

log = logging.getLogger(__name__)


def unpublish(model: Model, interval: Interval, settings: Settings, *, since: datetime | None = None) -> Unpublished:
    """Undo the newest publication of each day, in one transaction; the next call undoes the one before it.

    With `since`, only publications at that moment or later are undone. So the publications of one run can be undone
    without touching days that the run did not change. A batch of a version that was rolled back is passed over. If the
    first publication of a day is undone, readers have no scores of the day until it is published again. No batch is
    deleted. The record's `rows` counts the changed days.

    Raises:
        ActionRequiredError: the place of the public page is not known or another one, so nothing was changed; or the
            page could not be written after the change.
    """
    project = load_project(model.project)
    require_public_page(settings, project, unreachable_too=False)
    days = postgres.predictions.unpublish(settings, model, interval, since)
    export_published(settings, project, model, interval.days)
    for day in days:
        now = "nothing is published now" if day.batch_id is None else f"batch {day.batch_id} is published again"
        log.info("%s %s: batch %s is undone, %s", model.name, day.day, day.undone, now)
    refresh_public_page(settings, project)
    return Unpublished(interval=interval, rows=len(days), model=model.name, days=tuple(days))
