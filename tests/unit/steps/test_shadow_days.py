"""On which days a version was the shadow, by its moves."""

from datetime import UTC, date, datetime

from include.core.lifecycle import State
from include.io.postgres.version_moves import VersionMove
from include.steps.shadow import last_days_of


def moved(day: int, version: int, before: State, to: State) -> VersionMove:
    moment = datetime(2013, 3, day, 12, tzinfo=UTC)
    return VersionMove(day, "m", version, before, to, "gate", "", None, None, None, None, "r", moment)


def last_days(*moves: VersionMove) -> dict[int, date]:
    return last_days_of(moves, datetime.date)


def test_a_version_that_was_rejected_and_waits_again_is_the_shadow_until_its_last_end() -> None:
    first = moved(1, 3, State.REGISTERED, State.PENDING), moved(2, 3, State.PENDING, State.REJECTED)
    assert last_days(*first) == {3: date(2013, 3, 2)}
    again = *first, moved(4, 3, State.REJECTED, State.REGISTERED), moved(4, 3, State.REGISTERED, State.PENDING)
    assert last_days(*again) == {3: date.max}
    assert last_days(*again, moved(9, 3, State.PENDING, State.DECLINED)) == {3: date(2013, 3, 9)}


def test_moves_after_the_end_and_of_versions_that_never_waited_do_not_count() -> None:
    promoted = moved(1, 3, State.REGISTERED, State.PENDING), moved(5, 3, State.PENDING, State.CHAMPION)
    assert last_days(*promoted, moved(8, 3, State.CHAMPION, State.REPLACED)) == {3: date(2013, 3, 5)}
    assert last_days(moved(1, 2, State.REGISTERED, State.REJECTED)) == {}
