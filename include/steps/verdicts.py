"""Give deliveries a verdict: check them against `expectations.yaml`, write their rows, and write the verdicts last.

`validate` and `revalidate` share this code. They decide which deliveries get a verdict and what follows from it.

The order of writes allows a run to be killed anywhere and started again: until everything else is written, a delivery
without a new verdict is recognisable by its old verdict, by its rows in quarantine, or because it has fewer or more
rows in clean and quarantine together than were landed. No reader ever finds an accepted
delivery without its rows: if an accepted delivery is refused now, its verdict is written before its rows are removed.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from include.core import schemas
from include.core.erasure import Erasures, without_erased_hashes
from include.core.errors import DataError
from include.core.feeds import Feed
from include.core.formats import values
from include.core.formats.explain import explain
from include.core.journal import SET_ASIDE, Entry
from include.core.names import clean_table, quarantine_table, raw_table
from include.core.personal import opened
from include.core.point_in_time import counting_rows, rows_before
from include.core.project import Project
from include.core.records import Refusal
from include.core.settings import Settings
from include.core.storable import MAX_KEY_BYTES, UNSTORABLE
from include.io import artifacts, postgres
from include.io.hash_key import read_hash_key
from include.io.tables import Scope, Tables
from include.quality.examples import examples, sentence

if TYPE_CHECKING:
    from include.quality.suites import Finding, Suites

log = logging.getLogger(__name__)

MAX_EXPLAINED = 5  # columns with malformed values that a message explains
CHUNK_DELIVERIES = 300  # deliveries written at a time, to limit the memory of a range run
CHUNK_VALUES = 20_000_000
"""How many values they have together, unless one delivery has more: each may be as large as its limit."""


@dataclass(frozen=True)
class VerdictCounts:
    """Counts over deliveries: `rows` in clean, and `quarantined` rows."""

    accepted: int
    refused: tuple[Refusal, ...]
    warnings: int
    rows: int
    quarantined: int


@dataclass(frozen=True)
class _Verdict:
    """The verdict on one delivery: why it is refused (or None), its clean and quarantined rows, its quality results."""

    why: str | None
    clean: pl.DataFrame
    quarantine: pl.DataFrame
    results: list[dict[str, Any]]


@dataclass(frozen=True)
class _Rows:
    """The rows of a delivery: `stored` as in the raw table, `raw` as they were landed (not sealed), and `typed`."""

    stored: pl.DataFrame
    raw: pl.DataFrame
    typed: pl.DataFrame


def give_verdicts(
    project: Project, deliveries: pl.DataFrame, settings: Settings, *, listed: pl.DataFrame, erased: Erasures
) -> VerdictCounts:
    """Give each delivery a verdict by the current expectations, in place of the one it had.

    Args:
        project: the project.
        deliveries: rows of `schemas.DELIVERIES`.
        settings: where the tables are.
        listed: all deliveries of the journal, for the rows of earlier ones.
        erased: the erased persons, whose rows are left out.
    """
    tables = Tables(settings)
    for name, feed in project.feeds.items():  # also for a feed without deliveries yet, as on the first day
        tables.create(clean_table(project.name, name), schemas.clean(project, feed))
        tables.create(quarantine_table(project.name, name), schemas.quarantine(feed))
    if deliveries.is_empty():
        return VerdictCounts(0, (), 0, 0, 0)
    suites = _suites(project)
    accepted, warnings, rows, quarantined = 0, 0, 0, 0
    refused: list[Refusal] = []
    for chunk in _chunks(project, deliveries):
        verdicts: dict[str, str | None] = {}  # delivery_id -> why it is refused
        for (feed_name,), of_feed in chunk.group_by("feed", maintain_order=True):
            name = str(feed_name)
            found_verdicts = _verdicts(project, name, of_feed, listed, erased, suites, settings)
            whys = {delivery_id: verdict.why for delivery_id, verdict in found_verdicts.items()}
            no_more = of_feed.filter(pl.col("verdict") == "accepted", pl.col("delivery_id").is_in(_refused(whys)))
            if not no_more.is_empty():
                _enter_verdicts(project, no_more, whys, settings)
            _write(project, name, tables, of_feed, [*found_verdicts.values()], settings)
            for delivery in of_feed.iter_rows(named=True):
                verdict, uri = found_verdicts[delivery["delivery_id"]], delivery["uri"]
                if verdict.why:
                    why = f"{uri}: {verdict.why}"
                    refused.append(Refusal(feed=name, day=delivery["day"], uri=uri, why=why))
                warnings += sum(not r["success"] and r["severity"] == "warning" for r in verdict.results)
                rows += verdict.clean.height
                quarantined += verdict.quarantine.height
            verdicts |= whys
        _enter_verdicts(project, chunk, verdicts, settings)
        decided = pl.col("verdict").is_in(SET_ASIDE) | pl.col("delivery_id").is_in(_refused(verdicts))
        accepted += chunk.filter(~decided).height
    for refusal in refused:
        log.warning("refused: %s", refusal.why)
    return VerdictCounts(accepted, tuple(refused), warnings, rows, quarantined)


def _chunks(project: Project, deliveries: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the deliveries in order, several at a time."""
    first = values = 0
    for n, (feed, rows) in enumerate(deliveries.select("feed", "rows").iter_rows()):
        own = rows * len(project.feeds[feed].kept)
        if n > first and (n - first == CHUNK_DELIVERIES or values + own > CHUNK_VALUES):
            yield deliveries[first:n]
            first, values = n, 0
        values += own
    yield deliveries[first:]


