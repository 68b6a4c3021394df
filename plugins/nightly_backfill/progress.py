"""What a person sees while a backfill goes on: a bar on a terminal, else a line when something changed. Pure but for
the clock and the console; nothing here knows Airflow.
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
    """'3 of 5 days done, 1 failed, 2 running, about 40 s left'.

    `states`: how many runs are in which state; `before`: how many had ended `elapsed` seconds ago.
    """
    total, failed = sum(states.values()), states.get("failed", 0)
    done = states.get("success", 0) + failed
    parts = [f"{done} of {count(total)} done", f"{failed} failed", f"{states.get('running', 0)} running"]
    if before < done < total:
        parts.append(f"about {duration(elapsed / (done - before) * (total - done))} left")
    return ", ".join(parts)


class Display:
    """Shows how far a backfill is; a context, since a terminal's bar has to be taken away again."""

    def __init__(self, console: Console, before: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.before, self.clock = console, before, clock
        self.began = clock()
        self.said, self.said_at = "", float("-inf")
        self.bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=30),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.problem_type = self.bar.add_task("", total=None, visible=False)

    def __enter__(self) -> "Display":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def show(self, states: Counter[str]) -> None:
        """Say how many runs are in which state."""
        text = sentence(states, self.before, self.clock() - self.began)
        total, done = states.total(), states["success"] + states["failed"]
        if self.console.is_terminal:
            self.bar.update(self.problem_type, description=text, total=total, completed=done, visible=True)
            return
        # the time left alone is no news; the last line is never left out
        news = text.split(", about")[0]
        due = self.clock() - self.said_at >= SECONDS_BETWEEN_LINES or done == total
        if news != self.said and due:
            self.console.print(text)
            self.said, self.said_at = news, self.clock()
