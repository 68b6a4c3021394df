"""rollback: make an earlier version the champion again, and let readers see its predictions. By hand only.

The promotion history and the pointers of all days change in one transaction, so readers see all of a rollback or
nothing, and a rollback that was killed is either done or not begun.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import date

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.lifecycle import State, is_person
from include.core.records import PreparedDay, RollbackPlan, RolledBack, RolledBackDay, ScoredDay
from include.core.settings import Settings
from include.io import postgres
from include.io.exports import export_published
from include.io.journal import export, require_exported
from include.io.postgres.predictions import StoredBatch, point_readers, select_stored
from include.io.postgres.promotions import PromotionHistory, open_promotion_history
from include.io.postgres.readers_news import announce_publication
from include.steps.promote import require_sound, sync_alias
from include.steps.public_page import refresh_public_page, require_public_page
from include.steps.publish import publish
from include.steps.score import score

log = logging.getLogger(__name__)

PREVIOUS = "previous"
"""In place of a version: the champion before the champion of now."""

MAX_TRIES = 3  # a nightly run can publish a day while days are scored


def plan_rollback(
    model: Model,
    settings: Settings,
    *,
    to: str,
    by: str,
    why: str,
    from_day: date | None = None,
    force: bool = False,
) -> RollbackPlan:
    """Return what a rollback will do; nothing is written.

    Args:
        model: the model.
        settings: where the database, tables and MLflow are.
        to: the number of a version, or `previous`: the champion before the champion of now. After a rollback,
            `previous` is that rollback again, so that two people who type the same do not undo each other.
        by: who decided it.
        why: the reason.
        from_day: the first day; by default the newest published day, so that past days stay as they are.
        force: also to a version that was never the champion.

    Raises:
        ActionRequiredError: there is no champion before, no such version, it was never the champion, its files are gone
            or other ones, or a day that has to be scored is not prepared.
    """
    if not is_person(by.strip()) or not by.strip() or not why.strip():
        raise ActionRequiredError(f"{model.name}: a rollback needs who decided it and why: --by and --why")
    load_project(model.project).refuse_entity_fraction("rollback")
    with open_promotion_history(settings, model.name) as book:
        version, replaces = _versions(model, book, to)
        _require_champion_before(model, version, book.state(version), force=force)
        published, newest = book.newest_published_day(), book.newest()
        assert newest is not None
        first_day = from_day or published or newest.from_day
        if from_day is not None and published is not None and from_day > published:
            raise ActionRequiredError(
                f"{model.name}: nothing is published from {from_day} on, the newest published day is {published}. Roll "
                f"back from that day, or: python -m include.cli promote --model {model.name} --version {version} "
                f"--from-day {from_day} --by … --why …"
            )
        batches = select_stored(book.connection, model.name, version, first_day)
    require_sound(model, settings, version, first_day)
    last_day = max([first_day, *(batch.day for batch in batches)])
    prepared = _prepared(model, settings, Interval(start=first_day, end=last_day))
    stored = _usable(batches, prepared)
    to_score = sorted({batch.day for batch in batches} - stored.keys())
    if missing := [day for day in to_score if day not in prepared]:
        head = (
            f"{model.name}: version {version} has no stored batch of {len(missing)} published days that are not "
            "prepared, so it cannot score them. Nothing was changed. Prepare them, then roll back again:"
        )
        conf = 'airflow dags trigger {project}_prepare --conf \'{{"day": "{day}"}}\''
        raise ActionRequiredError([head, *(conf.format(project=model.project, day=day) for day in missing[:10])])
    return RollbackPlan(
        model=model.name,
        model_version=version,
        replaces=replaces,
        first_day=first_day,
        last_day=last_day,
        stored=tuple(sorted(stored)),
        to_score=tuple(to_score),
    )


def rollback(
    model: Model,
    interval: Interval,
    settings: Settings,
    *,
    to: str,
    by: str,
    why: str,
    force: bool = False,
    scored: Sequence[ScoredDay] | None = None,
) -> RolledBack:
    """Make an earlier version the champion from the first day of `interval` on, and publish its predictions again.

    Published days from that day on show the version's stored batch where there is one, else they are scored and stored
    first. Then the promotion history and all pointers change in one transaction, and the registry's alias follows. To
    run it again changes nothing more, and finishes one that was killed.

    Args:
        model: the model.
        interval: the days; those after its last day follow if they are published.
        settings: where the database, tables and MLflow are.
        to: see `plan_rollback`.
        by: who decided it.
        why: the reason.
        force: also to a version that was never the champion.
        scored: the days that the version scored elsewhere; None to score here what has to be scored.

    Raises:
        ActionRequiredError: see `plan_rollback`; or a day was published since, which `scored` does not have; or the
            place of the public page is not known or another one, and nothing was changed; or the page could not be
            written after the change.
    """
    by, why = by.strip(), why.strip()
    require_exported(settings, model.project)
    require_public_page(settings, load_project(model.project), unreachable_too=False)
    fresh: set[date] = set()
    for _ in range(MAX_TRIES):
        plan = plan_rollback(model, settings, to=to, by=by, why=why, from_day=interval.start, force=force)
        to = str(plan.model_version)
        if plan.to_score:
            _store(model, settings, plan, scored)
            fresh |= {*plan.to_score}
        done = _switch(model, settings, plan, by=by, why=why, force=force, fresh=fresh)
        if done is not None:
            sync_alias(model, settings)
            export(settings, model.project)
            project = load_project(model.project)
            export_published(settings, project, model, [day.day for day in done.days])
            for day in done.days:
                log.info("%s %s: %s, instead of version %d", model.name, day.day, day.state, day.instead_of)
            log.info("%s", done.sentence)
            refresh_public_page(settings, project)
            return done
    raise ActionRequiredError(
        f"{model.name}: days were published while the rollback ran; nothing changed. Run it again"
    )


def _versions(model: Model, book: PromotionHistory, to: str) -> tuple[int, int]:
    """Return the version to go back to, and the champion that it replaces."""
    newest = book.newest()
    if newest is None:
        raise ActionRequiredError(f"{model.name} has no champion yet, so there is nothing to roll back")
    if to != PREVIOUS:
        if not to.isdecimal() or int(to) < 1:
            raise ActionRequiredError(f"{model.name}: --to {to} is neither a version number nor `{PREVIOUS}`")
        before = book.before(newest) if int(to) == newest.model_version else None
        return int(to), newest.model_version if before is None else before.model_version
    before = book.before(newest)
    if before is None:
        raise ActionRequiredError(
            f"{model.name}: version {newest.model_version} is the first champion, there is none before it. To take its "
            f"predictions back: python -m include.cli unpublish --model {model.name} --day …"
        )
    if newest.rolled_back_from is not None:
        log.warning(
            "%s: %s made version %d the champion again on %s. `previous` is that rollback; to go further back, "
            "name the version", model.name, newest.by, newest.model_version, newest.created_at.date(),
        )  # fmt: skip
        return newest.model_version, before.model_version
    return before.model_version, newest.model_version


def _require_champion_before(model: Model, version: int, state: State, *, force: bool) -> None:
    if force or state in (State.CHAMPION, State.REPLACED):
        return
    raise ActionRequiredError(
        f"version {version} of {model.name} was never the champion, it is {state}. Roll back to a version of the view "
        "promotion_history; to this one only with --force"
    )


def _prepared(model: Model, settings: Settings, interval: Interval) -> dict[date, PreparedDay]:
    return {day.day: day for day in postgres.days.read_prepared_days(settings, model.project, interval)}


def _usable(batches: Sequence[StoredBatch], prepared: Mapping[date, PreparedDay]) -> dict[date, str]:
    """Return the batch of each day that is about the features that the day has now."""
    found = {}
    for batch in batches:
        day = prepared.get(batch.day)
        if batch.batch_id is None or batch.rows is None:
            continue
        if day is None or (
            batch.as_of == day.as_of and (batch.erased or batch.rows == day.rows_up_to(batch.horizon_days or 0))
        ):
            found[batch.day] = batch.batch_id
    return found


def _store(model: Model, settings: Settings, plan: RollbackPlan, scored: Sequence[ScoredDay] | None) -> None:
    """Store a batch of each day that has none, without showing it to readers."""
    wanted = Interval(start=plan.to_score[0], end=plan.to_score[-1])
    if scored is None:
        versions = dict.fromkeys(plan.to_score, plan.model_version)
        scored = score(model, wanted, settings, versions=versions).days
    days = [day for day in scored if day.day in plan.to_score and day.model_version == plan.model_version]
    if missing := {*plan.to_score} - {day.day for day in days}:
        raise ActionRequiredError(
            f"{model.name}: {', '.join(map(str, sorted(missing)))} was published after the rollback began, and is not "
            "scored yet. Nothing changed for readers. Clear the run, or roll back again"
        )
    publish(model, wanted, settings, mode="missing", days=days)


def _switch(
    model: Model, settings: Settings, plan: RollbackPlan, *, by: str, why: str, force: bool, fresh: set[date]
) -> RolledBack | None:
    """Change the promotion history and the pointers together; None if a day has no batch of the version."""
    version, first_day = plan.model_version, plan.first_day
    found, files, records = require_sound(model, settings, version, first_day)
    trained = date.fromisoformat(found.tags["day"])
    with open_promotion_history(settings, model.name) as book:
        batches = select_stored(book.connection, model.name, version, first_day)
        last_day = max([plan.last_day, *(batch.day for batch in batches)])
        stored = _usable(batches, _prepared(model, settings, Interval(start=first_day, end=last_day)))
        seen = {batch.day: batch for batch in batches}
        if seen.keys() - stored.keys():
            return None
        state = book.state(version)
        _require_champion_before(model, version, state, force=force)
        forced = state not in (State.CHAMPION, State.REPLACED)
        rows = []
        # The newest day first, so that the version becomes the champion once, and replaces the champion of now.
        for day in reversed([first_day, *book.from_days_after(first_day)]):
            champion = book.on(day)
            if champion is None or champion.model_version != version:
                gate_id = records[0][0].gate_id if records else None
                rows.append(book.add(
                    version, day, by=by, why=why, trained_day=trained, gate_id=gate_id, forced=forced,
                    rolled_back_from=plan.replaces, announce_to=model.champion_messages,
                ))  # fmt: skip
        book.enter_promotions(model.project, rows, files)
        changed = {day: batch for day, batch in stored.items() if seen[day].published_id != batch}
        replaced = {day: seen[day].published_id for day in changed}
        point_readers(book.connection, settings.run_id, model, changed, replaced)
    announce_publication(settings, load_project(model.project), model.name)
    days = tuple(
        RolledBackDay(
            day=day,
            state="unchanged" if day not in changed else "scored" if day in fresh else "stored",
            batch_id=stored[day],
            instead_of=seen[day].published_version,
        )
        for day in sorted(stored)
    )
    return RolledBack(
        interval=Interval(start=first_day, end=last_day),
        rows=len(changed),
        model_version=version,
        model=model.name,
        by=by,
        why=why,
        replaces=plan.replaces,
        first_day=first_day,
        recorded=bool(rows),
        forced=forced,
        days=days,
    )
