"""approve and decline: what people decide about a version that passed the gate and is pending.

A decision counts for the files with which the version was shown. It is an entry of the journal, so that a backfill, and
an installation restored from the journal, apply it without asking again.
"""

import logging
from datetime import timedelta

from include.config.approval import Approval
from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.lifecycle import State, is_person
from include.core.records import Declined, Promotion
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import export, require_exported
from include.io.postgres.version_moves import PendingVersion, VersionMove
from include.operations.pending import read_pending
from include.steps.promote import promote, sync_alias

log = logging.getLogger(__name__)


def approve(
    model: Model, version: int, settings: Settings, *, by: str, why: str, shown: str | None = None
) -> Promotion:
    """Make a pending version the champion, from the day after its run date or after the newest published day.

    Args:
        model: the model.
        version: the pending version.
        settings: places and connections.
        by: who decides; one of `approval.allowed`, if that is declared.
        why: the reason.
        shown: digest of the files that the person was shown; by default those with which it became pending.

    The same decision of the same person again changes nothing, and finishes one that was killed.

    Raises:
        ActionRequiredError: the version is not pending, has other files than those that were shown, or its gate
            decision does not hold any more; or this person may not decide. Nothing is written.
    """
    _require_allowed(model, by, why)
    require_exported(settings, model.project)
    if (decided := _decided(model, version, settings, State.CHAMPION, by, shown)) is not None:
        return _finish(model, decided, settings)
    pending = _pending(model, version, settings, shown)
    first_day = Interval.of(pending.trained_day + timedelta(days=1))
    return promote(model, first_day, settings, version=version, by=by, why=why, approved=True)


def decline(model: Model, version: int, settings: Settings, *, by: str, why: str, shown: str | None = None) -> Declined:
    """Let the champion stay and never ask about this version again; `approve` has the arguments.

    Raises:
        ActionRequiredError: the version is not pending or has other files than those that were shown, or this person
            may not decide. Nothing is written.
    """
    _require_allowed(model, by, why)
    require_exported(settings, model.project)
    if (decided := _decided(model, version, settings, State.DECLINED, by, shown)) is None:
        _pending(model, version, settings, shown)
    else:
        why = decided.why
    with postgres.promotions.open_promotion_history(settings, model.name) as book:
        move = book.move(version, State.DECLINED, by=by, why=why)
        if move is not None:
            about = {"model_version": version, "model_digest": move.model_digest, "gate_id": None}
            entry = {"decision": "decline", "model": model.name, **about}
            subject = f"{model.name} version {version}"
            book.enter(model.project, Entry(kind="decision", subject=subject, entry=entry, by=by, why=why))
        champion = book.newest()
    export(settings, model.project)
    log.info("%s: %s declined version %d: %s", model.name, by, version, why)
    return Declined(
        model=model.name,
        model_version=version,
        state=State.DECLINED,
        by=by,
        why=why,
        champion=None if champion is None else champion.model_version,
    )


def _decided(
    model: Model, version: int, settings: Settings, state: State, by: str, shown: str | None
) -> VersionMove | None:
    """Return the move by which this person decided the same already, as before a kill; None if there is none.

    A retry of `record` then finishes what is left: the registry's alias, and the export of the journal.
    """
    if postgres.version_moves.read_states(settings, model.name).get(version) is not state:
        return None
    moves = postgres.version_moves.read_moves(settings, model.name, version)
    decided = [move for move in moves if move.from_state is State.PENDING and move.state is state]
    same = decided and decided[-1].by == by and shown in (None, decided[-1].model_digest)
    return decided[-1] if same else None


def _finish(model: Model, decided: VersionMove, settings: Settings) -> Promotion:
    """Do what follows an approval that is recorded already, and return it; `rows` is 0."""
    with postgres.promotions.open_promotion_history(settings, model.name) as book:
        row = book.of_version(decided.model_version)
    assert row is not None, "the version is the champion"
    sync_alias(model, settings)
    export(settings, model.project)
    log.info("%s: %s approved version %d already, from %s on", model.name, decided.by, row.model_version, row.from_day)
    return Promotion(
        interval=Interval.of(row.from_day),
        rows=0,
        model_version=row.model_version,
        model=model.name,
        by=decided.by,
        why=decided.why,
        forced=False,
        held_back=None,
    )


def _pending(model: Model, version: int, settings: Settings, shown: str | None) -> PendingVersion:
    found = read_pending(model, settings, version)
    where = f"version {version} of {model.name}"
    if found is None:
        moves = postgres.version_moves.read_moves(settings, model.name, version)
        state = postgres.version_moves.read_states(settings, model.name).get(version)
        if state is None:
            raise ActionRequiredError(f"there is no {where}; the view version_history has those that are pending")
        since = f", by {moves[-1].by}: {moves[-1].why}" if moves and moves[-1].state is state else ""
        raise ActionRequiredError(f"{where} is not pending but {state}{since}. Nothing was changed")
    if shown is not None and shown != found.move.model_digest:
        raise ActionRequiredError(
            f"{where} has other files (digest {str(found.move.model_digest)[:12]}) than those that were shown "
            f"({shown[:12]}). Nothing was changed; look at the version, then decide again"
        )
    return found


def _require_allowed(model: Model, by: str, why: str) -> None:
    if not by.strip() or not why.strip():
        raise ActionRequiredError(f"{model.name}: a decision needs who decides and why: --by NAME --why REASON")
    if not is_person(by):
        raise ActionRequiredError(f"{model.name}: {by!r} is not a person; give your own name")
    allowed = (model.approved_by or Approval()).allowed
    if allowed and by not in allowed:
        raise ActionRequiredError(
            f"{by} may not decide about versions of {model.name}: approval.allowed in model.yaml has "
            f"{', '.join(allowed)}. Nothing was changed"
        )
