"""Semantic versions of models: what of a model changed, in three numbers. Computed from what was declared. Pure.

MLflow counts versions, 1, 2, 3: that number is the key everywhere. The semantic version is a name beside it.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple, Self

CONTRACT = ("outcome", "features", "problem_type", "horizon_days")
"""The parts of a declaration that readers of predictions, or of features, depend on. Every other part is the recipe."""


class SemanticVersion(NamedTuple):
    """Three numbers that are compared one after the other."""

    major: int
    minor: int
    patch: int

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the version that a text says.

        Raises:
            ValueError: it is not three numbers.
        """
        found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", text)
        if found is None:
            raise ValueError(f"{text!r} is not a semantic version such as 1.4.2")
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


FIRST = SemanticVersion(1, 0, 0)


def next_version(
    before: SemanticVersion | None, was: Mapping[str, str], declared: Mapping[str, str]
) -> tuple[SemanticVersion, str]:
    """Return the semantic version that follows, and what changed, in words.

    Args:
        before: the newest one of the model; None if it has none yet.
        was: digest of each part of its declaration. One that was not recorded counts as changed.
        declared: digest of each part of the declaration of the new version.
    """
    if before is None:
        return FIRST, "the first version"
    changed = sorted(name for name in was.keys() | declared.keys() if was.get(name) != declared.get(name))
    contract = [name for name in CONTRACT if name in changed]
    recipe = [name for name in changed if name not in CONTRACT]
    if contract or not was:
        return SemanticVersion(before.major + 1, 0, 0), _sentence([*contract, *recipe])
    if recipe:
        return SemanticVersion(before.major, before.minor + 1, 0), _sentence(recipe)
    return SemanticVersion(before.major, before.minor, before.patch + 1), "trained again"


def _sentence(changed: list[str]) -> str:
    return f"changed: {', '.join(changed)}" if changed else "the declaration of the version before was not recorded"
