"""Did the columns of a feed, or the installed libraries, change? Pure: no reading, no writing, no clock.

**Columns** as delivered: an optional column that is left out, and how many undeclared ones there are (where the feed
ignores or warns of them). So are **types** as delivered: of Parquet the types of its columns, of text whether the
numbers of a column with decimals have any. Of each day the newest delivery counts that the record of the run date knew.
A run date announces a change from the day before to the day that it is the first to need, unless the same change was
there before.

**Libraries**: a change is announced once, for the run date whose cutoff came next: the first time that a step ran with
one set of versions after a step with another. Two workers with different images, which take turns, are announced once
each way.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Literal

from include.core.project import Project
from include.core.records import Alert
from include.monitoring.pipeline.base import Arrival, LibraryChange, ProjectMonitor, ProjectWatch
from include.monitoring.pipeline.punctuality import due_on
from include.monitoring.records import Findings

LIBRARIES, COLUMNS = "libraries_changed", "columns_changed"

CATCH_UP_DAYS = 7
"""Days for which a later monitor announces what an earlier run date should have announced."""


class ChangesMonitor(ProjectMonitor):
    """Announces once, for information, that a feed has other columns, or that steps run with other libraries."""

    kind: Literal["changes"] = "changes"

    def run(self, watch: ProjectWatch) -> Findings:
        """Announce what changed up to the cutoff of each run date."""
        days = watch.interval.shifted(start=-CATCH_UP_DAYS).days
        found = [
            self._alert(watch, change, run_date)
            for change in watch.library_changes(watch.project.cutoff_at(watch.interval.end))
            if (run_date := announced_on(watch.project, change.first_at)) in days
        ]
        found += [alert for run_date in watch.interval.days for alert in _of_columns(watch, run_date)]
        return Findings(alerts=tuple(found))

    def _alert(self, watch: ProjectWatch, change: LibraryChange, run_date: date) -> Alert:
        names = sorted(change.before.keys() | change.after.keys())
        what = [
            f"{name} {change.before.get(name, 'none')} → {change.after.get(name, 'none')}"
            for name in names
            if change.before.get(name) != change.after.get(name)
        ]
        return Alert(
            subject=watch.project.name,
            rule=f"{LIBRARIES} {change.before_digest[:12]} {change.after_digest[:12]}",
            day=run_date,
            sentence=(
                f"{watch.project.name}: libraries changed, first on {change.first_at:%Y-%m-%d at %H:%M} UTC: "
                f"{', '.join(what)}. For information, nothing failed. Runbook: docs/runbooks/alert-changed.md"
            ),
        )


def _of_columns(watch: ProjectWatch, run_date: date) -> Iterator[Alert]:
    """Yield an alert for each feed whose columns changed on the day that a run date is the first to need."""
    watermark = watch.watermarks.get(run_date)
    if watermark is None:
        return
    for due in due_on(watch.project, run_date):
        newest: dict[date, Arrival] = {}
        for (feed, day), arrivals in watch.arrivals.items():
            known = [each for each in arrivals if each.sequence <= watermark]
            if feed == due.feed and day <= due.file_day and known:
                newest[day] = max(known, key=lambda each: each.sequence)
        said = _changes([newest[day] for day in sorted(newest)])
        if not said or max(newest) != due.file_day:
            continue
        yield Alert(
            subject=due.feed,
            rule=COLUMNS,
            day=run_date,
            sentence=(
                f"feed {due.feed} of {watch.project.name}: columns changed on {due.file_day}: {'; '.join(said)}. "
                f"For information, nothing failed. Supplier: {watch.project.feeds[due.feed].supplier or due.feed}. "
                "Runbook: docs/runbooks/alert-changed.md"
            ),
        )


def _changes(deliveries: Sequence[Arrival]) -> list[str]:
    """Return what the newest of some deliveries changed and no delivery before it did, in words."""
    moves = [(one.differs, other.differs) for one, other in pairwise(deliveries)]
    said = []
    if moves and moves[-1][0] != moves[-1][1] and moves[-1] not in moves[:-1]:
        before, after = (", ".join(differs) or "as declared" for differs in moves[-1])
        said.append(f"{before} → {after}")
    for name in sorted(deliveries[-1].types) if deliveries else ():
        types = [each.types[name] for each in deliveries if name in each.types]  # a small one can say nothing
        changes = list(pairwise(types))
        if changes and changes[-1][0] != changes[-1][1] and changes[-1] not in changes[:-1]:
            said.append(f"{name} has {changes[-1][0]} → {changes[-1][1]}")
    return said


def announced_on(project: Project, moment: datetime) -> date:
    """Return the run date whose cutoff is the first one at or after a moment."""
    day = project.day_of(moment)
    return day if moment <= project.cutoff_at(day) else day + timedelta(days=1)
