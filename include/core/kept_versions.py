"""Which versions of a Delta table stay readable when its old files are removed. Pure.

A version stays if something names it, if it is younger than the time of grace, or if it was the newest when that time
began: a step that runs now may read it, and record it later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

GRACE = "a step may still read it"
NEWEST = "the newest version"


@dataclass(frozen=True)
class Commit:
    """A version of a table: when it was committed (UTC), and whether its commit removed files of the version before."""

    version: int
    at: datetime
    removes: bool = True


def kept_versions(commits: Sequence[Commit], named: Mapping[int, str], grace_began: datetime) -> dict[int, str]:
    """Map each version that stays readable to the reason.

    Args:
        commits: all versions that the log still has, in order.
        named: why a version is named; those that the log does not have are left out.
        grace_began: versions that were the newest at some moment since then stay.
    """
    there = {each.version for each in commits}
    kept = {version: why for version, why in sorted(named.items()) if version in there}
    for each, after in pairwise(commits):
        if after.at >= grace_began:
            kept.setdefault(each.version, GRACE)
    if commits:
        kept.setdefault(commits[-1].version, NEWEST)
    return dict(sorted(kept.items()))


def deciding_versions(commits: Sequence[Commit], kept: Mapping[int, str]) -> list[int]:
    """Return the kept versions that have files which the next kept version lacks, and the newest.

    The files of the others are all in a later kept version. A nightly run that only adds a day removes nothing, so
    years of them are a few versions to look at.
    """
    found, last = list[int](), None
    removed_since = False
    for each in commits:
        removed_since |= each.removes
        if each.version in kept:
            if last is not None and removed_since:
                found.append(last)
            last, removed_since = each.version, False
    return [*found, *([last] if last is not None else [])]
