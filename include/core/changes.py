"""Compare two declarations key by key, and say which results each difference decides. Pure.

`features_digest` is the digest of everything that decides features from given deliveries: `build_features` records it
with each prepared day, so that a plan can say which days were made otherwise.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from include.core.code import code_digest, code_without_words
from include.core.printable import printable
from include.core.project import Project

PRODUCT = Path(__file__).parents[1]
FEATURES_CODE = (
    *("features/__init__.py", "features/feeds.py", "features/returned.py", "features/windows.py"),
    "steps/build_features.py",
)
"""The product's own code that makes features, below `include`; `features/trial.py` makes rows of tests only."""

NOT_OF_FEATURES = ("__init__.py", "simulate.py")
"""Python files of a project's folder that decide no feature."""

SHOWN = 60
"""The most characters that are shown of a value."""


class Effect(StrEnum):
    """What a change decides. The value is what people read."""

    READING = "which deliveries a run date reads"
    FEATURES = "how features are made"
    OUTCOMES = "what models learn and are measured by"
    ARRIVAL = "how deliveries are landed and when they count"
    EXPECTATIONS = "which rows are quarantined"
    ENTITIES = "which columns analysts see"
    FIT = "the next fit"
    GATE = "the verdict of the gate"
    MONITORS = "measurements and alerts"
    RUNS = "when and where steps run"
    PRODUCT = "other code of the product"
    SCHEMA = "the shared database"
    WORDS = "only words"


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        file: the file that has it, as people name it.
        what: the key and both values, or what changed, in words.
        effect: what it decides.
        model: the model that it is about; None if it is about the project.
    """

    file: str
    what: str
    effect: Effect
    model: str | None = None


_ARRIVAL = (
    "path|path_day|parts|source|format|extra_columns|late_rows|limits|corrections_days|correction|versions|sidecar|arrives|"
    "live_from|max_age_days|max_unknown_share"
)
_READING = "kind|lookback_days|delay_days|ahead_days|days|holidays|required"
PROJECT_KEYS: tuple[tuple[str, Effect], ...] = (
    (r"(title|owner)|.*\.description|feeds\.\w+\.supplier", Effect.WORDS),
    (r"(monitors|prices)([.\[].*)?", Effect.MONITORS),
    (r"(schedule|run_on|databricks|notify|retention)([.\[].*)?", Effect.RUNS),
    (r"cutoff|first_day", Effect.ARRIVAL),
    (rf"feeds\.\w+\.({_ARRIVAL})(\..*)?|feeds\.\w+\.columns\.[^.]+\.format", Effect.ARRIVAL),
    (rf"feeds\.\w+(\.({_READING})(\..*)?)?", Effect.READING),
    (r"entity\.public", Effect.ENTITIES),
)
"""What keys of `project.yaml` decide; the first pattern that matches counts. Any other key decides features."""

MODEL_KEYS: tuple[tuple[str, Effect], ...] = (
    (r"title|owner|built_by|purpose|decision|costs(\..*)?|.*\.description", Effect.WORDS),
    (r"gate(\..*)?", Effect.GATE),
    (r"tier|monitors(\[.*)?", Effect.MONITORS),
)
"""What keys of `model.yaml` decide, but for those that decide a fit, which `include/training/config.py` declares."""

SECRET = re.compile(r"source|databricks|secret|password|token|credential|connection|query|\burl\b", re.IGNORECASE)
"""Keys whose values are never shown: they can name a login or contain what a query says of persons."""


def effect_in_project(key: str, read: Collection[str]) -> Effect:
    """Return what a key of `project.yaml` decides.

    Args:
        key: the key, with dots.
        read: the outcomes that features can read (`outcomes_in_features`).
    """
    effect = _effect(key, PROJECT_KEYS, Effect.FEATURES)
    of_outcome = re.match(r"outcomes\.(\w+)", key)
    if effect is Effect.FEATURES and of_outcome and of_outcome[1] not in read:
        return Effect.OUTCOMES
    return effect


def effect_in_model(key: str, of_fit: Collection[str]) -> Effect:
    """Return what a key of `model.yaml` decides.

    Args:
        key: the key, with dots.
        of_fit: the first parts of the keys that decide a fit.
    """
    of_fit_or_run = Effect.FIT if re.split(r"[.\[]", key)[0] in of_fit else Effect.RUNS
    return _effect(key, MODEL_KEYS, of_fit_or_run)


def _effect(key: str, patterns: Sequence[tuple[str, Effect]], otherwise: Effect) -> Effect:
    return next((effect for pattern, effect in patterns if re.fullmatch(pattern, key)), otherwise)


def differences(
    file: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    effect_of: Callable[[str], Effect],
    model: str | None = None,
) -> list[Change]:
    """Return each key of which two declarations have different values."""
    return [Change(file, what, effect_of(key), model) for key, what in _walk("", before, after)]


def _walk(key: str, before: Any, after: Any) -> Iterator[tuple[str, str]]:
    if before == after:
        return
    one, other = _by_name(before), _by_name(after)
    if one is None or other is None:
        yield key, f"{key}: {_said(key, before, after)}"
        return
    is_list = isinstance(before, list)
    for name in [*one, *(name for name in other if name not in one)]:
        inner = f"{key}[{name}]" if is_list else f"{key}.{name}" if key else name
        if name not in one or name not in other:
            there = other.get(name, one.get(name))
            is_tree = isinstance(there, dict) or _by_name(there) is not None
            added = "added" if name in other else "removed"
            yield inner, f"{inner}: {added}" if is_tree else f"{inner}: {_said(inner, one.get(name), other.get(name))}"
        else:
            yield from _walk(inner, one[name], other[name])
    if is_list and [*one] != [*other] and {*one} == {*other}:
        yield key, f"{key}: another order"


def _by_name(value: Any) -> dict[str, Any] | None:
    """Return the entries of a mapping, or of a list of mappings by their name, kind or metric; None for a value."""
    if isinstance(value, Mapping):
        return {str(name): each for name, each in value.items()}
    if not isinstance(value, list) or not value or not all(isinstance(each, Mapping) for each in value):
        return None
    named: dict[str, Any] = {}
    for each in value:
        name = str(next((each[of] for of in ("name", "kind", "metric") if each.get(of)), "entry"))
        alike = sum(1 for there in named if there.split("#")[0] == name)
        named[f"{name}#{alike + 1}" if alike else name] = each
    return named


def _said(key: str, before: Any, after: Any) -> str:
    """Return both values, or what was added to and removed from a list. Nothing that may be secret is shown."""
    if SECRET.search(key) or "://" in f"{before}{after}":
        return "changed (its value is not shown)"
    if isinstance(before, list) and isinstance(after, list):
        added, removed = [x for x in after if x not in before], [x for x in before if x not in after]
        parts = [
            f"{word} {_short(', '.join(map(str, some)))}"
            for word, some in (("added", added), ("removed", removed))
            if some
        ]
        return "; ".join(parts) or "another order"
    return f"{_value(before)} → {_value(after)}"


def _value(value: Any) -> str:
    if value is None or value in ({}, []):
        return "(not declared)"
    if isinstance(value, str):
        return _short(value)
    return _short(json.dumps(value, ensure_ascii=False, default=str))


def _short(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def without_empty(value: Any) -> Any:
    """Return a declaration without keys that have no value, so that a new optional key is no difference."""
    if isinstance(value, dict):
        kept = {name: without_empty(each) for name, each in value.items()}
        return {name: each for name, each in kept.items() if each not in (None, {}, [], "")}
    if isinstance(value, list | tuple):
        return [without_empty(each) for each in value]
    return value


def declared(project: Project) -> dict[str, Any]:
    """Return what a project declares, by the keys of `project.yaml`."""
    dumped: dict[str, Any] = without_empty(project.model_dump(mode="json", by_alias=True, exclude={"name", "folder"}))
    return dumped


def features_files(project: Path) -> list[Path]:
    """Return the Python files of a project's folder that decide features."""
    return sorted(path for path in project.glob("*.py") if path.name not in NOT_OF_FEATURES)


