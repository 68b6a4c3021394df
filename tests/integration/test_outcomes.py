"""outcomes: the newest delivery that a run date knows counts, in whatever order the run dates run."""

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from include.config.loading import load_model, load_project
from include.core.errors import ConfigError, DataError
from include.core.feeds import Outcome
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres
from include.io.postgres.outcomes import OutcomeDelivery
from include.operations.decide import withdraw
from include.steps import outcomes as step
from include.steps.outcomes import outcomes, record_outcomes
from include.steps.publish import publish
from tests.deliveries import enter
from tests.integration import small
from tests.integration.small import DAY
from tests.landing import deliveries_of

NEXT, LATER = DAY + timedelta(days=1), DAY + timedelta(days=2)


@pytest.fixture
def ferries() -> Project:
    return load_project("ferries")


def values(*of: float | None, day: date = DAY) -> pl.DataFrame:
    return pl.DataFrame(
        [(day, f"e{n}", value) for n, value in enumerate(of)],
        schema={"day": pl.Date, "entity_id": pl.String, "value": pl.Float64},
        orient="row",
    )


def stored(settings: Settings, outcome: str = "late_ferry") -> list[tuple[Any, ...]]:
    with postgres.connection.engine(settings).connect() as connection:
        found = connection.execute(
            sa.text("SELECT day, entity_id, value, delivery_id FROM outcomes WHERE outcome = :o ORDER BY 1, 2"),
            {"o": outcome},
        )
        return [tuple(row) for row in found]


def marks(settings: Settings) -> list[tuple[Any, ...]]:
    """Return values that change whenever a row is written."""
    with postgres.connection.engine(settings).connect() as connection:
        found = [
            connection.execute(sa.text(f"SELECT xmin::text, ctid::text, * FROM {table} ORDER BY 1, 2")).all()
            for table in ("outcomes", "outcome_days")
        ]
        return [tuple(row) for rows in found for row in rows]


MORNING = datetime(2013, 3, 2, 7, tzinfo=UTC)
DELIVERIES = [  # in the order in which they count; one has no rows, the last two came at once
    (OutcomeDelivery(MORNING, 5, "a"), values(1.0, 0.0, None)),
    (OutcomeDelivery(MORNING + timedelta(hours=1), 2, "z"), values(0.0)),
    (OutcomeDelivery(MORNING + timedelta(hours=2), 3, "b"), values()),
    (OutcomeDelivery(MORNING + timedelta(hours=3), 1, "z"), values(1.0, 1.0)),
    (OutcomeDelivery(MORNING + timedelta(hours=3), 4, "a"), values(0.0, 1.0)),
]


@pytest.mark.parametrize("deliveries", [DELIVERIES[:3], DELIVERIES[2:]], ids=["ends empty", "ends at once"])
def test_any_order_of_deliveries_gives_the_same_result(
    settings: Settings, ferries: Project, deliveries: list[Any]
) -> None:
    ends, declared = set(), ferries.outcomes["late_ferry"]
    for number, order in enumerate(itertools.permutations(deliveries)):
        outcome = f"outcome_{number}"
        ferries = ferries.model_copy(update={"outcomes": {outcome: declared}})
        for delivery, frame in order:
            record_outcomes(ferries, outcome, frame, {DAY: delivery}, settings)
        ends.add(tuple(stored(settings, outcome)))
    assert ends == {
        tuple((DAY, entity, value, deliveries[-1][0].delivery_id) for _, entity, value in deliveries[-1][1].iter_rows())
    }


def test_a_newer_delivery_replaces_the_whole_day_and_no_other(settings: Settings, ferries: Project) -> None:
    both = pl.concat([values(1.0, 0.0, None), values(1.0, day=NEXT)])
    first, second = DELIVERIES[0], DELIVERIES[1]
    changed = record_outcomes(ferries, "late_ferry", both, {DAY: first[0], NEXT: first[0]}, settings)
    assert changed == [DAY, NEXT]
    assert stored(settings)[:3] == [(DAY, "e0", 1.0, "a"), (DAY, "e1", 0.0, "a"), (DAY, "e2", None, "a")]
    assert record_outcomes(ferries, "late_ferry", second[1], {DAY: second[0]}, settings) == [DAY]
    assert stored(settings) == [(DAY, "e0", 0.0, "z"), (NEXT, "e0", 1.0, "a")]
    assert stored(settings, "ferry_delay") == []


def test_a_newer_delivery_without_rows_takes_the_outcomes_away_for_good(settings: Settings, ferries: Project) -> None:
    for delivery, frame in (DELIVERIES[0], DELIVERIES[2], DELIVERIES[0]):
        record_outcomes(ferries, "late_ferry", frame, {DAY: delivery}, settings)
    assert stored(settings) == []


