"""Expected performance of published batches, in the shared database: computed where the scores are, once a batch."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.interval import Interval
from include.core.settings import Settings
from include.io.postgres.connection import engine
from include.io.postgres.schema import batches, performance_estimates, predictions, published
from include.monitoring.estimate import ExpectedMetric
from include.monitoring.records import MonitoredModel

SMALLEST = 1e-15
"""Probabilities are kept so far from 0 and 1, so that the log loss is finite."""


def estimate(settings: Settings, model: MonitoredModel, days: Interval, metric: str) -> list[ExpectedMetric]:
    """Estimate the published batches of these days that have no estimate yet; return one metric, in order of days.

    A batch changes only when a person is erased, so it is measured once. Equal scores are one group, in the database.
    """
    e, s, b = performance_estimates.c, published.c, batches.c
    of_model = (s.model == model.name) & s.day.between(days.start, days.end)
    missing = sa.select(s.batch_id, s.day).where(of_model, ~sa.exists().where(e.batch_id == s.batch_id))
    statement = (
        sa
        .select(s.day, b.model_version, e.value, e.rows)
        .select_from(
            published.join(performance_estimates, e.batch_id == s.batch_id).join(batches, b.batch_id == s.batch_id)
        )
        .where(of_model, e.metric == metric)
        .order_by(s.day)
    )
    with engine(settings).begin() as connection:
        for batch, day in connection.execute(missing.order_by(s.day)).all():
            found = connection.execute(_EXPECTED[model.problem_type], {"batch": batch, "day": day}).mappings().one()
            about = {"batch_id": batch, "model": model.name, "day": day, "run_id": settings.run_id}
            rows = [
                {**about, "metric": name, "value": value, "rows": found["rows"]}
                for name, value in found.items()
                if name != "rows" and found["rows"]
            ]
            if rows:
                connection.execute(postgresql.insert(performance_estimates).on_conflict_do_nothing(), rows)
        return [ExpectedMetric(*row) for row in connection.execute(statement)]


def _binary() -> sa.Executable:
    """Select the expected metrics of a batch with the probability of the positive class: see `monitoring.estimate`."""
    p = predictions.c
    groups = (
        sa
        .select(p.score, sa.cast(sa.func.count(), sa.Double).label("rows"))
        .where(p.batch_id == sa.bindparam("batch"), p.day == sa.bindparam("day"))
        .group_by(p.score)
        .subquery()
    )
    score, rows = groups.c.score, groups.c.rows
    right, wrong = rows * score, rows * (1 - score)
    under = sa.func.sum(wrong).over(order_by=score, rows=(None, 0)) - wrong
    limited = sa.func.least(sa.func.greatest(score, SMALLEST), 1 - SMALLEST)
    loss = -limited * sa.func.ln(limited) - (1 - limited) * sa.func.ln(1 - limited)
    each = sa.select(
        rows.label("rows"),
        right.label("right"),
        wrong.label("wrong"),
        (right * (under + wrong / 2)).label("above"),
        (rows * score * (1 - score)).label("brier"),
        (rows * loss).label("log_loss"),
    ).subquery()
    total = {name: sa.func.sum(each.c[name]) for name in ("rows", "right", "wrong", "above", "brier", "log_loss")}
    return sa.select(
        sa.cast(sa.func.coalesce(total["rows"], 0), sa.BigInteger).label("rows"),
        (total["above"] / sa.func.nullif(total["right"] * total["wrong"], 0)).label("roc_auc"),
        (total["brier"] / total["rows"]).label("brier"),
        (total["log_loss"] / total["rows"]).label("log_loss"),
    )


def _multiclass() -> sa.Executable:
    """Select the expected accuracy of a batch, whose scores are the probability of the predicted label."""
    p = predictions.c
    return sa.select(sa.func.count().label("rows"), sa.func.avg(p.score).label("accuracy")).where(
        p.batch_id == sa.bindparam("batch"), p.day == sa.bindparam("day")
    )


_EXPECTED = {"binary": _binary(), "multiclass": _multiclass()}
