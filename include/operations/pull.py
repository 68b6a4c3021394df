"""pull: bring prepared data of a fraction of the entities to a laptop, with identifiers hashed again.

What comes is what `fit`, `evaluate` and `score` read: features, and the typed rows of the feeds with outcomes. Raw
rows, quarantine and landing are never read. The other installation has the pull in its audit before a row is read.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from datetime import date

import polars as pl

from include.core import rehash as core
from include.core import schemas
from include.core.errors import ActionRequiredError, ConfigError, DataError
from include.core.feeds import HORIZON
from include.core.fraction import in_fraction
from include.core.horizons import key_in, with_horizon
from include.core.interval import BLOCK_DAYS, Interval
from include.core.journal import ENTRIES, Entry, Known
from include.core.names import clean_table, features_table
from include.core.personal import SEALED, HashKey
from include.core.project import Project
from include.core.records import DayRecord, PreparedDay, Pulled
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import export, read_exported, read_journal, require_exported
from include.io.postgres.pulls import Pull
from include.io.tables import Scope, Tables

log = logging.getLogger(__name__)

_HASHES = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
"""Hashes inside of a text, as features may have made it."""


def pull(
    project: Project,
    interval: Interval,
    settings: Settings,
    production: Settings,
    *,
    fraction: float,
    by: str,
    why: str,
) -> Pulled:
    """Bring prepared days of a fraction of the entities from another installation to this one.

    The fraction is the same for all days and tables. A pull that was killed, or is run again, ends the same; each is in
    the audit.

    Args:
        project: the project, with the same declaration there.
        interval: run dates; those that are prepared there come.
        settings: this installation.
        production: settings that read the other one.
        fraction: the share of its entities.
        by: who pulls.
        why: why.

    Raises:
        ConfigError: both installations have the same key, or the fraction is none.
        ActionRequiredError: the pull cannot be entered there, or rows here are of another kind.
        DataError: no day of the interval is prepared there.
    """
    if not (by.strip() and why.strip()):
        raise ActionRequiredError("pull needs who pulls and why: --by NAME --why REASON")
    if not 0 < fraction < 1:
        raise ConfigError(
            f"--entity-fraction {fraction:g}: it is a share of the entities between 0 and 1, such as 0.01"
        )
    project.refuse_entity_fraction("pull")
    key = HashKey.of(settings.hash_key.get_secret_value())
    require_exported(settings, project.name)
    with postgres.running.running(settings, project.name):
        _require_laptop(project, settings, production)
        begun = postgres.pulls.begin_pull(production, project.name, interval, fraction, by, why)
        _require_like_before(project, settings, key, begun, fraction)
        known = _known_there(project, production)
        records = {day: known.records[day] for day in interval.days if day in known.records}
        if not records:
            raise DataError(f"{project.name}: no day of {interval} is prepared in {production.tables}")
        rows, versions = _copy(project, interval, settings, production, key, fraction, records)
        _require_same_key(begun, postgres.pulls.end_pull(production, begun, _total(rows)))
        _enter(project, settings, known, interval, _decision(key, begun, interval, fraction, by, why))
        _prepare(project, settings, records, rows, versions)
        export(settings, project.name)
    return Pulled(interval=interval, days=tuple(records), rows=_total(rows), pull_id=begun.pull_id, by=by, why=why)


def _require_laptop(project: Project, settings: Settings, production: Settings) -> None:
    """Refuse to pull into the installation itself, or into one that lands the project's files.

    Raises:
        ActionRequiredError: says what to change.
    """
    for name in ("database_url", "tables", "journal"):
        mine, theirs = (str(getattr(each, name)).rstrip("/") for each in (settings, production))
        if name == "database_url":
            mine, theirs = (each.database_url.get_secret_value() for each in (settings, production))
        if mine == theirs:
            raise ActionRequiredError(
                f"NIGHTLY_{name.upper()} and NIGHTLY_PRODUCTION_{name.upper()} are the same: pull reads from the one "
                "and writes to the other. Nothing was read"
            )
    entries = read_journal(settings, project).entries
    landed = entries.filter(pl.col("kind") == "delivery", pl.col("entry").str.contains('"hash_key"', literal=True))
    if not landed.is_empty():
        raise ActionRequiredError(
            f"this installation has landed files of {project.name} itself, and pulled rows would not meet them. Pull "
            "into an installation without them (make reset, or another database, tables and journal). Nothing was read"
        )


def _require_like_before(project: Project, settings: Settings, key: HashKey, begun: Pull, fraction: float) -> None:
    """Refuse rows that would not meet those of earlier pulls, and the key of the other installation.

    Raises:
        ConfigError: names what differs. Nothing was read.
    """
    if key.until(begun.fingerprint):
        raise ConfigError(
            "NIGHTLY_HASH_KEY has the key of the other installation. Make one for this laptop, which nobody else has: "
            "python -c 'import secrets; print(secrets.token_hex(32))'. Nothing was read"
        )
    entries = read_journal(settings, project).entries.filter(pl.col("kind") == "decision")
    before = [entry for entry in map(json.loads, entries["entry"]) if entry.get("decision") == "pull"]
    if not before:
        return
    now = _about(key, begun, fraction)
    if different := [name for name, value in now.items() if before[-1][name] != value]:
        raise ConfigError(
            f"{project.name}: an earlier pull had another {', '.join(different).replace('_', ' ')}, so that rows of "
            "the two would not meet. Begin with an empty installation (make reset), or give the same. Nothing was read"
        )


def _about(key: HashKey, begun: Pull, fraction: float) -> dict[str, object]:
    """Return what all pulls of a project have in common."""
    return {"entity_fraction": fraction, "key_there": begun.fingerprint, "key_here": key.fingerprint}


def _decision(key: HashKey, begun: Pull, interval: Interval, fraction: float, by: str, why: str) -> Entry:
    about = {"decision": "pull", "start": str(interval.start), "end": str(interval.end), **_about(key, begun, fraction)}
    return Entry(kind="decision", subject=f"pull {begun.pull_id}", entry=about, by=by, why=why)


def _require_same_key(begun: Pull, now: str) -> None:
    if now != begun.fingerprint:
        raise DataError("the hash key of the other installation was rotated while rows were read; run pull again")


def _known_there(project: Project, production: Settings) -> Known:
    """Return the journal of the other installation, from its export."""
    lines = read_exported(production, project.name)
    rows = [
        (number, line["kind"], line["subject"], json.dumps(line["entry"]), line["why"])
        for number, line in sorted(lines.items())
    ]
    return Known.of(max(lines), pl.DataFrame(rows, schema=ENTRIES, orient="row"))


def _total(rows: Mapping[date, Sequence[int]]) -> int:
    return sum(map(sum, rows.values()))


def _outcome_feeds(project: Project) -> list[str]:
    return sorted({outcome.feed for outcome in project.outcomes.values()})


def _copy(
    project: Project,
    interval: Interval,
    settings: Settings,
    production: Settings,
    key: HashKey,
    fraction: float,
    records: Mapping[date, DayRecord],
) -> tuple[dict[date, list[int]], dict[str, int]]:
    """Copy features and rows with outcomes.

    Returns:
        The rows of features of each day, by horizon, and the versions of tables.
    """
    there, here, table = Tables(production), Tables(settings), features_table(project.name)
    horizons = range(project.entity.horizon_days + 1)
    rows, versions = {day: [0 for _ in horizons] for day in records}, dict[str, int]()
    for days in interval.chunks(BLOCK_DAYS):
        of_days = [day for day in days.days if day in records]
        wanted = pl.col("day").is_in(of_days) & (pl.col("data_view") == "point_in_time") & in_fraction(fraction)
        features = _features(project, there.scan(table).filter(wanted).collect(), key)
        for day, horizon, count in with_horizon(features.lazy()).collect().group_by("day", HORIZON).len().iter_rows():
            rows[day][horizon] = count
        scope = Scope(days, {"data_view": ["point_in_time"]})
        versions[table] = here.replace(table, features, scope, sort_by=key_in(features.columns)).version
        for feed in _outcome_feeds(project):
            name, shape = clean_table(project.name, feed), schemas.clean(project, project.feeds[feed])
            within = pl.col("day").is_between(days.start, days.end) & in_fraction(fraction)
            clean = there.scan(name).filter(within).select(shape.keys()).collect()
            hashed = core.clean(project, project.feeds[feed], clean, key.hashed)
            here.replace(name, _without_sealed(hashed), Scope(days), sort_by=["day", "delivery_id", "_row"])
    return rows, versions


def _features(project: Project, features: pl.DataFrame, key: HashKey) -> pl.DataFrame:
    """Return features with every hash in them hashed further, wherever the project's code has put it."""
    texts = [name for name, kind in features.schema.items() if kind == pl.String() and name != "data_view"]
    for name in texts:
        values = features[name].drop_nulls().unique().to_list()
        is_id = name == "entity_id"
        found = core.entity_ids(project, values, key.hashed) if is_id else {v: _rehashed(v, key) for v in values}
        features = features.with_columns(pl.col(name).replace(found)) if found else features
    return _without_sealed(features)


