"""The page of a model: how good it is and was, what the gate and people decided, and what a person can do."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import Markup

from nightly_links import ui_url
from nightly_pages.charts import Axis, Bar, Event, Series, bars, lines, number
from nightly_web.access import Access
from nightly_web.database import Row, Views
from nightly_web.shown import Page, Section
from nightly_web.words import CALIBRATION, LOSS, REFERENCES, Link, Links, Table, count, moment, share

WINDOWS = (30, 90, 365, 730)
"""Days of performance that a reader can choose."""

SLICE_DAYS = 28

STATUS = """
SELECT s.*, p.rows FROM model_status s LEFT JOIN LATERAL (
    SELECT rows FROM publication_history WHERE model = s.model AND day = s.newest_published_day ORDER BY id DESC LIMIT 1
) p ON true WHERE s.model = :model
"""
PERFORMANCE = """
SELECT DISTINCT ON (day, metric) day, metric, value, rows, model_version FROM model_performance
WHERE model = :model AND slice = 'all' AND slice_value = 'all' AND metric = ANY(:metrics)
    AND day BETWEEN :first AND :last ORDER BY day, metric, measured_at DESC
"""
BASELINE = """
SELECT day, loss FROM champion_performance
WHERE model = :model AND place = -1 AND slice = 'all' AND day BETWEEN :first AND :last ORDER BY day
"""
SLICES = """
SELECT slice, slice_value, sum(value * rows) / nullif(sum(rows), 0) AS value, sum(rows) AS rows FROM model_performance
WHERE model = :model AND slice <> 'all' AND metric = :metric AND day BETWEEN :first AND :last AND value IS NOT NULL
GROUP BY slice, slice_value ORDER BY slice, slice_value
"""
DRIFT = """
SELECT role, feature, reference, slice, slice_value, strength, psi, missing, day FROM drift
WHERE model = :model AND day = (SELECT max(day) FROM drift WHERE model = :model) AND strength IS NOT NULL
    AND slice = 'all' ORDER BY strength DESC LIMIT 15
