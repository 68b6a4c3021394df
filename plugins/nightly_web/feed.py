"""The page of a feed: whether it comes in time, how much comes, what fails, and how its columns changed."""

from datetime import date, timedelta
from typing import Any

from nightly_pages.charts import Axis, Series, lines
from nightly_web.access import Access
from nightly_web.database import Views
from nightly_web.run_date import quarantine
from nightly_web.shown import Page, Section
from nightly_web.words import Link, Links, Table, count, listed, moment, number_of_days, share

DAYS = 90

PUNCTUALITY = "SELECT * FROM supplier_punctuality WHERE project = :project AND feed = :feed"
BY_DAY = """
SELECT day, late, minutes_after_due, due_at, available_from FROM feed_days
WHERE project = :project AND feed = :feed AND day BETWEEN :first AND :last ORDER BY day
"""
VOLUME = """
SELECT day, sum(rows) AS rows FROM (
    SELECT DISTINCT ON (day, key) day, key, rows FROM delivery_history
    WHERE project = :project AND feed = :feed AND day BETWEEN :first AND :last ORDER BY day, key, sequence DESC
) newest GROUP BY day ORDER BY day
"""
FAILED = """
SELECT expectation, column_name, severity, count(*) AS times, max(day) AS last, sum(unexpected_rows) AS rows
FROM data_quality WHERE project = :project AND feed = :feed AND day BETWEEN :first AND :last AND NOT success
GROUP BY expectation, column_name, severity ORDER BY severity, times DESC LIMIT 50
"""
QUARANTINE = """
SELECT feed, day, expectation, column_name, quarantined_rows, rows_evaluated, examples FROM quarantine_counts
WHERE project = :project AND feed = :feed AND day BETWEEN :first AND :last ORDER BY day DESC LIMIT 20
"""
REFUSED = """
SELECT day, observed, checked_at FROM data_quality
WHERE project = :project AND feed = :feed AND expectation = 'file_to_be_landed' AND NOT success
ORDER BY day DESC LIMIT 20
"""
SCHEMA = """
SELECT day, delivery_id, other_columns, recorded_at FROM delivery_history
WHERE project = :project AND feed = :feed AND other_columns IS NOT NULL ORDER BY sequence DESC LIMIT 20
"""
NEWEST = "SELECT max(day) AS day FROM delivery_history WHERE project = :project AND feed = :feed"
INCIDENTS = """
SELECT incident, state, severity, what, command FROM incidents
WHERE state <> 'recovered' AND project = :project AND subject = :feed ORDER BY incident
"""


def shown(views: Views, access: Access, link: Links, project: str, feed: str) -> Page:
    """Return the page of a feed of a project that the user may see."""
    access.require_project(project)
    zone = views.zones().get(project)
    about = {"project": project, "feed": feed}
    newest = (views.row(NEWEST, **about) or {}).get("day")
    head: dict[str, Any] = {
        "title": f"Feed {feed}",
        "about": f"Of the project {project}. Days and times: {zone or 'UTC'}.",
        "crumbs": [(project, link.project(project)), (feed, "")],
        "incidents": views.rows(INCIDENTS, **about),
    }
    if newest is None:
        return Page(**head, facts=[("State", "No delivery of this feed was landed yet.")])
    span = {**about, "first": newest - timedelta(days=DAYS - 1), "last": newest + timedelta(days=1)}
    return Page(
        **head,
        facts=_facts(views, about, newest, link),
        parts=[
            _punctuality(views, span, zone),
            _volume(views, span),
            _failed(views, span),
            Section(
                "quarantine",
                "Quarantine",
                "The newest 20, with examples: row number, key and public values. Personal values are never shown.",
                tables=[quarantine(views.rows(QUARANTINE, **span))],
            ),
            _refused(views, about, zone),
            _schema(views, about, zone),
        ],
    )


