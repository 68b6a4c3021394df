"""The page of a report of a period, from its facts. Pure: equal facts give equal bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from include.core.printable import printable
from include.report import period_words as words
from include.report.period_facts import (
    CostDay,
    ModelPeriod,
    PeriodFacts,
    Promoted,
    StepTotal,
    VersionDecided,
    mean_metric,
    worth_of,
)
from nightly_pages import charts, page
from nightly_pages.charts import Axis, Series

FOLDER = Path(__file__).parent

MAX_DRIFTED = 12
MAX_DECIDED = 20
MAX_REASONS = 3


def make_period_page(facts: PeriodFacts) -> str:
    """Return the page."""
    values = {
        "facts": facts,
        "summary": words.summary(facts),
        "lacking": bool(facts.not_prepared or any(model.missing for model in facts.models)),
        "models": [_model(model, facts) for model in facts.models],
        "incidents": [
            {
                "severity": each.severity,
                "rule": each.rule,
                "subject": each.subject,
                "what": each.what,
                "first_day": each.first_day,
                "until": each.recovered_day or "open",
                "lasted": _days(each.lasted(facts.period.days.end)),
            }
            for each in facts.incidents
        ],
        "suppliers": [
            {
                **{
                    name: getattr(each, name)
                    for name in ("supplier", "due", "late", "missing", "deliveries", "refused")
                },
                "feeds": ", ".join(each.feeds),
                "rows": each.rows,
                "quarantined": f"{each.quarantined:,} ({each.quarantined / each.rows:.1%})" if each.quarantined else 0,
                "failed": each.failed,
            }
            for each in facts.suppliers
        ],
        "steps": _steps(facts),
        "cost_before": words.money(facts.cost_before, facts.currency)
        if facts.cost_before is not None and facts.currency
        else None,
    }
    styles = [FOLDER / "report.css", FOLDER / "period.css"]
    return page.render(FOLDER / "period.html.j2", values, visible=printable, styles=styles)


def _model(model: ModelPeriod, facts: PeriodFacts) -> dict[str, Any]:
    return {
        "title": model.title,
        "name": model.name,
        "sentence": words.model_sentence(model, facts),
        "figures": _figures(model),
        "window": model.window,
        "days": _days(len({each.day for each in model.metrics})),
        "metrics": [
            {
                "name": name,
                "meaning": meaning,
                "now": words.figure(now),
                "before": words.figure(before := mean_metric(model.metrics_before, name)),
                "change": words.change(now, before),
            }
            for name, meaning in model.meanings.items()
            if (now := mean_metric(model.metrics, name)) is not None
        ],
        **_worth(model, facts),
        "drifted": [
            {
                "role": each.role,
                "feature": each.feature,
                "effect": each.effect,
                "value": words.figure(each.value),
                "strength": f"{each.strength:.1f} ×",
                "days": each.days,
            }
            for each in model.drifted[:MAX_DRIFTED]
        ],
        "more_drifted": len(model.drifted[MAX_DRIFTED:]),
        "watched": model.watched,
        "skew": words.skew(model),
        "decided": [{**_decided(each)} for each in model.decided[-MAX_DECIDED:]],
        "more_decided": len(model.decided[:-MAX_DECIDED]),
        "promoted": [{"from_day": each.from_day, "what": _promoted(each), "why": each.why} for each in model.promoted],
        "people": model.people,
        "retrained": model.retrained,
    }


def _worth(model: ModelPeriod, facts: PeriodFacts) -> dict[str, Any]:
    """Return the rows about costs of this period and of the one before."""
    if model.unit is None or not model.costs:
        return {"worth": [], "unit": "", "uncompared": 0, "compared": 0}
    rows = []
    for name, days in (
        (f"This {facts.period.kind}", model.costs),
        (f"The {facts.period.kind} before", model.costs_before),
    ):
        if not days:
            continue
        found = worth_of(model.unit, days)
        known = [each for each in days if each.baseline is not None]
        rows.append({
            "name": name,
            "rows": f"{found.rows:,}",
            "cost": words.money(found.cost, model.unit),
            "baseline": words.money(sum(each.baseline or 0.0 for each in known), model.unit) if known else "–",
            "saved": words.money(found.saved, model.unit) if found.saved is not None else "–",
            "each": f"{found.saved / found.compared:,.3f} {model.unit}" if found.saved is not None else "–",
        })
    own = worth_of(model.unit, model.costs)
    return {"worth": rows, "unit": model.unit, "uncompared": own.rows - own.compared, "compared": f"{own.compared:,}"}


def _figures(model: ModelPeriod) -> list[Markup]:
    """Return the charts of a model: one of a single day would say nothing."""
    figures = []
    if len(model.losses) > 1:
        days = [str(each.day) for each in model.losses]
        own = [(float(n), each.loss) for n, each in enumerate(model.losses)]
        dummy = [(float(n), each.dummy) for n, each in enumerate(model.losses) if each.dummy is not None]
        series = [Series("champion", own, marks=True), Series("dummy baseline", dummy, marks=True)]
        figures.append(
            charts.lines(
                f"{model.metric} by run date",
                "Lower is better.",
                Axis("run date", names=days),
                Axis(model.metric, low=0.0),
                [each for each in series if each.points],
            )
        )
    if len(model.costs) > 1 and model.unit is not None:
        figures.append(_cost_figure(model.costs, model.unit))
    return figures


def _cost_figure(days: Sequence[CostDay], unit: str) -> Markup:
    mine = [(float(n), each.cost) for n, each in enumerate(days)]
    other = [(float(n), each.baseline) for n, each in enumerate(days) if each.baseline is not None]
    series = [Series("predictions", mine, marks=True), Series("best constant", other, marks=True)]
    return charts.lines(
        "Cost of errors by run date",
        "Between the lines: what was saved.",
        Axis("run date", names=[str(each.day) for each in days]),
        Axis(unit, low=0.0),
        [each for each in series if each.points],
    )


def _decided(each: VersionDecided) -> dict[str, Any]:
    reasons = [*each.reasons[:MAX_REASONS]]
    if more := len(each.reasons) - len(reasons):
        reasons.append(f"and {more} more")
    why = "; ".join(reasons) if not each.passed else each.then or "it is not the champion"
    return {
        "day": each.day, "version": each.version, "candidate": each.candidate, "passed": each.passed, "why": why,
    }  # fmt: skip


def _promoted(each: Promoted) -> str:
    if each.rolled_back_from is not None:
        return f"version {each.version} is the champion again, rolled back from {each.rolled_back_from} by a person"
    how = " against the gate" if each.forced else ""
    return f"version {each.version} is the champion from this day on{', by a person' + how if each.by_person else ''}"


def _steps(facts: PeriodFacts) -> list[dict[str, Any]]:
    steps = [*facts.steps]
    if len(steps) > 1:
        costs = [each.cost for each in steps if each.cost is not None]
        names = ("runs", "failed", "seconds", "core_seconds")
        totals = {name: sum(getattr(each, name) for each in facts.steps) for name in names}
        steps.append(StepTotal(step="all", cost=sum(costs) if costs else None, **totals))
    return [
        {
            "step": each.step,
            "total": n == len(facts.steps),
            "runs": f"{each.runs:,}",
            "failed": each.failed,
            "seconds": words.duration(each.seconds),
            "core_seconds": words.duration(each.core_seconds),
            "cost": words.money(each.cost, facts.currency) if each.cost is not None and facts.currency else "–",
        }
        for n, each in enumerate(steps)
    ]


def _days(count: int) -> str:
    return f"{count} day{'' if count == 1 else 's'}"
