"""Read blocks of CSV with Arrow, many times faster than by Python's `csv`, where both read the same.

The proof is in the block itself: each quote begins or ends a value or is written twice within one, each carriage return
is before a line feed, and there is no NUL. Then a record ends at each line feed outside of quotes, and Arrow must find
as many records, each as wide as the header. A block without the proof is read by `csv`, which says what is wrong.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

FEED, RETURN = ord("\n"), ord("\r")
MAX_BYTES = 1 << 30
"""The largest block; Arrow counts bytes of text with 32 bits."""


@dataclass(frozen=True)
class RecordBlock:
    """Whole records.

    Attributes:
        values: the wanted columns as text, named by their place; an empty value is null.
        lines: for each record, how many lines end up to its end.
        count: of lines.
        characters: of the text that was read.
    """

    values: "pl.DataFrame"
    lines: "np.ndarray[Any, Any]"
    count: int
    characters: int


@dataclass(frozen=True)
class Records:
    """How the records of a file are written.

    Attributes:
        delimiter: between values.
        quote: around values, None if there is none.
        width: of each record.
        wanted: the places of the columns that are read.
        most: the most characters of a record here; longer ones are left to `csv`.
    """

    delimiter: str
    quote: str | None
    width: int
    wanted: tuple[int, ...]
    most: int

    @property
    def are_known(self) -> bool:
        """Whether Arrow knows this way of writing. It takes the one empty value of a line for a record."""
        return self.width > 1 and self.delimiter.isascii() and (self.quote or "").isascii()

    def read(self, text: str) -> RecordBlock | None:
        """Read the records that are whole in a text, which begins with one; None if nothing proves what they are.

        Args:
            text: whole lines; the last one of a file may lack its line feed.
        """
        import numpy as np
        import polars as pl

        if not self.are_known:
            return None
        data = text.encode() if text.endswith("\n") else f"{text}\n".encode()
        is_plain = b"\0" not in data and data.count(b"\r") == data.count(b"\r\n") and len(data) < MAX_BYTES
        if not is_plain or data.startswith(b"\xef\xbb\xbf"):  # Arrow leaves out a mark at the begin of any block
            return None
        found = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(found == FEED)
        lines = np.arange(1, ends.size + 1)
        if self.quote and self.quote.encode() in data:
            quotes = np.flatnonzero(found == ord(self.quote))
            if not self._are_clear(found, quotes):
                return None
            outside = np.searchsorted(quotes, ends) % 2 == 0
            ends, lines = ends[outside], lines[outside]
            if not ends.size:
                return RecordBlock(pl.DataFrame(), lines, 0, 0)
        sizes = np.diff(ends, prepend=-1) - 1 - (found[ends - 1] == RETURN)
        if sizes.min() < 1 or sizes.max() > self.most:  # Arrow takes an empty line for a record of empty values
            return None
        whole = data[: ends[-1] + 1]
        values = self._parsed(whole, has_breaks=bool(lines[-1] != lines.size))
        if values is None or values.height != ends.size:
            return None
        characters = len(text) if len(whole) == len(data) else len(whole.decode())
        return RecordBlock(values, lines, int(lines[-1]), characters)

    def _are_clear(self, found: "np.ndarray[Any, Any]", quotes: "np.ndarray[Any, Any]") -> bool:
        """Return whether each quote begins or ends a value, or is one of two that stand for one."""
        import numpy as np

        begin, end = quotes[::2], quotes[1::2]
        around = [ord(self.delimiter), FEED, ord(self.quote or "")]
        begins = np.isin(found[begin[begin > 0] - 1], around)
        return bool(begins.all() and np.isin(found[end + 1], [*around, RETURN]).all())

    def _parsed(self, data: bytes, *, has_breaks: bool) -> "pl.DataFrame | None":
        import polars as pl
        import pyarrow as pa
        from pyarrow import csv

        names = [str(place) for place in range(self.width)]
        wanted = [str(place) for place in self.wanted]
        quoting = {"quote_char": self.quote, "double_quote": True} if self.quote else {"quote_char": False}
        try:
            table = csv.read_csv(
                pa.py_buffer(data),
                csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
                csv.ParseOptions(
                    delimiter=self.delimiter,
                    escape_char=False,
                    newlines_in_values=has_breaks,
                    ignore_empty_lines=False,
                    **quoting,
                ),
                csv.ConvertOptions(
                    check_utf8=False,
                    column_types=dict.fromkeys(wanted, pa.string()),
                    include_columns=wanted,
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid:  # another number of values than the header has
            return None
        return pl.DataFrame(pl.from_arrow(table))
