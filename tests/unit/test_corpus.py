"""The corpus: what a supplier can send, and the verdict on it. `tests/corpus/cases.yaml` is the table.

A new case is a file below `tests/corpus` and a line in the table. A line has `rule` (what it guards), `file`, what
differs from the declaration of `feed_of` (`value`: the type of that column; `columns`, `format`, `extra_columns`,
`limits`), and one verdict:

- `values`: those of the column `value`, timestamps in UTC (`shows`: another column, or `remark`);
- `malformed`: the sentence about values that are not of their type;
- `refused`: the sentence about a file that cannot be read;
- `undeclared`: the sentence about a declaration that is wrong; there is no file.

Listings have a table of their own, `tests/corpus/listings.yaml`.

A sentence is a part of the message. What a message proposes to declare must make the file readable, which is tested;
`incurable` says that nothing is proposed.
"""

import gzip
import io
import re
import struct
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from include.config.loading import load_project
from include.core import schemas
from include.core.errors import UnreadableError
from include.core.feeds import Feed
from include.core.formats import Limits, explain
from include.core.formats.unpack import unpacked
from include.core.personal import HashKey, opened, protect
from include.core.yaml_file import read_yaml
from include.quality import malformed

FOLDER = Path(__file__).parents[1] / "corpus"
CASES: list[dict[str, Any]] = read_yaml(FOLDER / "cases.yaml")["cases"]
PERSON = "Mustermann"
"""A value of a row, in most files. It is in no message."""
MAX_MESSAGE = 900
HASH_KEY = HashKey.of("the hash key of the tests, which is long")


def feed_of(case: dict[str, Any]) -> Feed:
    columns = case.get("columns") or {
        "id": "integer",
        "on": "date",
        "value": case.get("value", "string"),
        "who": "string",
    }
    of_type = {name: column if isinstance(column, dict) else {"type": column} for name, column in columns.items()}
    declared = {name: {"class": "public", **column} for name, column in of_type.items()}
    keys = {key: case[key] for key in ("format", "extra_columns", "limits") if key in case}
    return Feed.model_validate({"path": "x/{day}/*", "key": ["id"], "day_column": "on", "columns": declared, **keys})


def landed(case: dict[str, Any]) -> tuple[Feed, pl.DataFrame, str | None]:
    """Return the feed, its rows as they are stored in raw, and the remark about the file."""
    feed = feed_of(case)
    content = (FOLDER / case["file"]).read_bytes()
    contents = feed.format.read(content, case["file"], feed.layout)
    day = schemas.typed(pl.col("on"), feed.columns["on"], feed.format, "UTC").fill_null(date(2024, 3, 4))
    stored = protect(feed, contents.records, HASH_KEY)
    return feed, stored.with_columns(opened(feed, stored, HASH_KEY).select(day=day)), contents.remark


def read(case: dict[str, Any]) -> tuple[Feed, pl.DataFrame, pl.DataFrame, str | None]:
    """Return the feed, its rows as they were landed, as they are typed, and the remark about the file."""
    feed, stored, remark = landed(case)
    raw = opened(feed, stored, HASH_KEY).with_columns(delivery_id=pl.lit("x"))
    return feed, raw, schemas.typed_rows(load_project("ferries"), feed, raw), remark


def why_malformed(feed: Feed, raw: pl.DataFrame, typed: pl.DataFrame) -> str:
    names = malformed.malformed_names([typed])
    return malformed.why_malformed(load_project("ferries"), feed, names, raw, typed)


