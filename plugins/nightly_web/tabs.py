"""The tabs of a DAG and of a run in Airflow, in short, and the forms that start a DAG with values filled in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from nightly_web import run_date, today
from nightly_web.access import OF_MODEL, OF_PROJECT, Access
from nightly_web.database import Row, Views
from nightly_web.shown import Page, Section
from nightly_web.words import Link, Links, Table, count, duration, moment

STEPS = """
SELECT project, model, step, part, interval_start, interval_end, state, rows, seconds, table_version, model_version,
    error_class, started_at, ended_at FROM step_history
WHERE run_id = :run_id AND step = ANY(:steps) AND (model = :model OR project = ANY(CAST(:projects AS text[]))
    OR project = (SELECT s.project FROM model_status s WHERE s.model = :model))
ORDER BY id LIMIT 200
"""
STEPS_OF = {
    "prepare": {"extract", "land", "validate", "build_features"},
    "train": {"fit", "evaluate", "gate", "report_version", "promote"},
    "decide": {"outcomes", "end_shadow", "promote"},
    "score": {"score", "publish", "shadow", "public_page"},
    "rollback": {"score", "rollback"},
    "monitor": {"outcomes", "monitor", "skew", "report_period", "retrain", "public_page"},
    "backfill_range": {
        "extract", "land", "validate", "build_features", "outcomes", "score", "publish", "public_page",
    },
    "maintenance": {"land", "maintain"},
}  # fmt: skip
"""The steps that a DAG records, by what follows the name of its project or model; a test compares them with the DAGs.

