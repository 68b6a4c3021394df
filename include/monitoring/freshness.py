"""When tables and scores are late, and the sentences about it. Pure: no reading, no writing, no clock.

**When scores are late.** The run of D looks at the scores of J = D − 1, so that a monitor that overtakes the scoring of
its own run date raises no false alarm. The scores are late when the promotion history named a champion of J by
`publish_by` on J, and nothing was published for J by then. Only audit columns decide it (`created_at` of the promotion,
the first `published_at` of the day). A day that was published in time and then published again stays in time, and a
repeated run finds the same. Before the first champion nothing is due. A backfill of past years writes its promotions
after those deadlines, so nothing was due then either.

An alert is raised only for a **live** day: one that was prepared before the next run date's cutoff. After an outage,
on-call backfills many days at once; each would report that its day was late, which on-call knows. Only the newest is
live, and it reports once. `freshness` records the fact for each day all the same. A day that is never prepared has no
monitor run; the sensor of `<project>_prepare` reports it when it times out.
"""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from include.config.model import Model
from include.core.project import Project
from include.core.records import Alert, Freshness
from include.monitoring.records import Punctuality

LATE = "scores_late"


def table_freshness(subject: str, run_date: date, needed: date | None, days: Sequence[date]) -> Freshness:
    """Of a table whose `days` (sorted) are those it has: late when `needed`, if there is any, is not among them.

    Later days do not count, so that a repeated run finds the same.
    """
    newest = _newest(days, needed or run_date)
    behind = (needed - newest).days if needed and newest else None
    if needed is None:
        sentence = f"{subject}: nothing is needed by {run_date}"
    elif newest is None:
        sentence = f"{subject} has no day up to {needed}, which run date {run_date} needs"
    elif behind:
        sentence = f"{subject} ends on {newest}, {_days(behind)} before {needed}, which run date {run_date} needs"
    else:
        sentence = f"{subject} has {needed}, which run date {run_date} needs"
    late = needed is not None and newest != needed
    return Freshness(subject=subject, day=run_date, newest_day=newest, behind_days=behind, late=late, sentence=sentence)


def scores_freshness(
    project: Project, model: Model, run_date: date, found: Punctuality, *, prepared: bool
) -> Freshness:
    """Of a model's published scores: whether those of the day before the run date came in time (see above).

    `prepared`: whether that day is prepared.
    """
    day, at = found.day, found.first_published_at
    behind = None
    if found.champion is None or day < project.first_day:
        late = False
        sentence = f"{model.name} had no champion for {day} by {_by(project, model, day)}; nothing was due"
    elif at is not None:
        late = at > project.at(day, model.monitor.publish_by)
        local = at.astimezone(project.zone)
        sentence = (
            f"{model.name}: the scores of {day} were published {'late, ' if late else ''}at {local:%H:%M} on "
            f"{local:%Y-%m-%d}; they were due by {_by(project, model, day)}"
        )
    else:
        late = True
        why = "the day is prepared" if prepared else f"the day is not prepared: see {project.name}_prepare"
        sentence = (
            f"{model.name}: no scores of {day} are published, which were due by {_by(project, model, day)} from "
            f"version {found.champion}; {why}"
        )
    if found.champion is not None and found.newest_day is not None:
        behind = (day - found.newest_day).days
    return Freshness(
        subject=model.name,
        day=run_date,
        newest_day=found.newest_day,
        behind_days=behind,
        late=late,
        sentence=sentence,
    )


def is_live(project: Project, run_date: date, prepared_at: datetime | None) -> bool:
    """Return whether a day was prepared before the next run date's cutoff; see above."""
    return prepared_at is not None and prepared_at < project.cutoff_at(run_date + timedelta(days=1))


def late_alert(model: Model, scores: Freshness) -> Alert:
    """What people are told of late scores."""
    return Alert(
        subject=model.name,
        rule=LATE,
        day=scores.day,
        sentence=(
            f"{scores.sentence}. Look at the runs of {model.name}_score and {model.project}_prepare of that day, mend "
            f"what failed and clear its task; view freshness_status has the days before. Owner: {model.owner}. "
            "Runbook: docs/runbooks/alert-scores-late.md"
        ),
    )


def _newest(days: Sequence[date], until: date) -> date | None:
    found = bisect_right(days, until)
    return days[found - 1] if found else None


def _by(project: Project, model: Model, day: date) -> str:
    return f"{model.monitor.publish_by:%H:%M} on {day} ({project.timezone})"


def _days(count: int) -> str:
    return "a day" if count == 1 else f"{count} days"