def _suites(project: Project) -> "Suites":
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # its import writes a hundred lines
    from include.quality.suites import Suites

    return Suites(project)


def _verdicts(
    project: Project,
    name: str,
    of_feed: pl.DataFrame,
    listed: pl.DataFrame,
    erased: Erasures,
    suites: "Suites",
    settings: Settings,
) -> dict[str, _Verdict]:
    """Map each `delivery_id` to its verdict."""
    feed, deliveries = project.feeds[name], [*of_feed.iter_rows(named=True)]
    scope = Scope.of_deliveries(of_feed["day"].to_list(), of_feed["delivery_id"].to_list())
    all_raw = (
        Tables(settings)
        .scan(raw_table(project.name, name))
        .filter(scope.expr())
        .sort("day", "delivery_id", "_row")
        .collect()
    )
    key = read_hash_key(settings, project.name)
    all_raw = without_erased_hashes(feed, all_raw, erased, key)
    plain = opened(feed, all_raw, key)
    stored, raws, typed = (_parts(rows, deliveries) for rows in (all_raw, plain, typed_rows(project, feed, plain)))
    _require_rows(raw_table(project.name, name), deliveries, raws)
    before = rows_before(listed, name, snapshot=feed.is_snapshot)
    whole = set(counting_rows(listed.filter(pl.col("feed") == name))["delivery_id"])
    histories = [
        partial(before, d["day"], d["available_from"]) if d["delivery_id"] in whole else None for d in deliveries
    ]
    found = suites.findings(name, typed, histories)
    found_verdicts = {}
    for delivery, rows, unexplained in zip(deliveries, map(_Rows, stored, raws, typed), found, strict=True):
        findings = [_explained(project, feed, finding, rows.raw, rows.typed) for finding in unexplained]
        verdict = _verdict_on(project, delivery, rows, findings, settings.run_id)
        found_verdicts[delivery["delivery_id"]] = verdict
        if any(finding.critical for finding in findings):
            _write_page(project, delivery, rows.raw.height, verdict, findings, settings)
    return found_verdicts


def _explained(project: Project, feed: Feed, finding: "Finding", raw: pl.DataFrame, typed: pl.DataFrame) -> "Finding":
    """Return a finding; one about malformed values says why they are malformed."""
    if finding.success or finding.columns != ("_malformed",):
        return finding
    return replace(finding, observed=_why_malformed(project, feed, raw, typed))


def _why_malformed(project: Project, feed: Feed, raw: pl.DataFrame, typed: pl.DataFrame) -> str:
    """Say what malformed values look like, and which line of YAML would accept them."""
    names = typed["_malformed"].drop_nulls().str.split(",").explode().unique(maintain_order=True)
    whys = []
    for name in names[:MAX_EXPLAINED]:
        if name == "entity_id":
            whys.append(f"entity_id: longer than {MAX_KEY_BYTES:,} bytes; shorten a column of the key")
            continue
        column = feed.columns[name]
        if column.data_class == "identifier":
            whys.append(f"{name}: a value does not match its format")
            continue
        if not all(column.has_form(text) for text in raw[name].drop_nulls().unique() if "\x00" not in text):
            whys.append(f"{name}: a value does not match its format, {column.format}")
            continue
        if name == feed.day_column:
            if typed.select(schemas.is_of_another_date(feed, project.timezone)).to_series().any():
                whys.append(f"{name}: a row is of another date than the file ({typed['day'][0]})")
            if not (raw[name].is_not_null() & typed[name].is_null()).any():
                continue
        parsed = raw.select(schemas.parse(pl.col(name), column.type, feed.format)).to_series()
        if not (parsed.is_not_null() & typed[name].is_null()).any():
            alike = pl.concat([raw[other] for other, declared in feed.kept.items() if declared.type == column.type])
            whys.append(f"{name}: {explain(feed.format, column.type, raw[name], alike, project.timezone)}")
        else:
            whys.append(f"{name}: found {UNSTORABLE[column.type]}")
    return "; ".join(whys)


