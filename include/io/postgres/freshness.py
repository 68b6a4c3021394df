"""How fresh tables and scores are, in the shared database."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

import sqlalchemy as sa

from include.core.records import Freshness
from include.core.settings import Settings
from include.io.postgres.connection import engine
from include.monitoring.records import Preparation, Punctuality


def punctuality(settings: Settings, model: str, deadlines: Mapping[date, datetime]) -> dict[date, Punctuality]:
    """Of each day, with the moment by which its scores are due."""
    with engine(settings).connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT d.day, (SELECT p.model_version FROM promotions p WHERE p.model = :model "
                "AND p.from_day <= d.day AND p.created_at <= d.deadline ORDER BY p.from_day DESC, p.id DESC LIMIT 1), "
                "(SELECT min(h.published_at) FROM publications h WHERE h.model = :model AND h.day = d.day), "
                "(SELECT max(s.day) FROM published s WHERE s.model = :model AND s.day <= d.day) "
                "FROM unnest(CAST(:days AS date[]), CAST(:moments AS timestamptz[])) AS d(day, deadline)"
            ),
            {"model": model, "days": list(deadlines), "moments": list(deadlines.values())},
        )
        return {
            day: Punctuality(day, champion, first.astimezone(UTC) if first else None, newest)
            for day, champion, first, newest in rows
        }


def read_preparations(settings: Settings, project: str, *, until: date) -> dict[date, Preparation]:
    """All nights up to a day."""
    with engine(settings).connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT day, rows, prepared_at FROM prepared_days "
                "WHERE project = :project AND data_view = 'point_in_time' AND day <= :until"
            ),
            {"project": project, "until": until},
        )
        return {day: Preparation(day, count, moment.astimezone(UTC)) for day, count, moment in rows}


def record_freshness(settings: Settings, project: str, found: Sequence[Freshness]) -> None:
    """In place of what was found for the same run days before; what is as it was is not written."""
    if not found:
        return
    statement = sa.text(
        "INSERT INTO freshness AS f (project, subject, day, newest_day, behind_days, late, sentence, run_id) "
        "VALUES (:project, :subject, :day, :newest_day, :behind_days, :late, :sentence, :run_id) "
        "ON CONFLICT (project, subject, day) DO UPDATE SET newest_day = excluded.newest_day, "
        "behind_days = excluded.behind_days, late = excluded.late, sentence = excluded.sentence, "
        "run_id = excluded.run_id, measured_at = clock_timestamp() "
        "WHERE (f.newest_day, f.behind_days, f.late, f.sentence) IS DISTINCT FROM "
        "(excluded.newest_day, excluded.behind_days, excluded.late, excluded.sentence)"
    )
    with engine(settings).begin() as connection:
        ordered = sorted(found, key=lambda f: (f.day, f.subject))  # one order, so that two cannot deadlock
        connection.execute(
            statement, [{**f.model_dump(), "project": project, "run_id": settings.run_id} for f in ordered]
        )
