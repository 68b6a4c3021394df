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
from include.core.erasure import Erasures
from include.core.feeds import Feed
from include.core.journal import SET_ASIDE, Entry
from include.core.names import clean_table, quarantine_table, raw_table
from include.core.point_in_time import counting_rows, rows_before
from include.core.project import Project
from include.core.records import Refusal
from include.core.settings import Settings
from include.io import artifacts, postgres
from include.io.tables import Scope, Tables
from include.quality.examples import EXAMPLES, examples, sentence
from include.quality.malformed import malformed_names, telling_rows, why_malformed
from include.steps.delivered import DeliveryRows, Reader, RowPlace, TypedRows, chunks, require_rows

if TYPE_CHECKING:
    from include.quality.suites import Finding, Suites

log = logging.getLogger(__name__)


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
    """The verdict on one delivery.

    Attributes:
        rows: the rows of the delivery.
        why: why it is refused, or None.
        broken: the rows that go to quarantine, in order: their `place` in the delivery (u32), and the `rule` (str).
        results: the quality results.
    """

    rows: DeliveryRows
    why: str | None
    broken: pl.DataFrame
    results: list[dict[str, Any]]

    @property
    def clean_rows(self) -> int:
        """The number of rows that become clean."""
        return self.rows.height - self.broken.height if self.why is None else 0

    def split(self, project: Project, rows: TypedRows, start: int, run_id: str) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return what clean and quarantine get of a block of rows that begins at a place of the delivery."""
        feed = project.feeds[self.rows.about["feed"]]
        here = self.broken.filter(pl.col("place").is_between(start, start + rows.height - 1))
        places = here["place"] - start
        quarantine = rows.stored[places].with_columns(
            _malformed=rows.typed["_malformed"].gather(places), rule=here["rule"], run_id=pl.lit(run_id)
        )
        clean = rows.typed.select(schemas.clean(project, feed).keys())
        left = pl.int_range(pl.len(), dtype=pl.UInt32).is_in(places.implode()).not_()
        return clean.filter(left) if self.why is None else clean.clear(), quarantine.select(
            schemas.quarantine(feed).keys()
        )


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
    place = _place_of_rows(project)
    for chunk in chunks(project, deliveries):
        verdicts: dict[str, str | None] = {}  # delivery_id -> why it is refused
        for (feed_name,), of_feed in chunk.group_by("feed", maintain_order=True):
            name = str(feed_name)
            reader = Reader(project, name, settings, erased)
            with place.rows(reader, of_feed, suites.rules[name]) as delivered:
                found_verdicts = _verdicts(project, name, delivered, listed, suites, settings)
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
                rows += verdict.clean_rows
                quarantined += verdict.broken.height
            verdicts |= whys
        _enter_verdicts(project, chunk, verdicts, settings)
        decided = pl.col("verdict").is_in(SET_ASIDE) | pl.col("delivery_id").is_in(_refused(verdicts))
        accepted += chunk.filter(~decided).height
    for refusal in refused:
        log.warning("refused: %s", refusal.why)
    return VerdictCounts(accepted, tuple(refused), warnings, rows, quarantined)


def _place_of_rows(project: Project) -> RowPlace:
    """Return where `run_on` says that rows are typed."""
    if project.run_on.get("validate") != "spark":
        return RowPlace()
    from include.steps.spark_rows import SparkRowPlace  # the import of pyspark takes a second

    return SparkRowPlace()


def _suites(project: Project) -> "Suites":
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # its import writes a hundred lines
    from include.quality.suites import Suites

    return Suites(project)


def _verdicts(
    project: Project,
    name: str,
    delivered: Sequence[DeliveryRows],
    listed: pl.DataFrame,
    suites: "Suites",
    settings: Settings,
) -> dict[str, _Verdict]:
    """Map each `delivery_id` to its verdict."""
    feed = project.feeds[name]
    before = rows_before(listed, name, snapshot=feed.is_snapshot)
    whole = set(counting_rows(listed.filter(pl.col("feed") == name))["delivery_id"])
    histories = [
        partial(before, each.about["day"], each.about["available_from"]) if each.about["delivery_id"] in whole else None
        for each in delivered
    ]
    found = suites.findings(name, [each.to_check for each in delivered], histories)
    require_rows(raw_table(project.name, name), delivered)
    found_verdicts = {}
    for rows, unexplained in zip(delivered, found, strict=True):
        findings = [_explained(project, feed, finding, rows) for finding in unexplained]
        verdict = _verdict_on(project, rows, findings)
        found_verdicts[rows.about["delivery_id"]] = verdict
        if any(finding.critical for finding in findings):
            _write_page(project, verdict, findings, settings)
    return found_verdicts


def _explained(project: Project, feed: Feed, finding: "Finding", rows: DeliveryRows) -> "Finding":
    """Return a finding; one about malformed values says why they are malformed."""
    if finding.success or finding.columns != ("_malformed",):
        return finding
    names = malformed_names(rows.typed())
    if rows.whole:
        raw, typed = rows.whole.raw, rows.whole.typed
    else:
        raw, typed = telling_rows(project, feed, names, ((block.raw, block.typed) for block in rows.blocks()))
    return replace(finding, observed=why_malformed(project, feed, names, raw, typed))


def _verdict_on(project: Project, rows: DeliveryRows, findings: Sequence["Finding"]) -> _Verdict:
    delivery = rows.about
    name = delivery["feed"]
    taken = not any(finding.refuses for finding in findings)
    failed = [finding for finding in findings if finding.critical]
    why = None if taken else "; ".join(finding.sentence for finding in failed)
    quarantining = [finding for finding in findings if taken and finding.quarantines]
    shown_at = sorted({place for finding in findings for place in finding.at[:EXAMPLES]})
    sample = rows.at(shown_at)
    results = []
    for finding in findings:
        at = [shown_at.index(place) for place in finding.at[:EXAMPLES]]
        shown = [] if finding.success else examples(project, name, finding.columns, sample.raw, sample.typed, at)
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
            "quarantined_rows": len(finding.at) if finding in quarantining else 0,
            "examples": shown,
        })
        if not finding.success:
            level = logging.WARNING if finding.critical else logging.INFO
            follows = "quarantined" if finding in quarantining else "refused" if finding.critical else "recorded only"
            shown_rows = f"; {sentence(shown)}" if shown else ""
            about = (name, delivery["day"], delivery["uri"], finding.sentence, shown_rows, follows)
            log.log(level, "%s %s, %s: %s%s → %s", *about)
    return _Verdict(rows, why, _broken(quarantining), results)


def _broken(quarantining: Sequence["Finding"]) -> pl.DataFrame:
    """Return the place of each row that breaks a rule, and the rules that it breaks."""
    places = {"place": pl.UInt32(), "rule": pl.String()}
    each = [
        pl.DataFrame({"place": pl.Series(finding.at, dtype=pl.UInt32)}).with_columns(rule=pl.lit(finding.rule))
        for finding in quarantining
    ]
    rules = pl.col("rule").unique(maintain_order=True).str.join("; ")
    return pl.concat([pl.DataFrame(schema=places), *each]).group_by("place").agg(rules).sort("place")


def _write_page(project: Project, verdict: _Verdict, findings: Sequence["Finding"], settings: Settings) -> None:
    """Write the page with which people fix the delivery or the rule. If it cannot be written, the step continues."""
    from include.quality.page import Validation, render

    delivery = verdict.rows.about
    path = artifacts.page_of(project.name, delivery["feed"], delivery["day"], delivery["delivery_id"])
    about = Validation(
        project=project.name,
        **{name: delivery[name] for name in ("feed", "day", "uri", "delivery_id")},
        why=verdict.why,
        rows=verdict.rows.height,
        quarantined=verdict.broken.height,
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
    clean, quarantine = clean_table(project.name, name), quarantine_table(project.name, name)
    results = [result for verdict in found_verdicts for result in verdict.results]
    sort_by = ["day", "delivery_id", "_row"]
    whole = [(verdict, verdict.rows.whole) for verdict in found_verdicts if verdict.rows.whole]
    if whole:
        split = [verdict.split(project, rows, 0, settings.run_id) for verdict, rows in whole]
        wanted_clean, wanted_quarantine = (pl.concat(frames) for frames in zip(*split, strict=True))
        tables.replace(clean, partial(_instead, wanted_clean), scope, sort_by=sort_by)
        postgres.audit.record_quality(settings, results)
        tables.replace(quarantine, partial(_first_run, wanted_quarantine), scope, sort_by=sort_by)
        return
    [verdict] = found_verdicts  # it has several blocks
    feed = project.feeds[name]

    def blocks(table: pl.LazyFrame, of: int) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        start = 0
        for rows, current in verdict.rows.with_current(table):
            wanted = verdict.split(project, rows, start, settings.run_id)[of]
            yield wanted if of == 0 else _first_run(wanted, current), current
            start += rows.height

    tables.replace_blocks(clean, partial(blocks, of=0), verdict.clean_rows, scope, schema=schemas.clean(project, feed))
    postgres.audit.record_quality(settings, results)
    tables.replace_blocks(
        quarantine, partial(blocks, of=1), verdict.broken.height, scope, schema=schemas.quarantine(feed)
    )


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
