"""Which late feed is the cause of late scores, so that people get one message, and not one for each model. Pure."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime

from include.core.incidents import SCORES_LATE
from include.core.project import Project
from include.core.records import Alert


def late_feeds(
    project: Project, day: date, first_at: Mapping[tuple[str, date], datetime], prepared_at: datetime | None
) -> dict[str, str]:
    """Map each required feed that was late for a run date to a sentence that says so.

    Args:
        project: the project.
        day: the run date.
        first_at: feed and day of file to the moment from which its first accepted delivery counts.
        prepared_at: when the run date was prepared last; None if it is not.
    """
    cutoff, found = project.cutoff_at(day), {}
    for feed, needed in project.required_days(day):
        at = first_at.get((feed, needed))
        if at is None:
            found[feed] = f"feed {feed} is late: it has no accepted delivery of {needed}, which {day} needs"
        elif at > cutoff and (prepared_at is None or prepared_at >= at):
            local = at.astimezone(project.zone)
            found[feed] = (
                f"feed {feed} was late: its delivery of {needed} came at {local:%H:%M} on {local:%Y-%m-%d}; it was due "
                f"by {project.cutoff:%H:%M} on {day}"
            )
    return found


def name_causes(alerts: Sequence[Alert], late: Callable[[date], Mapping[str, str]]) -> list[Alert]:
    """Return the alerts, those about late scores with the late feed that is the cause, if there is one.

    Args:
        alerts: what monitors found.
        late: returns the late feeds of a day of scores. The first one is named as the cause, and the others with it.
    """
    return [_named(alert, late) for alert in alerts]


def _named(alert: Alert, late: Callable[[date], Mapping[str, str]]) -> Alert:
    if alert.rule != SCORES_LATE or alert.scored_day is None or not (feeds := late(alert.scored_day)):
        return alert
    return alert.model_copy(update={"late_feed": next(iter(feeds)), "because": "; ".join(feeds.values())})
