"""Kill a process in the middle of its work, at the n-th call of a function, as a power cut would.

This module uses only the standard library, because the process that will be killed imports it first.
"""

import os
import signal
from collections.abc import Callable
from typing import Any


def end_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wrap(module: Any, path: str, call: int, when: str, strike: Callable[[], None]) -> None:
    """Wrap a function of `module` ("name" or "Class.name") so that `strike` runs before or after its n-th call."""
    *owners, name = path.split(".")
    owner = module
    for part in owners:
        owner = getattr(owner, part)
    original, calls = getattr(owner, name), 0

    def striking(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        this = calls == call  # decide before the call, because the function may call itself
        if this and when == "before":
            strike()
        result = original(*given, **named)
        if this and when == "after":
            strike()
        return result

    setattr(owner, name, striking)
