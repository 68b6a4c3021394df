"""Read one object of the landing: check it as a whole, and decide from when it counts.

What is wrong with one object refuses it, by a message that names it. Which objects are read, and what becomes of them,
is in `land.py`.
"""

import errno
import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import polars as pl

from include.core import schemas
from include.core.erasure import Erasures, without_erased
from include.core.errors import DeliveryError, UnreadableError
from include.core.feeds import Feed
from include.core.formats.base import Contents
from include.core.formats.unpack import too_large
from include.core.intake import NotYetError, available_from, is_history
from include.core.personal import HashKey
from include.core.project import Project
from include.io import apart
from include.io.landing import Found, Landing, NotAFileError, Sidecar, sha256
from include.io.postgres.journal import SeenObject
from include.steps.entries import Taken, delivery_id_of

MIN_VALUES = 100

log = logging.getLogger(__name__)

T = TypeVar("T")

STORAGE_DOWN = (ConnectionError, TimeoutError)
"""Errors of the operating system about the storage as a whole, which end the step. Others are about one object."""
STORAGE_GONE = {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENOTCONN, errno.ESTALE, errno.EMFILE}
"""Numbers of more such errors: a network folder is gone, or no file can be opened."""


QUIET = timedelta(seconds=60)
"""How long a file in a folder must not have changed, if no sidecar says that it is whole."""


def read_object(
    project: Project,
    found: Found,
    landing: Landing,
    now: datetime,
    newest: tuple[str, str] | None,
    ids: set[str],
    erased: Erasures,
    key: HashKey,
) -> Taken:
    """Read and check one object. Rows of erased persons are left out.

    Args:
        project: the project.
        found: the object.
        landing: where it is.
        now: the database's time of the landing.
        newest: `delivery_id` and sha256 of the newest delivery of this object, None if it was never landed.
        ids: all delivery ids of the journal.
        erased: the persons who were erased.
        key: the key by which they are recognised.

    Raises:
        DeliveryError: names file, line and what to do. It never contains a value of a row, except a date, because
            a column may contain personal data that belongs in another one.
    """
    feed = project.feeds[found.feed]
    if found.size > feed.limits.max_bytes:
        raise DeliveryError(f"{found.uri}{too_large(feed.limits)}")
    content, sidecar = _guarded(found, lambda: landing.read(found)), sidecar_of(landing, found)
    if len(content) != found.size:
        raise NotYetError(
            f"{found.uri}: it had {found.size} bytes when it was listed and {len(content)} when it was read, so it is "
            "still being written; it is landed by the next run"
        )
    digest = sha256(content)
    if sidecar:
        check_sidecar(found, feed, sidecar, len(content), digest)
    elif why := why_not_whole(project, found, landing, now):
        raise NotYetError(why)
    claim = claim_of(landing, found)
    modified_at = found.modified_at
    moment = available_from(project, found.feed, found.day, found.uri, claim=claim, modified_at=modified_at, now=now)
    contents = _contents(found, feed, content)
    records = contents.records
    if sidecar:
        check_sidecar(found, feed, sidecar, len(content), digest, records.height)
    _parsed(found, lambda: _check_day(project, found, feed, records))
    delivery_id = delivery_id_of(found.key, digest, newest, ids)
    kept = without_erased(feed, records, erased, key).select("_row", *feed.kept)
    dropped = records.height - kept.height
    about: dict[str, Any] = {
        "erased": dropped,
        "differs": contents.differs,
        "types": types_as_delivered(feed, contents),
    }
    return Taken(found, delivery_id, digest, moment, kept, feed.correction, **about)


def types_as_delivered(feed: Feed, contents: Contents) -> dict[str, str]:
    """Return the types that a file gives to columns; of text, whether numbers with decimals have any.

    A column of text with fewer than `MIN_VALUES` values says nothing about its type.
    """
    found = dict(contents.types)
    for name, column in feed.columns.items():
        if column.type == "double" and name not in found and name in contents.records.columns:
            values = contents.records[name].drop_nulls()
            if values.len() >= MIN_VALUES:
                decimal = any(part.str.contains("[.,eE]").any() for part in (values[:MIN_VALUES], values[MIN_VALUES:]))
                found[name] = "decimal numbers" if decimal else "whole numbers"
    return found


def is_landed(seen: SeenObject | None, found: Found) -> bool:
    """Return whether an object was landed and has not changed since. A refused one is tried again."""
    if seen is None or seen.delivery_id is None:
        return False
    return (seen.feed, seen.day, seen.size, seen.modified_at) == (found.feed, found.day, found.size, found.modified_at)


