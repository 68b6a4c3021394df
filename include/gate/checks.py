"""The checks of the gate: what a version must show on days it was not fitted on. Pure: no rows are read or written.

Each check gives a measured value, a threshold, a verdict and a sentence. What cannot be measured (no rows, one class,
a score that is NaN) is None, and None fails: silence is never consent.
"""

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from include.config.model import Model
from include.core.code import code_digest
from include.core.records import Check
from include.core.threshold import Threshold
from include.training import evaluation
from include.training.evaluation import CHOSEN_BY
from include.training.problem_types import get_problem_type

BINS = 10


@dataclass(frozen=True)
class HoldoutScores:
    """A model's scores of the holdout rows, one (f64) for each row, and how they were made."""

    name: str
    score: np.ndarray
    columns: tuple[str, ...] = ()
    decision_threshold: float = 0.5


@dataclass(frozen=True)
class Evidence:
    """All that the checks see. Arrays and frames have one entry for each holdout row, in the same order."""

    days: np.ndarray  # datetime64[D]
    truth: np.ndarray  # f64
    labels: pl.DataFrame  # feature columns that slices are made of
    fitted_truth: np.ndarray  # f64, of the rows fitted on: what a constant would be made of
    challenger: HoldoutScores
    linear: HoldoutScores | None
    champion: HoldoutScores | None = None
    champion_saw: date | None = None  # the last day that the champion was fitted on
    microseconds_per_row: float | None = None
    megabytes: float | None = None
    missing: Mapping[str, str] = field(default_factory=dict)  # "linear", "champion" -> why it could not be scored


def run_checks(model: Model, evidence: Evidence) -> tuple[Check, ...]:
    """Run every check of `model.gate`, in the order in which a person would ask.

    Without a champion, the checks against one are left out: the first version has to pass the absolute ones.
    """
    return tuple(_checks(model, evidence))


def rules_digest(model: Model) -> str:
    """Digest of the thresholds and of the code that judges: a decision by other rules does not promote."""
    rules = json.dumps(model.gate.model_dump(mode="json"), sort_keys=True).encode()
    step = Path(__file__).parents[1] / "steps" / "gate.py"
    return hashlib.sha256(rules + code_digest([Path(__file__), *_problem_type_files(model), step]).encode()).hexdigest()


def _problem_type_files(model: Model) -> list[Path]:
    """List the files of the model's problem type: they decide what the checks measure."""
    folder = Path(evaluation.__file__).parent
    kind = Path(inspect.getfile(type(get_problem_type(model.problem_type))))
    return [folder / "calibration.py", folder / "problem_types" / "base.py", kind]


