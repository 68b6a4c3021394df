"""The story of `tests/flights/e2e/test_backfilled.py`, of a week."""

from collections.abc import Iterator
from datetime import date

import pytest

from include.core.interval import Interval
from tests.flights.e2e import test_backfilled as told
from tests.flights.e2e.test_backfilled import Story, airflow, pytestmark  # noqa: F401


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with told.begin_story(Interval(start=told.FIRST, end=date(2013, 2, 20)), corrected_from=date(2013, 2, 19)) as story:
        yield story


# in the order of the story, which is that of this file
test_lived = told.test_the_nights_are_lived
test_backfilled = told.test_replayed_from_landing_they_are_the_same_to_the_bit
test_made_again = told.test_what_a_later_delivery_put_out_of_date_is_listed_and_can_be_made_again
