"""`python -m bench.drift`: what the monitor `drift` finds in a real year, and what it costs.

The features of the flights of 2013 are made by `bench/bare.py`, which makes the same ones as the product. Edges are
frozen from the first 59 days, as from the training data of a first champion. Then

1. every alert of January to June, on which the default limits were chosen, and of July to December, with the slices
   that the example projects declare;
2. shifts of known size are injected into July to December, and a table says after how many days each is found, in all
   rows and in one value of a slice;
3. the power that the best test of a mean could have, from how much the means of days differ anyway;
4. a day of a million rows and 200 features is summarised, in core-seconds.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from statistics import NormalDist, median

import numpy as np
import polars as pl

from bench.bare import count_late, features_of, late_rates, make_features
from bench.results import Result
from include.config.loading import load_model
from include.monitoring.drift import Measured, _sentence
from include.monitoring.drift_alerts import Drifted, find_alert, strengths
from include.monitoring.drift_effects import Compared, Days, evaluate
from include.monitoring.drift_summary import Edges, Summarised, Summary, WatchedSeries, summarise, summarise_day
from include.projects.flights import simulate
from include.projects.stores import simulate as stores
from tools.console import console_for_people

ZONE = "America/New_York"
DAYS = 364
TRAINED_DAYS = 59
HALF = 181  # the first of July
STARTS = tuple(HALF + n for n in (35, 42, 81, 88, 129, 135, 141))
"""5 August to 19 November, without an alert in the 30 days before: a second one within the budget needs more."""

COST_GOAL = 60

console = console_for_people()


def flights_year() -> pl.DataFrame:
    """Return the features of all flights of 2013, with `late_arrival`, the outcome."""
    days = [simulate.SOURCE_START + timedelta(days=n) for n in range(DAYS)]
    flights = pl.concat([simulate.FEEDS["schedule"](ZONE, day).with_columns(day=pl.lit(day)) for day in days])
    weather = pl.concat([simulate.FEEDS["weather"](ZONE, day).with_columns(day=pl.lit(day)) for day in days])
    measured = [name for name in weather.columns if weather.schema[name] == pl.Float64]
    known = ("carrier", "flight", "origin", "dest", "scheduled_departure", "scheduled_arrival_local",
             "distance_miles", "is_holiday", "day")  # fmt: skip
    rates = {by: late_rates(counts, by) for by, counts in count_late(flights).items()}
    made = features_of(
        make_features(flights.select(known), weather.select("origin", "observed_at", "day", *measured), rates)
    )
    late = pl.col("arr_delay_minutes").is_null() | (pl.col("arr_delay_minutes") > 15)
    moment = pl.col("scheduled_departure").dt.strftime("%Y%m%dT%H%MZ")
    entity_id = pl.concat_str("carrier", "flight", "origin", moment, separator="-").alias("entity_id")
    outcome = flights.select("day", entity_id, late.cast(pl.Float64).alias("late_arrival"))
    return made.join(outcome, on=["day", "entity_id"]).sort("day", "entity_id")


def stores_year() -> pl.DataFrame:
    """Return features of each department of each store and day of 2017, and `units_sold`, the outcome.

    They are those of horizon 0 that follow from plan, promotions and sales; lags by week and rates of the whole store
    are left out.
    """
    zone, parts = "America/New_York", []
    for day in (stores.SOURCE_START + timedelta(days=n) for n in range(DAYS)):
        known = stores.FEEDS["plan"](zone, day).drop("manager_email", "trade_day")
        known = known.join(stores.FEEDS["promotions"](zone, day).drop("valid_on"), on=["store", "department"])
        sold = stores.FEEDS["settled"](zone, day).select("store", "department", "units", "receipts", "coupons")
        parts.append(known.join(sold, on=["store", "department"]).with_columns(day=pl.lit(day)))
    rows = pl.concat(parts).sort("store", "department", "day")
    group = ["store", "department"]
    windows = [
        pl.col(name).shift(1).rolling_mean(days, min_samples=1).over(group).alias(f"{name}_store_department_{days}d")
        for name in ("units", "receipts", "coupons")
        for days in (7, 28)
    ]
    return rows.with_columns(*windows, units_sold=pl.col("units").cast(pl.Float64)).sort("day", *group)


@dataclass(frozen=True)
class Year:
    """A year of features, summarised by day.

    Attributes:
        start: the first day.
        rows: the features of each day.
        edges: by feature.
        outcome: the feature that is the outcome.
    """

    start: date
    rows: Mapping[date, pl.DataFrame]
    edges: Mapping[str, Edges]
    outcome: str = ""
    slices: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        features: pl.DataFrame,
        numeric: tuple[str, ...],
        labels: tuple[str, ...],
        outcome: str,
        **about: tuple[str, ...],
    ) -> "Year":
        """Freeze the edges from the first days."""
        start = features["day"].min()
        assert isinstance(start, date)
        trained = features.filter(pl.col("day") < start + timedelta(days=TRAINED_DAYS))
        numbers = trained.select(pl.col(*numeric, outcome).cast(pl.Float64).fill_null(float("nan")))
        edges = {name: Edges.of_numbers(numbers[name].to_numpy()) for name in numbers.columns}
        edges |= {name: Edges.of_labels(trained[name]) for name in labels}
        days = {
            day: part for (day,), part in features.partition_by("day", as_dict=True).items() if isinstance(day, date)
        }
        return cls(start, dict(sorted(days.items())), edges, outcome, about.get("slices", ()))

    def day(self, place: int) -> date:
        """Return the day of a place."""
        return self.start + timedelta(days=place)

    @cached_property
    def summarised(self) -> Summarised:
        """The summaries of all days."""
        found: dict[WatchedSeries, dict[date, Summary]] = {}
        for day, rows in self.rows.items():
            inputs = {name: each for name, each in self.edges.items() if name != self.outcome}
            parts = [("input", inputs, self.slices), ("outcome", {self.outcome: self.edges[self.outcome]}, ())]
            for role, edges, slices in parts:
                for series, summary in summarise_day(rows, role, edges, slices, 30):
                    found.setdefault(series, {})[day] = summary
        roles = {(series.role, series.feature): self.edges[series.feature] for series in found}
        return Summarised(roles, found, {}, {}, [max(self.rows)])

    @cached_property
    def measured(self) -> Measured:
        """All days, compared with the weeks before."""
        return Measured.of(self.summarised)

    def alerts(self, first: int, last: int) -> Iterator[tuple[date, list[Drifted]]]:
        """Yield each day with an alert."""
        for place in range(first, last):
            if found := self.measured.find(self.day(place), 1):
                yield self.day(place), found
            elif self.measured.repeats(self.day(place)):
                yield self.day(place), []


@dataclass(frozen=True)
class Shift:
    """A change of known size.

    Attributes:
        name: what is done.
        within: days within which it is to be found.
        change: gets the values of a feature, its name and the day, returns the changed ones.
        features: those that are changed, one after the other.
    """

    name: str
    within: int
    change: Callable[[pl.Series, str, date], pl.Series]
    features: tuple[str, ...]


def found_after(
    year: Year, changed: Mapping[WatchedSeries, Mapping[date, Summary]], start: int, days: int
) -> int | None:
    """Return on which day after the start one of the changed series raises an alert, None if on none of `days`."""
    compared: dict[WatchedSeries, Compared] = dict(year.measured.compared)
    for series, summaries in changed.items():
        edges = year.edges[series.feature]
        of_series = {**year.summarised.days[series], **summaries}
        compared[series] = evaluate(
            Days.of(of_series, year.start, len(next(iter(compared.values())).stuck), edges.size), edges
        )
    over = strengths(compared)
    for place in range(start, start + days):
        if any(found.series in changed for found in find_alert(compared, over, place, 1)):
            return place - start + 1
    return None


def changed_days(
    year: Year, shift: Shift, feature: str, start: int, days: int
) -> dict[WatchedSeries, dict[date, Summary]]:
    """Return the summaries of a feature on the changed days."""
    edges, made = year.edges[feature], {}
    for place in range(start, start + days):
        day = year.day(place)
        if day in year.rows:
            values = year.rows[day][feature]
            made[day] = summarise(
                shift.change(values if edges.is_label else values.cast(pl.Float64), feature, day), edges
            )
    return {WatchedSeries("input", feature): made}


def all_shifts(year: Year, numbers: tuple[str, ...], labels: tuple[str, ...]) -> list[Shift]:
    """Return the shifts, with the days within which they are to be found."""
    first_half = pl.concat([rows for day, rows in year.rows.items() if day < year.day(HALF)])
    deviations = {name: float(first_half[name].cast(pl.Float64).std() or 0) for name in numbers}  # type: ignore[arg-type]

    def moved(by: float) -> Callable[[pl.Series, str, date], pl.Series]:
        return lambda values, name, day: values + by * deviations[name]

    def scaled(by: float) -> Callable[[pl.Series, str, date], pl.Series]:
        return lambda values, name, day: (values - values.mean()) * by**0.5 + values.mean()

    def gaps(values: pl.Series, name: str, day: date) -> pl.Series:
        lost = np.random.default_rng(day.toordinal()).random(values.len()) < 0.2
        return pl.Series(np.where(lost, np.nan, values.fill_null(np.nan).to_numpy()))

    def stuck(values: pl.Series, name: str, day: date) -> pl.Series:
        known = values.drop_nulls()
        return pl.Series([known[0] if known.len() else 0.0] * values.len(), dtype=pl.Float64)

    def mixed(values: pl.Series, name: str, day: date) -> pl.Series:
        return mix_labels(values, day)

    return [
        Shift("mean + 0.5 standard deviations", 3, moved(0.5), numbers),
        Shift("mean + 0.25 standard deviations", 10, moved(0.25), numbers),
        Shift("variance - 50 %", 5, scaled(0.5), numbers),
        Shift("variance + 50 %", 5, scaled(1.5), numbers),
        Shift("labels: Jensen-Shannon distance 0.1", 3, mixed, labels),
        Shift("20 points more missing", 2, gaps, numbers),
        Shift("stuck at one value", 2, stuck, numbers),
    ]


def mix_labels(values: pl.Series, day: date) -> pl.Series:
    """Return labels of which some became the most frequent one: as many as make a Jensen-Shannon distance of 0.1."""
    counted = values.value_counts(sort=True)
    top, shares = counted[values.name][0], counted["count"].to_numpy() / values.len()
    low, high = 0.0, 1.0
    for _ in range(30):
        share = (low + high) / 2
        other = (1 - share) * shares
        other[0] += share
        middle = (shares + other) / 2
        distance = np.sqrt((np.sum(shares * np.log2(shares / middle)) + np.sum(other * np.log2(other / middle))) / 2)
        low, high = (low, share) if distance > 0.1 else (share, high)
    hit = np.random.default_rng(day.toordinal()).random(values.len()) < low
    return pl.Series(values.name, [top if each else value for each, value in zip(hit, values, strict=True)])


UNITS: Mapping[str, tuple[str, Callable[[pl.Series], pl.Series]]] = {
    "temperature_f": ("°F to °C", lambda values: (values - 32) / 1.8),
    "dew_point_f": ("°F to °C", lambda values: (values - 32) / 1.8),
    "distance_miles": ("miles to km", lambda values: values * 1.609),
    "visibility_miles": ("miles to km", lambda values: values * 1.609),
    "wind_speed_mph": ("mph to km/h", lambda values: values * 1.609),
    "pressure_millibars": ("millibars to inches", lambda values: values * 0.02953),
    "departure_hour": ("hours to minutes", lambda values: values * 60),
    "humidity_percent": ("percent to share", lambda values: values / 100),
}
SWAPS = (
    ("departure_hour", "distance_miles"),
    ("temperature_f", "pressure_millibars"),
    ("temperature_f", "humidity_percent"),
    ("wind_speed_mph", "visibility_miles"),
    ("temperature_f", "dew_point_f"),
)


STORE_NUMBERS = (
    "promoted_products", "mailer_share", "on_display", "on_front_page", "units_store_department_7d",
    "units_store_department_28d", "receipts_store_department_7d", "receipts_store_department_28d",
    "coupons_store_department_7d", "coupons_store_department_28d",
)  # fmt: skip
STORE_SWAPS = (
    ("units_store_department_7d", "receipts_store_department_7d"),
    ("promoted_products", "units_store_department_28d"),
)


def report_shifts(
    year: Year,
    shifts: list[Shift],
    units: Mapping[str, tuple[str, Callable[[pl.Series], pl.Series]]] = UNITS,
    swaps: tuple[tuple[str, str], ...] = SWAPS,
) -> None:
    """Print for each shift and feature, how often it was found in time, and the median of the days."""
    console.print("\n| shift | to be found within | feature | in time | median day |\n|---|---|---|---|---|")
    for shift in shifts:
        for feature in shift.features:
            days = max(shift.within, 10)
            after = [found_after(year, changed_days(year, shift, feature, s, days), s, days) for s in STARTS]
            print_row(shift.name, shift.within, feature, after)
    for feature, (name, change) in units.items():
        unit = Shift(name, 1, lambda values, name, day, change=change: change(values), (feature,))  # type: ignore[misc]
        after = [found_after(year, changed_days(year, unit, feature, s, 3), s, 3) for s in STARTS]
        print_row(f"unit: {name}", 1, feature, after)
    for one, other in swaps:
        after = []
        for start in STARTS:
            both: dict[WatchedSeries, dict[date, Summary]] = {}
            for name, taken in ((one, other), (other, one)):
                swap = Shift("", 1, lambda values, name, day, taken=taken: year.rows[day][taken].cast(pl.Float64), ())  # type: ignore[misc]
                both |= changed_days(year, swap, name, start, 3)
            after.append(found_after(year, both, start, 3))
        print_row("two columns swapped", 1, f"{one}, {other}", after)


def report_slice(year: Year, column: str, value: str, feature: str, shift: Shift) -> None:
    """Print when a shift of one value of a slice is found, in the slice or in all rows."""
    edges, after = year.edges[feature], []
    for start in STARTS:
        both: dict[WatchedSeries, dict[date, Summary]] = {}
        for place in range(start, start + shift.within):
            day = year.day(place)
            if day not in year.rows:
                continue
            rows = year.rows[day]
            values = rows[feature].cast(pl.Float64)
            changed = rows.select(
                pl.when(pl.col(column) == value).then(shift.change(values, feature, day)).otherwise(values).alias("x"),
                is_in=pl.col(column) == value,
            )
            of_slice = changed.filter("is_in")["x"]
            both.setdefault(WatchedSeries("input", feature), {})[day] = summarise(changed["x"], edges)
            both.setdefault(WatchedSeries("input", feature, column, value), {})[day] = summarise(of_slice, edges)
        after.append(found_after(year, both, start, shift.within))
    print_row(f"{column}={value}: {shift.name}", shift.within, feature, after)


def report_power(year: Year, features: tuple[str, ...]) -> None:
    """Print how often the best test of a mean could find a shift, at the rate of false alerts that the budget allows.

    All rows of a day can share their value, so days are what is counted. The mean of the newest days, less that of the
    same weekdays of four weeks before, differs from 0 anyway; its standard deviation in the first half year is known to
    this test, and the difference is taken for normal. No test of the same differences finds a shift of the mean more
    often (Neyman and Pearson).
    """
    console.print(
        "\n| feature | a day's mean differs by | power: 0.5 in 3 days | 0.25 in 10 days | 90 % power at, in 3 days |"
        "\n|---|---|---|---|---|"
    )
    alpha = 1 / (30 * len(features))
    needed = NormalDist().inv_cdf(1 - alpha / 2)
    for feature in features:
        scale = year.edges[feature].scale
        means = {day: rows[feature].cast(pl.Float64).fill_nan(None).mean() for day, rows in year.rows.items()}
        known = [means.get(year.day(place)) for place in range(HALF)]
        daily = np.array([np.nan if each is None else float(each) for each in known]) / scale  # type: ignore[arg-type]
        apart = daily[28:] - sum(daily[28 - 7 * n : HALF - 7 * n] for n in range(1, 5)) / 4

        def spread(days: int, apart: np.ndarray = apart) -> float:
            return float(np.nanstd(np.convolve(apart, np.ones(days) / days, mode="valid")))

        powers = [1 - NormalDist().cdf(needed - shift / spread(days)) for shift, days in ((0.5, 3), (0.25, 10))]
        enough = (needed + NormalDist().inv_cdf(0.9)) * spread(3)
        console.print(f"| {feature} | {spread(1):.2f} | {powers[0]:.0%} | {powers[1]:.0%} | {enough:.2f} |")


def report_slices(year: Year, column: str, value: str, features: tuple[str, ...]) -> None:
    """Print when shifts of one value of a slice are found."""
    for shift in all_shifts(year, features, ()):
        for feature in shift.features:
            report_slice(year, column, value, feature, shift)
    unit = Shift("another unit (times 12)", 1, lambda values, name, day: values * 12, features)
    for feature in features:
        report_slice(year, column, value, feature, unit)


def report_twice(year: Year) -> None:
    """Print when a day is noticed that has the rows of the day before, and one whose rows come twice."""
    again, doubled = [], []
    for start in STARTS:
        days = {
            series: {**found, year.day(start): found[year.day(start - 1)]}
            for series, found in year.summarised.days.items()
            if year.day(start - 1) in found
        }
        again.append(1 if Measured.of(replace(year.summarised, days=days)).repeats(year.day(start)) else None)
        rows = year.rows[year.day(start)]
        twice = {
            series: {
                **found,
                year.day(start): summarise(pl.concat([rows[series.feature]] * 2), year.edges[series.feature]),
            }
            for series, found in year.summarised.days.items()
            if series.slice == "all"
        }
        found_now = Measured.of(replace(year.summarised, days=twice)).find(year.day(start), 1)
        doubled.append(1 if any(each.why == "rows" for each in found_now) else None)
    print_row("the day before, again", 1, "all", again)
    print_row("each row twice", 1, "(rows)", doubled)


def print_row(name: str, within: int, feature: str, after: list[int | None]) -> None:
    """Print a row of the table of shifts."""
    in_time = sum(each is not None and each <= within for each in after)
    known = [each for each in after if each is not None]
    console.print(
        f"| {name} | {within} | {feature} | {in_time} of {len(after)} | {median(known) if known else 'never'} |"
    )


def report_alerts(year: Year, name: str) -> None:
    """Print every alert of both half years."""
    for first, last, half in ((0, HALF, "first half, on which the limits were chosen"), (HALF, DAYS, "second half")):
        console.print(f"\n{name}, {half}:\n\n| day | series | worst |\n|---|---|---|")
        for day, found in year.alerts(first, last):
            worst = (
                f"{_sentence(found[0])} ({found[0].strength:.2f} times the limit)"
                if found
                else "the values of another day"
            )
            console.print(f"| {day:%a %Y-%m-%d} | {len(found)} | {worst} |")


def results(rows: int = 1_000_000, features: int = 200, tried: int = 20) -> list[Result]:
    """Return the core-seconds of the summary of a day, from some of its features."""
    rng = np.random.default_rng(1)
    frame = pl.DataFrame({f"f{n}": rng.normal(size=rows) for n in range(tried)})
    edges = {name: Edges.of_numbers(frame[name].head(100_000).to_numpy()) for name in frame.columns}
    began = time.process_time()
    for _ in summarise_day(frame, "input", edges, (), 30):
        pass
    spent = (time.process_time() - began) * features / tried
    goal = f"drift of a day, {rows:,} rows and {features} features"
    return [Result(goal, f"{COST_GOAL} core-seconds", spent, "core-seconds", spent <= COST_GOAL)]


def main() -> None:
    """Print everything."""
    model = load_model("late_arrival")
    year = Year.of(flights_year(), model.numeric, model.categorical, "late_arrival", slices=("origin",))
    report_alerts(year, "flights")
    numbers = tuple(name for name in model.numeric if not year.edges[name].discrete and name != "weather_missing")
    report_shifts(year, all_shifts(year, numbers, model.categorical))
    report_twice(year)
    report_slices(year, "origin", "LGA", ("distance_miles", "departure_hour", "temperature_f"))
    report_power(year, numbers)
    numbers = tuple(name for name in STORE_NUMBERS)
    year = Year.of(stores_year(), numbers, ("store", "department"), "units_sold", slices=("department",))
    report_alerts(year, "stores")
    numbers = tuple(name for name in numbers if not year.edges[name].discrete)
    report_shifts(year, all_shifts(year, numbers, ("store", "department")), units={}, swaps=STORE_SWAPS)
    report_twice(year)
    report_slices(year, "department", "GROCERY", ("units_store_department_7d", "receipts_store_department_28d"))
    report_power(year, numbers)
    (cost,) = results()
    console.print(f"\n{cost.goal}: {cost.figure:.1f} {cost.unit} (goal: {COST_GOAL})")


if __name__ == "__main__":
    main()
