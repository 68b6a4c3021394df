"""Lay out lines and tables for a terminal of any width; `width` None is a file or a pipe, where nothing is cut.

Nothing here uses colour: a mark (`✓`, `✗`) or a word says what a colour would.
"""

import re
import shutil
import sys
import textwrap
from collections.abc import Sequence

WHOLE = ("python ", "airflow ", "make ", "docker ", ". ", "{", "}", '"', '["', "[{", "]", *"|┌╞│└")
"""Lines that begin so stay as they are: people copy commands, programs read JSON, and tables are laid out already."""
TREE = re.compile(r"(?P<above>[│ ]*)(?P<branch>[├└])─ (?=\S)")
"""How a line of a tree begins."""
GAP = "  "
LEAST = 12
"""The narrowest that a column with long texts may become."""


def terminal_width(*, error: bool = False) -> int | None:
    """Return the width of the terminal on standard output (or error); None if it is a file or a pipe."""
    stream = sys.stderr if error else sys.stdout
    return shutil.get_terminal_size().columns if stream.isatty() else None


def fold(line: str, width: int | None) -> list[str]:
    """Return a line in lines that fit, broken between words; what follows is indented below its text."""
    bare = line.lstrip(" ")
    tree = TREE.match(line)
    if width is None or len(line) <= width or (bare.startswith(WHOLE) and not tree):
        return [line]
    if tree:
        indent = f"{tree['above']}{'│' if tree['branch'] == '├' else ' '}  "
    else:
        indent = " " * (len(line) - len(bare) + (2 if bare[:2] in ("✓ ", "✗ ", "! ", "- ") else 4))
    return textwrap.wrap(
        line,
        max(width, LEAST * 2),
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
        drop_whitespace=True,
    )


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, *, right: Sequence[str] = ()
) -> list[str]:
    """Return a table with aligned columns; if it is too wide, the texts of its widest columns are folded.

    Args:
        head: the names of the columns.
        rows: the cells.
        width: of the terminal.
        right: the columns of numbers, which are aligned at the right.
    """
    cells = [[*map(str, row)] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    while width is not None and sum(widths) + len(GAP) * (len(widths) - 1) > width and max(widths) > LEAST:
        widths[widths.index(max(widths))] -= 1
    lines = []
    for row in cells:
        folded = [
            textwrap.wrap(cell, size, break_on_hyphens=False) or [""] for cell, size in zip(row, widths, strict=True)
        ]
        for part in range(max(map(len, folded))):
            texts = [each[part] if part < len(each) else "" for each in folded]
            laid = [
                text.rjust(size) if name in right else text.ljust(size)
                for text, size, name in zip(texts, widths, head, strict=True)
            ]
            lines.append(GAP.join(laid).rstrip())
    return lines


def blocks(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows one below the other, a line for each cell: for tables with more columns than a terminal has room."""
    size = max(map(len, head))
    return [
        line
        for number, row in enumerate(rows, 1)
        for line in (
            f"── row {number}",
            *(f"{name.ljust(size)}{GAP}{cell}" for name, cell in zip(head, row, strict=True)),
        )
    ]
