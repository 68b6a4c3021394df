"""promote: make a version the champion from a day on.

The promotion history is the source of truth; the registry's alias mirrors it.
"""

import logging
from datetime import date, datetime, timedelta
from typing import Any

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.lifecycle import BY_PRODUCT, State
from include.core.records import BY_GATE, GateDecision, Promotion
from include.core.settings import Settings
from include.gate.rules import rules_digest
from include.io import postgres
from include.io.journal import export, require_exported
from include.io.postgres.gate_decisions import GateSubject
from include.io.postgres.model_files import RecordedFit
from include.io.postgres.promotions import PromotionEntry, PromotionHistory
from include.io.registry import CHAMPION, Registry, Version
from include.steps.hold_as_shadow import (
    AgainstShadow,
    compare_with_running,
    decline_if_compared_with_another,
    hold_as_shadow,
)

log = logging.getLogger(__name__)


def promote(
    model: Model,
    interval: Interval,
    settings: Settings,
    *,
    version: int,
    by: str = BY_GATE,
    why: str | None = None,
    force: bool = False,
    displace_newer: bool = False,
    approved: bool = False,
) -> Promotion:
    """Record that `version` is champion from the first day of `interval` on, then sync the registry's alias.

    This function itself verifies the decision of the gate. The decision must be about this version and its
    files, by the current rules, passed, and against the champion that the version has to beat now. By hand, a version
    that the gate promoted before can return on its earlier decision. `force`, by hand and with a reason, needs no
    decision; the promotion history records that. A version cannot be champion of days up to the run date it was trained
    on, because it has seen their outcomes, nor of published days, because that would rewrite the past.

    If `by` is "gate", each decision promotes once, from the first day of `interval` or the day after the newest
    published day, whichever is later. Nothing is promoted (`held_back`) if a person decided on the champion of that
    day, or replaced this version or one with the same files (a rollback does), or if the newest champion was decided on
    a later day and `displace_newer` is not set. By hand, the first day is the one given.

    Where `model.yaml` declares `approval`, the gate promotes nothing: the version becomes pending, older pending ones
    are superseded, and `include/operations/approve.py` calls this function with `approved` when a person has approved
    it. It then takes effect as a promotion by the gate does. What a person decided before about the same files is
    applied at once, so that a backfill asks nobody.

    Where `model.yaml` declares a shadow, the gate promotes a version only when its days as a shadow are over, and holds
    it back until then: see `include/steps/hold_as_shadow.py`.

    If the promotion history has the entry already, nothing is written (`rows` is 0), and only the alias is synced.

    Raises:
        ActionRequiredError: the promotion is not allowed, or the project has an entity fraction. The promotion history
            gets no new entry then.
    """
    by_hand = by != BY_GATE
    why = (why or "").strip()
    if not by.strip() or ((by_hand or force) and not why):
        raise ActionRequiredError(f"{model.name}: a promotion by hand needs who decided it and why: --by and --why")
    if force and not by_hand:
        raise ActionRequiredError(f"{model.name}: only a person can force a promotion; --by must be a name")
    load_project(model.project).refuse_entity_fraction("promote")
    if by_hand:
        require_exported(settings, model.project)
    found, files, records = require_sound(model, settings, version, interval.start)
    trained = date.fromisoformat(found.tags["day"])
    rival = None if by_hand else compare_with_running(model, version, settings)
    with postgres.promotions.open_promotion_history(settings, model.name) as book:
        if by_hand and not force and not approved and book.state(version) is State.PENDING:
            raise ActionRequiredError(
                f"version {version} of {model.name} is pending: python -m include.cli approve --model {model.name} "
                f"--version {version} --by … --why …, or promote it against that with --force"
            )
        if approved:
            _require_shown(model, book, version, files)
        if force:
            decision = records[0][0] if records else None
        else:
            decision = _verified(model, book, found, files, records, by_hand=by_hand, approved=approved)
        undone = None if by_hand else book.undone_by_person(version, files, _first_day(book, interval.start))
        if undone is None:
            row, written, held_back = _promote(
                model, book, version, trained, decision, interval.start,
                by=by, why=why, force=force, displace_newer=displace_newer, approved=approved, digest=files,
                rival=rival,
            )  # fmt: skip
        else:
            row, written, held_back = None, False, _undone(version, undone)
        if approved and row is not None:
            _enter(model, book, row, files)
        elif by_hand and row is not None and written:
            book.enter_promotions(model.project, [row], files)
    champion = sync_alias(model, settings)
    if by_hand:
        export(settings, model.project)
    if held_back:
        log.info("%s: version %d is not promoted: %s", model.name, version, held_back)
    elif champion != version:
        log.info(
            "%s: %s stays the newest champion, because it was promoted from a later day", model.name, _name(champion)
        )
    return Promotion(
        interval=interval if row is None else Interval.of(row.from_day),
        rows=int(written),
        model_version=version,
        model=model.name,
        by=by if row is None else row.by,
        why=why if row is None else row.why,
        forced=False if row is None else row.forced,
        held_back=held_back,
    )


