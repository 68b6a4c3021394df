"""What each benchmark returns, so that `make bench` prints one table of all."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One figure against its goal."""

    goal: str
    limit: str
    figure: float
    unit: str
    passed: bool | None
    note: str = ""
