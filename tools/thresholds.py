"""Thresholds of a gate from what baselines reach on holdout days of prepared days, in the outcome's unit.

`measured` fits the baselines, `thresholds_of` makes thresholds of what they reach, and `with_thresholds` writes them
into the text of a `model.yaml`, each with its figures in a comment. Nothing here is used by a running project.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import sqlalchemy as sa
from pydantic import ValidationError

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError, NotReadyError
from include.core.interval import Interval
from include.core.settings import Settings
from include.gate.checks.linear_baseline import LinearBaseline
from include.steps.fit import named_candidate, train
from include.training.problem_types import ProblemType
from include.training.training_set import LABEL, TrainingSet, estimator_inputs, seasonal_naive

DAYS_BACK = 14
"""How many prepared days are tried, the newest first: the outcomes of the newest are not known yet."""


@dataclass(frozen=True)
class Reached:
    """What baselines reach on the holdout days.

    Attributes:
        problem: the problem type.
        days: the holdout days.
        rows: the holdout rows.
        dummy: the metrics of the best constant.
        linear: the metrics of the linear candidate.
        gap: how far the level of the linear candidate is off.
        naive: the absolute error of the outcome a week earlier; None if most rows have none.
    """

    problem: ProblemType
    days: Interval
    rows: int
    dummy: dict[str, float]
    linear: dict[str, float]
    gap: float
    naive: float | None


@dataclass(frozen=True)
class NewThreshold:
    """A check with its settings, and the figures behind them."""

    kind: str
    settings: str
    figures: str


def measured(model: Model) -> Reached:
    """Fit the baselines of a model on prepared days, and return what they reach.

    Raises:
        NotReadyError: too few days with outcomes are prepared.
        ActionRequiredError: there is no installation here.
    """
    from include.io.journal import read_journal
    from include.io.training_sets import read_at, read_training_set

    try:
        settings = Settings()
        project = load_project(model.project)
        journal = read_journal(settings, project)
    except (ValidationError, sa.exc.OperationalError) as error:
        raise ActionRequiredError("no installation is reached from here; type `. .local/env` first") from error
    if not journal.records:
        raise NotReadyError(f"{model.project} has no prepared day")
    newest, refused = max(journal.records), NotReadyError("")
    for day in (newest - timedelta(days=n) for n in range(DAYS_BACK)):
        try:
            state = read_at(project, model, day, settings, journal, "point_in_time")
            found = read_training_set(project, model, Interval.of(day), settings, state, "point_in_time")
        except NotReadyError as error:
            refused = error if not refused.args[0] else refused
        else:
            naive = seasonal_naive(project, model, found.holdout_rows, found.labels_within)
            return reached(model, found, naive.to_numpy())
    raise refused


def reached(model: Model, found: TrainingSet, naive: np.ndarray) -> Reached:
    """Return what the dummy, the linear and the seasonal naive baseline reach on the holdout rows of a training set."""
    check = next(each for each in model.all_checks if isinstance(each, LinearBaseline))
    problem, rows = model.problem, found.holdout_rows
    truth = rows[LABEL].to_numpy()
    estimator = train(model, named_candidate(model, check.candidate), found)
    score = problem.predict(estimator, estimator_inputs(rows, model.numeric, model.categorical))
    constant = problem.repeat(problem.constant(found.fitted_labels), len(truth))
    known = np.isfinite(naive.astype(np.float64))
    return Reached(
        problem=problem,
        days=found.holdout,
        rows=rows.height,
        dummy=problem.metrics(truth, constant),
        linear=problem.metrics(truth, score),
        gap=problem.level_gap(truth, score),
        naive=float(np.abs(truth - naive)[known].mean())
        if problem.predicts_numbers and len(known) and known.mean() > 0.5
        else None,
    )


def thresholds_of(found: Reached) -> Iterator[NewThreshold]:
    """Yield thresholds: a version has to be better than a constant by half of what the linear baseline is."""
    by, when = found.problem.chosen_by, f"{found.days}"
    dummy, linear = found.dummy[by], found.linear[by]
    figures = f"{by} on {when}: dummy {dummy:.4g}, linear {linear:.4g}"
    if found.naive is not None:
        figures += f"; mae of a week earlier {found.naive:.4g}"
    yield NewThreshold("enough_rows", f"at_least: {max(1, found.rows // 2)}", f"{found.rows:,} rows on {when}")
    yield NewThreshold("champion", f"at_most: 0.01, min_rows: {max(1, found.rows // 2)}", "half of those rows")
    if found.problem.kind == "binary":
        auc = found.linear.get("roc_auc", 0.5)
        least = _rounded(0.5 + max(0.0, auc - 0.5) / 2)
        yield NewThreshold("quality", f"metric: roc_auc, at_least: {least}", f"roc_auc of linear on {when}: {auc:.3f}")
    else:
        at_most = _rounded((dummy + min(dummy, linear)) / 2)
        yield NewThreshold("quality", f"metric: {by}, at_most: {at_most}", figures)
    if found.problem.predicts_numbers:
        error = found.dummy["mae"]
        unit = _rounded(error / 4) or 1.0
        spread = f"a quarter of the mae of the dummy on {when}, {error:.4g}"
        if found.problem.level_limit is None:
            limit = _rounded(max(2 * found.gap, error / 10)) or 1.0
            yield NewThreshold("calibration", f"at_most: {limit}", f"linear is off by {found.gap:.4g} on {when}")
        yield NewThreshold("changed_decisions", f"over: {unit}", spread)
        if found.problem.shift_limit is None:
            yield NewThreshold("score_shift", f"at_most: {unit}", spread)
    gain = max(0.005, _rounded((1 - linear / dummy) / 2)) if dummy > 0 else 0.005
    yield NewThreshold("dummy_baseline", f"at_least: {gain:g}", figures)


def with_thresholds(text: str, found: Reached) -> tuple[str, list[str]]:
    """Return the text of a `model.yaml` with new thresholds, and a line about each.

    A check that is written over several lines, or is not listed, stays as it is.
    """
    lines = []
    for each in thresholds_of(found):
        new = f"{{kind: {each.kind}, {each.settings}}}"
        pattern = rf"^( +- )\{{kind: {each.kind}\b[^}}\n]*\}}[^\n]*$"
        text, count = re.subn(pattern, rf"\g<1>{new}  # {each.figures}", text, flags=re.MULTILINE)
        lines.append(
            f"{each.kind}: {each.settings} ({each.figures})" if count else f"{each.kind}: not in one line; left"
        )
    return text, lines


def _rounded(value: float) -> float:
    rounded = float(f"{value:.2g}")
    return int(rounded) if rounded.is_integer() else rounded
