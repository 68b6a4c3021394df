"""Are the published predictions late? Pure: no reading, no writing, no clock.

**When predictions are late.** The run of D looks at the predictions of D − 1, so that a monitor that overtakes the
scoring of its own run date raises no false alarm. They are late when the promotion history named a champion of D − 1 by
`publish_by` on that day, and nothing was published for it by then. Only audit columns decide it (`created_at` of the
promotion, the first `published_at` of the day). A day that was published in time and then published again stays in
time, and a repeated run finds the same. Before the first champion nothing is due. A backfill of past years writes its
promotions after those deadlines, so nothing was due then either.

An alert is raised only for a **live** day: one that was prepared before the next run date's cutoff. After an outage,
on-call backfills many days at once; each would report that its day was late, which on-call knows. Only the newest is
live, and it reports once. `freshness` records the fact for each day all the same. A day that is never prepared has no
monitor run; the sensor of `<project>_prepare` reports it when it times out.
"""

from datetime import date, datetime, time, timedelta
from typing import Literal

from pydantic import Field

from include.core.base import LocalTime
from include.core.incidents import SCORES_LATE
from include.core.project import Project
from include.core.records import Alert, Freshness
from include.monitoring.base import Monitor, Watch
from include.monitoring.records import Findings, MonitoredModel, Punctuality
from include.training.config import Training


class FreshnessMonitor(Monitor):
    """Raises an alert when the predictions of the day before the run date were not published in time."""

    kind: Literal["freshness"] = "freshness"
    publish_by: LocalTime = Field(
        default=time(6), description="local time on day D by which the scores of D must be published"
    )

    def require_fit(self, model: Training, project: Project) -> None:
        """Refuse a deadline before the cutoff."""
        if self.publish_by < project.cutoff:
            raise ValueError(
                f"publish_by: {self.publish_by:%H:%M} is before the cutoff of {project.name}, "
                f"{project.cutoff:%H:%M}, until which nothing can be scored; write a later time in monitors: "
                '{kind: freshness, publish_by: "HH:MM"}'
            )

    def run(self, watch: Watch) -> Findings:
        """Compare when the day before each run date was published with when it was due."""
        prepared, days = watch.prepared_days, watch.interval.shifted(start=-1, end=-1).days
        found = watch.punctuality({day: watch.project.at(day, self.publish_by) for day in days})
        scores = [
            self.freshness(watch.project, watch.model, day + timedelta(days=1), found[day], prepared=day in prepared)
            for day in sorted(found)
        ]
        late = [
            late_alert(watch.model, fresh)
            for fresh in scores
            if fresh.late
            and fresh.day in prepared
            and is_live(watch.project, fresh.day, prepared[fresh.day].prepared_at)
        ]
        return Findings(alerts=tuple(late), freshness=tuple(scores))

    def freshness(
        self, project: Project, model: MonitoredModel, run_date: date, found: Punctuality, *, prepared: bool
    ) -> Freshness:
        """Return whether the predictions of the day before the run date came in time (see above).

        Args:
            project: the model's project.
            model: the model.
            run_date: the run date.
            found: when the day before it was published.
            prepared: whether that day is prepared.
        """
        day, at = found.day, found.first_published_at
        due = f"{self.publish_by:%H:%M} on {day} ({project.timezone})"
        behind = None
        if found.champion is None or day < project.first_day:
            late = False
            sentence = f"{model.name} had no champion for {day} by {due}; nothing was due"
        elif at is not None:
            late = at > project.at(day, self.publish_by)
            local = at.astimezone(project.zone)
            sentence = (
                f"{model.name}: the scores of {day} were published {'late, ' if late else ''}at {local:%H:%M} on "
                f"{local:%Y-%m-%d}; they were due by {due}"
            )
        else:
            late = True
            why = "the day is prepared" if prepared else f"the day is not prepared: see {project.name}_prepare"
            sentence = (
                f"{model.name}: no scores of {day} are published, which were due by {due} from "
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


def is_live(project: Project, run_date: date, prepared_at: datetime) -> bool:
    """Return whether a day was prepared before the next run date's cutoff; see above."""
    return prepared_at < project.cutoff_at(run_date + timedelta(days=1))


def late_alert(model: MonitoredModel, scores: Freshness) -> Alert:
    """Return what people are told of late predictions."""
    return Alert(
        subject=model.name,
        rule=SCORES_LATE,
        day=scores.day,
        scored_day=scores.day - timedelta(days=1),
        effect=_effect(model, scores),
        sentence=(
            f"{scores.sentence}. Look at the runs of {model.name}_score and {model.project}_prepare of that day, fix "
            f"what failed and clear its task; view freshness_status has the days before. Owner: {model.owner}. "
            "Runbook: docs/runbooks/alert-scores-late.md"
        ),
    )


def _effect(model: MonitoredModel, scores: Freshness) -> str:
    """Return what readers see."""
    if scores.behind_days == 0:
        return f"{model.name}: the scores of {scores.newest_day} came late, and are there now"
    day = scores.day - timedelta(days=1)
    if scores.newest_day is None:
        return f"{model.name}: there are no scores of {day} and of no day before"
    return f"{model.name}: there are no scores of {day}; the newest are of {scores.newest_day}"
