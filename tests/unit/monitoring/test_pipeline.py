"""The pipeline's own monitors: what they say of a history of runs, deliveries, results and costs."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.config.loading import load_model, load_project
from include.config.project import WatchedProject
from include.core.changes import features_digest
from include.core.errors import ConfigError
from include.core.formats.base import Contents, Layout
from include.core.formats.limits import Limits
from include.core.formats.parquet import Parquet
from include.core.interval import Interval
from include.core.prices import Prices
from include.core.project import Project
from include.core.records import Alert
from include.io import apart
from include.monitoring.pipeline import ProjectMonitor, ProjectWatch
from include.monitoring.pipeline.base import Arrival, DeliveryQuality, LibraryChange, Part, StepRun
from include.monitoring.pipeline.budget import BudgetMonitor
from include.monitoring.pipeline.changes import ChangesMonitor
from include.monitoring.pipeline.history import Persistence, limits, unusual
from include.monitoring.pipeline.punctuality import PunctualityMonitor
from include.monitoring.pipeline.quality import QualityMonitor
from include.monitoring.pipeline.steps import StepsMonitor
from include.monitoring.records import MonitoredModel, ScoreHealth
from include.monitoring.scores import ScoresMonitor
from include.steps.objects import MIN_VALUES, types_as_delivered

FIRST = date(2026, 9, 1)
RUN_DATE = FIRST + timedelta(days=40)


@pytest.fixture
def project() -> Project:
    return load_project("ferries")


@dataclass(frozen=True)
class Recorded(ProjectWatch):
    """A project with what a test says was recorded."""

    watermarks: Mapping[date, int] = field(default_factory=dict)
    arrivals: Mapping[tuple[str, date], Sequence[Arrival]] = field(default_factory=dict)
    runs: Sequence[StepRun] = ()
    found: Sequence[DeliveryQuality] = ()
    changes: Sequence[LibraryChange] = ()
    spent: Mapping[date, float] = field(default_factory=dict)
    stored: Mapping[date, float] = field(default_factory=dict)

    @property
    def quality(self) -> Mapping[str, Sequence[DeliveryQuality]]:
        return {each.feed: [one for one in self.found if one.feed == each.feed] for each in self.found}

    def library_changes(self, until: datetime) -> Sequence[LibraryChange]:
        return [each for each in self.changes if each.first_at <= until]

    def costs(self, days: Interval, currency: str) -> Mapping[Part, Mapping[date, float]]:
        parts: dict[Part, Mapping[date, float]] = {"steps": self.spent, "storage": self.stored}
        return {
            part: {day: cost for day, cost in of_part.items() if day in days.days and currency == "EUR"}
            for part, of_part in parts.items()
        }

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
    assert limits([0, 0, 100] * 9, times=2, floor=20) == (0, -20, 120)


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
    for days, kept in ((1, found), (7, found), (8, False)):  # days without a value say nothing, for a week
        later = values[-1][0] + timedelta(days=days)
        assert (unusual(values, later, Persistence(), times=2, floor=1) is not None) is kept


def test_a_short_history_decides_nothing() -> None:
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
    [alert] = alerts(StepsMonitor(), Recorded(project, Interval.of(RUN_DATE), runs=runs))
    assert (alert.subject, alert.rule, alert.day) == ("late_ferry.score", "step_unusual", RUN_DATE)
    assert alert.models == ("late_ferry",), "the routes of the model get it"
    assert "on 3 of the newest 5 nightly runs" in alert.sentence and "alert-step-slow.md" in alert.sentence
    assert not alerts(StepsMonitor(), Recorded(project, Interval.of(RUN_DATE - timedelta(days=1)), runs=runs))


def test_small_steps_and_single_nights_are_silent(project: Project) -> None:
    for values in ([2.0] * 35 + [100.0] * 5, [300.0] * 39 + [9000.0]):
        assert not alerts(StepsMonitor(), Recorded(project, Interval.of(RUN_DATE), runs=nights(project, values)))


def test_a_backfill_is_neither_compared_nor_history(project: Project) -> None:
    """It ran at noon of another day, when it competed for the machine."""
    late = nights(project, [9000.0] * 40, started=24 + 9)
    assert not alerts(StepsMonitor(), Recorded(project, Interval.of(RUN_DATE), runs=late))
    early = nights(project, [9000.0] * 40, started=-5)
    assert not alerts(
        StepsMonitor(), Recorded(project, Interval.of(RUN_DATE), runs=[*early[-3:], *nights(project, [300.0] * 40)])
    )
    mixed = [*late[:30], *nights(project, [300.0] * 40), *late[30:]]
    assert not alerts(StepsMonitor(), Recorded(project, Interval.of(RUN_DATE), runs=mixed))
    slow = [*late, *nights(project, [300.0] * 37 + [900.0] * 3)]
    assert len(alerts(StepsMonitor(), Recorded(project, Interval.of(RUN_DATE), runs=slow))) == 1


def test_a_repeated_run_and_another_candidate_change_nothing(project: Project) -> None:
    runs = nights(project, [300.0] * 37 + [900.0] * 3)
    again = [night(project, run.day, started=5, seconds=1.0) for run in runs]
    other = [StepRun("score", "late_ferry", "boosted", False, r.day, r.started_at, r.ended_at, r.values) for r in again]
    watch = Recorded(project, Interval(start=FIRST, end=RUN_DATE), runs=[*runs, *again, *other])
    assert [alert.day for alert in alerts(StepsMonitor(), watch)] == [RUN_DATE]


# --- punctuality ------------------------------------------------------------------------------------------------------


def delivered(project: Project, late: Sequence[date], watermark: int = 100) -> Recorded:
    """Return a project whose feed of sailings came an hour after the cutoff on some run dates, else an hour before."""
    days = Interval(start=FIRST, end=RUN_DATE).days
    hours = {day: 1 if day in late else -1 for day in days}
    arrivals = {
        ("sailings", day): [Arrival(1, project.cutoff_at(day) + timedelta(hours=hours[day])), Arrival(200, EARLY)]
        for day in days
    }
    return Recorded(project, Interval.of(RUN_DATE), dict.fromkeys(days, watermark), arrivals)


EARLY = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("late", "raised"),
    [
        (range(5), True),
        (range(4), False),
        (range(1, 6), True),  # it is over when it is late less often, not after one punctual day
        (range(24, 29), False),
        ((0, 1, 2, 3, 28), False),  # 28 run dates ago does not count
        ((0, 1, 2, 3, 27), True),
    ],
)
def test_a_supplier_that_is_late_again_and_again_raises_an_alert(
    project: Project, late: Sequence[int], raised: bool
) -> None:
    watch = delivered(project, [RUN_DATE - timedelta(days=n) for n in late])
    found = [alert for alert in alerts(PunctualityMonitor(), watch) if alert.subject == "sailings"]
    assert [(alert.rule, alert.day) for alert in found] == ([("supplier_late", RUN_DATE)] if raised else [])
    if raised:
        assert "feed sailings was late on 5 of the newest 28 run dates" in found[0].sentence
        assert found[0].badness == 5


def test_only_what_the_record_of_the_run_date_knew_counts(project: Project) -> None:
    """An entry with an early claim that came after the day was prepared does not make it punctual."""
    [known] = [
        each for each in PunctualityMonitor().run(delivered(project, [RUN_DATE])).feed_days if each.feed == "sailings"
    ]
    assert known.late and known.available_from == project.cutoff_at(RUN_DATE) + timedelta(hours=1)
    later = PunctualityMonitor().run(delivered(project, [RUN_DATE], watermark=200)).feed_days
    assert [each.late for each in later if each.feed == "sailings"] == [False]
    assert PunctualityMonitor().run(Recorded(project, Interval.of(RUN_DATE))).feed_days == ()


def test_alerts_and_figures_are_by_supplier(project: Project) -> None:
    named = {name: feed.model_copy(update={"supplier": "Harbour"}) for name, feed in project.feeds.items()}
    harbour = project.model_copy(update={"feeds": named})
    watch = delivered(harbour, [RUN_DATE - timedelta(days=n) for n in range(6)])
    found = PunctualityMonitor().run(watch)
    [alert] = found.alerts
    assert alert.subject == "Harbour" and alert.sentence.count("feed ") == len({each.feed for each in found.feed_days})
    assert {each.supplier for each in found.feed_days} == {"Harbour"}


# --- quality ----------------------------------------------------------------------------------------------------------


def validated(
    project: Project, quarantined: Sequence[int], failed: Sequence[int] = (), watermark: int = 999
) -> Recorded:
    """Return a project whose feed of sailings had so many invalid rows of 1,000 on the days up to RUN_DATE."""
    first = RUN_DATE - timedelta(days=len(quarantined) - 1)
    found = [
        DeliveryQuality("sailings", first + timedelta(days=n), n, 1000, rows, failed[n] if failed else 0)
        for n, rows in enumerate(quarantined)
    ]
    return Recorded(project, Interval.of(RUN_DATE), {RUN_DATE: watermark}, found=found)


@pytest.mark.parametrize(
    ("quarantined", "raised"),
    [
        ([5] * 25 + [60] * 3, True),
        ([5] * 25 + [24] * 3, False),  # less than two points more
        ([5] * 27 + [900], False),  # one day
        ([0, 100] * 14, False),  # it always varied
    ],
)
def test_a_feed_with_more_invalid_rows_for_three_days_raises_an_alert(
    project: Project, quarantined: Sequence[int], raised: bool
) -> None:
    found = alerts(QualityMonitor(), validated(project, quarantined))
    assert [(alert.subject, alert.rule) for alert in found] == ([("sailings", "quality_trend")] if raised else [])


def test_the_alert_of_a_feed_lasts_over_days_without_a_file(project: Project) -> None:
    sailings = project.feeds["sailings"].model_copy(update={"days": "mon-fri"})
    weekly = project.model_copy(update={"feeds": {**project.feeds, "sailings": sailings}})
    watch = validated(weekly, [5] * 25 + [60] * 3)
    later = RUN_DATE + timedelta(days=1)
    for run_date in (RUN_DATE, later):
        found = replace(watch, interval=Interval.of(run_date), watermarks={run_date: 999})
        assert [alert.subject for alert in alerts(QualityMonitor(), found)] == ["sailings"]


def test_failed_expectations_have_a_trend_too(project: Project) -> None:
    [alert] = alerts(QualityMonitor(), validated(project, [0] * 28, [1] * 25 + [3] * 3))
    assert "failed expectations 3 on" in alert.sentence
    assert not alerts(QualityMonitor(), validated(project, [0] * 28, [1] * 25 + [2] * 3))


def test_a_delivery_that_the_run_date_did_not_know_does_not_count(project: Project) -> None:
    assert not alerts(QualityMonitor(), validated(project, [5] * 25 + [60] * 3, watermark=26))


# --- changes ----------------------------------------------------------------------------------------------------------


def test_a_change_of_libraries_is_announced_for_one_run_date_whichever_monitor_runs(project: Project) -> None:
    first_at = project.cutoff_at(RUN_DATE) - timedelta(hours=2)
    change = LibraryChange(
        "a" * 64, "b" * 64, {"numpy": "2.1", "polars": "1.0"}, {"numpy": "2.2", "polars": "1.0"}, first_at
    )
    raised = [
        alerts(ChangesMonitor(), Recorded(project, Interval.of(RUN_DATE + timedelta(days=n)), changes=[change]))
        for n in (-1, 0, 1, 7, 8)
    ]
    assert raised[0] == raised[4] == ()
    assert raised[1] == raised[2] == raised[3]
    [alert] = raised[1]
    assert alert.day == RUN_DATE and "numpy 2.1 → 2.2. " in alert.sentence and "polars" not in alert.sentence


def columned(project: Project, differs: Sequence[tuple[str, ...]], watermark: int = 999) -> Recorded:
    """Return a project whose feed of sailings had such columns on the days up to RUN_DATE."""
    first = RUN_DATE - timedelta(days=len(differs) - 1)
    arrivals = {("sailings", first + timedelta(days=n)): [Arrival(n, EARLY, each)] for n, each in enumerate(differs)}
    days = Interval(start=first, end=RUN_DATE).days
    return Recorded(project, Interval.of(RUN_DATE), dict.fromkeys(days, watermark), arrivals)


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        ([(), (), ("2 undeclared",)], "as declared → 2 undeclared"),
        ([(), ("2 undeclared",), ("2 undeclared",)], None),
        ([("without dest",), ()], "without dest → as declared"),
        ([(), ("without dest",), (), ("without dest",)], None),  # the same change was announced before
        ([()], None),
    ],
)
def test_a_change_of_columns_is_announced_once(
    project: Project, differs: Sequence[tuple[str, ...]], said: str | None
) -> None:
    found = [alert.sentence for alert in alerts(ChangesMonitor(), columned(project, differs))]
    assert len(found) == (said is not None)
    assert said is None or said in found[0]
    assert not alerts(ChangesMonitor(), columned(project, differs, watermark=len(differs) - 2))


# --- budget -----------------------------------------------------------------------------------------------------------


def test_a_month_has_one_alert_for_its_projection_and_one_for_its_cost(project: Project) -> None:
    """100 EUR are spent on the 20th at 5 EUR a day, and projected from the seventh day on."""
    priced = project.model_copy(update={"prices": Prices(currency="EUR", budget_per_month=100)})
    spent = {FIRST + timedelta(days=n): 5.0 for n in range(-1, 30)}
    raised: dict[tuple[str, date], set[str]] = {}
    for run_date in reversed(Interval(start=FIRST, end=FIRST + timedelta(days=35)).days):
        for alert in alerts(BudgetMonitor(), Recorded(priced, Interval.of(run_date), spent=spent)):
            raised.setdefault((alert.rule, alert.day), set()).add(alert.sentence)
    assert sorted(raised) == [("budget_projected", date(2026, 9, 8)), ("budget_spent", date(2026, 9, 21))]
    assert all(len(sentences) == 1 for sentences in raised.values())
    [projected] = raised["budget_projected", date(2026, 9, 8)]
    assert "35.00 EUR up to 2026-09-07: 35% of the budget of 100.00 EUR, and 150.00 EUR are projected" in projected


@pytest.mark.parametrize(
    ("begins", "projected"),
    [
        (-5, date(2026, 9, 8)),  # storage was paid for before the month: it is projected with the steps
        (4, date(2026, 9, 12)),  # seven days after its first
        (20, date(2026, 9, 28)),
        (26, None),  # the month ends before, and has cost less than the budget
    ],
)
def test_a_new_part_of_the_cost_is_projected_when_it_has_a_history(
    project: Project, begins: int, projected: date | None
) -> None:
    """Steps cost 3 EUR a day, which is 90 of 91.5 EUR a month; then storage has a price. Before, it was free."""
    priced = project.model_copy(update={"prices": Prices(currency="EUR", budget_per_month=91.5)})
    days = [FIRST + timedelta(days=n) for n in range(-10, 30)]
    stored = {day: 0.2 if day >= FIRST + timedelta(days=begins) else 0.0 for day in days}
    found = [
        (alert.rule, alert.day)
        for day in days[11:]
        for alert in alerts(
            BudgetMonitor(), Recorded(priced, Interval.of(day), spent=dict.fromkeys(days, 3.0), stored=stored)
        )
    ]
    assert {each for each in found if each[0] == "budget_projected"} == (
        {("budget_projected", projected)} if projected else set()
    )


def test_a_month_within_its_budget_and_a_project_without_one_are_silent(project: Project) -> None:
    watch = Recorded(
        project, Interval(start=FIRST, end=RUN_DATE), spent={FIRST + timedelta(days=n): 3.3 for n in range(40)}
    )
    assert not alerts(BudgetMonitor(), watch)
    priced = project.model_copy(update={"prices": Prices(currency="EUR", budget_per_month=110)})
    assert not alerts(BudgetMonitor(), replace(watch, project=priced))
    assert Prices(currency="EUR", core_hour=2, dbu=0.5).cost(1800, 4) == 3


# --- scores -----------------------------------------------------------------------------------------------------------


def health(shares: Sequence[float], distinct: Sequence[int], rows: int = 1000) -> list[ScoreHealth]:
    """Return the health of the days before RUN_DATE, with these shares of equal and of saturated scores."""
    first = RUN_DATE - timedelta(days=len(shares))
    return [
        ScoreHealth(first + timedelta(days=n), rows, different, share, share)
        for n, (share, different) in enumerate(zip(shares, distinct, strict=True))
    ]


@pytest.mark.parametrize(
    ("shares", "distinct", "said"),
    [
        ([0.01] * 30, [900] * 30, None),
        ([0.01] * 29 + [1.0], [900] * 29 + [1], "all 1,000 scores of 2026-10-10 are equal"),
        ([1.0] * 30, [1] * 30, None),  # a constant model
        ([0.01] * 29 + [0.4], [900] * 30, None),  # one day
        ([0.01] * 27 + [0.4] * 3, [900] * 30, "40.0% of the scores of 2026-10-10 have the commonest score"),
    ],
)
def test_scores_that_become_equal_or_saturated_raise_an_alert(
    shares: Sequence[float], distinct: Sequence[int], said: str | None
) -> None:
    found = ScoresMonitor()._alert(LATE, health(shares, distinct), RUN_DATE)
    assert (found is not None) is (said is not None)
    if found and said:
        assert said in found.sentence
        assert found.effect.startswith("scores are published, but"), "readers have them"
        if "commonest" in said:
            assert "are 0 or 1 to nine digits" in found.sentence


def test_scores_that_are_equal_stay_so_over_a_day_without_any() -> None:
    known = health([0.01] * 29 + [1.0], [900] * 29 + [1])
    for days, raised in ((1, True), (6, True), (8, False)):
        assert (ScoresMonitor()._alert(LATE, known, RUN_DATE + timedelta(days=days)) is not None) is raised


LATE: MonitoredModel = load_model("late_ferry").monitored


# --- declaration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("monitors", "said"),
    [
        ([{"kind": "stepps"}], "monitors.0.kind: there is no 'stepps'; did you mean 'steps'?"),
        ([{"kind": "steps"}, {"kind": "steps"}], "monitors: steps is listed twice"),
        ([{"kind": "steps", "days": 6}], "6 days of the newest 5 are never reached"),
        ([{"kind": "quality", "min_history": 29}], "min_history is at most `history`"),
    ],
)
def test_a_wrong_monitor_is_refused_by_its_key(
    load_changed: Callable[..., Project], monitors: list[dict[str, object]], said: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_changed("ferries", lambda declared: declared.update(monitors=monitors))


def test_a_monitor_that_is_not_listed_runs_with_its_defaults_and_none_changes_features(
    load_changed: Callable[..., Project],
) -> None:
    def change(declared: dict[str, Any]) -> None:
        declared["monitors"] = [{"kind": "steps", "times": 3}]
        declared["prices"] = {"currency": "EUR"}
        declared["feeds"]["winds"]["supplier"] = "Harbour"

    before = features_digest(load_changed("ferries", lambda _: None))
    found = load_changed("ferries", change)
    assert isinstance(found, WatchedProject)
    kinds = [monitor.kind for monitor in found.all_monitors]
    assert kinds == ["steps", "punctuality", "quality", "changes", "budget"]
    assert found.all_monitors[0] == StepsMonitor(times=3)
    assert features_digest(found) == before


def typed(project: Project, *types: str | None) -> list[str]:
    """Return what is announced if a column has these types on days in a row; None: it is not known."""
    first = RUN_DATE - timedelta(days=len(types) - 1)
    arrivals = {
        ("sailings", first + timedelta(days=n)): [Arrival(n, EARLY, types={"miles": each} if each else {})]
        for n, each in enumerate(types)
    }
    watch = columned(project, [()] * len(types))
    return [alert.sentence for alert in alerts(ChangesMonitor(), replace(watch, arrivals=arrivals))]


def test_a_change_of_types_as_delivered_is_announced_once(project: Project) -> None:
    [said] = typed(project, "int64", "int64", None, "string")
    assert "feed sailings of ferries: columns changed on" in said and ": miles has int64 → string. " in said
    assert typed(project, "int64", "string", "string") == [], "it was announced the day before"
    assert typed(project, "int64", "string", "int64", "string") == [], "and before that"
    assert len(typed(project, "int64", "string", "int64")) == 1, "the way back is another change"
    assert typed(project, None, "string") == [], "what older deliveries had is not known"


def test_the_types_of_a_delivery_are_those_of_the_file_or_those_of_its_numbers(project: Project) -> None:
    feed = project.feeds["sailings"]

    def text(*miles: str) -> Contents:
        return Contents(pl.DataFrame({"distance_miles": miles, "company": miles}))

    whole = ["12"] * MIN_VALUES
    assert types_as_delivered(feed, text(*whole)) == {"distance_miles": "whole numbers"}
    assert types_as_delivered(feed, text(*whole, "1.5")) == {"distance_miles": "decimal numbers"}
    assert types_as_delivered(feed, text(*whole[1:])) == {}
    table = pa.table({
        "n": pa.array([1, 2], pa.int32()),
        "s": pa.array(["a", "a"], pa.large_string()).dictionary_encode(),
    })
    file = pa.BufferOutputStream()
    pq.write_table(table, file)
    layout = Layout(("n", "s"), frozenset(), "refuse", Limits())
    found = apart.read(Parquet(), file.getvalue().to_pybytes(), "x.parquet", layout)
    assert found.types == {"n": "int32", "s": "string"}, "also through the child that reads it"
