"""drift: summaries that add up, effects by hand, and alerts within a budget. Numbers in, numbers out."""

import math
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from itertools import permutations
from typing import cast

import numpy as np
import polars as pl
import pytest

from include.config.loading import load_model, load_project
from include.monitoring.drift import DAYS_BEFORE, ROWS, DriftMonitor, Measured
from include.monitoring.drift_alerts import DEARER, OF_SLICES, Drifted, find_alert, repeated_day, strengths
from include.monitoring.drift_effects import Compared, Days, compare, evaluate
from include.monitoring.drift_summary import (
    MAX_SLICE_VALUES,
    Edges,
    Summarised,
    Summary,
    WatchedSeries,
    merge,
    summarise,
    summarise_day,
)

START, DAYS = date(2024, 1, 1), 120
SERIES = WatchedSeries("input", "x")


def normal(seed: int, rows: int = 400, mean: float = 0.0, deviation: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, deviation, rows)


EDGES = Edges.of_numbers(normal(999, 20_000))


def summaries(
    change: Callable[[int, np.ndarray], np.ndarray] = lambda day, x: x, rows: int = 400
) -> dict[date, Summary]:
    """Return days of a feature that never changes, each after `change`."""
    made = {n: change(n, normal(n, rows)) for n in range(DAYS)}
    return {START + timedelta(days=n): summarise(pl.Series(x), EDGES) for n, x in made.items()}


def evaluated(days: Mapping[date, Summary], edges: Edges = EDGES) -> Compared:
    return evaluate(Days.of(days, START, DAYS, edges.size), edges)


def found(days: Mapping[date, Summary], place: int, budget: float = 1) -> list[str]:
    compared = {SERIES: evaluated(days)}
    return [each.why for each in find_alert(compared, strengths(compared), place, budget)]


# --- summaries --------------------------------------------------------------------------------------------------------


def test_each_value_is_counted_once_and_the_ends_belong_to_the_training_data() -> None:
    edges = Edges.of_numbers(np.arange(100.0))
    first, over = edges.inside
    known = summarise(pl.Series([0.0, 99.0, 50.0, -0.5, 99.5, None, math.nan, math.inf]), edges)
    assert (known.rows, known.missing, sum(known.counts)) == (8, 3, 5)
    assert sum(known.counts[first:over]) == 3
    assert (known.low, known.high) == (-0.5, 99.5)


def test_a_few_distinct_values_and_a_frequent_one_have_counts_of_their_own() -> None:
    edges = Edges.of_numbers(np.array([0.0, 1, 2, 2]))
    assert edges.discrete
    assert [n for n in summarise(pl.Series([0.0, 1, 1, 2, 2, 2]), edges).counts if n] == [1, 2, 3]
    rain = Edges.of_numbers(np.array([0.0] * 900 + list(np.linspace(0.1, 5, 100))))
    assert not rain.discrete
    assert max(summarise(pl.Series([0.0] * 7 + [0.01] * 3), rain).counts) == 7


def test_summaries_add_up_to_the_summary_of_all_rows_in_any_order() -> None:
    parts = [normal(n, 50 + n) for n in range(4)]
    whole = summarise(pl.Series(np.concatenate(parts)), EDGES)
    merged = {merge([summarise(pl.Series(parts[n]), EDGES) for n in order]) for order in permutations(range(4))}
    [once] = merged
    assert (once.rows, once.counts, once.low, once.high) == (whole.rows, whole.counts, whole.low, whole.high)
    assert once.total == pytest.approx(whole.total) and once.squares == pytest.approx(whole.squares)


def test_the_order_of_rows_changes_nothing() -> None:
    values = normal(5)
    assert summarise(pl.Series(values), EDGES) == summarise(pl.Series(values[::-1].copy()), EDGES)


def test_labels_beyond_the_most_frequent_are_counted_together() -> None:
    edges = Edges.of_labels(pl.Series(["b", "a", "a"]))
    assert summarise(pl.Series(["a", "new", None, "newer", "b"]), edges) == Summary(5, 1, (1, 1, 2))


def test_slices_with_too_few_rows_are_left_out() -> None:
    rows = pl.DataFrame({"x": [1.0, 2, 3], "pier": ["N", "N", None]})
    edges = {"x": Edges.of_numbers(np.array([1.0, 2, 3])), "pier": Edges.of_labels(rows["pier"])}
    made = dict(summarise_day(rows, "input", edges, ["pier", "absent"], min_rows=2))
    assert [(s.feature, s.slice_value, each.rows) for s, each in made.items()] == [
        ("x", "all", 3), ("pier", "all", 3), ("x", "N", 2),
    ]  # fmt: skip


