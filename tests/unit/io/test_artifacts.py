"""What is packed in an artifact or a file is found, and what cannot be searched is said."""

import gzip
import io
import zipfile
from pathlib import Path

import polars as pl
import pytest
from fsspec.implementations.local import LocalFileSystem

from include.core.errors import UnreadableError
from include.io import artifacts
from include.io.artifacts import texts_of

NEEDLE = b"Erika Mustermann"


def zipped(content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("a", b"something else")
        archive.writestr("b", content)
    return out.getvalue()


def parquet() -> bytes:
    out = io.BytesIO()
    pl.DataFrame({"name": [NEEDLE.decode()]}).write_parquet(out)
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [NEEDLE, gzip.compress(NEEDLE), zipped(NEEDLE), parquet(), zipped(gzip.compress(parquet()))],
    ids=["plain", "gzip", "zip", "parquet", "packed twice"],
)
def test_what_is_packed_is_found(content: bytes) -> None:
    assert any(NEEDLE in text for text in texts_of(content))


def nested(times: int) -> bytes:
    content = NEEDLE
    for _ in range(times):
        content = gzip.compress(content)
    return content


def test_what_is_packed_too_often_is_said() -> None:
    assert NEEDLE in [*texts_of(nested(artifacts.SEARCHED_DEPTH))]
    for times in (artifacts.SEARCHED_DEPTH + 1, 1_200):
        with pytest.raises(UnreadableError, match="packed in one another more than 3 times"):
            list(texts_of(nested(times)))


@pytest.mark.parametrize(
    "content",
    [b"PK\x03\x04 no zip", gzip.compress(NEEDLE)[:-9], b"PAR1 no Parquet"],
    ids=["zip", "gzip", "parquet"],  # bytes of gzip have the time, and each worker must collect the same names
)
def test_what_is_damaged_is_said(content: bytes) -> None:
    with pytest.raises(UnreadableError, match="it is damaged or encrypted"):
        list(texts_of(content))


def test_a_file_that_cannot_be_searched_is_named(tmp_path: Path) -> None:
    for name, content in (("has", NEEDLE), ("has not", b"x"), ("damaged", b"PAR1")):
        (tmp_path / name).write_bytes(content)
    found = artifacts.having(LocalFileSystem(), str(tmp_path), [NEEDLE])
    assert {Path(path).name for path in found} == {"has", "damaged"}


def test_what_unpacks_to_too_much_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "SEARCHED_BYTES", 1_000)
    for content in (gzip.compress(bytes(2_000)), zipped(bytes(2_000))):
        with pytest.raises(UnreadableError, match="unpacks to more than"):
            list(texts_of(content))
    with pytest.raises(UnreadableError, match="an unusual method"):
        list(texts_of(zipped(NEEDLE, zipfile.ZIP_BZIP2)))
