"""The sentences and tables of the notebook."""

from collections.abc import Sequence

import numpy as np

from include.core.printable import markdown
from include.report.alternatives import Alternatives
from include.report.fairness import SliceComparison, SlicesCompared
from include.report.measures import CONFIDENCE, Estimate, Importance
from include.report.subject import ReportSubject
from nightly_pages.charts import number as four_digits
from tools.insight.shown import Numbers

MAX_NAMED = 3
MAX_DIFFERENCES = 12


def number(value: float | None) -> str:
    """Return a number with three digits, which is more than holdout days can tell."""
    return four_digits(value if value is None or not np.isfinite(value) else float(f"{value:.3g}"))


def about(subject: ReportSubject) -> str:
    """Return what the section is about: the version, and the days on which it is measured."""
    days = len(np.unique(subject.days))
    fitted = f"fitted on {subject.fit}" if subject.fitted_here else "fitted elsewhere and adopted"
    rough = " With so few days, intervals are rough." if days < 20 else ""
    return (
        f"**Version {subject.challenger.version}** ({subject.decision.candidate}), {fitted}. All figures are of the "
        f"holdout days {subject.holdout}: {len(subject.truth):,} rows of {days} days on which nothing was fitted or "
        f"chosen. In brackets: the middle {CONFIDENCE:.0%} of resamples of whole days.{rough}"
    )


def drivers(subject: ReportSubject, found: Sequence[Importance]) -> str:
    """Return which inputs matter most, and how much."""
    strong = [each for each in found if each.mean > 0]
    if not strong:
        return "No input matters: the loss does not rise if one is shuffled."
    total = sum(each.mean for each in strong)
    named = [f"`{each.name}` ({each.mean / total:.0%})" for each in strong[:MAX_NAMED]]
    none = len(found) - len(strong)
    without = f" {none} of {len(found)} inputs add nothing by themselves." if none else ""
    return (
        f"Mostly {_and(named)}: shares of what {subject.problem.chosen_by} rises by if inputs are shuffled one at a "
        f"time.{without}"
    )


def fair(found: SlicesCompared) -> str:
    """Return how many slices differ by more than chance explains, and the surest ones."""
    count = len(found.comparisons)
    if not count:
        return f"No slice of a public column has {found.min_rows:,} rows, so nothing can be said."
    beyond = found.beyond_chance
    if not beyond:
        return f"Of {count} comparisons of slices, none differs by more than chance explains."
    named = [
        f"{each.column} {markdown(each.value)}, {each.rate.name} {_read(each, each.inside.value)} against "
        f"{_read(each, each.others)}"
        for each in beyond
        if each.rate.is_error
    ]
    surest = f"; of errors and calibration, the surest: {'; '.join(named[:MAX_NAMED])}" if named else ""
    return f"Of {count} comparisons of slices, {len(beyond)} differ by more than chance explains{surest}."


def cost(found: Alternatives | None) -> str:
    """Return what the current way costs, and what the cheapest would."""
    if found is None:
        return "`costs` of `model.yaml` is not written, so nothing can be said."
    own = next(each for each in found.curve if each.at == found.current)
    said = (
        f"{own.name[0].upper()}{own.name[1:]} costs {with_ends(own.cost)} {found.unit} for each prediction, "
        f"{number(own.cost.value * found.rows_a_day)} a day."
    )
    best = found.cheapest
    if best.at == found.current:
        return f"{said} No other way would have cost less on these days."
    said += f" {best.name[0].upper()}{best.name[1:]} would have cost least: {_change(best.difference)}"
    said += ", which can be chance." if _includes_zero(best.difference) else ", more than chance explains."
    return said + (f" {_later(found)}" if found.later else "")


def how_compared(found: SlicesCompared) -> str:
    """Return how slices were compared, and what that does not say."""
    small = f" {found.small} smaller slices are left out." if found.small else ""
    return (
        f"Each slice of a public column with at least {found.min_rows:,} rows, against all other rows.{small} Of many "
        "comparisons some differ by chance: listed is what chance explains with at most 5 %, corrected for all of "
        "them (Holm). Shares of rows pass Fisher's exact test, too, and have at least Wilson's interval. A difference "
        "is not unfair by itself: outcomes may differ, too. Ask about error rates and calibration gaps first, since "
        "they compare predictions with what happened."
        f"{_listed(len(found.beyond_chance))}"
    )


