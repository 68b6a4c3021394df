"""land: write deliveries to `raw_<feed>`, with personal data protected, and list them in `deliveries_<project>`.

This step finds what is wrong with a file as a whole; `validate` finds what is wrong with its values.
"""

import hashlib
import hmac
import logging
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime

import polars as pl

from include.core import schemas
from include.core.errors import ChangedDeliveryError, DeliveryError, UnreadableError
from include.core.feeds import Feed
from include.core.formats import values
from include.core.formats.unpack import too_large
from include.core.interval import Interval
from include.core.names import deliveries_table, raw_table
from include.core.project import Project
from include.core.records import DataView, Landed, Refusal
from include.core.settings import Settings
from include.io.landing import Found, Landing, Sidecar, sha256
from include.io.tables import Scope, Tables

log = logging.getLogger(__name__)

ALWAYS = datetime.max.replace(tzinfo=UTC)
CHUNK_FILES = 300  # files read at a time, a quarter of a year of three feeds: this limits the memory of a range run


@dataclass(frozen=True)
class _Taken:
    """A file that was read and is valid; `records` has all declared columns as text, not protected yet."""

    found: Found
    delivery_id: str
    sha256: str
    available_at: datetime
    records: pl.DataFrame


def land(project: Project, interval: Interval, settings: Settings, *, data_view: DataView = "point_in_time") -> Landed:
    """Land every delivery that the run dates of the interval can know, corrections included.

    With the data view `latest`, later deliveries of the same days are landed too. A delivery that is in raw already is
    left alone. A file that cannot be landed stays where it is and is listed as unreadable.

    Raises:
        DeliveryError: an unreadable file leaves a day without a delivery of a required feed. It names file, line and
            what to do. Nothing of the files read together with that file is written.
    """
    landing, tables = Landing(project, settings), Tables(settings)
    found = [
        f for name, feed in project.feeds.items() for f in landing.find(name) if f.day <= feed.needed_day(interval.end)
    ]
    listed = _listed(project, tables)
    _require_files(project, interval, landing, found, listed)
    untouched = set(listed.select("key", "size", "modified_at").iter_rows())
    fresh = [f for f in found if (f.key, f.size, f.modified_at) not in untouched]

    available, refused = _availability(landing, fresh)
    threshold = _limit(project, interval, listed, fresh, available) if data_view == "point_in_time" else ALWAYS
    candidates = sorted((f for f in fresh if f.key in available and available[f.key] <= threshold), key=lambda f: f.day)

    key = settings.hash_key.get_secret_value().encode()
    ids, covered = set(listed["delivery_id"]), set(listed.select("feed", "day").iter_rows())
    new, rows, version = 0, 0, None
    for n in range(0, max(len(candidates), 1), CHUNK_FILES):
        taken: list[_Taken] = []
        for candidate in candidates[n : n + CHUNK_FILES]:
            try:
                taken.append(_read(project, candidate, landing, available[candidate.key]))
            except DeliveryError as error:
                refused.append(Refusal(feed=candidate.feed, day=candidate.day, uri=candidate.uri, why=str(error)))
        covered |= {(item.found.feed, item.found.day) for item in taken}
        _require_readable(project, interval, refused, covered, candidates[n + CHUNK_FILES :])
        unknown = [item for item in taken if item.delivery_id not in ids]
        rows += _write(project, tables, landing, unknown, key)
        version = _list(project, tables, taken, refused) or version
        new += len(unknown)
    for refusal in refused:
        log.warning("refused: %s", refusal.why)
    known = len(found) - len(fresh)
    log.info("%s: %d new deliveries with %d rows, %d known, %d refused", interval, new, rows, known, len(refused))
    return Landed(interval=interval, rows=rows, table_version=version, new=new, known=known, refused=tuple(refused))


def missing_files(project: Project, run_date: date, settings: Settings) -> dict[str, str]:
    """Map each feed whose file is missing to a sentence about what the run date waits for."""
    return _missing_in_landing(project, Interval.of(run_date), settings).get(run_date, {})