def _facts(views: Views, about: dict[str, Any], newest: date, link: Links) -> list[tuple[str, Any]]:
    row = views.row(PUNCTUALITY, **about)
    facts: list[tuple[str, Any]] = [("Newest day", Link(str(newest), link.run_date(about["project"], newest)))]
    if row is None:
        return facts
    minutes = row["minutes_late"]
    return [
        *facts,
        ("Supplier", row["supplier"]),
        ("Late, newest 28 run dates", f"{count(row['late'])} of {count(row['due'])} ({share(row['late_share'])})"),
        ("Late, 28 run dates before", share(row["late_share_before"])),
        ("Did not come in time for the run", number_of_days(row["missing"])),
        ("Late by, median", "–" if minutes is None else f"{minutes:.0f} min"),
        ("Late last on", str(row["last_late_day"] or "–")),
    ]


def _axis(span: dict[str, Any]) -> tuple[Axis, dict[date, int]]:
    days = [span["first"] + timedelta(days=n) for n in range((span["last"] - span["first"]).days + 1)]
    axis = Axis("day", low=0, high=len(days) - 1, names=[str(day) for day in days])
    return axis, {day: n for n, day in enumerate(days)}


def _punctuality(views: Views, span: dict[str, Any], zone: str | None) -> Section:
    rows = views.rows(BY_DAY, **span)
    axis, place = _axis(span)
    arrived = [(place[row["day"]], row["minutes_after_due"]) for row in rows if row["minutes_after_due"] is not None]
    chart = lines(
        "Arrival by run date",
        "Minutes after the time at which the delivery was due; above 0 it is late.",
        axis,
        Axis("minutes after due", low=0, high=0),
        [Series("arrival", arrived), Series("due", [(0, 0), (len(place) - 1, 0)], guide=True)],
    )
    late = [
        [
            str(row["day"]),
            moment(row["due_at"], zone),
            moment(row["available_from"], zone) if row["available_from"] else "did not come in time",
        ]
        for row in reversed(rows)
        if row["late"]
    ]
    table = Table("Late", ("Run date", "Due at", "Came at"), late[:20], "No delivery was late.")
    return Section("punctuality", "Punctuality", "", [chart] if rows else [], [table])


def _volume(views: Views, span: dict[str, Any]) -> Section:
    rows = views.rows(VOLUME, **span)
    axis, place = _axis(span)
    points = [(place[row["day"]], float(row["rows"])) for row in rows if row["rows"] is not None]
    about = "Rows of the newest version of each delivery."
    chart = lines("Rows by day", about, axis, Axis("rows", low=0), [Series("rows", points)])
    return Section("volume", "Volume", "", [chart])


def _failed(views: Views, span: dict[str, Any]) -> Section:
    rows = [
        [
            row["expectation"],
            row["column_name"],
            row["severity"],
            count(row["times"]),
            str(row["last"]),
            count(row["rows"]),
        ]
        for row in views.rows(FAILED, **span)
    ]
    heads = ("Expectation", "Column", "Severity", "Times", "Last on", "Rows")
    table = Table("Failed expectations", heads, rows, f"Every expectation was met in {DAYS} days.", (3, 5))
    return Section("failed", "Failed expectations", f"In the newest {DAYS} days.", tables=[table])


def _refused(views: Views, about: dict[str, Any], zone: str | None) -> Section:
    rows = [[str(row["day"]), row["observed"], moment(row["checked_at"], zone)] for row in views.rows(REFUSED, **about)]
    table = Table("Refused files", ("Day", "Why", "Read at"), rows, "No file is refused.")
    return Section("refused", "Refused files", "", tables=[table])


def _schema(views: Views, about: dict[str, Any], zone: str | None) -> Section:
    rows = [
        [str(row["day"]), listed(row["other_columns"]), [row["delivery_id"]], moment(row["recorded_at"], zone)]
        for row in views.rows(SCHEMA, **about)
    ]
    heads = ("Day", "Columns that differ from the declared ones", "Delivery", "Landed at")
    table = Table("Schema history", heads, rows, "Every delivery had the declared columns.")
    return Section("schema", "Schema history", "", tables=[table])
