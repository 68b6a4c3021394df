"""The states of a version: which moves are allowed, and what the refusal of another says."""

import pytest

from include.core.errors import ActionRequiredError
from include.core.lifecycle import BY_PRODUCT, FINAL, TRANSITIONS, State, check_move
from include.core.records import BY_GATE


def test_every_state_has_its_row_in_the_table() -> None:
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize(
    ("current", "to"),
    [
        (State.REGISTERED, State.PENDING),
        (State.PENDING, State.CHAMPION),
        (State.PENDING, State.DECLINED),
        (State.PENDING, State.SUPERSEDED),
        (State.PENDING, State.EXPIRED),
        (State.CHAMPION, State.REPLACED),
        (State.REPLACED, State.CHAMPION),
    ],
)
def test_the_usual_life_needs_no_force(current: State, to: State) -> None:
    check_move("late_ferry", 3, current, to, by=BY_GATE)


@pytest.mark.parametrize("current", sorted(FINAL))
def test_what_was_refused_becomes_champion_only_by_force_of_a_person(current: State) -> None:
    about = ("late_ferry", 3, current, State.CHAMPION)
    with pytest.raises(ActionRequiredError, match=f"version 3 of late_ferry is {current}.*only a person can force it"):
        check_move(*about, by="ana")
    for by in (BY_GATE, BY_PRODUCT):
        with pytest.raises(ActionRequiredError):
            check_move(*about, by=by, force=True)
    check_move(*about, by="ana", force=True)


@pytest.mark.parametrize(
    ("current", "to"),
    [
        (State.DECLINED, State.PENDING),
        (State.CHAMPION, State.DECLINED),
        (State.REPLACED, State.PENDING),
        (State.REGISTERED, State.DECLINED),
        (State.SUPERSEDED, State.REPLACED),
    ],
)
def test_force_opens_the_way_to_champion_only(current: State, to: State) -> None:
    with pytest.raises(ActionRequiredError, match=f"is {current}, so it cannot become {to}"):
        check_move("late_ferry", 3, current, to, by="ana", force=True)
