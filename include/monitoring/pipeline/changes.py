"""Did the installed libraries change? Pure: no reading, no writing, no clock.

A change is announced once, for the run date whose cutoff came next: the first time that a step ran with one set of
versions after a step with another. Two workers with different images, which take turns, are announced once each way.
"""

from datetime import date, datetime, timedelta
from typing import Literal

from include.core.project import Project
from include.core.records import Alert
from include.monitoring.pipeline.base import LibraryChange, ProjectMonitor, ProjectWatch
from include.monitoring.records import Findings

LIBRARIES = "libraries_changed"

CATCH_UP_DAYS = 7
"""Days for which a later monitor announces what an earlier run date should have announced."""


class ChangesMonitor(ProjectMonitor):
    """Announces once, for information, that steps run with other versions of libraries."""

    kind: Literal["changes"] = "changes"

    def run(self, watch: ProjectWatch) -> Findings:
        """Announce what changed up to the cutoff of each run date."""
        days = watch.interval.shifted(start=-CATCH_UP_DAYS).days
        found = [
            self._alert(watch, change, run_date)
            for change in watch.library_changes(watch.project.cutoff_at(watch.interval.end))
            if (run_date := announced_on(watch.project, change.first_at)) in days
        ]
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


def announced_on(project: Project, moment: datetime) -> date:
    """Return the run date whose cutoff is the first one at or after a moment."""
    day = project.day_of(moment)
    return day if moment <= project.cutoff_at(day) else day + timedelta(days=1)
