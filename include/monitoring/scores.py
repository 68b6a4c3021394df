"""Are the scores numerically healthy? Pure: no reading, no writing, no clock.

Infinite scores are never written: the step `score` refuses them. A constant score, or many that are 0 or 1 to nine
digits, is what a model gives whose inputs are broken. The run of D looks at the predictions of D - 1, as for lateness.
"""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Literal

from pydantic import Field

from include.core.records import Alert
from include.monitoring.base import Monitor, Watch
from include.monitoring.pipeline.history import Persistence, is_too_old, unusual
from include.monitoring.records import Findings, MonitoredModel, ScoreHealth

RULE = "scores_unhealthy"
HISTORY_DAYS = 60


class ScoresMonitor(Persistence, Monitor):
    """Raises an alert when all scores of a day are equal, or more of them are equal or saturated than before."""

    kind: Literal["scores"] = "scores"
    min_rows: int = Field(default=100, ge=2, description="a day with fewer predictions is not compared")
    min_share: float = Field(
        default=0.1, gt=0, lt=1, description="a smaller difference in the share of rows is never unusual"
    )

    def run(self, watch: Watch) -> Findings:
        """Compare the day before each run date with the days before it."""
        days = watch.score_health(watch.interval.shifted(start=-HISTORY_DAYS, end=-1))
        known = [each for each in days if each.rows >= self.min_rows]
        found = [alert for run_date in watch.interval.days if (alert := self._alert(watch.model, known, run_date))]
        return Findings(alerts=tuple(found))

    def _alert(self, model: MonitoredModel, known: Sequence[ScoreHealth], run_date: date) -> Alert | None:
        sentences = [*self._sentences(known, run_date - timedelta(days=1))]
        if not sentences:
            return None
        return Alert(
            subject=model.name,
            rule=RULE,
            day=run_date,
            effect="scores are published, but many of them are equal or extreme",
            sentence=(
                f"{model.name}: {'; '.join(sentences)}. Look at the inputs of the day: a feed without values, or with "
                f"another unit, gives such scores. Owner: {model.owner}. Runbook: docs/runbooks/alert-rule-broken.md"
            ),
        )

    def _sentences(self, known: Sequence[ScoreHealth], newest_day: date) -> Iterator[str]:
        days = [each for each in known if each.day <= newest_day]
        if not days or is_too_old(days[-1].day, newest_day):
            return
        newest, before = days[-1], days[:-1][-self.history :]
        varied = [each for each in before if each.distinct_scores > 1]
        if newest.distinct_scores == 1 and len(varied) * 2 > len(before):
            yield f"all {newest.rows:,} scores of {newest.day} are equal"
            return
        for words, values in (
            ("have the commonest score", [(each.day, each.commonest_share) for each in known]),
            (
                "are 0 or 1 to nine digits",
                [(each.day, each.saturated_share) for each in known if each.saturated_share is not None],
            ),
        ):
            if each := unusual(values, newest_day, self, times=1.5, floor=self.min_share):
                day, value, usual = each.newest
                yield (
                    f"{value:.1%} of the scores of {day} {words}, usually {usual:.1%} (unusual on {len(each.days)} of "
                    f"the newest {each.looked_at} days)"
                )
