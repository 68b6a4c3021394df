"""The page Today: all projects and models in one table, and what comes next for each."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from markupsafe import Markup

from nightly_pages.charts import number, trend
from nightly_web.access import Access
from nightly_web.database import Row, Views
from nightly_web.words import LOSS, Links, count, duration, moment, plural, today_in

DAYS = 60
"""Days of the small line."""

RECENT = 30
"""The most days that the page says a prepared day is ago; older ones are past days that were simulated."""

PROJECTS = """
SELECT project, title, timezone, newest_prepared_day AS day, rows, left_out, prepared_at FROM project_status
"""
MODELS = """
SELECT s.model, s.project, s.title, s.problem_type, s.champion_version, s.champion_since, s.newest_published_day AS day,
    s.newest_published_at, s.scores_late, s.freshness, p.rows, l.seconds, l.reconstructed
FROM model_status s LEFT JOIN LATERAL (
    SELECT rows FROM publication_history WHERE model = s.model AND day = s.newest_published_day ORDER BY id DESC LIMIT 1
) p ON true
LEFT JOIN LATERAL (
    SELECT seconds, reconstructed FROM latency WHERE model = s.model AND day = s.newest_published_day LIMIT 1
) l ON true
WHERE s.model = ANY(:models) ORDER BY s.project, s.model
"""
HOW_GOOD = """
SELECT model, day, value FROM model_performance
WHERE model = ANY(:models) AND slice = 'all' AND slice_value = 'all' AND metric = ANY(:metrics)
    AND day > :since ORDER BY model, day, measured_at
