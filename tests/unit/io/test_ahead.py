"""Items that another thread makes, one ahead of the one that is used."""

from collections.abc import Iterator
from threading import Event

import pytest

from include.io.ahead import one_ahead


def test_the_next_item_is_made_while_one_is_used_and_no_other() -> None:
    made = [Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    found = []
    for number in one_ahead(items()):
        found.append(number)
        assert number == 3 or made[number + 1].wait(10)
        assert number > 1 or not made[number + 2].is_set()
    assert found == [0, 1, 2, 3]


def test_an_error_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the second")

    coming = one_ahead(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="the second"):
        next(coming)


def test_nothing_yields_nothing() -> None:
    assert list(one_ahead([])) == []
