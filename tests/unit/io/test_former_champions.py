"""Which versions were the champion, by the promotion history of a model."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from include.core.records import BY_GATE
from include.io.postgres.promotions import PromotionEntry, champions_of

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
