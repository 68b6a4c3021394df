"""land: which deliveries are accepted, with which message others are refused, and that invalid files write nothing."""

import errno
import gzip
import hashlib
import hmac
import json
import logging
import os
import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from botocore.exceptions import EndpointConnectionError
from pydantic import SecretStr

from include.config.loading import load_project
from include.core.errors import DeliveryError
from include.core.feeds import QuarantineLateRows
from include.core.formats.base import Contents
from include.core.formats.csv import Csv
from include.core.intake import NotYetError
from include.core.interval import Interval
from include.core.journal import Known
from include.core.personal import HashKey
from include.core.project import Project
from include.core.settings import Settings
from include.io import landing as landing_module
from include.io import postgres
from include.io.landing import Found, Landing
from include.io.postgres.connection import engine
from include.io.postgres.journal import read_seen_objects
from include.io.postgres.messages import Outbox
from include.io.tables import Tables
from include.operations.decide import withdraw
from include.steps import land as land_module
from include.steps.arrivals import missing_by_day, missing_files
from include.steps.entries import Taken
from include.steps.land import land
from tests.landing import (
    DAY,
    EMAIL,
    VESSEL,
    days,
    deliver_day,
    deliver_one,
    deliveries_of,
    local,
    logbook,
    made_beside_landing,
    rows_of,
    sailings,
    spoil,
    text_of,
    versions,
)

RUN_DATE = Interval.of(DAY)
BEFORE = DAY - timedelta(days=1)
CUTOFF = datetime(2013, 3, 4, 8, tzinfo=UTC)


@pytest.fixture
def project() -> Project:
    return load_project("ferries")


Install = Callable[..., AbstractContextManager[Settings]]


@pytest.fixture
def other(install: Install, settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """Another installation that reads the same landing."""
    with install(tmp_path / "other") as settings_there:
        yield settings_there.model_copy(update={"landing": settings.landing})


def age(path: Path, seconds: int) -> None:
    """Say that a file was last changed so many seconds ago."""
    at = datetime.now(UTC).timestamp() - seconds
    os.utime(path, (at, at))


def refused_in_view(settings: Settings) -> list[tuple[object, ...]]:
    query = "SELECT project, feed, day, severity, success, observed FROM data_quality WHERE expectation = "
    with engine(settings).connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(f"{query}'file_to_be_landed'"))]


