"""The log of the gate fits the page of a task, and begins with what failed."""

import logging
from datetime import date

from include.core.interval import Interval
from include.core.records import Check, GateDecision
from include.steps.gate import decision_lines

GOOD = Check(name="rows", subject="m", measured=9, threshold=5, passed=True, sentence="9 rows; at least 5")
BAD = Check(
    name="champion", subject="m", measured=0.43, threshold=0.42, passed=False,
    sentence="the log loss on the holdout days is 0.4312, and that of the champion is 0.4188; " * 3,
)  # fmt: skip


def lines(*checks: Check) -> list[tuple[int, str]]:
    decision = GateDecision(
        interval=Interval.of(date(2024, 3, 1)), rows=9, model_version=4, model="late_ferry", candidate="linear",
        gate_id="g", champion=3, passed=all(check.passed for check in checks), checks=checks,
    )  # fmt: skip
    return [*decision_lines(decision)]


def test_a_rejection_begins_with_what_failed_in_lines_that_fit() -> None:
    said = lines(GOOD, BAD)
    assert " ".join(text.strip() for _, text in said[:2]) == (
        "late_ferry version 4 (linear), compared with champion 3: REJECTED, 1 of 2 checks failed"
    )
    assert said[2][0] == logging.WARNING and said[2][1].startswith("  ✗ champion: the log loss")
    assert said[-2] == (logging.INFO, "  ✓ rows: 9 rows; at least 5")
    assert said[-1] == (logging.WARNING, "✗ version 4 is rejected: champion (the first lines say why)")
    assert max(len(text) for _, text in said) <= 88
    assert " ".join(text.strip() for _, text in said).count("0.4312") == 3, "words were lost"


def test_a_version_that_passed_says_so_first() -> None:
    assert lines(GOOD)[0][1].endswith("passed, all 1 checks passed")