"""
ESTIMATED = """
SELECT DISTINCT ON (model) model, day, metric, estimated FROM estimated_performance
WHERE model = ANY(:models) AND metric = ANY(:metrics) AND day > :since AND estimated IS NOT NULL
ORDER BY model, day DESC
"""
INCIDENTS = """
SELECT incident, state, severity, project, subject, models, what, command, runbook FROM incidents
WHERE state <> 'recovered' ORDER BY array_position(ARRAY['critical', 'high', 'low'], severity), incident
"""
PENDING = """
SELECT model, model_version, expires_at FROM (
    SELECT DISTINCT ON (model, model_version) model, model_version, state, expires_at FROM version_history
    ORDER BY model, model_version, id DESC
) newest WHERE state = 'pending' ORDER BY model, model_version
"""
SEMANTIC = """
SELECT DISTINCT ON (model) model, model_version, semantic_version FROM promotion_history
WHERE model = ANY(:models) ORDER BY model, from_day DESC, id DESC
"""
KNOWN = "SELECT model FROM model_status UNION SELECT model FROM version_history"


@dataclass(frozen=True)
class Next:
    """What comes next: a sentence, and a command to type or a form or page to open."""

    sentence: str
    command: str = ""
    href: str = ""
    label: str = ""
    urgent: bool = False


def values(views: Views, access: Access, link: Links) -> dict[str, Any]:
    """Return what the template shows."""
    models = access.models(row["model"] for row in views.rows(KNOWN))
    projects = {row["project"]: row for row in views.rows(PROJECTS) if access.project(row["project"])}
    found = views.rows(MODELS, models=models)
    zones = views.zones()
    since = max((row["day"] for row in found if row["day"]), default=date.min + timedelta(days=DAYS))
    good = _how_good(views, found, since)
    pending = _by_model(row for row in views.rows(PENDING) if row["model"] in models)
    semantic = {row["model"]: row["semantic_version"] for row in views.rows(SEMANTIC, models=models)}
    incidents = [row for row in views.rows(INCIDENTS) if _is_visible(row, access)]
    first = [_never_published(model, pending) for model in models if model not in {row["model"] for row in found}]
    zones_of = {zone for name, zone in zones.items() if name in projects}
    groups: dict[str, list[dict[str, Any]]] = {name: [] for name in sorted(projects)}
    for row in [*found, *first]:
        zone = zones.get(row["project"])
        prepared = projects.get(row["project"], {}).get("day")
        mine = [each for each in incidents if row["model"] in (each["subject"], *(each["models"] or ()))]
        waiting = pending.get(row["model"], [])
        groups.setdefault(row["project"], []).append({
            "model": row["model"],
            "title": row["title"],
            "href": link.model(row["model"]),
            "day": row["day"],
            "published_at": moment(row["newest_published_at"], zone),
            "latency": _latency(row),
            "rows": count(row["rows"]),
            "late": _late(row, prepared),
            "freshness": row["freshness"] or "",
            "champion": _version(row["champion_version"], semantic.get(row["model"])),
            "champion_since": row["champion_since"],
            **good.get(row["model"], NOTHING_MEASURED),
            "incidents": mine,
            "pending": waiting,
            "next": _next(row, prepared, mine, waiting, link),
        })
    return {
        "groups": [
            {**_project(name, projects.get(name), incidents, zones.get(name), link), "models": rows}
            for name, rows in sorted(groups.items())
        ],
        "others": [row for row in incidents if not row["project"]],
        "totals": _totals(groups, incidents),
        "now": moment(datetime.now(UTC), min(zones_of) if len(zones_of) == 1 else None),
        "zones": sorted({zone for name, zone in zones.items() if name in groups}),
    }


NOTHING_MEASURED: Mapping[str, Any] = {
    "spark": Markup(""),
    "value": "–",
    "metric": "",
    "measured_day": None,
    "estimated": "",
}


def _how_good(views: Views, found: Sequence[Row], newest: date) -> dict[str, Mapping[str, Any]]:
    metric = {row["model"]: LOSS.get(row["problem_type"] or "") for row in found}
    metrics = sorted({each[0] for each in metric.values() if each})
    by_model: dict[str, dict[date, float | None]] = defaultdict(dict)
    since = newest - timedelta(days=DAYS)
    for row in views.rows(HOW_GOOD, models=list(metric), metrics=metrics, since=since):
        by_model[row["model"]][row["day"]] = row["value"]
    days = [since + timedelta(days=n + 1) for n in range(DAYS)]
    asked = {"models": list(metric), "metrics": metrics, "since": since}
    estimates = {(row["model"], row["metric"]): row for row in views.rows(ESTIMATED, **asked)}
    shown: dict[str, Mapping[str, Any]] = {}
    for model, measured in by_model.items():
        named = metric[model]
        known = {day: value for day, value in measured.items() if value is not None}
        if named is None or not known:
            continue
        last = max(known)
        about = (
            f"{named[1]} of {plural(len(known), 'day')} up to {last}: from {number(min(known.values()))} to "
            f"{number(max(known.values()))}, {number(known[last])} on the last; less is better"
        )
        shown[model] = {
            "spark": trend(about, [known.get(day) for day in days]),
            "value": number(known[last]),
            "metric": named[1].split(",")[0],
            "measured_day": last,
            "estimated": _estimated(estimates.get((model, named[0])), last),
        }
    return shown


def _estimated(row: Row | None, measured: date) -> str:
    """Return what the newest day will be if its scores are right, where outcomes are not known yet."""
    if row is None or row["day"] <= measured:
        return ""
    return f"estimated {number(row['estimated'])} on {row['day']}"


def _latency(row: Row) -> str:
    """Return how long the predictions took (docs/latency.md); nothing for a day that was run later."""
    if row["seconds"] is None or row["reconstructed"]:
        return ""
    return f"latency {duration(max(0.0, row['seconds']))}"


def _never_published(model: str, pending: Mapping[str, Sequence[Row]]) -> Row:
    empty = dict.fromkeys((
        "problem_type",
        "champion_version",
        "champion_since",
        "day",
        "newest_published_at",
        "scores_late",
        "rows",
        "seconds",
    ))
    return {**empty, "model": model, "project": "", "title": model, "freshness": "It has not published yet."}


def _by_model(rows: Any) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["model"]].append(row)
    return found


def _is_visible(incident: Row, access: Access) -> bool:
    models = incident["models"] or []
    if not incident["project"]:
        return incident["subject"] in access.dags
    return access.project(incident["project"]) or bool(access.models([incident["subject"], *models]))


def _late(row: Row, prepared: date | None) -> str:
    if row["scores_late"]:
        return "late"
    if row["day"] is not None and prepared is not None and row["day"] < prepared:
        return f"{plural((prepared - row['day']).days, 'day')} behind"
    return "" if row["day"] is None else "on time"


def _version(version: int | None, semantic: str | None) -> str:
    if version is None:
        return "none yet"
    return f"version {version}" + (f" ({semantic})" if semantic else "")


def _next(row: Row, prepared: date | None, incidents: Sequence[Row], pending: Sequence[Row], link: Links) -> Next:
    """Return what a person does next: the most urgent cause first."""
    model = row["model"]
    for incident in incidents:
        if incident["state"] == "open":
            sentence = f"Incident {incident['incident']}: {incident['what']}"
            return Next(sentence, command=incident["command"], urgent=incident["severity"] == "critical")
    if pending:
        version = pending[-1]["model_version"]
        href = link.form(f"{model}_approve", version=version)
        return Next(f"Version {version} waits for a decision.", href=href, label="Decide")
    if row["champion_version"] is None:
        return Next("No version is the champion yet.", href=link.dag(f"{model}_train"), label="Open the training")
    if prepared is not None and row["day"] is not None and row["day"] < prepared:
        first = row["day"] + timedelta(days=1)
        return Next("Prepared days are not published.", f"airflow dags backfill {model}_score -s {first} -e {prepared}")
    return Next("Nothing to do.")


def _project(name: str, row: Row | None, incidents: Sequence[Row], zone: str | None, link: Links) -> dict[str, Any]:
    own = [each for each in incidents if each["project"] == name and not each["models"]]
    shown: dict[str, Any] = {
        "project": name,
        "title": name or "Not published yet",
        "incidents": own,
        "zone": zone,
        "page": "",
    }
    if row is None:
        return {**shown, "day": None, "seen": False}
    return {
        **shown,
        "title": row["title"],
        "seen": True,
        "page": link.project(name),
        "day": row["day"],
        "href": link.run_date(name, row["day"]) if row["day"] else "",
        "rows": count(row["rows"]),
        "left_out": row["left_out"],
        "prepared_at": moment(row["prepared_at"], zone),
        "ago": _ago(row["day"], zone),
    }


def _ago(day: date | None, zone: str | None) -> str:
    """Return how old a day is; nothing for past days that are simulated, and for a day to come."""
    days = (today_in(zone) - day).days if day else -1
    return {0: "today", 1: "yesterday"}.get(days, f"{days} days ago") if 0 <= days <= RECENT else ""


def _totals(groups: Mapping[str, Sequence[Mapping[str, Any]]], incidents: Sequence[Row]) -> str:
    rows = [row for each in groups.values() for row in each]
    late = sum(row["late"] not in ("", "on time") for row in rows)
    waiting = sum(len(row["pending"]) for row in rows)
    opened = sum(row["state"] == "open" for row in incidents)
    return ", ".join((
        plural(len(rows), "model"),
        f"{count(late)} late" if late else "none late",
        plural(opened, "open incident"),
        plural(waiting, "decision to take", "decisions to take"),
    ))
