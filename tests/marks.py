"""Parameters of tests of which only a few run in CI."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def mostly_drills(values: Iterable[Any], in_ci: Collection[Any]) -> list[Any]:
    """Return the parameters of a test, with the mark `drill` on all but those of CI. A tuple becomes one text as id."""
    return [
        pytest.param(
            value,
            marks=() if value in in_ci else pytest.mark.drill,
            id=" ".join(map(str, value)) if isinstance(value, tuple) else None,  # None: pytest's own
        )
        for value in values
    ]