def _require_rows(table: str, deliveries: Sequence[dict[str, Any]], raws: Sequence[pl.DataFrame]) -> None:
    """Refuse to validate deliveries whose rows are not in the archive, as after a restore of an older copy."""
    lost = [d for d, raw in zip(deliveries, raws, strict=True) if raw.height != d["rows"]]
    if lost:
        raise DataError(
            f"{table} lacks rows of {len(lost)} deliveries that the journal has; the first is "
            f"{lost[0]['delivery_id']}, with {lost[0]['rows']} rows; restore the table from a backup that is not older "
            "than the journal"
        )


def _parts(rows: pl.DataFrame, deliveries: Sequence[dict[str, Any]]) -> list[pl.DataFrame]:
    """Return the rows of each delivery."""
    parts = rows.partition_by("delivery_id", as_dict=True)
    return [parts.get((delivery["delivery_id"],), rows.clear()) for delivery in deliveries]


def _verdict_on(
    project: Project, delivery: dict[str, Any], rows: _Rows, findings: Sequence["Finding"], run_id: str
) -> _Verdict:
    raw, typed = rows.raw, rows.typed
    name, feed = delivery["feed"], project.feeds[delivery["feed"]]
    taken = not any(finding.refuses for finding in findings)
    failed = [finding for finding in findings if finding.critical]
    why = None if taken else "; ".join(finding.sentence for finding in failed)
    broken: dict[int, list[str]] = {}  # place of a row -> the rules that it broke
    results = []
    for finding in findings:
        quarantines = taken and finding.quarantines
        for place in finding.at if quarantines else ():
            broken.setdefault(place, []).append(finding.rule)
        shown = [] if finding.success else examples(project, name, finding.columns, raw, typed, finding.at)
        results.append({
            "project": project.name,
            **{column: delivery[column] for column in ("feed", "day", "delivery_id")},
            "expectation": finding.expectation,
            "column": finding.column,
            "severity": finding.severity,
            "success": finding.success,
            "rows": finding.rows,
            "unexpected_rows": finding.unexpected_rows,
            "observed": finding.observed,
            "quarantined_rows": len(finding.at) if quarantines else 0,
            "examples": shown,
        })
        if not finding.success:
            level = logging.WARNING if finding.critical else logging.INFO
            follows = "quarantined" if quarantines else "refused" if finding.critical else "recorded only"
            shown_rows = f"; {sentence(shown)}" if shown else ""
            about = (name, delivery["day"], delivery["uri"], finding.sentence, shown_rows, follows)
            log.log(level, "%s %s, %s: %s%s → %s", *about)
    places = sorted(broken)
    left = [place for place in range(raw.height) if place not in broken]
    kept = schemas.quarantine(feed).keys()
    quarantine = rows.stored[places].with_columns(
        _malformed=typed["_malformed"].gather(places),
        rule=pl.Series(["; ".join(dict.fromkeys(broken[place])) for place in places], dtype=pl.String()),
        run_id=pl.lit(run_id),
    )
    clean = typed[left].select(schemas.clean(project, feed).keys())
    return _Verdict(why, clean if taken else clean.clear(), quarantine.select(kept), results)


def _write_page(
    project: Project,
    delivery: dict[str, Any],
    rows: int,
    verdict: _Verdict,
    findings: Sequence["Finding"],
    settings: Settings,
) -> None:
    """Write the page with which people fix the delivery or the rule. If it cannot be written, the step continues."""
    from include.quality.page import Validation, render

    path = artifacts.page_of(project.name, delivery["feed"], delivery["day"], delivery["delivery_id"])
    about = Validation(
        project=project.name,
        **{name: delivery[name] for name in ("feed", "day", "uri", "delivery_id")},
        why=verdict.why,
        rows=rows,
        quarantined=verdict.quarantine.height,
        run_id=settings.run_id,
    )
    try:
        uri = artifacts.write(settings, path, render(about, findings, verdict.results))
    except Exception:
        log.exception("the page about %s could not be written", delivery["uri"])
    else:
        log.warning("the validation page of %s: %s", delivery["uri"], uri)


