"""Which example files are of one feed: the day in their paths, the parts of a day, and how they are written."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from include.core.errors import ActionRequiredError, UnreadableError
from include.core.formats import Format, Layout, Limits
from include.core.formats.csv import DELIMITERS, Csv
from include.core.formats.jsonl import Jsonl
from include.core.formats.parquet import Parquet
from include.core.formats.text import EncodingError, decoded
from include.core.formats.unpack import unpacked

DAYS = (
    ("%Y-%m-%d", r"(?<!\d)(\d{4}-\d{2}-\d{2})(?!\d)"),
    ("%Y/%m/%d", r"(?<!\d)(\d{4}/\d{2}/\d{2})(?!\d)"),
    ("%Y_%m_%d", r"(?<!\d)(\d{4}_\d{2}_\d{2})(?!\d)"),
    ("%Y.%m.%d", r"(?<!\d)(\d{4}\.\d{2}\.\d{2})(?!\d)"),
    ("%d.%m.%Y", r"(?<!\d)(\d{2}\.\d{2}\.\d{4})(?!\d)"),
    ("%Y%m%d", r"(?<!\d)(\d{8})(?!\d)"),
)
"""Forms of a day in a path."""

SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet")
PACKED = (".gz", ".gzip", ".zst", ".zstd", ".zip")
SAMPLED_FILES = 40
"""The most files of a feed that are read: the first, the last, and some between."""
ALIKE = 0.7
"""The share of columns that the files of a feed have in common, at least."""
SAMPLED_MB = 64
"""The most megabytes of a file, unpacked."""

T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """An example file.

    Attributes:
        key: its path below the folder of examples.
        path: the file.
        template: the key with `{day}` in place of the day.
        day: None if the path says none.
    """

    key: str
    path: Path
    template: str
    day: date | None

    @property
    def folder(self) -> str:
        """The folder of the template."""
        return self.template.rpartition("/")[0]

    @cached_property
    def content(self) -> bytes:
        """The bytes of the file."""
        return self.path.read_bytes()

    @cached_property
    def written(self) -> tuple[Format, tuple[str, ...]]:
        """How the file is written, and its columns."""
        return _read_names(self)


@dataclass(frozen=True)
class FeedFiles:
    """The example files of a feed, and how they are written.

    Attributes:
        name: of the feed.
        pattern: its `path` in `project.yaml`.
        examples: the files.
        format: how they are written, before types are known.
        names: the columns of all files.
        optional: those that a file lacks.
        path_day: how many days after the day of its rows the day in a path is.
    """

    name: str
    pattern: str
    examples: tuple[Example, ...]
    format: Format
    names: tuple[str, ...]
    optional: frozenset[str]
    path_day: int = 0

    @property
    def where(self) -> str:
        """What a message names."""
        return str(self.examples[0].path)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should check."""
        return ()

    @property
    def is_snapshot(self) -> bool:
        """Whether no path says a day."""
        return all(example.day is None for example in self.examples)

    @property
    def days(self) -> list[date]:
        """The days of the files, sorted."""
        return sorted({example.day for example in self.examples if example.day is not None})

    def named_by(self, path_day: int) -> "FeedFiles":
        """Return the same files, named by a day that is so many days after that of their rows."""
        shift = timedelta(days=path_day)
        examples = tuple(replace(each, day=each.day and each.day - shift) for each in self.examples)
        return replace(self, examples=examples, path_day=path_day)

    def rows(self) -> pl.DataFrame:
        """Return the rows of a sample of the files as text, with `_day` (date).

        Raises:
            ActionRequiredError: a file cannot be read as the first one of the feed.
        """
        return pl.concat([self._rows(example) for example in sampled(self.examples)])

    def _rows(self, example: Example) -> pl.DataFrame:
        layout = Layout(self.names, self.optional, "refuse", Limits(unpacked_mb=SAMPLED_MB))
        try:
            records = self.format.read(example.content, example.key, layout).records
        except UnreadableError as error:
            raise ActionRequiredError(f"{example.path}: {error}") from error
        return records.select(*self.names, _day=pl.lit(example.day, pl.Date))


