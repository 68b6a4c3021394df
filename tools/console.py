"""The console of tools and benchmarks: a terminal gets lines and tables that fit it, a pipe or a file whole lines.

What people copy, such as a command or an address, is printed with `soft_wrap=True`: it stays one line.
"""

from rich.console import Console

IN_A_FILE = 200
"""The width of tables where there is no terminal."""


def console_for_people(*, stderr: bool = False) -> Console:
    """Return a console for standard output or error."""
    found = Console(stderr=stderr, highlight=False)
    if not found.is_terminal:
        found.soft_wrap, found.width = True, IN_A_FILE
    return found
