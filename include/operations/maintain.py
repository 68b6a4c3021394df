"""maintain: what grows with the years, without a change of anything that was recorded.

- `compact`: small files of old days become larger ones, and each table gets the properties that new tables have.
- `vacuum`: files are removed that no version needs which a prepared day, a training, a fit or scores name.
- `months`: the tables of the shared database get the months to come, and lose those that `retention` does not keep and
  nothing needs; the planner gets statistics of the others.

Each part is safe beside a nightly run, and safe to kill: the next run does the rest.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import date, timedelta
from typing import Literal

import polars as pl

from include.config.loading import model_names
from include.core.interval import Interval
from include.core.kept_versions import deciding_versions, kept_versions
from include.core.names import clean_table, features_table, quarantine_table, raw_table, scores_table
from include.core.project import Project
from include.core.records import Maintained, MaintainedMonth, MaintainedTable
from include.core.settings import Settings, utc_now
from include.io import postgres, table_upkeep
from include.io.postgres.named_versions import Named
from include.io.registry import Registry
from include.io.tables import Tables

log = logging.getLogger(__name__)

Part = Literal["compact", "vacuum", "months"]
PARTS: tuple[Part, ...] = ("compact", "vacuum", "months")

GRACE = timedelta(days=14)
"""How long a version stays that nothing names: longer than any run lasts that read it and did not record it yet."""

SCORES = "stored scores"

COMING_MONTHS = 2
"""How many months after this one have their place in the shared database before their first row comes."""

RUNS_AT_ONCE = 10_000
"""The most rows about runs of steps that one transaction removes."""


def maintain(
    project: Project,
    interval: Interval,
    settings: Settings,
    *,
    only: Collection[Part] = PARTS,
    dry_run: bool = False,
    grace: timedelta = GRACE,
    by: str = "maintenance",
) -> Maintained:
    """Maintain what grows with the years.

    Args:
        project: the project.
        interval: the day on which it runs.
        settings: places and connections.
        only: the parts to do.
        dry_run: say what would be done, and change nothing.
        grace: how long versions stay that nothing names.
        by: who asked for it: `retention_history` says so.
    """
    tables = Tables(settings)
    there = [table for table in declared_tables(project) if tables.exists(table)]
    named = named_versions(project, settings, tables) if "vacuum" in only else {}
    before = interval.end - timedelta(days=min(reach(project), (interval.end - date.min).days))
    done = []
    for table in there:
        found = MaintainedTable(table=table)
        if "compact" in only:
            found = _compact(found, tables, before, dry_run=dry_run)
        if "vacuum" in only:
            found = _vacuum(found, settings, tables, named, grace, dry_run=dry_run)
        done.append(found)
    return Maintained(
        interval=interval,
        rows=sum(each.removed_files for each in done),
        dry_run=dry_run,
        tables=tuple(done),
        months=_months(project, interval.end, settings, by, dry_run=dry_run) if "months" in only else (),
        removed_runs=_runs(project, interval.end, settings, dry_run=dry_run) if "months" in only else 0,
        analyzed=_analyzed(project, settings, dry_run=dry_run) if "months" in only else (),
    )


def declared_tables(project: Project) -> list[str]:
    """Return the names of a project's Delta tables. Those of trials with a fraction of the entities are left alone."""
    of_feeds = [
        make(project.name, feed) for feed in project.feeds for make in (raw_table, clean_table, quarantine_table)
    ]
    return [*of_feeds, features_table(project.name), *_scores_tables(project)]


def reach(project: Project) -> int:
    """Return how many days back a nightly run may still write: it looks for corrections of the days that it reads."""
    return max(feed.delay_days + feed.lookback_days + feed.corrections_days for feed in project.feeds.values()) + 1


def _scores_tables(project: Project) -> list[str]:
    views = ("point_in_time", "latest")
    return [scores_table(model, view) for model in model_names(project.name) for view in views]


def _compact(found: MaintainedTable, tables: Tables, before: date, *, dry_run: bool) -> MaintainedTable:
    table = found.table
    properties = table_upkeep.missing_properties(tables, table)
    if properties and not dry_run:
        table_upkeep.set_properties(tables, table)
    look = table_upkeep.small_files if dry_run else table_upkeep.compact
    small = look(tables, table, before)
    return found.model_copy(
        update={
            "new_properties": tuple(f"{name}={value}" for name, value in properties.items()),
            "compacted_days": len(small.days),
            "compacted_files": small.files,
            "compacted_bytes": small.size,
        }
    )


def _vacuum(
    found: MaintainedTable, settings: Settings, tables: Tables, named: Named, grace: timedelta, *, dry_run: bool
) -> MaintainedTable:
    table = found.table
    log_of_table = table_upkeep.commits(tables, table)
    kept = kept_versions(log_of_table, named.get(table, {}), utc_now() - grace)
    keep = deciding_versions(log_of_table, kept)
    sizes = table_upkeep.sizes(settings, tables, table)
    # delta-rs also names files that an earlier vacuum removed, as long as its log has them
    gone = [path for path in table_upkeep.unneeded_files(tables, table, keep, grace) if path in sizes]
    if gone and not dry_run:
        table_upkeep.vacuum(tables, table, keep, grace)
    return found.model_copy(
        update={
            "kept": dict(Counter(kept.values())),
            "removed_files": len(gone),
            "removed_bytes": sum(sizes[path] for path in gone),
        }
    )


