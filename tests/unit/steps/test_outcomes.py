"""outcomes: which delivery the outcomes of a day come from. The whole step is in tests/integration/test_outcomes.py."""

from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from include.config.loading import load_project
from include.core import schemas
from include.core.project import Project
from include.io.postgres.outcomes import OutcomeDelivery
from include.steps.outcomes import _newest

SATURDAY = date(2013, 3, 2)
"""The run of Sunday needs its logbook, which is a day late."""


def project(**changed: Any) -> Project:
    found = load_project("ferries")
    logbook = found.feeds["logbook"].model_copy(update=changed)
    return found.model_copy(update={"feeds": {**found.feeds, "logbook": logbook}})


def listing(*deliveries: tuple[date, datetime]) -> pl.DataFrame:
    rows = [
        {
            "feed": "logbook",
            "day": day,
            "delivery_id": f"{day}/{n}",
            "available_from": at,
            "verdict": "accepted",
            "sequence": n,
        }
        for n, (day, at) in enumerate(deliveries)
    ]
    return pl.DataFrame(rows, schema=schemas.DELIVERIES)


def run_date(n: int) -> date:
    """Of the run that needs the file of `n` days after the Saturday."""
    return SATURDAY + timedelta(days=n + 1)


class TestOptional:
    """A file that comes after the cutoff is not known to its own run date, but to the next one."""

    @pytest.fixture
    def optional(self) -> Project:
        return project(required=False)

    def late(self, optional: Project, n: int) -> tuple[date, datetime]:
        return SATURDAY + timedelta(days=n), optional.cutoff_at(run_date(n)) + timedelta(hours=6)

    def test_it_is_recorded_by_the_next_run(self, optional: Project) -> None:
        deliveries = listing(self.late(optional, 0), self.late(optional, 1))
        own = {run_date(0): optional.cutoff_at(run_date(0))}
        assert _newest(optional, "logbook", deliveries, own, [], {}, {}) == {}
        following = {run_date(1): optional.cutoff_at(run_date(1))}
        found = _newest(optional, "logbook", deliveries, following, [run_date(0)], {}, {})
        assert found == {SATURDAY: OutcomeDelivery(self.late(optional, 0)[1], 0, f"{SATURDAY}/0")}

    def test_in_the_other_order_its_own_run_records_it(self, optional: Project) -> None:
        deliveries = listing(self.late(optional, 0))
        own = {run_date(0): optional.cutoff_at(run_date(0))}
        later = {run_date(1): optional.cutoff_at(run_date(1))}
        assert [*_newest(optional, "logbook", deliveries, own, [], later, {})] == [SATURDAY]

    def test_a_day_that_was_never_prepared_is_not_recorded(self, optional: Project) -> None:
        deliveries = listing(self.late(optional, -3), self.late(optional, 0))
        following = {run_date(1): optional.cutoff_at(run_date(1))}
        assert [*_newest(optional, "logbook", deliveries, following, [run_date(0)], {}, {})] == [SATURDAY]


def test_a_correction_counts_when_the_run_that_knows_it_has_no_file_of_its_own() -> None:
    """Monday's run knows it, and needs no file, because the day before is a Sunday."""
    calendar = project(days=("mon", "tue", "wed", "thu", "fri", "sat"))
    first = calendar.cutoff_at(run_date(0)) - timedelta(hours=1)
    deliveries = listing((SATURDAY, first), (SATURDAY, first + timedelta(hours=9)))
    own = {run_date(0): calendar.cutoff_at(run_date(0))}
    later = {run_date(1): calendar.cutoff_at(run_date(1))}
    assert _newest(calendar, "logbook", deliveries, own, [], {}, {})[SATURDAY].delivery_id == f"{SATURDAY}/0"
    assert _newest(calendar, "logbook", deliveries, own, [], later, {})[SATURDAY].delivery_id == f"{SATURDAY}/1"