def missing_by_day(project: Project, interval: Interval, settings: Settings) -> dict[date, list[str]]:
    """Map each run date that waits to its sentences. For several days, each feed is listed only once."""
    return {day: [*feeds.values()] for day, feeds in _missing_in_landing(project, interval, settings).items()}


def _missing_in_landing(project: Project, interval: Interval, settings: Settings) -> dict[date, dict[str, str]]:
    landing, one = Landing(project, settings), interval.start == interval.end
    required = {name: needed for day in interval.days for name, needed in project.required(day).items()}
    found = [file for name, needed in required.items() for file in landing.find(name, needed if one else None)]
    return _missing(project, interval, landing, found, _listed(project, Tables(settings)))


def _missing(
    project: Project, interval: Interval, landing: Landing, found: list[Found], listed: pl.DataFrame
) -> dict[date, dict[str, str]]:
    """Map each run date to its missing feeds, with a sentence for each.

    A delivery in raw is not missing, even if its file was removed from landing to save space.
    """
    there = {(f.feed, f.day) for f in found}
    there |= set(listed.filter(pl.col("verdict") != "refused").select("feed", "day").iter_rows())
    missing: dict[date, dict[str, str]] = {}
    for day in interval.days:
        for feed, needed in project.required(day).items():
            if (feed, needed) not in there:
                sentence = f"no file of feed {feed} for {needed} (looked for {landing.pattern(feed, needed)})"
                missing.setdefault(day, {})[feed] = sentence
    return missing


def _require_files(
    project: Project, interval: Interval, landing: Landing, found: list[Found], listed: pl.DataFrame
) -> None:
    missing = _missing(project, interval, landing, found, listed)
    if missing:
        sentences = [sentence for of_day in missing.values() for sentence in of_day.values()]
        more = f"\n… and {len(sentences) - 10} more" if len(sentences) > 10 else ""
        listing = "\n".join(sentences[:10])
        by_day = {day: "; ".join(of_day.values()) for day, of_day in missing.items()}
        raise DeliveryError(f"{listing}{more}\nOnce the supplier has delivered, run the same step again.", by_day)


def _listed(project: Project, tables: Tables) -> pl.DataFrame:
    """Return the deliveries that are in raw. Unreadable ones are not, so that they are tried again."""
    table = deliveries_table(project.name)
    if not tables.exists(table):
        return pl.DataFrame(schema=schemas.DELIVERIES)
    return tables.scan(table).filter(pl.col("verdict") != "unreadable").collect()


def _availability(landing: Landing, fresh: list[Found]) -> tuple[dict[str, datetime], list[Refusal]]:
    """Map each object key to the moment from which it was available; refuse files whose sidecar cannot be read."""
    available, refused = {}, []
    for found in fresh:
        try:
            available[found.key] = landing.available_at(found)
        except DeliveryError as error:
            refused.append(Refusal(feed=found.feed, day=found.day, uri=found.uri, why=str(error)))
    return available, refused


def _limit(
    project: Project, interval: Interval, listed: pl.DataFrame, fresh: list[Found], available: dict[str, datetime]
) -> datetime:
    """Return the latest possible `as_of` of any day of the interval, whichever deliveries `validate` will refuse.

    Every delivery up to this moment is landed, and readers look no further than `as_of`. Like `as_of`, it depends on
    landing alone.
    """
    required = {(feed, needed) for day in interval.days for feed, needed in project.required(day).items()}
    moments = [available[f.key] for f in fresh if (f.feed, f.day) in required and f.key in available]
    moments += [
        at for feed, day, at in listed.select("feed", "day", "available_at").iter_rows() if (feed, day) in required
    ]
    return max([project.cutoff_at(interval.end), *moments])


