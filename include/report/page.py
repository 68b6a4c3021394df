"""Make the training report, and the facts of it that the model card takes. Pure.

Expensive parts (permutation importances, partial dependence, rows that moved) are made for versions that passed only.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from include.core.horizons import target_day
from include.core.printable import printable
from include.report import changed, inputs, measures
from include.report.figures import (
    dependence_figure,
    importance_figure,
    loss_by_day,
    move_figure,
    quality_figures,
    threshold_figure,
)
from include.report.measures import Estimate
from include.report.subject import ReportSubject
from nightly_pages import page
from nightly_pages.charts import number, spark

FOLDER = Path(__file__).parent
MAX_DEPENDENCES = 6
MAX_MOVED = 10
MOVED_INPUTS = 4


@dataclass(frozen=True)
class TrainingReport:
    """A report: the page, and the facts that the model card takes (JSON)."""

    html: str
    facts: dict[str, Any]


def make_report(subject: ReportSubject) -> TrainingReport:
    """Return the report about a version. Equal subjects give equal bytes."""
    subject, unscored = _with_scores(subject)
    own = measures.metrics_with_intervals(subject, subject.challenger.score)
    champion = measures.metrics_with_intervals(subject, subject.champion.score) if subject.champion else {}
    dummy = subject.problem.metrics(subject.truth, subject.dummy)
    cost = measures.expected_cost(subject)
    found_slices = measures.slices(subject)
    profiles = inputs.profiles(subject)
    passed, described = subject.decision.passed, subject.fitted_rows.height
    importances = measures.importances(subject) if passed else []
    strongest = [each.name for each in importances if each.mean > 0][:MAX_DEPENDENCES]
    difference = measures.difference_to_champion(subject)
    values = {
        "model": subject.model,
        "decision": subject.decision,
        "version": subject.challenger,
        "champion": subject.champion,
        "to_beat": subject.to_beat,
        "champion_missing": subject.champion_missing,
        "periods": _periods(subject),
        "tags": subject.challenger.tags,
        "unscored": unscored,
        "missing_days": ", ".join(map(str, subject.missing_days)),
        "metrics": _metrics(subject, own, champion, dummy),
        "difference": _interval(difference, percent=True) if difference else None,
        "chosen_by": subject.problem.chosen_by,
        "resamples": measures.RESAMPLES,
        "confidence": f"{measures.CONFIDENCE:.0%}",
        "holdout_days": len(np.unique(subject.days)),
        "quality": [loss_by_day(subject), *quality_figures(subject)],
        "slices": _slices(subject, found_slices),
        "cost": _cost(subject, cost),
        "cost_figure": threshold_figure(cost, subject.challenger.decision_threshold) if cost else Markup(""),
        "fitted_here": subject.fitted_here,
        "importances": importance_figure(subject, importances) if importances else None,
        "permuted": min(subject.holdout_rows.height, measures.MAX_PERMUTED),
        "repeats": measures.REPEATS,
        "dependences": [dependence_figure(subject, measures.dependence(subject, name)) for name in strongest],
        "dependence_rows": min(subject.holdout_rows.height, measures.MAX_DEPENDENCE),
        "inputs": [_input(each) for each in profiles],
        "described_rows": described if described < len(subject.fitted_truth) else None,
        "assumptions": inputs.assumptions(profiles),
        "follows": what_follows(subject) if passed else None,
        "moved": _moved(subject, strongest) if passed and subject.champion else None,
        "origins": changed.origins(subject),
        "commands": changed.commands(subject),
        "entities_are_personal": subject.entities_are_personal,
        "number": number,
    }
    html = page.render(FOLDER / "report.html.j2", values, visible=printable, styles=[FOLDER / "report.css"])
    facts = {
        "model": subject.model.name,
        "version": subject.challenger.version,
        "candidate": subject.decision.candidate,
        "gate_id": subject.decision.gate_id,
        "fitted_here": subject.fitted_here,
        "passed": passed,
        "checks": len(subject.decision.checks),
        "day": str(subject.decision.interval.end),
        **{name: [str(each.start), str(each.end)] for name, each in _days(subject)},
        "rows": len(subject.truth),
        "commit": subject.challenger.tags.get("git_commit", "unknown"),
        "metrics": {name: asdict(each) for name, each in own.items()},
        "dummy": {name: value for name, value in dummy.items() if name != "rows"},
        "slices": [asdict(each) for each in found_slices],
        "importances": [asdict(each) for each in importances[:MAX_DEPENDENCES]],
        "cost": asdict(cost) if cost else None,
    }
    return TrainingReport(html, facts)


def _with_scores(subject: ReportSubject) -> tuple[ReportSubject, int]:
    """Return the subject with the rows that the version has scores of, and how many have none (NaN or infinite).

    A champion without a score of one of them cannot be compared with.
    """
    scored = _finite(subject.challenger.score)
    if not scored.all():
        own, before = subject.challenger, subject.champion
        subject = replace(
            subject,
            holdout_rows=subject.holdout_rows.filter(pl.Series(scored)),
            challenger=replace(own, score=own.score[scored]),
            to_beat=replace(before, score=before.score[scored]) if before else subject.to_beat,
        )
    if subject.champion is not None and not _finite(subject.champion.score).all():
        missing = f"champion {subject.champion.version} scores rows as NaN or infinite"
        subject = replace(subject, champion_missing=missing)
    return subject, int((~scored).sum())


def _finite(score: np.ndarray) -> np.ndarray:
    finite = np.isfinite(score)
    return finite if finite.ndim == 1 else np.asarray(finite.all(axis=1))


def _days(subject: ReportSubject) -> list[tuple[str, Any]]:
    return [("fit", subject.fit), ("validation", subject.validation), ("holdout", subject.holdout)]


def _periods(subject: ReportSubject) -> list[dict[str, Any]]:
    rows = {"fit": len(subject.fitted_truth), "holdout": len(subject.truth)}
    elsewhere = "dummy baseline and inputs are of them; the version was fitted elsewhere and adopted"
    words = {
        "fit": "fitted on" if subject.fitted_here else elsewhere,
        "validation": "candidates were compared on",
        "holdout": "measured on; nothing was fitted or chosen on them",
    }
    return [{"words": words[name], "days": each, "rows": rows.get(name)} for name, each in _days(subject)]


def what_follows(subject: ReportSubject) -> str | None:
    """Return what model.yaml lets follow on a passed gate, if it is not the promotion at once."""
    shadow, approval = subject.model.shadow, subject.model.approved_by
    steps = []
    if shadow is not None and subject.decision.champion is not None:
        days = shadow.days_with_outcomes
        steps.append(
            f"as a shadow it scores beside the champion, unpublished, until the outcomes of {days} "
            f"day{'s' * (days != 1)} are known (view shadow_performance)"
        )
    if approval is not None:
        who = " or ".join(approval.allowed) or "a person"
        steps.append(f"{who} decides within {approval.timeout_days} days (docs/approve-a-model.md)")
    return "; then ".join(steps) or None


def _interval(estimate: Estimate | None, *, percent: bool = False) -> str:
    def show(value: float) -> str:
        return f"{value:+.2%}" if percent else number(value)

    if estimate is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return show(estimate.value)
    return f"{show(estimate.value)} ({show(estimate.low)} to {show(estimate.high)})"


def _metrics(
    subject: ReportSubject, own: dict[str, Estimate], champion: dict[str, Estimate], dummy: dict[str, float]
) -> list[dict[str, str]]:
    meanings = subject.problem.performance_metrics
    return [
        {
            "name": name,
            "meaning": meanings.get(name, ""),
            "version": _interval(each),
            "champion": _interval(champion.get(name)),
            "dummy": number(dummy.get(name)),
        }
        for name, each in own.items()
    ]


def _slices(subject: ReportSubject, found: Sequence[measures.SliceMeasured]) -> list[dict[str, Any]]:
    return [
        {
            "column": each.column,
            "value": each.value,
            "rows": f"{each.rows:,}",
            "loss": number(each.loss),
            "champion": number(each.champion),
            "dummy": number(each.dummy),
            "against": f"{each.loss / each.dummy - 1:+.1%}" if each.dummy else "–",
            "worse": each.checked and each.loss > each.dummy,
            "small": not each.checked,
        }
        for each in found
    ]


def _cost(subject: ReportSubject, cost: measures.ExpectedCost | None) -> dict[str, Any] | None:
    if cost is None:
        return None
    rows = [("this version", cost.version.value, _interval(cost.version))]
    if cost.champion is not None and subject.champion:
        rows.append((f"champion {subject.champion.version}", cost.champion, number(cost.champion)))
    rows.append(("the best constant, without a model", cost.constant, number(cost.constant)))
    best = min(cost.by_threshold, key=lambda each: each[1]) if cost.by_threshold else None
    return {
        "unit": cost.unit,
        "rows": [{"who": who, "each": shown, "day": number(value * cost.rows_a_day)} for who, value, shown in rows],
        "rows_a_day": f"{cost.rows_a_day:,.0f}",
        "worse": cost.version.value > cost.constant,
        "best": best and {"threshold": number(best[0]), "cost": number(best[1])},
        "threshold": number(subject.challenger.decision_threshold),
    }


def _input(each: inputs.InputProfile) -> dict[str, Any]:
    bins = "most frequent labels" if each.kind == "label" else "range from 1 % to 99 %"
    return {
        "name": each.name,
        "kind": each.kind,
        "missing": f"{each.missing:.1%}",
        "distinct": f"{each.distinct:,}",
        "range": each.range,
        "skewness": number(each.skewness),
        "outliers": "–" if each.outliers is None else f"{each.outliers:.1%}",
        "magnitude": number(each.magnitude),
        "spark": spark(f"distribution of {each.name} over its {bins}", each.shares),
        "notes": each.notes,
    }


def _moved(subject: ReportSubject, strongest: Sequence[str]) -> dict[str, Any]:
    """Return how scores moved against the champion's, and the rows that moved most, if no row is about a person."""
    champion, problem = subject.champion, subject.problem
    assert champion is not None
    own, other = subject.challenger, champion
    moved = measures.moves(problem, own.score, other.score)
    rows: list[dict[str, Any]] = []
    shown = [name for name in strongest if not subject.is_personal(name)][:MOVED_INPUTS]
    if not subject.entities_are_personal:
        targets = subject.holdout_rows.select(target_day()).to_series()
        for place in np.argsort(-np.abs(moved), kind="stable")[:MAX_MOVED]:
            record = subject.holdout_rows.row(int(place), named=True)
            rows.append({
                "entity": subject.label("entity_id", str(record["entity_id"])),
                "day": targets[int(place)],
                "version": _said(subject, own.score[place]),
                "champion": _said(subject, other.score[place]),
                "outcome": _outcome(subject, float(subject.truth[place])),
                "inputs": [
                    subject.label(name, record[name]) if name in own.categorical else number(record[name])
                    for name in shown
                ],
            })
    half, most = np.quantile(np.abs(moved), [0.5, 0.99]) if len(moved) else (np.nan, np.nan)
    return {
        "figure": move_figure(subject, moved),
        "rows": rows,
        "inputs": shown,
        "half": number(float(half)),
        "most": number(float(most)),
    }


def _said(subject: ReportSubject, score: Any) -> str:
    """Return a score in words."""
    if np.ndim(score) == 0:
        return number(float(score))
    if subject.problem.predicts_numbers:
        return " / ".join(number(float(each)) for each in score)
    best = int(np.argmax(score))
    return f"{subject.model.classes[best] if subject.model.classes else best} {float(score[best]):.0%}"


def _outcome(subject: ReportSubject, truth: float) -> str:
    classes = subject.model.classes
    return classes[int(truth)] if classes and subject.problem.kind == "multiclass" else number(truth)
