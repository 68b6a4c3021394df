"""A feed that is known ahead, and the rows of features, training and erasure that have a horizon."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from include.config.loading import load_model, load_project
from include.core import schemas
from include.core.erasure import Person
from include.core.errors import ConfigError
from include.core.horizons import key_in, with_horizon
from include.core.intake import is_history, usual_moment
from include.core.interval import Interval
from include.core.journal import Known
from include.core.lookback import unknown_days
from include.core.personal import HashKey
from include.core.point_in_time import as_of, known_deliveries
from include.core.project import Project
from include.gate.checks.slices import Slices
from include.training import labelled_rows, training_set
from include.training.labelled_rows import LabelledRows
from include.training.training_set import LABEL

DAY = date(2026, 11, 18)  # a Wednesday

Load = Callable[..., Project]


def later(days: int) -> date:
    return DAY + timedelta(days=days)


def ahead(declared: dict[str, Any]) -> None:
    """Plan two days ahead."""
    declared["feeds"]["plan"]["ahead_days"] = 2
    declared["entity"]["horizon_days"] = 2


@pytest.fixture
def project(load_changed: Load) -> Project:
    return load_changed("drugstore", ahead)


def listed(project: Project, *moments: tuple[date, datetime]) -> Known:
    """Return a journal with a delivery of the plan for each day and moment."""
    rows = [
        {"sequence": n, "feed": "plan", "day": day, "available_from": at, "verdict": "accepted", "delivery_id": f"{n}"}
        for n, (day, at) in enumerate(moments)
    ]
    return Known(len(rows), pl.DataFrame(rows, schema=schemas.DELIVERIES), {})


class TestDeclaration:
    def test_a_run_date_needs_all_days_up_to_the_last_that_is_known(self, project: Project) -> None:
        plan = project.feeds["plan"]
        assert project.required_days(DAY) == [("plan", later(n)) for n in range(3)]
        assert plan.window(DAY) == Interval(start=DAY, end=later(2))
        assert plan.run_dates(later(2), later(9)) == [DAY, later(1), later(2)]
        assert plan.run_dates(later(2), later(1)) == [DAY, later(1)], "not beyond the last run date"
        assert project.expected(DAY)["plan"] == later(2)

    def test_days_outside_of_the_calendar_are_not_needed(self, load_changed: Load) -> None:
        def on_weekdays(declared: dict[str, Any]) -> None:
            ahead(declared)
            declared["feeds"]["plan"]["days"] = "mon-fri"

        needed = load_changed("drugstore", on_weekdays).required_days(later(2))  # a Friday
        assert needed == [("plan", later(2))]

    def test_a_file_is_history_if_it_is_first_needed_before_live_from(self, project: Project) -> None:
        live = project.feeds["plan"].model_copy(update={"live_from": DAY})
        assert is_history(live, later(1))
        assert not is_history(live, later(2)), "the run of the first live day needs it first"
        assert usual_moment(project, "plan", later(2)) == project.cutoff_at(DAY)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d["feeds"]["plan"].update(delay_days=1), "ahead_days: what is known ahead has no delay"),
            (lambda d: d["entity"].update(horizon_days=3), "3 days ahead need the entities .*ahead_days is 2"),
            (lambda d: d["feeds"]["stores"].update(ahead_days=1), "ahead_days: a snapshot cannot have it"),
            (
                lambda d: d["feeds"]["plan"]["columns"].update(horizon={"type": "integer", "class": "public"}),
                "columns.horizon: the pipeline adds a column of that name",
            ),
            (
                lambda d: d["outcomes"].update(horizon={"feed": "sales", "sql": "pieces"}),
                "outcomes.horizon: features have a column of that name",
            ),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, load_changed: Load, change: Callable[[dict[str, Any]], None], message: str
    ) -> None:
        def both(declared: dict[str, Any]) -> None:
            ahead(declared)
            change(declared)

        with pytest.raises(ConfigError, match=message):
            load_changed("drugstore", both)

    def test_a_model_predicts_no_further_than_there_are_features(self) -> None:
        assert load_project("ferries").entity.horizon_days == 0
        slices = Slices(kind="slices", by=("horizon",))
        model = load_model("late_ferry")
        with pytest.raises(ValueError, match="no feature or group 'horizon'"):
            slices.require_fit(model)
        slices.require_fit(model.model_copy(update={"horizon_days": 1}))


class TestPointInTime:
    def test_late_plans_of_the_next_days_move_the_moment(self, project: Project) -> None:
        cutoff = project.cutoff_at(DAY)
        one, two = cutoff + timedelta(hours=1), cutoff + timedelta(hours=5)
        journal = listed(project, (DAY, cutoff), (later(1), two), (later(2), one), (later(3), cutoff))
        assert as_of(project, journal, DAY) == two
        known = known_deliveries(project, journal, Interval.of(DAY))
        assert known["day"].to_list() == [DAY, later(1), later(2)], "nothing of a day further ahead"

    def test_plans_that_come_after_the_next_cutoff_are_admitted_as_they_came_first(self, project: Project) -> None:
        cutoff, too_late = project.cutoff_at(DAY), project.cutoff_at(later(1)) + timedelta(hours=1)
        corrected = too_late + timedelta(hours=1)
        journal = listed(
            project, (DAY, cutoff), (later(1), too_late), (later(2), too_late), (later(1), corrected), (DAY, corrected)
        )
        assert as_of(project, journal, DAY) == cutoff
        known = known_deliveries(project, journal, Interval.of(DAY))
        assert known.select("day", "delivery_id").rows() == [(DAY, "0"), (later(1), "1"), (later(2), "2")]

    def test_a_correction_counts_for_run_dates_whose_cutoff_is_later(self, project: Project) -> None:
        early = [(later(n), project.cutoff_at(later(n - 2))) for n in range(5)]
        between = project.cutoff_at(later(1)) - timedelta(hours=1)
        known = known_deliveries(
            project, listed(project, *early, (later(2), between)), Interval(start=DAY, end=later(2))
        )
        of_day = known.filter(pl.col("day") == later(2))
        assert of_day.select("run_date", "delivery_id").rows() == [(DAY, "2"), (later(1), "5"), (later(2), "5")]

    def test_an_optional_plan_that_is_missing_is_said(self, load_changed: Load) -> None:
        project = load_changed("drugstore", ahead)
        known = pl.DataFrame({"run_date": [DAY], "feed": ["plan"], "day": [later(1)]})
        assert unknown_days(project, known, Interval.of(DAY))["plan"] == {DAY: [DAY, later(2)]}


class TestTraining:
    @pytest.fixture
    def rows(self) -> pl.DataFrame:
        """Two weeks of one entity, known two days ahead; the outcome of a day is its number."""
        return pl.DataFrame(
            [(later(n), h, "a", float(n + h)) for n in range(14) for h in range(3)],
            schema={"day": pl.Date, "horizon": pl.Int32, "entity_id": pl.String, LABEL: pl.Float64},
            orient="row",
        )

    @pytest.mark.parametrize("delay", [1, 5, 6, 7])
    def test_the_seasonal_naive_is_the_newest_same_weekday_that_the_run_date_knows(
        self, rows: pl.DataFrame, delay: int
    ) -> None:
        project = load_project("ferries")
        slow = project.feeds["logbook"].model_copy(update={"delay_days": delay})
        project = project.model_copy(update={"feeds": {**project.feeds, "logbook": slow}})
        found = rows.with_columns(
            naive=training_set.seasonal_naive(project, load_model("late_ferry"), rows, lambda _: rows)
        )
        assert found["naive"].drop_nulls().len() > 0
        for row in found.drop_nulls("naive").iter_rows(named=True):
            newest = (row["day"] - DAY).days - delay
            known = [n for n in range(newest + 1) if (row[LABEL] - n) % 7 == 0 and n < row[LABEL]]
            assert row["naive"] == max(known)

    def test_digests_depend_on_horizons_and_those_of_older_releases_count_still(self, rows: pl.DataFrame) -> None:
        plain = rows.filter(pl.col("horizon") == 0)
        days = Interval(start=DAY, end=later(15))
        made = [
            training_set.TrainingSet(
                DAY, datetime.now(UTC), LabelledRows.of(each), days, days, days, (), horizon_days=2
            )
            for each in (plain, rows, rows.with_columns(horizon=2 - pl.col("horizon")))
        ]
        assert len({each.digest for each in made}) == 3
        before = labelled_rows.rows_digest(plain.drop("horizon")), labelled_rows.rows_digest(rows)
        assert [[each.has_digest(known) for known in before] for each in made[:2]] == [[True, False], [False, True]]


def test_rows_made_without_horizons_are_of_horizon_0() -> None:
    old = pl.LazyFrame({"day": [DAY], "entity_id": ["a"]})
    assert with_horizon(old).collect()["horizon"].to_list() == [0]
    grown = old.with_columns(horizon=pl.lit(None, pl.Int32))
    assert with_horizon(grown).collect()["horizon"].to_list() == [0]
    assert key_in(old.collect_schema().names()) == ["day", "entity_id"]


def test_a_person_is_found_in_the_rows_about_their_days_and_in_no_others() -> None:
    person = Person((), HashKey.of("the hash key of the tests, which is long"), frozenset({(later(2), "a")}))
    rows = pl.DataFrame({"horizon": [0, 1, 2, 2], "entity_id": ["a", "a", "a", "b"]})
    assert person.rows_of(rows, DAY).to_list() == [False, False, True, False]
    assert person.rows_of(rows, later(1)).to_list() == [False, True, False, False]
    assert person.rows_of(rows, later(3)).to_list() == [False] * 4
    assert person.rows_of(rows.drop("horizon"), later(2)).to_list() == [True, True, True, False]
