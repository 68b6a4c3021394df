"""land: which deliveries are accepted, with which message others are refused, and that invalid files write nothing."""

import gzip
import hashlib
import hmac
import json
import logging
import os
import re
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from fsspec.implementations.local import LocalFileSystem
from pydantic import SecretStr

from include.config.loading import load_project
from include.core.errors import ChangedDeliveryError, DeliveryError
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.io.landing import Landing
from include.io.tables import Scope, Tables
from include.steps import land as land_module
from include.steps.land import land, missing_by_day, missing_files
from tests.landing import (
    DAY,
    EMAIL,
    VESSEL,
    days,
    deliver_day,
    deliver_one,
    local,
    logbook,
    made_beside_landing,
    places,
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


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return places(tmp_path)


class TestAccepted:
    def test_the_files_of_a_run_date_are_landed(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        landed = land(project, RUN_DATE, settings)
        assert (landed.new, landed.known, landed.rows, landed.refused) == (3, 0, 3 + 3 + 18, ())
        listed = rows_of(settings, "deliveries_ferries")
        assert listed.select("feed", "day", "rows", "verdict").rows() == [
            ("logbook", BEFORE, 3, "landed"),
            ("sailings", DAY, 3, "landed"),
            ("winds", DAY, 18, "landed"),
        ]
        raw = rows_of(settings, "raw_sailings")
        assert raw["_row"].to_list() == [2, 3, 4]  # lines of the file; the header is line 1
        assert raw["day"].unique().to_list() == [DAY]
        assert raw["ferry"].to_list() == ["0", "1", "2"]
        assert raw["delivery_id"].unique().to_list() == [listed["delivery_id"][1]]

    def test_each_file_is_read_once_only(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each read from an object store is a round trip. A new file has content, sidecar and manifest entry."""
        deliver_day(project, settings, DAY)
        read: Counter[str] = Counter()
        cat_file = LocalFileSystem.cat_file

        def counted(filesystem: LocalFileSystem, path: str, *args: object, **options: object) -> bytes:
            read[path.removeprefix(f"{settings.landing}/ferries/")] += 1
            return cat_file(filesystem, path, *args, **options)

        monkeypatch.setattr(LocalFileSystem, "cat_file", counted)
        land(project, RUN_DATE, settings)
        keys = rows_of(settings, "deliveries_ferries")["key"].to_list()
        assert read == Counter(path for key in keys for path in (key, f"{key}.json", f"_manifest/{key}.json"))

    def test_a_second_run_changes_nothing(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        before, files = versions(settings), made_beside_landing(settings)
        again = land(project, RUN_DATE, settings)
        assert (again.new, again.known, again.rows) == (0, 3, 0)
        assert versions(settings) == before
        assert made_beside_landing(settings) == files

    def test_rows_without_a_listed_delivery_are_landed_again_and_not_doubled(
        self, project: Project, settings: Settings
    ) -> None:
        """This is the state after a kill between writing the rows and listing the delivery."""
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        before = rows_of(settings, "raw_sailings")
        tables = Tables(settings)
        scope = Scope(days(BEFORE, 2))
        tables.replace("deliveries_ferries", lambda rows: rows.clear(), scope, sort_by=["feed"])
        assert land(project, RUN_DATE, settings).new == 3
        assert rows_of(settings, "raw_sailings").equals(before)

    def test_a_run_also_lands_files_of_earlier_run_dates(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, *days(DAY, 4).days)
        landed = land(project, Interval.of(DAY + timedelta(days=3)), settings)
        assert landed.new == 12

    def test_a_range_in_chunks_gives_the_same_rows(
        self, project: Project, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deliver_day(project, settings, *days(DAY, 4).days)
        land(project, days(DAY, 4), settings)
        whole = {name: rows_of(settings, name) for name in versions(settings)}
        monkeypatch.setattr(land_module, "CHUNK_FILES", 5)
        other = settings.model_copy(update={"tables": str(tmp_path / "others")})
        assert land(project, days(DAY, 4), other).new == 12
        assert all(rows_of(other, name).equals(rows) for name, rows in whole.items())

    def test_files_of_later_days_are_left_for_their_run_date(self, project: Project, settings: Settings) -> None:
        """This includes a file that is available before the cutoff: the run date does not need it."""
        deliver_day(project, settings, DAY)
        deliver_one(project, settings, "sailings", DAY + timedelta(days=1), at=local(DAY, 1))
        assert land(project, RUN_DATE, settings).new == 3

    def test_a_delivery_without_rows_is_listed(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        deliver_one(project, settings, "logbook", BEFORE, logbook(BEFORE, []), at=local(DAY, 2), name="empty")
        assert land(project, RUN_DATE, settings).new == 4
        assert rows_of(settings, "deliveries_ferries")["rows"].sort().to_list() == [0, 3, 3, 18]

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
        listed = rows_of(settings, "deliveries_ferries").filter(pl.col("feed") == "logbook", pl.col("day") == BEFORE)
        assert sorted(listed["available_at"]) == [local(DAY, 2, 30), later]

    def test_files_of_other_days_that_came_after_the_cutoff_are_not_landed(
        self, project: Project, settings: Settings
    ) -> None:
        deliver_day(project, settings, DAY)
        old = DAY - timedelta(days=9)
        deliver_one(project, settings, "logbook", old, at=CUTOFF, name="just")
        deliver_one(project, settings, "logbook", old, at=CUTOFF + timedelta(microseconds=1), name="late")
        assert land(project, RUN_DATE, settings).new == 4
        assert land(project, RUN_DATE, settings).new == 0
        assert land(project, Interval.of(DAY), settings).known == 4

    def test_latest_ignores_the_cutoff_but_lands_no_later_day(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        late = local(DAY, 3) + timedelta(days=60)
        deliver_one(project, settings, "logbook", DAY - timedelta(days=4), at=late, name="again")
        deliver_one(project, settings, "sailings", DAY + timedelta(days=1))
        assert land(project, RUN_DATE, settings).new == 3
        assert land(project, RUN_DATE, settings, data_view="latest").new == 1
        listed = rows_of(settings, "deliveries_ferries")
        assert listed.filter(pl.col("available_at") == late).height == 1
        assert listed["day"].max() == DAY

    def test_a_late_required_file_moves_the_limit_to_its_time(self, project: Project, settings: Settings) -> None:
        late = CUTOFF + timedelta(hours=4)
        deliver_one(project, settings, "sailings", DAY, at=late)
        deliver_one(project, settings, "winds", DAY)
        deliver_one(project, settings, "logbook", BEFORE)
        old = DAY - timedelta(days=9)
        deliver_one(project, settings, "logbook", old, at=late, name="just")
        deliver_one(project, settings, "logbook", old, at=late + timedelta(microseconds=1), name="late")
        assert land(project, RUN_DATE, settings).new == 4

    def test_without_a_sidecar_the_first_seen_time_of_the_object_counts(
        self, project: Project, settings: Settings, tmp_path: Path
    ) -> None:
        deliver_day(project, settings, DAY)
        path = deliver_one(project, settings, "sailings", DAY, name="bare")
        path.with_name(f"{path.name}.json").unlink()
        first = datetime(2013, 3, 4, 5, 6, 7, tzinfo=UTC)
        os.utime(path, (first.timestamp(), first.timestamp()))
        land(project, RUN_DATE, settings)
        os.utime(path, (first.timestamp() + 86_400, first.timestamp() + 86_400))
        land(project, RUN_DATE, settings)
        again = settings.model_copy(update={"tables": str(tmp_path / "others")})  # rebuilt from landing alone
        land(project, RUN_DATE, again)
        for place in (settings, again):
            bare = rows_of(place, "deliveries_ferries").row(by_predicate=pl.col("key").str.contains("bare"), named=True)
            assert bare["available_at"] == first

    def test_a_sidecar_changed_after_landing_does_not_change_the_time(
        self, project: Project, settings: Settings
    ) -> None:
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        path = Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz"
        spoil(path, text_of(path), available_at="2014-01-01T00:00:00Z")
        os.utime(path, (1, 1))
        land(project, RUN_DATE, settings)
        assert Landing(project, settings).available_at(Landing(project, settings).find("sailings")[0]) == local(
            BEFORE, 18
        )

    def test_an_object_with_a_new_modification_time_is_read_again_only_once(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Happens when landing moves to another bucket. Otherwise each run would read every file again."""
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        listed = rows_of(settings, "deliveries_ferries").drop("modified_at")
        for path in Path(settings.landing).rglob("*.csv.gz"):
            os.utime(path, (2_000_000_000, 2_000_000_000))
        assert land(project, RUN_DATE, settings).new == 0
        assert rows_of(settings, "deliveries_ferries").drop("modified_at").equals(listed)
        monkeypatch.setattr(Landing, "read", lambda *_: pytest.fail("read again"))
        assert land(project, RUN_DATE, settings).known == 3


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
    "rows": (in_sidecar(rows=9), ": the file has 3 rows, the sidecar promises 9; deliver"),
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
    "another date, the same in UTC": (
        in_lines(lambda lines: [line.replace("T13:00:00Z", "T03:00:00Z") for line in lines]),
        "line 2: departs_at is on 2013-03-03 in America/New_York",
    ),
}


class TestRefused:
    @pytest.mark.parametrize("wrong", WRONG)
    def test_an_invalid_required_file_fails_the_step_before_anything_is_written(
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
        assert made_beside_landing(settings) == []
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
        listed = rows_of(settings, "deliveries_ferries").filter(pl.col("verdict") == "unreadable").row(0, named=True)
        assert (listed["uri"], listed["why"]) == (f"file://{path}", refusal.why)
        assert f"refused: {refusal.why}" in caplog.text
        assert refusal.why.startswith(f"file://{path}")
        assert re.search(said, refusal.why)
        assert rows_of(settings, "raw_sailings").height == 3
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
        assert str(caught.value) == f"{looked}\nOnce the supplier has delivered, run the same step again."
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
        land(project, RUN_DATE, settings)
        spoil(path, right)
        landed = land(project, RUN_DATE, settings)
        assert (landed.new, landed.refused) == (1, ())
        assert rows_of(settings, "deliveries_ferries")["verdict"].to_list() == ["landed"] * 4

    def test_content_that_changes_after_landing_is_refused(self, project: Project, settings: Settings) -> None:
        deliver_day(project, settings, DAY)
        land(project, RUN_DATE, settings)
        path = Path(settings.landing) / f"ferries/sailings/{DAY}/sailings.csv.gz"
        before, taken = path.read_bytes(), versions(settings)
        deliver_one(project, settings, "winds", DAY, name="another")
        spoil(path, text_of(path).replace("HOB", "SFO"))
        with pytest.raises(
            ChangedDeliveryError, match=r"content changed after it was landed .* restore the former content"
        ):
            land(project, RUN_DATE, settings)
        assert versions(settings) == taken
        path.write_bytes(before)
        assert land(project, RUN_DATE, settings).new == 1

    def test_content_that_changes_between_manifest_and_listing_is_refused(
        self, project: Project, settings: Settings
    ) -> None:
        """This is the state after a kill: the manifest had already recorded which content became available."""
        deliver_day(project, settings, DAY)
        found = Landing(project, settings).find("sailings")[0]
        Landing(project, settings).take(found, "another digest", CUTOFF)
        with pytest.raises(ChangedDeliveryError, match="sha256 was another digest"):
            land(project, RUN_DATE, settings)


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
        assert "contact_email" not in rows_of(settings, "raw_sailings").columns

    def test_identifiers_are_hashed_with_the_secret_key(
        self, project: Project, settings: Settings, tmp_path: Path
    ) -> None:
        rows = logbook(BEFORE, [1.0, 2.0, 3.0, 4.0])
        rows = rows.with_columns(vessel=pl.Series([f"{VESSEL}1", f"{VESSEL}1", "hidden", None]))
        deliver_one(project, settings, "sailings", DAY)
        deliver_one(project, settings, "winds", DAY)
        deliver_one(project, settings, "logbook", BEFORE, rows)
        land(project, RUN_DATE, settings)
        raw = rows_of(settings, "raw_logbook")
        expected = hmac.new(b"a key of tests", f"{VESSEL}1".encode(), hashlib.sha256).hexdigest()[:32]
        assert raw["vessel"].to_list()[:2] == [expected, expected]
        assert raw["vessel"][2] not in {None, "hidden", expected}
        assert raw["vessel"][3] is None
        assert raw["_malformed"].to_list() == [None, None, "vessel", None]
        other = settings.model_copy(update={"tables": str(tmp_path / "others"), "hash_key": SecretStr("another")})
        land(project, RUN_DATE, other)
        assert rows_of(other, "raw_logbook")["vessel"][0] != expected

    @pytest.mark.parametrize(("value", "right"), [("N1A", True), ("N1", False), ("xN1A", False), ("N1A\n", False)])
    def test_the_format_must_match_the_whole_value(
        self, project: Project, settings: Settings, value: str, right: bool
    ) -> None:
        deliver_day(project, settings, DAY)
        rows = logbook(BEFORE, [1.0]).with_columns(vessel=pl.lit(value))
        deliver_one(project, settings, "logbook", BEFORE, rows, name="one")
        land(project, RUN_DATE, settings)
        raw = rows_of(settings, "raw_logbook").filter(pl.col("delivery_id").str.contains("one"))
        assert raw["_malformed"].to_list() == [None if right else "vessel"]

    def test_a_sensitive_column_is_dropped_whatever_its_values(self, project: Project, settings: Settings) -> None:
        """The values need quotes and contain line breaks."""
        deliver_day(project, settings, DAY)
        rows = sailings(DAY).with_columns(contact_email=pl.lit(f'"{EMAIL}",\n"{EMAIL}"'))
        deliver_one(project, settings, "sailings", DAY, rows, name="quoted")
        assert land(project, RUN_DATE, settings).refused == ()
        assert_no_personal_data(rows_of(settings, "raw_sailings").write_csv())


def assert_no_personal_data(text: str) -> None:
    for planted in (EMAIL.split("@")[0], "@example.org", VESSEL):
        assert planted not in text, f"personal data in {json.dumps(text[:300])}"
