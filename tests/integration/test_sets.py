"""Several files of a day are one delivery: when it is complete, what a new part changes, and what is refused."""

import hashlib
import io
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from include.config.loading import load_project
from include.core.errors import DeliveryError
from include.core.feeds import Parts
from include.core.formats.csv import Csv
from include.core.formats.parquet import Parquet
from include.core.intake import NotYetError
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import read_journal
from include.operations.decide import accept, withdraw
from include.operations.outdated import _waiting
from include.steps import land as land_module
from include.steps.arrivals import missing_files
from include.steps.land import land
from include.steps.validate import validate
from tests.integration.drugstore import moment, put, put_plan
from tests.landing import deliveries_of, rows_of

DAY = date(2026, 11, 3)
ONE = Interval.of(DAY)
RAW = "raw_drugstore__plan"
ONE_UUID, OTHER_UUID = "0a1b2c3d-1111-2222-3333-444455556666", "9f8e7d6c-1111-2222-3333-444455556666"

Install = Callable[..., AbstractContextManager[Settings]]


def declared(path: str, parts: object, feed: str = "plan", **changes: object) -> Project:
    """Return the project with a feed of several CSV files a day, whose corrections never wait for a decision."""
    project = load_project("drugstore")
    named = {"path": path, "parts": parts, "format": Csv(), "corrections_days": 99_999, **changes}
    return project.model_copy(update={"feeds": {**project.feeds, feed: project.feeds[feed].model_copy(update=named)}})


HOURLY = declared("plan/{day}/{hour}.csv", Parts(expect=24))
THREE = declared("plan/{day}/{part}.csv", Parts(expect=3))
MARKED = declared("plan/{day}/{part}.csv", Parts(marker="_SUCCESS"))
AT_CUTOFF = declared("plan/{day}/{part}.csv", "at_cutoff")


def put_part(
    settings: Settings, name: str, items: Sequence[str], *, hour: int = -4, planned: int = 7, day: date = DAY
) -> Path:
    """Put a part that came so many hours after midnight of the day."""
    lines = ["item_id,store_id,delivery_date,planned", *(f"{item},1,{day},{planned}" for item in items), ""]
    key = f"plan/{day}/{name}.csv"
    put(settings, key, "\n".join(lines).encode(), at(hour, day))
    return Path(settings.landing) / "drugstore" / key


def put_marker(settings: Settings, hour: int = -3, content: bytes = b"") -> None:
    put(settings, f"plan/{DAY}/_SUCCESS", content, at(hour))


def at(hour: int, day: date = DAY) -> datetime:
    return moment(day, 0) + timedelta(hours=hour)


def sets(settings: Settings) -> pl.DataFrame:
    """Return the deliveries of the feed in the order of the journal."""
    return deliveries_of(settings, "drugstore").filter(pl.col("feed") == "plan").sort("sequence")


def items(settings: Settings, delivery: str) -> dict[str, int]:
    """Map each item of a delivery to the planned pieces, and assert that each row has a number of its own."""
    rows = rows_of(settings, RAW).filter(pl.col("delivery_id") == delivery)
    assert rows["_row"].is_unique().all()
    return dict(rows.select("item_id", pl.col("planned").cast(pl.Int64)).iter_rows())