def test_equal_and_older_deliveries_write_nothing(settings: Settings, ferries: Project) -> None:
    delivery, frame = DELIVERIES[1]
    record_outcomes(ferries, "late_ferry", frame, {DAY: delivery}, settings)
    before = marks(settings)
    assert record_outcomes(ferries, "late_ferry", frame.reverse(), {DAY: delivery}, settings) == []
    assert record_outcomes(ferries, "late_ferry", values(9.0), {DAY: DELIVERIES[0][0]}, settings) == []
    assert marks(settings) == before


def test_the_same_delivery_read_otherwise_is_taken(settings: Settings, ferries: Project) -> None:
    """Someone corrected the expression of the outcome and ran the step again."""
    delivery, _ = DELIVERIES[0]
    for value in (1.0, 0.0):
        changed = record_outcomes(ferries, "late_ferry", values(value), {DAY: delivery}, settings)
        assert changed == [DAY]
    assert stored(settings) == [(DAY, "e0", 0.0, "a")]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (values(1.0, float("nan")), "1 of 2 values are NaN"),
        (values(float("-inf")), "1 of 1 values are NaN or infinite"),
        (pl.concat([values(1.0), values(1.0)]), "2 rows of 1 entities"),
        (values(1.0, day=NEXT), "there are values of 2013-03-02, but no delivery of that day"),
    ],
)
def test_bad_outcomes_are_refused(settings: Settings, ferries: Project, frame: pl.DataFrame, says: str) -> None:
    with pytest.raises(DataError, match=says):
        record_outcomes(ferries, "late_ferry", frame, {DAY: DELIVERIES[0][0]}, settings)
    assert marks(settings) == []


# --- the step, on tables ----------------------------------------------------------------------------------------------


@pytest.fixture
def prepared_days(settings: Settings, ferries: Project) -> Settings:
    """Three prepared days. NEXT knows the logbook of DAY, and LATER knows a correction of it."""
    small.prepare(settings, ferries, DAY, NEXT, LATER)
    hour = timedelta(hours=1)

    def deliver(day: date, delays: list[float | None], available_from: datetime, **options: str) -> None:
        small.deliver(
            settings, ferries, "logbook", day, small.logbook_of(day, delays), available_from=available_from, **options
        )

    deliver(DAY, [16.0, 15.0, None, -3.0], small.as_of(NEXT) - hour)
    deliver(DAY, [15.0, 15.0, 20.0, None], small.as_of(LATER) - hour, name="correction")
    deliver(DAY, [99.0, 99.0, 99.0, 99.0], small.as_of(LATER) + hour, name="too-late")
    deliver(DAY, [77.0, 77.0, 77.0, 77.0], small.as_of(LATER) - hour, name="refused", verdict="refused")
    deliver(NEXT, [0.0, 30.0], small.as_of(LATER) - hour)
    deliver(LATER, [55.0], small.as_of(LATER) - hour)  # of the run date itself: must not be known yet
    return settings


def known(settings: Settings, outcome: str) -> list[list[Any]]:
    """Return the recorded values of DAY, NEXT and LATER."""
    return [[value for found, _, value, _ in stored(settings, outcome) if found == day] for day in (DAY, NEXT, LATER)]


def test_a_run_date_records_the_outcomes_that_it_knows(prepared_days: Settings, ferries: Project) -> None:
    result = outcomes(ferries, Interval.of(NEXT), prepared_days)
    assert known(prepared_days, "late_ferry") == [[1.0, 0.0, 1.0, 0.0], [], []]
    assert known(prepared_days, "ferry_delay") == [[16.0, 15.0, None, -3.0], [], []]
    assert (result.days, result.rows, result.interval) == (1, 8, Interval.of(NEXT))
    again = outcomes(ferries, Interval.of(NEXT), prepared_days)
    assert (again.days, again.rows) == (0, 0)


def test_a_later_run_date_records_the_correction_of_an_earlier_day(prepared_days: Settings, ferries: Project) -> None:
    outcomes(ferries, Interval.of(NEXT), prepared_days)
    result = outcomes(ferries, Interval.of(LATER), prepared_days)
    assert known(prepared_days, "ferry_delay") == [[15.0, 15.0, 20.0, None], [0.0, 30.0], []]
    assert known(prepared_days, "late_ferry") == [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0], []]
    assert result.days == 2


CORRECTED = [[15.0, 15.0, 20.0, None], [0.0, 30.0], []]


def test_run_dates_in_reverse_order_give_the_same_result(prepared_days: Settings, ferries: Project) -> None:
    outcomes(ferries, Interval.of(LATER), prepared_days)
    outcomes(ferries, Interval.of(NEXT), prepared_days)
    assert known(prepared_days, "ferry_delay") == CORRECTED


