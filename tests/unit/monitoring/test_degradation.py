"""Degradation on made-up days: planted faults are found, and sound days raise nothing."""

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import numpy as np
import pytest

from include.config.loading import load_model
from include.monitoring.degradation import (
    AGE,
    ALL,
    CHAMPION,
    DUMMY,
    TREND,
    ComparedDay,
    DegradationMonitor,
    ModelAge,
    _alert,
)
from include.monitoring.records import DayValue

END = date(2013, 6, 30)
MODEL = load_model("late_ferry").monitored
MONITOR = DegradationMonitor()


def days_of(
    place: int,
    losses: np.ndarray,
    column: str = ALL,
    value: str = ALL,
    rows: int = 500,
    version: int | None = None,
) -> Iterator[ComparedDay]:
    """Return the newest days, the last loss being of END."""
    for age, loss in enumerate(reversed(losses)):
        day = END - timedelta(days=age)
        yield ComparedDay(day, day, place, 0 if place == DUMMY else 5 - place, column, value, rows, float(loss))


def sound(seed: int, days: int = 84) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses of the dummy baseline and of a champion that is 5 % better; both have bad and good days."""
    rng = np.random.default_rng(seed)
    dummy = 0.6 * rng.lognormal(sigma=0.25, size=days)
    return dummy, 0.95 * dummy * rng.lognormal(sigma=0.02, size=days)


def said(compared: Sequence[ComparedDay]) -> list[str]:
    found = (MONITOR.against_former(compared, END), MONITOR.trend(compared, END), MONITOR.by_slice(compared, END))
    return [each for each in found if each]


def test_sound_days_raise_nothing() -> None:
    """Former champions as good as the champion, and 50 slices in which it is no better than the dummy baseline.

    Of 40 such cases none raised anything either.
    """
    raised = 0
    for seed in range(4):
        dummy, own = sound(seed)
        rng = np.random.default_rng(1000 + seed)
        compared = [*days_of(DUMMY, dummy), *days_of(CHAMPION, own)]
        for place in (1, 2, 3):
            compared += days_of(place, own * rng.lognormal(sigma=0.02, size=len(own)))
        for n in range(50):
            compared += days_of(DUMMY, dummy, "origin", str(n), 20)
            compared += days_of(CHAMPION, dummy * rng.lognormal(sigma=0.15, size=len(own)), "origin", str(n), 20)
        raised += len(said(compared))
    assert raised == 0


def test_a_former_champion_that_is_better_is_named() -> None:
    """The relation shifted back, so that the champion before the last one is right again."""
    dummy, own = sound(1)
    compared = [*days_of(DUMMY, dummy), *days_of(CHAMPION, own), *days_of(1, own), *days_of(2, own * 0.85)]
    [found] = said(compared)
    assert "17.6% over that of former champion 3 on 28 days" in found and "former champion 4" not in found


def test_a_champion_under_the_dummy_baseline_is_reported_after_min_days() -> None:
    dummy, own = sound(2)
    own[-12:] = dummy[-12:] * 1.4
    found = MONITOR.against_former([*days_of(DUMMY, dummy[-12:]), *days_of(CHAMPION, own[-12:])], END)
    assert "40.0% over the dummy baseline's on 12 days" in found
    few = [*days_of(DUMMY, dummy[-9:]), *days_of(CHAMPION, own[-9:])]
    assert MONITOR.against_former(few, END) == "", "9 days are fewer than min_days"


def test_days_that_the_run_date_does_not_look_at_change_nothing() -> None:
    dummy, own = sound(2)
    own[:-28] = 9.0
    compared = [*days_of(DUMMY, dummy), *days_of(CHAMPION, own)]
    assert MONITOR.against_former(compared, END) == ""
    assert MONITOR.against_former(compared, END - timedelta(days=14)) != ""


def test_one_bad_slice_among_fifty_is_found_and_no_other() -> None:
    dummy, own = sound(3, 28)
    rng = np.random.default_rng(4)
    compared = [*days_of(DUMMY, dummy), *days_of(CHAMPION, own)]
    for n in range(50):
        bad = 1.5 if n == 17 else 1.0
        compared += days_of(DUMMY, dummy, "origin", str(n), 20)
        compared += days_of(CHAMPION, own * bad * rng.lognormal(sigma=0.15, size=28), "origin", str(n), 20)
    found = MONITOR.by_slice(compared, END)
    assert found.startswith("of 50 slices, its loss is ") and found.count("the dummy baseline's in") == 1
    assert "in origin=17 on 28 days" in found
    small = [each for each in compared if each.day > END - timedelta(days=12)]
    assert MONITOR.by_slice(small, END) == "", "240 rows of a slice are fewer than slice_rows"


def test_a_slow_rise_of_the_loss_is_found_over_the_weeks_and_a_harder_season_is_not() -> None:
    dummy, own = sound(5)
    harder = np.linspace(1, 2, len(own))
    assert MONITOR.trend([*days_of(DUMMY, dummy * harder), *days_of(CHAMPION, own * harder)], END) == ""
    worse = np.linspace(1, 1.25, len(own))
    found = MONITOR.trend([*days_of(DUMMY, dummy), *days_of(CHAMPION, own * worse)], END)
    assert "relative to the dummy baseline's, rose by" in found and "over 12 weeks" in found
    one_bad_week = np.ones(len(own))
    one_bad_week[-7:] = 3
    assert MONITOR.trend([*days_of(DUMMY, dummy), *days_of(CHAMPION, own * one_bad_week)], END) == ""


def values(numbers: np.ndarray | list[float]) -> list[DayValue]:
    return [DayValue(END - timedelta(days=age), 1, float(number)) for age, number in enumerate(numbers)]


def test_a_level_that_is_off_is_found_beyond_chance() -> None:
    rng = np.random.default_rng(6)
    noise = rng.normal(scale=0.06, size=28)
    assert MONITOR.calibration(MODEL, values(noise), [], END) == ""
    assert MONITOR.calibration(MODEL, values(noise + 0.105), [], END) == "", "over the limit, and within chance"
    assert "mean score is off by +0.15" in MONITOR.calibration(MODEL, values(noise + 0.15), [], END)
    assert "is off by -0.14" in MONITOR.calibration(MODEL, values(noise - 0.15), [], END)


def test_a_mean_error_is_compared_with_the_days_before() -> None:
    """A median of skewed outcomes is always below their mean, which is no fault."""
    model = dataclasses.replace(MODEL, problem_type="regression")
    rng = np.random.default_rng(7)
    errors = rng.normal(-6, 1, size=84)  # the newest first
    scale = values([10.0] * 84)
    assert MONITOR.calibration(model, values(errors), scale, END) == ""
    errors[:28] -= 5
    assert "mean error changed by -5" in MONITOR.calibration(model, values(errors), scale, END)


@pytest.mark.parametrize(("days", "old"), [(92, False), (93, True)])
def test_a_champion_has_an_age(days: int, old: bool) -> None:
    champion = ModelAge(7, END - timedelta(days=days))
    assert bool(MONITOR.age(champion, END)) == old
    assert MONITOR.age(ModelAge(7, None), END) == "" == MONITOR.age(None, END)
    assert DegradationMonitor(max_age_days=None).age(champion, END) == ""


def test_readers_notice_poor_scores_but_not_the_age_of_a_version() -> None:
    assert _alert(MODEL, TREND, END, "it rose").effect == "scores are published, but worse than they could be"
    assert _alert(MODEL, AGE, END, "it is old").effect == ""
