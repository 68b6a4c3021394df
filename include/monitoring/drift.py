"""Do inputs, predictions and outcomes still look as they did? Pure: no reading, no writing, no clock.

`drift_summary.py` says what is kept of a day, `drift_effects.py` which comparison raises alerts, and `drift_alerts.py`
how the owner's budget of false alerts limits them. docs/drift.md has the figures behind the defaults.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any, Literal

from pydantic import Field

from include.core.errors import nearest
from include.core.project import Project
from include.core.records import Alert
from include.monitoring.base import Monitor, Watch
from include.monitoring.causes import OUTCOME, ROWS_OF_ENTITIES
from include.monitoring.drift_alerts import EARLIER_DAYS, LIMITS, Drifted, find_alert, repeated_day, strengths
from include.monitoring.drift_effects import HISTORY_DAYS, WEEKS, WINDOWS, Compared, Days, compare, evaluate
from include.monitoring.drift_summary import ALL, Edges, Summarised, WatchedSeries
from include.monitoring.records import Findings, MonitoredModel
from include.training.config import Training

RULE = "drift"
ROWS = WatchedSeries("input", ROWS_OF_ENTITIES)
DAYS_BEFORE = HISTORY_DAYS + EARLIER_DAYS
"""Days before a run date whose summaries its alert depends on."""

LISTED = 5
"""WatchedSeries that an alert names; the view has the others."""

STORED = ("shift", "spread", "shape", "psi", "missing", "outside", "new", "vanished")

SENTENCES = {
    "shift": "moved by {value:.2f} standard deviations (usually by at most {usual:.2f})",
    "spread": "its standard deviation changed by a factor of {factor:.2f} (usually by at most {usual_factor:.2f})",
    "shape": "its distribution has a Jensen-Shannon distance of {value:.2f} (usually at most {usual:.2f})",
    "missing": "the share without a value changed by {points:.0f} points (usually by at most {usual_points:.0f})",
    "new": "{points:.0f} points more have a value that the training data lack (usually at most {usual_points:.0f})",
    "beyond": "{points:.0f} % of the values are far outside the range of the four weeks before",
    "rows": "the number of rows changed by a factor of {factor:.2f} (usually by at most {usual_factor:.2f})",
    "stuck": "all values are the same, for more days in a row than is usual",
}


class DriftMonitor(Monitor):
    """Compares inputs, predictions and outcomes with the weeks before, and raises an alert when they change."""

    kind: Literal["drift"] = "drift"
    slices: tuple[str, ...] = Field(default=(), description="public columns of the entity to look at by value, too")
    min_rows: int = Field(default=30, ge=1, description="a slice with fewer rows on a day is left out")
    false_alerts_a_month: float = Field(
        default=1,
        gt=0,
        description="the budget of the owner. With more, smaller changes raise alerts; once it is used up, only "
        "larger ones do",
    )

    def require_fit(self, model: Training, project: Project) -> None:
        """Refuse slices that do not exist."""
        for column in self.slices:
            if column not in project.entity.public or column == ALL:
                meant = nearest(column, project.entity.public)
                raise ValueError(f"slices: {project.name} has no public column {column!r}{meant}")

    def run(self, watch: Watch) -> Findings:
        """Summarise what changed, compare each run date with the weeks before, and store the effects."""
        known = watch.summaries(self.slices, self.min_rows, DAYS_BEFORE)
        if known is None or not known.run_dates:
            return Findings()
        measured = Measured.of(known)
        rows = {day: measured.rows(day) for day in known.run_dates}
        alerts = [alert for day in watch.interval.days if (alert := self._alert(watch.model, measured, day))]
        return Findings(alerts=tuple(alerts), rows=watch.record_drift(rows))

    def _alert(self, model: MonitoredModel, measured: "Measured", day: date) -> Alert | None:
        found = measured.find(day, self.false_alerts_a_month)
        lines = [_sentence(each) for each in found[:LISTED]]
        if len(found) > LISTED:
            lines.append(f"and {len(found) - LISTED} more")
        ago = measured.repeats(day)
        is_wrong = bool(ago) or any(each.why == "stuck" for each in found)
        if ago:
            lines.insert(0, f"the inputs have the values of {day - timedelta(days=ago)} again")
        if not lines:
            return None
        said = "; ".join(lines)
        of_series = [name for each in found if (name := _column_of(model, each.series))]
        return Alert(
            subject=model.name,
            rule=RULE,
            day=day,
            drifted=tuple(dict.fromkeys([*of_series, *(model.numeric if ago else ())])),
            because=said,
            effect="scores are published, but from inputs that are probably wrong" if is_wrong else "",
            sentence=(
                f"{model.name}: drift on {day}, compared with the same weekdays of the {WEEKS} weeks before: "
                f"{said}. Look at view drift. Owner: {model.owner}. Runbook: docs/runbooks/alert-drift.md"
            ),
        )


def _column_of(model: MonitoredModel, series: WatchedSeries) -> str:
    """Return what other models have in common with a series; empty for predictions, which no other model has."""
    return {"input": series.feature, "outcome": f"{OUTCOME}{model.outcome}"}.get(series.role, "")


class Measured:
    """The series of a model, compared with the weeks before each day."""

    def __init__(self, known: Summarised, start: date, days: Mapping[WatchedSeries, Days]) -> None:
        self._known, self._start, self._days = known, start, days
        self.compared = {
            series: evaluate(of_series, self._edges(series), rows=series == ROWS) for series, of_series in days.items()
        }
        self._strengths = strengths(self.compared) if self.compared else None

    @classmethod
    def of(cls, known: Summarised) -> "Measured":
        """Compare the run dates with the days before them."""
        import numpy as np

        oldest = min([*known.run_dates, *(min(days) for days in known.days.values() if days)])
        start = max(oldest, min(known.run_dates) - timedelta(days=DAYS_BEFORE))
        count = (max(known.run_dates) - start).days + 1
        sizes = {series: known.edges[series.role, series.feature].size for series in known.days}
        days = {series: Days.of(found, start, count, sizes[series]) for series, found in known.days.items()}
        inputs = [each for series, each in days.items() if series.role == ROWS.role and series.slice == ALL]
        if inputs:
            rows = np.maximum.reduce([each.rows for each in inputs])  # a feature can be new, or gone
            none = rows * 0
            days[ROWS] = Days(rows[:, None], rows, none, none, none, none * math.nan, none * math.nan)
        return cls(known, start, days)

    def find(self, day: date, budget: float) -> list[Drifted]:
        """Return the series that raise an alert on a day, the worst first."""
        if self._strengths is None:
            return []
        return find_alert(self.compared, self._strengths, self._place(day), budget)

    def repeats(self, day: date) -> int | None:
        """Return how many days before a day has the same inputs, None if none has."""
        days = [day - timedelta(days=ago) for ago in range(7 * WEEKS, -1, -1)]
        prints: list[dict[str, str]] = [{} for _ in days]
        for series, found in self._known.days.items():
            if series.role == ROWS.role and series.slice == ALL:
                for place, each in enumerate(days):
                    if each in found and (digest := found[each].fingerprint):
                        prints[place][series.feature] = digest
        return repeated_day(prints)

    def rows(self, day: date) -> list[dict[str, Any]]:
        """Return the rows of a run date to store: each series, compared with both references."""
        return [row for series in sorted(self._days, key=lambda each: each.words) for row in self._rows(series, day)]

    def _rows(self, series: WatchedSeries, day: date) -> Iterator[dict[str, Any]]:
        import numpy as np

        days, compared, place = self._days[series], self.compared[series], self._place(day)
        version = self._known.versions.get(day)
        about = {**vars(series), "model_version": version}
        if days.rows[place] == 0:
            return
        window = _strongest(compared, place)
        effects = {name: values[place] for name, values in compared.effects[window].items()}
        strength = None if self._strengths is None else self._strengths[list(self.compared).index(series), place]
        if np.isfinite(compared.scores[window][place]):
            rows = int(days.summed(range(window)).rows[place])
            yield {**about, "reference": "weeks", "days": window, "rows": rows, **_stored(effects, strength)}
        training = self._known.training.get(version) if version is not None else None
        if training is None or series == ROWS:
            return
        first, last = training
        count = max(0, (min(last, day) - first).days + 1)
        trained = Days.of(self._known.days[series], first, count, len(days.counts.T))
        if trained.rows.any():
            now, before = days.summed(range(max(WINDOWS))).at(place), trained.together()
            about |= {"reference": "training", "days": max(WINDOWS), "rows": int(now.rows[0])}
            found = {name: values[0] for name, values in compare(now, before, self._edges(series)).items()}
            yield {**about, **_stored(found, None)}

    def _edges(self, series: WatchedSeries) -> Edges:
        return Edges() if series == ROWS else self._known.edges[series.role, series.feature]

    def _place(self, day: date) -> int:
        return (day - self._start).days


def _strongest(compared: Compared, place: int) -> int:
    """Return the window whose effects are the strongest; the shortest if none is known."""

    def strength(window: int) -> float:
        score = float(compared.scores[window][place]) / LIMITS[window]
        return score if math.isfinite(score) else -1.0

    return max(WINDOWS, key=strength)


def _stored(effects: Mapping[str, Any], strength: Any) -> dict[str, float | None]:
    """Return the columns of a row; what is not known, or not defined for the feature, is None."""
    values = {name: effects.get(name) for name in STORED} | {"strength": strength}
    return {
        name: None if value is None or not math.isfinite(value) else round(float(value), 12)
        for name, value in values.items()
    }


def _sentence(found: Drifted) -> str:
    said = SENTENCES[found.why].format(
        value=found.value,
        usual=found.usual,
        points=100 * found.value,
        usual_points=100 * found.usual,
        factor=math.exp(found.value) if found.why in ("spread", "rows") else 0,
        usual_factor=math.exp(found.usual) if found.why in ("spread", "rows") else 0,
    )
    over = f", over the newest {found.days} days" if found.days > 1 else ""
    return f"{found.series.words} {said}{over}"