def _write(
    project: Project,
    name: str,
    tables: Tables,
    of_feed: pl.DataFrame,
    found_verdicts: Sequence[_Verdict],
    settings: Settings,
) -> None:
    """Write clean rows and quality results, then quarantine, by which `revalidate` finds what to validate again.

    Refused deliveries are in the scope too, so that rows which an earlier, laxer rule accepted are removed.
    """
    scope = Scope.of_deliveries(of_feed["day"].to_list(), of_feed["delivery_id"].to_list())
    clean = pl.concat([verdict.clean for verdict in found_verdicts])
    sort_by = ["day", "delivery_id", *project.feeds[name].key]
    tables.replace(clean_table(project.name, name), partial(_instead, clean), scope, sort_by=sort_by)
    postgres.audit.record_quality(settings, [result for verdict in found_verdicts for result in verdict.results])
    quarantine = pl.concat([verdict.quarantine for verdict in found_verdicts])
    sort_by = ["day", "delivery_id", "_row"]
    tables.replace(quarantine_table(project.name, name), partial(_first_run, quarantine), scope, sort_by=sort_by)


def _instead(wanted: pl.DataFrame, current: pl.DataFrame) -> pl.DataFrame:
    """Return the new rows for `Tables.replace`, which commits nothing if they are equal to the current ones."""
    return wanted


def _first_run(wanted: pl.DataFrame, current: pl.DataFrame) -> pl.DataFrame:
    """Return the new rows for quarantine; a row keeps the run that first quarantined it for the same reason."""
    same = ["delivery_id", "_row", "rule"]
    before = current.select(*same, before="run_id").unique(same)
    joined = wanted.join(before, on=same, how="left", maintain_order="left")
    return joined.with_columns(run_id=pl.coalesce("before", "run_id")).drop("before").select(wanted.columns)


def _refused(verdicts: dict[str, str | None]) -> list[str]:
    return [delivery_id for delivery_id, why in verdicts.items() if why]


def _enter_verdicts(
    project: Project, deliveries: pl.DataFrame, verdicts: dict[str, str | None], settings: Settings
) -> None:
    """Enter verdicts into the journal. A verdict that a delivery has already is not entered again.

    A decision that a person made since the delivery was read stays: a withdrawn delivery is not accepted by this run.
    """
    with postgres.journal.write_journal(settings, project.name) as writer:
        asked = deliveries.select("delivery_id")
        now = writer.known().deliveries.join(asked, on="delivery_id", how="semi")
        entries = []
        for delivery in now.iter_rows(named=True):
            why = verdicts[delivery["delivery_id"]]
            has = (delivery["verdict"], delivery["why"])
            decided = delivery["verdict"] in SET_ASIDE
            if not decided and has != ("refused" if why else "accepted", why):
                entries.append(Entry.verdict(delivery["delivery_id"], delivery["feed"], delivery["day"], why))
        writer.add(entries)


def typed_rows(project: Project, feed: Feed, raw: pl.DataFrame) -> pl.DataFrame:
    """Parse raw rows into the columns of `schemas.clean`.

    `_malformed` names the columns whose text cannot be parsed or stored, `entity_id` where it is too long, and the day
    column of a row of another date than its file.
    """
    kept = feed.kept.items()
    typed = raw.with_columns(
        schemas.typed(pl.col(name), column, feed.format, project.timezone) for name, column in kept
    )
    written = raw.select(values.present(pl.col(name), feed.format) for name in feed.kept)
    unread = [
        pl.when(written[name].is_not_null() & typed[name].is_null()).then(pl.lit(name)).otherwise(None)
        for name in feed.kept
    ]
    late = schemas.is_of_another_date(feed, project.timezone)
    unread.append(pl.when(late).then(pl.lit(feed.day_column)))
    if schemas.has_entity(project, feed):
        typed = typed.with_columns(schemas.entity_id(project))
        unread.append(pl.when(pl.col("entity_id").str.len_bytes() > MAX_KEY_BYTES).then(pl.lit("entity_id")))
    malformed = pl.concat_str([pl.col("_malformed"), *unread], separator=",", ignore_nulls=True)
    return typed.with_columns(malformed.replace("", None).alias("_malformed"))
