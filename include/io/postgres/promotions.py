"""The promotion history, in the shared database: the truth about champions.

Here belongs how it is read and written so that nothing is decided on what has just changed. What may be promoted is
decided in `include/steps/promote.py`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from include.core.interval import Interval
from include.core.records import BY_GATE
from include.core.settings import Settings
from include.io.postgres.connection import engine, lock


@dataclass(frozen=True)
class PromotionEntry:
    """One promotion: `model_version` is the champion from `from_day` on."""

    id: int
    model: str
    model_version: int
    from_day: date
    by: str
    why: str
    run_id: str
    created_at: datetime
    trained_day: date | None  # run day of its training; None in rows of before migration 0002
    gate_id: str | None
    forced: bool

    @property
    def decided_day(self) -> date:
        """The night that it belongs to, and whose training has to reckon with it. By the gate, that of the training; by
        hand, also back to an old version, the first for which it holds: whether it was written before or after the
        training of the night before, a replay cannot know."""
        if self.by != BY_GATE:
            return self.from_day
        return self.trained_day or self.from_day - timedelta(days=1)


ROWS = TypeAdapter(list[PromotionEntry])
"""Rows of the ledger as JSON, and back."""

_PROMOTIONS = sa.table("promotions", *(sa.column(field.name) for field in fields(PromotionEntry)))

_NEWEST = (_PROMOTIONS.c.from_day.desc(), _PROMOTIONS.c.id.desc())


class PromotionHistory:
    """The ledger of one model, while nobody else can promote or publish: what is read stays true until it is left."""

    def __init__(self, connection: sa.Connection, model: str, run_id: str) -> None:
        self._connection, self._model, self._run_id = connection, model, run_id

    def newest(self) -> PromotionEntry | None:
        """The champion of all days to come."""
        return self._first(sa.true())

    def on(self, day: date) -> PromotionEntry | None:
        """The champion of a day."""
        return self._first(_PROMOTIONS.c.from_day <= day)

    def by_gate(self, gate_id: str) -> PromotionEntry | None:
        """The promotion that the pipeline itself made on a decision of the gate."""
        return self._first(sa.and_(_PROMOTIONS.c.gate_id == gate_id, _PROMOTIONS.c.by == BY_GATE))

    def decided_by_gate(self, version: int) -> PromotionEntry | None:
        """The newest promotion of a version that the pipeline itself made."""
        return self._first(sa.and_(_PROMOTIONS.c.model_version == version, _PROMOTIONS.c.by == BY_GATE))

    def champion_to_beat(self, version: int, day: date) -> int | None:
        """The champion that a version trained on a run day has to beat: see `champion_to_beat`."""
        return _champion_to_beat(self._connection, self._model, version, day)

    def newest_published_day(self) -> date | None:
        """The last day that readers see predictions of, None before the first."""
        newest: date | None = self._connection.scalar(
            sa.text("SELECT max(day) FROM published WHERE model = :model"), {"model": self._model}
        )
        return newest

    def add(self, version: int, from_day: date, **about: Any) -> PromotionEntry:
        """Write a row. When the newest of that `from_day` says so already, nothing is written, and it is returned:
        going back to an earlier version from the same day is a new row."""
        there = self._first(_PROMOTIONS.c.from_day == from_day)
        if there is not None and there.model_version == version:
            return there
        row = {"model": self._model, "model_version": version, "from_day": from_day, "run_id": self._run_id, **about}
        return _row(self._connection.execute(sa.insert(_PROMOTIONS).values(**row).returning(*_PROMOTIONS.c)).one())

    def _first(self, where: Any) -> PromotionEntry | None:
        statement = sa.select(_PROMOTIONS).where(_PROMOTIONS.c.model == self._model, where).order_by(*_NEWEST).limit(1)
        found = self._connection.execute(statement).one_or_none()
        return None if found is None else _row(found)


@contextmanager
def open_promotion_history(settings: Settings, model: str) -> Iterator[PromotionHistory]:
    """The ledger in a transaction that is committed at the end, or not at all; others wait."""
    with engine(settings).begin() as connection:
        lock(connection, f"promote {model}")
        lock(connection, f"publish {model}")
        yield PromotionHistory(connection, model, settings.run_id)


def champion_to_beat(settings: Settings, model: str, version: int, day: date) -> int | None:
    """The champion that a version trained on a run day has to beat: the newest in the ledger of what was decided up to
    that day (`PromotionEntry.decided_day`), other than itself. So a past night finds again the champion that it had,
    whatever came later; None before the first."""
    with engine(settings).connect() as connection:
        return _champion_to_beat(connection, model, version, day)


def champions(settings: Settings, model: str, interval: Interval) -> dict[date, int]:
    """Day -> version of the model by the ledger; days before the first promotion are absent."""
    with engine(settings).connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT CAST(d.day AS date), p.model_version "
                "FROM generate_series(CAST(:start AS date), CAST(:end AS date), interval '1 day') AS d(day) "
                "CROSS JOIN LATERAL (SELECT model_version FROM promotions WHERE model = :model AND from_day <= d.day "
                "ORDER BY from_day DESC, id DESC LIMIT 1) p ORDER BY d.day"
            ),
            {"model": model, "start": interval.start, "end": interval.end},
        )
        return dict(rows.all())


def chosen(settings: Settings, model: str, interval: Interval, which: str) -> dict[date, int]:
    """Day -> the version to score it with: `champion`, the champion of that day by the ledger; `newest`, the newest
    champion, for all days; or a version by its number. Days without one are absent."""
    if which == "champion":
        return champions(settings, model, interval)
    version = newest_champion(settings, model) if which == "newest" else int(which)
    return {} if version is None else dict.fromkeys(interval.days, version)


def newest_champion(settings: Settings, model: str) -> int | None:
    """The champion of all days to come, also when its first one is; None before the first."""
    return champions(settings, model, Interval.of(date.max)).get(date.max)


def rows_by_hand(settings: Settings, model: str) -> list[PromotionEntry]:
    """What people decided, in the order in which they did."""
    with engine(settings).connect() as connection:
        return _by_hand(connection, model)


def restore_rows(settings: Settings, model: str, rows: Sequence[PromotionEntry]) -> int:
    """Write rows that people decided into a ledger that lacks them, with their time, in their order; returns how many
    it lacked. The gate's decisions that they rested on are not restored: a replay makes them again."""

    def known_by(row: PromotionEntry) -> tuple[int, date, datetime]:
        return row.model_version, row.from_day, row.created_at

    with engine(settings).begin() as connection:
        lock(connection, f"promote {model}")
        there = {known_by(row) for row in _by_hand(connection, model)}
        missing = [row for row in rows if known_by(row) not in there]
        for row in missing:
            values = {name: value for name, value in vars(row).items() if name not in ("id", "gate_id")}
            connection.execute(sa.insert(_PROMOTIONS).values(**values))
    return len(missing)


def _by_hand(connection: sa.Connection, model: str) -> list[PromotionEntry]:
    statement = sa.select(_PROMOTIONS).where(_PROMOTIONS.c.model == model, _PROMOTIONS.c.by != BY_GATE)
    return [_row(found) for found in connection.execute(statement.order_by(_PROMOTIONS.c.id))]


def _champion_to_beat(connection: sa.Connection, model: str, version: int, day: date) -> int | None:
    statement = sa.select(_PROMOTIONS).where(_PROMOTIONS.c.model == model).order_by(*_NEWEST)
    rows = map(_row, connection.execute(statement))
    return next((row.model_version for row in rows if row.model_version != version and row.decided_day <= day), None)


def _row(found: Any) -> PromotionEntry:
    gate_id = None if found.gate_id is None else str(found.gate_id)
    return PromotionEntry(**{**found._mapping, "created_at": found.created_at.astimezone(UTC), "gate_id": gate_id})
