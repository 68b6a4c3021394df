"""What run dates see becomes incidents, in the shared database, and what is new about them goes into the outbox.

The rows of `incident_days` and `incident_looks` say what each run date saw; `core/incidents.episodes` makes incidents
of them, so that runs and backfills in any order end the same. Only the newest run date that looked has news: what an
older one finds is recorded, and sent to nobody.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.incidents import (
    FEED_LATE,
    NO_EFFECT,
    SCORES_LATE,
    Details,
    Episode,
    Incident,
    Seen,
    episodes,
    merge_causes,
)
from include.core.records import Alert
from include.io.postgres.incident_failures import FAILED, OF_TASKS, add_missing_day
from include.io.postgres.incidents import RECORD, Cause, as_incident, report, store
from include.io.postgres.schema import incident_days, incident_looks, incident_records


def look(
    connection: sa.Connection,
    project: str,
    run_id: str,
    alerts: Sequence[Alert],
    *,
    scope: str,
    looked: Iterable[date],
    blind: Collection[str],
    as_of_now: bool,
) -> None:
    """Record what run dates saw, and open, update or close incidents.

    Args:
        connection: the caller's transaction, which holds `lock_incidents`.
        project: the project.
        run_id: the Airflow run.
        alerts: what the run dates saw.
        scope: who looked. Without one, nothing is ever found gone.
        looked: all run dates that looked, also those that saw nothing.
        blind: models whose monitors failed; see `raise_alerts`.
        as_of_now: what is not seen any more is gone at once, and not only as of the next run date.
    """
    days = sorted({*looked}) if scope else []
    own = [
        alert
        for alert in alerts
        if not _is_known_failure(connection, project, alert) and not add_missing_day(connection, alert, project, run_id)
    ]
    seen: dict[str, dict[date, Details]] = {}
    for day in sorted({alert.day for alert in own}):
        for cause, details in merge_causes([alert for alert in own if alert.day == day]).items():
            seen.setdefault(cause, {})[day] = details
    _record_looks(connection, project, scope, days, blind, seen, as_of_now=as_of_now)
    looks_by = _read_looks(connection, project, scope)
    for cause in sorted({*seen, *_touched(connection, project, scope, days)}):
        known = next(iter(seen.get(cause, {}).values()), None) or _details_of(connection, project, scope, cause)
        looks_at = [day for day, failed in looks_by.items() if not known.is_hidden_from(failed)]
        of_cause = _days_of(connection, project, scope, cause, looks_at)
        last = max([*looks_at, *([] if scope and days else of_cause)], default=None)
        latest = max([*days, *seen.get(cause, ())])
        is_newest = last is None or latest >= last
        looks = _Looks(of_cause, seen.get(cause, {}), latest if is_newest else None)
        _reconcile(connection, Cause(project, scope, cause), looks, run_id)


def _read_looks(connection: sa.Connection, project: str, scope: str) -> dict[date, list[str]]:
    """Return the run dates that looked, each with the monitors that were blind."""
    table = incident_looks.c
    statement = sa.select(table.day, table.blind).where(table.project == project, table.scope == scope)
    return {row.day: row.blind for row in connection.execute(statement)}


def _details_of(connection: sa.Connection, project: str, scope: str, cause: str) -> Details:
    """Return what the newest incident of a cause says."""
    of_cause = sa.select(incident_records).where(Cause(project, scope, cause).condition)
    return as_incident(connection.execute(of_cause.order_by(RECORD.id.desc()).limit(1)).one()).details


def _is_known_failure(connection: sa.Connection, project: str, alert: Alert) -> bool:
    """Return whether late scores follow from a failure of the same day, of which people were told."""
    if alert.rule != SCORES_LATE or alert.scored_day is None:
        return False
    of_day = sa.exists().where(FAILED.incident_id == RECORD.id, FAILED.day == alert.scored_day)
    known = sa.select(RECORD.id).where(
        RECORD.project == project,
        RECORD.scope == OF_TASKS,
        (RECORD.occurrence == str(alert.scored_day)) | ((RECORD.rule == FEED_LATE) & of_day),
        RECORD.models.contains([alert.subject]),
        RECORD.effect != NO_EFFECT,
        RECORD.message_id.is_not(None),
        RECORD.merged_into.is_(None),
    )
    return connection.scalar(known.limit(1)) is not None


def _record_looks(
    connection: sa.Connection,
    project: str,
    scope: str,
    days: Sequence[date],
    blind: Collection[str],
    seen: Mapping[str, Mapping[date, Details]],
    *,
    as_of_now: bool,
) -> None:
    key = {"project": project, "scope": scope}
    if days:
        looks = postgresql.insert(incident_looks)
        still = sa.text("ARRAY(SELECT unnest(incident_looks.blind) INTERSECT SELECT unnest(excluded.blind))")
        again = looks.on_conflict_do_update(index_elements=["project", "scope", "day"], set_={"blind": still})
        connection.execute(again, [{**key, "day": day, "blind": sorted(blind)} for day in days])
    there = incident_days.c
    if as_of_now and days:
        of_look = (there.project == project) & (there.scope == scope) & there.day.in_(days)
        connection.execute(sa.update(incident_days).where(of_look, ~there.gone).values(gone=True))
    rows = [{**key, "cause": cause, "day": day} for cause, of_cause in seen.items() for day in of_cause]
    if rows:
        inserting = postgresql.insert(incident_days)
        again = inserting.on_conflict_do_update(
            index_elements=["project", "scope", "cause", "day"], set_={"gone": False}, where=there.gone
        )
        connection.execute(again, rows)


def _touched(connection: sa.Connection, project: str, scope: str, days: Sequence[date]) -> list[str]:
    """Return the causes whose incidents these looks can close or split."""
    if not days:
        return []
    statement = sa.select(RECORD.cause).where(
        RECORD.project == project,
        RECORD.scope == scope,
        RECORD.merged_into.is_(None),
        RECORD.first_day <= days[-1],
        RECORD.recovered_day.is_(None) | (RECORD.recovered_day >= days[0]),
    )
    return [*connection.scalars(statement)]


def _days_of(
    connection: sa.Connection, project: str, scope: str, cause: str, looked: Sequence[date]
) -> dict[date, Seen]:
    """Return what each run date knows of a cause.

    Args:
        connection: the caller's transaction.
        project: the project.
        scope: who looked; see `look`.
        cause: the key of the cause.
        looked: the run dates that would have seen it.
    """
    there = incident_days.c
    of_cause = sa.select(there.day, there.gone).where(
        there.project == project, there.scope == scope, there.cause == cause
    )
    found: dict[date, Seen] = {day: "gone" if gone else "seen" for day, gone in connection.execute(of_cause)}
    if scope and found:
        first = min(found)
        for day in looked:
            if day >= first:
                found.setdefault(day, "clear")
    return found


@dataclass(frozen=True)
class _Looks:
    """What is known of a cause.

    Attributes:
        days: what each run date knows.
        seen: what it is like on the run dates of this run.
        latest: the run date that has news; None if a newer one has looked.
    """

    days: Mapping[date, Seen]
    seen: Mapping[date, Details]
    latest: date | None

    def details(self, episode: Episode, before: Incident | None) -> Details | None:
        """Return what an incident says from now on. An older run date does not change what a newer one said."""
        within = [day for day in self.seen if episode.first_day <= day <= episode.last_day]
        if within and (before is None or max(within) == episode.last_day):
            return self.seen[max(within)]
        return before.details if before else None


def _reconcile(connection: sa.Connection, cause: Cause, looks: _Looks, run_id: str) -> None:
    """Make the rows of a cause what its run dates say, and report what is new about the newest incident.

    An incident keeps its number: of the rows that share a run date with it, the newest becomes it. A row that is left
    turned out to be a part of another one.
    """
    statement = sa.select(incident_records).where(cause.condition, RECORD.merged_into.is_(None))
    rows = [as_incident(row) for row in connection.execute(statement.order_by(RECORD.id.desc()))]
    found = episodes(looks.days)
    kept: list[tuple[Episode, int | None]] = []
    chosen: list[tuple[Episode, Incident | None]] = []
    for episode in reversed(found):
        before = next((row for row in rows if episode.overlaps(row.first_day, row.end)), None)
        if before:
            rows.remove(before)
            kept.append((episode, before.id))
        chosen.append((episode, before))
    for row in rows:
        into = next((number for episode, number in kept if episode.overlaps(row.first_day, row.end)), kept[0][1])
        connection.execute(sa.update(incident_records).where(RECORD.id == row.id).values(merged_into=into))
    chosen.sort(key=lambda each: (each[1] is None, each[0].first_day))  # closes one before it opens another
    for episode, before in chosen:
        details = looks.details(episode, before) or _nearest(connection, cause, episode).details
        after = store(connection, cause, details, episode, before)
        if episode == found[-1] and looks.latest is not None:
            report(connection, before, after, run_id, looks.latest)


def _nearest(connection: sa.Connection, cause: Cause, episode: Episode) -> Incident:
    """Return an incident of the cause that has, or had, the run dates of an episode: an older run date split it."""
    order = sa.func.abs(RECORD.first_day - episode.first_day)
    nearest = sa.select(incident_records).where(cause.condition).order_by(order).limit(1)
    return as_incident(connection.execute(nearest).one())
