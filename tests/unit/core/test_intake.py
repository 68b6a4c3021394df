"""From when a new delivery counts, and what waits for a person."""

from datetime import UTC, date, datetime, timedelta

import pytest

from include.config.loading import load_project
from include.core.errors import DeliveryError
from include.core.intake import Earlier, NotYetError, available_from, moment_of_history, reason_to_hold
from include.core.project import Project

DAY = date(2026, 3, 4)
NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def declared(**changes: object) -> Project:
    project = load_project("ferries")
    feed = project.feeds["logbook"].model_copy(update=changes)
    return project.model_copy(update={"feeds": {**project.feeds, "logbook": feed}})


def moment(project: Project, claim: datetime | None = None, modified_at: datetime = NOW - HOUR) -> datetime:
    return available_from(project, "logbook", DAY, "s3://x", claim=claim, modified_at=modified_at, now=NOW)


def test_a_claim_counts_as_it_is() -> None:
    assert moment(declared(), claim=NOW - 30 * HOUR) == NOW - 30 * HOUR


def test_a_claim_up_to_a_day_ahead_waits() -> None:
    with pytest.raises(NotYetError, match="still ahead"):
        moment(declared(), claim=NOW + 24 * HOUR)


def test_a_claim_further_ahead_is_refused() -> None:
    with pytest.raises(DeliveryError, match="more than 24 hours after now") as caught:
        moment(declared(), claim=NOW + 24 * HOUR + timedelta(seconds=1))
    assert not isinstance(caught.value, NotYetError)


def test_history_counts_from_the_cutoff_of_the_run_date_that_first_needs_it() -> None:
    """The logbook of DAY is first needed on the next day."""
    project = declared(live_from=DAY + timedelta(days=2))
    for copied_at in (NOW - HOUR, NOW - 900 * HOUR):
        assert moment(project, modified_at=copied_at) == project.cutoff_at(DAY + timedelta(days=1))


def test_from_the_first_live_run_date_on_the_objects_own_time_counts() -> None:
    assert moment(declared(live_from=DAY + timedelta(days=1))) == NOW - HOUR


@pytest.mark.parametrize("live_from", [DAY, date(2026, 6, 1)])
def test_it_is_never_later_than_the_landing(live_from: date) -> None:
    project = declared(live_from=live_from)
    late = available_from(
        project, "logbook", date(2026, 3, 30), "s3://x", claim=None, modified_at=NOW + 9 * HOUR, now=NOW
    )
    assert late == NOW


def test_without_a_claim_and_live_from_it_is_refused_with_the_line_to_write() -> None:
    with pytest.raises(DeliveryError, match=r"feeds\.logbook\.live_from: 2026-03-20"):
        moment(declared())


def held(
    project: Project,
    at: datetime,
    earlier: list[Earlier],
    key: str = "new",
    day: date = DAY,
    *,
    is_live: bool = False,
) -> str | None:
    return reason_to_hold(project, "logbook", day, key, at, earlier, NOW, is_live=is_live)


FIRST = Earlier("first@1", "first", NOW - 5 * HOUR)


def test_a_later_delivery_is_not_held() -> None:
    assert held(declared(), NOW - 4 * HOUR, [FIRST]) is None
    recent = date(2026, 3, 18)
    assert held(declared(), FIRST.available_from, [FIRST], key="first", day=recent) is None  # the same object


def test_another_object_of_the_same_moment_is_held_unless_its_name_is_greater() -> None:
    """Also of history, and in whatever order the two are landed."""
    for live_from in (None, date(2026, 9, 1)):
        nothing_says = held(declared(live_from=live_from), FIRST.available_from, [FIRST])
        assert nothing_says is not None and "first@1" in nothing_says and "versions: by_name" in nothing_says
    project = declared(versions="by_name")
    v9, v10 = (Earlier(f"v{n}@1", f"v{n}.csv", FIRST.available_from) for n in (9, 10))
    assert held(project, FIRST.available_from, [v9], key=v10.key) is None
    assert "greater name" in str(held(project, FIRST.available_from, [v10], key=v9.key))
    assert held(project, FIRST.available_from + HOUR, [v10], key=v9.key) is None


def test_what_corrects_a_refused_delivery_is_not_held() -> None:
    refused = Earlier("first@1", "first", NOW - 5 * HOUR, refused=True)
    assert held(declared(), NOW - 6 * HOUR, [refused]) is None
    assert held(declared(), refused.available_from, [refused]) is None


def test_a_backdated_delivery_is_held_and_names_what_it_would_replace() -> None:
    why = held(declared(), NOW - 6 * HOUR, [FIRST])
    assert why is not None
    assert "first@1" in why


def test_history_is_not_held_before_a_live_run_date_is_prepared() -> None:
    assert held(declared(live_from=date(2026, 9, 1)), NOW - 6 * HOUR, [FIRST], key="first") is None


def test_once_a_live_run_date_is_prepared_history_is_held_as_other_files_are() -> None:
    project = declared(live_from=date(2026, 9, 1))
    assert held(project, NOW - 4 * HOUR, [FIRST], is_live=True) is None
    assert held(project, NOW - 4 * HOUR, [], is_live=True) is None
    why = held(project, NOW - 6 * HOUR, [FIRST], key="first", is_live=True)
    assert why is not None
    assert "before first@1" in why
    overwritten = held(project, NOW - 4 * HOUR, [FIRST], key="first", is_live=True)
    assert overwritten is not None
    assert "overwritten 15 days after it was due" in overwritten


def test_history_counts_from_the_cutoff_of_its_first_run_date() -> None:
    assert moment_of_history(declared(live_from=DAY), "logbook", DAY) is None
    history = declared(live_from=date(2026, 9, 1))
    assert moment_of_history(history, "logbook", DAY) == history.cutoff_at(DAY + timedelta(days=1))


@pytest.mark.parametrize(("days", "is_held"), [(8, True), (7, False)])
def test_an_overwritten_object_is_held_after_corrections_days(days: int, *, is_held: bool) -> None:
    """The days are counted from the run date that first needs the object."""
    day = date(2026, 3, 20) - timedelta(days=days + 1)
    assert (held(declared(), NOW - HOUR, [FIRST], key="first", day=day) is not None) == is_held
    assert held(declared(), NOW - HOUR, [FIRST], key="another", day=day) is None
