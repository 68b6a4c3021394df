"""CSV that is read in blocks is what Python's `csv` reads from it: rows, lines, and the sentence about what is wrong."""

from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.core.errors import UnreadableError
from include.core.formats import Layout, Limits
from include.core.formats.csv import Csv
from include.core.formats.records import Records

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
    return (content[a:b] for a, b in zip(places, places[1:], strict=False) if a < b)


class Reader:
    """Counts the blocks that were read without `csv`, or forbids them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blocks, self.forbidden, self._read = 0, False, Records.read
        monkeypatch.setattr(Records, "read", lambda records, text: self.read(records, text))

    def read(self, records: Records, text: str) -> Any:
        block = None if self.forbidden else self._read(records, text)
        self.blocks += block is not None and block.count > 0
        return block

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
        lines.append(between.join(values) + (line_end if kind != 2 else draw(st.sampled_from(["\r", "\n", "\r\n", ""]))))
    text = "".join(lines)
    if draw(st.booleans()):
        text = text.removesuffix(line_end)
    content = text.encode(written.encoding, "replace")
    if draw(st.integers(0, 19)) == 0:
        content += draw(st.binary(max_size=3))
    return written, content


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file=files(), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_any_file_is_read_as_csv_reads_it(reader: Reader, file: tuple[Csv, bytes], cuts: list[int]) -> None:
    fast, slow = reader.both(*file, cuts)
    if isinstance(slow, pl.DataFrame):
        assert isinstance(fast, pl.DataFrame)
        assert fast.equals(slow)
        assert fast.schema == slow.schema
    else:
        assert fast == slow