class TestCount:
    def test_a_day_of_23_hours_is_waited_for_and_the_24th_completes_it(self, settings: Settings) -> None:
        for hour in range(24):
            if hour != 7:
                put_part(settings, f"{hour:02d}", [f"i{hour}"], hour=hour - 30)
        said = "23 of 24 parts of feed plan for 2026-11-03 are there; missing: 07"
        assert missing_files(HOURLY, DAY, settings) == {"plan": said}
        with pytest.raises(NotYetError, match=said):
            land(HOURLY, ONE, settings)
        assert sets(settings).is_empty()
        assert [*_waiting(HOURLY, read_journal(settings, HOURLY), DAY, settings)] == [DAY]
        put_part(settings, "07", ["i7"], hour=2)
        assert missing_files(HOURLY, DAY, settings) == {}
        landed = land(HOURLY, ONE, settings)
        assert (landed.new, landed.rows, landed.refused) == (1, 24, ())
        [delivery] = sets(settings).to_dicts()
        assert (delivery["rows"], delivery["available_from"]) == (24, at(2))
        assert items(settings, delivery["delivery_id"]) == {f"i{hour}": 7 for hour in range(24)}

    def test_its_rows_are_validated_and_used_as_one_delivery(self, settings: Settings) -> None:
        for name in ("a", "b", "c"):
            put_part(settings, name, [f"{name}1", f"{name}2"])
        land(THREE, ONE, settings)
        validated = validate(THREE, ONE, settings)
        assert (validated.accepted, validated.rows) == (1, 6)
        assert rows_of(settings, "clean_drugstore__plan")["item_id"].to_list() == ["a1", "a2", "b1", "b2", "c1", "c2"]

    def test_a_second_run_and_a_touched_part_change_nothing(self, settings: Settings) -> None:
        paths = [put_part(settings, name, [name]) for name in ("a", "b", "c")]
        land(THREE, ONE, settings)
        before = sets(settings)
        again = land(THREE, ONE, settings)
        assert (again.new, again.known) == (0, 3)
        os.utime(paths[0], (at(9).timestamp(),) * 2)
        assert land(THREE, ONE, settings).new == 0
        assert land(THREE, ONE, settings).known == 3
        assert sets(settings).equals(before)

    def test_history_copied_in_any_order_is_the_same_set(
        self, settings: Settings, install: Install, tmp_path: Path
    ) -> None:
        project = declared("plan/{day}/{part}.csv", Parts(expect=3), live_from=date(2026, 11, 20))
        for number, name in enumerate(("a", "b", "c")):
            put_part(settings, name, [f"{name}1", f"{name}2"], hour=number)
        land(project, ONE, settings)
        with install(tmp_path / "other") as other:
            for number, name in enumerate(("c", "a", "b")):
                put_part(other, name, [f"{name}1", f"{name}2"], hour=number + 20)
            land(project, ONE, other)
            assert rows_of(other, RAW).equals(rows_of(settings, RAW))
            names = ["delivery_id", "available_from", "rows"]
            assert sets(other).select(names).equals(sets(settings).select(names))
        assert sets(settings)["available_from"].to_list() == [at(3)]

    def test_more_parts_than_expected_are_named_and_the_set_before_stays(self, settings: Settings) -> None:
        for name in ("b", "c", "d"):
            put_part(settings, name, [name])
        land(THREE, ONE, settings)
        put_part(settings, "a", ["a"])
        [refused] = land(THREE, ONE, settings).refused
        assert "4 parts of feed plan for 2026-11-03 are there, and parts.expect is 3; superfluous: a;" in refused.why
        assert sets(settings)["verdict"].to_list() == ["landed"]

    def test_more_parts_than_expected_are_no_reason_to_wait(self, settings: Settings) -> None:
        for name in ("a", "b", "c", "d"):
            put_part(settings, name, [name])
        assert missing_files(THREE, DAY, settings) == {}
        with pytest.raises(DeliveryError, match="superfluous: d;") as caught:
            land(THREE, ONE, settings)
        assert not isinstance(caught.value, NotYetError)

    def test_an_optional_incomplete_set_is_not_used(self, settings: Settings) -> None:
        project = declared("sales/{day}/{part}.csv", Parts(expect=2), "sales", days=None)
        put_plan(settings, DAY)
        put(settings, f"sales/{DAY - timedelta(days=7)}/a.csv", b"item_id,sale_date,cashier,pieces\n", at(-9))
        landed = land(project, ONE, settings)
        assert (landed.new, landed.refused) == (1, ())
        assert deliveries_of(settings, "drugstore")["feed"].to_list() == ["plan"]
        put(settings, f"sales/{DAY - timedelta(days=7)}/b.csv", b"item_id,sale_date,cashier,pieces\n", at(-8))
        assert land(project, ONE, settings).new == 1

    def test_parquet_files_are_parts_too(self, settings: Settings) -> None:
        project = declared("plan/{day}/{part}.parquet", Parts(expect=2), format=Parquet())
        for name in ("part-00000", "part-00001"):
            content = io.BytesIO()
            row = {"item_id": [name], "store_id": [1], "delivery_date": [DAY], "planned": [7]}
            pl.DataFrame(row).write_parquet(content)
            put(settings, f"plan/{DAY}/{name}.parquet", content.getvalue(), at(-4))
        assert land(project, ONE, settings).rows == 2
        assert items(settings, sets(settings)["delivery_id"][0]) == {"part-00000": 7, "part-00001": 7}


