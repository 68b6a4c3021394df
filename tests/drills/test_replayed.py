"""The story of `tests/e2e/test_replayed.py`, of a week."""

from collections.abc import Iterator
from datetime import date

import pytest

from include.contracts import Interval
from tests.e2e.test_replayed import (  # noqa: F401
    FIRST,
    Story,
    airflow,
    pytestmark,
    telling,
    test_replayed_from_landing_they_are_the_same_to_the_bit,
    test_the_nights_are_lived,
    test_what_a_later_delivery_put_out_of_date_is_listed_and_can_be_made_again,
)


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with telling(Interval(start=FIRST, end=date(2013, 2, 20)), corrected_from=date(2013, 2, 19)) as story:
        yield story
