"""The path of a feed, and whether two of them can match the same file."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.core.paths import DayOfKey, can_meet, refuse_path


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("a/{day}.csv", "a/{day}.csv", True),
        ("a/{day}.csv", "b/{day}.csv", False),
        ("*/{day}.csv", "b/{day}.csv", True),
        ("a/{day}/*", "a/{day}/*.csv", True),
        ("a/{day}/*.gz", "a/{day}/*.csv", False),
        ("a/{day}/x*.csv", "a/{day}/*y.csv", True),
        ("a/{day}/x*.csv", "a/{day}/y*.csv", False),
        ("a/{day}/*", "a/*", False),  # * stands for no slash
        ("{day}/*", "*/{day}", True),
        ("a-{day}.csv", "a-{day:%Y%m%d}.csv", False),
        ("a/{day:%Y/%m/%d}.csv", "a/*/*/*", True),
        ("{day:%Y}/{day:%j}", "{day:%Y/%m/%d}", False),
        ("2026-*/{day}", "{day}/{day}", True),
        ("2x26-*/{day}", "{day}/{day}", False),
        (f"a/{'*x' * 200}{{day}}", f"a/{'*y' * 200}{{day}}", False),
    ],
)
def test_two_paths_meet_if_some_key_matches_both(one: str, other: str, meet: bool) -> None:
    assert can_meet(one, other) == can_meet(other, one) == meet


PATHS = st.text("ab/*", min_size=1, max_size=8)


@given(PATHS, PATHS, st.text("ab/", max_size=6))
def test_paths_with_a_key_in_common_meet(one: str, other: str, key: str) -> None:
    matches = [re.fullmatch(re.escape(path).replace(r"\*", "[^/]*"), key) for path in (one, other)]
    if all(matches):
        assert can_meet(one, other)


def test_a_part_of_a_day_that_comes_again_is_the_same() -> None:
    days = DayOfKey("{day:%Y}/{day}.csv")
    assert days.matches("2026/2026-03-04.csv")
    assert not days.matches("2025/2026-03-04.csv")


@pytest.mark.parametrize(
    "path", ["/a/{day}", "a//{day}", "a/**/{day}", "a[1]/{day}", "a/{day}\n", "{day:%Y-%m-%d%}", "{day:x}"]
)
def test_a_path_that_could_match_nothing_or_anything_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(path))):
        refuse_path(path)
