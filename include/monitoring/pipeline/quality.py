"""Does the quality of a feed get worse? Pure: no reading, no writing, no clock.

Of each day of a feed, the newest delivery that the record of the run date knew counts. Its share of quarantined rows
and its number of failed expectations are compared with those of the days before.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Literal

from pydantic import Field

from include.core.records import Alert
from include.monitoring.pipeline.base import DeliveryQuality, ProjectMonitor, ProjectWatch
from include.monitoring.pipeline.history import Persistence, unusual
from include.monitoring.pipeline.punctuality import needed_on
from include.monitoring.records import Findings

RULE = "quality_trend"


class QualityMonitor(Persistence, ProjectMonitor):
    """Raises an alert when more rows of a feed are quarantined, or more expectations fail, than before."""

    kind: Literal["quality"] = "quality"
    times: float = Field(default=2, gt=1, description="more than so many times the median of the history is unusual")
    min_share: float = Field(
        default=0.02, gt=0, lt=1, description="a smaller difference in the share of quarantined rows is never unusual"
    )
    min_expectations: int = Field(default=2, ge=1, description="so many more failed expectations are unusual")

    def run(self, watch: ProjectWatch) -> Findings:
        """Compare the newest delivery of each feed, as of each run date, with the days before."""
        found = [
            alert
            for run_date in watch.interval.days
            if run_date in watch.watermarks
            for due in needed_on(watch.project, run_date)
            if (alert := self._alert(watch, due.feed, due.file_day, run_date))
        ]
        return Findings(alerts=tuple(found))

    def _alert(self, watch: ProjectWatch, feed: str, newest_day: date, run_date: date) -> Alert | None:
        sentences = [*self._sentences(known_quality(watch, feed, run_date), newest_day)]
        if not sentences:
            return None
        return Alert(
            subject=feed,
            rule=RULE,
            day=run_date,
            sentence=(
                f"feed {feed} of {watch.project.name}: {'; '.join(sentences)}. View data_quality has the expectations. "
                f"Supplier: {watch.project.feeds[feed].supplier or feed}. Owner: {watch.project.owner}. "
                "Runbook: docs/runbooks/alert-quality-trend.md"
            ),
        )

    def _sentences(self, known: Sequence[DeliveryQuality], newest_day: date) -> Iterator[str]:
        shares = [(each.day, each.quarantined_share) for each in known]
        if each := unusual(shares, newest_day, self, times=self.times, floor=self.min_share):
            day, value, usual = each.newest
            yield (
                f"quarantined rows {value:.1%} on {day}, usually {usual:.1%} (unusual on {len(each.days)} of the "
                f"newest {each.looked_at} days)"
            )
        failed = [(each.day, float(each.failed)) for each in known]
        if each := unusual(failed, newest_day, self, times=self.times, floor=self.min_expectations - 0.5):
            day, value, usual = each.newest
            yield (
                f"failed expectations {value:.0f} on {day}, usually {usual:.0f} (unusual on {len(each.days)} of the "
                f"newest {each.looked_at} days)"
            )


def known_quality(watch: ProjectWatch, feed: str, run_date: date) -> list[DeliveryQuality]:
    """Return of each day of a feed the newest delivery that a run date knew, the oldest day first."""
    watermark = watch.watermarks[run_date]
    newest = {each.day: each for each in watch.quality.get(feed, ()) if each.sequence <= watermark}
    return [newest[day] for day in sorted(newest)]
