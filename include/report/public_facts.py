"""What the page for everybody knows of a project: predictions of public columns, how good they were, what words mean.

`io/postgres/public_pages.py` reads the rows, `public_page.py` makes the page. Every value of a row is text here, as
people read it. No record has an identifier, a hash or a key that is not made of public columns.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from include.core.feeds import TARGET_DAY
from include.core.project import Project
from include.monitoring.freshness import FreshnessMonitor
from include.report.period_facts import DayOfVersion, LossDay, MetricDay

if TYPE_CHECKING:
    from include.config.model import Model

HISTORY_DAYS = 91
"""Run dates that charts and the history reach back: thirteen weeks."""

MAX_CELL = 80
"""Letters of a value in the page; the files have it whole."""

NOTHING = "–"
"""How a value is written that is not there."""

PREDICTED: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "binary": {
        "score": ("probability", "How probable it is, in percent: {outcome}."),
        "prediction": ("expected", "“yes” if the probability reaches the threshold of the model, otherwise “no”."),
    },
    "multiclass": {
        "label": ("expected", "The most probable answer: {outcome}."),
        "score": ("probability", "How probable that answer is, in percent."),
    },
    "quantile": {
        "prediction": ("expected", "The value that is expected: {outcome}."),
        "lower": ("lower", "The lower limit of what is expected, in the same unit."),
        "upper": ("upper", "The upper limit of what is expected, in the same unit."),
    },
}
"""The columns of predictions that people see, by problem type: each with its title and its meaning."""

OF_NUMBERS = {"prediction": ("expected", "The value that is expected: {outcome}.")}
"""The same of the other problem types, which predict a number."""


KINDS = {"timestamp": "moment", "date": "day", "boolean": "yes_no", "string": "text"}
"""How a column is shown, by its declared type; the other types are numbers."""


@dataclass(frozen=True)
class ShownColumn:
    """A column of the table: where it comes from, and what it means.

    Attributes:
        name: in the wide view, and in the files.
        title: for people.
        about: what it means.
        kind: text, number, moment, day or yes_no, as declared; percent for a probability, decision for 1 and 0 as
            yes and no, amount for a predicted number.
    """

    name: str
    title: str
    about: str
    kind: str

    @property
    def is_number(self) -> bool:
        """Whether people compare its values as numbers."""
        return self.kind in ("number", "percent", "amount")


@dataclass(frozen=True)
class ShownBatch:
    """The newest batch that readers see of a model: which one, and since when."""

    day: date
    publication: int
    model_version: int
    semantic_version: str | None
    as_of: datetime
    published_at: datetime
    rows: int


@dataclass(frozen=True)
class Download:
    """A file beside the page."""

    path: str
    name: str
    about: str
    bytes: int

    @property
    def form(self) -> str:
        """The format, for people."""
        return "Parquet" if self.path.endswith(".parquet") else "CSV"


@dataclass(frozen=True)
class PublicModel:
    """A model on the page.

    Attributes:
        name, title, purpose, metric: of the model; the metric is the loss by which candidates are chosen.
        problem_type: of the model.
        meanings: of each metric.
        card, limits: sentences of the model card: what it predicts, and its limits.
        columns: of the table.
        batch: what readers see; None before the first publication.
        due: when the predictions of the next run date should be there; None before the first publication.
        rows: of the batch, highest scores first, up to the limit of the page: a text for each column.
        published: what readers see of each run date that the history reaches back to.
        losses, metrics: how good they were, by run date.
        files: beside the page.
    """

    name: str
    title: str
    purpose: str
    metric: str
    problem_type: str
    meanings: Mapping[str, str]
    card: Sequence[str]
    limits: Sequence[str]
    columns: Sequence[ShownColumn]
    batch: ShownBatch | None = None
    due: datetime | None = None
    rows: Sequence[Sequence[str]] = ()
    published: Sequence[DayOfVersion] = ()
    losses: Sequence[LossDay] = ()
    metrics: Sequence[MetricDay] = ()
    files: Sequence[Download] = field(default=())


@dataclass(frozen=True)
class PublicFacts:
    """Everything that the page says."""

    project: str
    title: str
    timezone: str
    models: Sequence[PublicModel]

    @property
    def zone(self) -> ZoneInfo:
        """The project's timezone."""
        return ZoneInfo(self.timezone)


