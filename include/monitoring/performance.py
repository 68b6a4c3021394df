"""How published scores compare with what came true, and when that is too poor. Pure."""

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

from include.config.model import Model
from include.core.errors import DataError
from include.core.records import Alert
from include.monitoring.config import Rule
from include.monitoring.records import DayValue
from include.training.problem_types import get_problem_type

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
    not defined, as AUC of one class. Raises `DataError` when an outcome of a binary model is neither 0 nor 1.
    """
    known = rows.drop_nulls("outcome")
    if wrong := get_problem_type(model.problem_type).wrong_labels(known["outcome"].to_numpy()):
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
    """Return each metric of the model's problem type, None where it is not defined."""
    columns = (known[name].to_numpy() for name in ("outcome", "score", "prediction"))
    return get_problem_type(model.problem_type).performance(*columns)


def breach(model: Model, rule: Rule, measured: Sequence[DayValue], run_date: date) -> Alert | None:
    """The alert of a rule that is broken as of a run date; None when it is not, or too few days are measured.

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
