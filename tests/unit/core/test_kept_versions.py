"""Which versions stay readable, and which of them decide about files."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from include.core.kept_versions import GRACE, NEWEST, Commit, deciding_versions, kept_versions

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


def log_of(*days: int, removes: bool = True) -> list[Commit]:
    """Return commits that were made so many days after the grace began."""
    return [Commit(number, BEGAN + timedelta(days=day), removes) for number, day in enumerate(days)]


def test_a_version_stays_if_it_is_named_or_was_the_newest_since_the_grace_began() -> None:
    kept = kept_versions(log_of(-30, -20, -10, 5, 6), {0: "a fit", 9: "another table's"}, BEGAN)
    assert kept == {0: "a fit", 2: GRACE, 3: GRACE, 4: NEWEST}


def test_a_table_that_nobody_wrote_for_long_keeps_its_newest_version() -> None:
    assert kept_versions(log_of(-30, -20), {}, BEGAN) == {1: NEWEST}
    assert kept_versions([], {}, BEGAN) == {}


def test_versions_between_which_nothing_was_removed_are_decided_by_the_last_of_them() -> None:
    commits = [*log_of(*range(4), removes=False), Commit(4, BEGAN, True), Commit(5, BEGAN, False)]
    assert deciding_versions(commits, dict.fromkeys((0, 1, 3, 5), "a record")) == [3, 5]


@pytest.mark.parametrize("seed", range(20))
def test_deciding_versions_have_all_files_of_the_kept_ones(seed: int) -> None:
    chance, files, commits = random.Random(seed), [set[int]()], [Commit(0, BEGAN, False)]
    for number in range(1, 40):
        removed = {each for each in files[-1] if chance.random() < 0.1}
        files.append((files[-1] - removed) | {number})
        commits.append(Commit(number, BEGAN, bool(removed)))
    kept = {number: "a record" for number in range(40) if chance.random() < 0.5} | {39: NEWEST}
    deciding = deciding_versions(commits, kept)
    assert set().union(*(files[number] for number in deciding)) == set().union(*(files[number] for number in kept))
    assert set(deciding) <= set(kept)