def comparable(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").replace(".000000", "")
    return value.isoformat() if isinstance(value, date) else value


def proposed(message: str) -> list[dict[str, Any]]:
    """Return what a message proposes to declare, each as the keys of a feed."""
    lines = re.findall(r"(?:format|limits): \{[^{}]*\}|extra_columns: ignore|optional: true", message)
    return [YAML(typ="safe", pure=True).load(line) for line in lines]


def accepted_with(case: dict[str, Any], change: dict[str, Any]) -> bool:
    if change.pop("optional", None):
        columns = feed_of(case).model_dump(by_alias=True, exclude_unset=True)["columns"]
        change = {"columns": {n: {**c, "optional": n not in ("id", "on")} for n, c in columns.items()}}
    if "limits" in change:
        change["limits"] = {**case.get("limits", {}), **change["limits"]}
    _, _, typed, _ = read({**case, **change})
    return typed["_malformed"].null_count() == typed.height


def verdict(case: dict[str, Any]) -> tuple[str, Any]:
    try:
        feed, raw, typed, remark = read(case)
    except ValidationError as error:
        return "undeclared", "; ".join(f"{e['loc']}: {e['msg']}" for e in error.errors())
    except UnreadableError as error:
        return "refused", str(error)
    if typed["_malformed"].null_count() < typed.height:
        return "malformed", why_malformed(feed, raw, typed)
    shown = case.get("shows", "value")
    column = typed[shown] if shown in typed.columns else pl.Series([])
    return "values", [comparable(value) for value in column] if shown != "remark" else [remark]


def test_a_few_rows_of_a_large_delivery_say_why_values_are_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As all rows do, wherever blocks begin; a text that is not tried, or comes again, tells nothing."""
    monkeypatch.setattr(explain, "MAX_TEXTS", 2)
    monkeypatch.setattr(malformed, "MAX_TEXTS", 2)
    project, told = load_project("ferries"), 0
    for case in CASES:
        if "malformed" not in case:
            continue
        feed, raw, typed, _ = read(case)
        raw, typed = pl.concat([raw] * 3), pl.concat([typed] * 3)
        names = malformed.malformed_names([typed])
        of_block = raw.height // 6 + 1
        blocks = [(raw[at : at + of_block], typed[at : at + of_block]) for at in range(0, raw.height, of_block)]
        assert malformed.malformed_names(block for _, block in blocks) == names
        some = malformed.telling_rows(project, feed, names, blocks)
        assert some[0].height == some[1].height
        told += some[0].height < raw.height / 2
        few, all_rows = (malformed.why_malformed(project, feed, names, *rows) for rows in (some, (raw, typed)))
        assert few == all_rows, case["rule"]
    assert told > 20


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["rule"])
def test_case(case: dict[str, Any]) -> None:
    [expected] = {"values", "malformed", "refused", "undeclared"} & case.keys()
    got, said = verdict(case)
    assert got == expected, said
    if expected == "values":
        assert [(type(value), value) for value in said] == [(type(value), value) for value in case["values"]]
        return
    assert case[expected] in said
    assert PERSON not in said
    assert len(said) < MAX_MESSAGE
    changes = proposed(said)
    assert bool(changes) != bool(case.get("incurable") or expected == "undeclared"), said
    for change in changes:
        assert accepted_with(case, change), change


def test_no_two_cases_have_the_same_rule_or_the_same_file_without_a_difference() -> None:
    assert [rule for rule, count in Counter(case["rule"] for case in CASES).items() if count > 1] == []
    inputs = Counter(str({k: v for k, v in case.items() if k not in ("rule", "refused")}) for case in CASES)
    assert max(inputs.values()) == 1


def test_each_file_has_a_case() -> None:
    used = {case["file"] for case in CASES if "file" in case}
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert there - used == {"cases.yaml", "listings.yaml", "__init__.py"} | {p for p in there if "__pycache__" in p}


HEADER = "id,on,value,who\n"
ROW = f"1,2024-03-04,x,{PERSON}\n"


def bomb_of(pack: Callable[[bytes], bytes]) -> bytes:
    """Return 300 MB in 100 members or frames."""
    block = (ROW * (3_000_000 // len(ROW))).encode()
    return pack(HEADER.encode()) + pack(block) * 100


def zstd(content: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(content)
    return bytes(out.getvalue().to_pybytes())


def zip_bomb(method: int = zipfile.ZIP_DEFLATED, size: int = 300_000_000) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method, compresslevel=1) as archive:
        archive.writestr("a.csv", bytes(size))
    return out.getvalue()


def repeated_text() -> bytes:
    """Return Parquet that stores a text of 90,000 characters once, for 4,000 rows: 360 MB."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 4_000, pa.int32()), pa.array(["x" * 90_000]))
    day = pa.array([date(2024, 3, 4)] * 4_000)
    table = pa.table({"id": pa.array(range(4_000)), "on": day, "value": text, "who": pa.nulls(4_000, pa.string())})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def long_texts() -> bytes:
    """Return Parquet of a few kilobytes with two values of 150 MB, which Arrow would unpack at once."""
    text = pa.array(["x" * 150_000_000, "y" * 150_000_000])
    day = pa.array([date(2024, 3, 4)] * 2)
    table = pa.table({"id": pa.array(range(2)), "on": day, "value": text, "who": pa.nulls(2, pa.string())})
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", use_dictionary=False)
    return out.getvalue()


def zip_of_names() -> bytes:
    """Return a zip that lists 400,000 members, of which none is there."""
    count, entry = 400_000, b"PK\x01\x02" + bytes(42)
    listing = b"PK\x03\x04" + entry * count
    about = struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, len(entry) * count, 4)
    last = struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return b"".join([
        listing,
        b"PK\x06\x06",
        about,
        b"PK\x06\x07",
        struct.pack("<IQI", 0, len(listing), 1),
        b"PK\x05\x06",
        last,
    ])


def nulls() -> bytes:
    """Return Parquet of a few kilobytes with two million rows of nothing."""
    out = io.BytesIO()
    pq.write_table(pa.table({name: pa.nulls(2_000_000, pa.string()) for name in ("id", "on", "value", "who")}), out)
    return out.getvalue()