def require_sound(
    model: Model, settings: Settings, version: int, from_day: date
) -> tuple[Version, str, list[tuple[GateDecision, GateSubject]]]:
    """Return a version, the digest of its files and its gate decisions, the newest first.

    Raises:
        ActionRequiredError: there is no such version, evaluate did not make it, it was trained on `from_day` or later,
            its files are gone or are not those of its fit, or somebody changed its run date in MLflow.
    """
    registry = Registry(settings)
    found = registry.get_version(model.name, version)
    _require_evaluated(model, found, from_day)
    recorded = postgres.model_files.read_versions(settings, model.name, [version])[version]
    registry.files(found, recorded.model_digest)
    records = postgres.gate_decisions.read_decisions(settings, model.name, version)
    _require_recorded_day(found, date.fromisoformat(found.tags["day"]), recorded, records)
    return found, recorded.model_digest, records


def sync_alias(model: Model, settings: Settings) -> int | None:
    """Point the registry's alias to the newest champion, also if its first day is in the future.

    Returns:
        The newest champion, None if there is none yet.
    """
    registry = Registry(settings)
    champion = postgres.promotions.read_newest_champion(settings, model.name)
    if champion is not None and registry.aliased(model.name, CHAMPION) != champion:
        try:
            registry.get_version(model.name, champion)
        except ActionRequiredError as error:  # after a restore, a backfill has yet to make the versions
            log.warning("%s: the promotion history names champion %d, but %s", model.name, champion, error)
        else:
            registry.point(model.name, champion, CHAMPION)
            log.info("%s: alias %s points to version %d", model.name, CHAMPION, champion)
    return champion