def sampled(examples: tuple[Example, ...]) -> list[Example]:
    """Return at most SAMPLED_FILES of the files, evenly, with the first and the last."""
    return evenly(sorted(examples, key=lambda example: (example.day or date.min, example.key)))


def evenly(ordered: list[T]) -> list[T]:
    """Return at most SAMPLED_FILES of a list, evenly, with the first and the last."""
    if len(ordered) <= SAMPLED_FILES:
        return ordered
    step = (len(ordered) - 1) / (SAMPLED_FILES - 1)
    return [ordered[round(n * step)] for n in range(SAMPLED_FILES)]


def find_feeds(folder: Path) -> list[FeedFiles]:
    """Return the feeds of the files below a folder, by name.

    Raises:
        ActionRequiredError: there are no files, or one cannot be read.
    """
    examples = [_example(folder, path) for path in _files(folder)]
    if not examples:
        raise ActionRequiredError(
            f"{folder} has no example files: {', '.join(SUFFIXES)}, as they are or with {', '.join(PACKED)}"
        )
    feeds: list[FeedFiles] = []
    taken: Counter[str] = Counter()
    for group in _grouped(examples):
        found = _feed(group)
        taken[found.name] += 1
        number = taken[found.name]
        feeds.append(found if number == 1 else replace(found, name=f"{found.name}_{number}"))
    return sorted(feeds, key=lambda feed: feed.name)


def _files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise ActionRequiredError(f"{folder} is no folder; name the folder that has the example files")
    for path in sorted(folder.rglob("*")):
        name = path.name.lower()
        for packed in PACKED:
            name = name.removesuffix(packed)
        hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        sidecar = path.suffix == ".json" and path.with_suffix("").is_file()
        if path.is_file() and name.endswith(SUFFIXES) and not hidden and not sidecar:
            yield path


def _example(folder: Path, path: Path) -> Example:
    key = path.relative_to(folder).as_posix()
    for form, pattern in DAYS:
        for match in re.finditer(pattern, key):
            try:
                day = datetime.strptime(match[1], form).replace(tzinfo=UTC).date()
            except ValueError:
                continue
            if 1990 <= day.year <= 2100:
                field = "{day}" if form == "%Y-%m-%d" else f"{{day:{form}}}"
                return Example(key, path, key.replace(match[1], field), day)
    return Example(key, path, key, None)


def _grouped(examples: Iterable[Example]) -> list[list[Example]]:
    """Group the files of a feed: dated alike, in one folder, with the same columns but a few."""
    by_template: dict[str, list[Example]] = {}
    for example in examples:
        by_template.setdefault(example.template, []).append(example)
    groups: list[list[Example]] = []
    for template, of_template in by_template.items():
        names = set(of_template[0].written[1])
        for group in groups:
            other = group[0]
            theirs = set(other.written[1])
            alike = len(names & theirs) >= ALIKE * len(names | theirs)
            if "{day" in template and "{day" in other.template and other.folder == of_template[0].folder and alike:
                group.extend(of_template)
                break
        else:
            groups.append([*of_template])
    return groups


def _feed(group: list[Example]) -> FeedFiles:
    written = [example.written for example in sampled(tuple(group))]
    names = dict.fromkeys(name for _, found in written for name in found)
    optional = frozenset(name for name in names if any(name not in found for _, found in written))
    newest, _ = written[-1]
    return FeedFiles(_name(group), _pattern(group), tuple(group), newest, tuple(names), optional)


