"""promote: make a version the champion from a day on. The ledger is the truth; the registry's alias mirrors it."""

import logging
from datetime import date

from include.config import Model
from include.contracts import Interval, Promotion
from include.errors import NeedsAttention
from include.io import database
from include.io.registry import CHAMPION, Registry, Version
from include.settings import Settings

log = logging.getLogger(__name__)

LAST_DAY = Interval.of(date.max)


def promote(model: Model, interval: Interval, settings: Settings, *, version: int, by: str, why: str) -> Promotion:
    """Write into the ledger that `version` is champion from the first day of `interval` on; then mend the alias.

    The version must be one that `evaluate` made of this model. It may neither be champion of days up to the run day
    it was trained on, since it has seen their outcomes, nor of days that are published: that would rewrite the past.
    Where the ledger says so already, nothing is written (`rows` 0), and only the alias is mended.
    Raises `NeedsAttention` in words; the ledger then has no new row.
    """
    from_day = interval.start
    if not by.strip() or not why.strip():
        raise NeedsAttention(f"{model.name}: a promotion needs who decided it and why")
    registry = Registry(settings)
    _require_evaluated(model, registry.get_version(model.name, version), from_day)
    standing = database.champions(settings, model.name, Interval.of(from_day)).get(from_day)
    newest = database.newest_published_day(settings, model.name)
    if standing == version:
        log.info("%s: version %d is champion of %s already", model.name, version, from_day)
    elif newest is not None and from_day <= newest:
        raise NeedsAttention(
            f"{model.name}: {from_day} is not after {newest}, the newest day published (with {_name(standing)}); a "
            f"promotion from then on would rewrite the past. Promote from a later day, or publish days again by hand"
        )
    else:
        database.record_promotion(settings, model.name, version, from_day, by=by, why=why)
        log.info("%s: version %d is champion from %s on, before it %s", model.name, version, from_day, _name(standing))
    last = _mirror(model, settings, registry)
    if last != version:
        log.info("%s: a promotion from a later day stands, to %s", model.name, _name(last))
    return Promotion(
        interval=Interval.of(from_day),
        rows=0 if standing == version else 1,
        version=version,
        model=model.name,
        by=by,
        why=why,
    )


def mend_alias(model: Model, settings: Settings) -> int | None:
    """Make the registry's alias say what the ledger says; returns the champion, None when there is none yet."""
    return _mirror(model, settings, Registry(settings))


def _require_evaluated(model: Model, found: Version, from_day: date) -> None:
    where = f"version {found.version} of {model.name}"
    if (found.tags.get("project"), found.tags.get("model")) != (model.project, model.name) or not found.evaluated:
        raise NeedsAttention(
            f"{where} was not made by evaluate (it lacks its tags), so that nobody judged it; "
            "promote a version that evaluate named"
        )
    trained = date.fromisoformat(found.tags["day"])
    if from_day <= trained:
        raise NeedsAttention(
            f"{where} was trained on {trained} with the outcomes known then, so that it can be champion from the day "
            f"after at the earliest, not from {from_day}"
        )


def _mirror(model: Model, settings: Settings, registry: Registry) -> int | None:
    """The alias points to the version that the ledger names last, also when its first day is still to come."""
    champion = database.champions(settings, model.name, LAST_DAY).get(LAST_DAY.start)
    if champion is not None and registry.aliased(model.name, CHAMPION) != champion:
        registry.point(model.name, champion, CHAMPION)
        log.info("%s: alias %s points to version %d", model.name, CHAMPION, champion)
    return champion


def _name(version: int | None) -> str:
    return "no champion" if version is None else f"version {version}"