def differences(found: Sequence[SliceComparison]) -> Numbers:
    """Return the table of the differences that chance does not explain."""
    rows = [
        [
            f"{each.column} {each.value}",
            f"{each.rows:,}",
            each.rate.name,
            _ends(each),
            _read(each, each.others),
            _points(each),
            "<0.001" if (each.chance or 0) < 0.001 else f"{each.chance:.3f}",
        ]
        for each in found[:MAX_DIFFERENCES]
    ]
    head = ("slice", "rows", "rate", "in the slice", "all others", "difference", "p by Holm")
    return Numbers(head, rows, right=("rows", *head[3:]))


def how_costs(found: Alternatives | None) -> str:
    """Return what is compared, and how far that can be trusted."""
    if found is None:
        return "Write `costs` into `model.yaml`, and run `make insight` again."
    words = {
        "decision threshold": "another decision threshold",
        "change of all predictions": "all predictions raised or lowered by a share",
        "amount added to all predictions": "an amount added to all predictions",
        "rule": "another rule, or with the same label always",
    }
    said = f"By `costs` of `model.yaml`, with {words[found.axis]}, on the same rows."
    if found.by_theory:
        said += f" {found.by_theory}"
    return said + (f" {_later(found)}" if found.later else "")


def ways(found: Alternatives) -> Numbers:
    """Return the table of the ways to decide."""
    rates = list(found.table[0].rates)
    head = ("way to decide", f"{found.unit} each", f"{found.unit} a day", "against current", *rates)
    rows = []
    for each in found.table:
        marks = [
            mark
            for mark, holds in (("current", each.at == found.current), ("least", each.at == found.cheapest.at))
            if holds
        ]
        name = f"{each.name} ({', '.join(marks)})" if marks else each.name
        against = "–" if each.at == found.current else with_ends(each.difference, signed=True)
        shares = [f"{value:.0%}" if np.isfinite(value) else "–" for value in each.rates.values()]
        rows.append([name, with_ends(each.cost), number(each.cost.value * found.rows_a_day), against, *shares])
    return Numbers(head, rows, right=head[1:])


def with_ends(estimate: Estimate, *, signed: bool = False) -> str:
    """Return a value with the ends of its interval."""

    def show(value: float) -> str:
        return f"+{number(value)}" if signed and value > 0 else number(value)

    if estimate.low is None or estimate.high is None:
        return show(estimate.value)
    return f"{show(estimate.value)} ({show(estimate.low)} to {show(estimate.high)})"


def _listed(count: int) -> str:
    return f" Of {count} such differences, the surest {MAX_DIFFERENCES} are listed." if count > MAX_DIFFERENCES else ""


def _later(found: Alternatives) -> str:
    assert found.later is not None
    half = f"The best of the earlier half of the days ({found.later.name})"
    if found.later.difference.value == 0:
        return f"{half} costs the same as the current one on the {found.later.days} later days."
    return f"{half} costs {_change(found.later.difference)} on the {found.later.days} later days."


def _change(difference: Estimate) -> str:
    word = "less" if difference.value < 0 else "more"
    value = Estimate(abs(difference.value))
    if difference.low is None or difference.high is None:
        return f"{number(value.value)} {word}"
    ends = f"{_signed(difference.low)} to {_signed(difference.high)}"
    return f"{number(value.value)} {word} ({ends})"


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else number(value)


def _includes_zero(estimate: Estimate) -> bool:
    return estimate.low is None or estimate.high is None or estimate.low <= 0 <= estimate.high


def _read(each: SliceComparison, value: float) -> str:
    return f"{value:.1%}" if each.rate.is_share else number(value)


def _ends(each: SliceComparison) -> str:
    if each.inside.low is None or each.inside.high is None:
        return _read(each, each.inside.value)
    return f"{_read(each, each.inside.value)} ({_read(each, each.inside.low)} to {_read(each, each.inside.high)})"


def _points(each: SliceComparison) -> str:
    return f"{100 * each.difference:+.1f} points" if each.rate.is_share else _signed(each.difference)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
