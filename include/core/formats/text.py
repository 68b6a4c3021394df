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

    A reader of blocks takes the whole lines that are at hand as one text, and keeps the begin of a record that does not
    end in it.

    Attributes:
        number: of the last line.
        pending: characters since a record began; the reader of records sets it to 0.
        most: the most characters of a record.
        first: the first line.
        ended: whether no more blocks come.
    """

    def __init__(self, blocks: Iterator[str], most: int) -> None:
        self.number, self.pending, self.most, self.first, self.ended = 0, 0, most, "", False
        self._blocks = blocks
        self._text, self._at = "", 0
        self._rest = ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self.at_hand:
            self._text, self._at = self._whole_lines(), 0
            if not self._text:
                raise StopIteration
        end = self._text.find("\n", self._at) + 1 or len(self._text)
        line, self._at = self._text[self._at : end], end
        return self._next(line)

    @property
    def at_hand(self) -> bool:
        """Whether there is a line that needs no further block."""
        return self._at < len(self._text)

    def take(self) -> str:
        """Return the lines at hand, else those of further blocks; no text after the last one. They are not counted."""
        text = self._text[self._at :] if self.at_hand else self._whole_lines()
        self._text, self._at = "", 0
        return text

    def keep(self, text: str) -> bool:
        """Put back the end of a text that was taken, to be taken again with the next block.

        Returns:
            Whether that is possible. If it is not, because no block comes or it is too long, its lines are at hand.
        """
        if self.ended or len(text) + len(self._rest) > self.most:
            self.put_back(text)
            return False
        self._rest = text + self._rest
        return True

    def put_back(self, text: str) -> None:
        """Put back a text that was taken; its lines are at hand."""
        self._text, self._at = text, 0

    def _whole_lines(self) -> str:
        """Return the whole lines of the next block that has some, at the end what is left."""
        while not self.ended:
            self._require_short(self._rest)
            block = next(self._blocks, None)
            if block is None:
                self.ended = True
                break
            text = self._rest + block
            end = text.rfind("\n") + 1
            self._rest = text[end:]
            if end:
                return text[:end]
        rest, self._rest = self._rest, ""
        return rest

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