class TestCorrection:
    def test_a_new_version_of_one_part_replaces_that_part(self, settings: Settings) -> None:
        for name in ("a", "b", "c"):
            put_part(settings, name, [f"{name}1", f"{name}2"])
        land(THREE, ONE, settings)
        put_part(settings, "b", ["b1", "b2", "b3"], hour=9, planned=8)
        landed = land(THREE, ONE, settings)
        assert (landed.new, landed.rows, landed.held) == (1, 7, ())
        first, second = sets(settings).to_dicts()
        assert (first["available_from"], second["available_from"]) == (at(-4), at(9))
        assert items(settings, first["delivery_id"]) == dict.fromkeys(["a1", "a2", "b1", "b2", "c1", "c2"], 7)
        after = {"a1": 7, "a2": 7, "b1": 8, "b2": 8, "b3": 8, "c1": 7, "c2": 7}
        assert items(settings, second["delivery_id"]) == after

    def test_the_other_parts_may_have_been_removed_from_landing(self, settings: Settings) -> None:
        """Their rows are those of the raw table, with identifiers hashed as they were."""
        project = declared("plan/{day}/{part}.csv", Parts(expect=3))
        columns = project.feeds["plan"].columns
        hashed = {**columns, "item_id": columns["item_id"].model_copy(update={"data_class": "identifier"})}
        project = declared("plan/{day}/{part}.csv", Parts(expect=3), columns=hashed)
        paths = [put_part(settings, name, [f"{name}1", f"{name}2"]) for name in ("a", "b", "c")]
        land(project, ONE, settings)
        before = items(settings, sets(settings)["delivery_id"][0])
        for path in paths:
            path.unlink()
        put_part(settings, "b", ["b1", "b2"], hour=9, planned=8)
        assert land(project, ONE, settings).new == 1
        after = items(settings, sets(settings)["delivery_id"][1])
        assert after.keys() == before.keys()
        assert sorted(after.values()) == [7, 7, 7, 7, 8, 8]

    def test_as_many_parts_of_other_names_are_the_day_again(self, settings: Settings) -> None:
        """As Spark writes them: each write has names of its own. A part of the names is no whole day."""
        paths = [put_part(settings, name, [name]) for name in ("a", "b", "c")]
        land(THREE, ONE, settings)
        for path in paths:
            path.unlink()
        new = [put_part(settings, name, [name], hour=9) for name in ("p", "q", "r")]
        assert land(THREE, ONE, settings).new == 1
        assert items(settings, sets(settings)["delivery_id"][1]) == {"p": 7, "q": 7, "r": 7}
        new[0].unlink()
        put_part(settings, "s", ["s"], hour=10)
        [refused] = land(THREE, ONE, settings).refused
        last = sets(settings)["delivery_id"][1]
        assert (
            "superfluous: s; remove them, or correct parts.expect. 1 of the 4 are not in landing any more"
            in refused.why
        )
        assert f"are read from {last}; if nothing of it is right, withdraw it" in refused.why

    def test_of_a_part_that_is_there_twice_the_newer_counts_from_its_time(self, settings: Settings) -> None:
        """The first complete set counts until then, also if both are landed together."""
        project = declared("plan/{day}/{part}-*.csv", Parts(expect=2))
        put_part(settings, "a-v1", ["a"], hour=-5)
        put_part(settings, "b-v1", ["b"], hour=-4)
        put_part(settings, "a-v2", ["a"], hour=9, planned=8)
        assert land(project, ONE, settings).new == 2
        first, second = sets(settings).to_dicts()
        assert (first["available_from"], second["available_from"]) == (at(-4), at(9))
        assert items(settings, first["delivery_id"]) == {"a": 7, "b": 7}
        assert items(settings, second["delivery_id"]) == {"a": 8, "b": 7}
        assert land(project, ONE, settings).known == 3
        assert _waiting(project, read_journal(settings, project), DAY, settings) == {}

    def test_two_versions_of_a_part_with_one_time_are_refused_with_both_names(self, settings: Settings) -> None:
        project = declared("plan/{day}/{part}-*.csv", Parts(expect=2))
        put_part(settings, "a-v1", ["a"])
        put_part(settings, "a-v2", ["a"], planned=8)
        put_part(settings, "b-v1", ["b"])
        with pytest.raises(DeliveryError, match=r"part a of feed plan .* is there as .*a-v1\.csv, .*a-v2\.csv"):
            land(project, ONE, settings)
        by_name = declared("plan/{day}/{part}-*.csv", Parts(expect=2), versions="by_name")
        land(by_name, ONE, settings)
        assert items(settings, sets(settings)["delivery_id"][0]) == {"a": 8, "b": 7}

    def test_a_part_that_claims_an_earlier_time_waits_for_a_decision(self, settings: Settings) -> None:
        for name in ("a", "b", "c"):
            put_part(settings, name, [name])
        land(THREE, ONE, settings)
        put_part(settings, "b", ["b"], hour=-9, planned=8)
        [held] = land(THREE, ONE, settings).held
        assert "its newest part became available at 2026-11-02 19:00:00 UTC, not after plan/2026-11-03/" in held
        assert sets(settings)["verdict"].to_list() == ["landed", "held"]
        assert (land(THREE, ONE, settings).new, sets(settings).height) == (0, 2)

    def test_what_a_person_withdrew_does_not_come_back_with_another_part(self, settings: Settings) -> None:
        """Nobody said which of its parts is wrong; the whole day again, or a new marker, is no part of it."""
        for name in ("a", "b", "c"):
            put_part(settings, name, [name])
        land(THREE, ONE, settings)
        withdrawn = sets(settings)["delivery_id"][0]
        withdraw(THREE, withdrawn, settings, by="ana", why="c is of another shop")
        put_part(settings, "b", ["b"], hour=9, planned=8)
        [held] = land(THREE, ONE, settings).held
        assert f"it has a, c as in {withdrawn}, which was withdrawn (c is of another shop); accept it only if" in held
        for name in ("a", "c"):
            put_part(settings, name, [name], hour=10, planned=9)
        [held] = land(THREE, ONE, settings).held[1:]
        assert "it has b as in " in held
        assert ", which waits for a decision; accept it" in held
        accept(THREE, sets(settings)["delivery_id"][1], settings, by="ana", why="c was right")
        put_part(settings, "c", ["c"], hour=11, planned=10)
        assert land(THREE, ONE, settings).new == 1
        assert sets(settings)["verdict"].to_list() == ["withdrawn", "landed", "held", "held"]
        put_part(settings, "a", ["a"], hour=12, planned=10)
        land(THREE, ONE, settings)
        assert sets(settings)["verdict"][-1] == "held"  # c is still as in one that waits

    def test_a_correction_of_a_part_whose_correction_was_withdrawn_is_used(self, settings: Settings) -> None:
        for name in ("a", "b", "c"):
            put_part(settings, name, [name])
        land(THREE, ONE, settings)
        put_part(settings, "b", ["b"], hour=9, planned=8)
        land(THREE, ONE, settings)
        withdraw(THREE, sets(settings)["delivery_id"][1], settings, by="ana", why="b is wrong")
        put_part(settings, "b", ["b"], hour=10, planned=9)
        land(THREE, ONE, settings)
        assert sets(settings)["verdict"].to_list() == ["landed", "withdrawn", "landed"]

    def test_a_late_correction_waits_for_a_decision(self, settings: Settings) -> None:
        project = declared("plan/{day}/{part}.csv", Parts(expect=3), corrections_days=7)
        for name in ("a", "b", "c"):
            put_part(settings, name, [name])
        land(project, ONE, settings)
        put_part(settings, "b", ["b"], hour=24 * 20, planned=8)
        [held] = land(project, ONE, settings).held
        assert "days after it was due, and corrections_days is 7" in held

    def test_a_part_that_was_only_touched_keeps_its_time(self, settings: Settings) -> None:
        paths = [put_part(settings, name, [name]) for name in ("a", "b", "c")]
        land(THREE, ONE, settings)
        os.utime(paths[0], (at(30).timestamp(),) * 2)
        put_part(settings, "b", ["b"], hour=9, planned=8)
        land(THREE, ONE, settings)
        assert sets(settings)["available_from"].to_list() == [at(-4), at(9)]


