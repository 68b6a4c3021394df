"""The charts of the notebook that the training report does not have."""

from collections.abc import Iterator

from markupsafe import Markup

from include.report.alternatives import Alternatives
from include.report.fairness import SlicesCompared
from nightly_pages.charts import Axis, Band, Bar, Event, Series, bars, lines, number


def rates(found: SlicesCompared) -> Iterator[Markup]:
    """Yield a chart of bars for each rate, with a bar for each slice; `*` marks what chance does not explain."""
    for rate in found.rates:
        compared = [each for each in found.comparisons if each.rate.name == rate.name]
        scale, unit = (100, "percent") if rate.is_share else (1, rate.meaning)
        shown = [
            Bar(
                f"{'* ' if each.is_beyond_chance else ''}{each.column} {each.value}",
                each.inside.value * scale,
                None if each.inside.low is None else each.inside.low * scale,
                None if each.inside.high is None else each.inside.high * scale,
            )
            for each in compared
        ]
        overall = f"{number(found.overall[rate.name] * scale)}{' %' if rate.is_share else ''}"
        if shown:
            yield bars(
                f"{rate.name[0].upper()}{rate.name[1:]}.",
                f"{rate.meaning[0].upper()}{rate.meaning[1:]}. All rows: {overall}. * differs by more than chance.",
                unit if rate.is_share else rate.name,
                shown,
            )


def cost(found: Alternatives) -> Markup | None:
    """Return the cost along the thresholds or amounts, None where the ways have no order."""
    if found.axis == "rule":
        return None
    scale = 100 if found.axis.startswith("change") else 1
    points = [(each.at * scale, each.cost) for each in found.curve]
    events = [Event(found.current * scale, "current", f"current: {found.current:g}")]
    if found.cheapest.at != found.current:
        events.append(Event(found.cheapest.at * scale, "least", f"least on these days: {found.cheapest.name}"))
    return lines(
        "Cost of a prediction.",
        f"{found.unit} for each prediction on the holdout days if every one were decided so: mean, and the middle 95 % "
        f"of resamples of days. Current: {number(found.current * scale)}.",
        Axis(f"{found.axis}{', percent' if scale == 100 else ''}"),
        Axis(f"{found.unit} for each prediction", 0),
        [Series("mean", [(at, each.value) for at, each in points])],
        bands=[
            Band(
                "middle 95 %",
                [(at, each.low, each.high) for at, each in points if each.low is not None and each.high is not None],
            )
        ],
        events=events,
    )
