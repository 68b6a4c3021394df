"""Two threads that write the same files: the first one is held after it has read, until the second waits for it."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

SECONDS = 60


def write_at_once(
    patch: pytest.MonkeyPatch, owner: type, writing: str, write: Callable[[], Any], meanwhile: Callable[[], Any]
) -> None:
    """Let two threads write, and something happen after the first has read and before it writes.

    Args:
        patch: of the test.
        owner: the class with the method that writes.
        writing: its name.
        write: what both threads call.
        meanwhile: what happens before the second thread begins.
    """
    has_read, may_write, method = threading.Event(), threading.Event(), getattr(owner, writing)

    def slow(*given: Any) -> Any:
        if not has_read.is_set():
            has_read.set()
            assert may_write.wait(SECONDS)
        return method(*given)

    patch.setattr(owner, writing, slow)
    one, other = (threading.Thread(target=write) for _ in range(2))
    one.start()
    assert has_read.wait(SECONDS)
    meanwhile()
    other.start()
    other.join(1)
    assert other.is_alive(), "it waits for the first one"
    may_write.set()
    for each in (one, other):
        each.join(SECONDS)
        assert not each.is_alive()
