"""Files of formats that can crash are read in a process of their own."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.core.errors import UnreadableError
from include.core.formats import Layout, Limits
from include.core.formats.parquet import Parquet
from include.io import apart
from tests import parquet

LAYOUT = Layout(("a",), frozenset(), "ignore", Limits(unpacked_mb=1))


def read(content: bytes, layout: Layout = LAYOUT) -> list[str | None]:
    return apart.read(Parquet(), content, "a.parquet", layout).records["a"].to_list()


def written(*values: str | None, name: str = "a") -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(values, pa.string()), "other": range(len(values))}), out)
    return out.getvalue()


CRASHES: dict[str, Callable[[], bytes]] = {
    "a schema of 50,000 levels": lambda: parquet.nested(50_000),
    "a page of a gigabyte that is said to be small": lambda: parquet.one_page(1 << 30, said=100),
}


@pytest.mark.parametrize("what", CRASHES)
def test_a_file_that_crashes_its_reader_is_refused_and_the_next_one_is_read(what: str) -> None:
    content = CRASHES[what]()
    assert len(content) < 1_000_000
    with pytest.raises(UnreadableError, match=r"^: the file (ends the program that reads it|unpacks to more)"):
        read(content)
    assert read(written("x", None, "ü")) == ["x", None, "ü"]


def test_the_crafted_files_are_parquet() -> None:
    """So that the test above is not about something that Arrow refuses at once."""
    schema = pq.ParquetFile(pa.BufferReader(parquet.nested(20))).schema_arrow
    assert schema.names == ["a", "g"]
    small = pq.ParquetFile(pa.BufferReader(parquet.one_page(1 << 20, said=100)))
    assert small.read().column("a").to_pylist() == [""] * 10


def test_what_a_reader_refuses_and_remarks_is_the_same_as_without_a_child() -> None:
    for content in (written("x", name="b"), b"no Parquet", written("x" * 200_000)):
        with pytest.raises(UnreadableError) as caught:
            Parquet().read(content, "a.parquet", LAYOUT)
        with pytest.raises(UnreadableError) as again:
            read(content)
        assert str(again.value) == str(caught.value)
    warned = Layout(("a",), frozenset(), "warn", Limits())
    said = Parquet().read(written("x"), "a.parquet", warned)
    apart_said = apart.read(Parquet(), written("x"), "a.parquet", warned)
    assert said.remark == apart_said.remark is not None
    assert said.records.equals(apart_said.records)


def test_what_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    apart._child.end()
    monkeypatch.setattr(apart, "MAX_SECONDS", 0.01)  # less than its start takes
    with pytest.raises(UnreadableError, match="took more than"):
        read(written("x"))
    monkeypatch.undo()
    assert read(written("x")) == ["x"]


def test_the_process_that_reads_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    apart._child.end()
    monkeypatch.setenv("NIGHTLY_HASH_KEY", "the secret")
    read(written("x"))
    environment = Path(f"/proc/{apart._child.process().pid}/environ")
    assert environment.exists(), "this test needs Linux"
    assert b"the secret" not in environment.read_bytes()


def test_the_process_that_reads_is_the_first_to_end_without_memory() -> None:
    read(written("x"))
    said = Path(f"/proc/{apart._child.process().pid}/oom_score_adj").read_text(encoding="utf-8")
    assert said.strip() == "1000"


def test_many_files_share_a_child() -> None:
    read(written("x"))
    first, began = apart._child.process().pid, time.monotonic()
    for n in range(20):
        assert read(written(str(n))) == [str(n)]
    assert apart._child.process().pid == first
    assert time.monotonic() - began < 20


def test_a_child_that_ends_by_itself_is_replaced_and_the_file_read() -> None:
    """The kernel ends it first where memory is short, so the file may be right."""
    read(written("x"))
    ended = apart._child.process()
    ended.kill()
    ended.wait()
    assert read(written("y")) == ["y"]
    assert apart._child.process().pid != ended.pid


def test_a_file_that_ends_its_reader_gets_two_children_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[None] = []
    end = apart._Child.end
    monkeypatch.setattr(apart._Child, "end", lambda self: ends.append(None) or end(self))
    with pytest.raises(UnreadableError, match="ends the program that reads it"):
        read(parquet.nested(50_000))
    assert len(ends) == 2


def test_memory_is_limited_by_that_of_the_container(tmp_path: Path) -> None:
    for name, content in (("max", "max\n"), ("small", "1000000\n")):
        (tmp_path / name).write_text(content)
    assert [*apart._memory_of_container([tmp_path / "max", tmp_path / "nowhere"])] == []
    assert [*apart._memory_of_container([tmp_path / "max", tmp_path / "small"])] == [1_000_000]
