"""Messages to what reads the predictions, after a change of what readers see (`after_publish` in `project.yaml`)."""

import sqlalchemy as sa

from include.core.outbox import Message, key_of
from include.core.project import Project
from include.core.settings import Settings
from include.io.postgres.connection import engine
from include.io.postgres.messages import put
from include.io.postgres.schema import publications


def announce_publication(settings: Settings, project: Project, model: str) -> None:
    """Store a message to each of `after_publish`, once for what readers see of the model now.

    A step calls it after its commit, also if it changed nothing: if it was killed in between, its next try stores what
    is missing. The key is the newest move of a pointer, so that a range of days is one message, and a repeated call
    none.
    """
    if project.after_publish:
        with engine(settings).begin() as connection:
            put_news(connection, project, model, settings.run_id)


def put_news(connection: sa.Connection, project: Project, model: str, run_id: str) -> None:
    """Do the same in the caller's transaction, for a change that no next try would announce: unpublishing."""
    if not project.after_publish:
        return
    moves = publications.c
    of_model = sa.select(moves.id, moves.day, moves.mode).where(moves.model == model, moves.mode != "retention")
    newest = of_model.order_by(moves.id.desc()).limit(1)
    move = connection.execute(newest).one_or_none()
    if move is None:
        return
    what = "was unpublished" if move.mode == "unpublish" else "is published"
    payload = {"text": f"{model}: {move.day} {what}", "project": project.name, "model": model}
    for destination in project.after_publish:
        put(
            connection,
            Message(
                key=key_of("published", destination, model, move.id),
                kind="published",
                destination=destination,
                payload={**payload, "day": move.day.isoformat(), "publication": move.id},
                subject=model,
                run_id=run_id,
            ),
        )
