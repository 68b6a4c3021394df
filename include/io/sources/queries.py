"""Run the query of a feed: the declared columns as text, within the feed's limits."""

import logging
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date, datetime

import polars as pl
import sqlalchemy as sa

from include.core.errors import UnreadableError, nearest
from include.core.feeds import Feed
from include.core.settings import Settings
from include.core.sources import Sql
from include.io.sources import other, postgresql
from include.io.sources.blocks import Block

log = logging.getLogger(__name__)


def run_query(feed: Feed, values: Mapping[str, date | datetime], settings: Settings, timezone: str) -> pl.DataFrame:
    """Return all declared columns of the rows of a feed's query as text, in the order of the database.

    Args:
        feed: a feed with a source.
        values: the values of `day` and `as_of`.
        settings: the settings, with the URL of the connection.
        timezone: of the project.

    Raises:
        UnreachableError: the database does not answer.
        UnreadableError: the connection is unknown, or query or result are wrong. The message continues the name of the
            delivery, and has no value of a row.
    """
    assert feed.source is not None
    url = _url(feed.source, settings)
    with closing(read_blocks(url, feed.source, values, timezone)) as blocks:  # its transaction ends here
        return _records(feed, blocks)


def try_query(feed: Feed, values: Mapping[str, date | datetime], settings: Settings, timezone: str) -> None:
    """Connect to the database of a feed and let it plan the query, without reading a row; see `run_query`.

    Raises:
        UnreachableError, UnreadableError: as `run_query` does.
    """
    assert feed.source is not None
    url = _url(feed.source, settings)
    with closing(read_blocks(url, feed.source, values, timezone, rows=0)) as blocks:
        _records(feed, blocks)


def read_blocks(
    url: sa.URL, source: Sql, values: Mapping[str, date | datetime], timezone: str, **rows: int
) -> Generator[Block, None, None]:
    """Yield the rows of a query by the client of its database.

    Args:
        url: the database.
        source: the query.
        values: of its parameters.
        timezone: of the project, in which a query without a timezone of its own runs.
        **rows: `rows=0` lets the database plan the query, and reads none.
    """
    client = postgresql if url.get_backend_name() == "postgresql" else other
    blocks: Generator[Block, None, None] = client.read_blocks(url, source, values, source.timezone or timezone, **rows)
    return blocks


def _url(source: Sql, settings: Settings) -> sa.URL:
    name, problem = source.connection, None
    if name not in settings.sources:
        raise UnreadableError(
            f"there is no connection {name}; make an Airflow connection of that name, or without Airflow set "
            f'NIGHTLY_SOURCES to JSON such as {{"{name}": "postgresql://reader@host/database"}}'
        )
    try:
        return sa.make_url(settings.sources[name].get_secret_value())
    except (sa.exc.ArgumentError, ValueError):
        problem = UnreadableError(f"connection {name} is not a URL; write it as postgresql://reader@host/database")
    raise problem  # raised here, so that it does not carry the URL


def _records(feed: Feed, blocks: Iterator[Block]) -> pl.DataFrame:
    """Return the declared columns of all blocks.

    Raises:
        UnreadableError: a column is missing, undeclared or there twice, or the result is larger than the limits.
    """
    frames, size, rows = [pl.DataFrame(schema=dict.fromkeys(feed.columns, pl.String()))], 0, 0
    places: dict[str, int | None] = {}
    for block in blocks:
        places = places or _places(block.names, feed)
        columns = {
            name: pl.Series([None], dtype=pl.String()).new_from_index(0, block.height)
            if place is None
            else block.text(place)
            for name, place in places.items()
        }
        frame = pl.DataFrame(columns)
        size += frame.height * frame.width + sum(int(frame[name].str.len_bytes().sum()) for name in columns)
        if size > feed.limits.max_bytes:
            megabytes = feed.limits.unpacked_mb
            raise UnreadableError(
                f"the result has more than {megabytes:,} MB, the limit; select less, or, if it is right, declare "
                f"limits: {{unpacked_mb: {megabytes * 2}}}"
            )
        most = feed.limits.field_characters
        for name in columns:
            if (frame[name].str.len_chars().max() or 0) > most:  # type: ignore[operator]
                raise UnreadableError(
                    f"{name} has a value of more than {most:,} characters, the limit; select less of it, or, if it is "
                    f"right, declare limits: {{field_characters: {most * 10}}}"
                )
        frames.append(frame)
        rows += block.height
    return pl.concat(frames)


def _places(found: Sequence[str], feed: Feed) -> dict[str, int | None]:
    """Map each declared column to its place in the result; None is an optional column that the query leaves out."""
    for name, times in Counter(each.lower() for each in found).items():
        if times > 1:
            raise UnreadableError(
                f"the result has {times} columns {name}; give each a name of its own in source.query, with AS"
            )
    missing = [name for name in feed.columns if name not in found and not feed.columns[name].optional]
    if missing:
        name = missing[0]
        same = next((each for each in found if each.lower() == name.lower()), None)
        meant = f"; it has {same}, in another case" if same else nearest(name, found)
        raise UnreadableError(
            f'the result has no column {name}{meant}. Name it in source.query: … AS "{name}", or declare '
            f"columns.{name}.optional: true"
        )
    extra = [name for name in found if name not in feed.columns]
    if extra and feed.extra_columns == "refuse":
        raise UnreadableError(
            f"the result has a column {extra[0]} that is not declared; declare columns.{extra[0]}, or extra_columns: "
            "ignore, or do not select it"
        )
    if extra and feed.extra_columns == "warn":
        log.warning("ignored, because it is not declared: column %s", ", ".join(extra))
    return {name: found.index(name) if name in found else None for name in feed.columns}