def outcomes_in_features(project: Project) -> set[str]:
    """Return the outcomes that the project's features can read: they are columns of their feeds there.

    They are those that the code names, and those of a feed whose rows it takes with all columns.
    """
    code = "\n".join(map(code_without_words, features_files(project.folder)))
    whole = set(re.findall(r"\.(?:current|history)\((?:'(\w+)')?", code))  # empty: a name that is computed
    return {
        name
        for name, outcome in project.outcomes.items()
        if re.search(rf"\b{name}\b", code) or outcome.feed in whole or "" in whole
    }


def features_digest(project: Project) -> str:
    """Return the digest of what decides the features of a run date from given deliveries.

    It covers the declarations that decide which deliveries are read and how features are made, the project's code and
    the product's. Comments, descriptions, outcomes that features do not read, and how files are landed do not count.
    """
    decides, read = {Effect.READING, Effect.FEATURES}, outcomes_in_features(project)
    given = project.model_dump(mode="json", by_alias=True, exclude={"name", "folder"}, exclude_defaults=True)
    other_than_default = {key for key, _ in _leaves("", given)}
    leaves = sorted(
        (key, json.dumps(value, sort_keys=True))
        for key, value in _leaves("", declared(project))
        if value or key in other_than_default  # else a later key whose default is 0 or false would change all digests
        if effect_in_project(key, read) in decides
    )
    product = [path for pattern in FEATURES_CODE for path in sorted(PRODUCT.glob(pattern))]
    code = code_digest([*product, *features_files(project.folder)])
    return hashlib.sha256((json.dumps([project.name, leaves]) + code).encode()).hexdigest()


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _leaves(f"{key}.{name}" if key else name, each)
    else:
        yield key, value
