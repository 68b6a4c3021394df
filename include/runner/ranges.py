"""Run a step over many days in chunks, which limits memory. A failed day does not stop the others.

`step_runs` records which days are done, so a run that is started again continues.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from typing import Any

from include.config.model import Model
from include.core.errors import ActionRequiredError, ConfigError, LockTimeoutError, UnfinishedError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import FailedDay, Ranged
from include.core.settings import Settings, utc_now
from include.io import postgres
from include.runner.run import run
from include.steps.declared import STEPS

log = logging.getLogger(__name__)

MAX_REASON = 500  # characters kept of the reason why a day failed


def run_range(
    step: str,
    config: Project | Model,
    interval: Interval,
    days: Iterable[date],
    settings: Settings,
    *,
    report: Callable[[str], None] = log.info,
    **options: Any,
) -> Ranged:
    """Run a step for `days` of the interval, one chunk at a time; call `report` with the progress.

    If the step raises `ActionRequiredError` for a day, that day is listed as failed, and the other days are done
    without it. Errors that are not about a day, such as a database that does not answer, are raised.
    """
    chunks = [chunk for part in Interval.covering(days) for chunk in part.chunks(STEPS[step].range_days)]
    total, rows = sum(len(chunk.days) for chunk in chunks), 0
    done: list[date] = []
    failed: list[FailedDay] = []
    for chunk in chunks:
        for part, found in _parts(step, config, chunk, settings, options):
            if isinstance(found, str):
                failed.append(FailedDay(day=part.start, step=step, why=found))
                log.error("%s of %s for %s failed: %s", step, config.name, part, found)
            else:
                rows += found
                done += part.days
        report(f"{step} of {config.name}: {len(done)} of {total} days done, {len(failed)} failed; now at {chunk.end}")
    return Ranged(
        interval=interval,
        rows=rows,
        done=tuple(Interval.covering(done)),
        failed=tuple(sorted(failed, key=lambda each: each.day)),
    )


def _parts(
    step: str, config: Project | Model, interval: Interval, settings: Settings, options: dict[str, Any]
) -> Iterator[tuple[Interval, int | str]]:
    """Yield parts of the interval with the number of rows, and each failed day with the reason."""
    try:
        rows = run(step, config, interval, settings, **options).rows
    except (ConfigError, LockTimeoutError, UnfinishedError):  # the error is about every day
        raise
    except ActionRequiredError as error:
        if interval.start == interval.end:
            found: list[tuple[Interval, int | str]] = [
                (interval, _shortened(error.by_day.get(interval.start, "; ".join(error.lines))))
            ]
            rest: list[Interval] = []
        else:
            bad = {day: why for day, why in error.by_day.items() if day in interval.days}
            found = [(Interval.of(day), _shortened(why)) for day, why in bad.items()]
            # if the failing day is unknown, it is in one of the halves
            halves = interval.chunks((len(interval.days) + 1) // 2)
            rest = Interval.covering(set(interval.days) - bad.keys()) if bad else [*halves]
    else:
        found, rest = [(interval, rows)], []
    yield from found
    for part in rest:
        yield from _parts(step, config, part, settings, options)


def _shortened(why: str) -> str:
    return why if len(why) <= MAX_REASON else f"{why[:MAX_REASON]} …"


def record_range(project: Project, interval: Interval, settings: Settings, *, done: bool) -> None:
    """Record how a run over a range ended. A run that has done all its days does them all again when started again."""
    now = utc_now()
    postgres.audit.record_step(
        settings,
        "backfill_range",
        project.name,
        interval,
        state="success" if done else "failed",
        started_at=now,
        ended_at=now,
        error=None if done else ActionRequiredError("days failed"),
    )
