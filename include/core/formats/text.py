"""Text files: decode them block by block, and cut them into lines of a bounded length."""

import codecs
import re
from collections.abc import Iterator

from include.core.errors import UnreadableError

SINGLE_BYTE = re.compile(r"(iso8859|cp125|cp437|cp85|latin|koi8|mac)")
"""The encodings in which any bytes are characters, so that UTF-8 would be taken for something else without a word."""
NOT_OF_FILES = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7"}
"""Encodings of Python that no file is written in."""
UNDEFINED_IN_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
MARKS = {b"\xff\xfe\x00\x00": "utf-32", b"\x00\x00\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class EncodingError(Exception):
    """The bytes of a file are not of the declared encoding.

    Attributes:
        line: where.
        found: the encoding that they could be of; None if none is likely.
    """

    def __init__(self, line: int, found: str | None) -> None:
        super().__init__()
        self.line, self.found = line, found


def normal(encoding: str) -> str:
    """Return the name that Python has for an encoding of text.

    Raises:
        ValueError: there is no such encoding of text.
    """
    try:
        if codecs.lookup(encoding).name.replace("_", "-") in NOT_OF_FILES:
            raise LookupError(encoding)
        "a;,\n".encode(encoding)
    except (LookupError, UnicodeError):
        raise ValueError(f"no encoding {encoding!r}; write it as utf-8, latin-1, cp1252 or utf-16") from None
    return codecs.lookup(encoding).name


def decoded(blocks: Iterator[bytes], encoding: str) -> Iterator[str]:
    """Decode blocks of bytes. A byte order mark of UTF-8 is not part of the text.

    Raises:
        EncodingError: the bytes are not of this encoding. It is not chained, because the error of Python contains them.
    """
    name = normal(encoding)
    decoder = codecs.getincrementaldecoder("utf-8-sig" if name == "utf-8" else name)()
    other = codecs.getincrementaldecoder("utf-8")() if SINGLE_BYTE.match(name) else None
    lines, begun, foreign = 0, False, False
    for block in _with_end(blocks):
        if not begun and block:
            begun = True
            if other and block.startswith(codecs.BOM_UTF8):
                raise EncodingError(1, "utf-8")
            mark = next((found for sign, found in MARKS.items() if block.startswith(sign)), None)
            if mark and not name.startswith(mark):
                raise EncodingError(1, mark)
            if not mark and name == "utf-8" and (wide := _wide(block)):
                raise EncodingError(1, wide)
        if other:
            foreign = foreign or not block.isascii()
            other = other if _decodes(other, block) else None
        text, failed = _decode(decoder, block)
        if text is None:
            raise EncodingError(lines + failed + 1, _likely(block, name))
        lines += text.count("\n")
        yield text
    if other and foreign:
        raise EncodingError(1, "utf-8")


def _with_end(blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield from blocks
    yield b""  # the decoder then refuses a character that is cut off


def _decode(decoder: codecs.IncrementalDecoder, block: bytes) -> tuple[str | None, int]:
    """Return the text, else None and the number of line breaks before the wrong byte."""
    try:
        return decoder.decode(block, not block), 0
    except UnicodeDecodeError as error:
        return None, error.object[: error.start].count(b"\n")


def _decodes(decoder: codecs.IncrementalDecoder, block: bytes) -> bool:
    return _decode(decoder, block)[0] is not None


def _wide(block: bytes) -> str | None:
    """Return the encoding of text in which every second byte is 0, as ASCII is in UTF-16."""
    start = block[:64]
    if len(start) >= 4 and not any(start[1::2]) and all(start[::2]):
        return "utf-16-le"
    if len(start) >= 4 and not any(start[::2]) and all(start[1::2]):
        return "utf-16-be"
    return None


def _likely(block: bytes, name: str) -> str | None:
    if not block:
        return None  # a character is cut off at the end
    if name != "utf-8":
        return "utf-8" if _decodes(codecs.getincrementaldecoder("utf-8")(), block) else None
    if not re.search(rb"[\x80-\x9f]", block):
        return "latin-1"
    return None if UNDEFINED_IN_CP1252.search(block) else "cp1252"


class Lines:
    """The lines of a text, each with its line break, which is a line feed.

    Attributes:
        number: of the last line.
        pending: characters since a record began; the reader of records sets it to 0.
        most: the most characters of a record.
        first: the first line.
    """

    def __init__(self, blocks: Iterator[str], most: int) -> None:
        self.number, self.pending, self.most, self.first = 0, 0, most, ""
        self._lines = self._cut(blocks)

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def _cut(self, blocks: Iterator[str]) -> Iterator[str]:
        rest = ""
        for block in blocks:
            *lines, rest = (rest + block).split("\n")
            for line in lines:
                yield self._next(f"{line}\n")
            self._require_short(rest)
        if rest:
            yield self._next(rest)

    def _next(self, line: str) -> str:
        self.number += 1
        self._require_short(line)
        self.pending += len(line)
        self.first = self.first or line
        return line

    def _require_short(self, line: str) -> None:
        if self.pending + len(line) > self.most:
            raise TooLongError(self.number, line[: self.most])


class TooLongError(Exception):
    """A record is longer than any that is right.

    Attributes:
        line: where.
        begin: the begin of the text that is too much.
    """

    def __init__(self, line: int, begin: str) -> None:
        super().__init__()
        self.line, self.begin = line, begin


def too_long(limit: int, line: int, *, unit: str = "line") -> UnreadableError:
    """Return the error of a value that is longer than the limit."""
    return UnreadableError(
        f"a value of more than {limit:,} characters, the limit; a quote may be missing; or, if it is right, declare "
        f"limits: {{field_characters: {limit * 10}}}",
        line=line,
        unit=unit,
    )
