"""latency: say how long run dates took from the landing of their last file to their published predictions."""

from datetime import date
from zoneinfo import ZoneInfo

import polars as pl

from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings, utc_now
from include.core.terminal import fold, table
from include.io import postgres

MOST = 60
"""The most rows that are printed; the view `latency` has all."""
HEAD = ("run date", "model", "landed", "prepare", "score", "latency", "")


def lines_of(
    project: Project, settings: Settings, start: date | None, end: date | None, *, width: int | None
) -> list[str]:
    """Return the newest run dates as a table, and a sentence about the live ones."""
    last = end or project.day_of(utc_now())
    found = postgres.latency.read_latency(settings, project.name, Interval(start=start or date.min, end=last))
    return words(found, project.zone, project.name, width)


def words(found: pl.DataFrame, zone: ZoneInfo, project: str, width: int | None) -> list[str]:
    """Return the lines about rows of `postgres.latency.COLUMNS`; times are in the project's zone."""
    if not found.height:
        return [f"{project}: nothing is published of these run dates"]
    rows = [
        (
            str(row["day"]),
            row["model"],
            f"{row['landed_at'].astimezone(zone):%m-%d %H:%M:%S}",
            duration(row["prepare_seconds"]),
            duration(row["publish_seconds"]),
            duration(row["seconds"]),
            "backfill" if row["reconstructed"] else "",
        )
        for row in found.head(MOST).iter_rows(named=True)
    ]
    lines = table(HEAD, rows, width, right=("prepare", "score", "latency"))
    more = [f"… and {found.height - MOST} more rows (view latency)"] if found.height > MOST else []
    live = found.filter(~pl.col("reconstructed"))["seconds"].sort()
    said = f"{project}: no run date was live"
    if live.len():
        median, slowest = float(live.median() or 0), float(live.max() or 0)  # type: ignore[arg-type]
        took = f"{duration(median)} (median), {duration(slowest)} at most"
        said = f"{project}: {live.len()} live run dates of models took {took}"
    rule = (
        "latency: from the last file that a run date needed, or from the cutoff if the file was there before, to its "
        "first published predictions. A backfill says how long a day was not run, and not how fast a run is."
    )
    return [*lines, *more, "", *fold(said, width), *fold(rule, width)]


def duration(seconds: float) -> str:
    """Return a duration in the two units that matter: 42 s, 3 m 05 s, 2 h 07 m, 12 d 03 h."""
    whole = round(seconds)
    if abs(whole) < 60:
        return f"{whole} s"
    for size, unit, below, small in ((3600, "m", 60, "s"), (86400, "h", 3600, "m")):
        if abs(whole) < size:
            return f"{whole // below} {unit} {whole % below // (below // 60):02d} {small}"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"