def test_at_most_so_many_values_of_a_slice_are_summarised_those_with_the_most_rows() -> None:
    values = [str(n) for n in range(MAX_SLICE_VALUES + 5) for _ in range(1 + (n == MAX_SLICE_VALUES + 4))]
    rows = pl.DataFrame({"x": [1.0] * len(values), "pier": values})
    made = dict(summarise_day(rows, "input", {"x": Edges.of_numbers(np.array([1.0]))}, ["pier"], min_rows=1))
    assert len(made) == 1 + MAX_SLICE_VALUES and made[WatchedSeries("input", "x", "pier", values[-1])].rows == 2


def test_hashes_of_identifiers_are_stored_neither_as_labels_nor_as_slices() -> None:
    """Edges are immutable, and neither `erase` nor `rehash` reads summaries."""
    person = "0123456789abcdef" * 2
    rows = pl.DataFrame({"x": ["a", person, f"{person}|7", "sealed:xyz"]})
    edges = Edges.of_labels(rows["x"])
    assert edges.labels == ("a",)
    assert summarise(rows["x"], edges).counts == (1, 3)
    made = dict(summarise_day(rows.with_columns(y=1.0, pier=rows["x"]), "input", {"y": EDGES}, ["pier"], min_rows=1))
    assert {series.slice_value for series in made} == {"all", "a"}


@pytest.mark.parametrize("name", ["rows", "count", "label"])
def test_a_label_can_have_any_name(name: str) -> None:
    edges = Edges.of_labels(pl.Series(name, ["b", "a", "a"]))
    assert summarise(pl.Series(name, ["a", "c"]), edges) == Summary(2, 0, (1, 0, 1))


@pytest.mark.parametrize("values", [[], [math.nan, math.inf], [1e308, -1e308, 1e308], [5.0]])
def test_edges_of_any_numbers_count_all_values(values: list[float]) -> None:
    edges = Edges.of_numbers(np.array(values))
    assert all(map(math.isfinite, (*edges.edges, edges.center, edges.scale)))
    found = summarise(pl.Series([0.0, 5.0, 1e308, None, math.nan, math.inf], dtype=pl.Float64), edges)
    assert (found.rows, found.missing, sum(found.counts)) == (6, 3, 3) and edges.inside


# --- effects ----------------------------------------------------------------------------------------------------------


def test_effects_by_hand() -> None:
    edges = Edges.of_numbers(np.arange(1000.0))
    before, now = (summarise(pl.Series(np.arange(1000.0) + by), edges) for by in (0.0, 144.3))
    days = Days.of({START: before, START + timedelta(days=1): now}, START, 2, edges.size)
    found = {name: each[1] for name, each in compare(days.summed([0]), days.summed([1]), edges).items()}
    assert found["shift"] == pytest.approx(144.3 / edges.scale, rel=1e-3)
    assert found["shift"] == pytest.approx(0.5, rel=1e-2)
    assert found["spread"] == pytest.approx(0, abs=1e-9)
    assert found["outside"] == pytest.approx(0.145, abs=0.001)
    assert 0 < found["shape"] < 1 and found["psi"] > 0.1


def test_labels_that_are_new_or_gone_are_shares_of_rows() -> None:
    edges = Edges.of_labels(pl.Series(["a", "b"]))
    before = summarise(pl.Series(["a"] * 75 + ["b"] * 25), edges)
    now = summarise(pl.Series(["a"] * 90 + ["c"] * 10), edges)
    days = Days.of({START: before, START + timedelta(days=1): now}, START, 2, edges.size)
    found = {name: each[1] for name, each in compare(days.summed([0]), days.summed([1]), edges).items()}
    assert (found["new"], found["vanished"]) == (pytest.approx(0.1), pytest.approx(0.25))


def test_weekdays_and_a_slow_season_are_no_effect() -> None:
    def season(day: int, x: np.ndarray) -> np.ndarray:
        return x + 0.02 * day + 3 * (day % 7 >= 5)

    compared = {SERIES: evaluated(summaries(season))}
    over = strengths(compared)
    assert [place for place in range(60, DAYS) if find_alert(compared, over, place, 1)] == []


