"""How commands print lines: folded between words on a terminal, whole in a pipe or a file."""

import typer

from include.core.printable import printable
from include.core.terminal import fold, terminal_width


def say(*lines: str, error: bool = False) -> None:
    """Print lines; a terminal obeys nothing in them that comes from outside, such as a file's name.

    Args:
        lines: to print; each stays one line unless a terminal is narrower.
        error: whether they say what failed: they go to standard error, and a terminal shows a mark and colour, too.
    """
    width = terminal_width(error=error)
    if error and width is not None:
        lines = (*(f"✗ {each}" for each in lines[:1]), *lines[1:])
    for line in (part for each in lines for part in fold(printable(each), width)):
        typer.echo(typer.style(line, fg="red") if error else line, err=error)
