"""The gate's decisions, in the shared database."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.interval import Interval
from include.core.records import Check, GateDecision
from include.core.settings import Settings
from include.io.postgres.connection import engine
from include.io.postgres.schema import gate_results, gates

_OTHERWISE = ("validation", "holdout", "champion")  # fields of a subject whose columns have other names
GATES = uuid.UUID("0d6f3a52-1b0e-5d7c-8f43-6a1c2b7e9d10")  # namespace of gate ids; never change it


@dataclass(frozen=True)
class GateSubject:
    """The subject of a gate decision. Decisions on the same subject are one: `gate_id` is derived from it."""

    model: str
    model_version: int
    day: date  # run date of the training
    candidate: str
    champion: int | None
    model_digest: str  # digest of the files of the version
    rules_digest: str  # digest of the thresholds and of the code that checks them
    validation: Interval  # days on which the candidate was chosen
    holdout: Interval
    rows: int

    @property
    def gate_id(self) -> str:
        """Return the id that follows from these values."""
        about = [
            self.model,
            self.model_version,
            self.day,
            self.champion,
            self.model_digest,
            self.rules_digest,
            self.validation,
            self.holdout,
        ]
        return str(uuid.uuid5(GATES, "/".join(map(str, [*about, self.rows]))))


def find_decision(settings: Settings, gate_id: str) -> GateDecision | None:
    """Return a recorded decision, None if there is none."""
    with engine(settings).connect() as connection:
        found = _select(connection, gates.c.gate_id == gate_id)
    return found[0][0] if found else None


def read_decisions(settings: Settings, model: str, version: int) -> list[tuple[GateDecision, GateSubject]]:
    """Return the decisions on a version, the newest first."""
    with engine(settings).connect() as connection:
        return _select(connection, (gates.c.model == model) & (gates.c.model_version == version))


def record_decision(settings: Settings, subject: GateSubject, checks: Sequence[Check]) -> GateDecision:
    """Store a decision with all its checks. If it is stored already, the stored decision is kept and returned."""
    values = {
        **{f.name: getattr(subject, f.name) for f in fields(subject) if f.name not in _OTHERWISE},
        "gate_id": subject.gate_id,
        "champion_version": subject.champion,
        "passed": bool(checks) and all(check.passed for check in checks),
        "checks": len(checks),
        "validation_start": subject.validation.start,
        "validation_end": subject.validation.end,
        "holdout_start": subject.holdout.start,
        "holdout_end": subject.holdout.end,
        "run_id": settings.run_id,
    }
    inserting = postgresql.insert(gates).values(**values).on_conflict_do_nothing().returning(gates.c.gate_id)
    with engine(settings).begin() as connection:
        if connection.execute(inserting).all():
            numbered = [
                {"gate_id": subject.gate_id, "number": number, **check.model_dump()}
                for number, check in enumerate(checks, 1)
            ]
            connection.execute(sa.insert(gate_results), numbered)
    decision = find_decision(settings, subject.gate_id)
    assert decision is not None
    return decision


def _select(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[tuple[GateDecision, GateSubject]]:
    """Return the decisions, the newest first."""
    rows = connection.execute(sa.select(gates).where(where).order_by(gates.c.decided_at.desc()))
    return [_read_decision(connection, row) for row in rows.mappings().all()]


def _read_decision(connection: sa.Connection, gate: sa.RowMapping) -> tuple[GateDecision, GateSubject]:
    columns = [gate_results.c[name] for name in Check.model_fields]
    checks = connection.execute(
        sa.select(*columns).where(gate_results.c.gate_id == gate["gate_id"]).order_by(gate_results.c.number)
    )
    validation, holdout = (
        Interval(start=gate[f"{period}_start"], end=gate[f"{period}_end"]) for period in ("validation", "holdout")
    )
    same = {f.name: gate[f.name] for f in fields(GateSubject) if f.name not in _OTHERWISE}
    subject = GateSubject(**same, champion=gate["champion_version"], validation=validation, holdout=holdout)
    decision = GateDecision(
        interval=Interval.of(subject.day),
        rows=subject.rows,
        model_version=subject.model_version,
        model=subject.model,
        candidate=subject.candidate,
        gate_id=gate["gate_id"],
        champion=subject.champion,
        passed=gate["passed"],
        checks=tuple(Check(**row) for row in checks.mappings()),
    )
    return decision, subject
