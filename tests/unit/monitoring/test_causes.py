"""Late scores are blamed on the required feed that was late, and on nothing else."""

from datetime import date, datetime, timedelta

import pytest

from include.config.loading import load_project
from include.core.records import Alert
from include.monitoring.causes import late_feeds, name_causes

DAY = date(2013, 3, 4)
FERRIES = load_project("ferries")
CUTOFF = FERRIES.cutoff_at(DAY)
REQUIRED = FERRIES.required_days(DAY)
IN_TIME = {needed: CUTOFF - timedelta(hours=1) for needed in REQUIRED}
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("came", "prepared", "says"),
    [
        (-HOUR, HOUR, ""),
        (timedelta(0), HOUR, ""),
        (2 * HOUR, 3 * HOUR, "was late: its delivery of"),
        (2 * HOUR, None, "was late: its delivery of"),
        (30 * HOUR, HOUR, ""),  # a correction: the day was prepared before it
        (None, None, "is late: it has no accepted delivery of"),
    ],
)
def test_a_required_feed_is_late_if_it_came_after_the_cutoff_and_the_day_waited_for_it(
    came: timedelta | None, prepared: timedelta | None, says: str
) -> None:
    slot = REQUIRED[0]
    known: dict[tuple[str, date], datetime] = {k: at for k, at in IN_TIME.items() if k != slot}
    if came is not None:
        known[slot] = CUTOFF + came
    found = late_feeds(FERRIES, DAY, known, None if prepared is None else CUTOFF + prepared)
    assert [*found] == ([slot[0]] if says else [])
    assert says in found.get(slot[0], "")


def test_only_late_scores_have_a_late_feed_as_their_cause() -> None:
    late = Alert(subject="a", rule="scores_late", day=DAY + timedelta(days=1), sentence="late", scored_day=DAY)
    other = Alert(subject="a", rule="mae at_most 3", day=DAY, sentence="poor")
    feeds = {"sailings": "feed sailings was late", "winds": "feed winds was late"}
    named = name_causes([late, other], lambda day: feeds if day == DAY else {})
    assert (named[0].late_feed, named[0].because) == ("sailings", "feed sailings was late; feed winds was late")
    assert named[1] == other
    assert name_causes([late], lambda _: {}) == [late]
