"""Do steps take much more than they used to? Pure: no reading, no writing, no clock.

Nightly runs are compared with nightly runs of the same step, model, candidate and place: the first successful run of
its run date that started and ended before the next cutoff. Runs of a backfill and of a range are neither compared nor
history. So the result depends on the recorded runs alone, whenever and in whatever order run dates are monitored.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Literal, NamedTuple

from pydantic import Field

from include.core.interval import Interval
from include.core.records import Alert
from include.monitoring.pipeline.base import ProjectMonitor, ProjectWatch, StepRun, is_nightly
from include.monitoring.pipeline.history import Persistence, Unusual, unusual
from include.monitoring.records import Findings

RULE = "step_unusual"

REACH_DAYS = 250
"""How far back runs are read: 33 runs of a model that trains weekly, and some that are missing."""

OF_ROWS = ("land", "extract", "validate", "build_features", "fit", "score", "publish")
"""The steps whose rows are those of a day. The rows of others say how much had changed."""

GB, MB = 1e9, 1.0


class Measure(NamedTuple):
    """What is compared: a column of `step_runs`, its name for people, its unit and how many of it one is."""

    column: str
    words: str
    unit: str
    size: float = 1


MEASURES = (
    Measure("seconds", "elapsed time", "s"),
    Measure("core_seconds", "CPU time", "s"),
    Measure("peak_memory_mb", "memory", "MiB"),
    Measure("bytes_read", "bytes read", "GB", GB),
    Measure("bytes_written", "bytes written", "GB", GB),
    Measure("rows", "rows", "rows"),
)


class Kind(NamedTuple):
    """Which runs are alike."""

    step: str
    model: str | None
    part: str | None
    remote: bool

    @property
    def subject(self) -> str:
        """What an alert is about."""
        return ".".join(filter(None, (self.model, self.step, self.part)))


class StepsMonitor(Persistence, ProjectMonitor):
    """Raises an alert when a step takes much more than it used to, or has far more or fewer rows."""

    kind: Literal["steps"] = "steps"
    times: float = Field(default=2, gt=1, description="more than so many times the median of the history is unusual")
    min_seconds: float = Field(
        default=120, gt=0, description="a smaller difference in elapsed or CPU seconds is never unusual"
    )
    min_memory_mb: float = Field(default=512, gt=0, description="a smaller difference in MiB is never unusual")
    min_gb: float = Field(default=2, gt=0, description="a smaller difference in GB read or written is never unusual")
    min_rows: int = Field(default=1000, gt=0, description="a smaller difference in rows is never unusual")

    def run(self, watch: ProjectWatch) -> Findings:
        """Compare the nightly runs of the day before each run date with those before."""
        before = watch.interval.shifted(start=-REACH_DAYS, end=-1)
        nightly = nightly_runs(watch, before)
        found = [
            alert
            for run_date in watch.interval.days
            for kind in sorted(nightly, key=lambda kind: kind.subject)
            if (alert := self.alert(watch, kind, nightly[kind], run_date))
        ]
        return Findings(alerts=tuple(found))

    def alert(self, watch: ProjectWatch, kind: Kind, runs: Mapping[date, StepRun], run_date: date) -> Alert | None:
        """Return the alert if runs of one kind are unusual as of a run date.

        Args:
            watch: the project.
            kind: which runs they are.
            runs: the run of each day, the oldest day first.
            run_date: the run date, whose own runs are not looked at.
        """
        found = [*self._unusual(kind, runs, run_date - timedelta(days=1))]
        if not found:
            return None
        what = "; ".join(_sentence(measure, each) for measure, each in found)
        return Alert(
            subject=kind.subject,
            rule=RULE,
            day=run_date,
            models=(kind.model,) if kind.model else (),
            sentence=(
                f"{kind.subject} of {watch.project.name}: {what}. Nothing failed. Look at view step_history for the "
                f"runs of the step, and at what changed before {found[0][1].days[0][0]}. Owner: {watch.project.owner}. "
                "Runbook: docs/runbooks/alert-step-slow.md"
            ),
        )

    def _unusual(self, kind: Kind, runs: Mapping[date, StepRun], newest_day: date) -> Iterator[tuple[Measure, Unusual]]:
        floors = {
            "seconds": self.min_seconds,
            "core_seconds": self.min_seconds,
            "peak_memory_mb": self.min_memory_mb,
            "bytes_read": self.min_gb * GB,
            "bytes_written": self.min_gb * GB,
            "rows": self.min_rows,
        }
        for measure in MEASURES:
            of_rows = measure.column == "rows"
            if of_rows and kind.step not in OF_ROWS:
                continue
            values = [(day, run.values[measure.column]) for day, run in runs.items() if measure.column in run.values]
            floor = floors[measure.column]
            if each := unusual(values, newest_day, self, times=self.times, floor=floor, both_sides=of_rows):
                yield measure, each


def nightly_runs(watch: ProjectWatch, days: Interval) -> dict[Kind, dict[date, StepRun]]:
    """Return the first nightly run of each kind and day, the oldest day first."""
    found: dict[Kind, dict[date, StepRun]] = {}
    runs: Sequence[StepRun] = watch.step_runs(days)
    for run in runs:
        if is_nightly(watch.project, run):
            found.setdefault(Kind(run.step, run.model, run.part, run.remote), {}).setdefault(run.day, run)
    return {kind: dict(sorted(of_days.items())) for kind, of_days in found.items()}


def _sentence(measure: Measure, found: Unusual) -> str:
    day, value, usual = found.newest
    count = f"on {len(found.days)} of the newest {found.looked_at} nightly runs"
    return f"{measure.words} {_said(value, measure)} on {day}, usually {_said(usual, measure)} (unusual {count})"


def _said(value: float, measure: Measure) -> str:
    scaled = value / measure.size
    return f"{scaled:,.1f} {measure.unit}" if measure.size > 1 else f"{scaled:,.0f} {measure.unit}"