"""
GATES = """
SELECT day, model_version, semantic_version, candidate, champion_version, passed, checks, why_not, rows, decided_at
FROM gate_decisions WHERE model = :model ORDER BY decided_at DESC LIMIT 20
"""
PROMOTIONS = """
SELECT id, model_version, semantic_version, from_day, by, why, forced, created_at, report
FROM promotion_history WHERE model = :model ORDER BY from_day DESC, id DESC LIMIT 50
"""
SHADOW = """
SELECT day, model_version, champion_version, loss, champion_loss, difference, rows FROM shadow_performance
WHERE model = :model ORDER BY day DESC LIMIT 30
"""
SHADOW_ENDS = """
SELECT model_version, day, passed, sentence, ended_at FROM shadow_decisions
WHERE model = :model ORDER BY ended_at DESC LIMIT 10
"""
INCIDENTS = """
SELECT incident, state, severity, what, command FROM incidents
WHERE state <> 'recovered' AND (subject = :model OR :model = ANY(models)) ORDER BY incident
"""
PENDING = """
SELECT model_version, expires_at, why FROM (
    SELECT DISTINCT ON (model_version) model_version, state, expires_at, why FROM version_history
    WHERE model = :model ORDER BY model_version, id DESC
) newest WHERE state = 'pending' ORDER BY model_version
"""


def shown(views: Views, access: Access, link: Links, model: str, days: int) -> Page:
    """Return the page of a model that the user may see."""
    access.require_model(model)
    status = views.row(STATUS, model=model)
    pending = views.rows(PENDING, model=model)
    project = status["project"] if status else None
    zone = views.zones().get(project) if project else None
    promotions = views.rows(PROMOTIONS, model=model)
    title = status["title"] if status else model
    actions = [
        Link(
            f"Decide about version {each['model_version']}",
            link.form(f"{model}_approve", version=each["model_version"]),
        )
        for each in pending
    ]
    if len(promotions) > 1:
        actions.append(Link("Roll back", link.form(f"{model}_rollback", version="previous")))
    return Page(
        title=title,
        about=f"Model {model}" + (f" of the project {project}. Days and times: {zone or 'UTC'}." if project else "."),
        crumbs=[(project, link.project(project)), (title, "")]
        if project and access.project(project)
        else [(title, "")],
        incidents=views.rows(INCIDENTS, model=model),
        facts=_facts(status, pending, zone, access, link),
        actions=[*actions, Link("Open in Airflow", link.dag(f"{model}_score"), airflow=True)],
        parts=[
            *_performance(views, link, model, status, promotions, days),
            _drift(views, model),
            _gate(views, model, zone),
            _promotions(promotions, zone),
            _shadow(views, model, zone),
        ],
    )


def _facts(
    status: Row | None, pending: Sequence[Row], zone: str | None, access: Access, link: Links
) -> list[tuple[str, Any]]:
    waiting = [
        f"version {each['model_version']}, until {moment(each['expires_at'], zone)}: {each['why']}" for each in pending
    ]
    if status is None:
        return [("State", "It has not published yet."), ("Waits for a decision", ", ".join(waiting) or "no version")]
    day = status["newest_published_day"]
    seen = day is not None and access.project(status["project"])
    published: Any = Link(str(day), link.run_date(status["project"], day)) if seen else str(day or "not yet")
    return [
        ("Owner", status["owner"]),
        ("Published run date", published),
        ("Rows", count(status["rows"])),
        ("Published at", moment(status["newest_published_at"], zone)),
        ("Freshness", status["freshness"] or "not measured yet"),
        ("Champion", _champion(status)),
        ("Waits for a decision", "; ".join(waiting) or "no version"),
    ]


def _champion(status: Row) -> str:
    if status["champion_version"] is None:
        return "none yet"
    return f"version {status['champion_version']} since {status['champion_since']}: {status['champion_why']}"


def _performance(
    views: Views, link: Links, model: str, status: Row | None, promotions: Sequence[Row], days: int
) -> list[Section]:
    kind = status["problem_type"] if status else None
    last = status["newest_published_day"] if status else None
    if kind not in LOSS or last is None:
        return [Section("performance", "Performance by day", "It has not published yet, so nothing is measured.")]
    (loss, words), (level, about, right) = LOSS[kind], CALIBRATION[kind]
    first = last - timedelta(days=days - 1)
    asked = {"model": model, "first": first, "last": last}
    measured = views.rows(PERFORMANCE, metrics=[loss, level], **asked)
    calendar = [first + timedelta(days=n) for n in range(days)]
    place = {day: n for n, day in enumerate(calendar)}
    events = [
        Event(
            place[each["from_day"]],
            f"v{each['model_version']}",
            f"From {each['from_day']} version {each['model_version']} is the champion, by {each['by']}: {each['why']}",
        )
        for each in promotions
        if each["from_day"] in place
    ]

    def series(name: str, metric: str) -> Series:
        return Series(
            name,
            [
                (place[row["day"]], row["value"])
                for row in measured
                if row["metric"] == metric and row["value"] is not None
            ],
        )

    baseline = [(place[row["day"]], row["loss"]) for row in views.rows(BASELINE, **asked)]
    axis = Axis("run date", low=0, high=days - 1, names=[str(day) for day in calendar])
    charts = [
        lines(
            f"{loss} by day",
            f"{words[0].upper()}{words[1:]}; less is better. Dotted vertical lines are promotions.",
            axis,
            Axis(loss),
            [series("champion of the day", loss), Series("dummy baseline", baseline)],
            events=events,
        )
    ]
    ideal = [] if right is None else [Series(f"right: {right:g}", [(0, right), (days - 1, right)], guide=True)]
    calibration = lines(
        f"{level} by day",
        f"{about[0].upper()}{about[1:]}" + ("; 0 is right." if right is not None else "."),
        axis,
        Axis(level),
        [series(level, level), *ideal],
        events=events,
    )
    choices = [
        Link(str(each), "" if each == days else link.model(model, days=each) + "#performance") for each in WINDOWS
    ]
    return [
        Section("performance", "Performance by day", "", charts, choices=choices),
        _slices(views, model, loss, last),
        Section("calibration", "Calibration", "Whether the level of the predictions is right.", [calibration]),
    ]


def _slices(views: Views, model: str, loss: str, last: date) -> Section:
    first = last - timedelta(days=SLICE_DAYS - 1)
    rows = views.rows(SLICES, model=model, metric=loss, first=first, last=last)
    chart = bars(
        f"{loss} by slice",
        f"Mean of {first} to {last}, by rows; less is better.",
        loss,
        [Bar(f"{row['slice']} = {row['slice_value']}", row["value"]) for row in rows],
    )
    table = Table(
        "Slices",
        ("Slice", "Value", loss, "Rows"),
        [[row["slice"], row["slice_value"], number(row["value"]), count(row["rows"])] for row in rows],
        "No slice is declared, or no outcome is known.",
        (2, 3),
    )
    return Section("slices", "Slices", "", [chart] if rows else [], [table])


def _drift(views: Views, model: str) -> Section:
    rows = views.rows(DRIFT, model=model)
    day = f" on {rows[0]['day']}" if rows else ""
    return Section(
        "drift",
        "Drift",
        f"The features and predictions that changed most{day}. From 1 on, a change is large (docs/drift.md).",
        tables=[
            Table(
                "Drift",
                ("What", "Role", "Compared with", "Strength", "Stability index", "Missing, difference", ""),
                [
                    [
                        row["feature"],
                        row["role"],
                        REFERENCES.get(row["reference"], row["reference"]),
                        number(row["strength"]),
                        number(row["psi"]),
                        share(row["missing"]),
                        Markup('<b class="warn flag">▲ large</b>') if row["strength"] >= 1 else "",
                    ]
                    for row in rows
                ],
                "No drift is measured yet.",
                (3, 4, 5),
            )
        ],
    )


def _gate(views: Views, model: str, zone: str | None) -> Section:
    rows = [
        [
            str(row["day"]),
            f"{row['model_version']}" + (f" ({row['semantic_version']})" if row["semantic_version"] else ""),
            "passed" if row["passed"] else Markup('<b class="bad flag">✕ rejected</b>'),
            row["why_not"] or f"all {row['checks']} checks passed",
            row["candidate"],
            row["champion_version"],
            moment(row["decided_at"], zone),
        ]
        for row in views.rows(GATES, model=model)
    ]
    heads = ("Trained for", "Version", "Gate", "Why", "Candidate", "Champion then", "Decided at")
    table = Table("Gate history", heads, rows, "The gate has not decided yet.")
    return Section(
        "gate", "Gate history", "The newest 20 decisions. The view gate_checks has every check.", tables=[table]
    )


def _promotions(promotions: Sequence[Row], zone: str | None) -> Section:
    base = ui_url() if any(row["report"] for row in promotions) else None
    rows = [
        [
            str(row["from_day"]),
            f"{row['model_version']}" + (f" ({row['semantic_version']})" if row["semantic_version"] else ""),
            row["by"],
            row["why"] + (" (forced)" if row["forced"] else ""),
            moment(row["created_at"], zone),
            report_links(row["report"], base),
        ]
        for row in promotions
    ]
    heads = ("From run date", "Version", "By", "Why", "Promoted at", "Training report")
    table = Table("Promotion history", heads, rows, "No version was promoted yet.")
    return Section("promotions", "Promotion history", "The newest 50. The first row is the champion.", tables=[table])


def report_links(report: str | None, base: str | None) -> list[Any]:
    """Return links to a training report, which MLflow sends as a file, and to its run.

    Args:
        report: where it is, as `runs:/<run>/<path>`.
        base: the address of MLflow's pages; without it, only where the report is.
    """
    if not report:
        return []
    if not base:
        return [report]
    run, _, path = report.removeprefix("runs:/").partition("/")
    of_run = Link("MLflow run", f"{base}/#/runs/{quote(run, safe='')}", airflow=True)
    if "databricks" in base:  # its pages send no file by an address
        return [of_run]
    asked = urlencode({"path": path, "run_uuid": run})
    return [Link("Report, a file", f"{base}/get-artifact?{asked}", airflow=True), of_run]


def _shadow(views: Views, model: str, zone: str | None) -> Section:
    days = [
        [
            str(row["day"]),
            row["model_version"],
            row["champion_version"],
            number(row["loss"]),
            number(row["champion_loss"]),
            share(row["difference"]),
            count(row["rows"]),
        ]
        for row in views.rows(SHADOW, model=model)
    ]
    ends = [
        [
            f"version {row['model_version']}",
            str(row["day"]),
            "passed" if row["passed"] else "not passed",
            row["sentence"],
            moment(row["ended_at"], zone),
        ]
        for row in views.rows(SHADOW_ENDS, model=model)
    ]
    tables = [
        Table(
            "Shadow by day",
            ("Run date", "Shadow", "Champion", "Loss", "Loss of the champion", "Difference", "Rows"),
            days,
            "No version was scored as a shadow.",
            (3, 4, 5, 6),
        )
    ]
    if ends:
        tables.append(Table("Shadows that ended", ("Shadow", "Run date", "Result", "Why", "Decided at"), ends, ""))
    return Section("shadow", "Shadow", "", tables=tables)
