"""Dates, numbers and addresses as the pages show them. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

LOSS = {
    "binary": ("log_loss", "log loss"),
    "multiclass": ("log_loss", "log loss"),
    "regression": ("mae", "mean absolute error, in the outcome's unit"),
    "count": ("poisson_deviance", "mean Poisson deviance"),
    "quantile": ("pinball", "mean pinball loss, in the outcome's unit"),
}
"""The figure that says how good a model is, by problem type: its name in the view, and in words. Less is better."""

CALIBRATION = {
    "binary": ("calibration_gap", "mean score minus share of outcomes", 0.0),
    "multiclass": ("calibration_gap", "largest difference of mean probability and share of outcomes", 0.0),
    "regression": ("mean_error", "mean of score minus outcome, in the outcome's unit", 0.0),
    "count": ("mean_error", "mean of score minus outcome, in things counted", 0.0),
    "quantile": ("coverage", "share of outcomes from lower to upper", None),
}
"""The figure that says whether the level of the predictions is right: its name, in words, and what is right."""

REFERENCES = {"weeks": "same weekdays, 4 weeks before", "training": "training data of the version"}
"""What drift is measured against, in words, by its name in the view."""

HOW_PUBLISHED = {
    "replace": "the batch of the day",
    "missing": "only rows that were missing",
    "unpublish": "back to the batch before",
    "retention": "the month left the database",
}
"""How a publication changed what readers see, by its mode in the view."""


@dataclass(frozen=True)
class Links:
    """Addresses of pages: `pages` is where the plugin is mounted, `airflow` where Airflow is."""

    pages: str

    @property
    def airflow(self) -> str:
        """Return the address of Airflow without a trailing slash."""
        return self.pages.rsplit("/", 1)[0]

    def today(self) -> str:
        """Return the address of the page Today."""
        return f"{self.pages}/"

    def model(self, model: str, **asked: Any) -> str:
        """Return the address of the page of a model."""
        return _address(f"{self.pages}/model/{_part(model)}", asked)

    def project(self, project: str) -> str:
        """Return the address of the page of a project: that of the tab of its DAG `<project>_prepare`."""
        return _address(f"{self.pages}/dag", {"dag_id": f"{project}_prepare"})

    def run_date(self, project: str, day: date) -> str:
        """Return the address of the page of a run date."""
        return f"{self.pages}/day/{_part(project)}/{day}"

    def feed(self, project: str, feed: str) -> str:
        """Return the address of the page of a feed."""
        return f"{self.pages}/feed/{_part(project)}/{_part(feed)}"

    def form(self, dag_id: str, **asked: Any) -> str:
        """Return the address of a form that starts a DAG with values filled in."""
        return _address(f"{self.pages}/start/{_part(dag_id)}", asked)

    def dag(self, dag_id: str) -> str:
        """Return the address of Airflow's page of a DAG."""
        return f"{self.airflow}/dags/{_part(dag_id)}"

    def run(self, dag_id: str, run_id: str) -> str:
        """Return the address of Airflow's page of a run."""
        return f"{self.dag(dag_id)}/runs/{_part(run_id)}"


def _part(text: str) -> str:
    return quote(text, safe="")


def _address(path: str, asked: Mapping[str, Any]) -> str:
    given = {key: value for key, value in asked.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def moment(value: datetime | None, zone: str | None) -> str:
    """Return a moment in the timezone of a project, with its abbreviation; in UTC if the timezone is unknown."""
    if value is None:
        return "–"
    return f"{value.astimezone(_zone(zone)):%Y-%m-%d %H:%M %Z}"


def today_in(zone: str | None) -> date:
    """Return the calendar day of now in a timezone."""
    return datetime.now(_zone(zone)).date()


def count(value: float | None) -> str:
    """Return a number of rows with separators."""
    return "–" if value is None else f"{value:,.0f}"


def plural(number: int, one: str, more: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{count(number)} {one if number == 1 else more or one + 's'}"


def number_of_days(number: int | None) -> str:
    """Return a number of days in words."""
    return plural(number or 0, "day")


def share(value: float | None) -> str:
    """Return a share in percent."""
    return "–" if value is None else f"{value:.1%}"


def size(value: float | None) -> str:
    """Return a number of bytes."""
    if value is None:
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(seconds: float | None) -> str:
    """Return a duration with its two largest units."""
    if seconds is None:
        return "–"
    left = int(seconds)
    parts = [(left // 86400, "d"), (left // 3600 % 24, "h"), (left // 60 % 60, "min"), (left % 60, "s")]
    shown = [f"{value} {unit}" for value, unit in parts if value][:2]
    return " ".join(shown) or f"{seconds:.1f} s"


def listed(value: Any) -> list[str]:
    """Return a JSON value of a view as texts, one an item."""
    items = value if isinstance(value, list) else [] if value is None else [value]
    return [item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, default=str) for item in items]


def _zone(name: str | None) -> Any:
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


@dataclass(frozen=True)
class Link:
    """A cell or a line of a page that opens another page; `airflow`: one outside of these pages."""

    text: str
    href: str
    airflow: bool = False


@dataclass(frozen=True)
class Table:
    """A table: its name, its heads, and its rows, whose first cell is the head of the row."""

    name: str
    heads: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    empty: str
    numbers: tuple[int, ...] = ()
