"""Parquet files that no program writes on purpose, made byte by byte.

The metadata of Parquet are structs of Thrift's compact protocol, which `structure` writes.
"""

import struct
from collections.abc import Sequence

import pyarrow as pa

I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12
Value = int | bytes | tuple[int, Sequence[bytes]]


def crafted(schema: Sequence[bytes], groups: Sequence[bytes] = (), *, rows: int = 0, pages: bytes = b"") -> bytes:
    """Return a file with this schema, these row groups and pages."""
    footer = structure((1, I32, 1), (2, LIST, (STRUCT, schema)), (3, I64, rows), (4, LIST, (STRUCT, groups)))
    return b"PAR1" + pages + footer + struct.pack("<I", len(footer)) + b"PAR1"


def element(name: str, *, children: int = 0, kind: int | None = None) -> bytes:
    """Return an element of a schema; with `kind` 6 it is a text, without one a group."""
    of_kind = () if kind is None else ((1, I32, kind), (3, I32, 0))
    of_group = ((5, I32, children),) if children else ((6, I32, 0),)  # a leaf is text
    return structure(*of_kind, (4, BINARY, name.encode()), *of_group)


def nested(depth: int) -> bytes:
    """Return a file with a column of text, and another below so many groups."""
    groups = [element("g", children=1)] * depth
    return crafted([element("schema", children=2), element("a", kind=6), *groups, element("x", kind=6)])


def one_page(size: int, *, said: int) -> bytes:
    """Return a file with a column of text in one page of zeros, which unpacks to more than the file says."""
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as stream:
        for _ in range(size >> 20):
            stream.write(bytes(1 << 20))
    page = packed.getvalue().to_pybytes()
    about = structure((1, I32, 10), (2, I32, 0), (3, I32, 3), (4, I32, 3))
    head = structure((1, I32, 0), (2, I32, size), (3, I32, len(page)), (5, STRUCT, about))
    column = structure(
        (1, I32, 6), (2, LIST, (I32, [_zigzag(0)])), (3, LIST, (BINARY, [_varint(1) + b"a"])), (4, I32, 6),
        (5, I64, 10), (6, I64, said), (7, I64, len(head) + len(page)), (9, I64, 4),
    )  # fmt: skip
    chunk = structure((2, I64, 4), (3, STRUCT, column))
    group = structure((1, LIST, (STRUCT, [chunk])), (2, I64, said), (3, I64, 10))
    return crafted([element("schema", children=1), element("a", kind=6)], [group], rows=10, pages=head + page)


def structure(*fields: tuple[int, int, Value]) -> bytes:
    """Return a struct of fields: number, type and value."""
    written, before = b"", 0
    for number, kind, value in fields:
        written += bytes([(number - before) << 4 | kind]) + _value(kind, value)
        before = number
    return written + b"\0"


def _value(kind: int, value: Value) -> bytes:
    if isinstance(value, int):
        return _zigzag(value)
    if isinstance(value, bytes):
        return value if kind == STRUCT else _varint(len(value)) + value
    of, items = value
    return bytes([0xF0 | of]) + _varint(len(items)) + b"".join(items)


def _zigzag(number: int) -> bytes:
    return _varint(number << 1)


def _varint(number: int) -> bytes:
    written = b""
    while number > 0x7F:
        written += bytes([number & 0x7F | 0x80])
        number >>= 7
    return written + bytes([number])
