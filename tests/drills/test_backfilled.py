"""The story of `tests/flights/e2e/test_backfilled.py`, about a week."""

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


# pytest runs the tests in the order of this file, which is that of the story
test_lived = e2e.test_the_nights_are_lived
test_backfilled = e2e.test_replayed_from_landing_they_are_the_same_to_the_bit
test_made_again = e2e.test_what_a_later_delivery_put_out_of_date_is_listed_and_can_be_made_again
