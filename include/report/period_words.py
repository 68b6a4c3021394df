"""The sentences of a report of a period: what a manager reads first, and what a chat gets. Pure.

The first sentence says what is missing, if anything is. Numbers of different units are never added.
"""

from collections.abc import Sequence
from datetime import date
from itertools import groupby

from include.core.interval import Interval
from include.report.period_facts import (
    ModelPeriod,
    PeriodFacts,
    Worth,
    mean_dummy,
    mean_loss,
    worth_of,
    worths,
)

MAX_DAYS = 4
"""Ranges of days that a sentence names."""


def summary(facts: PeriodFacts) -> list[str]:
    """Return at most five sentences, the most important first."""
    found = [volume(facts), quality(facts), worth(facts), trouble(facts), changes(facts)]
    return [each for each in found if each]


def short_summary(facts: PeriodFacts) -> list[str]:
    """Return the three most important sentences: what there was, what it was worth or how good it was, what broke."""
    return [volume(facts), worth(facts) or quality(facts), trouble(facts)]


def volume(facts: PeriodFacts) -> str:
    """Return how much was predicted; what is missing stands first."""
    rows = sum(model.rows for model in facts.models)
    due = sorted({day for model in facts.models for day in model.due})
    missing = sorted({day for model in facts.models for day in model.missing})
    lacks = sorted({*missing, *facts.not_prepared})
    if not facts.due:
        return "The project begins after this period."
    models = _count(len([m for m in facts.models if m.rows]), "model")
    done = len(due) - len(missing)
    what = f"{models} made {_count(rows, 'prediction')} on {done} of {_count(len(due), 'day')}"
    if not due:
        what = "Nothing was predicted, because no model had a champion yet"
    if not lacks:
        return f"{what}; no day is missing." if due else f"{what}."
    reasons = []
    if facts.not_prepared:
        reasons.append(f"no data were prepared for {days_in_words(facts.not_prepared)}")
    late = [day for day in missing if day not in {*facts.not_prepared}]
    if late:
        names = [model.name for model in facts.models if {*model.missing} & {*late}]
        reasons.append(f"no predictions of {_list(names)} for {days_in_words(late)}")
    return f"Incomplete: {' and '.join(reasons)}. {what}."


def quality(facts: PeriodFacts) -> str:
    """Return how good the predictions were, against the dummy baseline and the period before."""
    measured = [model for model in facts.models if mean_loss(model.losses) is not None]
    if not measured:
        return "How good they were is not known yet: no outcome became known."
    if len(measured) <= 2:
        return _sentence("; ".join(_quality_of(model, facts) for model in measured))
    compared = [(model, both) for model in measured if (both := mean_dummy(model.losses))]
    better = [model for model, (own, dummy) in compared if own < dummy]
    worse = [model.name for model, (own, dummy) in compared if own >= dummy]
    sentence = f"{len(better)} of {_count(len(compared), 'measured model')} were better than the dummy baseline"
    if worse:
        sentence += f"; not better: {_list(worse)}"
    grown = max(
        ((change, model.name) for model in measured if (change := _change(model)) is not None), default=(0.0, "")
    )
    if grown[0] >= 0.01:
        sentence += f"; {grown[1]} lost most against {_before(facts)}: its loss rose by {grown[0]:.0%}"
    return sentence + "."


def _quality_of(model: ModelPeriod, facts: PeriodFacts) -> str:
    loss = mean_loss(model.losses)
    rows = sum(each.rows for each in model.losses)
    parts = [f"the {model.metric} of {model.name} was {figure(loss)} on {_count(rows, 'known outcome')}"]
    compared = []
    if both := mean_dummy(model.losses):
        compared.append(_against(both[0], both[1], "the dummy baseline"))
    if (change := _change(model)) is not None:
        before = mean_loss(model.losses_before)
        assert loss is not None and before is not None
        compared.append(_against(loss, before, _before(facts)) if abs(change) >= 0.005 else f"as in {_before(facts)}")
    return ", ".join([*parts, " and ".join(compared)] if compared else parts)


def worth(facts: PeriodFacts) -> str:
    """Return what errors cost, and what the predictions saved; empty if no owner declared costs or none is known."""
    found = worths(facts.models)
    return _sentence("; ".join(_worth_in_words(each) for each in found)) if found else ""


def _worth_in_words(found: Worth) -> str:
    text = f"errors cost {money(found.cost, found.unit)}"
    if found.saved is None:
        return f"{text}; what the best constant would have cost is not known"
    if found.compared < found.rows:
        text += f"; on the {_count(found.compared, 'outcome')} that can be compared, that is"
    else:
        text += ","
    than = "less" if found.saved >= 0 else "more"
    return f"{text} {money(abs(found.saved), found.unit)} {than} than the best constant would have cost"


def trouble(facts: PeriodFacts) -> str:
    """Return incidents with their length, and drift."""
    end, drifted = facts.period.days.end, sum(len(model.drifted) for model in facts.models)
    drift = f"{_count(drifted, 'feature')} drifted" if drifted else "nothing drifted"
    if not facts.incidents:
        return f"There was no incident, and {drift}."
    critical = sum(each.severity == "critical" for each in facts.incidents)
    open_now = sum(each.recovered_day is None for each in facts.incidents)
    longest = max(facts.incidents, key=lambda each: each.lasted(end))
    text = f"There {'was' if len(facts.incidents) == 1 else 'were'} {_count(len(facts.incidents), 'incident')}"
    if critical:
        text += f", {critical} of them critical" if len(facts.incidents) > 1 else ", a critical one"
    text += f"; the longest ({longest.rule} of {longest.subject}) lasted {_count(longest.lasted(end), 'day')}"
    text += f", and {open_now} {'is' if open_now == 1 else 'are'} still open" if open_now else ", and all are over"
    return f"{text}; {drift}."