`maintenance` is one DAG for all projects. Nightly runs of one moment have the same name in each DAG, so the name alone
does not say whose a step is.
"""
STEP_OF_TASK = {"score_shadow": "score", "sweep": "land"}
"""The step of a task that has another name."""
OF_ALL = ("outcomes", "public_page")
"""Steps of a project that DAGs of its models record, too."""
OF_EACH = ("score", "publish", "retrain")
"""Steps of a model that DAGs of its project record, too."""
MAINTENANCE = "maintenance"
"""The DAG of all projects: each of its tasks is mapped over them."""
NO_STEP = "has recorded no step: it has not ended one yet, or does none of the product."
NO_MAINTENANCE = (
    "has recorded no step of a project that you may see: it has not ended one yet, or is a dry run, which records "
    "none. Its log says what it did."
)
SHARED = ("outcomes", "promote", "public_page", "score")
"""Steps that several tasks of one run date record: their rows do not say which of them did."""

FEEDS = "SELECT feed FROM supplier_punctuality WHERE project = :project ORDER BY feed"
VERSIONS = """
SELECT DISTINCT ON (model_version) model_version, semantic_version, from_day FROM promotion_history
WHERE model = :model ORDER BY model_version DESC, id DESC LIMIT 20
"""
ZONE = """
SELECT p.timezone FROM model_status m JOIN project_status p ON p.project = m.project WHERE m.model = :model
"""


def of_dag(views: Views, access: Access, link: Links, dag_id: str) -> Page:
    """Return the tab of a DAG that the user may see."""
    access.require_dag(dag_id)
    model, project = _name(dag_id, OF_MODEL), _name(dag_id, OF_PROJECT)
    groups = today.values(views, access, link)["groups"]
    for group in groups:
        for row in group["models"]:
            if row["model"] == model:
                return _model(row, group, link)
        if project and group["project"] == project:
            return _project(views, group, link)
    return Page(dag_id, "This DAG belongs to no project and no model that has prepared or published a day.")


def _name(dag_id: str, kinds: Sequence[str]) -> str | None:
    return next((dag_id.removesuffix(f"_{kind}") for kind in kinds if dag_id.endswith(f"_{kind}")), None)


def _model(row: dict[str, Any], group: dict[str, Any], link: Links) -> Page:
    coming = row["next"]
    good = f"{row['metric']} {row['value']} on {row['measured_day']}" if row["metric"] else "no outcomes yet"
    good += f"; {row['estimated']}" if row["estimated"] else ""
    return Page(
        row["title"],
        f"Model {row['model']} of the project {row['project'] if 'project' in row else group['project']}.",
        crumbs=[(row["title"], "")],
        incidents=row["incidents"],
        facts=[
            ("Published", f"{row['day']}, {row['rows']} rows" if row["day"] else "not yet"),
            ("Published at", ", ".join(filter(None, (row["published_at"], row["latency"])))),
            ("Late", row["late"] or row["freshness"] or "not measured yet"),
            ("Champion", row["champion"]),
            ("Loss (less is better)", good),
            ("Loss, 60 days", row["spark"] or "–"),
            ("Next", coming.sentence),
        ],
        actions=[
            Link("Open the page of the model", row["href"]),
            *([Link(coming.label, coming.href)] if coming.href else []),
        ],
        commands=[("Next", coming.command)] if coming.command else [],
    )


def _project(views: Views, group: dict[str, Any], link: Links) -> Page:
    feeds = [row["feed"] for row in views.rows(FEEDS, project=group["project"])]
    rows = [
        [Link(row["title"], row["href"]), str(row["day"] or "–"), row["rows"], _late(row), row["next"].sentence]
        for row in group["models"]
    ]
    return Page(
        group["title"],
        f"Project {group['project']}. Days and times: {group['zone'] or 'UTC'}.",
        crumbs=[(group["title"], "")],
        incidents=group["incidents"],
        facts=[
            ("Prepared", Link(str(group["day"]), group["href"]) if group["day"] else "not yet"),
            ("Rows of features", group.get("rows", "–")),
            ("Prepared at", group.get("prepared_at", "–")),
        ],
        actions=[Link(f"Feed {feed}", link.feed(group["project"], feed)) for feed in feeds],
        parts=[
            Section(
                "models",
                "Models",
                tables=[
                    Table("Models", ("Model", "Published run date", "Rows", "Late", "Next"), rows, "None yet.", (2,))
                ],
            )
        ],
    )


def _late(row: dict[str, Any]) -> Any:
    late = row["late"] or row["freshness"] or "not measured yet"
    return Markup('<b class="warn flag">▲ {}</b>').format(late) if row["late"] not in ("", "on time") else late


def of_run(views: Views, access: Access, link: Links, dag_id: str, run_id: str, task_id: str | None) -> Page:
    """Return the tab of a run, or of one of its tasks, of a DAG that the user may see."""
    access.require_dag(dag_id)
    model, project = _name(dag_id, OF_MODEL), _name(dag_id, OF_PROJECT)
    zones, of_all = views.zones(), dag_id == MAINTENANCE
    projects = [each for each in zones if access.project(each)] if of_all else [project] if project else []
    group, _, task = (task_id or "").rpartition(".")  # a task of a group is <model>.<step>
    step = STEP_OF_TASK.get(task, task)
    steps = [
        row
        for row in views.rows(STEPS, run_id=run_id, projects=projects, model=model, steps=sorted(_steps_of(dag_id)))
        if _is_of(row, model, group) and step in ("", row["step"])
    ]
    if not steps:
        what = f"The task {task_id}" if task_id else "This run"
        return Page(run_id, f"{what} {NO_MAINTENANCE if of_all else NO_STEP}")
    zone = None if of_all else zones.get(steps[0]["project"])
    days = sorted({row["interval_start"] for row in steps} | {row["interval_end"] for row in steps})
    owner = steps[0]["project"]
    seen = access.project(owner) and not of_all
    first: Any = Link(str(days[0]), link.run_date(owner, days[0])) if seen else str(days[0])
    last: Any = Link(str(days[-1]), link.run_date(owner, days[-1])) if seen else str(days[-1])
    rows = [
        [
            row["step"]
            + (f" of {row['project']}" if of_all else "")
            + (f" of {row['model']}" if row["model"] and not model else "")
            + (f" ({row['part']})" if row["part"] else ""),
            f"{row['state']}" + (f": {row['error_class']}" if row["error_class"] else ""),
            count(row["rows"]),
            duration(row["seconds"]),
            row["model_version"],
            row["table_version"],
            moment(row["ended_at"], zone),
        ]
        for row in steps
    ]
    several = (
        " The rows are of several tries, or of other tasks that record the same step in a run of this name."
        if (step in SHARED and len(steps) > 1)
        or (of_all and len(steps) > len({(row["project"], row["step"]) for row in steps}))
        else ""
    )
    heads = ("Step", "State", "Rows", "Took", "Model version", "Table version", "Ended at")
    validated = seen and model is None and any(row["step"] == "validate" for row in steps)
    checked = run_date.quality(views, owner, days[-1]) if validated else []
    return Page(
        f"{task_id} of {dag_id}" if task_id else dag_id,
        f"Run {run_id}. Days and times: {zone or 'UTC'}.{several}",
        facts=[("Run date" if days[0] == days[-1] else "First run date", first)]
        + ([] if days[0] == days[-1] else [("Last run date", last)]),
        actions=[Link("Open the page of the model", link.model(model))] if model and access.model(model) else [],
        parts=[Section("steps", "Steps", tables=[Table("Steps", heads, rows, "", (2, 3, 4, 5))]), *checked],
    )


def _steps_of(dag_id: str) -> set[str]:
    return next((steps for kind, steps in STEPS_OF.items() if f"_{dag_id}".endswith(f"_{kind}")), set())


def _is_of(row: Row, model: str | None, group: str) -> bool:
    """Return whether a step belongs to a DAG of the model, or of the project if that is None, and to the group."""
    if model:
        return row["model"] == model or (row["model"] is None and row["step"] in OF_ALL)
    return (row["model"] is None or row["step"] in OF_EACH) and group in ("", row["model"])


@dataclass(frozen=True)
class Field:
    """A field of a form: the parameter of the DAG, its title, a sentence, its value, and the values to choose from."""

    name: str
    title: str
    about: str
    kind: str
    value: str = ""
    required: bool = False
    choices: Sequence[tuple[str, str]] = ()


def form(
    views: Views, access: Access, link: Links, dag_id: str, version: str | None, may_start: bool
) -> dict[str, Any]:
    """Return the form that starts the rollback of a model, or the question about a pending version."""
    access.require_dag(dag_id)
    rollback = dag_id.endswith("_rollback")
    model = _name(dag_id, ("rollback", "approve")) or dag_id
    return {
        "title": f"Roll back {model}" if rollback else f"Decide about a version of {model}",
        "crumbs": [(model, link.model(model)), ("Roll back" if rollback else "Decide", "")],
        "about": (
            "Makes an earlier version the champion again and publishes its scores. Before that, the run asks you."
            if rollback
            else "Starts the question about the version. Its task waits until you approve or decline it in Airflow."
        ),
        "fields": _rollback(views, model, version, _zone(views, model)) if rollback else _approve(version),
        "dag_id": dag_id,
        "may_start": may_start,
        "api": f"{link.airflow}/api/v2/dags/{dag_id}/dagRuns",
        "runs": f"{link.dag(dag_id)}/runs",
        "dag": link.dag(dag_id),
    }


def _zone(views: Views, model: str) -> str | None:
    row = views.row(ZONE, model=model)
    return row["timezone"] if row else None


def _rollback(views: Views, model: str, version: str | None, zone: str | None) -> list[Field]:
    known = [
        (str(row["model_version"]), f"version {row['model_version']}, champion from {row['from_day']}")
        for row in views.rows(VERSIONS, model=model)
    ]
    choices = [("previous", "previous: the last champion"), *known]
    chosen = version if version in dict(choices) else "previous"
    return [
        Field("version", "Back to version", "", "select", chosen or "", True, choices),
        Field("why", "Why", "The reason, for the promotion history.", "text", required=True),
        Field(
            "from_day",
            "Past days from",
            f"The first run date{f' ({zone})' if zone else ''} whose published scores change. If empty: only the "
            "newest published one.",
            "date",
        ),
    ]


def _approve(version: str | None) -> list[Field]:
    value = version if version and version.isdigit() else ""
    about = "The pending version. If empty: the one of the latest run date."
    return [Field("version", "Version", about, "integer", value)]
