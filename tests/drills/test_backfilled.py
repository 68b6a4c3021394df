"""The tests of `tests/flights/e2e/test_backfilled.py`, for a week."""

from collections.abc import Iterator
from datetime import date

import pytest

from include.core.interval import Interval
from tests.flights.e2e import test_backfilled as e2e
from tests.flights.e2e.test_backfilled import Story, airflow, pytestmark  # noqa: F401


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with e2e.begin_story(Interval(start=e2e.FIRST, end=date(2013, 2, 20)), corrected_from=date(2013, 2, 19)) as story:
        yield story


# pytest runs the tests in the order of this file, in which they build on each other
test_lived = e2e.test_nightly_runs_succeed_and_promote
test_backfilled = e2e.test_a_backfill_from_landing_gives_the_same_results_to_the_bit
test_made_again = e2e.test_days_that_a_correction_put_out_of_date_are_listed_and_can_be_rebuilt