def why_not_whole(project: Project, found: Found, landing: Landing, now: datetime) -> str | None:
    """Return what a file without a sidecar waits for, None if it can be read.

    In a folder, a file that changed a moment ago may still be being written. An object store shows whole objects only.
    History is not affected: when half a file of it was landed, the whole one replaces it.
    """
    feed = project.feeds[found.feed]
    if feed.sidecar == "required":
        return (
            f"{found.uri}: it has no sidecar yet, and feeds.{found.feed}.sidecar is required; it is landed once "
            f"{found.uri}.json is there"
        )
    is_new = timedelta(0) <= now - found.modified_at < QUIET
    is_live = not feed.dated or (feed.live_from is not None and not is_history(feed, found.day))
    if landing.is_folder and is_new and is_live:
        return (
            f"{found.uri}: it was changed less than {QUIET.seconds} s ago and has no sidecar, so it may still be being "
            "written; it is landed by the next run"
        )
    return None


def sidecar_of(landing: Landing, found: Found) -> Sidecar | None:
    """Return the sidecar of an object, None without one.

    Raises:
        DeliveryError: it cannot be read.
    """
    return _guarded(found, lambda: landing.sidecar(found))


def claim_of(landing: Landing, found: Found) -> datetime | None:
    """Return the claim of an object's sidecar in UTC, None without a sidecar."""
    sidecar = sidecar_of(landing, found)
    return None if sidecar is None else _guarded(found, lambda: sidecar.available_at.astimezone(UTC))


def _guarded(found: Found, read: Callable[[], T]) -> T:
    """Refuse an object that cannot be read; other errors of the storage end the step."""
    try:
        return read()
    except NotAFileError as error:
        raise DeliveryError(f"{found.uri}: {error}; put the file itself here, or remove it") from error
    except OSError as error:
        if isinstance(error, STORAGE_DOWN) or error.errno in STORAGE_GONE:
            raise
        raise DeliveryError(f"{found.uri}: it cannot be read ({type(error).__name__}); correct or remove it") from error
    except OverflowError as error:
        raise DeliveryError(f"{found.uri}.json: a time is out of range; correct the sidecar") from error


def check_sidecar(found: Found, feed: Feed, sidecar: Sidecar, size: int, digest: str, rows: int | None = None) -> None:
    """Refuse an object that is not what its sidecar promises; `rows` is None as long as nobody knows them.

    Raises:
        DeliveryError: names what differs.
    """
    for what, promised, got in [
        ("feed", sidecar.feed, found.feed),
        *([("day", sidecar.day, found.day)] if feed.dated else []),
        ("size in bytes", sidecar.size, size),
        ("checksum (sha256)", sidecar.sha256, digest),
        ("number of rows", sidecar.rows, sidecar.rows if rows is None else rows),
    ]:
        if promised != got:
            raise DeliveryError(
                f"{found.uri}: wrong {what}: the sidecar promises {promised}, the file has {got}; "
                "deliver the file again, or the right sidecar"
            )


def _contents(found: Found, feed: Feed, content: bytes) -> Contents:
    """Return all declared columns as text, with `_row`, and how the columns differ from the declared ones."""
    contents = _parsed(found, lambda: apart.read(feed.format, content, found.key, feed.layout))
    if contents.remark:
        log.warning("%s: %s", found.uri, contents.remark)
    return contents


def _parsed(found: Found, parse: Callable[[], T]) -> T:
    """Refuse an object whose content cannot be parsed, whatever the error is; its text may have a value of a row."""
    try:
        return parse()
    except DeliveryError:
        raise
    except UnreadableError as error:
        raise DeliveryError(f"{found.uri}{error}") from error
    except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001 (polars raises the last as BaseException)
        why = f"{found.uri}: it cannot be parsed ({type(error).__name__}); deliver the file again"
        raise DeliveryError(why) from None


def _check_day(project: Project, found: Found, feed: Feed, records: pl.DataFrame) -> None:
    """Refuse a file with more rows of another date than declared.

    The others correct their own day, if the feed takes them (`late_rows.py`), or `validate` quarantines them. It also
    handles timestamps that cannot be parsed or stored.
    """
    wrong = schemas.too_many_of_another_date(records, feed, found.day, project.timezone)
    if wrong.is_empty() or feed.day_column is None:
        return
    line, moment = wrong.select("_row", feed.day_column).row(0)
    day = project.day_of(moment) if isinstance(moment, datetime) else moment
    at_most = math.ceil(wrong.height / records.height * 100) / 100
    instead = (
        f", or declare that such rows are quarantined: feeds.{found.feed}.late_rows: "
        f"{{kind: quarantine, at_most: {at_most:g}}}"
        if at_most < 1
        else ""
    )
    limit = "" if feed.late_rows is None else f", and late_rows allows {feed.late_rows.at_most:.4g} of them"
    raise DeliveryError(
        f"{found.uri}, {feed.format.unit} {line}: {feed.day_column} is on {day} in {project.timezone}, "
        f"but the file is for {found.day} ({wrong.height} of {records.height} rows have another date{limit}); "
        f"deliver it under its own day{instead}"
    )
