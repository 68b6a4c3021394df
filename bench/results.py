"""What a benchmark found: one record for each goal. `bench/table.py` prints and writes the records of all benchmarks.

Each module that measures a goal has `results() -> list[Result]`, which measures and returns its records.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """A goal and what was measured for it.

    Attributes:
        goal: what is measured, in words.
        limit: the highest figure allowed, with its unit, in words.
        figure: what was measured, in `unit`.
        unit: of the figure, such as "MB", "core-seconds" or "× ingestion".
        passed: whether the figure is within the limit; None if there is no goal, or if it could not be decided.
        note: how or on what it was measured, if goal and figure do not say it.
        is_elapsed: whether the figure is time that passed, which other programs make longer: on a busy machine it is
            not decided.
    """

    goal: str
    limit: str
    figure: float
    unit: str
    passed: bool | None
    note: str = ""
    is_elapsed: bool = False
