"""Hold a version that passed the gate as a shadow, or let the running shadow go on. `promote` asks here.

At most one version of a model is a shadow. A newer one takes its place only if it is clearly better on the holdout
days; otherwise nightly trainings would begin the days of the shadow again each night, and none would ever be decided.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta

from include.config.model import Model
from include.core.errors import DataError
from include.core.lifecycle import BY_PRODUCT, State
from include.core.records import BY_GATE, Check, GateDecision
from include.core.settings import Settings
from include.gate.shadow import compare_with_shadow
from include.io import postgres
from include.io.postgres.promotions import PromotionHistory
from include.io.postgres.shadows import ShadowEnd
from include.steps.gate import measure_against


@dataclass(frozen=True)
class AgainstShadow:
    """The comparison of a newer version with the running shadow: nothing is kept locked meanwhile."""

    shadow: int
    verdict: Check


def compare_with_running(model: Model, version: int, settings: Settings) -> AgainstShadow | None:
    """Compare a version that passed the gate with the running shadow; None if there is nothing to compare.

    Raises:
        DataError: the holdout rows of the version can no longer be read.
    """
    if model.shadow is None:
        return None
    with postgres.promotions.open_promotion_history(settings, model.name) as book:
        running, state = find_running(book), book.state(version)
    records = postgres.gate_decisions.read_decisions(settings, model.name, version)
    passed = [subject for decision, subject in records if decision.passed]
    if running in (None, version) or state is not State.REGISTERED or not passed:
        return None
    assert running is not None
    evidence = measure_against(model, replace(passed[0], champion=running), settings)
    return AgainstShadow(running, compare_with_shadow(model.shadow, model.champion_check, evidence, running))


def hold_as_shadow(
    model: Model,
    book: PromotionHistory,
    version: int,
    trained: date,
    decision: GateDecision,
    against: AgainstShadow | None,
) -> str | None:
    """Return why a version that passed the gate is not promoted now; None if its days as a shadow are over.

    It is pending then, or superseded because the running shadow goes on. Without a champion there is nothing to be
    compared with, so the first version is promoted at once.

    Args:
        model: the model.
        book: its promotion history.
        version: the version.
        trained: the run date of its training.
        decision: the decision of the gate that lets it pass.
        against: the comparison with the running shadow, if there is one.

    Raises:
        DataError: another version became the shadow since the comparison. Nothing is written then.
    """
    if model.shadow is None:
        return None
    end, state = book.shadow_ends().get(version), book.state(version)
    if end is not None:
        return None if end.passed else end.sentence
    champion, running = book.newest(), find_running(book)
    if state is State.PENDING or champion is None:
        return None if champion is None else _waits(model, version)
    if running is not None:
        if against is None or against.shadow != running:
            raise DataError(f"{model.name}: version {running} became the shadow meanwhile; run promote again")
        better = against.verdict.passed
        leaving, staying = (running, version) if better else (version, running)
        clearly = "clearly better" if better else "not clearly better"
        why = f"version {version} is {clearly} than the running shadow, version {running}: {against.verdict.sentence}"
        if not better:
            _begin(model, book, version, decision)
        book.move(leaving, State.SUPERSEDED, by=BY_PRODUCT, why=f"{why}; version {staying} is the shadow")
        if leaving not in book.shadow_ends():
            book.end_shadow(_superseded(leaving, trained, champion.model_version, why, against.verdict))
        if not better:
            return why
    _begin(model, book, version, decision)
    return _waits(model, version)


def decline_if_compared_with_another(book: PromotionHistory, version: int) -> str | None:
    """Decline a pending version that passed as a shadow of another champion than that of now; return why, if so.

    A person promoted another version, or rolled back, after the comparison. It is recorded once, so without this the
    version would be the shadow for ever.
    """
    end, champion = book.shadow_ends().get(version), book.newest()
    if end is None or not end.passed or champion is None or book.state(version) is not State.PENDING:
        return None
    if champion.model_version == end.champion_version:
        return None
    why = (
        f"as a shadow, it was compared with champion {end.champion_version}, but {champion.by} made version "
        f"{champion.model_version} the champion since"
    )
    book.move(version, State.DECLINED, by=BY_PRODUCT, why=why)
    return why


def _begin(model: Model, book: PromotionHistory, version: int, decision: GateDecision) -> None:
    expires_in = None
    if model.approved_by is not None and model.shadow is not None:
        expires_in = model.approved_by.timeout + timedelta(days=model.shadow.wait_days)  # people are asked afterwards
    why = _waits(model, version)
    book.move(version, State.PENDING, by=BY_GATE, why=why, gate_id=decision.gate_id, expires_in=expires_in)


def find_running(book: PromotionHistory) -> int | None:
    """Return the newest pending version, also if it waits for a person since its days as a shadow are over."""
    moved = {move.model_version for move in book.moves() if move.state is State.PENDING}
    return max((version for version in moved if book.state(version) is State.PENDING), default=None)


def _waits(model: Model, version: int) -> str:
    assert model.shadow is not None
    days = model.shadow.days_with_outcomes
    return (
        f"version {version} scores beside the champion, unpublished, until the outcomes of {days} days are known; "
        f"{model.name}_decide decides then"
    )


def _superseded(version: int, day: date, champion: int, why: str, verdict: Check) -> ShadowEnd:
    figures = {"days": 0, "rows": 0, "measured": verdict.measured, "threshold": verdict.threshold}
    return ShadowEnd(version, day, champion, passed=False, sentence=why, **figures)  # type: ignore[arg-type]