def _promote(
    model: Model,
    book: PromotionHistory,
    version: int,
    trained: date,
    decision: GateDecision | None,
    from_day: date,
    *,
    by: str,
    why: str,
    force: bool,
    displace_newer: bool,
    approved: bool,
    digest: str,
    rival: AgainstShadow | None,
) -> tuple[PromotionEntry | None, bool, str | None]:
    """Return the entry, whether it was written now, and why there is none."""
    published, counts_from = book.newest_published_day(), None
    if by == BY_GATE:
        assert decision is not None
        if (there := book.by_gate(decision.gate_id)) is not None:
            log.info("%s: this decision already promoted version %d, from %s on", model.name, version, there.from_day)
            return there, False, None
    if by == BY_GATE or approved:
        from_day = _first_day(book, from_day)
    if by == BY_GATE:
        assert decision is not None
        if (before := _decided(model, book, version)) is not None:
            return before[0], False, before[1]
        if (why_not := decline_if_compared_with_another(book, version)) is not None:
            return None, False, why_not
        end = book.shadow_ends().get(version)
        beaten = end is not None and end.passed  # as a shadow: the newest champion, whoever decided on it meanwhile
        decided = None if beaten else book.on(from_day)
        if decided is not None and decided.by != BY_GATE and decided.decided_day > trained:
            return (
                None,
                False,
                f"{decided.by} made version {decided.model_version} champion from {decided.from_day} on, by hand",
            )
        newest = None if beaten else book.newest()
        if newest is not None and newest.decided_day > trained and not displace_newer:
            return (
                None,
                False,
                (
                    f"champion {newest.model_version} was decided on {newest.decided_day}, later than {trained}; "
                    "the training of a past day replaces it only with displace_newer"
                ),
            )
        recorded = None if model.approved_by is None else book.recorded_decision(model.project, digest)
        if recorded is None:
            waits = hold_as_shadow(model, book, version, trained, decision, rival)
            if waits is not None:
                return None, False, waits
        against = "the first" if decision.champion is None else f"not worse than champion {decision.champion}"
        why = f"passed all {len(decision.checks)} checks of the gate; {against}"
        if end is not None:
            why, counts_from = f"{why}; as a shadow: {end.sentence}", end.day + timedelta(days=1)
        if model.approved_by is not None:
            _hold(model, book, version, trained, decision, is_decided=recorded is not None)
            if recorded is None:
                return None, False, _waits(book, version)
            if not recorded.approved:
                book.move(version, State.DECLINED, by=recorded.by, why=recorded.why)
                return None, False, f"{recorded.by} declined it: {recorded.why}"
            by, why, from_day = recorded.by, recorded.why, max(from_day, recorded.from_day or from_day)
    current = book.on(from_day)
    if current is not None and current.model_version == version:
        log.info("%s: version %d is already the champion of %s", model.name, version, from_day)
        return current, False, None
    if published is not None and from_day <= published:
        raise ActionRequiredError(
            f"{model.name}: {from_day} is not after {published}, the newest day published (with {_row_name(current)});"
            " a promotion from that day would rewrite the past. Promote from a later day, or publish days again by hand"
        )
    gate_id = None if decision is None else decision.gate_id
    if not force and book.state(version) is State.REJECTED:  # the verified decision is another one than that rejection
        book.move(version, State.REGISTERED, by=BY_GATE, why="a decision of the gate lets it pass", gate_id=gate_id)
    row = book.add(
        version, from_day, by=by, why=why, trained_day=trained, gate_id=gate_id, forced=force, counts_from=counts_from,
        announce_to=model.champion_messages,
    )  # fmt: skip
    log.info("%s: version %d is champion from %s on, after %s%s", model.name, version, from_day,
             _row_name(current), " (FORCED)" if force else "")  # fmt: skip
    return row, True, None


def _first_day(book: PromotionHistory, from_day: date) -> date:
    """Return the first day of a promotion that must not change published days."""
    published = book.newest_published_day()
    return from_day if published is None else max(from_day, published + timedelta(days=1))


def _decided(model: Model, book: PromotionHistory, version: int) -> tuple[PromotionEntry | None, str | None] | None:
    """Return the promotion of a version that people decided about, or why there is none; None if nobody decided yet."""
    state = book.state(version)
    if state in (State.DECLINED, State.SUPERSEDED, State.EXPIRED):
        move = book.moves(version)[-1]
        return None, f"it is {state}, by {move.by}: {move.why}"
    there = book.of_version(version)
    waited = model.approved_by is not None or any(move.state is State.PENDING for move in book.moves(version))
    return (there, None) if there is not None and waited else None