class TestMarker:
    def test_without_the_marker_the_parts_wait(self, settings: Settings) -> None:
        put_part(settings, "a", ["a"])
        said = "1 part of feed plan for 2026-11-03 is there, but not their marker _SUCCESS"
        assert missing_files(MARKED, DAY, settings) == {"plan": said}
        put_marker(settings)
        assert missing_files(MARKED, DAY, settings) == {}
        assert land(MARKED, ONE, settings).new == 1
        assert sets(settings)["available_from"].to_list() == [at(-3)]
        assert land(MARKED, ONE, settings).known == 1

    def test_a_new_marker_replaces_all_parts(self, settings: Settings) -> None:
        paths = [put_part(settings, name, [name]) for name in ("a", "b")]
        put_marker(settings)
        land(MARKED, ONE, settings)
        for path in paths:
            path.unlink()
        put_part(settings, "c", ["c"], hour=5)
        put_marker(settings, hour=6)
        assert land(MARKED, ONE, settings).new == 1
        second = sets(settings).to_dicts()[1]
        assert items(settings, second["delivery_id"]) == {"c": 7}
        assert second["available_from"] == at(6)

    def test_a_new_marker_brings_parts_of_a_set_that_was_withdrawn(self, settings: Settings) -> None:
        for name in ("a", "b"):
            put_part(settings, name, [name])
        put_marker(settings)
        land(MARKED, ONE, settings)
        withdraw(MARKED, sets(settings)["delivery_id"][0], settings, by="ana", why="b was cut off")
        put_part(settings, "a", ["a"], hour=5)
        put_part(settings, "b", ["b", "b2"], hour=5)
        put_marker(settings, hour=6)
        assert land(MARKED, ONE, settings).held == ()
        assert sets(settings)["verdict"].to_list() == ["withdrawn", "landed"]

    def test_a_folder_that_spark_wrote_twice_is_refused_with_the_names(self, settings: Settings) -> None:
        for uuid in (ONE_UUID, OTHER_UUID):
            put_part(settings, f"part-00000-{uuid}-c000", ["a"])
        put_marker(settings)
        with pytest.raises(DeliveryError, match="the parts of feed plan for 2026-11-03 are of 2 writes") as caught:
            land(MARKED, ONE, settings)
        assert all(f"plan/{DAY}/part-00000-{uuid}-c000.csv" in str(caught.value) for uuid in (ONE_UUID, OTHER_UUID))
        (Path(settings.landing) / f"drugstore/plan/{DAY}/part-00000-{ONE_UUID}-c000.csv").unlink()
        assert land(MARKED, ONE, settings).new == 1

    @pytest.mark.parametrize("hour", [-2, -9])
    def test_parts_that_are_not_of_the_marker_are_refused(self, settings: Settings, hour: int) -> None:
        """Neither a part after the marker nor one with an older time that was put beside a set that was taken."""
        put_part(settings, "a", ["a"])
        put_marker(settings)
        land(MARKED, ONE, settings)
        put_part(settings, "b", ["b"], hour=hour)
        [refused] = land(MARKED, ONE, settings).refused
        assert f"were written after their marker file://{settings.landing}" in refused.why
        assert f": plan/{DAY}/b.csv; remove the files" in refused.why
        assert sets(settings).height == 1

    def test_history_may_be_copied_in_any_order(self, settings: Settings) -> None:
        project = declared("plan/{day}/{part}.csv", Parts(marker="done.csv"), live_from=date(2026, 11, 20))
        put(settings, f"plan/{DAY}/done.csv", b"", at(-9))
        put_part(settings, "a", ["a"])
        land(project, ONE, settings)
        put_part(settings, "b", ["b"])
        land(project, ONE, settings)
        assert [items(settings, each) for each in sets(settings)["delivery_id"]] == [{"a": 7}, {"a": 7, "b": 7}]


