"""Lines and tables at 80 and 200 columns, and in a pipe."""

import pytest

from include.core.terminal import blocks, fold, table

LONG = "✗ 2013-03-01 features: " + "a correction of winds/2013-03-01/b.csv.gz arrived since; " * 3
HEAD = ("destination", "result", "ms")
ROWS = [
    ("nightly_alerts", "sent", "12"),
    ("crm", "refused: " + "the receiver answered 403, so it is given up " * 4, "9"),
]


@pytest.mark.parametrize("width", [80, 200])
def test_lines_fit_and_lose_no_word(width: int) -> None:
    lines = fold(LONG, width)
    assert max(map(len, lines)) <= width
    assert " ".join(line.strip() for line in lines).split() == LONG.split()
    assert all(line.startswith("  ") for line in lines[1:]), "what follows is below the text"


def test_a_command_and_json_stay_whole_so_that_they_can_be_copied() -> None:
    command = "python -m include.cli prepare --project ferries --start 2013-03-01 --end 2013-03-31 --data latest"
    for line in (command, f"    {command}", '  "why": "' + "x " * 80 + '",'):
        assert fold(line, 80) == [line]


def test_a_line_of_a_tree_is_folded_below_its_own_branch() -> None:
    assert fold("│  ├─ " + "of prepared days " * 2, 26) == ["│  ├─ of prepared days of", "│  │  prepared days"]
    assert fold("└─ " + "of prepared days " * 2, 26) == ["└─ of prepared days of", "   prepared days"]
    table_line = "│ ferries ┆ a text in a cell │"
    assert fold(table_line, 24) == [table_line]


def test_a_message_that_begins_with_its_severity_is_folded() -> None:
    assert len(fold("    [high] late_ferry: " + "it is worse than a constant, " * 4, 80)) == 2


def test_nothing_is_folded_in_a_pipe() -> None:
    assert fold(LONG, None) == [LONG]
    assert len(table(HEAD, ROWS, None)) == 3


@pytest.mark.parametrize("width", [80, 200])
def test_a_table_fits_by_folding_its_longest_texts(width: int) -> None:
    lines = table(HEAD, ROWS, width, right=("ms",))
    assert max(map(len, lines)) <= width
    assert lines[0].split() == [*HEAD]
    assert lines[1].startswith("nightly_alerts  sent") and lines[1].endswith("12")
    assert " ".join(word for line in lines[2:] for word in line.split()).count("403,") == 4


def test_a_table_that_has_no_room_is_shown_row_by_row() -> None:
    assert blocks(("day", "model"), [("2013-03-01", "late")]) == ["── row 1", "day    2013-03-01", "model  late"]