def _hold(
    model: Model, book: PromotionHistory, version: int, trained: date, decision: GateDecision, *, is_decided: bool
) -> None:
    """Make the version pending, expire what is overdue, and supersede older versions.

    The version itself is superseded if a version of a later run date is pending, unless a person decided about it.
    """
    assert model.approved_by is not None
    about: dict[str, Any] = {"by": BY_GATE, "gate_id": decision.gate_id}
    passed = f"passed all {len(decision.checks)} checks of the gate"
    if book.state(version) is State.REJECTED:
        book.move(version, State.REGISTERED, why=passed, **about)
    book.move(version, State.PENDING, why=passed, expires_in=model.approved_by.timeout, **about)
    for other in book.pending():
        number = other.move.model_version
        if other.is_overdue:
            book.move(
                number, State.EXPIRED, by=BY_PRODUCT, why=f"nobody decided until {_moment(other.move.expires_at)}"
            )
        elif number != version and (other.trained_day <= trained or not is_decided):
            older, newer = (number, version) if other.trained_day <= trained else (version, number)
            why = f"version {newer}, of a later run date, passed the gate"
            book.move(older, State.SUPERSEDED, by=BY_PRODUCT, why=why)


def _require_shown(model: Model, book: PromotionHistory, version: int, files: str) -> None:
    """Refuse an approval of a version that does not wait, or whose files are not those that people were shown."""
    where = f"version {version} of {model.name}"
    pending = {each.move.model_version: each for each in book.pending()}
    if version not in pending:
        raise ActionRequiredError(f"{where} is {book.state(version)}, not pending; only a pending version is approved")
    if (shown := pending[version].move.model_digest) != files:
        raise ActionRequiredError(
            f"{where} has files with the digest {files[:12]}, but people were shown {str(shown)[:12]}; decline it, and "
            "train again"
        )


def _enter(model: Model, book: PromotionHistory, row: PromotionEntry, digest: str) -> None:
    """Add the approval to the journal, so that a backfill of another installation applies it."""
    about = {"model_version": row.model_version, "model_digest": digest, "from_day": str(row.from_day)}
    entry = {"decision": "approve", "model": model.name, "gate_id": row.gate_id, **about}
    subject = f"{model.name} version {row.model_version} from {row.from_day}"
    book.enter(model.project, Entry(kind="decision", subject=subject, entry=entry, by=row.by, why=row.why))


def _moment(moment: datetime | None) -> str:
    return "for ever" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def _waits(book: PromotionHistory, version: int) -> str:
    move = book.moves(version)[-1]
    if move.state is not State.PENDING:
        return f"it is {move.state}: {move.why}"
    return f"it is pending until {_moment(move.expires_at)}: people are asked whether it becomes the champion"


def _verified(
    model: Model,
    book: PromotionHistory,
    found: Version,
    files: str,
    records: list[tuple[GateDecision, GateSubject]],
    *,
    by_hand: bool,
    approved: bool = False,
) -> GateDecision:
    """Return the gate's decision on which the promotion rests.

    Raises:
        ActionRequiredError: no decision of the gate is valid now.
    """
    where, day = f"version {found.version} of {model.name}", found.tags["day"]
    again = f"run the gate for that day: python -m include.cli gate --model {model.name} --day {day}"
    if "adopted_from" in found.tags:
        again += f" --version {found.version}"
    if not records:
        raise ActionRequiredError(f"{where} has no decision of the gate, so it cannot be champion; {again}")
    if not (own := [record for record in records if record[1].model_digest == files]):
        raise ActionRequiredError(
            f"{where} is not what the gate decided on: the shared database recorded other files at the fit. Nothing is "
            f"promoted; {again}"
        )
    before = book.decided_by_gate(found.version) if by_hand else None
    for decision, _ in own:
        if before is not None and decision.gate_id == before.gate_id:
            return decision
    if (waiting := _gate_of_pending(book, found.version)) is not None:
        if approved and (since := book.champion_since(waiting)) is not None:
            return _compared_with_now(model, book, found.version, [decision for decision, _ in own], since, again)
        for decision, _ in own:
            if decision.passed and decision.gate_id == waiting:
                return decision
    to_beat = book.champion_to_beat(found.version, date.fromisoformat(day))
    rules = rules_digest(model.all_checks, model.problem_type)
    for decision, subject in own:
        if subject.rules_digest == rules and decision.champion == to_beat:
            if not decision.passed:
                raise ActionRequiredError(f"{where} was rejected by the gate: {decision.why_not}")
            return decision
    decision, subject = own[0]
    if subject.rules_digest != rules:
        raise ActionRequiredError(
            f"{where} was checked by other rules than those of model.yaml and the gate's code now; {again}"
        )
    raise ActionRequiredError(
        f"{where} was compared with {_name(decision.champion)}, but now it has to beat {_name(to_beat)}; {again}"
    )