def first_kept_day(today: date, months: int) -> date:
    """Return the first day that is kept if so many whole months before that of `today` are."""
    whole = today.year * 12 + today.month - 1 - months
    return date(whole // 12, whole % 12 + 1, 1) if whole >= 12 else date.min


def _months(
    project: Project, today: date, settings: Settings, by: str, *, dry_run: bool
) -> tuple[MaintainedMonth, ...]:
    """Make the months to come, and remove those that `retention` does not keep and nothing needs."""
    if not dry_run:
        first = today.year * 12 + today.month - 1
        coming = [date(n // 12, n % 12 + 1, 1) for n in range(first, first + COMING_MONTHS + 1)]
        for missing in postgres.months.make_months(settings, project, coming):
            log.warning("%s: %s A publish of that month makes it, too", project.name, missing)
    declared = project.retention.predictions
    if declared is None:
        return ()
    kept = postgres.months.read_kept(settings, project.name)
    if kept is None:
        log.warning("%s: retention.predictions counts from the next migrate, so no month is removed", project.name)
        return ()
    past = first_kept_day(min(today, project.day_of(utc_now())), max(declared, kept))
    old = postgres.months.read_months(settings, project, past)
    needs = postgres.months.read_needs(settings, project, {each.month for each in old})
    free = sorted({each.month for each in old} - needs.keys())
    removed = set() if dry_run else {m for m in free if postgres.months.drop_month(settings, project, m, by)}
    for month in set() if dry_run else set(free) - removed:
        log.warning("%s: %s was in use by others, and is removed by a later run", project.name, f"{month:%Y-%m}")
    return tuple(
        MaintainedMonth(
            relation=each.relation,
            month=each.month,
            rows=each.rows,
            bytes=each.bytes,
            needed=tuple(needs.get(each.month, ())),
            removed=each.month in removed,
        )
        for each in old
    )


def _runs(project: Project, today: date, settings: Settings, *, dry_run: bool) -> int:
    """Remove runs of steps that `retention` does not keep, in transactions of bounded size; return how many."""
    if project.retention.runs is None:
        return 0
    before = first_kept_day(today, project.retention.runs)
    if dry_run:
        return postgres.months.count_runs(settings, project.name, before)
    removed = 0
    while gone := postgres.months.drop_runs(settings, project.name, before, RUNS_AT_ONCE):
        removed += gone
    return removed


def _analyzed(project: Project, settings: Settings, *, dry_run: bool) -> tuple[str, ...]:
    """Collect statistics of the tables with months; return of which. PostgreSQL itself does it for each month only."""
    tables = postgres.months.read_not_analyzed(settings, project)
    done = tables if dry_run else [table for table in tables if postgres.months.analyze(settings, table)]
    for table in sorted({*tables} - {*done}):
        log.warning("%s: %s was in use by others, and a later run collects its statistics", project.name, table)
    return tuple(done)


def named_versions(project: Project, settings: Settings, tables: Tables) -> Named:
    """Return the versions of tables that anything names, and why."""
    found = postgres.named_versions.read_named_versions(settings, project)
    if runs := postgres.named_versions.read_fits_without_origin(settings, project):
        registry = Registry(settings)
        for run in runs:
            postgres.named_versions.add_fit(found, project, registry.get_fit(run).tags)
    features = found.setdefault(features_table(project.name), {})
    for table in _scores_tables(project):
        if tables.exists(table):
            read = tables.scan(table).select(pl.col("features_version").unique()).collect().to_series()
            for version in read.drop_nulls():
                features.setdefault(int(version), SCORES)
    return found


def sentences(done: Maintained) -> Iterator[str]:
    """Yield lines about what was done, or would be done."""
    would = "would be " if done.dry_run else ""
    for each in done.tables:
        parts = []
        if each.new_properties:
            parts.append(f"{', '.join(each.new_properties)} {would}set")
        if each.compacted_files:
            size = _size(each.compacted_bytes)
            parts.append(
                f"{each.compacted_files:,} small files of {each.compacted_days:,} days ({size}) {would}compacted"
            )
        if each.removed_files:
            parts.append(f"{each.removed_files:,} files ({_size(each.removed_bytes)}) {would}removed")
        if each.kept:
            why = ", ".join(f"{count:,} for {reason}" for reason, count in sorted(each.kept.items()))
            parts.append(f"{sum(each.kept.values()):,} versions stay readable: {why}")
        yield f"{each.table}: {'; '.join(parts) or 'nothing to do'}"
    for month in done.months:
        what = f"{month.relation} of {month.month:%Y-%m}: {month.rows:,} rows ({_size(month.bytes)})"
        if month.needed:
            yield f"{what} stay: {'; '.join(month.needed)}"
        elif done.dry_run or month.removed:
            yield f"{what} {would}removed from the shared database"
        else:
            yield f"{what} stay until the next run: somebody used the table"
    if done.removed_runs:
        yield f"step_runs: {done.removed_runs:,} rows {would}removed"
    if done.analyzed:
        yield f"{', '.join(done.analyzed)}: statistics for the query planner {would}collected"
    removed = sum(each.removed_bytes for each in done.tables)
    mark = "–" if done.dry_run else "✓"
    yield f"{mark} {len(done.tables)} tables; {done.rows:,} files ({_size(removed)}) {would}removed"
    if done.dry_run:
        yield "This was a dry run: nothing was changed."


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
