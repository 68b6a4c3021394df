"""Examples of invalid rows for people, in `quality_results`, logs and pages: up to three, without personal data. Pure.

A supplier can mix up columns, so a value of a public column is shown only if it has the form that is declared.
"""

import re
from collections.abc import Sequence
from typing import Any

import polars as pl

from include.core.feeds import Column, Feed
from include.core.printable import printable
from include.core.project import Project
from include.core.storable import form_of, malformed

EXAMPLES = 3
MAX_CHARACTERS = 40
HIDDEN = "(hidden)"
MISSING = "(missing)"
EMAIL = re.compile(r"\S(?:@|\uff20|%40)\S", re.IGNORECASE)


def shown(project: Project, text: str) -> str:
    """Return a text, shortened; `(hidden)` if it has an e-mail address or matches the format of personal data."""
    columns = [column for feed in project.feeds.values() for column in feed.columns.values()]
    personal = {column.format: column for column in columns if column.data_class != "public" and column.format}
    parts = {text, *text.split(), *re.split(r"\W+", text)}
    if EMAIL.search(text) or any(column.has_form(part) for column in personal.values() for part in parts):
        return HIDDEN
    visible = printable(text)
    return visible if len(visible) <= MAX_CHARACTERS else f"{visible[: MAX_CHARACTERS - 1]}…"


def observed(project: Project, feed: str, columns: Sequence[str], value: Any) -> str:
    """Return what was observed in some columns; `(hidden)` if a text in it may have another form than declared."""
    of_feed = project.feeds[feed]
    kept = [of_feed.kept[name] for name in _named(project, columns) if name in of_feed.kept]
    texts = [each for each in (value if isinstance(value, list | tuple | set) else [value]) if isinstance(each, str)]
    if any(column.data_class != "public" for column in kept) or isinstance(value, dict):
        return HIDDEN
    if any(column.type == "string" and not _has_shown_form(column, text) for column in kept for text in texts):
        return HIDDEN
    return shown(project, str(value))


def examples(
    project: Project, feed: str, columns: Sequence[str], raw: pl.DataFrame, typed: pl.DataFrame, at: Sequence[int]
) -> list[dict[str, Any]]:
    """Describe the rows at these places.

    A value is shown if its column is public and it has the declared form: that of its type or, for text, that of its
    `format`. Of others only the form is shown.

    Returns:
        For each row: its line in the file (`row`), the public columns of its key (`key`), and the text of the columns
        that the expectation is about (`value`); for `_malformed`, the names of the columns.
    """
    of_feed, names = project.feeds[feed], _named(project, columns)

    def text(record: dict[str, Any], place: int, name: str) -> str:
        if name not in of_feed.kept:
            return MISSING if record[name] is None else shown(project, str(record[name]))
        if of_feed.kept[name].data_class != "public":
            return HIDDEN
        if record[name] is None:
            return MISSING
        if typed[name][place] is None or not _has_shown_form(of_feed.kept[name], record[name]):
            return f"(form {form_of(record[name])})"
        return shown(project, record[name])

    found = []
    for place in at[:EXAMPLES]:
        record = raw.row(place, named=True)
        record["_malformed"] = _malformed(project, of_feed, record, typed, place)
        public = [name for name in of_feed.key if of_feed.kept[name].data_class == "public"]
        value = ", ".join(text(record, place, name) for name in names)
        found.append({
            "row": record["_row"],
            "key": {name: text(record, place, name) for name in public},
            "value": record["_malformed"] if names == ["_malformed"] else value,
        })
    return found


def _named(project: Project, columns: Sequence[str]) -> list[str]:
    """Return columns of a feed: those of the entity's key in place of `entity_id`."""
    return [name for column in columns for name in (project.entity.key if column == "entity_id" else [column])]


def _has_shown_form(column: Column, text: str) -> bool:
    """Return whether people may see a value of a public column; text without a declared format may be anything."""
    return column.type != "string" or (column.format is not None and column.has_form(text))


def _malformed(project: Project, feed: Feed, record: dict[str, Any], typed: pl.DataFrame, place: int) -> str | None:
    names = typed["_malformed"][place]
    entity_id = typed["entity_id"][place] if "entity_id" in typed.columns else None
    of_names = []
    for name in filter(None, (names or "").split(",")):
        text = record.get(name)
        if text is not None and shown(project, text) == HIDDEN:  # it may look like a date
            of_names.append(f"{name} (found {form_of(text)})")
        else:
            of_names.append(malformed(name, feed.kept.get(name), text, entity_id))
    return f"malformed: {'; '.join(of_names)}" if of_names else None


def sentence(found: Sequence[dict[str, Any]]) -> str:
    """Return the examples as one sentence for a log line."""
    lines = []
    for example in found:
        key = ", ".join(f"{name} {value}" for name, value in example["key"].items())
        lines.append(f"line {example['row']} ({key}): {example['value']}")
    return "; ".join(lines)
