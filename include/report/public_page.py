"""The page for everybody, from its facts. Pure: equal facts give equal bytes.

The first rows and all charts are in the page as HTML, so that it is of use without JavaScript. All rows that it has are
in it once more, as JSON by columns: `public.js` searches, filters and sorts them. Rows are left out if they would make
the page too large, and the page says how many.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup

from include.core.printable import printable
from include.report import period_words as words
from include.report.period_facts import mean_dummy, mean_loss, mean_metric
from include.report.public_facts import HISTORY_DAYS, NOTHING, Download, PublicFacts, PublicModel
from nightly_pages import charts, page
from nightly_pages.charts import Axis, Series

FOLDER = Path(__file__).parent

FIRST_ROWS = 25
"""Rows that are in the page as HTML, and that the script shows at once."""

MAX_ROW_BYTES = 3_000_000
"""The most bytes of all rows in the page."""

MAX_CHOICES = 40
"""A column with more different values has no list to choose from; the search finds its values."""

RECENT_DAYS = 28

TOLD: Mapping[str, tuple[str, str, str, Mapping[str, str]]] = {
    "binary": (
        "What was predicted, and what came true",
        "The closer the lines, the better the level of the probabilities.",
        "share",
        {"mean_score": "mean probability", "base_rate": "share that came true"},
    ),
    "multiclass": ("How often the expected answer was right", "Higher is better.", "share", {"accuracy": "right"}),
    "quantile": (
        "How often the truth was within the limits",
        "It is right if it is near what the limits are meant for.",
        "share",
        {"coverage": "within the limits"},
    ),
}  # fmt: skip
"""The second chart by problem type: title, how to read it, axis, and the metrics with their names for people."""

TOLD_OF_NUMBERS = (
    "By how much predictions were too high or too low",
    "The mean error; 0 is right, above 0 was too high.",
    "mean error",
    {"mean_error": "expected minus true"},
)


def make_public_page(facts: PublicFacts) -> str:
    """Return the page."""
    facts = _cut(facts)
    values = {
        "facts": facts,
        "models": [_model(each, facts) for each in facts.models],
        "history_days": HISTORY_DAYS,
        "recent_days": RECENT_DAYS,
    }
    styles = [FOLDER / "report.css", FOLDER / "public.css"]
    script = FOLDER / "public.js"
    return page.render(
        FOLDER / "public.html.j2", values, visible=printable, styles=styles, script=script, asks=False
    )  # fmt: skip


def _cut(facts: PublicFacts) -> PublicFacts:
    """Halve the rows of each model until all of them fit."""
    while sum(len(rows_as_json(each).encode()) for each in facts.models) > MAX_ROW_BYTES:
        fewer = [replace(each, rows=each.rows[: len(each.rows) // 2]) for each in facts.models]
        facts = replace(facts, models=fewer)
    return facts


def _model(model: PublicModel, facts: PublicFacts) -> dict[str, Any]:
    own: dict[str, Any] = {
        "name": model.name,
        "title": model.title,
        "purpose": model.purpose,
        "card": model.card,
        "limits": model.limits,
        "files": [{**vars(each), "form": each.form, "size": _size(each)} for each in model.files],
        "words": model.columns,
        "shown": len(model.rows),
        "first": len(model.rows[:FIRST_ROWS]),
        "rows": None,
        "quality": _quality(model),
        "figures": _figures(model),
        "metrics": _metrics(model),
        "measured": len({each.day for each in model.metrics}),
    }
    batch = model.batch
    if batch is None or model.due is None:
        return own | {"batch": None}
    version = batch.semantic_version or str(batch.model_version)
    return own | {
        "batch": batch,
        "publication": batch.publication,
        "day": batch.day.isoformat(),
        "total": batch.rows,
        "version": version,
        "published": _moment(batch.published_at, facts.zone),
        "due": _moment(model.due, facts.zone),
        "due_at": model.due.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "rows": model.rows[:FIRST_ROWS],
        "choices": [(at, column, found) for at, column in enumerate(model.columns) if (found := _choices(model, at))],
        "json": rows_as_json(model),
    }


def rows_as_json(model: PublicModel) -> Markup:
    """Return the rows by columns, as JSON that cannot end the element that it is in.

    A column that people can choose from is a list of its values and the place of each row's value in it.
    """
    columns: list[Any] = []
    for at, column in enumerate(model.columns):
        cells = [printable(row[at]) for row in model.rows]
        if choices := _choices(model, at):
            places = {value: place for place, value in enumerate(choices)}
            columns.append({"of": choices, "at": [places[cell] for cell in cells]})
        else:
            columns.append({"number": column.is_number, "all": cells})
    text = json.dumps(columns, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _choices(model: PublicModel, at: int) -> list[str]:
    """Return the values of a column of texts that has few of them; none if it has many, or one."""
    if model.columns[at].kind not in ("text", "decision", "yes_no", "day"):
        return []
    found = sorted({printable(row[at]) for row in model.rows})
    return found if 1 < len(found) <= MAX_CHOICES else []


def _quality(model: PublicModel) -> str:
    """Return in a sentence how good the predictions were."""
    if not model.losses:
        return ""
    days = f"{len(model.losses)} run date{'' if len(model.losses) == 1 else 's'} with known outcomes"
    error = f"the error ({model.metric}: {model.meanings[model.metric]})"
    if (both := mean_dummy(model.losses)) is None or not both[1]:
        return f"On {days}, {error} was {charts.number(mean_loss(model.losses))}. Lower is better."
    own, dummy = both
    less = (dummy - own) / dummy
    share = f"{abs(less):.1%}".replace("%", " %")
    return (
        f"On {days}, {error} was {charts.number(own)}; always giving the same answer had {charts.number(dummy)}. That "
        f"is {share} {'less' if less >= 0 else 'more'} error than without a model."
    )


def _figures(model: PublicModel) -> list[Markup]:
    """Return the charts: one of a single day would say nothing."""
    figures = []
    if len(model.losses) > 1:
        own = [(float(n), each.loss) for n, each in enumerate(model.losses)]
        dummy = [(float(n), each.dummy) for n, each in enumerate(model.losses) if each.dummy is not None]
        series = [Series("predictions", own, marks=True), Series("always the same answer", dummy)]
        figures.append(
            charts.lines(
                f"Error by run date: {model.metric}",
                "Lower is better.",
                Axis("run date", names=[each.day.isoformat() for each in model.losses]),
                Axis(model.metric, low=0.0),
                [each for each in series if each.points],
            )
        )
    title, about, axis, named = TOLD.get(model.problem_type, TOLD_OF_NUMBERS)
    days = sorted({each.day for each in model.metrics if each.metric in named})
    if len(days) > 1:
        place = {day: float(n) for n, day in enumerate(days)}
        drawn = [
            Series(text, [(place[m.day], m.value) for m in model.metrics if m.metric == metric], marks=True)
            for metric, text in named.items()
        ]
        low = None if named is TOLD_OF_NUMBERS[3] else 0.0
        shown = [each for each in drawn if each.points]
        names = [day.isoformat() for day in days]
        figures.append(charts.lines(title, about, Axis("run date", names=names), Axis(axis, low=low), shown))
    return figures


def _metrics(model: PublicModel) -> list[dict[str, str]]:
    days = sorted({each.day for each in model.metrics})
    newest = [each for each in model.metrics if each.day == days[-1]] if days else []
    recent = [each for each in model.metrics if each.day in days[-RECENT_DAYS:]]
    return [
        {
            "name": name,
            "meaning": meaning,
            "newest": words.figure(value) if (value := mean_metric(newest, name)) is not None else NOTHING,
            "recent": words.figure(mean),
        }
        for name, meaning in model.meanings.items()
        if (mean := mean_metric(recent, name)) is not None
    ]


def _moment(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M %Z}"


def _size(file: Download) -> str:
    return f"{file.bytes / 1e6:,.1f} MB" if file.bytes >= 1e5 else f"{max(file.bytes / 1e3, 0.1):,.1f} kB"


def publications_of(html: str) -> dict[str, int | None]:
    """Map the models of a page to the publication that it shows; None where it shows no predictions."""
    sections = re.findall(r'<section id="[^"]+" data-model="([^"]+)"(?: data-publication="(\d+)")?>', html)
    return {model: int(number) if number else None for model, number in sections}


def files_named(models: Sequence[PublicModel]) -> list[str]:
    """Return the paths of the files that a page names."""
    return [each.path for model in models for each in model.files]
