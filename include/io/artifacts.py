"""Pages for people below `settings.artifacts`, in a folder or an object store, beside MLflow's artifacts.

Callers decide the content of pages.
"""

import gzip
import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from include.core.errors import UnreadableError
from include.core.settings import Settings
from include.io import storage
from include.io.landing import write_whole

SEARCHED_DEPTH = 3
"""How often something may be packed in one another, to be searched."""
SEARCHED_BYTES = 512_000_000
"""The most bytes that something may unpack to, to be searched."""


def write(settings: Settings, path: str, content: str) -> str:
    """Write a file in one move, replacing one of the same path, and return its URI."""
    filesystem, root = storage.filesystem(settings, settings.artifacts)
    target = f"{root.rstrip('/')}/{path}"
    write_whole(filesystem, target, content.encode())
    return str(filesystem.unstrip_protocol(target))


def page_of(project: str, feed: str, day: date, delivery_id: str) -> str:
    """Return the path of the page about what is wrong with a delivery."""
    return f"quality/{project}/{day}/{feed}-{hashlib.sha256(delivery_id.encode()).hexdigest()[:16]}.html"


def remove(settings: Settings, path: str) -> bool:
    """Remove a file; return whether there was one."""
    filesystem, root = storage.filesystem(settings, settings.artifacts)
    target = f"{root.rstrip('/')}/{path}"
    if not filesystem.exists(target):
        return False
    filesystem.rm_file(target)
    return True


def having(filesystem: Any, root: str, needles: Iterable[bytes]) -> list[str]:
    """Return the paths below a place whose content has one of the needles, also packed or in a Parquet file.

    A file that cannot be searched is among them, so that somebody looks at it.
    """
    wanted = list(needles)

    def has_one(path: str) -> bool:
        try:
            return any(needle in text for text in texts_of(filesystem.cat_file(path)) for needle in wanted)
        except UnreadableError:
            return True

    return [path for path in map(str, filesystem.find(root.rstrip("/"))) if has_one(path)]


def texts_of(content: bytes) -> Iterator[bytes]:
    """Yield a content as it is, and what is packed in it.

    Raises:
        UnreadableError: something is damaged, or packed too often, too tightly or by an unusual method to be searched.
    """
    try:
        yield from _texts(content, 0)
    except (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, pa.ArrowException) as error:
        raise UnreadableError(f"it is damaged or encrypted ({type(error).__name__})") from None


def _texts(content: bytes, depth: int) -> Iterator[bytes]:
    yield content
    packed = content[:4] in (b"PK\x03\x04", b"PAR1") or content[:2] == b"\x1f\x8b"
    if packed and depth == SEARCHED_DEPTH:
        raise UnreadableError(f"files are packed in one another more than {SEARCHED_DEPTH} times")
    if content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UnreadableError("a zip is packed by an unusual method")
                with archive.open(member) as stream:
                    yield from _texts(_bounded(stream.read(SEARCHED_BYTES + 1)), depth + 1)
    elif content[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            yield from _texts(_bounded(stream.read(SEARCHED_BYTES + 1)), depth + 1)
    elif content[:4] == b"PAR1":
        file = pq.ParquetFile(io.BytesIO(content))
        groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
        if sum(group.total_byte_size for group in groups) > SEARCHED_BYTES:
            raise UnreadableError("a Parquet file unpacks to too much")
        for batch in file.iter_batches():
            yield repr(batch.to_pylist()).encode()


def _bounded(content: bytes) -> bytes:
    if len(content) > SEARCHED_BYTES:
        raise UnreadableError(f"a file unpacks to more than {SEARCHED_BYTES // 1_000_000:,} MB")
    return content
