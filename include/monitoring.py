"""How published scores compare with what came true, when that is too poor, and when scores are late; what is said of
it. Pure functions: no reading, no writing, no clock.

**When scores are late.** In the night of D the scores of J = D − 1 are judged, so that a monitor that overtakes the
scoring of its own night cannot raise a false alarm. They are late when the ledger named a champion of J by
`publish_by` on J and nothing was published for J by then. It is decided by audit columns alone (`created_at` of the
promotion, the first `published_at` of the day): a day that was published in time and then published again stays in
time, and a run that is repeated finds the same. Before the first champion nothing is due; a replay of years ago has
its promotions written after those deadlines, so that nothing was due either.

People are told only in a **live** night: one that was prepared before the cutoff of the next. After an outage on-call
backfills many nights at once; each would say that its day was late, which on-call knows. Only the newest is live, and
it says so once. `freshness` keeps the fact for each day all the same. A night that is never prepared has no monitor
run: of that, the waiting sensor of `<project>_prepare` tells when it gives up.
"""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import date, datetime, timedelta

import polars as pl

from include import learning
from include.config import METRICS, Model, Project, Rule
from include.contracts import Alert, Freshness
from include.errors import BadData
from include.io.performance import DayValue, Punctuality

ALL = "all"
NO_VALUE = "(none)"
MEASURED = {
    "slice": pl.String(),
    "slice_value": pl.String(),
    "metric": pl.String(),
    "value": pl.Float64(),
    "rows": pl.Int64(),
}
LATE = "scores_late"

# --- performance ------------------------------------------------------------------------------------------------------


def measure_day(model: Model, rows: pl.DataFrame) -> pl.DataFrame:
    """Metrics of one day's scores: over all rows, and by each value of each slice that has at least `min_rows`.

    `rows`: score, prediction and outcome (f64, null: not known, or known to have none), and the slices' columns as
    text. Only rows with an outcome are measured. Returns the columns of `MEASURED`; `value` is null where a metric is
    not defined, as AUC of one class. Raises `BadData` when an outcome of a classification is neither 0 nor 1.
    """
    known = rows.drop_nulls("outcome")
    if model.task == "classification" and (wrong := known.filter(~pl.col("outcome").is_in([0.0, 1.0])).height):
        raise BadData(f"{model.name}: {wrong} of {known.height} values of outcome {model.outcome} are neither 0 nor 1")
    parts = [(ALL, ALL, known)]
    for column in model.monitor.slices:
        of_value = known.with_columns(pl.col(column).fill_null(NO_VALUE)).partition_by(column, as_dict=True)
        parts += [
            (column, str(value), part)
            for (value,), part in sorted(of_value.items())
            if part.height >= model.monitor.min_rows
        ]
    measured = [
        (column, value, metric, figure, part.height)
        for column, value, part in parts
        for metric, figure in performance(model, part).items()
    ]
    return pl.DataFrame(measured, schema=MEASURED, orient="row")


def performance(model: Model, known: pl.DataFrame) -> dict[str, float | None]:
    """Each metric of the model's task (`config.METRICS`), None where it is not defined.

    Those of `learning.metrics`, and of a classification mean_score, calibration_gap (mean score minus the observed
    rate: above 0 is too high), ece, accuracy (share of predictions equal to the outcome); of a regression mean_error
    (mean of score minus outcome). mae, rmse and mean_error are in the outcome's unit.
    """
    truth, score = known["outcome"].to_numpy(), known["score"].to_numpy()
    measured = learning.metrics(model.task, truth, score)
    if len(truth) and model.task == "classification":
        measured |= {
            "mean_score": float(score.mean()),
            "calibration_gap": float((score - truth).mean()),
            "ece": learning.expected_calibration_error(truth, score),
            "accuracy": float((known["prediction"].to_numpy() == truth).mean()),
        }
    elif len(truth):
        measured["mean_error"] = float((score - truth).mean())
    return {name: measured.get(name) for name in METRICS[model.task]}