def _require_readable(
    project: Project,
    interval: Interval,
    refused: list[Refusal],
    covered: set[tuple[str, date]],
    later: list[Found],
) -> None:
    """Raise if a day needs a refused file and no other delivery covers its feed and day."""
    covered = covered | {(f.feed, f.day) for f in later}  # not read yet: its own chunk will check it
    fatal: dict[date, list[str]] = {}
    for day in interval.days:
        needed = set(project.required(day).items()) - covered
        if whys := [r.why for r in refused if (r.feed, r.day) in needed]:
            fatal[day] = whys
    if fatal:
        sentences = dict.fromkeys(why for whys in fatal.values() for why in whys)
        raise DeliveryError("\n".join(sentences), {day: "; ".join(whys) for day, whys in fatal.items()})


def _write(project: Project, tables: Tables, landing: Landing, taken: list[_Taken], key: bytes) -> int:
    """Write the manifest, then raw: `available_at` must be fixed before anything is made from the delivery."""
    rows = 0
    for item in taken:
        landing.take(item.found, item.sha256, item.available_at)
    for feed, declared in project.feeds.items():
        of_feed = [item for item in taken if item.found.feed == feed]
        if of_feed:
            scope = Scope.of_deliveries([i.found.day for i in of_feed], [i.delivery_id for i in of_feed])
            marked = [
                i.records.with_columns(day=pl.lit(i.found.day), delivery_id=pl.lit(i.delivery_id)) for i in of_feed
            ]
            frame = _protect(declared, pl.concat(marked), key).select(schemas.raw(declared).keys())
            tables.replace(raw_table(feed), frame, scope, sort_by=["day", "delivery_id", "_row"])
            rows += frame.height
    return rows


def _list(project: Project, tables: Tables, taken: list[_Taken], refused: list[Refusal]) -> int | None:
    """List new deliveries. A listed delivery keeps its row, which has the verdict of `validate`.

    If an object was touched or copied, its new time is recorded, so that it is not read again in every run.
    """
    rows = [
        {
            "day": item.found.day,
            "feed": item.found.feed,
            "delivery_id": item.delivery_id,
            "key": item.found.key,
            "uri": item.found.uri,
            "sha256": item.sha256,
            "size": item.found.size,
            "modified_at": item.found.modified_at,
            "rows": item.records.height,
            "available_at": item.available_at,
            "verdict": "landed",
            "why": None,
        }
        for item in taken
    ]
    rows += [
        {
            "day": r.day,
            "feed": r.feed,
            "delivery_id": f"unreadable:{r.uri}",
            "uri": r.uri,
            "verdict": "unreadable",
            "why": r.why,
        }
        for r in refused
    ]
    if not rows:
        return None
    listing = pl.DataFrame(rows, schema=schemas.DELIVERIES)
    table = deliveries_table(project.name)
    readable_now = [f"unreadable:{item.found.uri}" for item in taken]
    scope = Scope.of_deliveries(listing["day"].to_list(), [*listing["delivery_id"].to_list(), *readable_now])

    def add(current: pl.DataFrame) -> pl.DataFrame:
        kept = current.filter(pl.col("verdict") != "unreadable")
        touched = kept.update(listing.select("delivery_id", "modified_at"), on="delivery_id")
        return pl.concat([touched, listing.join(kept, on="delivery_id", how="anti")])

    if not tables.exists(table):
        tables.create(table, schemas.DELIVERIES)
    return tables.replace(table, add, scope, sort_by=["day", "feed", "delivery_id"]).version


