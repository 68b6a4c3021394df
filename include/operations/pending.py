"""The versions of a model that wait for a person.

An open question looks here every ten minutes, so this module imports neither MLflow nor scikit-learn.
"""

from include.config.model import Model
from include.core.lifecycle import BY_PRODUCT, State
from include.core.settings import Settings
from include.io import postgres
from include.io.postgres.promotions import PromotionHistory
from include.io.postgres.version_moves import PendingVersion


def expire(model: Model, settings: Settings) -> list[int]:
    """Expire the pending versions about which nobody decided in time; return them."""
    with postgres.promotions.open_promotion_history(settings, model.name) as book:
        return _expire(book)


def read_pending(model: Model, settings: Settings, version: int | None = None) -> PendingVersion | None:
    """Return a pending version, by default the one of the latest run date; None if it does not wait any more."""
    with postgres.promotions.open_promotion_history(settings, model.name) as book:
        _expire(book)
        found = [each for each in book.pending() if version in (None, each.move.model_version)]
    return found[-1] if found else None


def why_closed(model: Model, version: int | None, settings: Settings) -> str:
    """Return the sentence for a question that nobody has to answer any more."""
    if version is None:
        return f"no version of {model.name} is pending"
    moves = postgres.version_moves.read_moves(settings, model.name, version)
    if not moves:
        return f"version {version} of {model.name} was never pending"
    return f"version {version} of {model.name} is {moves[-1].state}, by {moves[-1].by}: {moves[-1].why}"


def is_on_trial(model: Model, version: int, settings: Settings) -> bool:
    """Return whether a pending version still scores as a shadow, so that people are not asked yet."""
    if model.shadow is None or postgres.promotions.read_newest_champion(settings, model.name) is None:
        return False
    return version not in postgres.shadows.read_ends(settings, model.name)


def _expire(book: PromotionHistory) -> list[int]:
    overdue = [each.move for each in book.pending() if each.is_overdue]
    for move in overdue:
        book.move(
            move.model_version,
            State.EXPIRED,
            by=BY_PRODUCT,
            why=f"nobody decided until {move.expires_at:%Y-%m-%d %H:%M} UTC",
        )
    return [move.model_version for move in overdue]