def breach(model: Model, rule: Rule, measured: Sequence[DayValue], run_day: date) -> Alert | None:
    """The alert of a rule that is broken as of a run day; None when it is not, or too few days are measured.

    `measured`: the days that may count, the newest first. The window can span versions; each day's is said.
    """
    newest = measured[: rule.of]
    broken = [found for found in newest if not rule.holds(found.value)]
    if len(broken) < rule.days:
        return None
    days = ", ".join(f"{found.day}: {found.value:.3f} (version {found.model_version})" for found in broken)
    side = "under" if rule.at_most is None else "over"
    return Alert(
        subject=model.name,
        rule=rule.name,
        day=run_day,
        sentence=(
            f"{model.name}: {rule.metric} is {side} {rule.threshold:g} on {len(broken)} of the newest {len(newest)}"
            f" days measured, and {rule.days} of {rule.of} are too many: {days}. Look at view model_performance for "
            f"slices and days, and at the night's data in data_quality. To go back to another version (view ledger): "
            f"python -m include.cli promote --model {model.name} --version VERSION --from-day "
            f"{run_day + timedelta(days=1)} --by YOU --why WHY. Owner: {model.owner}. "
            "Runbook: docs/runbooks/alert-rule-broken.md"
        ),
    )


# --- freshness --------------------------------------------------------------------------------------------------------


def table_freshness(subject: str, run_day: date, needed: date | None, days: Sequence[date]) -> Freshness:
    """Of a table whose `days` (sorted) are those it has: late when `needed`, if there is any, is not among them.

    Later days do not count, so that a night which is repeated finds the same.
    """
    newest = _newest(days, needed or run_day)
    behind = (needed - newest).days if needed and newest else None
    if needed is None:
        sentence = f"{subject}: nothing is needed by {run_day}"
    elif newest is None:
        sentence = f"{subject} has no day up to {needed}, which the night of {run_day} needs"
    elif behind:
        sentence = f"{subject} ends on {newest}, {_days(behind)} before {needed}, which the night of {run_day} needs"
    else:
        sentence = f"{subject} has {needed}, as the night of {run_day} needs"
    late = needed is not None and newest != needed
    return Freshness(subject=subject, day=run_day, newest_day=newest, behind_days=behind, late=late, sentence=sentence)


def scores_freshness(project: Project, model: Model, run_day: date, found: Punctuality, *, prepared: bool) -> Freshness:
    """Of a model's published scores: whether those of the day before the run day came in time (see above).

    `prepared`: whether the night of that day is prepared.
    """
    day, at = found.day, found.first_published_at
    behind = None
    if found.champion is None or day < project.first_day:
        late = False
        sentence = f"{model.name} had no champion for {day} by {_by(project, model, day)}; nothing was due"
    elif at is not None:
        late = at > project.at(day, model.monitor.publish_by)
        local = at.astimezone(project.zone)
        sentence = (
            f"{model.name}: the scores of {day} were published {'late, ' if late else ''}at {local:%H:%M} on "
            f"{local:%Y-%m-%d}; they were due by {_by(project, model, day)}"
        )
    else:
        late = True
        why = "its night is prepared" if prepared else f"its night is not prepared: see {project.name}_prepare"
        sentence = (
            f"{model.name}: no scores of {day} are published, which were due by {_by(project, model, day)} from "
            f"version {found.champion}; {why}"
        )
    if found.champion is not None and found.newest_day is not None:
        behind = (day - found.newest_day).days
    return Freshness(
        subject=model.name,
        day=run_day,
        newest_day=found.newest_day,
        behind_days=behind,
        late=late,
        sentence=sentence,
    )


def is_live(project: Project, run_day: date, prepared_at: datetime | None) -> bool:
    """Whether a night was prepared before the cutoff of the next one; see above."""
    return prepared_at is not None and prepared_at < project.cutoff_at(run_day + timedelta(days=1))


def late_alert(model: Model, scores: Freshness) -> Alert:
    """What people are told of late scores."""
    return Alert(
        subject=model.name,
        rule=LATE,
        day=scores.day,
        sentence=(
            f"{scores.sentence}. Look at the runs of {model.name}_score and {model.project}_prepare of that day, mend "
            f"what failed and clear its task; view freshness_status has the days before. Owner: {model.owner}. "
            "Runbook: docs/runbooks/alert-scores-late.md"
        ),
    )


def _newest(days: Sequence[date], until: date) -> date | None:
    found = bisect_right(days, until)
    return days[found - 1] if found else None


def _by(project: Project, model: Model, day: date) -> str:
    return f"{model.monitor.publish_by:%H:%M} on {day} ({project.timezone})"


def _days(count: int) -> str:
    return "a day" if count == 1 else f"{count} days"
