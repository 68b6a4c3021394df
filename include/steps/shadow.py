"""shadow: store the scores of the version that is on trial beside the champion, where no reader sees them."""

import logging
from collections.abc import Callable, Sequence
from datetime import date, datetime

from include.config.loading import load_project
from include.config.model import Model
from include.core.interval import Interval
from include.core.lifecycle import State
from include.core.records import DataView, ScoredDay, Shadowed
from include.core.settings import Settings
from include.io import postgres
from include.io.postgres.version_moves import VersionMove
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
    recorded = {version: end.day for version, end in postgres.shadows.read_ends(settings, model.name).items()}
    last_days = last_days_of(postgres.version_moves.read_moves(settings, model.name), project.day_of) | recorded
    fits = postgres.model_files.read_versions(settings, model.name, last_days)
    found: dict[date, int] = {}
    for version, fit in sorted(fits.items()):
        if fit.trained_day is not None:
            last = last_days.get(version, date.max)
            found |= {day: version for day in interval.days if fit.trained_day < day <= last}
    return found


def last_days_of(moves: Sequence[VersionMove], day_of: Callable[[datetime], date]) -> dict[int, date]:
    """Return the last day of each version that was pending, as its moves say; `date.max` if it is pending.

    A recorded end of the shadow is more precise. There is none if a person decided meanwhile. A version that was
    rejected and became pending again goes on until it leaves that state for the last time.

    Args:
        moves: the moves of all versions, the oldest first.
        day_of: returns the day of a moment in the project's timezone.
    """
    last: dict[int, date] = {}
    for move in moves:
        if move.state is State.PENDING:
            last[move.model_version] = date.max
        elif last.get(move.model_version) == date.max:
            last[move.model_version] = day_of(move.created_at)
    return last
