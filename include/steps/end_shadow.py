"""end_shadow: decide about the version that scores beside the champion, once enough outcomes are known."""

import logging
from datetime import date, timedelta

import polars as pl

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.lifecycle import BY_PRODUCT, State
from include.core.records import Check, ShadowEnded
from include.core.settings import Settings
from include.gate.shadow import ShadowSoFar
from include.io import postgres
from include.io.postgres.shadows import ShadowEnd
from include.steps.hold_as_shadow import find_running

log = logging.getLogger(__name__)


def end_shadow(model: Model, interval: Interval, settings: Settings) -> ShadowEnded:
    """Compare the shadow with the champion on the days that the run date knows, and end it if these are enough.

    Both are compared on the same entities. Not worse by the tolerance of the gate's check against the champion: the
    step `promote` makes it the champion or, where approval is declared, people are asked. Worse: it is declined. Too
    few days for too long: it expires. The figures are in the decision. A repeated run, or one that was killed, ends the
    same, because a recorded end is kept.

    Raises:
        DataError: outcomes are none that the problem type can have, or the version was decided meanwhile.
    """
    if model.shadow is None:
        return _nothing(model, interval, "model.yaml declares no shadow")
    day = interval.end
    with postgres.promotions.open_promotion_history(settings, model.name) as book:
        version, champion, ends = find_running(book), book.newest(), book.shadow_ends()
    if version is None or champion is None:
        return _nothing(model, interval, f"{model.name}: no version is a shadow")
    if (end := ends.get(version)) is None:
        so_far = _measure(model, version, champion.model_version, day, settings)
        if so_far is None:
            return _nothing(model, interval, f"{model.name}: version {version} is not a shadow yet on {day}")
        sentence = f"{model.name} version {version}: {so_far.describe_progress()}"
        if not so_far.complete and day < so_far.last_run_date:
            log.info("%s; it goes on", sentence)
            return ShadowEnded(
                interval=interval,
                rows=so_far.rows,
                model_version=version,
                model=model.name,
                passed=None,
                sentence=f"{sentence}; it goes on",
            )
        end = _end(model, so_far, version, champion.model_version, day)
        _record(model, end, settings)
    log.log(logging.INFO if end.passed else logging.WARNING, "%s version %d %s: %s", model.name, version,
            "passed as a shadow" if end.passed else "ended as a shadow", end.sentence)  # fmt: skip
    return ShadowEnded(
        interval=interval,
        rows=end.rows,
        model_version=version,
        model=model.name,
        passed=end.passed,
        sentence=end.sentence,
    )


def _measure(model: Model, version: int, champion: int, day: date, settings: Settings) -> ShadowSoFar | None:
    """Measure the days of a shadow up to a run date; None before its first day."""
    project, problem = load_project(model.project), model.problem
    trained = postgres.model_files.read_versions(settings, model.name, [version])[version].trained_day
    if trained is None or day <= trained:
        return None
    assert model.shadow is not None

    def measure(own: pl.DataFrame, other: pl.DataFrame) -> tuple[float, float]:
        truth = own["outcome"].to_numpy()
        if wrong := problem.wrong_labels(truth):
            raise DataError(
                f"{model.name}: {wrong} of {own.height} values of outcome {model.outcome} are other than "
                f"{problem.labels}"
            )
        loss, other_loss = (problem.loss_by_row(truth, problem.scores_of(rows)).mean() for rows in (own, other))
        return float(loss), float(other_loss)

    first_day = trained + timedelta(days=1)
    days = postgres.shadows.replace_shadow_days(
        settings,
        project,
        model.monitored,
        version=version,
        champion=champion,
        days=Interval(start=first_day, end=day),
        until=project.feeds[project.outcomes[model.outcome].feed].needed_day(day),
        measure=measure,
    )
    return ShadowSoFar(model.shadow, model.champion_check, first_day, days)


def _end(model: Model, so_far: ShadowSoFar, version: int, champion: int, day: date) -> ShadowEnd:
    if so_far.complete:
        check = so_far.compare(f"champion {champion}", model.problem.chosen_by, model.seed)
    else:
        why = f"expired on {day}: {so_far.describe_progress()}, and no later run date can count"
        check = Check(
            name="shadow",
            subject=model.problem.chosen_by,
            measured=None,
            threshold=so_far.check.at_most,
            passed=False,
            sentence=why,
        )
    return ShadowEnd(
        model_version=version,
        day=day,
        champion_version=champion,
        passed=check.passed,
        days=len(so_far.days),
        rows=so_far.rows,
        measured=check.measured,
        threshold=check.threshold,
        sentence=check.sentence,
    )


def _record(model: Model, end: ShadowEnd, settings: Settings) -> None:
    """Record the end, and move a version that did not pass, in one transaction."""
    with postgres.promotions.open_promotion_history(settings, model.name) as book:
        if book.state(end.model_version) is not State.PENDING or end.model_version in book.shadow_ends():
            raise DataError(
                f"{model.name}: version {end.model_version} was decided meanwhile (view version_history); run "
                "end_shadow again"
            )
        champion = book.newest()
        if champion is None or champion.model_version != end.champion_version:
            raise DataError(
                f"{model.name}: version {end.champion_version} is not the champion any more, with which version "
                f"{end.model_version} was compared; nothing is decided. Run end_shadow again"
            )
        book.end_shadow(end)
        if not end.passed:
            to = State.EXPIRED if end.measured is None else State.DECLINED
            book.move(end.model_version, to, by=BY_PRODUCT, why=f"as a shadow: {end.sentence}")


def _nothing(model: Model, interval: Interval, why: str) -> ShadowEnded:
    return ShadowEnded(interval=interval, rows=0, model=model.name, passed=None, sentence=why)
