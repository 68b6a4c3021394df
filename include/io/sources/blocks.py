"""What the clients have in common: a block of rows, and errors without secrets or values of rows."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from include.core.errors import UnreachableError, UnreadableError

BLOCK_ROWS = 10_000
"""The most rows that a client fetches at once."""

_SHOWN = ("0A", "25", "42", "28", "3D", "08", "53", "55", "57")
"""SQLSTATE classes whose messages are about the query, the connection or the server, never about a value of a row."""
_UNREACHABLE = ("08", "28", "3D", "40", "53", "57")
"""SQLSTATE classes that say nothing about the query: another try may help."""


@dataclass(frozen=True)
class Block:
    """Some rows of a result: the names of its columns, and a function that returns the text of one of them."""

    names: Sequence[str]
    height: int
    text: Callable[[int], pl.Series]


def no_type(name: str, what: str) -> UnreadableError:
    """Return the error of a column that cannot become text."""
    return UnreadableError(
        f"{name} is {what}; select text, numbers, booleans, dates or timestamps, such as CAST({name} AS text)"
    )


def no_zone(name: str) -> UnreadableError:
    """Return the error of a column with timestamps that may be in any zone."""
    return UnreadableError(
        f"{name} has timestamps without a zone; select them with one, or declare the zone that they are in: "
        "source.timezone: UTC"
    )


def _is_of_sqlite(error: Exception) -> bool:
    return type(error).__module__.startswith("sqlite3")


def failed(error: Exception, sqlstate: str | None, message: str, *, connecting: bool) -> Exception:
    """Return the product's error for one of a driver.

    The driver's own text may have the URI with its password, or a value of a row, so only the first line of some is
    kept.

    Args:
        error: of the driver.
        sqlstate: its code, if it has one.
        message: its text.
        connecting: whether there is no connection, or none any more.
    """
    code = f", SQLSTATE {sqlstate}" if sqlstate else ""
    line = message.strip().splitlines()[0].strip() if message.strip() else ""
    # a driver without codes may put a value of a row into its text; that of SQLite does not
    shown = sqlstate.startswith(_SHOWN) if sqlstate else connecting or _is_of_sqlite(error)
    # a host with an @ has the end of a password: one that was not written as %40 in the URL
    about = f": {line}" if shown and line and not re.search(r"://|@|password=", line) else ""
    what = f"{type(error).__name__}{code}{about}"
    if connecting or (sqlstate or "").startswith(_UNREACHABLE):
        return UnreachableError(what)
    return UnreadableError(f"the query failed ({what}); correct source.query in project.yaml")
