"""The page of a run date: what its run knew, what was held back, what it published, and what changed since."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from nightly_pages.charts import number
from nightly_web.access import Access
from nightly_web.database import Row, Views
from nightly_web.shown import Page, Section
from nightly_web.words import HOW_PUBLISHED, REFERENCES, Link, Links, Table, count, listed, moment, size

LOOK_BACK = 35
"""Days of deliveries before a run date that the page looks at."""

NEWEST = 2**62
"""A journal entry after all others."""

PREPARED = """
SELECT * FROM prepared_day_status WHERE project = :project AND day = :day
ORDER BY data_view DESC, prepared_at DESC LIMIT 1
"""
NEIGHBOURS = """
SELECT (SELECT max(day) FROM prepared_day_status WHERE project = :project AND day < :day) AS before,
    (SELECT min(day) FROM prepared_day_status WHERE project = :project AND day > :day) AS after
"""
KNOWN = """
SELECT feed, day, delivery_id, rows, bytes, available_from, sequence FROM (
    SELECT *, row_number() OVER (PARTITION BY feed ORDER BY day DESC, available_from DESC, sequence DESC) AS nth
    FROM delivery_history
    WHERE project = :project AND day BETWEEN :first AND :last AND sequence <= :watermark AND available_from <= :as_of
) newest WHERE nth <= 3 ORDER BY feed, day DESC
"""
VERDICTS = """
SELECT DISTINCT ON (subject) subject, verdict, why FROM journal_entries
WHERE project = :project AND subject = ANY(:deliveries) AND verdict IS NOT NULL ORDER BY subject, sequence DESC
"""
QUALITY = """
SELECT delivery_id, count(*) AS checks, count(*) FILTER (WHERE NOT success) AS failed FROM data_quality
WHERE project = :project AND delivery_id = ANY(:deliveries) GROUP BY delivery_id
"""
FAILED = """
SELECT feed, day, expectation, column_name, severity, unexpected_rows, observed FROM data_quality
WHERE project = :project AND delivery_id = ANY(:deliveries) AND NOT success ORDER BY severity, feed, day DESC LIMIT 50
"""
LACKS = """
SELECT feed, observed FROM data_quality
WHERE project = :project AND day = :day AND expectation = 'feed_to_be_known' AND NOT success ORDER BY feed
"""
QUARANTINE = """
SELECT feed, day, expectation, column_name, quarantined_rows, rows_evaluated, examples FROM quarantine_counts
WHERE project = :project AND delivery_id = ANY(:deliveries) ORDER BY quarantined_rows DESC LIMIT 50
"""
PUBLISHED = """
SELECT model, model_version, rows, mode, replaced_version, published_at, run_id FROM publication_history
WHERE model = ANY(:models) AND day = :day ORDER BY model, id DESC
"""
FEATURES = """
SELECT model, feature, reference, strength, missing FROM drift
WHERE model = ANY(:models) AND day = :day AND role = 'input' AND slice = 'all' AND strength IS NOT NULL
ORDER BY strength DESC LIMIT 15
"""
SINCE = """
SELECT sequence, kind, feed, day, subject, verdict, by, why, recorded_at FROM journal_entries
WHERE project = :project AND sequence > :watermark AND kind IN ('delivery', 'verdict', 'decision')
    AND day BETWEEN :first AND :last ORDER BY sequence DESC LIMIT 50
