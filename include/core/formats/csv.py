"""CSV: text with a header, one record a line, values between delimiters."""

import csv
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from include.core.errors import UnreadableError
from include.core.formats import columns, text
from include.core.formats.base import Contents, Format, Layout, format_line
from include.core.formats.limits import NAME_CHARACTERS

if TYPE_CHECKING:
    from include.core.formats.frames import Rows
    from include.core.formats.records import Records

DELIMITERS = ",;\t|"
"""The delimiters that are looked for in a header that does not have the declared one."""
SHARED = frozenset({"null_values", "timestamp", "timezone", "date"})
"""The settings that a format of another kind has too."""


def _encoding(name: str) -> str:
    text.normal(name)
    return name


def _character(written: str) -> str:
    if written in "\r\n\0":
        raise ValueError("a line break or NUL cannot separate values")
    return written


Character = Annotated[str, Field(min_length=1, max_length=1), AfterValidator(_character)]


class Csv(Format):
    """CSV as in RFC 4180. A quote within quotes is written twice; an empty value is null."""

    kind: Literal["csv"] = "csv"
    delimiter: Character = Field(default=",", description="the character between values", examples=[";"])
    quote: Character | None = Field(
        default='"', description="the character around values that contain delimiters; null: there is none"
    )
    encoding: Annotated[str, AfterValidator(_encoding)] = Field(
        default="utf-8", description="of the text, as Python names it", examples=["latin-1"]
    )
    decimal: Literal[".", ","] = Field(default=".", description="before the decimals of a number", examples=[","])
    thousands: Character | None = Field(
        default=None,
        description="between groups of three digits; numbers without it are right too, other groups are malformed",
        examples=["."],
    )
    true_values: tuple[str, ...] = Field(
        default=("true",), min_length=1, description="words of a boolean that is true", examples=[["yes"]]
    )
    false_values: tuple[str, ...] = Field(
        default=("false",), min_length=1, description="words of a boolean that is false", examples=[["no"]]
    )

    @model_validator(mode="after")
    def _characters_differ(self) -> Self:
        if self.quote == self.delimiter:
            raise ValueError(f"quote: {self.quote!r} is the delimiter too")
        if self.thousands == self.decimal:
            raise ValueError(f"thousands: {self.thousands!r} is the decimal separator too")
        if self.thousands and (self.thousands.isalnum() or self.thousands in "+-"):
            raise ValueError(f"thousands: {self.thousands!r} can be part of a number; write a point, comma or space")
        if both := sorted({*self.true_values} & {*self.false_values}):
            raise ValueError(f"false_values: {both[0]!r} is in true_values too")
        return self

    @property
    def separators(self) -> tuple[str, str]:
        """Return the decimal and the thousands separator of numbers; an empty one is none."""
        return self.decimal, self.thousands or ""

    @property
    def boolean_words(self) -> dict[str, bool]:
        """Map each word of a boolean to its value."""
        return {**dict.fromkeys(self.true_values, True), **dict.fromkeys(self.false_values, False)}

    def parse(self, blocks: Iterator[bytes], layout: Layout) -> Contents:
        """Read the blocks of an unpacked file; see `Format.read`."""
        found: UnreadableError
        try:
            return self._read(blocks, layout)
        except text.EncodingError as error:
            found = self._other_encoding(error)
        raise found  # not chained: the error of the decoder contains the text

    def _read(self, blocks: Iterator[bytes], layout: Layout) -> Contents:
        from include.core.formats.frames import Rows
        from include.core.formats.records import Records

        lines = text.Lines(text.decoded(self._checked(blocks), self.encoding), layout.max_columns * NAME_CHARACTERS)
        csv.field_size_limit(max(csv.field_size_limit(), layout.limits.field_characters + 1))  # `lines` has the limit
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True, **self._quoting)
        header = self._next(reader, lines, layout, header=True)
        at = self._places(header, lines.first, layout)
        most, width = layout.limits.field_characters, len(header or ())
        lines.most, lines.pending = (most + 3) * width, 0
        rows = Rows(layout, at, width, empty_is_null=True)
        records = Records(self.delimiter, self.quote, width, tuple({p for p in at if p is not None}), most)
        while self._add_blocks(records, lines, rows):
            while lines.at_hand and (record := self._next(reader, lines, layout)) is not None:
                if len(record) != width:
                    raise UnreadableError(self._other_width(len(record), width), line=lines.number)
                if lines.pending > most and max(map(len, record)) > most:
                    raise text.too_long(most, lines.number)
                lines.pending = 0
                rows.add(record, lines.number)
        differs = columns.differs(header, layout) if header else ()
        return Contents(rows.frame(), columns.remark(header or (), layout), differs)

    def _add_blocks(self, records: "Records", lines: text.Lines, rows: "Rows") -> bool:
        """Add blocks of records as long as it is proven what they are; return whether there are other lines at hand."""
        too_long_after: int | None = None
        try:
            while taken := lines.take():
                block = records.read(taken)
                if block is None:
                    lines.put_back(taken)
                    return True
                if block.count:
                    rows.add_block(block.values, block.lines + lines.number)
                    lines.number += block.count
                if (left := taken[block.characters :]) and not lines.keep(left):
                    return True
        except text.TooLongError as error:
            too_long_after = error.line
        if too_long_after is not None:
            raise text.too_long(records.most, too_long_after + 1)
        return False

    @property
    def _quoting(self) -> dict[str, Any]:
        return {"quotechar": self.quote} if self.quote else {"quoting": csv.QUOTE_NONE, "quotechar": None}

    def _next(self, reader: Any, lines: text.Lines, layout: Layout, *, header: bool = False) -> list[str] | None:
        """Return the next record, None after the last one."""
        try:
            return next(reader, None)
        except text.TooLongError as error:
            line, begin, problem = error.line, error.begin, ""
        except csv.Error as error:
            line, begin, problem = lines.number, "", str(error)
        if not problem and header:
            if begin.count(self.delimiter) >= layout.max_columns:
                raise columns.too_many(layout, 1)
            raise UnreadableError(
                "no header: the line is too long; a line break or the delimiter may be another", line=1
            )
        if not problem or "field limit" in problem:
            raise text.too_long(layout.limits.field_characters, line + 1)
        if "new-line character" in problem:
            problem = "a carriage return without a line feed; lines must end with \\n or \\r\\n"
        raise UnreadableError(f"not CSV ({problem}); deliver the file again", line=line)

    def _places(self, header: list[str] | None, first: str, layout: Layout) -> list[int | None]:
        if header is None:
            raise UnreadableError("the file is empty and has no header; deliver it again", line=1)
        declared = {*layout.names}
        has = len(declared & {*header})
        if first.startswith("sep=") and len(first.strip()) == 5:
            raise UnreadableError("the line `sep=` of Excel is not CSV; deliver the file without it", line=1)
        for other in DELIMITERS:
            if other != self.delimiter and len(declared & {*self._split(first, other)}) > has:
                raise UnreadableError(
                    f"the header changed: the delimiter is {_name(other)}, declared is {_name(self.delimiter)}; "
                    f"deliver the file as declared, or declare {self.line(delimiter=other)}",
                    line=1,
                )
        return columns.places(header, layout, line=1)

    def _split(self, line: str, delimiter: str) -> list[str]:
        quoting = self._quoting if self.quote != delimiter else {"quoting": csv.QUOTE_NONE}
        try:
            return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter, **quoting), [])
        except csv.Error:
            return []

    def _other_width(self, fields: int, width: int) -> str:
        if not fields:
            return "an empty line; deliver the file again"
        return f"{fields:,} fields, the header has {width}; deliver the file again"

    def _other_encoding(self, error: text.EncodingError) -> UnreadableError:
        declare = f", or declare {self.line(encoding=error.found)}" if error.found else ""
        if self.encoding == "utf-8":
            what = f"not UTF-8; deliver the file again in UTF-8{declare}"
        elif error.found == "utf-8":
            what = f"the text is UTF-8, declared is {self.encoding}; deliver the file as declared{declare}"
        else:
            what = f"not {self.encoding}, the declared encoding; deliver the file again{declare}"
        return UnreadableError(what, line=error.line)

    def _checked(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Refuse files of another kind, which may be within a compression."""
        for number, block in enumerate(blocks):
            if not number:
                self._require_text(block)
            yield block

    def _require_text(self, content: bytes) -> None:
        kind = "parquet" if content.startswith(b"PAR1") else "jsonl" if content.lstrip()[:2] in _OBJECTS else None
        if kind:
            shared = {name: value for name, value in self.model_dump(include={*SHARED}).items() if value}
            raise UnreadableError(
                f"the file is {kind}, declared is csv; deliver CSV, or declare {format_line({'kind': kind, **shared})}"
            )


_OBJECTS = (b'{"', b"{}", b"{ ", b"{'")


def _name(delimiter: str) -> str:
    return {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar", " ": "a space"}.get(
        delimiter, repr(delimiter)
    )
