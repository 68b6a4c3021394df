"""What makes the files of a day one set: when it is complete, and which version of each part counts."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.config.loading import load_project
from include.core import lookback, parts
from include.core.errors import ConfigError
from include.core.feeds import Parts
from include.core.journal import ENTRIES, Entry, deliveries_of
from include.core.parts import HOURS, Part, PartVersion
from include.core.project import Project

DAY = date(2026, 11, 3)
T0 = datetime(2026, 11, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)


def declared(how: object, **changes: object) -> Project:
    project = load_project("drugstore")
    plan = project.feeds["plan"].model_copy(update={"path": "plan/{day}/{part}.csv", "parts": how, **changes})
    return project.model_copy(update={"feeds": {**project.feeds, "plan": plan}})


def why(project: Project, names: set[str], *, marked: bool = False, now: datetime = T0, day: date = DAY) -> str | None:
    return parts.why_incomplete(project, "plan", day, names, marked=marked, now=now)


def version(name: str, hour: int, content: str = "x", key: str | None = None) -> PartVersion:
    return PartVersion(name, key or f"{name}-{hour}.csv", content, T0 + hour * HOUR)


class TestComplete:
    def test_by_number(self) -> None:
        project = declared(Parts(expect=2))
        assert why(project, {"a"}) == "1 of 2 parts of feed plan for 2026-11-03 are there"
        assert why(project, {"a", "b"}) is None
        assert why(project, {"a", "b", "c"}) is None  # superfluous parts are refused, and nobody waits for them

    def test_missing_hours_are_named(self) -> None:
        project = declared(Parts(expect=24))
        assert why(project, {*HOURS} - {"02", "17"}) == (
            "22 of 24 parts of feed plan for 2026-11-03 are there; missing: 02, 17"
        )
        assert "missing" not in str(why(project, {"a", "b"}))

    def test_by_the_hours_that_the_day_has(self) -> None:
        project, forward, back = declared(Parts(expect="hours")), date(2027, 3, 28), date(2026, 10, 25)
        assert why(project, {*HOURS} - {"02"}) == "23 of 24 hours of feed plan for 2026-11-03 are there; missing: 02"
        assert why(project, {*HOURS} - {"02"}, day=forward) is None
        assert why(project, {*HOURS}, day=forward) is None  # an empty file of the hour that does not exist
        assert parts.superfluous(project.feeds["plan"], {*HOURS}, set()) == []
        assert why(project, {*HOURS} - {"02", "03"}, day=forward) == (
            "22 of 23 hours of feed plan for 2027-03-28 are there; missing: 03"
        )
        assert why(project, {*HOURS}, day=back) is None

    def test_an_hour_that_does_not_exist_is_waited_for_and_named(self) -> None:
        """The names may be hours of UTC, of which each day has 24."""
        project, forward = declared(Parts(expect=24)), date(2027, 3, 28)
        assert str(why(project, {*HOURS} - {"02"}, day=forward)).endswith(
            "; missing: 02, which the day does not have in Europe/Berlin; if the names are local hours, declare "
            "feeds.plan.parts: {expect: hours}"
        )
        assert str(why(project, {*HOURS} - {"02", "03"}, day=forward)).endswith("missing: 02, 03")

    def test_by_marker(self) -> None:
        project = declared(Parts(marker="_SUCCESS"))
        assert why(project, {"a", "b"}) == (
            "2 parts of feed plan for 2026-11-03 are there, but not their marker _SUCCESS"
        )
        assert why(project, {"a", "b"}, marked=True) is None
        assert why(project, set(), marked=True) == "there is no part of feed plan for 2026-11-03"

    @pytest.mark.parametrize(
        ("changes", "deadline"),
        [
            ({}, datetime(2026, 11, 3, 2, tzinfo=UTC)),
            ({"arrives": time(9)}, datetime(2026, 11, 3, 8, tzinfo=UTC)),
            ({"delay_days": 2}, datetime(2026, 11, 5, 2, tzinfo=UTC)),
        ],
    )
    def test_at_the_cutoff_of_the_first_run_date(self, changes: dict[str, Any], deadline: datetime) -> None:
        project = declared("at_cutoff", **changes)
        assert why(project, {"a"}, now=deadline) is None
        assert why(project, {"a"}, now=deadline - timedelta(seconds=1)) == (
            f"1 part of feed plan for 2026-11-03 is there; those that have come by {deadline:%Y-%m-%d %H:%M} UTC are "
            "taken then"
        )


def test_superfluous_parts_are_those_that_the_set_before_has_not() -> None:
    feed = declared(Parts(expect=2)).feeds["plan"]
    assert parts.superfluous(feed, {"a", "b"}, set()) == []
    assert parts.superfluous(feed, {"p10", "p9", "p1"}, set()) == ["p10"]
    assert parts.superfluous(feed, {"a", "b", "c"}, {"b", "c"}) == ["a"]
    assert parts.superfluous(declared("at_cutoff").feeds["plan"], {"a", "b"}, set()) == []


def test_files_of_spark_belong_to_the_write_of_their_uuid() -> None:
    one, other = ("0a1b2c3d-1111-2222-3333-444455556666", "9f8e7d6c-1111-2222-3333-444455556666")
    keys = [f"x/part-00000-{one}-c000.csv", f"x/part-00001-{one}-c000.csv", f"x/part-00000-{other}.csv", "x/a.csv"]
    assert parts.writes(keys) == {one: keys[:2], other: keys[2:3]}
    assert parts.writes([f"{one}/part-00000.csv"]) == {}


def test_of_two_versions_with_one_time_and_other_content_none_is_newer() -> None:
    a, b = version("a", 1, "x", "a1"), version("a", 1, "y", "a2")
    assert parts.ties([a, b, version("b", 1)]) == [[a, b]]
    assert parts.ties([a, version("a", 1, "x", "a3"), version("a", 2, "z")]) == []


class TestStates:
    def test_the_first_complete_set_and_the_newest(self) -> None:
        a1, b1, a2 = version("a", 1), version("b", 2), version("a", 3, "y")
        assert parts.complete_at([a1, b1, a2]) == T0 + 2 * HOUR
        assert parts.states([a2, b1, a1], first_at=T0 + 2 * HOUR) == [{"a": a1, "b": b1}, {"a": a2, "b": b1}]
        assert parts.states([a1, b1], first_at=T0 + 2 * HOUR) == [{"a": a1, "b": b1}]

    def test_without_a_first_set_only_the_newest(self) -> None:
        a1, a2 = version("a", 1), version("a", 3, "y")
        assert parts.states([a1, a2], first_at=None) == [{"a": a2}]
        assert parts.states([a2], first_at=T0) == [{"a": a2}]  # nothing had come by the cutoff

    def test_of_equal_times_the_greater_name_is_newer(self) -> None:
        a9, a10 = version("a", 1, "x", "v9"), version("a", 1, "y", "v10")
        assert parts.states([a10, a9], first_at=None) == [{"a": a10}]

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=1, unique=True), st.randoms())
    def test_no_order_of_versions_matters_and_no_state_knows_what_came_later(
        self, given_versions: list[tuple[str, int]], random: Any
    ) -> None:
        versions = [version(name, hour, f"{name}{hour}") for name, hour in given_versions]
        shuffled = random.sample(versions, len(versions))
        first_at = parts.complete_at(versions)
        found = parts.states(versions, first_at=first_at)
        assert parts.states(shuffled, first_at=first_at) == found
        assert found[0].keys() == {each.name for each in versions}
        assert all(each.available_from <= first_at for each in found[0].values())
        newest = {name: max(each.available_from for each in versions if each.name == name) for name in found[-1]}
        assert {name: each.available_from for name, each in found[-1].items()} == newest


def test_the_digest_follows_names_and_contents_and_no_order() -> None:
    digest = parts.set_digest({"a": "1", "b": "2"})
    assert digest == parts.set_digest({"b": "2", "a": "1"})
    assert len({digest, parts.set_digest({"a": "2", "b": "1"}), parts.set_digest({"a": "1"})}) == 3


def test_the_order_of_parts_counts_numbers_and_is_total() -> None:
    assert parts.in_order({"p10", "p9", "p09"}) == ["p09", "p9", "p10"]


def test_the_journal_keeps_the_parts() -> None:
    part = Part("a", "x/a.csv", "00", 3, T0, 0, 4)
    about = {"feed": "plan", "day": str(DAY), "key": "x", "uri": "x", "sha256": "0", "size": 1, "rows": 3}
    about |= {"available_from": T0.isoformat(), "verdict": "landed"}
    entries = [
        Entry(kind="delivery", subject="set", entry={**about, "parts": [part.entry()]}),
        Entry(kind="delivery", subject="plain", entry={**about, "key": 'a"parts"b'}),
    ]
    rows = [(n, e.kind, e.subject, e.model_dump_json(include={"entry"})[9:-1], None) for n, e in enumerate(entries, 1)]
    frame = pl.DataFrame(rows, schema=ENTRIES, orient="row")
    assert parts.sets_of(frame) == {"set": (part,)}
    assert deliveries_of(frame)["delivery_id"].to_list() == ["set", "plain"]


class TestDeclaration:
    @pytest.mark.parametrize(
        ("keys", "said"),
        [
            ({"path": "plan/{day}/{part}.csv"}, "parts: the path has {part} or {hour}, so say when the files of a day"),
            ({"path": "plan/{day}/{hour}.csv"}, "`parts: {marker: _SUCCESS}` or `parts: at_cutoff`"),
            ({"parts": "at_cutoff"}, "parts: the path names no parts; write {part} where names differ"),
            (
                {"path": "plan/{day}/{part}.csv", "parts": {"expect": 0}},
                "greater than or equal to 1; write {expect: 24}",
            ),
            ({"path": "plan/{day}/{part}.csv", "parts": {}}, "one of expect and marker is needed; write {expect: 24}"),
            (
                {"path": "plan/{day}/{part}.csv", "parts": {"expect": 2, "marker": "a"}},
                "one of expect and marker is needed",
            ),
            ({"path": "plan/{day}/{part}.csv", "parts": "at_noon"}, "write {expect: 24}, {marker: _SUCCESS} or at_cut"),
            ({"path": "plan/{day}/{part}.csv", "parts": {"marker": "a/b"}}, "'a/b' is not the name of a file"),
            (
                {"path": "plan/{day}-{part}.csv", "parts": {"marker": "_S"}},
                "parts.marker: the files of a day need a fol",
            ),
            ({"path": "plan/{day}/{hour}/{part}.csv", "parts": {"marker": "_S"}}, "need a folder of their own"),
            (
                {"path": "plan/{day}/{part}.csv", "parts": "at_cutoff", "correction": "upsert"},
                "correction: upsert: all parts of a day are the whole day each time, so nothing is added to it",
            ),
            (
                {
                    "path": "plan/{day}/{part}.csv",
                    "parts": "at_cutoff",
                    "late_rows": {"kind": "correct", "at_most": 0.1},
                },
                "late_rows: kind correct: all parts of a day are the whole day each time",
            ),
            (
                {"path": "sales/{day}/x-{part}.jsonl", "parts": {"marker": "a.csv"}},
                "feeds.plan.parts.marker: 'sales/{day}/a.csv' can be a file of another feed",
            ),
            (
                {"path": "plan/{day}/{part}.csv", "parts": {"expect": "hours"}},
                "parts.expect: hours are one file each; write {hour} into the path, and no {part}",
            ),
        ],
    )
    def test_a_wrong_one_is_named_with_the_line_to_write(
        self, load_changed: Callable[..., Project], keys: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(ConfigError, match=re.escape(said)):
            load_changed("drugstore", lambda declared: declared["feeds"]["plan"].update(keys))

    def test_two_feeds_whose_parts_could_be_one_file_are_refused(self, load_changed: Callable[..., Project]) -> None:
        keys = {"path": "sales/{day}/{part}", "parts": "at_cutoff"}
        with pytest.raises(ConfigError, match="a file can match"):
            load_changed("drugstore", lambda declared: declared["feeds"]["plan"].update(keys))


def test_a_run_date_says_which_hours_it_goes_on_without() -> None:
    project = declared("at_cutoff")
    days = [DAY - timedelta(days=n) for n in range(5)]
    known = pl.DataFrame({"run_date": [DAY] * 5, "feed": ["plan"] * 5, "day": days, "delivery_id": list("abcde")})

    def part(name: str) -> Part:
        return Part(name, f"{name}.csv", "x", 1, T0, 0, 1)

    whole = [part(f"{hour:02d}") for hour in range(24)]
    sets = {"a": whole, "b": whole[:17] + whole[18:], "c": whole[2:], "d": whole[1:], "e": whole[1:]}
    said = lookback.of_parts(project, known, sets)
    assert said == {
        DAY: {
            "plan": f"knows {days[3]} without the hours 00, {days[2]} without the hours 00, 01, "
            f"{days[1]} without the hours 17 and 1 more days"
        }
    }
    assert lookback.of_parts(declared(Parts(expect=23)), known, sets) == {}
    assert lookback.of_parts(project, known, {"a": [part("north"), part("00")]}) == {}
    twice = lookback.together(said, {DAY: {"plan": "is late", "sales": "x"}})
    assert twice == {DAY: {"plan": f"{said[DAY]['plan']}; it is late", "sales": "x"}}
