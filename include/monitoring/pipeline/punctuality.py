"""Do suppliers deliver in time? Pure: no reading, no writing, no clock.

A delivery of a feed of days is due on the first run date that needs it: by the cutoff, or by `arrives`. It is late if
no delivery of that feed and day counts from then or earlier. What the record of the run date knew decides it: what was
entered into the journal later does not count, so a repeated run finds the same. History that was copied counts from
when it was due, by the rules of the journal, and is never late.
"""

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Literal, NamedTuple

from pydantic import Field

from include.core.project import Project
from include.core.records import Alert
from include.monitoring.pipeline.base import ProjectMonitor, ProjectWatch
from include.monitoring.records import FeedDay, Findings

RULE = "supplier_late"


class DueDelivery(NamedTuple):
    """A delivery that is due: its feed and day, and by when."""

    feed: str
    file_day: date
    due_at: datetime


class PunctualityMonitor(ProjectMonitor):
    """Raises an alert while a supplier is late again and again, and records for each run date who was late."""

    kind: Literal["punctuality"] = "punctuality"
    of: int = Field(default=28, ge=2, description="newest run dates that are counted")
    late_days: int = Field(default=5, ge=1, description="a feed that was late on that many of them raises an alert")

    def run(self, watch: ProjectWatch) -> Findings:
        """Compare when deliveries came with when they were due, for each run date."""
        first = watch.interval.shifted(start=-2 * self.of)
        found = {run_date: [*feed_days(watch, run_date)] for run_date in first.days}
        alerts = [alert for run_date in watch.interval.days for alert in self._alerts(watch, found, run_date)]
        measured = [each for run_date in watch.interval.days for each in found[run_date]]
        return Findings(alerts=tuple(alerts), feed_days=tuple(measured))

    def _alerts(self, watch: ProjectWatch, found: Mapping[date, list[FeedDay]], run_date: date) -> Iterator[Alert]:
        """Yield an alert for each supplier of which a feed was late too often as of a run date.

        It does not matter whether it is late that day: otherwise its incident would be over after each punctual one.
        """

        def late(feed: str, newest: int, oldest: int) -> int:
            days = (run_date - timedelta(days=n) for n in range(newest, oldest))
            return sum(each.late for day in days for each in found.get(day, ()) if each.feed == feed)

        if run_date not in watch.watermarks:
            return
        counts: dict[str, dict[str, int]] = {}
        for name, feed in watch.project.feeds.items():
            if (count := late(name, 0, self.of)) >= self.late_days:
                counts.setdefault(feed.supplier or name, {})[name] = count
        for supplier, of_feeds in sorted(counts.items()):
            lines = [
                f"feed {name} was late on {count} of the newest {self.of} run dates, and on "
                f"{late(name, self.of, 2 * self.of)} of the {self.of} before"
                for name, count in of_feeds.items()
            ]
            yield Alert(
                subject=supplier,
                rule=RULE,
                day=run_date,
                badness=max(of_feeds.values()),
                sentence=(
                    f"{supplier} of {watch.project.name}: {'; '.join(lines)}. View supplier_punctuality has the "
                    f"figures for the supplier. Owner: {watch.project.owner}. "
                    "Runbook: docs/runbooks/alert-quality-trend.md"
                ),
            )


def due_on(project: Project, run_date: date) -> Iterator[DueDelivery]:
    """Yield the deliveries that a run date is the first to need, as far as they are due by its cutoff."""
    for each in needed_on(project, run_date):
        if each.file_day >= project.first_day and project.feeds[each.feed].has_file_on(each.file_day):
            yield each


def needed_on(project: Project, run_date: date) -> Iterator[DueDelivery]:
    """Yield for each feed of days the newest day that a run date needs, whether or not the feed has a file of it.

    An optional feed that arrives after the cutoff was due on the run date before.
    """
    for name, feed in project.feeds.items():
        if feed.is_snapshot:
            continue
        later = not feed.required and feed.arrives is not None and feed.arrives > project.cutoff
        needed_by = run_date - timedelta(days=int(later))
        at = feed.arrives if later and feed.arrives is not None else project.cutoff
        yield DueDelivery(name, feed.needed_day(needed_by), project.at(needed_by, at))


def feed_days(watch: ProjectWatch, run_date: date) -> Iterator[FeedDay]:
    """Yield for each delivery that was due whether it came in time; nothing if the run date is not prepared."""
    watermark = watch.watermarks.get(run_date)
    if watermark is None:
        return
    for feed, file_day, due_at in due_on(watch.project, run_date):
        came = min(
            (each.available_from for each in watch.arrivals.get((feed, file_day), ()) if each.sequence <= watermark),
            default=None,
        )
        yield FeedDay(
            feed=feed,
            supplier=watch.project.feeds[feed].supplier or feed,
            day=run_date,
            file_day=file_day,
            due_at=due_at,
            available_from=came,
            late=came is None or came > due_at,
        )
