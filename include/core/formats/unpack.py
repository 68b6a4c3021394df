"""Unpack what is compressed, block by block, so that a file larger than its limit costs no more than the limit."""

import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator

from include.core.errors import UnreadableError
from include.core.formats.limits import Limits

BLOCK = 1 << 20
"""The most bytes that are unpacked at once."""
SLICE = 1 << 12
"""Bytes of a gzip stream that are read at once: the line of a damage is counted up to the slice before it."""

MAX_MEMBERS = 1000
"""The most members of a zip that are listed. More than one are refused anyway."""
_MEMBER = b"PK\x01\x02"

SUFFIXES = {"gz": "gzip", "gzip": "gzip", "zst": "zstd", "zstd": "zstd", "zip": "zip"}
MAGIC = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
    "zip": re.compile(rb"PK(\x03\x04|\x05\x06)"),
    "bzip2": re.compile(rb"BZh[1-9](1AY&SY|\x17rE)"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "7z": re.compile(rb"7z\xbc\xaf\x27\x1c"),
    "lz4": re.compile(rb"\x04\x22\x4d\x18"),
}


def unpacked(content: bytes, name: str, limits: Limits) -> Iterator[bytes]:
    """Yield the content of an object, uncompressed: by what it begins with, else as its name says.

    Raises:
        UnreadableError: the stream is damaged or cut off, its compression is unknown, or it is larger than the limit.
    """
    by_name = SUFFIXES.get(name.rsplit(".", 1)[-1].lower())
    packed = _packed(content)
    if by_name and not content:
        raise UnreadableError("the file is empty; deliver it again", line=1)
    if by_name and not packed:
        raise UnreadableError(
            f"the file is not {by_name}, as its name says; deliver the file again, or under its right name"
        )
    if packed is None:
        blocks: Iterator[bytes] = (content[n : n + BLOCK] for n in range(0, len(content), BLOCK))
    elif packed in _UNPACK:
        blocks = _UNPACK[packed](content)
    else:
        raise UnreadableError(f"the file is compressed with {packed}; deliver it as gzip, zstd or zip")
    yield from _joined(_limited(blocks, packed, limits))


def too_large(limits: Limits) -> UnreadableError:
    """Return the error of a file that is larger than the limit."""
    return UnreadableError(
        f"the file unpacks to more than {limits.unpacked_mb:,} MB, the limit; deliver smaller files, or, "
        f"if it is right, declare limits: {{unpacked_mb: {limits.unpacked_mb * 2}}}"
    )


def _packed(content: bytes) -> str | None:
    return next((packed for packed, magic in MAGIC.items() if magic.match(content)), None)


def _limited(blocks: Iterator[bytes], packed: str | None, limits: Limits) -> Iterator[bytes]:
    size = 0
    for block in blocks:
        if not size and packed and (twice := _packed(block)):
            raise UnreadableError(f"the file is compressed twice, {twice} within {packed}; deliver it compressed once")
        size += len(block)
        if size > limits.max_bytes:
            raise too_large(limits)
        yield block


def _joined(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Join small blocks: what follows copies the begin of a line with each block, and a block may be one byte."""
    waiting = bytearray()
    for block in blocks:
        waiting += block
        if len(waiting) >= BLOCK:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


def _broken(packed: str, lines: int) -> UnreadableError:
    return UnreadableError(
        f"the {packed} stream ends or breaks here; the upload was cut off or is damaged: deliver the file again",
        line=lines + 1,
    )


def _gzip(content: bytes) -> Iterator[bytes]:
    """Unpack all members. Bytes of 0 after the last one are padding."""
    stream, lines, left, start = zlib.decompressobj(wbits=31), 0, b"", 0
    while True:
        if not left:
            left, start = content[start : start + SLICE], start + SLICE
        if stream.eof:
            if not left.strip(b"\0") and not content[start:].strip(b"\0"):
                return
            stream = zlib.decompressobj(wbits=31)
        block = _or_none(stream, left)
        if block is None or not (block or left or stream.eof):  # damaged, or at its end without being complete
            raise _broken("gzip", lines)
        lines += block.count(b"\n")
        left = stream.unused_data if stream.eof else stream.unconsumed_tail
        yield block


def _or_none(stream: "zlib._Decompress", data: bytes) -> bytes | None:
    try:
        return stream.decompress(data, BLOCK)
    except zlib.error:
        return None


def _zstd(content: bytes) -> Iterator[bytes]:
    import pyarrow as pa

    yield from _from_stream(pa.CompressedInputStream(pa.BufferReader(content), "zstd").read, "zstd")


def _zip(content: bytes) -> Iterator[bytes]:
    if (listed := content.count(_MEMBER)) > MAX_MEMBERS:  # Python would make an object of each
        raise UnreadableError(f"the zip has {listed:,} members; deliver one file in it")
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        archive = None
    if archive is None:
        raise _broken("zip", 0)
    members = archive.infolist()
    if any(member.filename == "[Content_Types].xml" for member in members):
        raise UnreadableError("the file is an Excel or Word document; export it as CSV")
    if len(members) != 1 or members[0].is_dir():
        raise UnreadableError(f"the zip has {len(members):,} members; deliver one file in it")
    if members[0].flag_bits & 1:
        raise UnreadableError("the zip is encrypted; deliver it without a password")
    problem = ""
    try:
        # other methods unpack a whole block at once, whatever its size
        if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NotImplementedError
        member = archive.open(members[0])
    except (zipfile.BadZipFile, ValueError, OSError):  # also of a place before the file
        problem = "damaged"
    except NotImplementedError:
        problem = "compressed by an unusual method"
    if problem:
        raise UnreadableError(f"the zip is {problem}; deliver the file again, as gzip, zstd or zip with deflate")
    yield from _from_stream(member.read, "zip")


def _from_stream(read: Callable[[int], bytes], packed: str) -> Iterator[bytes]:
    lines = 0
    while True:
        try:
            block = read(BLOCK)
        except (OSError, zlib.error, zipfile.BadZipFile, EOFError):
            break
        if not block:
            return
        lines += block.count(b"\n")
        yield block
    raise _broken(packed, lines)


_UNPACK = {"gzip": _gzip, "zstd": _zstd, "zip": _zip}
