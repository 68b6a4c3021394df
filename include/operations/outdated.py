"""stale: which days were made of what is no longer the newest known? Reads only; `cli stale` prints what it finds.

A night is never out of date with itself: it holds what was known then. So what came later is made beside it
(`as_of: latest`), and only what changed of the night's own deliveries, by another verdict, is made again in its place.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache, partial

import polars as pl

from include.config.loading import model_names
from include.core import schemas
from include.core.errors import BadData
from include.core.interval import Interval
from include.core.names import clean_table, deliveries_table, features_table, scores_table
from include.core.point_in_time import as_of_days, known_deliveries
from include.core.project import Project
from include.core.records import Knowledge, Night
from include.core.settings import Settings
from include.io import postgres
from include.io.landing import Landing
from include.io.postgres.predictions import content_digest
from include.io.tables import Tables

KNOWLEDGE: tuple[Knowledge, ...] = ("night", "latest")


@dataclass(frozen=True)
class Stale:
    """`what` of a day is out of date, `why`, and the knowledge with which it is made again."""

    day: date
    what: str
    why: str
    knowledge: Knowledge


def stale(project: Project, interval: Interval, settings: Settings) -> list[Stale]:
    """What is out of date of the prepared days of the interval, by day; features first, then each model's scores."""
    tables = Tables(settings)
    made = {k: {n.day: n for n in postgres.days.nights(settings, project.name, interval, k)} for k in KNOWLEDGE}
    nights = made["night"]
    if not nights:
        return []
    deliveries = tables.scan(deliveries_table(project.name)).collect()
    waiting = _waiting(project, deliveries, settings)
    rows = cache(partial(_rows_of, tables))
    found: list[Stale] = []
    for part in Interval.covering(nights):
        known = {k: _known(project, deliveries, part, k) for k in KNOWLEDGE}
        for day in part.days:
            found += _features(day, nights[day], made["latest"].get(day), known, waiting)
            found += _rows(project, nights[day], rows)
    redone = {each.day: each.knowledge for each in found}
    for model in model_names(project.name):
        found += _scores(project, model, interval, made, redone, tables, settings)
    return sorted(found, key=lambda each: (each.day, each.what))


def redo(project: Project, found: Iterable[Stale]) -> list[str]:
    """The commands that make again what is out of date, as few as can be."""
    days: dict[Knowledge, set[date]] = {}
    for each in found:
        days.setdefault(each.knowledge, set()).add(each.day)
    return [
        f"airflow dags trigger {project.name}_reprocess --conf "
        f'\'{{"start": "{part.start}", "end": "{part.end}", "as_of": "{knowledge}", "publish": "replace"}}\''
        for knowledge, of_knowledge in sorted(days.items(), reverse=True)
        for part in Interval.covering(of_knowledge)
    ]


def _known(
    project: Project, deliveries: pl.DataFrame, interval: Interval, knowledge: Knowledge
) -> dict[date, tuple[datetime | None, frozenset[str]]]:
    """Day -> `as_of` and the deliveries in force; a day whose night could not be made now has none."""
    try:
        moments = as_of_days(project, deliveries, interval, knowledge)
        known = known_deliveries(project, deliveries, interval, knowledge)
    except BadData as error:
        days: dict[date, tuple[datetime | None, frozenset[str]]] = dict.fromkeys(error.by_day, (None, frozenset()))
        for part in Interval.covering(set(interval.days) - days.keys()):
            days |= _known(project, deliveries, part, knowledge)
        return days
    used = dict(known.group_by("run_day").agg("delivery_id").iter_rows())
    return {day: (moment, frozenset(used.get(day, ()))) for day, moment in moments.items()}


def _waiting(project: Project, deliveries: pl.DataFrame, settings: Settings) -> dict[date, str]:
    """Run day -> a file that its features may read and that is not landed yet."""
    landing, listed = Landing(project, settings), set(deliveries["key"])
    found: dict[date, str] = {}
    for name, feed in project.feeds.items():
        for file in landing.find(name):
            if file.key not in listed:
                first = file.day + timedelta(days=feed.lag_days)
                for day in Interval(start=first, end=first + timedelta(days=feed.history_days)).days:
                    found.setdefault(day, file.uri)
    return found


