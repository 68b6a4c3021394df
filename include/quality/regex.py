r"""Write a regular expression of Python, as Great Expectations searches with it, for the engine of polars. Pure.

The engines differ: in Python, `$` also matches before a final newline, and classes such as `\\d` follow the Unicode
version of the interpreter. So every part is written out, and a pattern that the other engine cannot evaluate equally,
such as one with lookahead, is not translated.
"""

import re
import sys
import warnings
from collections.abc import Iterable
from functools import cache

# Python has no public parser of its patterns. tests/unit/quality/test_rows.py notices if this one changes.
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import polars as pl

READ_ALIKE = int(re.UNICODE | re.DOTALL | re.VERBOSE)
"""Flags whose effect is known; DOTALL is that of `.`, and VERBOSE is gone once the pattern is parsed."""

SURROGATES = range(0xD800, 0xE000)
CLASSES = {sre.CATEGORY_DIGIT: r"\d", sre.CATEGORY_SPACE: r"\s", sre.CATEGORY_WORD: r"\w"}
COMPLEMENTS = {
    sre.CATEGORY_NOT_DIGIT: sre.CATEGORY_DIGIT,
    sre.CATEGORY_NOT_SPACE: sre.CATEGORY_SPACE,
    sre.CATEGORY_NOT_WORD: sre.CATEGORY_WORD,
}


class _UntranslatableError(Exception):
    """A pattern means something that the other engine does not have."""


@cache
def of_polars(pattern: str) -> str | None:
    """Return a pattern with which polars finds the same texts as `re.search`; None if there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of patterns that a later version reads differently
            parsed = parser.parse(pattern)
        if parsed.state.flags & ~READ_ALIKE:
            return None
        written = _sequence(parsed, dot="." if parsed.state.flags & re.DOTALL else r"[^\n]", last=True)
        translated = f"(?s){written}"
        pl.Series([""]).str.contains(translated)
    except (_UntranslatableError, re.error, RecursionError, pl.exceptions.ComputeError):
        return None
    return translated


def _sequence(parts: Iterable[tuple[Any, Any]], *, dot: str, last: bool) -> str:
    """Write parts that follow each other. `last`: nothing follows them."""
    items = [*parts]
    return "".join(_part(op, of, dot=dot, last=last and n == len(items)) for n, (op, of) in enumerate(items, 1))


def _part(op: Any, of: Any, *, dot: str, last: bool) -> str:
    if op is sre.LITERAL:
        return _character(of)
    if op is sre.NOT_LITERAL:
        return f"[^{_character(of)}]"
    if op is sre.ANY:
        return dot
    if op is sre.IN:
        return _class(of)
    if op is sre.BRANCH:
        return f"(?:{'|'.join(_sequence(branch, dot=dot, last=last) for branch in of[1])})"
    if op is sre.SUBPATTERN and not of[1] and not of[2]:  # flags of the group
        return f"(?:{_sequence(of[3], dot=dot, last=last)})"
    if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
        least, most, repeated = of
        most = "" if most is sre.MAXREPEAT else int(most)
        return f"(?:{_sequence(repeated, dot=dot, last=False)}){{{least},{most}}}"
    if op is sre.AT and of in (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING):
        return r"\A"
    if op is sre.AT and of is sre.AT_END_STRING:
        return r"\z"
    if op is sre.AT and of is sre.AT_END and last:
        return r"\n?\z"
    raise _UntranslatableError(op)


def _character(code: int) -> str:
    if code in SURROGATES:
        raise _UntranslatableError(code)
    return rf"\x{{{code:x}}}"


def _class(parts: Iterable[tuple[Any, Any]]) -> str:
    found, negated = [], ""
    for op, of in parts:
        if op is sre.NEGATE:
            negated = "^"
        elif op is sre.LITERAL:
            found.append(_character(of))
        elif op is sre.RANGE:
            found.append(f"{_character(of[0])}-{_character(of[1])}")
        elif op is sre.CATEGORY and of in CLASSES:
            found.append(f"[{_members(CLASSES[of])}]")
        elif op is sre.CATEGORY and of in COMPLEMENTS:
            found.append(f"[^{_members(CLASSES[COMPLEMENTS[of]])}]")
        else:
            raise _UntranslatableError(op)
    return f"[{negated}{''.join(found)}]"


@cache
def _members(name: str) -> str:
    """Return the ranges of a class of characters, as this interpreter has them."""
    every = "".join(chr(code) for code in range(sys.maxunicode + 1) if code not in SURROGATES)
    runs = re.finditer(f"{name}+", every)
    found = []
    for run in runs:
        first, end = ord(run[0][0]), ord(run[0][-1])
        if first < SURROGATES.start < end:
            raise _UntranslatableError(name)
        found.append(f"{_character(first)}-{_character(end)}")
    return "".join(found)