def _read(project: Project, found: Found, landing: Landing, available_at: datetime) -> _Taken:
    """Read and check one file.

    Raises:
        DeliveryError: names file, line and what to do. It never contains a value of a row, except a date, because
            a column may contain personal data that belongs in another one.
    """
    feed = project.feeds[found.feed]
    if found.size > feed.limits.max_bytes:
        raise DeliveryError(f"{found.uri}{too_large(feed.limits)}")
    content = landing.read(found)
    digest = sha256(content)
    before = landing.taken(found)
    if before is not None and before != digest:
        raise ChangedDeliveryError(
            f"{found.uri}: its content changed after it was landed (sha256 was {before}, is {digest}); "
            "restore the former content and deliver the correction as a new object of the same feed and day"
        )
    sidecar = landing.sidecar(found)
    if sidecar:
        _check_sidecar(found, sidecar, len(content), digest)
    records = _records(found, feed, content)
    if sidecar and sidecar.rows != records.height:
        raise DeliveryError(
            f"{found.uri}: the file has {records.height} rows, the sidecar promises "
            f"{sidecar.rows}; deliver the file again, or the right sidecar"
        )
    _check_day(project, found, feed, records)
    return _Taken(found, f"{found.key}@{digest[:16]}", digest, available_at, records)


def _check_sidecar(found: Found, sidecar: Sidecar, size: int, digest: str) -> None:
    for what, promised, got in [
        ("feed", sidecar.feed, found.feed),
        ("day", sidecar.day, found.day),
        ("size in bytes", sidecar.size, size),
        ("checksum (sha256)", sidecar.sha256, digest),
    ]:
        if promised != got:
            raise DeliveryError(
                f"{found.uri}: wrong {what}: the sidecar promises {promised}, the file has {got}; "
                "deliver the file again, or the right sidecar"
            )


def _records(found: Found, feed: Feed, content: bytes) -> pl.DataFrame:
    """Return all declared columns as text, with `_row`."""
    try:
        contents = feed.format.read(content, found.key, feed.layout)
    except UnreadableError as error:
        raise DeliveryError(f"{found.uri}{error}") from error
    if contents.remark:
        log.warning("%s: %s", found.uri, contents.remark)
    return contents.records


def _check_day(project: Project, found: Found, feed: Feed, records: pl.DataFrame) -> None:
    """Refuse a file with rows of another date. `validate` handles timestamps that cannot be parsed or stored."""
    days = schemas.typed(pl.col(feed.day_column), feed.columns[feed.day_column], feed.format, project.timezone)
    if feed.columns[feed.day_column].type == "timestamp":
        days = days.dt.convert_time_zone(project.timezone).dt.date()
    wrong = records.select("_row", day=days).filter(pl.col("day") != found.day)
    if not wrong.is_empty():
        line, day = wrong.row(0)
        raise DeliveryError(
            f"{found.uri}, {feed.format.unit} {line}: {feed.day_column} is on {day} in {project.timezone}, "
            f"but the file is for {found.day} ({wrong.height} of {records.height} rows have another date); "
            "deliver it under its own day"
        )


def _protect(feed: Feed, records: pl.DataFrame, key: bytes) -> pl.DataFrame:
    """Check the format of identifiers, then replace them by their HMAC-SHA256 (first 128 bits, hex).

    `_malformed` names the identifiers of a row that had a wrong format. Raw tables have no sensitive columns.
    """
    identifiers = {name: column for name, column in feed.kept.items() if column.data_class == "identifier"}
    records = records.with_columns(values.present(pl.col(name), feed.format) for name in identifiers)
    malformed: list[pl.Expr] = [pl.lit(None, pl.String())]
    hashed: list[pl.Expr] = []
    for name, column in identifiers.items():
        written = records[name].drop_nulls().unique().to_list()
        # use Python's `re`, not polars: project.yaml is checked with Python's syntax, and that of polars differs
        wrong = [value for value in written if column.format and not re.fullmatch(column.format, value)]
        malformed.append(pl.when(pl.col(name).is_in(wrong)).then(pl.lit(name)))
        keyed = {value: hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:32] for value in written}
        hashed.append(pl.col(name).replace_strict(keyed, default=None, return_dtype=pl.String()))
    joined = pl.concat_str(malformed, separator=",", ignore_nulls=True).replace("", None)
    return records.with_columns(joined.alias("_malformed"), *hashed)
