"""The life of a version of a model: its states, and the moves between them that are allowed.

`include/io/postgres/version_moves.py` is the one function that moves a version, and it asks `check_move` here. Nothing
here reads or writes.
"""

from collections.abc import Mapping
from enum import StrEnum

from include.core.errors import ActionRequiredError
from include.core.records import BY_GATE


class State(StrEnum):
    """What a version is: it has one state at a time, and only the champion's predictions are published."""

    REGISTERED = "registered"  # evaluate made it; nothing is decided yet
    REJECTED = "rejected"  # by the gate
    PENDING = "pending"  # it passed the gate and waits for a person, or for its days as a shadow
    CHAMPION = "champion"
    DECLINED = "declined"  # by a person
    SUPERSEDED = "superseded"  # a newer version became pending
    EXPIRED = "expired"  # nobody decided in time
    REPLACED = "replaced"  # another version is the champion now


BY_PRODUCT = "nightly-ml"
"""The name of the product in `version_moves`, for moves that follow from a rule and not from the gate or a person."""

TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.REGISTERED: frozenset({State.REJECTED, State.PENDING, State.CHAMPION}),
    State.REJECTED: frozenset({State.REGISTERED}),  # the gate decided again, with other rules or another champion
    State.PENDING: frozenset({State.CHAMPION, State.DECLINED, State.SUPERSEDED, State.EXPIRED, State.REJECTED}),
    State.CHAMPION: frozenset({State.REPLACED}),
    State.DECLINED: frozenset(),
    State.SUPERSEDED: frozenset(),
    State.EXPIRED: frozenset(),
    State.REPLACED: frozenset({State.CHAMPION}),  # rollback
}
"""The moves that need no force. A person who forces one can make any version the champion."""

FINAL = frozenset({State.REJECTED, State.DECLINED, State.SUPERSEDED, State.EXPIRED})
"""The states of versions that can become the champion only if a person forces it."""


def is_person(by: str) -> bool:
    """Return whether a move was made by a person, and not by the gate or by a rule of the product."""
    return by not in (BY_GATE, BY_PRODUCT)


def check_move(model: str, version: int, current: State, to: State, *, by: str, force: bool = False) -> None:
    """Refuse a move that the table of transitions does not have.

    Args:
        model: its name, for the message.
        version: the version, for the message.
        current: its state.
        to: the state that it should get.
        by: who moves it: a person, `BY_GATE` or `BY_PRODUCT`.
        force: whether a person makes the version the champion whatever was decided about it.

    Raises:
        ActionRequiredError: the move is not allowed; the message says what is.
    """
    if to in TRANSITIONS[current]:
        return
    if to is State.CHAMPION and force and is_person(by):
        return
    where = f"version {version} of {model} is {current}, so it cannot become {to}"
    if to is State.CHAMPION and current in FINAL:
        raise ActionRequiredError(
            f"{where}; only a person can force it: python -m include.cli promote --model {model} --version {version} "
            "--from-day … --by … --why … --force"
        )
    allowed = ", ".join(sorted(TRANSITIONS[current]))
    raise ActionRequiredError(f"{where}; {f'it can become {allowed}' if allowed else 'nothing follows that state'}")
