"""What a report of a period reads of the shared database, in a few queries that add up where the rows are.

Nothing here reads the clock. Rows are chosen by run date, deliveries by the watermark of the run date of the report,
and decisions of people by its `as_of`: see docs/decisions/0055-reports.md.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from include.core.interval import Interval
from include.core.lifecycle import BY_PRODUCT
from include.core.records import BY_GATE
from include.core.settings import Settings
from include.io.postgres import schema
from include.io.postgres.connection import engine
from include.io.postgres.schema import (
    alerts,
    batches,
    champion_comparisons,
    drift_daily,
    feed_punctuality,
    gate_results,
    gates,
    incident_records,
    outcomes,
    performance_daily,
    predictions,
    promotions,
    published,
    quality_results,
    retrainings,
    skew_checks,
    step_runs,
    version_moves,
)
from include.monitoring.records import MonitoredModel
from include.report.period_facts import (
    LABELLED,
    DayErrors,
    DayOfVersion,
    DriftedFeature,
    IncidentFound,
    LossDay,
    MetricDay,
    PersonDecided,
    Promoted,
    SkewFound,
    StepTotal,
    VersionDecided,
)

EFFECTS = {
    "shift": "its values moved, in standard deviations",
    "spread": "its spread changed, as a logarithm of the ratio",
    "shape": "its distribution changed, by Jensen-Shannon distance",
    "missing": "the share of missing values changed",
    "outside": "share of values outside the range of the training data",
    "new": "share of values that the training data lack",
    "vanished": "share of labels that vanished",
}
"""The effects of drift that have a limit, in words."""


def read_published(settings: Settings, model: str, days: Interval) -> list[DayOfVersion]:
    """Return the version and the number of predictions that readers see of each run date."""
    s, b = published.c, batches.c
    statement = (
        sa
        .select(s.day, b.model_version, b.rows)
        .join_from(published, batches, b.batch_id == s.batch_id)
        .where(s.model == model, s.day.between(days.start, days.end))
        .order_by(s.day)
    )
    with engine(settings).connect() as connection:
        return [DayOfVersion(day, version, rows) for day, version, rows in connection.execute(statement)]


def read_losses(settings: Settings, model: str, known: Interval) -> list[LossDay]:
    """Return the loss of the published predictions, and of the dummy baseline, of the run dates that are known then.

    Args:
        settings: the database.
        model: its name.
        known: the days whose outcomes became known; a run date counts when the last day it predicts is one of them.
    """
    c = champion_comparisons.c

    def at(place: int) -> sa.ColumnElement[Any]:
        return sa.func.max(c.loss).filter(c.place == place)

    statement = (
        sa
        .select(c.day, sa.func.max(c.rows), at(0), at(-1))
        .where(c.model == model, c.slice == "all", c.place.in_([0, -1]))
        .where(c.last_day.between(known.start, known.end))
        .group_by(c.day)
        .having(at(0).is_not(None))
        .order_by(c.day)
    )
    with engine(settings).connect() as connection:
        return [LossDay(*row) for row in connection.execute(statement)]


def read_metrics(settings: Settings, model: str, known: Interval) -> list[MetricDay]:
    """Return each metric over all rows of the run dates that are known then."""
    p, s, b = performance_daily.c, published.c, batches.c
    joined = performance_daily.join(published, (s.model == p.model) & (s.day == p.day)).join(
        batches, b.batch_id == s.batch_id
    )
    statement = (
        sa
        .select(p.day, p.metric, p.value, p.rows)
        .select_from(joined)
        .where(p.model == model, p.slice == "all", p.value.is_not(None), p.rows > 0)
        .where((p.day + b.horizon_days).between(known.start, known.end))
        .order_by(p.day, p.metric)
    )
    with engine(settings).connect() as connection:
        return [MetricDay(*row) for row in connection.execute(statement)]


def read_versions(settings: Settings, model: str, known: Interval) -> list[int]:
    """Return the versions whose published predictions are of run dates that are known then."""
    with engine(settings).connect() as connection:
        statement = sa.select(batches.c.model_version).distinct().select_from(_batches(model, known))
        return sorted(connection.scalars(statement.where(_of(model, known))))


def read_errors(
    settings: Settings, project: str, model: MonitoredModel, known: Interval, baselines: Mapping[int, float | None]
) -> list[DayErrors]:
    """Return the errors of published predictions with a known outcome, added up by run date in the database.

    Sums are of exact decimals, so that they do not depend on the order of rows.

    Args:
        settings: the database.
        project: its name.
        model: the model.
        known: as for `read_losses`.
        baselines: what the baseline of each version predicts; None if it is not known.
    """
    s, b, p, o = published.c, batches.c, predictions.c, outcomes.c
    of_outcome = (o.project == project) & (o.outcome == model.outcome)
    rows = (
        _batches(model.name, known)
        .join(predictions, (p.batch_id == s.batch_id) & (p.day == s.day))
        .join(outcomes, of_outcome & (o.day == s.day + p.horizon) & (o.entity_id == p.entity_id))
    )
    wanted = _of(model.name, known) & o.value.is_not(None)
    if model.problem_type in LABELLED:
        pair = (sa.cast(o.value, sa.Integer), sa.cast(p.prediction, sa.Integer))
        statement = (
            (sa.select(s.day, b.model_version, *pair, sa.func.count()).select_from(rows).where(wanted))
            .group_by(s.day, b.model_version, *pair)
            .order_by(s.day, *pair)
        )
        found: dict[tuple[date, int], dict[tuple[int, int], int]] = {}
        with engine(settings).connect() as connection:
            for day, version, outcome, prediction, count in connection.execute(statement):
                found.setdefault((day, version), {})[outcome, prediction] = count
        return [DayErrors(day, version, sum(each.values()), each) for (day, version), each in found.items()]
    named = {version: value for version, value in baselines.items() if value is not None}
    baseline: sa.ColumnElement[Any] = sa.null()
    if named:
        baseline = sa.case(*((b.model_version == version, sa.literal(value)) for version, value in named.items()))

    def total(of: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        amount = sa.func.greatest(sa.cast(of, sa.Numeric), 0)
        return sa.cast(sa.func.sum(sa.case((of.is_not(None), amount))), sa.Double)

    baseline = sa.cast(baseline, sa.Double)
    amounts = (o.value - p.prediction, p.prediction - o.value, o.value - baseline, baseline - o.value)
    statement = (
        sa
        .select(s.day, b.model_version, sa.func.count(), *map(total, amounts))
        .select_from(rows)
        .where(wanted)
        .group_by(s.day, b.model_version)
        .order_by(s.day)
    )
    with engine(settings).connect() as connection:
        return [DayErrors(day, version, n, None, *sums) for day, version, n, *sums in connection.execute(statement)]


def _batches(model: str, known: Interval) -> sa.Join:
    return published.join(batches, batches.c.batch_id == published.c.batch_id)


def _of(model: str, known: Interval) -> sa.ColumnElement[bool]:
    last = published.c.day + batches.c.horizon_days
    return (published.c.model == model) & last.between(known.start, known.end)


def read_drift(settings: Settings, model: str, days: Interval) -> tuple[list[DriftedFeature], int]:
    """Return the features with a large effect on some run dates, the strongest first, and how many are watched."""
    d = drift_daily.c
    statement = (
        sa
        .select(d.day, d.role, d.feature, d.strength, *(d[name] for name in EFFECTS))
        .where(d.model == model, d.slice == "all", d.day.between(days.start, days.end), d.strength >= 1)
        .order_by(d.role, d.feature, d.strength.desc(), d.day, d.reference)
    )
    watched = sa.select(sa.func.count(sa.distinct(sa.tuple_(d.role, d.feature)))).where(
        d.model == model, d.slice == "all", d.day.between(days.start, days.end)
    )
    found: dict[tuple[str, str], list[Any]] = {}
    with engine(settings).connect() as connection:
        for row in connection.execute(statement):
            found.setdefault((row.role, row.feature), []).append(row)
        count = connection.scalar(watched) or 0
    drifted = []
    for (role, feature), rows in found.items():
        strongest = rows[0]
        values = {name: abs(value) for name in EFFECTS if (value := getattr(strongest, name)) is not None}
        effect = max(values, key=lambda name: (values[name], name)) if values else ""
        drifted.append(
            DriftedFeature(
                role,
                feature,
                len({row.day for row in rows}),
                strongest.strength,
                EFFECTS.get(effect, "the number of rows changed"),
                values.get(effect, 0.0),
            )
        )
    return sorted(drifted, key=lambda each: (-each.strength, each.role, each.feature)), count


def read_skew(settings: Settings, model: str, days: Interval) -> SkewFound:
    """Return how many published rows of these run dates were built again, and how many of them differ at most."""
    c = skew_checks.c
    statement = (
        sa
        .select(c.day, c.rows, c.missing, c.features, c.scores)
        .where(c.model == model, c.state == "compared", c.day.between(days.start, days.end))
        .order_by(c.day)
    )
    with engine(settings).connect() as connection:
        rows = connection.execute(statement).all()
    differing = sum(max([each.missing, *each.features.values(), *each.scores.values()], default=0) for each in rows)
    return SkewFound(len({each.day for each in rows}), sum(each.rows for each in rows), differing)


def read_decided(settings: Settings, model: str, days: Interval, as_of: datetime) -> list[VersionDecided]:
    """Return the decisions of the gate about versions of these run dates, and what followed up to a moment."""
    g, r, p, m = gates.c, gate_results.c, promotions.c, version_moves.c
    failed = (
        sa
        .select(r.gate_id, r.sentence)
        .join_from(gate_results, gates, g.gate_id == r.gate_id)
        .where(g.model == model, g.day.between(days.start, days.end), ~r.passed)
    )
    promoted = sa.select(p.gate_id, sa.func.min(p.from_day)).where(
        p.model == model, p.gate_id.is_not(None), p.from_day <= sa.literal(days.end) + 1
    )
    moves = sa.select(m.gate_id, m.state).where(m.model == model, m.gate_id.is_not(None), m.created_at <= as_of)
    decisions = (
        sa
        .select(g.gate_id, g.day, g.model_version, g.candidate, g.passed)
        .where(g.model == model, g.day.between(days.start, days.end))
        .order_by(g.day, g.model_version, g.decided_at, g.gate_id)
    )
    with engine(settings).connect() as connection:
        reasons: dict[str, list[str]] = {}
        for gate_id, sentence in connection.execute(failed.order_by(r.gate_id, r.number)):
            reasons.setdefault(gate_id, []).append(sentence)
        champions = {row[0]: row[1] for row in connection.execute(promoted.group_by(p.gate_id))}
        states = {row[0]: row[1] for row in connection.execute(moves.order_by(m.id))}
        found = connection.execute(decisions).all()
    return [
        VersionDecided(
            each.day,
            each.model_version,
            each.candidate,
            each.passed,
            tuple(reasons.get(each.gate_id, ())),
            f"champion from {champions[each.gate_id]} on"
            if each.gate_id in champions
            else states.get(each.gate_id, "")
            if each.passed
            else "",
        )
        for each in found
    ]


def read_promoted(settings: Settings, model: str, days: Interval) -> list[Promoted]:
    """Return the changes of the champion that the run dates decided: they count from the day after, at the earliest."""
    p = promotions.c
    statement = (
        sa
        .select(p.from_day, p.model_version, p.by, p.forced, p.rolled_back_from, p.why)
        .where(p.model == model, (p.from_day - 1).between(days.start, days.end))
        .order_by(p.from_day, p.id)
    )
    with engine(settings).connect() as connection:
        return [
            Promoted(row.from_day, row.model_version, row.by != BY_GATE, row.forced, row.rolled_back_from, row.why)
            for row in connection.execute(statement)
        ]


def read_people(settings: Settings, model: str, after: datetime, until: datetime) -> list[PersonDecided]:
    """Return what people decided between two moments about versions that waited for them, without their names."""
    m = version_moves.c
    statement = (
        sa
        .select(m.model_version, m.state, m.why)
        .where(m.model == model, m.by.not_in([BY_GATE, BY_PRODUCT]), m.created_at > after, m.created_at <= until)
        .order_by(m.id)
    )
    with engine(settings).connect() as connection:
        return [PersonDecided(*row) for row in connection.execute(statement)]


def read_retrained(settings: Settings, model: str, days: Interval) -> list[tuple[date, str]]:
    """Return the trainings that monitoring asked for on these run dates, with the reason."""
    c = retrainings.c
    statement = sa.select(c.day, c.why).where(c.model == model, c.day.between(days.start, days.end)).order_by(c.day)
    with engine(settings).connect() as connection:
        return [(day, why) for day, why in connection.execute(statement)]


def read_incidents(settings: Settings, project: str, days: Interval, run_date: date) -> list[IncidentFound]:
    """Return the incidents that were open on one of these run dates, as `run_date` knows them.

    A later recovery is not known then. A sentence that a later run date wrote is replaced by the newest alert of the
    period; of failed tasks there is none, because it may have parts of an error.
    """
    i, a = incident_records.c, alerts.c
    statement = (
        sa
        .select(i.severity, i.rule, i.subject, i.first_day, i.last_day, i.recovered_day, i.what, i.scope)
        .where(i.project == project, i.merged_into.is_(None), i.first_day <= days.end)
        .where(i.recovered_day.is_(None) | (i.recovered_day > days.start) | (i.first_day >= days.start))
        .order_by(i.first_day, i.rule, i.subject, i.id)
    )
    said = (
        sa
        .select(a.rule, a.subject, a.sentence)
        .where(a.project == project, a.day.between(days.start, days.end))
        .order_by(a.day, a.id)
    )
    with engine(settings).connect() as connection:
        sentences = {(rule, subject): sentence for rule, subject, sentence in connection.execute(said)}
        rows = connection.execute(statement).all()
    found = []
    for row in rows:
        is_over = row.recovered_day is not None and row.recovered_day <= run_date
        what = row.what if row.last_day <= run_date else sentences.get((row.rule, row.subject), "")
        found.append(
            IncidentFound(
                row.severity,
                row.rule,
                row.subject,
                row.first_day,
                row.recovered_day if is_over else None,
                "" if row.scope == "task" or row.rule in ("task_failed", "run_failed") else what,
            )
        )
    return found


def read_punctuality(settings: Settings, project: str, days: Interval) -> list[tuple[str, str, int, int, int]]:
    """Return supplier, feed, and how many deliveries were due, late and not there, for these run dates."""
    c = feed_punctuality.c
    statement = (
        sa
        .select(
            c.supplier,
            c.feed,
            sa.func.count(),
            sa.func.count().filter(c.late),
            sa.func.count().filter(c.available_from.is_(None)),
        )
        .where(c.project == project, c.day.between(days.start, days.end))
        .group_by(c.supplier, c.feed)
        .order_by(c.supplier, c.feed)
    )
    with engine(settings).connect() as connection:
        return [(row[0], row[1], row[2], row[3], row[4]) for row in connection.execute(statement)]


def read_quality(settings: Settings, project: str, deliveries: Sequence[str]) -> tuple[int, int]:
    """Return the rows and the broken expectations of these deliveries."""
    r = quality_results.c
    statement = (
        sa
        .select(
            r.delivery_id,
            sa.func.coalesce(sa.func.max(r.rows_evaluated), 0),
            sa.func.count().filter(~r.success),
        )
        .where(r.project == project, r.delivery_id.in_(deliveries))
        .group_by(r.delivery_id)
    )
    with engine(settings).connect() as connection:
        found = connection.execute(statement).all()
    return sum(int(rows) for _, rows, _ in found), sum(failed for *_, failed in found)


def read_step_costs(settings: Settings, project: str, days: Interval, currency: str | None) -> list[StepTotal]:
    """Return what the runs that ended on these calendar days took and cost, by step."""
    runs = step_runs.c
    of_currency = sa.func.sum(runs.cost).filter(runs.currency == currency) if currency else sa.null()
    statement = (
        sa
        .select(
            runs.step,
            sa.func.count(),
            sa.func.count().filter(runs.state == "failed"),
            sa.func.sum(runs.seconds),
            sa.func.coalesce(sa.func.sum(runs.core_seconds), 0),
            of_currency,
        )
        .where(runs.project == project, runs.ran_on.between(days.start, days.end))
        .group_by(runs.step)
        .order_by(sa.func.sum(runs.seconds).desc(), runs.step)
    )
    with engine(settings).connect() as connection:
        return [StepTotal(*row) for row in connection.execute(statement)]


def read_due_days(settings: Settings, model: str, days: Sequence[date]) -> list[date]:
    """Return the days that had a champion, so that predictions were due."""
    first = sa.select(sa.func.min(schema.promotions.c.from_day)).where(schema.promotions.c.model == model)
    with engine(settings).connect() as connection:
        from_day = connection.scalar(first)
    return [day for day in days if from_day is not None and day >= from_day]