class TestAccepted:
    def test_the_files_of_a_run_date_are_landed(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        landed = land(project, RUN_DATE, settings)
        assert (landed.new, landed.known, landed.rows, landed.refused) == (3, 0, 3 + 3 + 18, ())
        listed = deliveries_of(settings)
        assert listed.select("feed", "day", "rows", "verdict").rows() == [
            ("logbook", BEFORE, 3, "landed"),
            ("sailings", DAY, 3, "landed"),
            ("winds", DAY, 18, "landed"),
        ]
        raw = rows_of(settings, "raw_ferries__sailings")
        assert raw["_row"].to_list() == [2, 3, 4]  # lines of the file; the header is line 1
        assert raw["day"].unique().to_list() == [DAY]
        assert raw["ferry"].to_list() == ["0", "1", "2"]
        assert raw["delivery_id"].unique().to_list() == [listed["delivery_id"][1]]

    def test_a_plan_named_by_the_evening_before_is_that_of_its_day(self, project: Project, settings: Settings) -> None:
        """It counts for the run date of its rows; rows of the day in its name are refused."""
        sailings_feed = project.feeds["sailings"].model_copy(update={"path_day": -1})
        declared = project.model_copy(update={"feeds": {**project.feeds, "sailings": sailings_feed}})
        deliver_day(declared, settings, DAY)
        for feed, day in declared.required_days(DAY + timedelta(days=1)):
            deliver_one(declared, settings, feed, day, sailings(DAY) if feed == "sailings" else None)
        assert Path(settings.landing, "ferries", "sailings", str(BEFORE)).is_dir()
        landed = land(declared, RUN_DATE, settings)
        assert (landed.new, landed.refused) == (3, ())
        assert rows_of(settings, "raw_ferries__sailings")["day"].unique().to_list() == [DAY]
        with pytest.raises(DeliveryError, match="sailings"):
            land(declared, Interval.of(DAY + timedelta(days=1)), settings)

    def test_each_file_is_read_once_only(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In an object store each read is a round trip: content and sidecar of a new file."""
        deliver_day(project, settings, DAY)
        read: Counter[str] = Counter()
        read_one = Landing._read

        def counted(landing: Landing, key: str, size: int) -> bytes:
            read[key] += 1
            return read_one(landing, key, size)

        monkeypatch.setattr(Landing, "_read", counted)
        land(project, RUN_DATE, settings)
        keys = deliveries_of(settings)["key"].to_list()
        assert read == Counter(path for key in keys for path in (key, f"{key}.json"))

    def test_a_second_run_changes_nothing(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        before, files = versions(settings), made_beside_landing(settings)
        again = land(project, RUN_DATE, settings)
        assert (again.new, again.known, again.rows) == (0, 3, 0)
        assert versions(settings) == before
        assert made_beside_landing(settings) == files

    def test_rows_without_an_entry_are_replaced_and_not_doubled(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As after a kill between the rows and the journal."""
        deliver_day(project, settings, DAY)
        with monkeypatch.context() as patch:
            patch.setattr(land_module, "enter", lambda *_: pytest.fail("killed"))
            with pytest.raises(pytest.fail.Exception):
                land(project, RUN_DATE, settings)
        before = rows_of(settings, "raw_ferries__sailings")
        assert deliveries_of(settings).is_empty()
        assert land(project, RUN_DATE, settings).new == 3
        assert rows_of(settings, "raw_ferries__sailings").equals(before)

    def test_a_run_also_lands_files_of_earlier_run_dates(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, *days(DAY, 4).days)
        landed = land(project, Interval.of(DAY + timedelta(days=3)), settings)
        assert landed.new == 12

    @pytest.mark.parametrize(("limit", "most"), [("CHUNK_FILES", 5), ("CHUNK_BYTES", 2_000)])
    def test_a_range_in_chunks_is_the_same(
        self,
        project: Project,
        settings: Settings,
        other: Settings,
        monkeypatch: pytest.MonkeyPatch,
        limit: str,
        most: int,
    ) -> None:
        deliver_day(project, settings, *days(DAY, 4).days)
        land(project, days(DAY, 4), settings)
        whole = {name: rows_of(settings, name) for name in versions(settings)}
        monkeypatch.setattr(land_module, limit, most)
        assert land(project, days(DAY, 4), other).new == 12
        assert deliveries_of(other).drop("sequence").equals(deliveries_of(settings).drop("sequence"))
        assert all(rows_of(other, name).equals(rows) for name, rows in whole.items())

    def test_many_large_files_of_one_day_are_not_in_memory_together(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A supplier can put any number of files, each as large as the limit of one."""
        deliver_day(project, settings, DAY)
        for n in range(4):
            deliver_one(project, settings, "sailings", DAY, sailings(DAY, 4 + n), at=local(DAY, 1, n), name=f"t{n}")
        together: list[int] = []
        write_raw = land_module.write_raw

        def counted(project: Project, tables: Tables, taken: list[Taken], key: HashKey) -> None:
            together.append(len(taken))
            write_raw(project, tables, taken, key)

        monkeypatch.setattr(land_module, "write_raw", counted)
        monkeypatch.setattr(land_module, "CHUNK_BYTES", 1)
        assert land(project, RUN_DATE, settings).new == 7
        assert together == [1] * 7
        assert set(deliveries_of(settings)["verdict"]) == {"landed"}

    def test_files_of_later_days_are_left_for_their_run_date(self, project: Project, settings: Settings) -> None:
        """This includes a file that is available before the cutoff: the run date does not need it."""
        deliver_day(project, settings, DAY)
        deliver_one(project, settings, "sailings", DAY + timedelta(days=1), at=local(DAY, 1))
        assert land(project, RUN_DATE, settings).new == 3

    def test_what_no_run_date_reaches_is_found_by_the_sweep(self, project: Project, settings: Settings) -> None:
        """It waits for no file, and what it finds is landed or held as the rules say."""
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        reach = DAY - timedelta(days=project.feeds["sailings"].lookback_days + 7)
        for day in (reach, reach - timedelta(days=1), reach - timedelta(days=3000)):
            deliver_one(project, settings, "sailings", day)
        assert land(project, RUN_DATE, settings).new == 1
        tomorrow = Interval.of(DAY + timedelta(days=1))
        deliver_one(project, settings, "sailings", tomorrow.end + timedelta(days=1))
        swept = land(project, tomorrow, settings, sweep=True)
        assert (swept.new, swept.known, swept.refused) == (2, 4, ())
        path = Path(settings.landing) / f"ferries/sailings/{reach - timedelta(days=3000)}/sailings.csv.gz"
        spoil(path, text_of(path).replace("HOB", "SFO"))
        [held] = land(project, tomorrow, settings, sweep=True).held
        assert "the object was overwritten" in held
        spoil(deliver_one(project, settings, "sailings", tomorrow.end), b"")
        assert len(land(project, tomorrow, settings, sweep=True).refused) == 1

    def test_a_delivery_without_rows_is_listed(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        deliver_one(project, settings, "logbook", BEFORE, logbook(BEFORE, []), at=local(DAY, 2), name="empty")
        assert land(project, RUN_DATE, settings).new == 4
        assert deliveries_of(settings)["rows"].sort().to_list() == [0, 3, 3, 18]

    def test_a_delivery_that_is_in_raw_tables_is_not_missing(self, project: Project, settings: Settings) -> None:
        """Landing may be emptied after some time, and past days must still run again."""
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        for path in (Path(settings.landing) / "ferries" / "sailings").rglob("*.csv.gz*"):
            path.unlink()
        assert land(project, RUN_DATE, settings).new == 0
        assert missing_files(project, DAY, settings) == {}


class TestAvailability:
    def test_a_correction_is_landed_by_the_next_run_date(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY, DAY + timedelta(days=1))
        land(project, RUN_DATE, settings)
        later = local(DAY, 12)
        deliver_one(project, settings, "logbook", BEFORE, logbook(BEFORE, [1.0]), at=later, name="correction")
        assert land(project, Interval.of(DAY + timedelta(days=1)), settings).new == 4
        listed = deliveries_of(settings).filter(pl.col("feed") == "logbook", pl.col("day") == BEFORE)
        assert sorted(listed["available_from"]) == [local(DAY, 2, 30), later]

    def test_corrections_are_landed_whenever_they_count(self, project: Project, settings: Settings) -> None:
        """From when each counts is in the journal; the run date decides what it uses."""
        deliver_day(project, settings, DAY)
        late = local(DAY, 3) + timedelta(days=60)
        deliver_one(project, settings, "logbook", DAY - timedelta(days=4), at=late, name="again")
        assert land(project, RUN_DATE, settings).new == 4
        assert deliveries_of(settings).filter(pl.col("available_from") == late).height == 1

    def test_a_claim_less_than_a_day_ahead_waits(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        ahead = datetime.now(UTC) + timedelta(hours=23)
        deliver_one(project, settings, "sailings", DAY, at=ahead, name="ahead")
        landed = land(project, RUN_DATE, settings)
        assert (landed.new, landed.refused) == (3, ())
        assert set(deliveries_of(settings)["key"].str.contains("ahead")) == {False}

    @pytest.mark.parametrize("seconds", [2, 23 * 3600])
    def test_a_required_file_whose_claim_is_ahead_is_one_that_has_not_arrived(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch, seconds: int
    ) -> None:
        """The clock of a supplier is often seconds ahead. The sensor waits, and `land` is retried."""
        deliver_day(project, settings, DAY)
        now = datetime(2026, 3, 4, 12, tzinfo=UTC)
        claim = f"{now + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
        path = Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz"
        in_sidecar(available_at=claim)(path)
        monkeypatch.setattr(postgres.journal, "read_clock", lambda _: now)
        said = f"file://{path}: its sidecar claims available_at {claim}, which is still ahead; it is landed after that"
        assert missing_files(project, DAY, settings) == {"sailings": f"{said} moment"}
        with pytest.raises(NotYetError) as caught:
            land(project, RUN_DATE, settings)
        assert str(caught.value) == f"{said} moment\nOnce they are there, run the same step again."
        monkeypatch.setattr(postgres.journal, "read_clock", lambda _: now + timedelta(seconds=seconds))
        assert missing_files(project, DAY, settings) == {}
        assert land(project, RUN_DATE, settings).new == 3

    def test_a_day_with_another_file_does_not_wait_for_one_that_is_ahead(
        self, project: Project, settings: Settings
    ) -> None:
        deliver_day(project, settings, DAY)
        path = deliver_one(project, settings, "sailings", DAY, at=datetime.now(UTC) + timedelta(hours=1), name="ahead")
        assert missing_files(project, DAY, settings) == {}
        spoil(Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz", b"")
        with pytest.raises(NotYetError, match="still ahead") as caught:  # the other file turns out to be wrong
            land(project, RUN_DATE, settings)
        assert f"file://{path}: its sidecar claims" in str(caught.value)

    def test_the_sensor_leaves_a_wrong_sidecar_to_land(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        folder = Path(settings.landing) / "ferries"
        in_sidecar(available_at="2042-03-04T00:00:00Z")(folder / f"sailings/{DAY}/sailings.csv.gz")
        (folder / f"winds/{DAY}/winds.csv.gz.json").write_text("{")
        in_sidecar(available_at="0001-01-01T00:00:00+01:00")(folder / f"logbook/{BEFORE}/logbook.csv.gz")
        assert missing_files(project, DAY, settings) == {}

    @pytest.mark.parametrize("year", [2042, 9999])
    def test_a_claim_further_ahead_is_refused(self, project: Project, settings: Settings, year: int) -> None:
        deliver_day(project, settings, DAY)
        ahead = datetime(year, 3, 4, tzinfo=UTC)
        path = deliver_one(project, settings, "sailings", DAY, at=ahead, name="ahead")
        [refusal] = land(project, RUN_DATE, settings).refused
        assert refusal.why.startswith(f"file://{path}: its sidecar claims available_at {year}-03-04T00:00:00Z")

    def test_without_sidecar_and_live_from_nothing_says_when(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        path = deliver_one(project, settings, "sailings", DAY, name="bare")
        path.with_name(f"{path.name}.json").unlink()
        [refusal] = land(project, RUN_DATE, settings).refused
        assert "declare in project.yaml from which run date on feed sailings is live" in refusal.why

    def test_live_without_a_sidecar_the_time_of_the_object_counts_once(
        self, project: Project, settings: Settings, other: Settings
    ) -> None:
        live = declared(project, "sailings", live_from=DAY)
        deliver_day(project, settings, DAY)
        path = deliver_one(project, settings, "sailings", DAY, name="bare")
        path.with_name(f"{path.name}.json").unlink()
        first = datetime(2013, 3, 4, 5, 6, 7, tzinfo=UTC)
        os.utime(path, (first.timestamp(), first.timestamp()))
        land(live, RUN_DATE, settings)
        os.utime(path, (first.timestamp() + 86_400, first.timestamp() + 86_400))
        assert land(live, RUN_DATE, settings).new == 0
        bare = deliveries_of(settings).row(by_predicate=pl.col("key").str.contains("bare"), named=True)
        assert bare["available_from"] == first

    def test_history_counts_from_its_cutoff_in_whatever_order_it_was_copied(
        self, project: Project, settings: Settings
    ) -> None:
        live = declared(project, "sailings", live_from=DAY + timedelta(days=1))
        deliver_day(project, settings, *days(DAY, 2).days)
        for path in (Path(settings.landing) / "ferries" / "sailings").rglob("*.json"):
            path.unlink()
            age(path.with_suffix(""), 61)
        land(live, days(DAY, 2), settings)
        listed = deliveries_of(settings).filter(pl.col("feed") == "sailings")
        before, after = listed["available_from"].to_list()
        assert before == CUTOFF
        assert after > datetime.now(UTC) - timedelta(hours=1)  # the object's own time

    def test_files_of_a_day_with_one_time_are_refused_with_both_names(
        self, project: Project, settings: Settings
    ) -> None:
        deliver_day(project, settings, DAY)
        paths = [
            deliver_one(project, settings, "sailings", DAY, sailings(DAY, count), at=local(DAY, 1), name=name)
            for name, count in (("v9", 4), ("v10", 5))
        ]
        refused = land(project, RUN_DATE, settings).refused
        assert [refusal.uri for refusal in refused] == [f"file://{path}" for path in sorted(paths)]
        assert all(f"file://{path}" in refusal.why for refusal in refused for path in paths)

    def test_by_name_the_greater_number_is_newer(self, project: Project, settings: Settings) -> None:
        by_name = declared(project, "sailings", versions="by_name")
        deliver_day(project, settings, DAY)
        for name, count in (("v9", 4), ("v10", 5)):
            deliver_one(project, settings, "sailings", DAY, sailings(DAY, count), at=local(DAY, 1), name=name)
        assert land(by_name, RUN_DATE, settings).refused == ()
        names = deliveries_of(settings).filter(pl.col("feed") == "sailings").sort("sequence")["key"]
        assert [name.rsplit("/", 1)[1] for name in names] == ["sailings.csv.gz", "v9.csv.gz", "v10.csv.gz"]

    def test_a_sidecar_that_comes_after_its_file_is_compared_with_it(
        self, project: Project, settings: Settings
    ) -> None:
        live = declared(project, "sailings", live_from=DAY)
        deliver_day(live, settings, DAY)
        path = Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz"
        sidecar = path.with_name(f"{path.name}.json")
        right = sidecar.read_text(encoding="utf-8")
        sidecar.unlink()
        age(path, 61)
        assert land(live, RUN_DATE, settings).held == ()
        sidecar.write_text(json.dumps(json.loads(right) | {"rows": 9}), encoding="utf-8")
        for _ in range(2):  # each night again, until somebody decides
            (said,) = land(live, RUN_DATE, settings).held
            assert f"{path}: wrong number of rows: the sidecar promises 9, the file has 3; deliver" in said
            assert "The sidecar came after the file was landed" in said and "cli withdraw --project ferries" in said
        sidecar.write_text(right, encoding="utf-8")
        assert land(live, RUN_DATE, settings).held == ()
        sidecar.write_text("[]", encoding="utf-8")
        (said,) = land(live, RUN_DATE, settings).held
        assert "not a sidecar" in said
        (delivery_id,) = deliveries_of(settings).filter(feed="sailings")["delivery_id"]
        withdraw(live, delivery_id, settings, by="ana", why="a test")
        assert land(live, RUN_DATE, settings).held == ()

    def test_a_live_file_that_was_just_changed_may_not_be_whole(self, project: Project, settings: Settings) -> None:
        live = declared(project, "sailings", live_from=DAY)
        deliver_day(live, settings, DAY)
        path = Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz"
        path.with_name(f"{path.name}.json").unlink()
        age(path, 20)
        why = "it was changed less than 60 s ago and has no sidecar"
        assert why in missing_files(live, DAY, settings)["sailings"]
        with pytest.raises(NotYetError, match=why):
            land(live, RUN_DATE, settings)
        age(path, 61)
        assert missing_files(live, DAY, settings) == {}
        assert land(live, RUN_DATE, settings).new == 3

    def test_a_name_like_the_id_of_late_rows_is_a_name(self, project: Project, settings: Settings) -> None:
        """Late rows have the id of their file, `#` and a day: a supplier can write that too."""
        live = declared(project, "sailings", live_from=DAY + timedelta(days=9))
        deliver_day(project, settings, DAY)
        path = Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz"
        sidecar = path.with_name(f"{path.name}.json")
        text = sidecar.read_text(encoding="utf-8")
        sidecar.unlink()
        odd = path.rename(path.with_name("a@0123456789abcdef#2013-03-01.csv.gz"))
        assert land(live, RUN_DATE, settings).new == 3
        odd.with_name(f"{odd.name}.json").write_text(text.replace('"rows":3', '"rows":9'), encoding="utf-8")
        [held] = land(live, RUN_DATE, settings).held
        assert "the sidecar promises 9, the file has 3" in held

    def test_a_feed_that_requires_sidecars_waits_for_them(self, project: Project, settings: Settings) -> None:
        strict = declared(project, "sailings", live_from=DAY, sidecar="required")
        deliver_day(strict, settings, DAY)
        path = Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz"
        sidecar = path.with_name(f"{path.name}.json")
        text = sidecar.read_text(encoding="utf-8")
        sidecar.unlink()
        with pytest.raises(NotYetError, match=r"it has no sidecar yet, and feeds\.sailings\.sidecar is required"):
            land(strict, RUN_DATE, settings)
        assert "it has no sidecar yet" in missing_files(strict, DAY, settings)["sailings"]
        sidecar.write_text(text, encoding="utf-8")
        assert land(strict, RUN_DATE, settings).new == 3

    def test_a_sidecar_changed_after_landing_does_not_change_the_time(
        self, project: Project, settings: Settings
    ) -> None:
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        path = Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz"
        spoil(path, text_of(path), available_at="2014-01-01T00:00:00Z")
        os.utime(path, (1, 1))
        assert land(project, RUN_DATE, settings).new == 0
        [found] = deliveries_of(settings).filter(pl.col("feed") == "sailings")["available_from"]
        assert found == local(BEFORE, 18)

    def test_an_object_with_a_new_modification_time_is_read_again_only_once(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Happens when landing moves to another bucket. Otherwise each run would read every file again."""
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        listed = deliveries_of(settings)
        for path in Path(settings.landing).rglob("*.csv.gz"):
            os.utime(path, (2_000_000_000, 2_000_000_000))
        assert land(project, RUN_DATE, settings).new == 0
        assert deliveries_of(settings).equals(listed)
        monkeypatch.setattr(Landing, "read", lambda *_: pytest.fail("read again"))
        assert land(project, RUN_DATE, settings).known == 3


def declared(project: Project, feed: str, **changes: object) -> Project:
    """Return the project with another declaration of a feed."""
    return project.model_copy(update={"feeds": {**project.feeds, feed: project.feeds[feed].model_copy(update=changes)}})


def spoiled(change: Callable[[str], str | bytes], **sidecar: object) -> Callable[[Path], None]:
    return lambda path: spoil(path, change(text_of(path)), **sidecar)


def in_lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    return spoiled(lambda text: "\n".join([*change(text.splitlines()), ""]))


def in_sidecar(**sidecar: object) -> Callable[[Path], None]:
    return spoiled(lambda text: text, **sidecar)


def truncated(path: Path) -> None:
    """Truncate the file to a third. The appended text is random, so that this is about a third of the lines."""
    noise = "".join(f"{hashlib.sha256(str(n).encode()).hexdigest()}\n" for n in range(300))
    whole = gzip.compress((text_of(path) + noise).encode())
    spoil(path, whole[: len(whole) // 3])


def damaged(path: Path) -> None:
    whole = bytearray(gzip.compress(text_of(path).encode()))
    whole[len(whole) // 2] ^= 255
    spoil(path, bytes(whole))


def broken_sidecar(content: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.with_name(f"{path.name}.json").write_text(content, encoding="utf-8")

    return change


WRONG = {
    "truncated gzip": (truncated, r"line \d\d+: the gzip stream ends or breaks here; .* deliver the file again"),
    "damaged gzip": (damaged, r"line \d: the gzip stream ends or breaks here; .* deliver the file again"),
    "no gzip": (spoiled(str.encode), ": the file is not gzip, as its name says; deliver the file again"),
    "checksum": (in_sidecar(sha256="0" * 64), r"wrong checksum \(sha256\): the sidecar promises 0{64}, .* again"),
    "size": (in_sidecar(size=7), r"wrong size in bytes: the sidecar promises 7, the file has \d+; deliver"),
    "rows": (in_sidecar(rows=9), "wrong number of rows: the sidecar promises 9, the file has 3; deliver"),
    "feed": (in_sidecar(feed="winds"), "wrong feed: the sidecar promises winds, the file has sailings; deliver"),
    "day": (in_sidecar(day="2013-03-05"), "wrong day: the sidecar promises 2013-03-05, the file has 2013-03-04; del"),
    "no JSON": (broken_sidecar("{"), r"\.json: not a sidecar \(file: Invalid JSON.*\); correct or remove it"),
    "another JSON": (broken_sidecar("[1]"), r"\.json: not a sidecar \(file: .*\); correct or remove it"),
    "no offset": (
        in_sidecar(available_at="2013-03-03T18:00:00"),
        r"\.json: not a sidecar \(available_at: .*timezone.*\); correct or remove it",
    ),
    "missing column": (
        in_lines(lambda lines: [line.split(",", 1)[1] for line in lines]),
        "line 1: the header changed: missing company; deliver",
    ),
    "extra column": (
        in_lines(lambda lines: [f"{line},x" for line in lines]),
        "line 1: the header changed: not declared: column 10; deliver",
    ),
    "renamed column": (
        spoiled(lambda text: text.replace("dest,", "destination,", 1)),
        "line 1: the header changed: missing dest; not declared: column 4; deliver",
    ),
    "no header": (
        in_lines(lambda lines: lines[1:]),
        "line 1: the header changed: missing company, .*, contact_email; not declared: column 1, .*, 9; deliver",
    ),
    "empty": (spoiled(lambda _: gzip.compress(b"")), "line 1: the file is empty and .*; deliver it again"),
    "too few fields": (
        in_lines(lambda lines: [*lines[:2], lines[2].rsplit(",", 1)[0], *lines[3:]]),
        "line 3: 8 fields, the header has 9; deliver",
    ),
    "too many fields": (
        in_lines(lambda lines: [*lines[:3], f"{lines[3]},{EMAIL}"]),
        "line 4: 10 fields, the header has 9; deliver",
    ),
    "open quote": (
        in_lines(lambda lines: [*lines[:2], lines[2].replace(EMAIL[:7], f'"{EMAIL[:7]}'), *lines[3:]]),
        r"line 4: not CSV \(unexpected end of data\); deliver",
    ),
    "not UTF-8": (
        spoiled(lambda text: gzip.compress(text.encode().replace(b"HOB", b"L\xc4X").replace(b"L\xc4X", b"HOB", 1))),
        "line 3: not UTF-8; deliver the file again in UTF-8",
    ),
    "another date": (
        in_lines(lambda lines: [*lines[:2], *(line.replace("2013-03-04", "2013-03-03") for line in lines[2:])]),
        r"line 3: departs_at is on 2013-03-03 in America/New_York, but .* for 2013-03-04 \(2 of 3 rows",
    ),
    "another date, with what to declare": (
        in_lines(lambda lines: [*lines[:3], lines[3].replace("2013-03-04", "2013-03-05")]),
        r"\(1 of 3 rows .*: feeds\.sailings\.late_rows: \{kind: quarantine, at_most: 0\.34\}",
    ),
    "another date, the same in UTC": (
        in_lines(lambda lines: [line.replace("T13:00:00Z", "T03:00:00Z") for line in lines]),
        "line 2: departs_at is on 2013-03-03 in America/New_York",
    ),
}


class TestRefused:
    @pytest.mark.parametrize("wrong", WRONG)
    def test_a_required_file_that_is_wrong_fails_the_step_and_the_others_are_landed(
        self, project: Project, settings: Settings, caplog: pytest.LogCaptureFixture, wrong: str
    ) -> None:
        change, said = WRONG[wrong]
        deliver_day(project, settings, DAY)
        path = Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz"
        change(path)
        caplog.set_level(logging.DEBUG)
        with pytest.raises(DeliveryError, match=said) as caught:
            land(project, RUN_DATE, settings)
        assert str(caught.value).startswith(f"file://{path}")
        assert set(deliveries_of(settings)["feed"]) == {"logbook", "winds"}
        assert_no_personal_data("".join(traceback.format_exception(caught.value)) + caplog.text)
        assert_no_personal_data(repr(caught.value.__cause__) + repr(caught.value.__context__))

    @pytest.mark.parametrize("wrong", WRONG)
    def test_an_invalid_correction_is_listed_and_the_step_continues(
        self, project: Project, settings: Settings, caplog: pytest.LogCaptureFixture, wrong: str
    ) -> None:
        change, said = WRONG[wrong]
        deliver_day(project, settings, DAY)
        path = deliver_one(project, settings, "sailings", DAY, name="correction")
        change(path)
        landed = land(project, RUN_DATE, settings)
        assert (landed.new, len(landed.refused)) == (3, 1)
        refusal = landed.refused[0]
        assert (refusal.feed, refusal.day, refusal.uri) == ("sailings", DAY, f"file://{path}")
        [seen] = [each for each in read_seen_objects(settings, "ferries").values() if each.why]
        assert (seen.key, seen.why) == (str(path.relative_to(f"{settings.landing}/ferries")), refusal.why)
        everything = read_seen_objects(settings, "ferries")
        assert read_seen_objects(settings, "ferries", []) == {seen.key: seen}, "refused ones are always there"
        assert read_seen_objects(settings, "ferries", everything.keys()) == everything
        assert f"refused: {refusal.why}" in caplog.text
        assert refusal.why.startswith(f"file://{path}")
        assert re.search(said, refusal.why)
        assert rows_of(settings, "raw_ferries__sailings").height == 3
        before = versions(settings)
        assert land(project, RUN_DATE, settings).refused == landed.refused  # it is tried again without a write
        assert versions(settings) == before

    @pytest.mark.parametrize("feed", ["sailings", "winds", "logbook"])
    def test_a_missing_file_is_named_and_nothing_is_written(
        self, project: Project, settings: Settings, feed: str
    ) -> None:
        deliver_day(project, settings, DAY)
        day = project.required(DAY)[feed]
        folder = Path(settings.landing) / f"ferries/{feed}/{day}"
        (folder / f"{feed}.csv.gz").unlink()
        looked = f"no file of feed {feed} for {day} (looked for file://{folder}/*.csv.gz)"
        assert missing_files(project, DAY, settings) == {feed: looked}
        with pytest.raises(DeliveryError) as caught:
            land(project, RUN_DATE, settings)
        assert str(caught.value) == f"{looked}\nOnce they are there, run the same step again."
        assert made_beside_landing(settings) == []

    def test_a_file_is_missing_only_on_a_day_of_the_calendar(self, project: Project, settings: Settings) -> None:
        """The last day of the range needs no logbook, because the day before it is a Sunday."""
        logbook = project.feeds["logbook"].model_copy(update={"days": ("mon", "tue", "wed", "thu", "fri", "sat")})
        winds = project.feeds["winds"].model_copy(update={"required": False})
        project = project.model_copy(update={"feeds": {**project.feeds, "logbook": logbook, "winds": winds}})
        assert DAY.weekday() == 0
        interval = Interval(start=DAY - timedelta(days=1), end=DAY)
        for day in interval.days:
            deliver_one(project, settings, "sailings", day)
        [(day, [sentence])] = missing_by_day(project, interval, settings).items()
        assert day == interval.start
        assert sentence.startswith("no file of feed logbook for 2013-03-02 (looked for ")
        deliver_one(project, settings, "logbook", date(2013, 3, 2))
        assert missing_by_day(project, interval, settings) == {}
        assert land(project, interval, settings).new == 3

    @pytest.mark.parametrize(("late", "is_landed"), [(1, True), (2, False)])
    def test_rows_of_another_date_are_landed_up_to_the_declared_share(
        self, project: Project, settings: Settings, late: int, *, is_landed: bool
    ) -> None:
        lenient = declared(project, "sailings", late_rows=QuarantineLateRows(kind="quarantine", at_most=0.34))
        deliver_day(project, settings, DAY)
        path = Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz"
        in_lines(lambda lines: [*lines[:-late], *(line.replace("03-04T", "03-03T") for line in lines[-late:])])(path)
        if is_landed:
            assert land(lenient, RUN_DATE, settings).rows == 3 + 3 + 18
        else:
            with pytest.raises(DeliveryError, match=r"2 of 3 rows .* late_rows allows 0\.34 of them"):
                land(lenient, RUN_DATE, settings)

    def test_thousands_of_wrong_objects_are_counted_and_not_all_named(
        self, project: Project, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The record goes through Airflow's database, each night again."""
        deliver_day(project, settings, DAY)
        for number in range(60):
            (Path(settings.landing) / f"ferries/sailings/{DAY}/junk{number:02d}.csv.gz").write_bytes(b"")
        landed = land(project, RUN_DATE, settings)
        assert (landed.new, len(landed.refused), landed.unnamed) == (3, 50, 10)
        assert "refused: … and 10 more" in caplog.text
        (Path(settings.landing) / f"ferries/sailings/{DAY - timedelta(days=1)}").mkdir()
        for number in range(60):
            path = Path(settings.landing) / f"ferries/sailings/{BEFORE}/junk{number:02d}.csv.gz"
            path.write_bytes(b"")
        for feed, day in project.required(BEFORE).items():
            if feed != "sailings":
                deliver_one(project, settings, feed, day)
        with pytest.raises(DeliveryError, match="… and 50 more") as caught:
            land(project, Interval.of(BEFORE), settings)
        assert len(str(caught.value)) < 5_000

    def test_many_missing_files_are_counted(self, project: Project, settings: Settings) -> None:
        with pytest.raises(DeliveryError, match="… and 2 more\nOnce"):
            land(project, days(DAY, 4), settings)

    def test_no_file_is_required_before_the_first_day(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, project.first_day)
        assert land(project, Interval.of(project.first_day), settings).new == 2
        assert missing_files(project, project.first_day, settings) == {}

    def test_a_correction_refused_in_one_chunk_does_not_stop_the_next_chunk(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The valid delivery of its day was landed in the first chunk too."""
        deliver_day(project, settings, *days(DAY, 2).days)
        spoil(deliver_one(project, settings, "sailings", DAY, name="a_correction"), b"")
        monkeypatch.setattr(land_module, "CHUNK_FILES", 4)
        landed = land(project, days(DAY, 2), settings)
        assert (landed.new, len(landed.refused)) == (6, 1)

    def test_a_refused_file_that_is_fixed_under_the_same_name_is_landed(
        self, project: Project, settings: Settings
    ) -> None:
        deliver_day(project, settings, DAY)
        path = deliver_one(project, settings, "sailings", DAY, name="correction")
        right = text_of(path)
        spoil(path, b"")
        [refusal] = land(project, RUN_DATE, settings).refused
        assert refused_in_view(settings) == [("ferries", "sailings", DAY, "warning", False, refusal.why)]
        hidden = path.rename(path.with_name("_removed"))
        land(project, RUN_DATE, settings)
        assert refused_in_view(settings) == []
        hidden.rename(path)
        land(project, RUN_DATE, settings)
        assert len(refused_in_view(settings)) == 1
        spoil(path, right)
        landed = land(project, RUN_DATE, settings)
        assert (landed.new, landed.refused) == (1, ())
        assert refused_in_view(settings) == []
        assert deliveries_of(settings)["verdict"].to_list() == ["landed"] * 4

    def test_an_object_that_is_overwritten_is_held_and_the_others_go_on(
        self, project: Project, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Years after its day nobody expects a correction. Within corrections_days it is one."""
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        path = Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz"
        deliver_one(project, settings, "winds", DAY, name="another")
        spoil(path, text_of(path).replace("HOB", "SFO"))
        landed = land(project, RUN_DATE, settings)
        assert (landed.new, len(landed.held)) == (2, 1)
        assert "the object was overwritten" in landed.held[0] and "cli accept --project ferries" in landed.held[0]
        assert f"held: {landed.held[0]}" in caplog.text
        assert sorted(deliveries_of(settings)["verdict"]) == ["held", *["landed"] * 4]
        [message] = Outbox(settings.database_url).read_unsent()
        assert (message["kind"], message["subject"], message["state"]) == ("alerts", "sailings", "waiting")
        again = land(project, RUN_DATE, settings)
        assert (again.new, again.held) == (0, landed.held)  # it is asked every night until somebody decides

    def test_an_overwritten_object_is_a_correction_for_some_days(self, project: Project, settings: Settings) -> None:
        lenient = declared(project, "sailings", corrections_days=99_999)
        deliver_day(project, settings, DAY)
        land(lenient, RUN_DATE, settings)
        path = Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz"
        right = path.read_bytes(), path.with_name(f"{path.name}.json").read_bytes()
        spoil(path, text_of(path).replace("HOB", "SFO"))
        assert (land(lenient, RUN_DATE, settings).new, len(deliveries_of(settings))) == (1, 4)
        path.write_bytes(right[0])
        path.with_name(f"{path.name}.json").write_bytes(right[1])
        land(lenient, RUN_DATE, settings)
        of_sailings = deliveries_of(settings).filter(pl.col("feed") == "sailings").sort("sequence")
        assert of_sailings["sha256"].n_unique() == 2
        assert of_sailings["delivery_id"].to_list()[2] == f"{of_sailings['delivery_id'][0]}.2"

    def test_a_backdated_correction_is_held(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        early = local(BEFORE, 12)
        deliver_one(project, settings, "sailings", DAY, sailings(DAY, 4), at=early, name="backdated")
        [held] = land(project, RUN_DATE, settings).held
        assert "before sailings/2013-03-04/sailings.csv.gz@" in held
        assert as_of_known(project, settings) == ["sailings/2013-03-04/sailings.csv.gz"]

    @pytest.mark.parametrize(
        "spoil_one",
        [
            lambda path: path.with_name(f"{path.name}.json").unlink() or path.with_name(f"{path.name}.json").mkdir(),
            in_sidecar(available_at="0001-01-01T00:00:00+01:00"),
            lambda path: path.unlink() or path.symlink_to("/nowhere"),
        ],
        ids=["a folder where the sidecar should be", "a time before the first", "a link to nothing"],
    )
    def test_a_poisonous_object_is_refused_by_name(
        self, project: Project, settings: Settings, spoil_one: Callable[[Path], object]
    ) -> None:
        deliver_day(project, settings, DAY)
        path = deliver_one(project, settings, "sailings", DAY - timedelta(days=7), name="old")
        spoil_one(path)
        landed = land(project, RUN_DATE, settings)
        assert landed.new == 3
        assert all(refusal.why.startswith(f"file://{path}") for refusal in landed.refused)

    def test_what_cannot_be_a_delivery_is_refused_by_name(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        folder = Path(settings.landing) / f"ferries/sailings/{DAY}"
        (folder / "folder.csv.gz").mkdir()
        (folder / "link.csv.gz").symlink_to("/etc/passwd")
        (folder / "odd\udcff\n.csv.gz").write_bytes(b"")
        landed = land(project, RUN_DATE, settings)
        assert landed.new == 3
        assert [(each.feed, each.day, each.uri.rsplit("/", 1)[1]) for each in landed.refused] == [
            ("sailings", DAY, "folder.csv.gz"),
            ("sailings", DAY, "link.csv.gz"),
            ("sailings", DAY, r"odd\udcff\n.csv.gz"),
        ]
        assert landed.model_dump_json()
        (folder / "sailings.csv.gz").unlink()
        (folder / "sailings.csv.gz").symlink_to("/etc/passwd")
        assert missing_files(project, DAY, settings) == {}  # it is in raw tables

    def test_the_sensor_says_what_is_there_instead_of_a_file(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        path = Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz"
        path.unlink()
        path.mkdir()
        assert f"; file://{path}: it is a folder" in missing_files(project, DAY, settings)["sailings"]

    def test_a_file_that_grows_while_it_is_read_waits(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deliver_day(project, settings, DAY)
        deliver_one(project, settings, "sailings", DAY, name="growing")
        read = Landing.read
        monkeypatch.setattr(Landing, "read", lambda self, f: read(self, f) + b"x" * ("growing" in f.key))
        landed = land(project, RUN_DATE, settings)
        assert (landed.new, landed.refused) == (3, ())

    def test_a_file_of_a_renamed_feed_is_landed_for_that_feed(self, project: Project, settings: Settings) -> None:
        """The object was read already, for a feed that is no longer declared."""
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        feeds = dict(project.feeds)
        feeds["gales"] = feeds.pop("winds")
        path = Path(settings.landing) / f"ferries/winds/{DAY}/winds.csv.gz"
        in_sidecar(feed="gales")(path)
        assert land(project.model_copy(update={"feeds": feeds}), RUN_DATE, settings).new == 1
        listed = deliveries_of(settings).filter(pl.col("key").str.contains("winds"))
        assert listed["feed"].to_list() == ["gales", "winds"]
        assert listed["delivery_id"].n_unique() == 2
        assert listed["sha256"].n_unique() == 1

    def test_the_journal_is_read_once_if_nothing_is_new(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deliver_day(project, settings, DAY)
        reads: list[None] = []
        of = Known.of
        monkeypatch.setattr(Known, "of", lambda *about: reads.append(None) or of(*about))
        land(project, RUN_DATE, settings)
        assert len(reads) == 2  # the second one is after its own entries
        land(project, RUN_DATE, settings)
        assert len(reads) == 3

    def test_a_text_that_postgresql_cannot_store_stops_nothing(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        path = deliver_one(project, settings, "winds", DAY, name="odd")
        sidecar = path.with_name(f"{path.name}.json")
        sidecar.write_text(sidecar.read_text().replace('"winds"', '"wi\\u0000nds"'))
        landed = land(project, RUN_DATE, settings)
        assert landed.new == 3
        assert ["wrong feed" in refusal.why for refusal in landed.refused] == [True]

    @pytest.mark.parametrize(
        ("error", "ends"),
        [
            (OSError(errno.EIO, "x"), False),
            (OSError(errno.ENAMETOOLONG, "x"), False),
            (PermissionError(), False),
            (ConnectionResetError(), True),
            (OSError(errno.ESTALE, "x"), True),
            (EndpointConnectionError(endpoint_url="x"), True),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_an_error_about_one_object_refuses_it_and_one_of_the_storage_ends_the_step(
        self,
        project: Project,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
        *,
        ends: bool,
    ) -> None:
        deliver_day(project, settings, DAY)
        deliver_one(project, settings, "sailings", DAY, name="odd")
        read = Landing.read

        def fails(landing: Landing, found: Found) -> bytes:
            if "odd" in found.key:
                raise error
            return read(landing, found)

        monkeypatch.setattr(Landing, "read", fails)
        if ends:
            with pytest.raises(type(error)):
                land(project, RUN_DATE, settings)
        else:
            [refusal] = land(project, RUN_DATE, settings).refused
            assert f"it cannot be read ({type(error).__name__})" in refusal.why

    def test_a_sidecar_that_is_too_large_is_refused(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deliver_day(project, settings, DAY)
        path = deliver_one(project, settings, "winds", DAY, name="odder")
        monkeypatch.setattr(landing_module, "MAX_SIDECAR_BYTES", 10_000)
        with path.with_name(f"{path.name}.json").open("a") as file:
            file.write(" " * 10_000)
        [refusal] = land(project, RUN_DATE, settings).refused
        assert "odder.csv.gz.json: not a sidecar (it has more than" in refusal.why

    def test_the_refusals_of_the_newest_day_are_named_first(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        for day in (DAY - timedelta(days=2), DAY, DAY - timedelta(days=1)):
            spoil(deliver_one(project, settings, "sailings", day, name="odd"), b"")
        refused = land(project, RUN_DATE, settings).refused
        assert [each.day for each in refused] == [DAY - timedelta(days=n) for n in range(3)]

    @pytest.mark.parametrize("raised", [RecursionError, pl.exceptions.PanicException])
    def test_an_error_of_the_parser_refuses_the_object_without_its_text(
        self,
        project: Project,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
        raised: type[BaseException],
    ) -> None:
        deliver_day(project, settings, DAY)
        path = deliver_one(project, settings, "sailings", DAY, name="odd")
        read = Csv.read

        def odd(declared: Csv, content: bytes, key: str, *others: object) -> Contents:
            if "odd" in key:
                raise raised(EMAIL)
            return read(declared, content, key, *others)

        monkeypatch.setattr(Csv, "read", odd)
        [refusal] = land(project, RUN_DATE, settings).refused
        assert refusal.why == f"file://{path}: it cannot be parsed ({raised.__name__}); deliver the file again"


def as_of_known(project: Project, settings: Settings) -> list[str]:
    """Return the objects of `sailings` that could be used, the newest last."""
    listed = deliveries_of(settings).filter(pl.col("feed") == "sailings", pl.col("verdict") == "landed")
    return listed.sort("available_from")["key"].to_list()


class TestPersonalData:
    def test_personal_data_is_in_no_table_log_or_result(
        self, project: Project, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Files of tables are searched decoded and as bytes."""
        caplog.set_level(logging.DEBUG)
        deliver_day(project, settings, DAY, DAY + timedelta(days=1))
        malformed = logbook(BEFORE).with_columns(vessel=pl.lit(f"{VESSEL} and more"))
        deliver_one(project, settings, "logbook", BEFORE, malformed, name="malformed")
        assert VESSEL in text_of(Path(settings.landing) / f"ferries/logbook/{BEFORE}/logbook.csv.gz")
        assert EMAIL.split("@")[0] in text_of(Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz")
        landed = land(project, days(DAY, 2), settings)
        assert landed.new == 7
        scanned = 0
        for path in made_beside_landing(settings):
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += pl.read_parquet(path, hive_partitioning=False).write_csv().encode()
                scanned += 1
            assert_no_personal_data(content.decode("latin-1"))
        assert scanned >= 6  # parquet files of raw tables and of deliveries
        assert_no_personal_data(caplog.text + landed.model_dump_json())
        assert "contact_email" not in rows_of(settings, "raw_ferries__sailings").columns

    def test_identifiers_are_hashed_with_the_key(self, project: Project, settings: Settings, other: Settings) -> None:
        rows = logbook(BEFORE, [1.0, 2.0, 3.0, 4.0])
        rows = rows.with_columns(vessel=pl.Series([f"{VESSEL}1", f"{VESSEL}1", "hidden", None]))
        deliver_one(project, settings, "sailings", DAY)
        deliver_one(project, settings, "winds", DAY)
        deliver_one(project, settings, "logbook", BEFORE, rows)
        land(project, RUN_DATE, settings)
        raw = rows_of(settings, "raw_ferries__logbook")
        expected = hmac.new(
            settings.hash_key.get_secret_value().encode(), f"{VESSEL}1".encode(), hashlib.sha256
        ).hexdigest()[:32]
        assert raw["vessel"].to_list()[:2] == [expected, expected]
        assert raw["vessel"][2] not in {None, "hidden", expected}
        assert raw["vessel"][3] is None
        assert raw["_malformed"].to_list() == [None, None, "vessel", None]
        keyed = other.model_copy(update={"hash_key": SecretStr("another hash key of the tests, as long")})
        land(project, RUN_DATE, keyed)
        assert rows_of(keyed, "raw_ferries__logbook")["vessel"][0] != expected

    @pytest.mark.parametrize(("value", "right"), [("N1A", True), ("N1", False), ("xN1A", False), ("N1A\n", False)])
    def test_the_format_must_match_the_whole_value(
        self, project: Project, settings: Settings, value: str, right: bool
    ) -> None:
        deliver_day(project, settings, DAY)
        rows = logbook(BEFORE, [1.0]).with_columns(vessel=pl.lit(value))
        deliver_one(project, settings, "logbook", BEFORE, rows, name="one")
        land(project, RUN_DATE, settings)
        raw = rows_of(settings, "raw_ferries__logbook").filter(pl.col("delivery_id").str.contains("one"))
        assert raw["_malformed"].to_list() == [None if right else "vessel"]

    def test_a_sensitive_column_is_dropped_whatever_its_values(self, project: Project, settings: Settings) -> None:
        """The values need quotes and contain line breaks."""
        deliver_day(project, settings, DAY)
        rows = sailings(DAY).with_columns(contact_email=pl.lit(f'"{EMAIL}",\n"{EMAIL}"'))
        deliver_one(project, settings, "sailings", DAY, rows, name="quoted")
        assert land(project, RUN_DATE, settings).refused == ()
        assert_no_personal_data(rows_of(settings, "raw_ferries__sailings").write_csv())


def assert_no_personal_data(text: str) -> None:
    for planted in (EMAIL.split("@")[0], "@example.org", VESSEL):
        assert planted not in text, f"personal data in {json.dumps(text[:300])}"
