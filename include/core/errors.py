"""Errors that a person has to mend: running the same step again cannot help, so `dags/` does not retry them."""

import difflib
from collections.abc import Mapping
from datetime import date
from typing import Any


class ActionRequiredError(Exception):
    """Says what is wrong, where, and how to mend it. Nothing was written by the step that raises it.

    `by_day`: of a step over many days, which of them are wrong, each in words, where that is known: the others could
    go on without them.
    """

    def __init__(self, message: str, by_day: Mapping[date, str] | None = None) -> None:
        super().__init__(message)
        self.by_day = dict(by_day or {})


class NotReadyError(ActionRequiredError):
    """Too little is known yet for the step to be of use; it will be on a later day. No failure: the run is skipped."""


class ConfigError(ActionRequiredError):
    """A YAML file of a project or model is wrong."""


class DeliveryError(ActionRequiredError):
    """A file in landing cannot be taken as it is, or a file that the day needs is missing."""


class ChangedDeliveryError(ActionRequiredError):
    """An object's content changed under its name after it was taken: history would no longer be reproducible."""


class DataError(ActionRequiredError):
    """Rows broke a critical expectation, or counts that must agree do not."""


def nearest(word: str, words: Any) -> str:
    """'; did you mean …?' or, when nothing is near, what there is."""
    known = [str(w) for w in words]
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(known)}" if known else "; there is none"
