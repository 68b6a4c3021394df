"""What all formats share: the settings of text that becomes values, and what a format has to do.

The only import of polars is in functions: Airflow reads declarations often, and they need none.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from include.core.base import Zone
from include.core.formats import patterns
from include.core.formats.limits import Limits
from include.core.formats.unpack import unpacked
from include.core.variants import Variant

if TYPE_CHECKING:
    import polars as pl

MAX_LISTED = 10
"""The most names or positions that a message lists."""
WORDS_OF_YAML = {"true", "false", "null", "nan", "yes", "no", "y", "n", "on", "off"}
"""Texts that need quotes, because some version of YAML reads them as something else."""


@dataclass(frozen=True)
class Layout:
    """What a feed declares of the columns of its files.

    Attributes:
        names: the declared columns.
        optional: those that a file may leave out.
        extra_columns: what happens to undeclared columns: refuse, ignore or warn.
        limits: of a file.
    """

    names: tuple[str, ...]
    optional: frozenset[str]
    extra_columns: str
    limits: Limits

    @property
    def max_columns(self) -> int:
        """Return the most columns of a file."""
        return max(self.limits.columns, len(self.names))


@dataclass(frozen=True)
class Contents:
    """What was read from a file.

    Attributes:
        records: all declared columns as text, with `_row`: the line in the file (in Parquet: the number of the row).
        remark: about what was left out; None if nothing was.
        differs: how the columns differ from the declared ones, in words; no name of an undeclared column.
        types: the type that the file itself gives to each declared column; empty of text.
    """

    records: "pl.DataFrame"
    remark: str | None = None
    differs: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)


class Format(Variant, ABC):
    """How the files of a feed are written."""

    whole_decimals: ClassVar[bool] = False
    """Whether an integer may be written with decimals that are all 0, because the file's own type has decimals."""

    can_crash: ClassVar[bool] = False
    """Whether a crafted file can end the process that reads it: `io/apart.py` reads it in another one."""

    unit: ClassVar[str] = "line"
    """What `_row` counts."""

    null_values: tuple[str, ...] = Field(
        default=(),
        description="texts that stand for a missing value. In a CSV file, an empty value is always one",
        examples=[["NA", "NULL"]],
    )
    timestamp: str | tuple[str, ...] | None = Field(
        default=None,
        description="how timestamps are written, as in Python's strftime, one form or several; "
        "without it ISO 8601, with an offset unless there is a `timezone`",
        examples=["%d.%m.%Y %H:%M"],
    )
    timezone: Zone | None = Field(
        default=None,
        description="the timezone of timestamps that are written without an offset. A local time that comes twice is "
        "the first one; one that does not exist is malformed",
        examples=["Europe/Berlin"],
    )
    date: str | tuple[str, ...] | None = Field(
        default=None,
        description="how dates are written, as in Python's strftime, one form or several; without it ISO 8601",
        examples=["%d.%m.%Y"],
    )

    @model_validator(mode="after")
    def _patterns_are_clear(self) -> Self:
        for pattern in self.timestamps:
            patterns.require_clear("timestamp", pattern)
            if "%z" not in pattern and self.timezone is None:
                raise ValueError(f"timestamp: {pattern!r} has no offset (%z); declare the timezone, or add %z")
        for pattern in self.dates:
            patterns.require_clear("date", pattern)
        return self

    @property
    def timestamps(self) -> tuple[str, ...]:
        """Return the declared forms of timestamps; none means ISO 8601."""
        return _several(self.timestamp)

    @property
    def dates(self) -> tuple[str, ...]:
        """Return the declared forms of dates; none means ISO 8601."""
        return _several(self.date)

    @property
    def separators(self) -> tuple[str, str]:
        """Return the decimal and the thousands separator of numbers; an empty one is none."""
        return ".", ""

    @property
    def boolean_words(self) -> dict[str, bool]:
        """Map each word of a boolean to its value."""
        return {"true": True, "false": False}

    def read(self, content: bytes, name: str, layout: Layout) -> Contents:
        """Read a file.

        Args:
            content: the object, compressed or not.
            name: of the object, which may end with the name of a compression.
            layout: the declared columns and limits.

        Raises:
            UnreadableError: it names the line, what was found, and what to write in project.yaml to accept it.
        """
        blocks = unpacked(content, name, layout.limits)
        try:
            return self.parse(blocks, layout)
        except Exception:
            for _ in blocks:  # of a file that is damaged, or a bomb, this is said first
                pass
            raise

    @abstractmethod
    def parse(self, blocks: Iterator[bytes], layout: Layout) -> Contents:
        """Read the blocks of an unpacked file; see `read`."""

    def line(self, **changes: Any) -> str:
        """Return this format with changes as the line of YAML that declares it."""
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        settings = {name: value for name, value in {**self.model_dump(), **changes}.items() if value != defaults[name]}
        return format_line({"kind": self.kind, **settings})


def format_line(settings: dict[str, Any]) -> str:
    """Return the line of YAML that declares a format with these settings."""
    return f"format: {{{', '.join(f'{name}: {_yaml(value)}' for name, value in settings.items())}}}"


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    plain = re.fullmatch(r"[A-Za-z][\w/-]*", value) and value.lower() not in WORDS_OF_YAML
    return value if plain else json.dumps(value, ensure_ascii=not value.isprintable())


def _several(declared: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (declared,) if isinstance(declared, str) else declared or ()


def listed(items: Iterable[object]) -> str:
    """Return items for a message: the first ones, and how many more there are."""
    texts: Sequence[str] = [str(item) for item in items]
    more = f" and {len(texts) - MAX_LISTED:,} more" if len(texts) > MAX_LISTED else ""
    return ", ".join(text if len(text) <= 80 else f"{text[:79]}…" for text in texts[:MAX_LISTED]) + more
