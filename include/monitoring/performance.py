"""How published scores compare with what came true, and when that is too poor. Pure."""

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

from include.config.model import Model
from include.core.errors import DataError
from include.core.records import Alert
from include.monitoring.config import METRICS, Rule
from include.monitoring.records import DayValue
from include.training import evaluation

ALL = "all"

NO_VALUE = "(none)"

MEASURED = {
    "slice": pl.String(),
    "slice_value": pl.String(),
    "metric": pl.String(),
    "value": pl.Float64(),
    "rows": pl.Int64(),
}


def measure_day(model: Model, rows: pl.DataFrame) -> pl.DataFrame:
    """Metrics of one day's scores: over all rows, and by each value of each slice that has at least `min_rows`.

    `rows`: score, prediction and outcome (f64, null: not known, or known to have none), and the slices' columns as
    text. Only rows with an outcome are measured. Returns the columns of `MEASURED`; `value` is null where a metric is
    not defined, as AUC of one class. Raises `DataError` when an outcome of a classification is neither 0 nor 1.
    """
    known = rows.drop_nulls("outcome")
    if model.problem_type == "binary" and (wrong := known.filter(~pl.col("outcome").is_in([0.0, 1.0])).height):
        raise DataError(
            f"{model.name}: {wrong} of {known.height} values of outcome {model.outcome} are neither 0 nor 1"
        )
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
    measured = evaluation.metrics(model.problem_type, truth, score)
    if len(truth) and model.problem_type == "binary":
        measured |= {
            "mean_score": float(score.mean()),
            "calibration_gap": float((score - truth).mean()),
            "ece": evaluation.expected_calibration_error(truth, score),
            "accuracy": float((known["prediction"].to_numpy() == truth).mean()),
        }
    elif len(truth):
        measured["mean_error"] = float((score - truth).mean())
    return {name: measured.get(name) for name in METRICS[model.problem_type]}


def breach(model: Model, rule: Rule, measured: Sequence[DayValue], run_date: date) -> Alert | None:
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
        day=run_date,
        sentence=(
            f"{model.name}: {rule.metric} is {side} {rule.threshold:g} on {len(broken)} of the newest {len(newest)}"
            f" days measured, and {rule.days} of {rule.of} are too many: {days}. Look at view model_performance for "
            f"slices and days, and at the data of the run date in data_quality. To go back to another version "
            f"(view promotion_history): "
            f"python -m include.cli promote --model {model.name} --version VERSION --from-day "
            f"{run_date + timedelta(days=1)} --by YOU --why WHY. Owner: {model.owner}. "
            "Runbook: docs/runbooks/alert-rule-broken.md"
        ),
    )