def _rehashed(text: str, key: HashKey) -> str:
    return _HASHES.sub(lambda found: key.hashed(found[0]), text)


def _without_sealed(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows without sealed text; neither features nor clean rows should have any."""
    text = pl.col(pl.String())
    return rows.with_columns(pl.when(~text.str.starts_with(SEALED)).then(text).name.keep())


def _enter(project: Project, settings: Settings, known: Known, interval: Interval, decision: Entry) -> None:
    """Enter the deliveries that the rows with outcomes are from, with the verdicts that they have there."""
    fields = {subject: json.loads(text) for subject, text in _entries_of(known)}
    counted = Tables(settings).count(
        [clean_table(project.name, feed) for feed in _outcome_feeds(project)], Scope(interval), "delivery_id"
    )
    within = pl.col("feed").is_in(_outcome_feeds(project)) & pl.col("day").is_between(interval.start, interval.end)
    with postgres.journal.write_journal(settings, project.name) as writer:
        here = dict(writer.known().deliveries.select("delivery_id", "verdict").iter_rows())
        entries = []
        for delivery in known.deliveries.filter(within).iter_rows(named=True):
            delivery_id, accepted = delivery["delivery_id"], delivery["verdict"] == "accepted"
            if delivery_id not in here:
                kept = {name: value for name, value in fields[delivery_id].items() if name != "hash_key"}
                entry = {**kept, "rows": counted[delivery_id], "verdict": "landed"}
                entries.append(Entry(kind="delivery", subject=delivery_id, entry=entry))
            if here.get(delivery_id) != ("accepted" if accepted else "refused"):
                why = None if accepted else f"it is {delivery['verdict']} in the installation that it was pulled from"
                entries.append(Entry.verdict(delivery_id, delivery["feed"], delivery["day"], why))
        writer.add([*entries, decision])


def _entries_of(known: Known) -> list[tuple[str, str]]:
    return known.entries.filter(pl.col("kind") == "delivery").select("subject", "entry").rows()


def _prepare(
    project: Project,
    settings: Settings,
    records: Mapping[date, DayRecord],
    rows: Mapping[date, Sequence[int]],
    versions: Mapping[str, int],
) -> None:
    """Enter the records of the days, and store the days as prepared."""
    with postgres.journal.write_journal(settings, project.name) as writer:
        now = writer.known()
        here = [record.model_copy(update={"watermark": now.watermark}) for record in records.values()]
        new = [each for each in here if each.day not in now.records or now.records[each.day].number != each.number]
        writer.add([Entry.prepared_day(record) for record in new])
    prepared = [
        PreparedDay(
            project=project.name,
            day=day,
            data_view="point_in_time",
            as_of=record.as_of,
            watermark=record.watermark,
            deliveries=record.deliveries,
            table_versions=dict(versions),
            rows=sum(rows[day]),
            horizon_rows=tuple(rows[day]) if project.entity.horizon_days else (),
        )
        for day, record in records.items()
    ]
    postgres.days.record_prepared_days(settings, project.name, prepared)