def _compared_with_now(
    model: Model,
    book: PromotionHistory,
    version: int,
    decisions: list[GateDecision],
    champion: PromotionEntry,
    again: str,
) -> GateDecision:
    """Return the decision by which a pending version is not worse than a champion that was made since it waits.

    Raises:
        ActionRequiredError: there is none, so people were shown a comparison with another champion.
    """
    now = f"{champion.by} made version {champion.model_version} the champion since ({champion.why})"
    where = f"version {version} of {model.name}"
    end = book.shadow_ends().get(version)
    if end is not None and end.champion_version != champion.model_version:
        raise ActionRequiredError(
            f"{where} was compared with version {end.champion_version} as a shadow, but {now}. Nothing was changed; "
            f"decline it: python -m include.cli decline --model {model.name} --version {version} --by … --why …"
        )
    for decision in decisions:
        if decision.passed and decision.champion == champion.model_version:
            return decision
    raise ActionRequiredError(
        f"{where} was compared with another champion, but {now}. Nothing was changed; first {again}. If it passes, "
        "look at the new figures and decide again"
    )


def _gate_of_pending(book: PromotionHistory, version: int) -> str | None:
    """Return the decision of the gate by which a version is pending: new rules do not count for what waits already."""
    if book.state(version) is not State.PENDING:
        return None
    return next((move.gate_id for move in reversed(book.moves(version)) if move.state is State.PENDING), None)


def _require_evaluated(model: Model, found: Version, from_day: date) -> None:
    where = f"version {found.version} of {model.name}"
    if (found.tags.get("project"), found.tags.get("model")) != (model.project, model.name) or not found.evaluated:
        raise ActionRequiredError(
            f"{where} was not made by evaluate (its tags are missing), so it was never evaluated; "
            "promote a version that evaluate made"
        )
    trained = date.fromisoformat(found.tags["day"])
    if from_day <= trained:
        raise ActionRequiredError(
            f"{where} was trained on {trained} with the outcomes known then, so it can be champion from the day after "
            f"at the earliest, not from {from_day}"
        )


def _require_recorded_day(
    found: Version, trained: date, recorded: RecordedFit, records: list[tuple[GateDecision, GateSubject]]
) -> None:
    """Refuse a version whose run date in MLflow is not the one that was recorded at the fit, and by the gate."""
    decided = {subject.day for _, subject in records}
    known = recorded.trained_day or (min(decided) if decided else trained)
    if trained != known or (decided and trained not in decided):
        raise ActionRequiredError(
            f"version {found.version} of {found.model} has the run date {trained} in MLflow, and the shared database "
            f"has a training of {known}: somebody changed the tag `day` of the version in MLflow. Find out who, set "
            "it back, and promote again"
        )


def _undone(version: int, undone: PromotionEntry) -> str:
    return (
        f"{undone.by} replaced version {version}, or one with the same files, by version {undone.model_version} from "
        f"{undone.from_day} on; only a person can make it the champion again"
    )


def _row_name(row: PromotionEntry | None) -> str:
    return _name(None if row is None else row.model_version)


def _name(version: int | None) -> str:
    return "no champion" if version is None else f"version {version}"
