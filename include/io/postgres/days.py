"""Prepared days in the shared database: their records in the journal, and what was built from them."""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, date

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.errors import DataError
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.names import features_table
from include.core.records import DataView, DayRecord, PreparedDay, TableRef
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine
from include.io.postgres.journal import write_journal


def record_prepared_days(
    settings: Settings,
    project: str,
    prepared_days: Iterable[PreparedDay],
    *,
    reconstructed: Collection[date] = (),
    put_back: Callable[[Sequence[PreparedDay]], None] = lambda counting: None,
) -> list[PreparedDay]:
    """Store prepared days of a project, in place of earlier rows about them, and enter the record of each new one.

    A day that has a record is stored only if it was built from it, or from the same deliveries.

    Args:
        settings: where the database is.
        project: the project.
        prepared_days: what was built.
        reconstructed: the days that were not prepared live.
        put_back: called under the lock with the prepared days that count now. It sees to it that the newest version of
            the features has their rows, whatever other runs wrote meanwhile.

    Returns:
        For each day that is not stored, because another run prepared it first: the prepared day of that run.

    Raises:
        DataError: names the days that were repaired meanwhile. All others are stored.
    """
    ordered = sorted(prepared_days, key=lambda each: (each.day, each.data_view))
    if not ordered:
        return []
    stored, lost, repaired = list[PreparedDay](), list[PreparedDay](), list[date]()
    with write_journal(settings, project) as journal:
        records, new = journal.known().records, list[DayRecord]()
        for each in ordered:
            if each.data_view == "latest":
                stored.append(each)
                continue
            record = records.get(each.day)
            if record is None:
                record = DayRecord(
                    day=each.day,
                    number=1,
                    as_of=each.as_of,
                    watermark=each.watermark,
                    deliveries=each.deliveries,
                    reconstructed=each.day in reconstructed,
                )
                new.append(record)
            if (each.as_of, each.deliveries) == (record.as_of, record.deliveries):
                stored.append(each.model_copy(update={"number": record.number, "watermark": record.watermark}))
                continue
            first = _read(journal.connection, project, Interval.of(each.day), "point_in_time")
            if first and first[0].number == record.number:
                lost += first
            else:
                repaired.append(each.day)
        journal.add([Entry.prepared_day(record) for record in new])
        _store(journal.connection, stored, settings.run_id)
        put_back([*stored, *lost])
    if repaired:
        days = ", ".join(map(str, repaired))
        why = f"{project}: repaired while features were built: {days}; run build_features again"
        raise DataError(why, dict.fromkeys(repaired, why))
    return lost


def read_prepared_days(
    settings: Settings, project: str, interval: Interval, data_view: DataView = "point_in_time"
) -> list[PreparedDay]:
    """Return the prepared days of the interval, in order of days."""
    with engine(settings).connect() as connection:
        return _read(connection, project, interval, data_view)


def read_features(
    settings: Settings, project: str, interval: Interval, data_view: DataView = "point_in_time"
) -> dict[date, TableRef]:
    """Map each prepared day of the interval to its features: the version of the table that has them, and their rows."""
    table = features_table(project)
    return {
        each.day: TableRef(
            table=table, version=each.table_versions[table], interval=Interval.of(each.day), rows=each.rows
        )
        for each in read_prepared_days(settings, project, interval, data_view)
    }


def read_unprepared_days(
    settings: Settings, project: str, interval: Interval, data_view: DataView = "point_in_time"
) -> list[date]:
    """Return the days of the interval that are not prepared yet."""
    prepared = {n.day for n in read_prepared_days(settings, project, interval, data_view)}
    return [day for day in interval.days if day not in prepared]


def _store(connection: sa.Connection, prepared_days: Iterable[PreparedDay], run_id: str) -> None:
    rows = [
        {
            **each.model_dump(),
            "deliveries": list(each.deliveries),
            "horizon_rows": list(each.horizon_rows),
            "run_id": run_id,
        }
        for each in prepared_days
    ]
    if not rows:
        return
    inserting = postgresql.insert(schema.prepared_days)
    kept = {"project", "day", "data_view"}
    replaced = [name for name in (*PreparedDay.model_fields, "run_id") if name not in kept]
    statement = inserting.on_conflict_do_update(
        index_elements=["project", "day", "data_view"],
        set_={**{name: inserting.excluded[name] for name in replaced}, "prepared_at": sa.func.clock_timestamp()},
    )
    connection.execute(statement, rows)


def _read(connection: sa.Connection, project: str, interval: Interval, data_view: DataView) -> list[PreparedDay]:
    table = schema.prepared_days.c
    statement = (
        sa
        .select(*(table[name] for name in PreparedDay.model_fields))
        .where(table.project == project, table.data_view == data_view)
        .where(table.day.between(interval.start, interval.end))
        .order_by(table.day)
    )
    return [
        PreparedDay(**{**r, "as_of": r["as_of"].astimezone(UTC), "deliveries": tuple(r["deliveries"])})
        for r in connection.execute(statement).mappings()
    ]