def loss_by_row(model: Model, truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the loss of each row, of which the metric that chooses candidates is the mean."""
    return get_problem_type(model.problem_type).loss_by_row(truth, score)


def worst_difference(
    days: np.ndarray, loss: np.ndarray, against: np.ndarray, *, confidence: float, resamples: int, seed: int
) -> float:
    """Return the share by which the mean of `loss` exceeds that of `against` in the worst case.

    This is the upper end of a one-sided percentile interval of a paired bootstrap (Efron and Tibshirani 1993, ch. 13).
    Whole days are drawn, not rows: rows of a day have causes in common, such as its weather, and rows drawn singly
    would give too narrow an interval (cluster bootstrap, Field and Welsh 2007).

    Raises:
        ValueError: there is no row.
    """
    if not len(days):
        raise ValueError("no rows to compare")
    _, number = np.unique(days, return_inverse=True)
    count = int(number.max()) + 1
    sums, sums_against = (np.bincount(number, weights=values, minlength=count) for values in (loss, against))
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return float(np.quantile(drawn @ sums / (drawn @ sums_against), confidence) - 1.0)


def _checks(model: Model, e: Evidence) -> Iterator[Check]:
    gate, challenger = model.gate, e.challenger
    finite = bool(len(e.truth)) and bool(np.isfinite(challenger.score).all())
    metrics = evaluation.metrics(model.problem_type, e.truth, challenger.score) if finite else {}
    loss = CHOSEN_BY[model.problem_type]

    rows = float(np.isfinite(challenger.score).sum())
    enough = Threshold(metric="rows", at_least=gate.min_rows)
    yield _check("enough rows", "rows", rows, enough, f"holdout rows, of {len(np.unique(e.days))} days:")
    for threshold in gate.quality:
        yield _check("absolute quality", threshold.metric, metrics.get(threshold.metric), threshold, threshold.metric)
    yield from _calibration(model, e, finite)
    yield _trivial(model, e, metrics.get(loss))
    yield _linear(model, e, metrics.get(loss))
    if e.champion is not None or "champion" in e.missing:
        yield _champion(model, e, finite)
    yield from _slices(model, e, finite)
    if e.champion is not None or "champion" in e.missing:
        yield from _differential(model, e, finite)
    leakage, limit = gate.leakage, _at_most(gate.microseconds_per_row)
    words = f"{leakage.metric}, beyond which an input gives the outcome away:"
    yield _check("leakage", leakage.metric, metrics.get(leakage.metric), leakage, words)
    yield _check("scoring time", "microseconds a row", e.microseconds_per_row, limit, "microseconds to score a row:")
    yield _check("size", "megabytes", e.megabytes, _at_most(gate.megabytes), "megabytes of the logged model:")
    yield _signature(model, e)


def _calibration(model: Model, e: Evidence, finite: bool) -> Iterator[Check]:
    gap, means, problem_type = None, "level of scores off by", get_problem_type(model.problem_type)
    if finite:
        means = problem_type.describe_level(e.truth, e.challenger.score)
        gap = problem_type.level_gap(e.truth, e.challenger.score)
    yield _check("calibration", "level", gap, _at_most(model.gate.calibration_gap), means)
    if model.gate.calibration_error is not None:
        error = evaluation.expected_calibration_error(e.truth, e.challenger.score, BINS) if finite else None
        at_most = _at_most(model.gate.calibration_error)
        yield _check("calibration", f"{BINS} bins", error, at_most, "expected calibration error")


def _trivial(model: Model, e: Evidence, loss: float | None) -> Check:
    trivial = _mean_loss(model, e.truth, _constant(model, e))
    words = f"{CHOSEN_BY[model.problem_type]} {_show(loss)} against {_show(trivial)} of a constant:"
    at_most = _at_most(-model.gate.better_than_dummy)
    return _check("dummy baseline", CHOSEN_BY[model.problem_type], _over(loss, trivial), at_most, words, "+.2%")


def _linear(model: Model, e: Evidence, loss: float | None) -> Check:
    linear = _mean_loss(model, e.truth, e.linear.score) if e.linear is not None else None
    why = f" ({e.missing['linear']})" if "linear" in e.missing else ""
    by, at_most = CHOSEN_BY[model.problem_type], _at_most(model.gate.not_worse_than_linear)
    words = f"{by} {_show(loss)} against {_show(linear)} of candidate {model.gate.linear}{why}:"
    return _check("linear baseline", by, _over(loss, linear), at_most, words, "+.2%")


def _champion(model: Model, e: Evidence, finite: bool) -> Check:
    """On days later than both were fitted on; fewer rows than the gate needs are no comparison."""
    gate, by, measured = model.gate, CHOSEN_BY[model.problem_type], None
    threshold = _at_most(gate.not_worse_than_champion)
    if e.champion is None:
        return _check("champion", by, None, threshold, f"against the champion ({e.missing['champion']})", "+.2%")
    later = e.days > np.datetime64(e.champion_saw) if e.champion_saw else np.ones(len(e.days), dtype=bool)
    if later.sum() < gate.min_rows:
        words = (
            f"against {e.champion.name}: {later.sum():,} rows of days that neither saw, {gate.min_rows:,} are needed"
        )
        return _check("champion", by, None, threshold, words, "+.2%")
    words = f"{by} against {e.champion.name}"
    if finite and np.isfinite(e.champion.score).all():
        own = loss_by_row(model, e.truth[later], e.challenger.score[later])
        other = loss_by_row(model, e.truth[later], e.champion.score[later])
        measured = worst_difference(
            e.days[later], own, other, confidence=gate.confidence, resamples=gate.resamples, seed=model.seed
        )
        words = (
            f"{by} {own.mean():.4g} against {other.mean():.4g} of {e.champion.name} on the same {later.sum():,} rows "
            f"({own.mean() / other.mean() - 1:+.2%}); at worst, by {gate.confidence:.0%} of resamples of days,"
        )
    return _check("champion", by, measured, threshold, words, "+.2%")


def _slices(model: Model, e: Evidence, finite: bool) -> Iterator[Check]:
    """Check that in no slice the version is worse than the constant by more than the threshold.

    Small slices are left out. A column without a slice that is large enough fails.
    """
    slices, by = model.gate.slices, CHOSEN_BY[model.problem_type]
    threshold = _at_most(slices.not_worse_by)
    for column in slices.by:
        values = _slice_values(model, e.labels, column)
        found = False
        for value in sorted(set(values.drop_nulls())):
            inside = (values == value).fill_null(False).to_numpy()
            if inside.sum() < slices.min_rows:
                continue
            found = True
            subject = f"{column}={value}"
            own = _mean_loss(model, e.truth[inside], e.challenger.score[inside]) if finite else None
            constant = _mean_loss(model, e.truth[inside], _constant(model, e)[inside])
            words = f"{subject}, {inside.sum():,} rows: {by} {_show(own)} against {_show(constant)} of a constant:"
            yield _check("slice", subject, _over(own, constant), threshold, words, "+.2%")
        if not found:
            yield _check("slice", column, None, threshold, f"no {column} has {slices.min_rows} rows", "+.2%")


def _slice_values(model: Model, labels: pl.DataFrame, column: str) -> pl.Series:
    group = model.gate.slices.groups.get(column)
    if group is None:
        return labels[column].cast(pl.String)
    named = {label: name for name, members in group.values.items() for label in members}
    return labels[group.of].cast(pl.String).replace_strict(named, default=group.otherwise, return_dtype=pl.String)


def _differential(model: Model, e: Evidence, finite: bool) -> Iterator[Check]:
    """How differently people would be served from tomorrow on, whichever is right."""
    gate, changed, shift = model.gate, None, None
    name = e.champion.name if e.champion else "the champion"
    if e.champion is not None and finite and np.isfinite(e.champion.score).all():
        shift = float(np.abs(e.challenger.score - e.champion.score).mean())
        thresholds = (e.challenger.decision_threshold, e.champion.decision_threshold)
        changes = get_problem_type(model.problem_type).changed_decisions(
            e.challenger.score, e.champion.score, thresholds=thresholds, change=gate.decision_change
        )
        changed = float(changes.mean())
    at_most = _at_most(gate.changed_decisions)
    yield _check("differential", "decisions", changed, at_most, f"decisions other than those of {name}:", ".1%")
    at_most = _at_most(gate.score_shift)
    yield _check("differential", "scores", shift, at_most, f"mean shift of scores from those of {name}:")


def _signature(model: Model, e: Evidence) -> Check:
    """The inputs are those that model.yaml declares, and the champion's unless they are declared to change."""
    declared = set(model.features) ^ set(e.challenger.columns)
    words = f"inputs other than model.yaml's: {', '.join(sorted(declared)) or 'none'}"
    others: set[str] = set()
    if e.champion is not None and not model.gate.inputs_may_change:
        others = set(e.champion.columns) ^ set(e.challenger.columns)
        words += f"; other than {e.champion.name}'s: {', '.join(sorted(others)) or 'none'}"
        if others:
            words += " (when that is meant, set gate.inputs_may_change)"
    return _check("signature", "inputs", float(len(declared | others)), _at_most(0.0), f"{words};")


def _check(
    name: str, subject: str, measured: float | None, threshold: Threshold, words: str, form: str = ",.4g"
) -> Check:
    """The one place where a verdict is given."""
    if measured is not None and not np.isfinite(measured):
        measured = None
    passed = measured is not None and threshold.holds(measured)
    limit = f"at {'least' if threshold.at_least is not None else 'most'} {_show(threshold.threshold, form)}"
    found = "could not be measured" if measured is None else _show(measured, form)
    sentence = f"{words} {found}, {limit} is asked for"
    return Check(
        name=name, subject=subject, measured=measured, threshold=threshold.threshold, passed=passed, sentence=sentence
    )


def _at_most(value: float) -> Threshold:
    return Threshold(metric="", at_most=value)


def _constant(model: Model, e: Evidence) -> np.ndarray:
    """Return the dummy baseline of the rows fitted on, once for each row."""
    value = get_problem_type(model.problem_type).constant(e.fitted_truth) if len(e.fitted_truth) else float("nan")
    return np.full(len(e.truth), value)


def _mean_loss(model: Model, truth: np.ndarray, score: np.ndarray) -> float | None:
    if not len(truth) or not np.isfinite(score).all():
        return None
    return float(loss_by_row(model, truth, score).mean())


def _over(value: float | None, other: float | None) -> float | None:
    """The share by which a loss is over another one."""
    return value / other - 1.0 if value is not None and other else None


def _show(value: float | None, form: str = ",.4g") -> str:
    if value is None:
        return "nothing"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:{form}}"