def skew(model: ModelPeriod) -> str:
    """Return how many published rows were built again from raw tables, and which days were not compared."""
    days, found = len({each.day for each in model.published}), model.skew
    if not days:
        return ""
    if not found.days:
        return f"None of the {_count(days, 'published day')} was compared with the raw tables (view skew)."
    said = "all are equal" if not found.differing else f"{found.differing:,} differ"
    text = f"{found.rows:,} published rows were built again from the raw tables: {said}."
    if found.days < days:
        text += f" Only {found.days} of {_count(days, 'published day')} were compared (view skew)."
    return text


def changes(facts: PeriodFacts) -> str:
    """Return what was promoted or rejected, the quality of data, and what the pipeline cost."""
    promoted = sum(len(model.promoted) for model in facts.models)
    rejected = sum(not each.passed for model in facts.models for each in model.decided)
    parts = [f"{_count(promoted, 'version')} became champion and the gate rejected {rejected}"]
    rows, quarantined = (sum(getattr(each, name) for each in facts.suppliers) for name in ("rows", "quarantined"))
    late, due = (sum(getattr(each, name) for each in facts.suppliers) for name in ("late", "due"))
    if rows:
        parts.append(f"{_share(quarantined, rows)} of {_count(rows, 'delivered row')} were quarantined")
    if due:
        parts.append(f"{late} of {_count(due, 'delivery', 'deliveries')} came late")
    if (cost := pipeline_cost(facts)) is not None and facts.currency:
        parts.append(f"the pipeline cost {money(cost, facts.currency)}")
    elif facts.steps:
        parts.append(f"the pipeline took {duration(sum(each.core_seconds for each in facts.steps))} of CPU time")
    return _sentence("; ".join(parts))


def pipeline_cost(facts: PeriodFacts) -> float | None:
    """Return what the steps cost; None without prices."""
    known = [each.cost for each in facts.steps if each.cost is not None]
    return sum(known) if known else None


def model_sentence(model: ModelPeriod, facts: PeriodFacts) -> str:
    """Return the sentence below the name of a model."""
    if not model.due:
        return "It had no champion on any day of the period, so nothing was due."
    done = len(model.due) - len(model.missing)
    text = f"{_count(model.rows, 'prediction')} on {done} of {_count(len(model.due), 'day')}"
    if model.missing:
        text = f"Incomplete: no predictions for {days_in_words(model.missing)}. {text}"
    if mean_loss(model.losses) is None:
        return f"{text}. No outcome of {model.window} became known, so how good they were is not known yet."
    text += f"; {_quality_of(model, facts)}"
    if model.costs and model.unit:
        text += f". {_sentence(_worth_in_words(worth_of(model.unit, model.costs)))}"
        return text
    return f"{text}."


def days_in_words(days: Sequence[date]) -> str:
    """Return days as the fewest ranges; of many ranges, the first ones and how many days there are more."""
    ranges = Interval.covering(days)
    named = [str(each) for each in ranges[:MAX_DAYS]]
    more = sum(len(each.days) for each in ranges[MAX_DAYS:])
    return _list([*named, *([f"{_count(more, 'more day')}"] if more else [])])


def figure(value: float | None) -> str:
    """Return a measured value with three digits."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def money(value: float, unit: str) -> str:
    """Return an amount: whole units from 100 on, two decimals below."""
    return f"{value:,.0f} {unit}" if abs(value) >= 100 else f"{value:,.2f} {unit}"


def duration(seconds: float) -> str:
    """Return a duration in the largest unit that fits."""
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return _count(round(seconds / size), name)
    return _count(round(seconds), "second")


def change(value: float | None, before: float | None) -> str:
    """Return by which share a value differs from the one before."""
    if value is None or before is None or not before:
        return "–"
    share = value / before - 1
    return "same" if abs(share) < 0.005 else f"{share:+.0%}"


def _change(model: ModelPeriod) -> float | None:
    loss, before = mean_loss(model.losses), mean_loss(model.losses_before)
    return loss / before - 1 if loss is not None and before else None


def _against(own: float, other: float, what: str) -> str:
    if not other:
        return f"where {what} had no loss"
    share = abs(own / other - 1)
    percent = f"{share:.0%}" if share >= 0.0095 or share == 0 else f"{share:.1%}"
    return f"{percent} {'better' if own < other else 'worse'} than {what}"


def _before(facts: PeriodFacts) -> str:
    return f"the {facts.period.kind} before"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _count(count: int, word: str, words: str = "") -> str:
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def _share(part: int, whole: int) -> str:
    share = part / whole
    return f"{share:.0%}" if share in (0, 1) else f"{share:.2%}"


def _list(parts: Sequence[str]) -> str:
    unique = [name for name, _ in groupby(parts)]
    return unique[0] if len(unique) == 1 else f"{', '.join(unique[:-1])} and {unique[-1]}" if unique else ""
