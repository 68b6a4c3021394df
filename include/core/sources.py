"""The sources of feeds that are not files: their settings, and the parameters of their queries. Pure.

`io/sources` has the clients. A source is a class with a `kind`; to add one, write its class here and its client there.
"""

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from include.core.base import Config, Zone
from include.core.errors import nearest

PARAMETERS = ("day", "as_of")
"""What a query may bind: the day of the delivery, and the moment up to which its first run date knows."""

_QUOTED = re.compile(
    r"[eE]'(?:[^'\\]|\\.|'')*'"  # text of PostgreSQL with escapes
    r"|'(?:[^']|'')*'"
    r'|"(?:[^"]|"")*"'
    r"|`[^`]*`"
    r"|--[^\n]*"
    r"|/\*.*?\*/"
    r"|\$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$",
    re.DOTALL,
)
_PARAMETER = re.compile(r"(?<![:\w\\]):([A-Za-z_]\w*)")


class Sql(Config):
    """A query against a database, whose result is the delivery of a day."""

    kind: Literal["sql"] = Field(description="sql: a query against a database")
    connection: str = Field(
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="Airflow connection to the database; without Airflow, a name in NIGHTLY_SOURCES",
        examples=["shop_db"],
    )
    query: str = Field(
        description="one SELECT. It binds :day, the day of the delivery, and may bind :as_of, the cutoff (UTC) of the "
        "first run date that needs it. Only a snapshot can do without :day",
        examples=["SELECT product, price, valid_on FROM prices WHERE valid_on = :day AND changed_at <= :as_of"],
    )
    immutable: bool = Field(
        default=False,
        description="whether the rows of a day never change once its cutoff has passed: the delivery counts from that "
        "cutoff and is extracted once",
    )
    timezone: Zone | None = Field(
        default=None,
        description="the timezone of timestamps without a zone; by default such a result is refused",
        examples=["Europe/Berlin"],
    )

    timeout_minutes: int = Field(
        default=60,
        ge=1,
        strict=True,
        description="how long PostgreSQL may take for the query, or for some of its rows; a shorter limit of the login "
        "stays",
        examples=[10],
    )

    @model_validator(mode="after")
    def _binds_what_there_is(self) -> Self:
        text = _outside_of_quotes(self.query)
        if not re.match(r"\s*(?:select|with)\b", text, re.IGNORECASE):
            raise ValueError("query: it must be one SELECT, which may begin with WITH")
        if ";" in text.rstrip().removesuffix(";"):
            raise ValueError("query: it has several statements; write one SELECT")
        if unknown := sorted(self.binds - set(PARAMETERS)):
            raise ValueError(f"query: it binds :{unknown[0]}{nearest(unknown[0], PARAMETERS)}")
        return self

    @property
    def binds(self) -> frozenset[str]:
        """Return the names of the parameters that the query binds."""
        return frozenset(_PARAMETER.findall(_outside_of_quotes(self.query)))

    @property
    def claims(self) -> bool:
        """Return whether a delivery counts from the cutoff of its day, whenever it is extracted."""
        return self.immutable or "as_of" in self.binds

    @property
    def says_day(self) -> bool:
        """Return whether a delivery is of a day. Otherwise it is the state at the moment of its extraction."""
        return bool(self.binds)


def for_sqlalchemy(query: str) -> str:
    """Return the query as `sqlalchemy.text` reads it: only the parameters have a colon that is not escaped.

    SQLAlchemy takes `:day` within quotes for a parameter too, and does not see one that a cast follows, `:day::date`.
    """
    pieces, end = [], 0
    for quoted in _QUOTED.finditer(query):
        pieces += [_bound(query[end : quoted.start()]), quoted[0].replace(":", r"\:")]
        end = quoted.end()
    return "".join([*pieces, _bound(query[end:])]).rstrip().removesuffix(";")


def _bound(text: str) -> str:
    """Return text outside of quotes with its parameters in parentheses; its other colons are escaped."""
    pieces, end = [], 0
    for parameter in _PARAMETER.finditer(text):
        pieces += [text[end : parameter.start()].replace(":", r"\:"), f"(:{parameter[1]})"]
        end = parameter.end()
    return "".join([*pieces, text[end:].replace(":", r"\:")])


def _outside_of_quotes(query: str) -> str:
    return _QUOTED.sub(" ", query)
