"""The table of all goals."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.machine import Load
from bench.results import Result
from bench.table import BEGIN, END, BenchRun, rendered, write

FREE, BUSY = Load(0.02, 0.0, 0.5, 2.0), Load(0.3, 0.1, 9.0, 12.0)
GOALS = (
    Result("memory", "1500 MB", 1612.4, "MB", False, "the largest: land"),
    Result("seconds", "0.7 × core-seconds", 0.512, "× core-seconds", None),
)


def test_the_page_has_each_goal_with_its_verdict_and_keeps_what_was_not_measured_again() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    old = rendered([BenchRun("night", GOALS[:1], FREE), BenchRun("scale", GOALS[:1], FREE)], at, "commit a, pc")
    text = rendered([BenchRun("scale", GOALS, BUSY), BenchRun("pages", (), FREE)], at, "commit b, pc", old)
    assert text.splitlines()[2:] == [
        "| scale | memory | 1500 MB | 1,612 MB | MISSED | the largest: land |",
        "| scale | seconds | 0.7 × core-seconds | 0.51 × core-seconds | no verdict |  |",
        "| night | memory | 1500 MB | 1,612 MB | MISSED | the largest: land |",
        "",
        f"- `scale`: 2026-01-02, commit b, pc; too busy to trust seconds: {BUSY}",
        f"- `night`: 2026-01-02, commit a, pc; {FREE}",
        f"- `pages`: 2026-01-02, commit b, pc; {FREE}",
    ]


def test_time_that_passed_has_a_verdict_only_on_a_free_machine() -> None:
    missed = (Result("page", "2 s", 3.0, "s", False, is_elapsed=True), *GOALS[:1])
    assert [each.passed for each in BenchRun("pages", missed, BUSY).with_verdicts] == [None, False]
    assert [each.passed for each in BenchRun("pages", missed, FREE).with_verdicts] == [False, False]


def test_only_what_is_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nby hand\n", encoding="utf-8")
    for _ in range(2):
        write(page, lambda old: "a \\1 table\n" if "old" in old else old.strip() + "\n")
    assert page.read_text(encoding="utf-8") == f"# Title\n\n{BEGIN}\n\na \\1 table\n\n{END}\n\nby hand\n"
    page.write_text("# Title\n", encoding="utf-8")
    with pytest.raises(ValueError, match="needs the markers"):
        write(page, str)
