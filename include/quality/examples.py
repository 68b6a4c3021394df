"""Examples of invalid rows for people, in `quality_results`, logs and pages: up to three, without personal data. Pure.

A supplier can mix up columns, so values of public columns are checked for personal data too.
"""

import re
from collections.abc import Sequence
from typing import Any

import polars as pl

from include.core.feeds import Feed
from include.core.project import Project
from include.core.storable import malformed

EXAMPLES = 3
MAX_CHARACTERS = 40
HIDDEN = "(hidden)"
MISSING = "(missing)"
EMAIL = re.compile(r"\S(?:@|\uff20|%40)\S", re.IGNORECASE)


def shown(project: Project, text: str) -> str:
    """Return a text, shortened; `(hidden)` if it contains an e-mail address or matches an identifier's format."""
    columns = [column for feed in project.feeds.values() for column in feed.columns.values()]
    formats = {column.format for column in columns if column.data_class == "identifier" and column.format}
    parts = {text, *text.split(), *re.split(r"\W+", text)}
    if EMAIL.search(text) or any(re.fullmatch(f, part) for f in formats for part in parts):
        return HIDDEN
    printable = "".join(c if c.isprintable() else "�" for c in text)  # PostgreSQL accepts no NUL, a log line no break
    return printable if len(printable) <= MAX_CHARACTERS else f"{printable[: MAX_CHARACTERS - 1]}…"


def examples(
    project: Project, feed: str, columns: Sequence[str], raw: pl.DataFrame, typed: pl.DataFrame, at: Sequence[int]
) -> list[dict[str, Any]]:
    """Describe the rows at these places.

    Returns:
        For each row: its line in the file (`row`), the public columns of its key (`key`), and the text of the columns
        that the expectation is about (`value`); for `_malformed`, the names of the columns.
    """
    of_feed = project.feeds[feed]
    names = [name for column in columns for name in (project.entity.key if column == "entity_id" else [column])]

    def text(record: dict[str, Any], name: str) -> str:
        if name in of_feed.kept and of_feed.kept[name].data_class != "public":
            return HIDDEN
        return MISSING if record[name] is None else shown(project, str(record[name]))

    found = []
    for place in at[:EXAMPLES]:
        record = raw.row(place, named=True)
        record["_malformed"] = _malformed(of_feed, record, typed, place)
        public = [name for name in of_feed.key if of_feed.kept[name].data_class == "public"]
        found.append({
            "row": record["_row"],
            "key": {name: text(record, name) for name in public},
            "value": record["_malformed"] if names == ["_malformed"] else ", ".join(text(record, n) for n in names),
        })
    return found


def _malformed(feed: Feed, record: dict[str, Any], typed: pl.DataFrame, place: int) -> str | None:
    names = typed["_malformed"][place]
    entity_id = typed["entity_id"][place] if "entity_id" in typed.columns else None
    of_names = [malformed(n, feed.kept.get(n), record.get(n), entity_id) for n in (names or "").split(",") if n]
    return f"malformed: {'; '.join(of_names)}" if of_names else None


def sentence(found: Sequence[dict[str, Any]]) -> str:
    """Return the examples as one sentence for a log line."""
    lines = []
    for example in found:
        key = ", ".join(f"{name} {value}" for name, value in example["key"].items())
        lines.append(f"line {example['row']} ({key}): {example['value']}")
    return "; ".join(lines)