@pytest.mark.parametrize(
    ("name", "change", "within"),
    [
        ("half a standard deviation", lambda x: x + 0.5, 1),
        ("a quarter", lambda x: x + 0.25, 10),
        ("half the variance", lambda x: x * 0.5**0.5, 1),
        ("missing", lambda x: np.where(np.arange(x.size) % 5 == 0, np.nan, x), 1),
        ("unit", lambda x: x * 60, 1),
        ("stuck", lambda x: x * 0 + x[0], 2),
    ],
)
def test_a_change_is_found(name: str, change: Callable[[np.ndarray], np.ndarray], within: int) -> None:
    days = summaries(lambda day, x: change(x) if day >= 100 else x)
    assert found(days, 99) == []
    assert any(found(days, 100 + n) for n in range(within)), name


def test_a_feature_that_varies_from_day_to_day_needs_a_larger_effect() -> None:
    """The same half standard deviation is found in a steady feature, and usual in a restless one."""

    def restless(day: int, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.add(x, normal(10_000 + day, 1)[0] + 0.5 * (day >= 100)))

    assert found(summaries(restless), 100) == []


def test_a_change_is_reported_once_and_again_only_if_it_grows() -> None:
    days = summaries(lambda day, x: x + 0.6 * (day >= 90) + 6 * (day >= 100))
    places = [place for place in range(85, 110) if found(days, place)]
    assert places[0] == 90 and 100 in places and len(places) <= 3


def test_an_alert_uses_up_the_budget_of_a_month() -> None:
    """A second feature changes two weeks later: by little it is no alert, and it is one with a larger budget."""
    one = evaluated(summaries(lambda day, x: x + 3.0 * (day >= 90)))
    small_change = evaluated(summaries(lambda day, x: x + 0.33 * (day >= 104)))
    compared = {SERIES: one, WatchedSeries("input", "y"): small_change}
    over = strengths(compared)
    assert 1 <= over[1, 104] < DEARER
    assert find_alert(compared, over, 104, 1) == []
    assert [each.series.feature for each in find_alert(compared, over, 104, 2)] == ["y"]
    assert find_alert({WatchedSeries("input", "y"): small_change}, over[1:], 104, 1)


def test_a_feature_that_follows_from_the_date_is_not_compared() -> None:
    weekday = Edges.of_numbers(np.arange(7.0))
    days = {
        START + timedelta(days=n): summarise(pl.Series([float(3 if n == 100 else n % 7)] * 50), weekday)
        for n in range(DAYS)
    }
    assert strengths({SERIES: evaluated(days, weekday)})[0, 100] == 0