class TestAtCutoff:
    def test_a_part_after_the_cutoff_is_a_correction(self, settings: Settings) -> None:
        put_part(settings, "a", ["a"], hour=-4)
        put_part(settings, "b", ["b"], hour=2)
        land(AT_CUTOFF, ONE, settings)
        put_part(settings, "c", ["c"], hour=5)
        land(AT_CUTOFF, ONE, settings)
        listed = sets(settings)
        assert listed["available_from"].to_list() == [at(2), at(5)]
        assert [[*items(settings, each)] for each in listed["delivery_id"]] == [["a", "b"], ["a", "b", "c"]]

    def test_parts_landed_together_are_separated_by_the_cutoff(self, settings: Settings) -> None:
        for name, hour in (("a", -4), ("b", 2), ("c", 5)):
            put_part(settings, name, ["x" + name], hour=hour)
        assert land(AT_CUTOFF, ONE, settings).new == 2
        together = sets(settings)
        assert [[*items(settings, each)] for each in together["delivery_id"]] == [["xa", "xb"], ["xa", "xb", "xc"]]

    def test_before_the_cutoff_they_wait(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        put_part(settings, "a", ["a"], hour=-4)
        monkeypatch.setattr("include.io.postgres.journal.read_clock", lambda _: at(2))
        said = "1 part of feed plan for 2026-11-03 is there; those that have come by 2026-11-03 02:00 UTC are taken"
        assert missing_files(AT_CUTOFF, DAY, settings) == {"plan": f"{said} then"}
        monkeypatch.setattr("include.io.postgres.journal.read_clock", lambda _: at(3))
        assert missing_files(AT_CUTOFF, DAY, settings) == {}


class TestRefused:
    def test_a_bad_part_refuses_its_set_and_no_other(self, settings: Settings) -> None:
        before = DAY - timedelta(days=1)
        for name in ("a", "b", "c"):
            put_part(settings, name, [name])
            put_part(settings, name, [name], day=before)
        path = Path(settings.landing) / f"drugstore/plan/{before}/b.csv"
        path.write_bytes(b"nonsense\n")
        os.utime(path, (at(-4).timestamp(),) * 2)
        landed = land(THREE, ONE, settings)
        [refused] = landed.refused
        assert landed.new == 1
        assert refused.why.startswith(f"file://{path}, line 1: the header changed")
        assert refused.why.endswith("; no part of feed plan for 2026-11-02 is used without it")
        put_part(settings, "b", ["b"], day=before)
        assert land(THREE, ONE, settings).new == 1

    def test_each_part_may_have_a_sidecar(self, settings: Settings) -> None:
        ahead = datetime.now(at(0).tzinfo) + timedelta(hours=1)
        for name, claim in (("a", at(-2)), ("b", at(-1)), ("c", ahead)):
            path = put_part(settings, name, [name])
            content = path.read_bytes()
            claims = {"feed": "plan", "day": str(DAY), "rows": 1, "available_at": claim.isoformat()}
            claims |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            path.with_name(f"{path.name}.json").write_text(json.dumps(claims))
        said = missing_files(THREE, DAY, settings)["plan"]
        assert said.startswith("2 of 3 parts of feed plan for 2026-11-03 are there; file://")
        assert said.endswith("which is still ahead; it is landed after that moment")
        with pytest.raises(NotYetError):
            land(THREE, ONE, settings)
        beside = path.with_name(f"{path.name}.json")
        beside.write_text(beside.read_text().replace(ahead.isoformat(), at(-3).isoformat()))
        land(THREE, ONE, settings)
        assert sets(settings)["available_from"].to_list() == [at(-1)]


class TestUndeclared:
    PLAIN = declared("plan/{day}/*.csv", None)

    def test_files_that_look_like_parts_are_refused_with_what_to_declare(self, settings: Settings) -> None:
        for hour, name in enumerate(("a", "b", "c")):
            put_part(settings, name, [f"{name}1", f"{name}2"], hour=hour - 5)
        refused = land(self.PLAIN, ONE, settings).refused
        assert [each.uri.rsplit("/", 1)[1] for each in refused] == ["b.csv", "c.csv"]
        assert f"b.csv: 0 of its 2 keys are in plan/{DAY}/a.csv, which is for {DAY} too" in refused[0].why
        assert "feeds.plan.path: plan/{day}/{part}.csv and feeds.plan.parts: {expect: 24}" in refused[0].why
        assert land(self.PLAIN, ONE, settings).refused == refused  # a.csv is in the raw table now

    @pytest.mark.parametrize(("others", "is_refused"), [(["a1", "x"], False), (["a1", "x", "y"], True)])
    def test_half_of_the_keys_make_a_correction(
        self, settings: Settings, others: list[str], *, is_refused: bool
    ) -> None:
        put_part(settings, "a", ["a1", "a2", "a3"], hour=-5)
        put_part(settings, "b", others)
        assert bool(land(self.PLAIN, ONE, settings).refused) == is_refused

    def test_a_file_of_changed_rows_or_without_rows_is_a_correction(self, settings: Settings) -> None:
        put_part(settings, "a", [f"a{n}" for n in range(9)], hour=-6)
        put_part(settings, "b", ["a3"], hour=-5, planned=8)
        put_part(settings, "c", [], hour=-4)
        assert land(self.PLAIN, ONE, settings).new == 3

    def test_an_overwritten_object_is_a_correction(self, settings: Settings) -> None:
        put_part(settings, "a", ["a1"])
        land(self.PLAIN, ONE, settings)
        put_part(settings, "a", ["b1"], hour=4)
        assert land(self.PLAIN, ONE, settings).new == 1

    def test_hashed_keys_are_compared(self, settings: Settings) -> None:
        columns = self.PLAIN.feeds["plan"].columns
        hashed = {**columns, "item_id": columns["item_id"].model_copy(update={"data_class": "identifier"})}
        project = declared("plan/{day}/*.csv", None, columns=hashed)
        put_part(settings, "a", ["a1", "a2"], hour=-6)
        land(project, ONE, settings)
        put_part(settings, "b", ["a1", "a2"], planned=8)
        put_part(settings, "c", ["c1", "c2"])
        os.utime(Path(settings.landing) / f"drugstore/plan/{DAY}/c.csv", (at(-1).timestamp(),) * 2)
        [refused] = land(project, ONE, settings).refused
        assert "c.csv: 0 of its 2 keys" in refused.why


class TestKilledAndAtOnce:
    def test_killed_between_the_rows_and_the_entry(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("a", "b", "c"):
            put_part(settings, name, [name])
        with monkeypatch.context() as patch:
            patch.setattr(land_module, "enter", lambda *_: pytest.fail("killed"))
            with pytest.raises(pytest.fail.Exception):
                land(THREE, ONE, settings)
        before = rows_of(settings, RAW)
        assert sets(settings).is_empty()
        assert land(THREE, ONE, settings).new == 1
        assert rows_of(settings, RAW).equals(before)

    def test_two_runs_at_once_enter_one_set(self, settings: Settings) -> None:
        for name in ("a", "b", "c"):
            put_part(settings, name, [name])
        with ThreadPoolExecutor(2) as pool:
            landed = list(pool.map(lambda _: land(THREE, ONE, settings), range(2)))
        assert sum(each.new for each in landed) == 1
        assert rows_of(settings, RAW)["item_id"].to_list() == ["a", "b", "c"]

    def test_a_journal_that_was_restored_knows_the_parts(self, settings: Settings) -> None:
        """The list of objects is no part of the journal; what is read again is the same set."""
        paths = [put_part(settings, name, [name]) for name in ("a", "b", "c")]
        land(THREE, ONE, settings)
        with postgres.connection.engine(settings).begin() as connection:
            connection.execute(sa.text("DELETE FROM objects"))
        paths[0].unlink()
        landed = land(THREE, ONE, settings)
        assert (landed.new, landed.known, landed.refused) == (0, 0, ())
        assert read_journal(settings, THREE).deliveries.height == 1
        assert rows_of(settings, RAW)["item_id"].to_list() == ["a", "b", "c"]
