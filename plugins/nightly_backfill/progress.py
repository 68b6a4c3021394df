"""Show the progress of a backfill: a bar on a terminal, otherwise a line when something changed.

This module uses the clock and the console, and knows nothing of Airflow.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from nightly_backfill.request import count, duration

SECONDS_BETWEEN_LINES = 5.0


def sentence(states: Mapping[str, int], before: int, elapsed: float) -> str:
    """Return a sentence such as '3 of 5 days done, 1 failed, 2 running, about 40 s left'.

    Args:
        states: the number of runs in each state.
        before: the number of runs that had ended `elapsed` seconds ago.
        elapsed: seconds since the display began.
    """
    total, failed = sum(states.values()), states.get("failed", 0)
    done = states.get("success", 0) + failed
    parts = [f"{done} of {count(total)} done", f"{failed} failed", f"{states.get('running', 0)} running"]
    if before < done < total:
        parts.append(f"about {duration(elapsed / (done - before) * (total - done))} left")
    return ", ".join(parts)


class Display:
    """Show the progress of a backfill; a context manager, because the bar must be removed from the terminal."""

    def __init__(self, console: Console, before: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.before, self.clock = console, before, clock
        self.began = clock()
        self.printed, self.printed_at = "", float("-inf")
        self.bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=30),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.row = self.bar.add_task("", total=None, visible=False)

    def __enter__(self) -> "Display":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def show(self, states: Counter[str]) -> None:
        """Show how many runs are in which state."""
        text = sentence(states, self.before, self.clock() - self.began)
        total, done = states.total(), states["success"] + states["failed"]
        if self.console.is_terminal:
            self.bar.update(self.row, description=text, total=total, completed=done, visible=True)
            return
        # a change of only the time left is not printed; the last line is always printed
        news = text.split(", about")[0]
        due = self.clock() - self.printed_at >= SECONDS_BETWEEN_LINES or done == total
        if news != self.printed and due:
            self.console.print(text)
            self.printed, self.printed_at = news, self.clock()
