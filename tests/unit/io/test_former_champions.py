"""Which versions were the champion, by the promotion history of a model."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from include.core.records import BY_GATE
from include.io.postgres.promotions import ChampionShift, PromotionEntry, champions_of, rolled_back_from

DAY = date(2013, 3, 1)


def promoted(number: int, version: int, **about: Any) -> PromotionEntry:
    """Return a promotion from the day of its number on."""
    from_day = DAY + timedelta(days=number)
    values = {"by": BY_GATE, "why": "", "run_id": "r", "trained_day": from_day - timedelta(days=1), "gate_id": "g"}
    created = datetime(2013, 3, 1, tzinfo=UTC) + timedelta(days=number)
    fixed = {"id": number, "model": "m", "model_version": version, "from_day": from_day, "created_at": created}
    return PromotionEntry(**{"forced": False, **fixed, **values, **about})


def back(number: int, version: int, replaced: int) -> PromotionEntry:
    return promoted(number, version, by="ana", rolled_back_from=replaced)


def champions(*rows: PromotionEntry, version: int = 9, day: int = 99) -> list[int]:
    return champions_of(rows[::-1], version, DAY + timedelta(days=day))


def test_champions_come_the_newest_first_and_once() -> None:
    rows = promoted(1, 1), promoted(2, 2), promoted(3, 3)
    assert champions(*rows) == [3, 2, 1]
    assert champions(*rows, version=3) == [2, 1]
    assert champions(*rows, day=1) == [2, 1], "the third was trained on the day after"


def test_a_champion_that_was_rolled_back_measures_no_other_version() -> None:
    """Its scores may be too good, because it knew outcomes: no honest version would come near."""
    history = promoted(1, 1), promoted(2, 2), promoted(3, 3), back(4, 2, replaced=3)
    assert champions(*history) == [2, 1]
    assert champions(*history, day=3) == [3, 2, 1], "nobody knew then"
    assert champions(*history, promoted(5, 3, by="ana")) == [3, 2, 1], "a person promoted it again"


def undone(*rows: tuple[int, int, int | None], day: int = 5) -> set[int]:
    """Return what was rolled back of a day; a row has the version, its first day and the version it replaced."""
    history = [
        ChampionShift(version, DAY + timedelta(days=first), replaced, "ana", "") for version, first, replaced in rows
    ]
    return {*rolled_back_from(history, DAY + timedelta(days=day))}


def test_a_version_that_was_rolled_back_is_not_published_for_the_days_of_the_rollback_only() -> None:
    before = (1, 1, None), (2, 3, None)
    assert undone(*before) == set(), "a promotion is no rollback: the version before may still be published"
    back_to_1 = (*before, (1, 5, 2))
    assert undone(*back_to_1) == undone(*back_to_1, day=9) == {2}
    assert undone(*back_to_1, day=4) == set(), "a past day is published with the champion that it had"
    assert undone(*before, (1, 5, 2), (1, 3, 2), day=4) == {2}, "it was rolled back for past days, too"
    assert undone(*back_to_1, (2, 6, None), day=6) == set(), "a person promoted it again"
    assert undone(*back_to_1, (2, 6, None), day=5) == {2}
    assert undone(*back_to_1, (2, 5, 1)) == {1}, "the rollback was rolled back"
    later = (*before, (3, 5, None))
    assert undone(*later, (2, 5, 3), (1, 5, 2)) == {2, 3}, "one rollback after the other"
    assert undone(*later, (1, 5, 3), (1, 3, 3), day=4) == {2, 3}, "a champion in between, of past days"
