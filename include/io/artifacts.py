"""Pages for people below `settings.artifacts`, in a folder or an object store, beside MLflow's artifacts.

Callers decide the content of pages.
"""

import gzip
import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

import pyarrow.parquet as pq

from include.core.settings import Settings
from include.io import storage
from include.io.landing import write_whole


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
    """Return the paths below a place whose content has one of the needles, also packed or in a Parquet file."""
    wanted = list(needles)
    found = [str(path) for path in filesystem.find(root.rstrip("/"))]
    return [path for path in found if any(n in text for text in texts_of(filesystem.cat_file(path)) for n in wanted)]


def texts_of(content: bytes) -> Iterator[bytes]:
    """Yield a content as it is, and what is packed in it."""
    yield content
    if content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield from texts_of(archive.read(name))
    elif content[:2] == b"\x1f\x8b":
        yield from texts_of(gzip.decompress(content))
    elif content[:4] == b"PAR1":
        for batch in pq.ParquetFile(io.BytesIO(content)).iter_batches():
            yield repr(batch.to_pylist()).encode()
