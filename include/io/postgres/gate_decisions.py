"""The gate's decisions, in the shared database."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

import sqlalchemy as sa

from include.core.interval import Interval
from include.core.records import Check, GateDecision
from include.core.settings import Settings
from include.io.postgres.connection import engine

GATES = uuid.UUID("0d6f3a52-1b0e-5d7c-8f43-6a1c2b7e9d10")  # namespace of gate ids: never change it


@dataclass(frozen=True)
class GateSubject:
    """What a decision of the gate is about. Two decisions on the same are one: `gate_id` follows from it."""

    model: str
    model_version: int
    day: date  # the run day of the training
    candidate: str
    champion: int | None
    model_digest: str  # of the files of the version
    rules_digest: str  # of the thresholds and of the code that checks
    holdout: Interval
    rows: int

    @property
    def gate_id(self) -> str:
        about = [
            self.model,
            self.model_version,
            self.day,
            self.champion,
            self.model_digest,
            self.rules_digest,
            self.holdout,
        ]
        return str(uuid.uuid5(GATES, "/".join(map(str, [*about, self.rows]))))


def find_decision(settings: Settings, gate_id: str) -> GateDecision | None:
    """A decision that was recorded, None when it was not."""
    with engine(settings).connect() as connection:
        found = _decisions(connection, "gate_id = CAST(:value AS uuid)", value=gate_id)
    return found[0][0] if found else None


def decisions(settings: Settings, model: str, version: int) -> list[tuple[GateDecision, GateSubject]]:
    """What the gate decided on a version, the newest first."""
    with engine(settings).connect() as connection:
        return _decisions(connection, "model = :model AND model_version = :version", model=model, version=version)


def record_decision(settings: Settings, subject: GateSubject, checks: Sequence[Check]) -> GateDecision:
    """Write a decision with its checks, whole; the one that was there first stays, and is returned."""
    with engine(settings).begin() as connection:
        made = connection.execute(
            sa.text(
                "INSERT INTO gates (gate_id, model, model_version, day, candidate, champion_version, model_digest, "
                "rules_digest, passed, checks, holdout_start, holdout_end, rows, run_id) VALUES (:gate_id, :model, "
                ":model_version, :day, :candidate, :champion, :model_digest, :rules_digest, :passed, :checks, :holdout_start, "
                ":holdout_end, :rows, :run_id) ON CONFLICT DO NOTHING RETURNING gate_id"
            ),
            {
                **{f.name: getattr(subject, f.name) for f in fields(subject) if f.name != "holdout"},
                "gate_id": subject.gate_id,
                "passed": bool(checks) and all(check.passed for check in checks),
                "checks": len(checks),
                "holdout_start": subject.holdout.start,
                "holdout_end": subject.holdout.end,
                "run_id": settings.run_id,
            },
        ).all()
        if made:
            connection.execute(
                sa.text(
                    "INSERT INTO gate_results (gate_id, number, name, subject, measured, threshold, passed, sentence) "
                    "VALUES (:gate_id, :number, :name, :subject, :measured, :threshold, :passed, :sentence)"
                ),
                [
                    {"gate_id": subject.gate_id, "number": number, **check.model_dump()}
                    for number, check in enumerate(checks, 1)
                ],
            )
    decision = find_decision(settings, subject.gate_id)
    assert decision is not None
    return decision


def _decisions(connection: sa.Connection, where: str, **values: Any) -> list[tuple[GateDecision, GateSubject]]:
    """Newest first. `where` is SQL of this module."""
    found = []
    gates = connection.execute(sa.text(f"SELECT * FROM gates WHERE {where} ORDER BY decided_at DESC"), values)  # noqa: S608
    for gate in gates.mappings().all():
        checks = connection.execute(
            sa.text(
                "SELECT name, subject, measured, threshold, passed, sentence FROM gate_results "
                "WHERE gate_id = :gate_id ORDER BY number"
            ),
            {"gate_id": gate["gate_id"]},
        )
        subject = GateSubject(
            model=gate["model"],
            model_version=gate["model_version"],
            day=gate["day"],
            candidate=gate["candidate"],
            champion=gate["champion_version"],
            model_digest=gate["model_digest"],
            rules_digest=gate["rules_digest"],
            holdout=Interval(start=gate["holdout_start"], end=gate["holdout_end"]),
            rows=gate["rows"],
        )
        decision = GateDecision(
            interval=Interval.of(subject.day),
            rows=subject.rows,
            model_version=subject.model_version,
            model=subject.model,
            candidate=subject.candidate,
            gate_id=str(gate["gate_id"]),
            champion=subject.champion,
            passed=gate["passed"],
            checks=tuple(Check(**row) for row in checks.mappings()),
        )
        found.append((decision, subject))
    return found
