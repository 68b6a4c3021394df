"""What is read from CSV in blocks is what Python's `csv` reads: rows, lines, and the sentence about what is wrong."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.core.errors import UnreadableError
from include.core.formats import Layout, Limits
from include.core.formats.csv import Csv
from include.core.formats.records import RecordBlock, Records

NAMES = ("id", "on", "value")


def layout_of(**changes: Any) -> Layout:
    return Layout(NAMES, frozenset(), "ignore", Limits(field_characters=40, columns=5, **changes))


def read(written: Csv, content: bytes, cuts: list[int], **limits: Any) -> pl.DataFrame | tuple[str, int | None]:
    """Return the rows of a file that comes in pieces, or what is wrong with it."""
    try:
        return written.parse(_pieces(content, cuts), layout_of(**limits)).records
    except UnreadableError as error:
        return error.problem, error.line


def _pieces(content: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = [0, *sorted({cut % (len(content) + 1) for cut in cuts}), len(content)]
    return (content[a:b] for a, b in pairwise(places) if a < b)


class Reader:
    """Counts the blocks that were read without `csv`, or forbids them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blocks, self.forbidden = 0, False

        def counted(records: Records, text: str) -> RecordBlock | None:
            block = None if self.forbidden else original(records, text)
            self.blocks += block is not None and block.count > 0
            return block

        original = Records.read
        monkeypatch.setattr(Records, "read", counted)

    def both(self, written: Csv, content: bytes, cuts: list[int]) -> list[Any]:
        found = []
        for self.forbidden in (False, True):
            found.append(read(written, content, cuts))
        return found


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    return Reader(monkeypatch)


dialects = st.sampled_from([
    Csv(),
    Csv(delimiter=";", quote="'"),
    Csv(delimiter="\t", quote=None),
    Csv(delimiter=" ", quote="x"),
    Csv(delimiter="§"),
    Csv(encoding="utf-16"),
    Csv(encoding="latin-1"),
])
texts = st.text(st.sampled_from("ab0 äx\ufeff"), max_size=6)
odd = st.text(st.sampled_from("ab,;'\"\r\n\0\t x"), max_size=6)


@st.composite
def files(draw: st.DrawFn) -> tuple[Csv, bytes]:
    """Draw a file: mostly right, with values that need quotes, and sometimes with anything in it."""
    written = draw(dialects)
    between, quote = written.delimiter, written.quote
    line_end = draw(st.sampled_from(["\n", "\r\n"]))
    lines = [between.join(NAMES) + line_end]
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.integers(0, 19))
        width = 3 if kind else draw(st.integers(0, 5))
        values = []
        for _ in range(width):
            value = draw(odd if kind < 3 else texts)
            if quote and (draw(st.booleans()) or set(value) & {between, quote, "\r", "\n"}) and kind != 1:
                value = f"{quote}{value.replace(quote, 2 * quote)}{quote}"
            values.append(value)
        lines.append(
            between.join(values) + (line_end if kind != 2 else draw(st.sampled_from(["\r", "\n", "\r\n", ""])))
        )
    text = "".join(lines)
    if draw(st.booleans()):
        text = text.removesuffix(line_end)
    content = text.encode(written.encoding, "replace")
    if draw(st.integers(0, 19)) == 0:
        content += draw(st.binary(max_size=3))
    return written, content


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file=files(), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_any_file_is_read_as_csv_reads_it(reader: Reader, file: tuple[Csv, bytes], cuts: list[int]) -> None:
    fast, slow = reader.both(*file, cuts)
    if isinstance(slow, pl.DataFrame):
        assert isinstance(fast, pl.DataFrame)
        assert fast.equals(slow)
        assert fast.schema == slow.schema
    else:
        assert fast == slow


CLEAR = {
    "plain values": b"1,2,3\n4,5,6\n",
    "no line feed at the end": b"1,2,3\n4,5,6",
    "carriage returns": b"1,2,3\r\n4,5,6\r\n",
    "empty values": b',,\n"","",""\n',
    "quotes within quotes": b'"a""b","""",""""""\n1,2,3\n',
    "line feeds within quotes": b'1,"a\nb\n",3\n4,"\r\n",6\n7,8,9\n',
    "characters of many bytes": "ä,€,😀\n1,2,3\n".encode(),
}
UNCLEAR = {
    "a quote in a value": b'1,a"b,3\n',
    "two quotes in values": b'1,a"b,c"d\n',
    "text after a quote": b'1,"a"b,3\n',
    "a quote that does not end": b'1,"a,3\n4,5,6\n',
    "a lone carriage return": b"1,a\rb,3\n",
    "two carriage returns": b"1,2,3\r\r\n",
    "a NUL": b"1,a\0b,3\n",
    "an empty line": b"1,2,3\n\n",
    "a short record": b"1,2\n",
    "a long record": b"1,2,3,4\n",
    "a mark of UTF-8 where no file begins": "\ufeff1,2,3\n".encode(),
    "a long line": b"1," + 50 * b"a" + b",3\n",
}
HEADER = b"id,on,value\n"


@pytest.mark.parametrize("case", CLEAR)
def test_what_is_clear_is_read_in_a_block(reader: Reader, case: str) -> None:
    """However it is cut into pieces."""
    content = HEADER + CLEAR[case]
    for cuts in ([], [len(HEADER)], [*range(len(content))]):
        fast, slow = reader.both(Csv(), content, cuts)
        assert fast.equals(slow)
    assert reader.blocks >= 3


@pytest.mark.parametrize("case", UNCLEAR)
def test_what_is_not_clear_is_left_to_csv(reader: Reader, case: str) -> None:
    fast, slow = reader.both(Csv(), HEADER + UNCLEAR[case], [])
    assert reader.blocks == 0
    assert fast.equals(slow) if isinstance(slow, pl.DataFrame) else fast == slow


def test_after_an_unclear_block_blocks_are_read_again(reader: Reader) -> None:
    """Only the piece with the odd record costs more, and lines stay right."""
    pieces = [HEADER, b"1,2,3\n", b'4,"a\nb\n', b'c",6\n', b'7,a"b,9\n', b"1,2,3\n", b"4,5,6\n"]
    cuts = [sum(map(len, pieces[:n])) for n in range(len(pieces))]
    fast, slow = reader.both(Csv(), b"".join(pieces), cuts)
    assert fast.equals(slow)
    assert fast["_row"].to_list() == [2, 5, 6, 7, 8]
    assert reader.blocks == 4


def test_rows_are_counted_alike_whatever_way_they_are_read(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with too many rows and a record that cannot be read is refused for what comes first."""
    monkeypatch.setattr("include.core.formats.frames.BLOCK_VALUES", 9)
    monkeypatch.setattr(Limits, "max_rows", lambda limits, columns: 7)
    for rows in range(12):
        for cut in range(0, 80, 7):
            fast, slow = reader.both(Csv(), HEADER + rows * b"1,2,3\n" + b"1,2\n", [cut])
            assert fast == slow
