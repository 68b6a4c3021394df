"""outdated: find days whose features or scores were made from data that was corrected since.

It only reads; `cli outdated` prints the findings. A prepared day keeps what its record says, so later deliveries do not
replace it: they give results with `data: latest`, beside the original ones. A day whose own deliveries were withdrawn,
accepted or landed since is changed only by `cli repair`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from typing import Any

import polars as pl

from include.config.loading import model_names
from include.core import schemas
from include.core.errors import DataError
from include.core.horizons import KEY
from include.core.interval import Interval
from include.core.journal import Known
from include.core.names import clean_table, features_table, scores_table
from include.core.parts import sets_of
from include.core.point_in_time import known_at, known_deliveries
from include.core.project import Project
from include.core.records import DataView, DayRecord, PreparedDay
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import read_journal
from include.io.landing import Landing
from include.io.postgres.predictions import batch_digest
from include.io.tables import Scope, Tables

DATA_VIEWS: tuple[DataView, ...] = ("point_in_time", "latest")


FEATURES = "features"
"""What `OutOfDate.what` says of features."""


@dataclass(frozen=True)
class OutOfDate:
    """`what` is out of date for a day, `why`, and the data view with which to make it again, perhaps after a repair.

    `data_view` is None while nothing can make it again, because a required file is not there.
    """

    day: date
    what: str
    why: str
    data_view: DataView | None
    needs_repair: bool = False


Row = Mapping[str, Any]
"""A delivery of the journal: the columns of `schemas.DELIVERIES`."""


@dataclass(frozen=True)
class _Change:
    """What a repair would change in a prepared day.

    Attributes:
        was: a delivery that the day used and would not use any more; None if it had none of that feed and day.
        new: the delivery that it would use instead, if there is one.
        others: the number of further deliveries that would change.
        used: all deliveries that it would use.
        lacking: the required files of which there is no accepted delivery. A repair fails then.
    """

    was: Row | None
    new: Row | None
    others: int
    used: frozenset[str]
    lacking: list[str]


def find_out_of_date(project: Project, interval: Interval, settings: Settings) -> list[OutOfDate]:
    """Return what is out of date for the prepared days of the interval, by day, features before scores."""
    tables = Tables(settings)
    made = {
        k: {n.day: n for n in postgres.days.read_prepared_days(settings, project.name, interval, k)} for k in DATA_VIEWS
    }
    prepared_days = made["point_in_time"]
    if not prepared_days:
        return []
    journal = read_journal(settings, project)
    waiting = _waiting(project, journal, max(prepared_days), settings)
    newest = {
        day: used for part in Interval.covering(prepared_days) for day, used in _newest(project, journal, part).items()
    }
    changes = _changes(project, journal, prepared_days)
    at, rows = cache(journal.at), cache(partial(_rows_of, tables))
    found = list[OutOfDate]()
    for day, prepared_day in prepared_days.items():
        latest, change = made["latest"].get(day), changes.get(day)
        found += _record(prepared_day, journal.records[day], change, at)
        used = change.used if change and not change.lacking else frozenset(prepared_day.deliveries)
        found += _latest(day, frozenset(latest.deliveries) if latest else used, newest[day], waiting)
        if change is None:  # otherwise rows may be gone because their delivery was refused
            found += _rows(project, prepared_day, rows)
    redone = {each.day: each.data_view for each in found}
    for model in model_names(project.name):
        found += _scores(project, model, interval, made, redone, tables, settings)
    return sorted(found, key=lambda each: (each.day, each.what))


def rerun_commands(project: Project, found: Iterable[OutOfDate]) -> list[str]:
    """Return the fewest commands that bring everything up to date."""
    days: dict[DataView, set[date]] = {}
    unrepaired = set[date]()
    for each in found:
        if each.data_view is None:
            continue
        days.setdefault(each.data_view, set()).add(each.day)
        if each.needs_repair:
            unrepaired.add(each.day)
    repairs = [
        f"python -m include.cli repair --project {project.name} --start {part.start} --end {part.end} "
        "--by NAME --why REASON"
        for part in Interval.covering(unrepaired)
    ]
    return repairs + [
        f"airflow dags trigger {project.name}_backfill_range --conf "
        f'\'{{"start": "{part.start}", "end": "{part.end}", "data": "{data_view}", "publish": "replace"}}\''
        for data_view, of_view in sorted(days.items(), reverse=True)
        for part in Interval.covering(of_view)
    ]


def _newest(project: Project, journal: Known, interval: Interval) -> dict[date, frozenset[str] | None]:
    """Map each day to the deliveries it would use with the data view `latest`, None if it could not be prepared."""
    try:
        known = known_deliveries(project, journal, interval, "latest")
    except DataError as error:
        days: dict[date, frozenset[str] | None] = dict.fromkeys(error.by_day, None)
        for part in Interval.covering(set(interval.days) - days.keys()):
            days |= _newest(project, journal, part)
        return days
    used = dict(known.group_by("run_date").agg("delivery_id").iter_rows())
    return {day: frozenset(used.get(day, ())) for day in interval.days}


def _waiting(project: Project, journal: Known, last: date, settings: Settings) -> dict[date, str]:
    """Map each run date up to `last` to what is said about a file that its features may read and that is not landed."""
    landing, listed = Landing(project, settings), set(journal.deliveries["key"])
    listed |= {part.key for parts in sets_of(journal.entries).values() for part in parts}
    seen = postgres.journal.read_seen_objects(settings, project.name)
    listed |= {key for key, each in seen.items() if each.delivery_id}  # such as older versions of the parts of a set
    found: dict[date, str] = {}
    for name, feed in project.file_feeds.items():
        for file in landing.find(name):
            each = seen.get(file.key)
            is_same = each is not None and (each.size, each.modified_at) == (file.size, file.modified_at)
            refused = each.why if each is not None and is_same else None
            if refused or file.key not in listed:
                said = f"refused, so correct it first: {refused}" if refused else f"{file.uri} is not landed yet"
                for day in feed.run_dates(file.day, last):
                    found.setdefault(day, said)
    return found


def _changes(project: Project, journal: Known, days: Iterable[date]) -> dict[date, _Change]:
    """Map each of these prepared days that a repair would change to what it would change."""
    places = {row["delivery_id"]: row for row in journal.deliveries.iter_rows(named=True)}
    records = {day: journal.records[day] for day in days}
    current: dict[date, dict[tuple[str, date | None], set[str]]] = {day: {} for day in records}
    by_now = known_at(project, journal.deliveries, {day: record.as_of for day, record in records.items()})
    for run_date, feed, day, delivery_id in by_now.drop("rank").iter_rows():
        current[run_date].setdefault(project.slot(feed, day), set()).add(delivery_id)
    found = {}
    for day, record in records.items():
        then: dict[tuple[str, date | None], set[str]] = {}
        for each in record.deliveries:
            then.setdefault(project.slot(places[each]["feed"], places[each]["day"]), set()).add(each)
        now = current[day]
        if changed := sorted(one for one in then.keys() | now.keys() if then.get(one) != now.get(one)):
            used, by_then = now.get(changed[0], set()), then.get(changed[0], set())
            was, new = _newest_of(places, by_then - used), _newest_of(places, used - by_then)
            lacking = [f"{feed} of {of}" for feed, of in project.required_days(day) if (feed, of) not in now]
            found[day] = _Change(was, new, len(changed) - 1, frozenset().union(*now.values()), lacking)
    return found


def _newest_of(places: Mapping[str, Row], ids: set[str]) -> Row | None:
    """Return the newest of some deliveries, None if there are none."""
    return max((places[each] for each in ids), key=lambda row: (row["available_from"], row["sequence"]), default=None)


def _record(
    prepared_day: PreparedDay, record: DayRecord, change: _Change | None, at: Callable[[int], Known]
) -> Iterator[OutOfDate]:
    """Say whether a record was repaired and not built yet, and what a repair would change."""
    day = record.day
    if prepared_day.number != record.number:
        why = f"record {record.number} of the day is a repair, and its features are not built again"
        yield OutOfDate(day, FEATURES, why, "point_in_time")
    if change is None:
        return
    more = f" (and {change.others} more)" if change.others else ""
    why = f"{_cause(change.was, change.new, at(record.watermark))}{more}"
    if change.lacking:
        why += f"; there is no accepted delivery of {', '.join(change.lacking)}: accept one, or let one be delivered"
        yield OutOfDate(day, FEATURES, why, None)
    else:
        yield OutOfDate(day, FEATURES, why, "point_in_time", needs_repair=True)


def _cause(was: Row | None, new: Row | None, then: Known) -> str:
    """Say why a day would use another delivery by now; `then` is the journal as the day knew it."""
    if was and was["verdict"] != "accepted":
        return f"{was['delivery_id']}, which the day used, was {was['verdict']} since: {was['why']}"
    if new is None:
        assert was is not None
        return f"{was['delivery_id']}, which the day used, is not read any more, since project.yaml was changed"
    verdicts = dict(then.deliveries.select("delivery_id", "verdict").iter_rows())
    if new["delivery_id"] not in verdicts:
        moment = f"{new['available_from']:%Y-%m-%d %H:%M} UTC"
        return f"{new['delivery_id']} was landed after the day was prepared, and counts from {moment}"
    if verdicts[new["delivery_id"]] != "accepted":
        return f"{new['delivery_id']} was {verdicts[new['delivery_id']]} when the day was prepared, and is accepted now"
    return f"{new['delivery_id']} is read since project.yaml was changed"


def _latest(
    day: date, by_now: frozenset[str], newest: frozenset[str] | None, waiting: Mapping[date, str]
) -> Iterator[OutOfDate]:
    """Say whether `data: latest` would use other deliveries than readers of a day get by now, or after its repair."""
    if newest is not None and newest != by_now:
        came = sorted(newest - by_now)
        why = f"{_some(came)} came later" if came else f"{_some(sorted(by_now - newest))} does not count any more"
        yield OutOfDate(day, FEATURES, why, "latest")
    elif day in waiting:
        yield OutOfDate(day, FEATURES, waiting[day], "latest")


def _rows(
    project: Project, prepared_day: PreparedDay, rows: Callable[[str, int | None], dict[str, int]]
) -> Iterator[OutOfDate]:
    """Find deliveries with more or fewer clean rows than when the day was prepared, as after `revalidate`."""
    for name in project.feeds:
        then = prepared_day.table_versions.get(clean_table(project.name, name))
        if then is not None:
            before, now = rows(clean_table(project.name, name), then), rows(clean_table(project.name, name), None)
            if changed := [each for each in prepared_day.deliveries if before.get(each) != now.get(each)]:
                yield OutOfDate(prepared_day.day, FEATURES, f"{_some(changed)} has other rows now", "point_in_time")


def _rows_of(tables: Tables, table: str, version: int | None) -> dict[str, int]:
    """Map each delivery to its number of rows."""
    return dict(tables.scan(table, version).group_by("delivery_id").len().collect().iter_rows())


def _scores(
    project: Project,
    model: str,
    interval: Interval,
    made: Mapping[DataView, Mapping[date, PreparedDay]],
    redone: Mapping[date, DataView | None],
    tables: Tables,
    settings: Settings,
) -> Iterator[OutOfDate]:
    """Find published scores whose features are out of date, newer than the scores, or changed after scoring."""
    pointers = postgres.predictions.read_pointers(settings, model, interval)
    digests = dict(
        postgres.predictions.read_batches(settings, model, interval).select("batch_id", "digest").iter_rows()
    )
    for day, batch, as_of, version in pointers.select("day", "batch_id", "as_of", "model_version").iter_rows():
        data_view: DataView = "latest" if day in made["latest"] else "point_in_time"
        features = made[data_view].get(day)
        what = f"scores of {model}"
        if day in redone:
            yield OutOfDate(day, what, "their features are out of date", redone[day])
        elif features is None:
            yield OutOfDate(day, what, "the day is not prepared", "point_in_time")
        elif as_of != features.as_of and digests[batch] != _digest(model, day, version, data_view, tables):
            published, built = f"{as_of:%Y-%m-%d %H:%M} UTC", f"{features.as_of:%Y-%m-%d %H:%M} UTC"
            why = f"the published scores are as of {published}, the features as of {built}"
            yield OutOfDate(day, what, why, data_view)
        elif _changed(project, model, day, version, features, tables):
            yield OutOfDate(day, what, "its features were changed after it was scored", data_view)


def _changed(project: Project, model: str, day: date, version: int, prepared_day: PreparedDay, tables: Tables) -> bool:
    """Return whether features differ from those that were scored, by table versions first and then by content."""
    name = features_table(project.name)
    read = min(_scored(model, day, version, prepared_day.data_view, tables)["features_version"].to_list(), default=None)
    if read is None:
        return prepared_day.rows > 0
    if read >= prepared_day.table_versions.get(name, 0):
        return False
    scope = Scope(Interval.of(day), {"data_view": [prepared_day.data_view]})
    return tables.differ(name, scope, read, tables.version(name), sort_by=KEY)


def _digest(model: str, day: date, version: int, data_view: DataView, tables: Tables) -> str:
    return batch_digest(_scored(model, day, version, data_view, tables))


def _scored(model: str, day: date, version: int, data_view: DataView, tables: Tables) -> pl.DataFrame:
    """Return the scores of a model for a day and version."""
    table = scores_table(model, data_view)
    if not tables.exists(table):
        return pl.DataFrame(schema=schemas.SCORES)
    return tables.scan(table).filter(pl.col("day") == day, pl.col("model_version") == version).collect()


def _some(deliveries: list[str]) -> str:
    return f"{deliveries[0]} and {len(deliveries) - 1} more" if len(deliveries) > 1 else "".join(deliveries)
