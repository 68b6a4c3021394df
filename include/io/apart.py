"""Read a file in a process of its own, if the library that parses it can crash on it, as Arrow's can on Parquet.

A crafted file of a few kilobytes can end the process that parses it, or make it ask for any amount of memory. Here it
ends a child, whose memory and time are limited, and the file is refused like any other. The child knows no secret: it
gets an empty environment, the content of the file, and the declaration of its format.

One child reads the files of a process, one after the other, because its start takes as long as reading many files.
"""

import json
import os
import resource
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import polars as pl
from pydantic import TypeAdapter

from include.core.errors import UnreadableError
from include.core.formats import AnyFormat, Format, Layout, Limits
from include.core.formats.base import Contents

MAX_SECONDS = 600
"""The longest time in which a file is read."""
MEMORY = 3 << 30
"""Bytes of addresses that a child may use, and for each byte of the limit of its file `MEMORY_FACTOR` more."""
MEMORY_FACTOR = 8
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a process in a container reads its limit of memory: cgroups of version 2, and of version 1."""

BLOCK_ROWS = 100_000
"""Rows that a child sends at a time."""

_SERVE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from include.io.apart import serve; serve()"
_LENGTH = struct.Struct("<Q")


class _Child:
    """The child of this process, if it has one. It ends when this process does, because its input ends."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._parent = 0

    def process(self) -> subprocess.Popen[bytes]:
        """Return the child; a process that was forked from one with a child gets another."""
        if self._process is None or self._parent != os.getpid():
            self._parent = os.getpid()
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # what a crash writes may have values of the file
                env={"PATH": os.defpath, "POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "2"},
            )
        return self._process

    def end(self) -> None:
        """End the child; the next file gets another."""
        if self._process is not None:
            self._process.kill()
            with suppress(OSError, ValueError):
                self._process.communicate()
            self._process = None


_child = _Child()


def read(declared: Format, content: bytes, name: str, layout: Layout) -> Contents:
    """Read a file, of a format that can crash in a child; see `Format.read`.

    Raises:
        UnreadableError: as `Format.read` has it; or the file ended the child, or took too long.
    """
    if not declared.can_crash:
        return declared.read(content, name, layout)
    about = {
        "format": declared.model_dump(mode="json"),
        "name": name,
        "names": layout.names,
        "optional": [*layout.optional],
        "extra_columns": layout.extra_columns,
        "limits": layout.limits.model_dump(mode="json"),
    }
    with _child.lock:
        try:
            answer, records = _read_by_child(json.dumps(about).encode(), content)
        except ChildEndedError:  # maybe the file did not do it: the machine had no memory, or somebody ended the child
            try:
                answer, records = _read_by_child(json.dumps(about).encode(), content)
            except ChildEndedError:
                raise _unreadable("ends the program that reads it") from None
    if "problem" in answer:
        raise UnreadableError(answer["problem"], line=answer["line"], unit=answer["unit"])
    return Contents(records, answer["remark"], tuple(answer["differs"]), answer["types"])


class ChildEndedError(RuntimeError):
    """The child ended before it answered."""


def _read_by_child(about: bytes, content: bytes) -> tuple[dict[str, Any], pl.DataFrame]:
    """Return what the child says about a file, and its rows. After an error, the next file gets a fresh child.

    Raises:
        ChildEndedError: the child ended.
        UnreadableError: it took too long.
    """
    process = _child.process()
    late = threading.Timer(MAX_SECONDS, process.kill)
    late.start()
    try:
        answer, blocks = _asked(process, about, content)
        return answer, pl.concat(blocks) if blocks else pl.DataFrame()
    except (OSError, EOFError, ValueError, OverflowError, MemoryError, pl.exceptions.PolarsError):
        _child.end()
        if late.finished.is_set():
            raise _unreadable(f"took more than {MAX_SECONDS} s to read") from None
        raise ChildEndedError from None
    finally:
        late.cancel()


def _unreadable(why: str) -> UnreadableError:
    return UnreadableError(
        f"the file {why}; it is damaged, made so on purpose, or the machine had no memory left: run the step again, "
        "or deliver the file again"
    )


def _asked(child: subprocess.Popen[bytes], *parts: bytes) -> tuple[dict[str, Any], list[pl.DataFrame]]:
    """Send parts to a child and return its answer: what it says, and blocks of rows."""
    if child.stdin is None or child.stdout is None:
        raise EOFError
    for part in parts:
        _write(child.stdin, part)
    child.stdin.flush()
    answer, blocks = json.loads(_read(child.stdout)), []
    while rows := _read(child.stdout):
        blocks.append(pl.read_ipc_stream(rows))
    return answer, blocks


def serve() -> None:
    """Read the files that are sent to the standard input, until it ends."""
    coming, going = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # no library writes between the answers
    with suppress(EOFError):
        while True:
            answer, records = _answer(json.loads(_read(coming)), _read(coming))
            _write(going, json.dumps(answer).encode())
            for first in range(0, max(records.height, 1), BLOCK_ROWS):
                _write(going, records.slice(first, BLOCK_ROWS).write_ipc_stream(None).getvalue())
            _write(going, b"")
            going.flush()


def _answer(about: dict[str, Any], content: bytes) -> tuple[dict[str, Any], pl.DataFrame]:
    declared: Format = TypeAdapter(AnyFormat).validate_python(about["format"])
    limits = Limits.model_validate(about["limits"])
    _limit_memory(MEMORY + MEMORY_FACTOR * limits.max_bytes)
    layout = Layout(tuple(about["names"]), frozenset(about["optional"]), about["extra_columns"], limits)
    try:
        contents = declared.read(content, about["name"], layout)
    except UnreadableError as error:
        return {"problem": error.problem, "line": error.line, "unit": error.unit}, pl.DataFrame()
    except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001 (polars raises the last as BaseException)
        problem = f"it cannot be parsed ({type(error).__name__}); deliver the file again"
        return {"problem": problem, "line": None, "unit": ""}, pl.DataFrame()
    return {"remark": contents.remark, "differs": contents.differs, "types": dict(contents.types)}, contents.records


def _limit_memory(most: int) -> None:
    """Let this process allocate so much at most, and be the first to end if the machine or container has no memory.

    It may not have more addresses than the container has memory, but for those that libraries need. Systems without
    such limits, such as macOS, have none.
    """
    most = max(MEMORY, min([most, *_memory_of_container()]))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _memory_of_container(limits: Sequence[Path] = CONTAINER_LIMITS) -> Iterator[int]:
    """Yield the bytes of memory that the container of this process may have, if it has a limit."""
    for file in limits:
        with suppress(OSError, ValueError):
            yield int(file.read_text(encoding="ascii"))  # "max" is no limit


def _write(pipe: IO[bytes], block: bytes) -> None:
    pipe.write(_LENGTH.pack(len(block)))
    pipe.write(block)


def _read(pipe: IO[bytes]) -> bytes:
    [length] = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
    return _exactly(pipe, length)


def _exactly(pipe: IO[bytes], length: int) -> bytes:
    block = pipe.read(length)
    if len(block) < length:
        raise EOFError
    return block