def _features(
    day: date,
    night: Night,
    latest: Night | None,
    known: Mapping[Knowledge, Mapping[date, tuple[datetime | None, frozenset[str]]]],
    waiting: Mapping[date, str],
) -> Iterator[Stale]:
    own, newest = known["night"][day], known["latest"][day]
    if own[0] is None:
        yield Stale(day, "features", "a delivery that its night needs is no longer accepted", "night")
    elif (night.as_of, frozenset(night.deliveries)) != own:
        changed = sorted(own[1] ^ frozenset(night.deliveries))
        why = f"of what its night knew, {_some(changed)} has another verdict now"
        yield Stale(day, "features", why, "night")
    by_now = frozenset((latest or night).deliveries)
    if newest[0] is not None and newest[1] != by_now:
        yield Stale(day, "features", f"{_some(sorted(newest[1] - by_now))} came later", "latest")
    elif day in waiting:
        yield Stale(day, "features", f"{waiting[day]} is not landed yet", "latest")


def _rows(project: Project, night: Night, rows: Callable[[str, int | None], dict[str, int]]) -> Iterator[Stale]:
    """Deliveries of which more or fewer rows are clean than when the night read them, as after `requeue`."""
    for name in project.feeds:
        then = night.table_versions.get(clean_table(name))
        if then is not None:
            before, now = rows(clean_table(name), then), rows(clean_table(name), None)
            if changed := [each for each in night.deliveries if before.get(each) != now.get(each)]:
                yield Stale(night.day, "features", f"{_some(changed)} has other rows by now", "night")


def _rows_of(tables: Tables, table: str, version: int | None) -> dict[str, int]:
    """Delivery -> its rows."""
    return dict(tables.scan(table, version).group_by("delivery_id").len().collect().iter_rows())


def _scores(
    project: Project,
    model: str,
    interval: Interval,
    made: Mapping[Knowledge, Mapping[date, Night]],
    redone: Mapping[date, Knowledge],
    tables: Tables,
    settings: Settings,
) -> Iterator[Stale]:
    """Published scores: of features that are out of date, that were not made of the newest there are, or of such as
    were changed afterwards."""
    pointers = postgres.predictions.pointers(settings, model, interval)
    digests = dict(
        postgres.predictions.stored_batches(settings, model, interval).select("batch_id", "digest").iter_rows()
    )
    for day, batch, as_of, version in pointers.select("day", "batch_id", "as_of", "model_version").iter_rows():
        knowledge: Knowledge = "latest" if day in made["latest"] else "night"
        features = made[knowledge].get(day)
        what = f"scores of {model}"
        if day in redone:
            yield Stale(day, what, "their features are out of date", redone[day])
        elif features is None:
            yield Stale(day, what, "the day is not prepared", "night")
        elif as_of != features.as_of and digests[batch] != _digest(model, day, version, knowledge, tables):
            why = (
                f"published are those as of {as_of:%Y-%m-%d %H:%M} UTC, features as of {features.as_of:%Y-%m-%d %H:%M}"
            )
            yield Stale(day, what, f"{why} are there", knowledge)
        elif _changed(project, model, day, version, features, tables):
            yield Stale(day, what, "its features were changed after it was scored", knowledge)


def _changed(project: Project, model: str, day: date, version: int, night: Night, tables: Tables) -> bool:
    """Whether features differ from those that were scored: told by versions first, and then by their content."""
    name = features_table(project.name)
    of_day = pl.col("day") == day
    read = min(_scored(model, day, version, night.knowledge, tables)["features_version"].to_list(), default=None)
    if read is None:
        return night.rows > 0
    if read >= night.table_versions.get(name, 0):
        return False
    own = of_day & (pl.col("knowledge") == night.knowledge)
    before, now = (tables.scan(name, at).filter(own).sort("entity_id").collect() for at in (read, None))
    return not before.equals(now)


def _digest(model: str, day: date, version: int, knowledge: Knowledge, tables: Tables) -> str:
    return content_digest(_scored(model, day, version, knowledge, tables), "score", "prediction")


def _scored(model: str, day: date, version: int, knowledge: Knowledge, tables: Tables) -> pl.DataFrame:
    """The rows of `scores_<model>` of a day and version."""
    table = scores_table(model, knowledge)
    if not tables.exists(table):
        return pl.DataFrame(schema=schemas.SCORES)
    return tables.scan(table).filter(pl.col("day") == day, pl.col("model_version") == version).collect()


def _some(deliveries: list[str]) -> str:
    return f"{deliveries[0]} and {len(deliveries) - 1} more" if len(deliveries) > 1 else "".join(deliveries)
