"""The pipeline's own monitors: what they say of a history of runs, deliveries, results and costs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import pytest

from include.config.loading import load_project
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import Alert
from include.monitoring.pipeline import ProjectMonitor, ProjectWatch
from include.monitoring.pipeline.base import StepRun
from include.monitoring.pipeline.history import Persistence, limits, unusual
from include.monitoring.pipeline.steps import StepsMonitor

FIRST = date(2026, 9, 1)
RUN_DATE = FIRST + timedelta(days=40)


@pytest.fixture
def project() -> Project:
    return load_project("ferries")


@dataclass(frozen=True)
class Recorded(ProjectWatch):
    """A project with what a test says was recorded."""

    runs: Sequence[StepRun] = field(default_factory=list)

    def step_runs(self, days: Interval) -> Sequence[StepRun]:
        return [run for run in self.runs if run.day in days.days]


def night(project: Project, day: date, *, started: float = 0.1, **values: float) -> StepRun:
    """Return a run that started so many hours after the cutoff of its run date."""
    at = project.cutoff_at(day) + timedelta(hours=started)
    took = timedelta(seconds=values.get("seconds", 1))
    return StepRun("score", "late_ferry", None, False, day, at, at + took, values)


def nights(project: Project, values: Sequence[float], measure: str = "seconds", started: float = 0.1) -> list[StepRun]:
    """Return a run of each day from FIRST on."""
    return [
        night(project, FIRST + timedelta(days=n), started=started, **{measure: value}) for n, value in enumerate(values)
    ]


def alerts(monitor: ProjectMonitor, watch: ProjectWatch) -> tuple[Alert, ...]:
    return monitor.run(watch).alerts


# --- history ----------------------------------------------------------------------------------------------------------


def test_a_value_is_unusual_beyond_floor_factor_and_spread_at_once() -> None:
    assert limits([10] * 28, times=2, floor=3) == (10, 5, 20)
    assert limits([10] * 28, times=2, floor=50) == (10, -40, 60)
    middle, _, above = limits([10, 20] * 14, times=1.1, floor=1)
    assert middle == 15
    assert above == pytest.approx(15 + 6 * 1.4826 * 5)


@pytest.mark.parametrize(
    ("newest", "found"),
    [
        ([1, 9, 9], False),  # two days do not persist
        ([9, 9, 9], True),
        ([9, 9, 1, 9], True),  # three of the newest five
        ([9, 9, 9, 1], False),  # the newest day is as always
    ],
)
def test_only_what_persists_up_to_the_newest_day_is_unusual(newest: list[float], found: bool) -> None:
    values = [(FIRST + timedelta(days=n), value) for n, value in enumerate([1.0] * 28 + newest)]
    result = unusual(values, values[-1][0], Persistence(), times=2, floor=1)
    assert (result is not None) is found
    assert unusual(values, values[-1][0] + timedelta(days=1), Persistence(), times=2, floor=1) is None


def test_a_short_history_judges_nothing() -> None:
    values = [(FIRST + timedelta(days=n), value) for n, value in enumerate([1.0] * 11 + [9.0] * 3)]
    assert unusual(values, values[-1][0], Persistence(), times=2, floor=1) is None
    assert unusual(values, values[-1][0], Persistence(min_history=11), times=2, floor=1) is not None


# --- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measure", "usual", "now"),
    [
        ("seconds", 300, 900),
        ("core_seconds", 300, 900),
        ("peak_memory_mb", 900, 2500),
        ("bytes_written", 3e9, 9e9),
        ("rows", 40_000, 90_000),
        ("rows", 40_000, 10_000),
    ],
)
def test_a_step_that_takes_more_for_three_nights_raises_one_alert(
    project: Project, measure: str, usual: float, now: float
) -> None:
    runs = nights(project, [usual] * 37 + [now] * 3, measure)
    [alert] = alerts(StepsMonitor(), Recorded(project, Interval.of(RUN_DATE), runs))
    assert (alert.subject, alert.rule, alert.day) == ("late_ferry.score", "step_unusual", RUN_DATE)
    assert "on 3 of the newest 5 nights" in alert.sentence and "alert-step-slow.md" in alert.sentence
    assert not alerts(StepsMonitor(), Recorded(project, Interval.of(RUN_DATE - timedelta(days=1)), runs))


def test_small_steps_and_single_nights_are_silent(project: Project) -> None:
    for values in ([2.0] * 35 + [100.0] * 5, [300.0] * 39 + [9000.0]):
        assert not alerts(StepsMonitor(), Recorded(project, Interval.of(RUN_DATE), nights(project, values)))


def test_a_backfill_is_neither_judged_nor_history(project: Project) -> None:
    """It ran at noon of another day, when it competed for the machine."""
    late = nights(project, [9000.0] * 40, started=24 + 9)
    assert not alerts(StepsMonitor(), Recorded(project, Interval.of(RUN_DATE), late))
    mixed = [*late[:30], *nights(project, [300.0] * 40), *late[30:]]
    assert not alerts(StepsMonitor(), Recorded(project, Interval.of(RUN_DATE), mixed))
    slow = [*late, *nights(project, [300.0] * 37 + [900.0] * 3)]
    assert len(alerts(StepsMonitor(), Recorded(project, Interval.of(RUN_DATE), slow))) == 1


def test_a_repeated_run_and_another_candidate_change_nothing(project: Project) -> None:
    runs = nights(project, [300.0] * 37 + [900.0] * 3)
    again = [night(project, run.day, started=5, seconds=1.0) for run in runs]
    other = [StepRun("score", "late_ferry", "boosted", False, r.day, r.started_at, r.ended_at, r.values) for r in again]
    watch = Recorded(project, Interval(start=FIRST, end=RUN_DATE), [*runs, *again, *other])
    assert [alert.day for alert in alerts(StepsMonitor(), watch)] == [RUN_DATE]
