"""The change of a champion, as other programs hear of it: the content of a message and of an asset event. Pure."""

from datetime import date, timedelta
from typing import Literal

from include.core.base import Record
from include.core.outbox import Message, key_of, storable
from include.core.records import BY_GATE

KIND = "champion_changed"
KEPT_FOR = timedelta(days=7)
"""How long a message about a champion is tried: a program that was down over a weekend still hears of it."""


class ChampionChange(Record):
    """A model has another newest champion.

    Attributes:
        event: always `champion_changed`.
        promotion: the row of the promotion history; two messages with the same one are about the same change.
        model: its name.
        model_version: the champion now.
        semantic_version: the name of that version, if it has one.
        digest: sha256 of its files; compare it with what you download.
        previous_version: the champion before, None if it is the first.
        from_day: the first day that it predicts.
        move: what made it the champion: the gate, a person, or a rollback by a person.
        forced: whether a person overruled the gate.
        why: the reason, for people.
        model_uri: where MLflow has its files.
    """

    event: Literal["champion_changed"] = "champion_changed"
    promotion: int
    model: str
    model_version: int
    semantic_version: str | None
    digest: str | None
    previous_version: int | None
    from_day: date
    move: Literal["gate", "person", "rollback"]
    forced: bool
    why: str
    model_uri: str

    @property
    def text(self) -> str:
        """The change in words."""
        name = f" ({self.semantic_version})" if self.semantic_version else ""
        before = (
            "its first champion" if self.previous_version is None else f"instead of version {self.previous_version}"
        )
        return (
            f"{self.model}: version {self.model_version}{name} is the champion from {self.from_day} on, {before}. "
            f"{self.why}. Files: {self.model_uri}"
        )

    def message(self, destination: str, run_id: str) -> Message:
        """Return the message to the programs behind a connection, the same for the same promotion."""
        return Message(
            key=key_of(KIND, self.model, self.model_version, self.from_day, self.promotion),
            kind=KIND,
            destination=destination,
            payload={
                "text": storable(self.text),
                **self.model_copy(update={"why": storable(self.why)}).model_dump(mode="json"),
            },
            subject=self.model,
            run_id=storable(run_id),
            kept_for=KEPT_FOR,
        )


def move_of(by: str, rolled_back_from: int | None) -> Literal["gate", "person", "rollback"]:
    """Return what made a version the champion."""
    if rolled_back_from is not None:
        return "rollback"
    return "gate" if by == BY_GATE else "person"
