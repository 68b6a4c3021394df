"""Keep what comes from outside from forging or hiding log lines, whoever writes them.

A log line is a message and its arguments, and an argument can be the name of an object or the text of another
program's error. `protect_logs` is called in each process that runs steps (`cli.py`, `runner/remote.py`,
`dags/common.py`). From then on, each record of each logger shows control characters as escapes, and indents what
follows a line break, also in tracebacks.
"""

import logging
import sys
import textwrap
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from include.core.printable import INDENT, printable_each, printable_lines
from include.core.terminal import fold, terminal_width

WIDTH = 84
"""The most characters of a line for Airflow's page of a log, which does not wrap and has room for 88 on a laptop."""


class PrintableRecord(logging.LogRecord):
    """A log record whose text cannot be taken for another record."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info and self.exc_info[0]:
            self.exc_text = printable_traceback(*self.exc_info)  # formatters use it in place of making their own

    def getMessage(self) -> str:  # noqa: N802 (a method of the base class)
        """Return the message with its arguments."""
        return printable_lines(super().getMessage())


class FoldedFormatter(logging.Formatter):
    """A formatter that folds messages, and not tracebacks, to the terminal on standard error, if it is one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (a method of the base class)
        """Return the line of a message, or the lines."""
        width = terminal_width(error=True)
        return "\n".join(part for line in super().formatMessage(record).split("\n") for part in fold(line, width))


def protect_logs() -> None:
    """Let the records of all loggers of this process show what comes from outside, and obey none of it."""
    logging.setLogRecordFactory(PrintableRecord)


def wrapped(text: str, indent: str = "") -> Iterator[str]:
    """Yield a text in lines that fit the page of a log; `indent` is what all lines but the first begin with."""
    for line in printable_each(text):
        yield from textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_on_hyphens=False) or [""]


def log_to_stderr(layout: str, times: str | None = None) -> None:
    """Write the log of this process to standard error, and the traceback of an error that ends it.

    Args:
        layout: of a line, as `logging.Formatter` wants it.
        times: the format of times.
    """
    protect_logs()
    sys.excepthook = _print_error
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FoldedFormatter(layout, times))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def printable_traceback(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> str:
    """Return a traceback in which each line but the first is indented, also those of the error's text."""
    text = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")
    return f"\n{INDENT}".join(printable_each(text))


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(f"{printable_traceback(kind, error, trace)}\n")