@pytest.mark.parametrize("prepared_day", [NEXT, LATER])
def test_concurrent_run_dates_give_the_same_result(
    prepared_days: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch, prepared_day: date
) -> None:
    """The other run starts and ends between this run's read and write."""
    record = step.record_outcomes

    def meanwhile(*arguments: Any) -> list[date]:
        monkeypatch.setattr(step, "record_outcomes", record)
        outcomes(ferries, Interval.of(LATER if prepared_day == NEXT else NEXT), prepared_days)
        return record(*arguments)

    monkeypatch.setattr(step, "record_outcomes", meanwhile)
    outcomes(ferries, Interval.of(prepared_day), prepared_days)
    assert known(prepared_days, "ferry_delay") == CORRECTED
    assert known(prepared_days, "late_ferry") == [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0], []]


def test_earlier_days_are_read_again_only_for_a_correction(
    prepared_days: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[date]] = []

    def reading(project: Project, outcome: str, tables: Any, deliveries: dict[date, Any], job: None) -> pl.DataFrame:
        read.append(list(deliveries))
        return values_of(project, outcome, tables, deliveries, job)

    values_of = step._values
    monkeypatch.setattr(step, "_values", reading)
    for run, days in ((NEXT, [DAY]), (LATER, [DAY, NEXT]), (LATER, [NEXT])):
        read.clear()
        outcomes(ferries, Interval.of(run), prepared_days)
        assert read == [days, days]  # once per outcome


def test_run_dates_in_any_order_or_in_one_run_give_the_same_result(prepared_days: Settings, ferries: Project) -> None:
    ends = []
    for runs in (
        [Interval.of(NEXT), Interval.of(LATER)],
        [Interval.of(LATER), Interval.of(NEXT), Interval.of(LATER)],
        [Interval(start=NEXT, end=LATER)],
    ):
        for run in runs:
            outcomes(ferries, run, prepared_days)
        ends.append((stored(prepared_days, "late_ferry"), stored(prepared_days, "ferry_delay")))
        with postgres.connection.engine(prepared_days).begin() as connection:
            connection.execute(sa.text("TRUNCATE outcomes, outcome_days"))
    assert ends[0][0]
    assert ends[1:] == ends[:1] * 2


def test_a_late_run_date_knows_no_outcome_of_its_own_day(prepared_days: Settings, ferries: Project) -> None:
    """NEXT has a later `as_of` than LATER, and so one after a correction of its own outcomes."""
    hour, late = timedelta(hours=1), small.as_of(LATER) + timedelta(hours=2)
    corrected = small.logbook_of(NEXT, [9.0, 9.0])
    small.deliver(prepared_days, ferries, "logbook", NEXT, corrected, available_from=late - hour, name="correction")
    (prepared_day,) = postgres.days.read_prepared_days(prepared_days, ferries.name, Interval.of(NEXT))
    postgres.days.record_prepared_days(prepared_days, "ferries", [prepared_day.model_copy(update={"as_of": late})])
    for run in (Interval.of(LATER), Interval.of(NEXT), Interval(start=NEXT, end=LATER)):
        outcomes(ferries, run, prepared_days)
        assert known(prepared_days, "ferry_delay")[1] == [0.0, 30.0]


def test_outcomes_of_a_file_that_came_after_the_next_cutoff_are_recorded(settings: Settings, ferries: Project) -> None:
    """LATER needs the logbook of NEXT, which comes two days later, and an hour later its correction."""
    small.prepare(settings, ferries, DAY, NEXT, LATER)
    for day in (DAY, NEXT):
        moment = small.as_of(day + timedelta(days=1 if day == DAY else 3)) - timedelta(hours=1)
        small.deliver(settings, ferries, "logbook", day, small.logbook_of(day, [float(day.day)]), available_from=moment)
    corrected = small.logbook_of(NEXT, [9.0])
    at = small.as_of(LATER + timedelta(days=2))
    small.deliver(settings, ferries, "logbook", NEXT, corrected, available_from=at, name="correction")
    assert outcomes(ferries, Interval.of(NEXT), settings).days == 1
    outcomes(ferries, Interval.of(LATER), settings)
    assert known(settings, "ferry_delay")[:2] == [[float(DAY.day)], [float(NEXT.day)]]


def correction_of(settings: Settings, project: Project) -> str:
    [found] = [each for each in deliveries_of(settings, project.name)["delivery_id"] if "correction" in each]
    return str(found)


def test_without_a_withdrawn_correction_the_earlier_outcomes_come_back(
    prepared_days: Settings, ferries: Project
) -> None:
    outcomes(ferries, Interval(start=NEXT, end=LATER), prepared_days)
    assert known(prepared_days, "ferry_delay") == CORRECTED
    correction = correction_of(prepared_days, ferries)
    withdraw(ferries, correction, prepared_days, by="Ada", why="a wrong file")
    result = outcomes(ferries, Interval.of(LATER), prepared_days)
    assert known(prepared_days, "ferry_delay") == [[16.0, 15.0, None, -3.0], [0.0, 30.0], []]
    assert result.days == 1
    before = marks(prepared_days)
    assert outcomes(ferries, Interval.of(LATER), prepared_days).days == 0
    assert marks(prepared_days) == before
    enter(prepared_days, ferries, [Entry.verdict(correction, "logbook", DAY, None)])  # a person accepted it again
    outcomes(ferries, Interval.of(LATER), prepared_days)
    assert known(prepared_days, "ferry_delay") == CORRECTED


