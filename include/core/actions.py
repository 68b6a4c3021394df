"""Actions: what a model sends to other programs about each published batch, as `model.yaml` declares it. Pure.

A batch that is published, replaced or unpublished is a *move* of readers. `include/io/postgres/actions.py` writes the
messages about a move in the transaction that makes it, so there is one if and only if readers see the change.
"""

from abc import ABC
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from include.core.base import Name, Record
from include.core.errors import nearest
from include.core.feeds import HORIZON
from include.core.outbox import MAX_TEXT, Message, key_of, storable
from include.core.project import Project
from include.core.variants import Variant

KIND = "action"
"""The kind of the messages."""
KEPT_FOR = timedelta(days=3)
"""How long a message is tried: a receiver that was down over a weekend still gets its lists."""
SHOWN = 10
"""The rows that the text of a message shows; the payload has all of them."""
SCORES = ("score", "prediction", "lower", "upper", "label")
"""The columns of predictions that a row may have; those that the problem type lacks are left out."""

Event = Literal["published", "corrected", "withdrawn"]


class BaseAction(Variant, ABC):
    """Where the messages of an action go, and about which run dates."""

    to: Name = Field(
        description="the Airflow connection of the receiver (docs/notifications.md); a receiver of your own is one "
        "with the channel `webhook`, which signs",
        examples=["crm_webhook"],
    )
    max_age_days: int = Field(
        default=7,
        ge=0,
        description="run dates that are older when their batch is published send nothing, so that a backfill of "
        "history does not flood the receiver; a correction of what was sent is always sent",
        examples=[1],
    )

    @property
    def subject(self) -> str:
        """What tells actions of one kind apart."""
        return self.to

    @property
    def top(self) -> int:
        """The number of rows to send."""
        return 0

    def misfits(self, project: Project) -> Sequence[str]:
        """Return what does not fit the project, in sentences."""
        return ()


class TopK(BaseAction):
    """Sends the k rows with the highest scores, or the lowest."""

    kind: Literal["top_k"] = "top_k"
    k: int = Field(ge=1, le=1000, description="how many rows", examples=[20])
    order: Literal["highest", "lowest"] = Field(
        default="highest", description="which scores come first", examples=["lowest"]
    )
    columns: tuple[str, ...] | None = Field(
        default=None,
        description="public columns of the entity that a row has beside its scores; by default all of `entity.public`",
        examples=[["store", "department"]],
    )

    @property
    def subject(self) -> str:
        """What tells actions of one kind apart."""
        return f"{self.order} to {self.to}"

    @property
    def top(self) -> int:
        """The number of rows to send."""
        return self.k

    def misfits(self, project: Project) -> Sequence[str]:
        """Return what does not fit the project, in sentences: columns that are not public."""
        public = project.entity.public
        problems = [
            f"columns: {name!r} is not in entity.public of project.yaml{nearest(name, public)}"
            for name in self.columns or ()
            if name not in public
        ]
        if not public:
            problems.append("a row has public columns only, and entity.public of project.yaml is empty")
        return problems


class Announcement(BaseAction):
    """Says that the batch is there, without rows: the receiver reads the view `current_predictions`."""

    kind: Literal["batch"] = "batch"


AnyAction = Annotated[TopK | Announcement, Field(discriminator="kind")]
"""Every action. `kind` says which one an entry of `model.yaml` is."""


class Move(Record):
    """A change of what readers see of a run date.

    Attributes:
        publication: its number in `publication_history`; a later change of the same run date has a higher one.
        model: the model.
        day: the run date.
        batch_id: the batch that readers see from then on; None if they see none.
        replaced: the batch that they saw before; None if there was none.
        model_version: the version that made the batch.
        rows: its number of predictions.
        moved_at: the moment.
    """

    publication: int
    model: str
    day: date
    batch_id: str | None
    replaced: str | None
    model_version: int | None
    rows: int
    moved_at: datetime

    @property
    def event(self) -> Event:
        """What the move is for a receiver."""
        if self.batch_id is None:
            return "withdrawn"
        return "published" if self.replaced is None else "corrected"