BOMBS: dict[str, tuple[Callable[[], bytes], str, dict[str, Any], str]] = {
    "gzip": (lambda: bomb_of(gzip.compress), "a.csv.gz", {}, "more than 256 MB"),
    "zstd": (lambda: bomb_of(zstd), "a.csv.zst", {}, "more than 256 MB"),
    "zip": (zip_bomb, "a.zip", {}, "more than 256 MB"),
    "a zip that unpacks a block at once": (
        lambda: zip_bomb(zipfile.ZIP_BZIP2, 3_000_000),  # its method is refused, whatever its size
        "a.zip",
        {},
        "compressed by an unusual method; deliver the file again, as gzip, zstd or zip with deflate",
    ),
    "a header of a million columns": (
        lambda: ",".join(f"column_{n}" for n in range(1_000_000)).encode() + b"\n",
        "a.csv",
        {},
        "line 1: more than 1,000 columns",
    ),
    "a header of 100 MB without a delimiter": (
        lambda: b"x" * 100_000_000,
        "a.csv",
        {},
        "line 1: no header: the line is",
    ),
    "a value of 100 MB": (
        lambda: HEADER.encode() + b"1,2024-03-04," + b"x" * 100_000_000 + b",y\n",
        "a.csv",
        {},
        "line 2: a value of more than 100,000 characters",
    ),
    "a quote that is never closed": (
        lambda: HEADER.encode() + b'1,2024-03-04,"x,y\n' + ROW.encode() * 2_000_000,
        "a.csv",
        {},
        "a value of more than 100,000 characters",
    ),
    "a line of JSON of 100 MB": (
        lambda: b'{"id": 1, "on": "2024-03-04", "value": "' + b"x" * 100_000_000 + b'"}\n',
        "a.jsonl",
        {"format": {"kind": "jsonl"}},
        "line 1: a value of more than 100,000 characters",
    ),
    "a long text that Parquet stores once": (
        repeated_text,
        "a.parquet",
        {"format": {"kind": "parquet"}},
        "more than 256 MB",
    ),
    "two texts of Parquet that are longer than the limit of a file": (
        long_texts,
        "a.parquet",
        {"format": {"kind": "parquet"}},
        "more than 256 MB",
    ),
    "a zip of very many members": (zip_of_names, "a.zip", {}, "the zip has 400,000 members"),
    "lines of JSON without a value": (
        lambda: b'{"id": 1, "on": "2024-03-04", "value": "x", "who": "y"}\n' + b"{}\n" * 75_000,
        "a.jsonl",
        {"format": {"kind": "jsonl"}, "limits": {"unpacked_mb": 1}},
        "more than 1 MB",
    ),
    "lines of CSV without a value": (
        lambda: HEADER.encode() + b",,,\n" * 75_000,
        "a.csv",
        {"limits": {"unpacked_mb": 1}},
        "more than 1 MB",
    ),
    "rows of Parquet without a value": (
        nulls,
        "a.parquet",
        {"format": {"kind": "parquet"}, "limits": {"unpacked_mb": 8}},
        "more than 8 MB",
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_early_in_bounded_memory(bomb: str) -> None:
    make, name, declared, said = BOMBS[bomb]
    content = make()
    feed = feed_of(declared)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableError) as caught:
            feed.format.read(content, name, feed.layout)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert said in str(caught.value)
    assert len(str(caught.value)) < MAX_MESSAGE
    assert peak < 150_000_000, f"{peak:,} bytes"


def test_undeclared_columns_that_are_left_out_cost_little_memory() -> None:
    names = [f"x{n}" for n in range(996)]
    line = ",".join(["1", "2024-03-04", "x", PERSON, *(f"{n:03d}" for n in range(996))])
    content = (",".join(["id,on,value,who", *names]) + "\n" + f"{line}\n" * 4_000).encode()
    feed = feed_of({"extra_columns": "ignore"})
    tracemalloc.start()
    try:
        records = feed.format.read(content, "a.csv", feed.layout).records
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert records.height == 4_000
    assert peak < 100_000_000, f"{peak:,} bytes"


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_members_of_a_byte_are_not_blocks_of_a_byte(pack: Callable[[bytes], bytes]) -> None:
    """The begin of a line is copied with each block: a line in a million blocks would take hours."""
    blocks = [*unpacked(pack(b"x") * 5_000, "a", Limits())]
    assert blocks == [b"x" * 5_000]


def test_a_zip_whose_member_is_said_to_be_elsewhere_is_damaged() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.csv", HEADER + ROW)
    content = bytearray(out.getvalue())
    content[-6:-2] = struct.pack("<I", 1 << 30)  # where the list of members begins
    with pytest.raises(UnreadableError, match="the zip is damaged; deliver the file again"):
        [*unpacked(bytes(content), "a.zip", Limits())]
