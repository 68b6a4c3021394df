"""Find everything that is wrong with a declaration at once, for `check_config`.

pydantic looks at what depends on several keys only if each key is right by itself. So what is wrong is taken out, and
the rest is validated again, until nothing new is found. What only follows from what was taken out is not reported.
"""

import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from include.config.loading import explain, misplaced
from include.core.base import Config
from include.core.yaml_file import keys_of

STAND_INS: Mapping[str, Any] = {
    "title": "?",
    "owner": "?",
    "built_by": "?",
    "purpose": "?",
    "decision": "?",
    "costs": {"unit": "?"},
    "timezone": "UTC",
    "first_day": "2000-01-01",
    "outcomes": {},
    "outcome": "?",
    "train_days": 36500,
}
"""Values in place of wrong or missing ones, so that the rest can be looked at."""

Keys = tuple[str, ...]
C = TypeVar("C", bound=Config)


def examine(kind: type[C], declared: Mapping[str, Any], **named: str | Path) -> tuple[list[str], C | None]:
    """Return a sentence for each thing that is wrong, and what is declared without it; None if too little is left.

    Args:
        kind: the class of the declaration.
        declared: what the file has.
        named: what the file must not have, because its folder says it.
    """
    said = dict.fromkeys(misplaced(declared, named))
    rest = {key: deepcopy(value) for key, value in declared.items() if key not in named}
    rest.pop("classes", None)
    removed: dict[Keys, bool] = {}
    while True:
        try:
            return [*said], kind.model_validate({**rest, **named})
        except ValidationError as error:
            problems = [(line, each["type"]) for each in error.errors() for line in explain(kind, each)]
        places = []
        for line, what in problems:
            if not _follows(line, what, removed):
                said[line] = None
            places.append(_place(rest, line))
        taken_out = False
        for place in sorted(dict.fromkeys(places), key=_last_first, reverse=True):
            taken_out |= _take_out(rest, place, removed)
        for line, what in problems:
            key = keys_of(line)[0]
            if what == "missing" and key not in rest and (stand_in := _stand_in(key, rest)) is not None:
                rest[key], taken_out = stand_in, True
                removed[key,] = True
        if not taken_out:
            return [*said], None


def _stand_in(key: str, rest: Mapping[str, Any]) -> Any:
    if key == "entity" and isinstance(feeds := rest.get("feeds"), dict):
        daily = [(name, feed) for name, feed in feeds.items() if isinstance(feed, dict) and feed.get("day_column")]
        return next(({"feed": name, "key": feed.get("key")} for name, feed in daily), None)
    return STAND_INS.get(key)


def _follows(line: str, what: str, removed: Mapping[Keys, bool]) -> bool:
    """Return whether a sentence is only about what was taken out: a key that is missing now, or a name that is gone."""
    keys = tuple(keys_of(line))
    for place, is_section in removed.items():
        if what == "missing" and keys[: len(place)] == place:
            return True
        inside = keys[: len(place) - 1] == place[:-1]
        if (is_section or inside) and re.search(rf"\b{re.escape(place[-1])}\b", line):
            return True
    return False


def _place(rest: Any, line: str) -> Keys:
    """Return the keys at the beginning of a sentence, as far as they lead into the declaration."""
    place: list[str] = []
    for key in keys_of(line):
        inside = _inside(rest)
        if key not in inside:
            break
        rest = inside[key]
        place.append(key)
    return tuple(place)


def _inside(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {str(key): each for key, each in value.items()}
    return {str(number): each for number, each in enumerate(value)} if isinstance(value, list) else {}


def _last_first(place: Keys) -> tuple[tuple[int, str], ...]:
    """Order places so that taking out one does not move those that follow."""
    return tuple((int(key) if key.isdigit() else 0, key) for key in place)


def _take_out(rest: Any, place: Keys, removed: dict[Keys, bool]) -> bool:
    """Take a key, or an entry of a list, out of the declaration; return whether it was there."""
    if not place:
        return False
    for key in place[:-1]:
        if key not in _inside(rest):
            return False
        rest = _inside(rest)[key]
    if place[-1] not in _inside(rest):
        return False
    value = _inside(rest)[place[-1]]
    if isinstance(rest, list):
        del rest[int(place[-1])]
    else:
        del rest[next(key for key in rest if str(key) == place[-1])]
    is_section = isinstance(value, dict)
    removed[place] = is_section
    if is_section and isinstance(value.get("kind"), str):
        removed[(*place, value["kind"])] = True
    return True