def test_new_values_of_few_distinct_numbers_are_found_but_not_those_of_the_calendar() -> None:
    """Visibility ends at 10 miles, and most days have nothing else; a month is new each month."""
    sight, month = Edges.of_numbers(np.array([0.5, 2, 5, 10])), Edges.of_numbers(np.array([1.0, 2]))
    clear = {n: np.array([10.0] * 50 if n % 3 else [10.0] * 40 + [2.0, 5.0] * 5) for n in range(DAYS)}
    miles = {
        START + timedelta(days=n): summarise(pl.Series(x * (1.609 if n >= 100 else 1)), sight) for n, x in clear.items()
    }
    compared = evaluated(miles, sight)
    over = strengths({SERIES: compared})[0]
    assert over[99] < 1 <= over[100] and compared.effects[1]["new"][100] > 0.9
    months = {START + timedelta(days=n): summarise(pl.Series([1.0 + n // 30] * 50), month) for n in range(DAYS)}
    assert strengths({SERIES: evaluated(months, month)}).max() == 0


def test_a_slice_needs_larger_effects_and_leaves_those_of_all_rows_as_they_were() -> None:
    changed = evaluated(summaries(lambda day, x: x + 0.25 * (day >= 100)))
    stuck = evaluated(summaries(lambda day, x: x * 0 + x[0] if day >= 100 else x))
    slices = [WatchedSeries("input", "x", "pier", str(n)) for n in range(100)]
    alone = strengths({SERIES: changed})
    over = strengths({SERIES: changed, **dict.fromkeys(slices, changed)})
    assert (over[0] == alone[0]).all() and (over[1, 100:] < over[0, 100:] / OF_SLICES).all()
    assert strengths({slices[0]: stuck})[0, 101] < strengths({SERIES: stuck})[0, 101], "a quiet slice is not stuck"


def test_a_day_is_delivered_twice_if_most_features_repeat() -> None:
    before = [{"a": str(n), "b": str(n), "c": str(n), "weekly": str(n // 7)} for n in range(27)]
    same = {"a": "25", "b": "25", "c": "other", "weekly": "3"}
    assert repeated_day([*before, same]) == 2
    assert repeated_day([*before, same | {"b": "other"}]) is None
    assert repeated_day([*before[-7:], same]) is None, "too few days to know what is usual"
    assert repeated_day([*before, {"weekly": "3"}]) is None
    assert repeated_day([*({"a": each["a"]} for each in before), {"a": "25"}]) is None, "one can repeat by chance"


# --- the monitor ------------------------------------------------------------------------------------------------------


def test_the_number_of_rows_is_watched_and_both_references_are_stored() -> None:
    days = summaries(lambda day, x: np.repeat(x, 2) if day == 100 else x)
    run_date, training = START + timedelta(days=100), (START, START + timedelta(days=30))
    measured = Measured.of(
        Summarised({("input", "x"): EDGES}, {SERIES: days}, {run_date: 7}, {7: training}, [run_date])
    )
    assert [each.series for each in measured.find(run_date, 1)] == [ROWS]
    rows = {(row["feature"], row["reference"]): row for row in measured.rows(run_date)}
    assert set(rows) == {("(rows)", "weeks"), ("x", "weeks"), ("x", "training")}
    assert rows["x", "training"]["days"] == 7 and rows["x", "training"]["strength"] is None
    assert {row["model_version"] for row in rows.values()} == {7}


def test_a_training_of_years_ago_costs_no_more_and_is_compared_the_same() -> None:
    days = summaries()
    run_date, trained = START + timedelta(days=DAYS - 1), [START + timedelta(days=n) for n in range(31)]
    years = timedelta(days=1200)
    long_ago = {day - years: days[day] for day in trained}

    def measure(training: date, known: Mapping[date, Summary]) -> Measured:
        of = (training, training + timedelta(days=30))
        return Measured.of(Summarised({("input", "x"): EDGES}, {SERIES: known}, {run_date: 7}, {7: of}, [run_date]))

    near, far = measure(START, days), measure(START - years, {**long_ago, **days})
    assert far.rows(run_date) == near.rows(run_date)
    assert {row["reference"] for row in far.rows(run_date)} == {"weeks", "training"}
    assert len(far.compared[SERIES].stuck) == DAYS_BEFORE + 1


def test_a_run_date_before_all_summaries_has_no_results() -> None:
    """It must not be taken for one of the newest days."""
    days = summaries(lambda day, x: np.repeat(x, 2) if day == DAYS - 1 else x)
    early, newest = START - timedelta(days=1), START + timedelta(days=DAYS - 1)
    measured = Measured.of(Summarised({("input", "x"): EDGES}, {SERIES: days}, {}, {}, [early, newest]))
    assert measured.find(newest, 1) and measured.rows(newest)
    assert not measured.find(early, 1) and not measured.rows(early)


@pytest.mark.parametrize("known", ["new", "gone"])
def test_the_number_of_rows_is_that_of_the_features_that_a_day_has(known: str) -> None:
    days = summaries(lambda day, x: np.repeat(x, 2) if day == 100 else x)
    run_date, cut = START + timedelta(days=100), START + timedelta(days=95)
    some = {day: each for day, each in days.items() if (day >= cut) == (known == "new")}
    edges = {("input", name): EDGES for name in ("a", "x")}
    measured = Measured.of(Summarised(edges, {WatchedSeries("input", "a"): some, SERIES: days}, {}, {}, [run_date]))
    assert [each.series for each in measured.find(run_date, 1)] == [ROWS]


def test_slices_are_public_columns_of_the_entity() -> None:
    model, project = load_model("late_ferry"), load_project("ferries")
    with pytest.raises(ValueError, match="slices: ferries has no public column 'orign'"):
        DriftMonitor(slices=("orign",)).require_fit(model, project)
    assert DriftMonitor() in model.all_monitors


@pytest.mark.parametrize(
    ("why", "ago", "noticed"), [("shift", None, False), ("stuck", None, True), ("shift", 1, True), (None, 7, True)]
)
def test_readers_notice_only_what_is_surely_wrong(why: str | None, ago: int | None, noticed: bool) -> None:
    class Known:
        def find(self, day: date, budget: float) -> list[Drifted]:
            return [Drifted(SERIES, why, 1, 1.0, 0.1, 4.0)] if why else []

        def repeats(self, day: date) -> int | None:
            return ago

    alert = DriftMonitor()._alert(load_model("late_ferry").monitored, cast(Measured, Known()), START)
    assert alert is not None and bool(alert.effect) == noticed
