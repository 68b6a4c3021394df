"""Say why values of a delivery are malformed, and which line of YAML would accept them."""

from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from include.core import schemas
from include.core.feeds import Feed
from include.core.formats.explain import MAX_TEXTS, explain, sorted_texts, written
from include.core.project import Project
from include.core.storable import MAX_KEY_BYTES, UNSTORABLE

MAX_EXPLAINED = 5  # columns that a message explains


def malformed_names(typed: Iterable[pl.DataFrame]) -> list[str]:
    """Return the first columns with malformed values, of blocks of typed rows."""
    names: dict[str, None] = {}
    for block in typed:
        names |= dict.fromkeys(block["_malformed"].drop_nulls().str.split(",").explode().unique(maintain_order=True))
    return [*names][:MAX_EXPLAINED]


def why_malformed(project: Project, feed: Feed, names: Sequence[str], raw: pl.DataFrame, typed: pl.DataFrame) -> str:
    """Say what malformed values look like, and which line of YAML would accept them.

    Args:
        project: the project.
        feed: the feed.
        names: the columns with malformed values.
        raw: the rows as landed, in the order of the file, or those that `telling_rows` chooses.
        typed: the same rows, typed.
    """
    whys = []
    for name in names:
        if name == "entity_id":
            whys.append(f"entity_id: longer than {MAX_KEY_BYTES:,} bytes; shorten a column of the key")
            continue
        column = feed.columns[name]
        if column.data_class == "identifier":
            whys.append(f"{name}: a value does not match its format")
            continue
        if _formless(feed, name, raw).any():
            whys.append(f"{name}: a value does not match its format, {column.format}")
            continue
        if name == feed.day_column:
            if typed.select(schemas.is_of_another_date(feed, project.timezone)).to_series().any():
                whys.append(f"{name}: a row is of another date than the file ({typed['day'][0]})")
            if not _unread(name, raw, typed).any():
                continue
        if _unstorable(feed, name, raw, typed).any():
            whys.append(f"{name}: found {UNSTORABLE[column.type]}")
        else:
            alike = pl.concat([raw[other] for other, declared in feed.kept.items() if declared.type == column.type])
            whys.append(f"{name}: {explain(feed.format, column.type, raw[name], alike, project.timezone)}")
    return "; ".join(whys)


def telling_rows(
    project: Project, feed: Feed, names: Sequence[str], blocks: Iterable[tuple[pl.DataFrame, pl.DataFrame]]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows from which `why_malformed` says the same as from all of them.

    These are the first rows with each text that is tried, and the first row for each other reason: of each column at
    most twice MAX_TEXTS and four.

    Args:
        project: the project.
        feed: the feed.
        names: the columns with malformed values.
        blocks: all rows by blocks, as landed and typed.
    """
    kinds = {feed.columns[name].type for name in names if name in feed.columns}
    columns = {name: column for name, column in feed.kept.items() if name in names or column.type in kinds}
    tried: dict[str, tuple[set[str], set[str]]] = {name: (set(), set()) for name in columns}
    given: set[tuple[str, str]] = set()
    found = []
    for raw, typed in blocks:
        kept = pl.repeat(value=False, n=raw.height, eager=True)
        for name, column in columns.items():
            texts = written(raw[name], feed.format)
            for known, here in zip(tried[name], sorted_texts(raw[name], feed.format, column.type), strict=True):
                new = [text for text in here if text not in known][: MAX_TEXTS - len(known)]
                known.update(new)
                kept |= (texts.is_in(new) & texts.is_first_distinct()).fill_null(value=False)
        for reason, rows in _reasons(project, feed, names, raw, typed):
            if reason not in given and rows.any():
                given.add(reason)
                kept[int(rows.arg_true()[0])] = True
        found.append((raw.select([*columns]).filter(kept), typed.select(["day", *columns]).filter(kept)))
    return pl.concat(raw for raw, _ in found), pl.concat(typed for _, typed in found)


def _reasons(
    project: Project, feed: Feed, names: Sequence[str], raw: pl.DataFrame, typed: pl.DataFrame
) -> Iterator[tuple[tuple[str, str], pl.Series]]:
    """Yield each column and reason of `why_malformed`, with the rows for which it holds."""
    for name in names:
        if name not in feed.columns or feed.columns[name].data_class == "identifier":
            continue
        yield (name, "form"), _formless(feed, name, raw)
        yield (name, "unread"), _unread(name, raw, typed)
        yield (name, "unstorable"), _unstorable(feed, name, raw, typed)
        if name == feed.day_column:
            yield (name, "date"), typed.select(schemas.is_of_another_date(feed, project.timezone)).to_series()


def _formless(feed: Feed, name: str, raw: pl.DataFrame) -> pl.Series:
    column = feed.columns[name]
    texts = raw[name].drop_nulls().unique().to_list() if column.format else []
    return raw[name].is_in([text for text in texts if "\x00" not in text and not column.has_form(text)])


def _unread(name: str, raw: pl.DataFrame, typed: pl.DataFrame) -> pl.Series:
    return raw[name].is_not_null() & typed[name].is_null()


def _unstorable(feed: Feed, name: str, raw: pl.DataFrame, typed: pl.DataFrame) -> pl.Series:
    parsed = raw.select(schemas.parse(pl.col(name), feed.columns[name].type, feed.format)).to_series()
    return parsed.is_not_null() & typed[name].is_null()
