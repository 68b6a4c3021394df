"""shadow: store the scores of the version that is on trial beside the champion, where no reader sees them."""

import logging
from collections.abc import Sequence
from datetime import date

from include.config.loading import load_project
from include.config.model import Model
from include.core.interval import Interval
from include.core.lifecycle import State
from include.core.records import DataView, ScoredDay, Shadowed
from include.core.settings import Settings
from include.io import postgres
from include.steps.publish import store_unpublished

log = logging.getLogger(__name__)


def shadow(
    model: Model,
    interval: Interval,
    settings: Settings,
    *,
    days: Sequence[ScoredDay],
    data_view: DataView = "point_in_time",
) -> Shadowed:
    """Store the scores of the shadow of each day as batches that are never published.

    A batch is derived from its content and written in one transaction, so a repeated run changes nothing, and a killed
    one leaves nothing behind.

    Args:
        model: the model.
        interval: the days.
        settings: where tables and database are.
        days: what `score` returned for the version of `read_shadow_versions`; empty if there is none.
        data_view: which scores to store.

    Raises:
        DataError: the scores of a day are not those of the prepared day. Nothing is written then.
    """
    if days:
        store_unpublished(model, interval, settings, days=days, data_view=data_view)
    for day in days:
        log.info("%s %s: %d scores of version %d stored beside the champion's; readers do not see them",
                 model.name, day.day, day.rows, day.model_version)  # fmt: skip
    return Shadowed(interval=interval, rows=sum(day.rows for day in days), model=model.name, days=tuple(days))


def read_shadow_versions(model: Model, interval: Interval, settings: Settings) -> dict[date, int]:
    """Return the version that is the shadow of each day; days without one are absent.

    A version is the shadow from the day after its training up to the run date on which that ended. So a past day gets
    the shadow that it had then.
    """
    if model.shadow is None:
        return {}
    project = load_project(model.project)
    ends = {version: end.day for version, end in postgres.shadows.read_ends(settings, model.name).items()}
    entered: set[int] = set()
    for move in postgres.version_moves.read_moves(settings, model.name):
        if move.state is State.PENDING:
            entered.add(move.model_version)
        elif move.model_version in entered:  # a person decided, so that no end is recorded
            ends.setdefault(move.model_version, project.day_of(move.created_at))
    fits = postgres.model_files.read_versions(settings, model.name, entered)
    found: dict[date, int] = {}
    for version, fit in sorted(fits.items()):
        if fit.trained_day is not None:
            last = ends.get(version, date.max)
            found |= {day: version for day in interval.days if fit.trained_day < day <= last}
    return found