def test_a_withdrawn_delivery_without_another_leaves_no_outcomes_until_it_counts_again(
    prepared_days: Settings, ferries: Project
) -> None:
    outcomes(ferries, Interval(start=NEXT, end=LATER), prepared_days)
    only = small.delivery_id("logbook", NEXT)
    for verdict in ("withdrawn", "refused"):  # by a person, or by `revalidate` with a stricter rule
        fields = {"feed": "logbook", "day": str(NEXT), "verdict": verdict}
        enter(prepared_days, ferries, [Entry(kind="verdict", subject=only, entry=fields)])
        outcomes(ferries, Interval.of(NEXT), prepared_days)
        assert known(prepared_days, "ferry_delay")[1] == ([0.0, 30.0] if verdict == "withdrawn" else []), (
            "a run date leaves outcomes of days after the one it needs to later runs"
        )
        assert outcomes(ferries, Interval.of(LATER), prepared_days).days == (1 if verdict == "withdrawn" else 0)
        assert known(prepared_days, "ferry_delay") == [CORRECTED[0], [], []]
    enter(prepared_days, ferries, [Entry.verdict(only, "logbook", NEXT, None)])
    outcomes(ferries, Interval.of(LATER), prepared_days)
    assert known(prepared_days, "ferry_delay") == CORRECTED


def test_a_day_that_is_not_prepared_is_refused(prepared_days: Settings, ferries: Project) -> None:
    with pytest.raises(DataError, match="not prepared: 2013-03-04; run build_features"):
        outcomes(ferries, Interval(start=NEXT, end=LATER + timedelta(days=1)), prepared_days)
    assert marks(prepared_days) == []


def test_an_outcome_of_a_feed_without_entities_is_refused(prepared_days: Settings, ferries: Project) -> None:
    windy = ferries.model_copy(update={"outcomes": {"windy": Outcome(feed="winds", sql="1.0")}})
    small.deliver(prepared_days, ferries, "winds", NEXT, pl.DataFrame(), available_from=small.as_of(NEXT))
    with pytest.raises(ConfigError, match=r"outcomes.windy: feed winds lacks"):
        outcomes(windy, Interval.of(NEXT), prepared_days)


def test_analysts_read_predictions_with_their_outcomes(prepared_days: Settings, ferries: Project) -> None:
    late = load_model("late_ferry")
    delay = late.model_copy(update={"name": "delay", "outcome": "ferry_delay", "problem_type": "regression"})
    for model in (late, delay):
        small.promoted(prepared_days, model.name, 1, DAY)
        small.score(prepared_days, ferries, model.name, DAY, LATER)
        for day in (DAY, LATER):
            publish(model, Interval.of(day), prepared_days)
    outcomes(ferries, Interval.of(NEXT), prepared_days)

    with postgres.connection.engine(prepared_days).connect() as connection:
        connection.execute(sa.text("SET ROLE reader"))
        seen = connection.execute(
            sa.text(
                "SELECT model, prediction, outcome, outcome_known, outcome_value, correct, error, "
                "outcome_available_from IS NOT NULL FROM predictions_with_outcomes "
                "WHERE day = :day ORDER BY model, entity_id"
            ),
            {"day": DAY},
        ).all()
        unknown = connection.execute(
            sa.text(
                "SELECT DISTINCT outcome_known, outcome_value, correct, error, outcome_available_from "
                "FROM predictions_with_outcomes WHERE day = :day"
            ),
            {"day": LATER},
        ).all()
    assert [tuple(row) for row in seen] == [
        ("delay", 0.0, "ferry_delay", True, 16.0, None, -16.0, True),
        ("delay", 0.0, "ferry_delay", True, 15.0, None, -15.0, True),
        ("delay", 1.0, "ferry_delay", True, None, None, None, True),
        ("delay", 1.0, "ferry_delay", True, -3.0, None, 4.0, True),
        ("late_ferry", 0.0, "late_ferry", True, 1.0, False, None, True),
        ("late_ferry", 0.0, "late_ferry", True, 0.0, True, None, True),
        ("late_ferry", 1.0, "late_ferry", True, 1.0, True, None, True),
        ("late_ferry", 1.0, "late_ferry", True, 0.0, False, None, True),
    ]
    assert [tuple(row) for row in unknown] == [(False, None, None, None, None)]
