"""Whatever comes later, a prepared day stays as it is; and whatever is killed and repeated, the end is the same.

Hypothesis makes up what happens: files on time and late, corrections, overwritten snapshots, decisions, nights, and
steps that are killed at some write. The steps are the real ones, on PostgreSQL and Delta. In place of the features,
the tests compare the rows that features are built of; `test_features.py` shows that equal rows make equal features.
"""

from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.conftest import Install
from tests.integration.nights import installed

pytestmark = pytest.mark.timeout(600)

FIRST = date(2026, 11, 9)
DAYS = [FIRST + timedelta(days=n) for n in range(3)]
HOURS = st.sampled_from((-30, -9, -1, 1, 30))
"""Hours from the cutoff of a day to a file: on time, late, and after the next cutoff."""

PLAN = st.tuples(st.just("plan"), st.sampled_from(DAYS), HOURS, st.integers(1, 3))
SALES = st.tuples(st.just("sales"), st.sampled_from(DAYS), HOURS, st.integers(1, 3))
STORES = st.tuples(st.just("stores"), st.sampled_from(DAYS), HOURS, st.integers(1, 2))
DECISION = st.tuples(st.sampled_from(("accept", "withdraw")), st.integers(0, 5))
NIGHT = st.tuples(st.just("night"), st.sampled_from(DAYS), st.integers(0, 7))
EVENTS = st.lists(st.one_of(PLAN, SALES, STORES, DECISION, NIGHT), min_size=6, max_size=14)
HISTORY = [("plan", day, -9, 1) for day in DAYS] + [("stores", FIRST, -30, 1), ("night", FIRST, 0)]


def checked(examples: int) -> hypothesis_settings:
    return hypothesis_settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


FEW, MANY = checked(3), checked(60)
"""Examples in CI, where each takes seconds, and in a drill. Only the drill kills."""


@FEW
@given(EVENTS)
def test_no_later_event_changes_what_a_prepared_day_is_made_of(install: Install, events: list[tuple]) -> None:
    assert_unchanged(install, events)


@pytest.mark.drill
@pytest.mark.timeout(3600)
@MANY
@given(EVENTS)
def test_no_later_event_of_many_changes_what_a_prepared_day_is_made_of(install: Install, events: list[tuple]) -> None:
    assert_unchanged(install, events)


@pytest.mark.drill
@pytest.mark.timeout(3600)
@MANY
@given(EVENTS)
def test_killing_and_repeating_ends_the_same(install: Install, events: list[tuple]) -> None:
    assert_same_end(install, events)


def assert_unchanged(install: Install, events: list[tuple]) -> None:
    with installed(install) as installation:
        for event in [*HISTORY, *events]:
            installation.happens(event)
            for day, rows in installation.made_of.items():
                for before, now in zip(rows, installation.rows(day), strict=True):
                    assert before.equals(now), (day, event)
        assert FIRST in installation.made_of


def assert_same_end(install: Install, events: list[tuple]) -> None:
    """Let the same happen once with nights that are killed and repeated, and once without kills."""
    with installed(install) as killed, installed(install) as whole:
        whole.kills = False
        for event in [*HISTORY, *events, *(("night", day, 0) for day in DAYS)]:
            killed.happens(event)
            whole.happens(event)
        assert killed.end() == whole.end()