def _pattern(group: list[Example]) -> str:
    """Return the path: with `{hour}` or `{part}` if a day has several files, with `*` if names differ by day only."""
    templates = sorted({example.template for example in group})
    if len(templates) == 1:
        return templates[0]
    begin, end = _common(templates)
    middles = [template[len(begin) : len(template) - len(end)] for template in templates]
    most = max(Counter(example.day for example in group).values())
    if most == 1:
        return f"{begin}*{end}"
    hours = all(re.fullmatch("[01][0-9]|2[0-3]", middle) for middle in middles)
    return f"{begin}{'{hour}' if hours else '{part}'}{end}"


def _common(texts: list[str]) -> tuple[str, str]:
    """Return the common beginning and end of the file names, which do not cut a number in two."""
    first, last = min(texts), max(texts)
    size = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    while size and first[size - 1].isdigit():
        size -= 1
    rest = [text[size:][::-1] for text in texts]
    least, most = min(rest), max(rest)
    tail = next((n for n, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), min(len(least), len(most)))
    while tail and least[tail - 1].isdigit():
        tail -= 1
    return first[:size], least[:tail][::-1]


def _name(group: list[Example]) -> str:
    """Return a name for the feed: the folder that says no day, or what the names of the files have in common."""
    pattern = re.sub(r"\{[^}]*\}|\*", " ", _pattern(group))
    for suffix in (*PACKED, *SUFFIXES):
        pattern = pattern.removesuffix(suffix)
    words = [re.sub(r"[^a-z0-9]+", "_", part.lower()).strip("_") for part in pattern.split("/")]
    found = next((word for word in words if re.match("[a-z]", word)), "feed")
    return found[:40].strip("_")


def _read_names(example: Example) -> tuple[Format, tuple[str, ...]]:
    """Return how a file is written, and its columns."""
    limits = Limits(unpacked_mb=SAMPLED_MB)
    try:
        begin = next(unpacked(example.content, example.key, limits), b"")
    except UnreadableError as error:
        raise ActionRequiredError(f"{example.path}: {error}") from error
    if begin.startswith(b"PAR1"):
        import pyarrow.parquet as pq

        whole = b"".join(unpacked(example.content, example.key, limits))
        return Parquet(), tuple(pq.read_schema(_buffer(whole)).names)
    if begin.lstrip()[:1] == b"{":
        return Jsonl(), _names_of_objects(b"".join(unpacked(example.content, example.key, limits)))
    if begin.lstrip()[:1] == b"[":
        raise ActionRequiredError(f"{example.path}: a JSON array; ask for JSON lines, one object a line")
    encoding, text = _decoded(example)
    header = text.splitlines()[0] if text else ""
    delimiter = max(DELIMITERS, key=lambda each: (header.count(each), -DELIMITERS.index(each)))
    names = next(csv.reader([header], delimiter=delimiter), [])
    if not names or any(not name.strip() or re.fullmatch(r"[\d.,:+-]+", name) for name in names):
        raise ActionRequiredError(f"{example.path}: the first line is no header; deliver files with one")
    return Csv(delimiter=delimiter, encoding=encoding), tuple(names)


def _buffer(content: bytes) -> Any:
    import pyarrow as pa

    return pa.BufferReader(content)


def _names_of_objects(content: bytes) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for line in content.decode("utf-8", errors="replace").splitlines():
        if line.strip():
            try:
                names.update(dict.fromkeys(json.loads(line)))
            except ValueError as error:
                raise ActionRequiredError(f"not JSON lines: {error}; ask for one object a line") from error
    return tuple(names)


def _decoded(example: Example) -> tuple[str, str]:
    """Return the encoding and the text."""
    encoding = "utf-8"
    for _ in range(2):
        try:
            text = "".join(decoded(unpacked(example.content, example.key, Limits(unpacked_mb=SAMPLED_MB)), encoding))
        except EncodingError as error:
            encoding = error.found or "cp1252"
        else:
            return encoding, text
    raise ActionRequiredError(f"{example.path}: neither UTF-8 nor {encoding}; convert the example files to UTF-8")