def shown_columns(project: Project, model: "Model", view: Mapping[str, tuple[str, str]]) -> list[ShownColumn]:
    """Return the columns of the table: those of predictions, which a phone shows first, then those of the entity.

    Args:
        project: whose public columns there are.
        model: what is predicted.
        view: expression and comment of each column of the wide view.
    """
    outcome = project.outcomes[model.outcome].description or _spoken(model.outcome)
    kinds = {"score": "percent", "label": "text"}
    if model.problem_type == "binary":
        kinds["prediction"] = "decision"
    found = [
        ShownColumn(name, title, about.format(outcome=outcome), kinds.get(name, "amount"))
        for name, (title, about) in PREDICTED.get(model.problem_type, OF_NUMBERS).items()
    ]
    if project.looks_ahead:
        found.append(ShownColumn(TARGET_DAY, "for the day", "The day that the prediction is for.", "day"))
    of_entity = [name for name, (expression, _) in view.items() if expression.startswith("e.")]
    for shown, (feed, declared) in zip(of_entity, project.public.values(), strict=True):
        kind = KINDS.get(declared.type, "number")
        about = (declared.description or f"{_spoken(shown)}, as the feed {feed} has it").rstrip(".")
        local = f". Local time, {project.timezone}" if kind == "moment" else ""
        found.append(ShownColumn(shown, _spoken(shown), f"{about[:1].upper()}{about[1:]}{local}.", kind))
    return found


def cells_of(columns: Sequence[ShownColumn], rows: Sequence[Sequence[Any]], zone: ZoneInfo) -> list[list[str]]:
    """Return rows as people read them: times in the project's zone, numbers with as many digits as their size needs."""
    digits = [_digits([row[at] for row in rows]) if each.kind == "amount" else 0 for at, each in enumerate(columns)]
    return [
        [_cell(value, column.kind, d, zone) for value, column, d in zip(row, columns, digits, strict=True)]
        for row in rows
    ]


def due_after(project: Project, model: "Model", day: date) -> datetime:
    """Return when the predictions of the next run date should be there, by the model's freshness monitor."""
    by = next(each.publish_by for each in model.all_monitors if isinstance(each, FreshnessMonitor))
    return project.at(day + timedelta(days=1), by)


def card_sentences(text: str) -> tuple[list[str], list[str]]:
    """Return what the model card says at its beginning, and its limits, as plain text: a paragraph or point each."""
    parts = re.split(r"(?m)^## +(.+)$", re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL))
    limits = next((body for name, body in zip(parts[1::2], parts[2::2], strict=True) if name.strip() == "Limits"), "")
    begin = [
        paragraph
        for paragraph in re.split(r"\n\s*\n", parts[0])
        if paragraph.strip() and not paragraph.lstrip().startswith(("#", "Model card", "|"))
    ]
    points = re.split(r"(?m)^- +", limits)[1:]
    return [_plain(each) for each in begin], [_plain(each) for each in points if each.strip()]


def _plain(text: str) -> str:
    """Return Markdown as plain text in one line."""
    without_links = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(text.split()))
    return re.sub(r"\*\*|`", "", without_links)


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _digits(values: Sequence[Any]) -> int:
    """Return the decimals with which predicted numbers of this size can be told apart."""
    most = max((abs(value) for value in values if value is not None), default=0.0)
    return 1 if most >= 10 else 2 if most >= 1 else 3


def _cell(value: Any, kind: str, digits: int, zone: ZoneInfo) -> str:
    if value is None:
        return NOTHING
    if kind == "moment":
        return f"{value.astimezone(zone):%Y-%m-%d %H:%M}"
    if kind == "percent":
        return f"{value:.1%}".replace("%", " %")
    if kind == "amount":
        return f"{value:,.{digits}f}"
    if kind in ("decision", "yes_no"):
        return "yes" if value else "no"
    if kind == "number" and isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 1]}…"
