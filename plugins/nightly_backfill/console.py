"""The console on which commands print. It interprets no markup, and shows control characters."""

from typing import Any

from rich.console import Console

from nightly_backfill.printable import printable_each


class PlainConsole(Console):
    """A console that prints texts as they are."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "soft_wrap": True, "markup": False, "emoji": False, **options})

    def print(self, *objects: Any, **options: Any) -> None:
        """Print texts; the lines of one stay lines."""
        shown = ["\n".join(printable_each(each)) if isinstance(each, str) else each for each in objects]
        super().print(*shown, **options)