"""
MODELS = "SELECT model FROM model_status WHERE project = :project ORDER BY model"


def shown(views: Views, access: Access, link: Links, project: str, day: date) -> Page:
    """Return the page of a run date of a project that the user may see."""
    access.require_project(project)
    zone = views.zones().get(project)
    row = views.row(PREPARED, project=project, day=day)
    near = views.row(NEIGHBOURS, project=project, day=day) or {}
    days = [
        Link(f"{word} run date, {near[key]}", link.run_date(project, near[key]))
        for key, word in (("before", "Previous"), ("after", "Next"))
        if near.get(key)
    ]
    head: dict[str, Any] = {
        "title": f"{project}, {day}",
        "about": f"What the run date {day} knew and published. Days and times: {zone or 'UTC'}.",
        "crumbs": [(project, link.project(project)), (str(day), "")],
    }
    backfill = [
        (
            "To prepare this day" if row is None else "To run this day again",
            f"airflow dags backfill {project}_prepare -s {day} -e {day}",
        )
    ]
    if row is None:
        parts = _not_prepared(views, project, day, zone, link)
        now = " Below is what a run would know now." if parts else " No delivery for it was landed."
        facts = [("State", f"This run date is not prepared.{now}")]
        return Page(**head, facts=facts, actions=days, commands=backfill, parts=parts)
    models = access.models(each["model"] for each in views.rows(MODELS, project=project))
    span = _span(project, day)
    known = views.rows(KNOWN, watermark=row["watermark"], as_of=row["as_of"], **span)
    chosen = {"project": project, "deliveries": [each["delivery_id"] for each in known]}
    outdated = ("To see what is out of date", f"python -m include.cli outdated --project {project} --start {day}")
    return Page(
        **head,
        facts=_facts(row, zone, project, link),
        actions=[*days, Link("Open in Airflow", link.dag(f"{project}_prepare"), airflow=True)],
        commands=[*backfill, outdated],
        parts=[
            _knew(views, known, chosen, zone, project, link),
            _lacks(views, project, day),
            _quality(views, chosen),
            _quarantine(views, chosen),
            _features(views, models, day, link),
            _published(views, models, day, zone, link),
            _since(views, row, span, zone),
        ],
    )


def _span(project: str, day: date) -> dict[str, Any]:
    return {"project": project, "first": day - timedelta(days=LOOK_BACK), "last": day + timedelta(days=1)}


def _not_prepared(views: Views, project: str, day: date, zone: str | None, link: Links) -> list[Section]:
    """Return why a day may not be prepared: what a run would know now, and what is wrong with it."""
    known, chosen = _known_now(views, project, day)
    if not known:
        return []
    return [_knew(views, known, chosen, zone, project, link), _quality(views, chosen), _quarantine(views, chosen)]


def quality(views: Views, project: str, day: date) -> list[Section]:
    """Return failed expectations and the quarantine of what a run of a day knew, or would know now."""
    row = views.row(PREPARED, project=project, day=day)
    if row is None:
        _, chosen = _known_now(views, project, day)
        return [_quality(views, chosen), _quarantine(views, chosen)]
    known = views.rows(KNOWN, watermark=row["watermark"], as_of=row["as_of"], **_span(project, day))
    chosen = {"project": project, "deliveries": [each["delivery_id"] for each in known]}
    return [_lacks(views, project, day), _quality(views, chosen), _quarantine(views, chosen)]


def _known_now(views: Views, project: str, day: date) -> tuple[Sequence[Row], dict[str, Any]]:
    known = views.rows(KNOWN, watermark=NEWEST, as_of=datetime.now(UTC), **_span(project, day))
    return known, {"project": project, "deliveries": [each["delivery_id"] for each in known]}


def _facts(row: Row, zone: str | None, project: str, link: Links) -> list[tuple[str, Any]]:
    run = row["run_id"]
    by_hand = run == "by-hand"
    return [
        ("As of", moment(row["as_of"], zone)),
        ("Newest journal entry it could use", count(row["watermark"])),
        ("Deliveries used", count(row["deliveries"])),
        ("Rows of features", count(row["rows"])),
        ("Entities left out", count(row["left_out"])),
        ("Record", f"number {row['record']}" + (", prepared later from history" if row["reconstructed"] else "")),
        ("Prepared at", moment(row["prepared_at"], zone)),
        ("Run", "by hand" if by_hand else Link(run, link.run(f"{project}_prepare", run), airflow=True)),
    ]


def _knew(
    views: Views, known: Sequence[Row], chosen: dict[str, Any], zone: str | None, project: str, link: Links
) -> Section:
    verdicts = {row["subject"]: row for row in views.rows(VERDICTS, **chosen)}
    checks: dict[str, Row] = defaultdict(dict, {row["delivery_id"]: row for row in views.rows(QUALITY, **chosen)})
    rows = []
    for each in known:
        verdict = verdicts.get(each["delivery_id"])
        checked = checks[each["delivery_id"]]
        state = f"{verdict['verdict']}" + (f": {verdict['why']}" if verdict["why"] else "") if verdict else "–"
        of = f"{count(checked['failed'])} of {count(checked['checks'])}" if checked else "not validated"
        rows.append([
            Link(each["feed"], link.feed(project, each["feed"])),
            str(each["day"]),
            [each["delivery_id"]],
            count(each["rows"]),
            size(each["bytes"]),
            moment(each["available_from"], zone),
            state,
            of,
        ])
    heads = ("Feed", "Day", "Delivery", "Rows", "Size", "Counts from", "State now", "Expectations failed")
    table = Table("Deliveries", heads, rows, "This run date knew no delivery of the last weeks.", (3, 4))
    about = "The newest three deliveries of each feed that its run could know, from the journal."
    return Section("knew", "What the run knew", about, tables=[table])


def _lacks(views: Views, project: str, day: date) -> Section:
    rows = [[row["feed"], row["observed"]] for row in views.rows(LACKS, project=project, day=day)]
    table = Table("Missing", ("Feed", "What is missing"), rows, "Nothing: it knew a delivery of every feed.")
    return Section("lacks", "What it went on without", "", tables=[table])


def _quality(views: Views, chosen: dict[str, Any]) -> Section:
    rows = [
        [
            row["feed"],
            str(row["day"]),
            row["expectation"],
            row["column_name"],
            row["severity"],
            count(row["unexpected_rows"]) if row["unexpected_rows"] is not None else row["observed"],
        ]
        for row in views.rows(FAILED, **chosen)
    ]
    heads = ("Feed", "Day", "Expectation", "Column", "Severity", "Found")
    table = Table("Failed expectations", heads, rows, "Every expectation of these deliveries was met.", (5,))
    return Section("quality", "Failed expectations", "", tables=[table])


def _quarantine(views: Views, chosen: dict[str, Any]) -> Section:
    return Section(
        "quarantine",
        "Quarantine",
        "Rows that were held back, with examples: row number, key and public values. Personal values are never shown.",
        tables=[quarantine(views.rows(QUARANTINE, **chosen))],
    )


def quarantine(rows: Sequence[Row]) -> Table:
    """Return the table of quarantined rows, which the page of a feed has too."""
    shown = [
        [
            row["feed"],
            str(row["day"]),
            row["expectation"],
            row["column_name"],
            count(row["quarantined_rows"]),
            count(row["rows_evaluated"]),
            listed(row["examples"]),
        ]
        for row in rows
    ]
    heads = ("Feed", "Day", "Expectation", "Column", "Quarantined", "Rows checked", "Examples")
    return Table("Quarantine", heads, shown, "No row is in quarantine.", (4, 5))


def _features(views: Views, models: Sequence[str], day: date, link: Links) -> Section:
    rows = [
        [
            row["feature"],
            Link(row["model"], link.model(row["model"]) + "#drift"),
            REFERENCES.get(row["reference"], row["reference"]),
            number(row["strength"]),
            "▲ large" if row["strength"] >= 1 else "",
        ]
        for row in views.rows(FEATURES, models=list(models), day=day)
    ]
    heads = ("Feature", "Model", "Compared with", "Strength of the change", "")
    table = Table("Features", heads, rows, "No drift of features is measured for this run date.", (3,))
    return Section(
        "features", "Features", "The features that changed most. From 1 on, a change is large.", tables=[table]
    )


def _published(views: Views, models: Sequence[str], day: date, zone: str | None, link: Links) -> Section:
    rows = [
        [
            Link(row["model"], link.model(row["model"])),
            row["model_version"] or "nothing is published any more",
            count(row["rows"]),
            _how(row),
            moment(row["published_at"], zone),
            "by hand" if row["run_id"] == "by-hand" else row["run_id"],
        ]
        for row in views.rows(PUBLISHED, models=list(models), day=day)
    ]
    heads = ("Model", "Version", "Rows", "How", "Published at", "Run")
    table = Table("Predictions", heads, rows, "Nothing is published for this run date.", (2,))
    return Section("predictions", "Predictions", "Every change of what readers see of this day.", tables=[table])


def _how(row: Row) -> str:
    how = HOW_PUBLISHED.get(row["mode"]) or str(row["mode"])
    return how + (f", after version {row['replaced_version']}" if row["replaced_version"] else "")


def _since(views: Views, row: Row, span: dict[str, Any], zone: str | None) -> Section:
    rows = [
        [
            str(each["sequence"]),
            each["kind"],
            each["feed"],
            str(each["day"]),
            [each["subject"]],
            (each["verdict"] or "") + (f": {each['why']}" if each["why"] else ""),
            each["by"] or "–",
            moment(each["recorded_at"], zone),
        ]
        for each in views.rows(SINCE, watermark=row["watermark"], **span)
    ]
    heads = ("Entry", "Kind", "Feed", "Day", "Delivery", "State", "By", "Recorded at")
    table = Table(
        "Changes since", heads, rows, "The journal has nothing newer about the days that this run date reads."
    )
    about = (
        f"The newest 50 journal entries after this run, about days from {span['first']}. The day keeps what it knew."
    )
    return Section("since", "What changed since", about, tables=[table])
