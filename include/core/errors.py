"""Errors that a person has to fix. Running the same step again cannot help, so `dags/` does not retry them."""

import difflib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Self

from include.core.printable import printable


class ActionRequiredError(Exception):
    """An error that says what is wrong, where, and how to fix it. The step that raises it has written nothing.

    The message is one line, or a sequence of lines. A line can contain text from outside, such as the name of an
    object. What is not printable in it is shown as an escape, also a line break.

    Attributes:
        lines: the lines of the message.
        by_day: for a step over many days, the message for each wrong day, if known. The other days can be done without
            them.
    """

    def __init__(self, message: str | Sequence[str], by_day: Mapping[date, str] | None = None) -> None:
        self.lines = [printable(line) for line in ([message] if isinstance(message, str) else message)]
        super().__init__("\n".join(self.lines))
        self.by_day = {day: printable(sentence) for day, sentence in (by_day or {}).items()}

    @classmethod
    def of_days(cls, by_day: Mapping[date, str]) -> Self:
        """Return the error about these days; its message has the first ten of theirs."""
        more = [f"… and {len(by_day) - 10} more days"] if len(by_day) > 10 else []
        return cls([*[*by_day.values()][:10], *more], by_day)


class NotReadyError(ActionRequiredError):
    """Too little is known yet for the step; a later day will have enough. The task is skipped and does not fail."""


class ConfigError(ActionRequiredError):
    """A YAML file of a project or model is wrong."""


class DeliveryError(ActionRequiredError):
    """A file in landing cannot be landed as it is, or a file that the day needs is missing."""


class UnreadableError(ActionRequiredError):
    """A file cannot be read as it is declared. The message continues the name of the file: `, line 3: …`.

    It never contains a value of a row, except a date. `line` is the line of the file that is wrong, counted in `unit`s;
    None if the file is wrong as a whole.
    """

    def __init__(self, message: str, *, line: int | None = None, unit: str = "line") -> None:
        super().__init__(f"{'' if line is None else f', {unit} {line}'}: {message}")
        self.problem, self.line, self.unit = message, line, unit


class AccessError(ActionRequiredError):
    """A service refuses the credentials that this process has."""


class UnreachableError(ActionRequiredError):
    """A database that a feed is extracted from, or the place of the public page, does not answer, or Spark lost rows.

    Another try may help, so `dags/` retries the step.
    """


class PageGoneError(ActionRequiredError):
    """The place of the public page answers, and no page is there."""


class LockTimeoutError(ActionRequiredError):
    """Another session holds a lock in the shared database. It may end by itself, so `dags/` retries the step."""


class UnfinishedError(ActionRequiredError):
    """A rotation of the hash key, or the erasure of a person, was begun and has not finished. No step runs before."""


class ChangedMeanwhileError(ActionRequiredError):
    """Rows were changed by a rotation or an erasure while a step ran that could not hold it off."""


class DataError(ActionRequiredError):
    """Rows broke a critical expectation, or counts that must agree do not."""


def nearest(word: str, words: Any) -> str:
    """Return '; did you mean …?' with the most similar word, or the list of words if none is similar."""
    known = [str(w) for w in words]
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(known)}" if known else "; there is none"