def is_due(action: BaseAction, move: Move, project: Project, *, sent_before: bool) -> bool:
    """Return whether a message is sent about a move.

    Args:
        action: the action.
        move: the move.
        project: whose timezone says what day it is.
        sent_before: whether an earlier message of the action is about the same run date.
    """
    if sent_before:
        return True
    age = (project.day_of(move.moved_at) - move.day).days
    return move.batch_id is not None and age <= action.max_age_days


def columns_of(action: BaseAction, project: Project) -> tuple[str, ...]:
    """Return the columns of a row: never one that is not public. `entity_id` is one if it is made of public columns."""
    if not isinstance(action, TopK):
        return ()
    entity_id = ("entity_id",) if project.has_public_entity_id else ()
    return (*entity_id, *(action.columns or project.entity.public))


def message_of(
    action: BaseAction, move: Move, top: Sequence[Mapping[str, Any]], *, project: Project, run_id: str
) -> Message:
    """Return the message of an action about a move, the same for the same move.

    Args:
        action: the action.
        move: the move.
        top: its rows, best first: public columns, `horizon` and the columns of predictions.
        project: the project.
        run_id: the run that made the move.
    """
    rows = [{name: _json(value) for name, value in row.items() if value is not None} for row in top]
    payload: dict[str, JsonValue] = {
        "action": action.kind,
        "event": move.event,
        "project": project.name,
        "model": move.model,
        "run_date": str(move.day),
        "publication": move.publication,
        "batch_id": move.batch_id,
        "replaces": move.replaced,
        "model_version": move.model_version,
        "rows": move.rows,
    }
    if isinstance(action, TopK):
        payload |= {"k": action.k, "order": action.order, "top": [*rows]}
    return Message(
        key=key_of(KIND, move.model, action.kind, action.subject, move.publication),
        kind=KIND,
        destination=action.to,
        payload={"text": storable(_text(action, move, rows)[:MAX_TEXT]), **payload},
        subject=move.model,
        run_id=storable(run_id),
        kept_for=KEPT_FOR,
    )


def _text(action: BaseAction, move: Move, rows: Sequence[Mapping[str, JsonValue]]) -> str:
    about = f"{move.model}, run date {move.day}"
    if move.event == "withdrawn":
        return f"{about}: the predictions were withdrawn (batch {move.replaced}). Do not act on what was sent before."
    batch = f"{move.rows:,} predictions of version {move.model_version} (batch {move.batch_id})"
    head = f"{about}: {batch}"
    if move.event == "corrected":
        head = f"{about}: corrected. {batch} in place of batch {move.replaced}. What was sent before counts no more."
    if not isinstance(action, TopK):
        return head
    return _with_list(head, rows, action.order)


def without_rows(payload: Mapping[str, Any], entities: Collection[tuple[date, str]]) -> dict[str, Any]:
    """Return the content of a message of the kind `top_k` without the rows about some entities.

    Args:
        payload: the content.
        entities: target day and `entity_id` of each.
    """
    run_date = date.fromisoformat(payload["run_date"])
    kept = [
        row
        for row in payload["top"]
        if (run_date + timedelta(days=row.get(HORIZON, 0)), row.get("entity_id")) not in entities
    ]
    if len(kept) == len(payload["top"]):
        return {**payload}
    head = payload["text"].partition("\n")[0]
    text = storable(_with_list(head, kept, payload["order"])[:MAX_TEXT])
    return {**payload, "text": text, "top": kept}


def _with_list(head: str, rows: Sequence[Mapping[str, JsonValue]], order: str) -> str:
    lines = [
        f"{n}. " + ", ".join(f"{name} {_shown(value)}" for name, value in row.items() if name != "entity_id")
        for n, row in enumerate(rows[:SHOWN], 1)
    ]
    more = [f"… and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    return "\n".join([head, f"The {len(rows)} {order} scores:", *lines, *more])


def _shown(value: JsonValue) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _json(value: Any) -> JsonValue:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value if isinstance(value, bool | int | float | str) else str(value)


def wanted_columns(action: BaseAction, project: Project) -> tuple[str, ...]:
    """Return the columns of a row of an action in order: what it is about, then its horizon, then its scores."""
    horizon = (HORIZON,) if project.looks_ahead else ()
    return (*columns_of(action, project), *horizon, *SCORES)
