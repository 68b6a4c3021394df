"""Simulated deliveries of an example project: which files a day needs, and how they are written."""

import gzip
import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from include.config.loading import load_project
from include.core import schemas
from include.core.errors import ActionRequiredError, DeliveryError
from include.core.feeds import Feed
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.io.landing import Landing
from include.io.sources.queries import run_query
from include.operations import simulate as simulate_module
from include.operations.simulate import (
    deliver,
    make_frame,
    simulate,
    usual_available_at,
)

DAY = date(2026, 3, 2)
"""An ordinary Monday."""


@pytest.fixture
def project() -> Project:
    return load_project("ferries")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(str(tmp_path / "landing"))


def make_settings(landing: str) -> Settings:
    unused = dict.fromkeys(
        ("tables", "artifacts", "journal", "database_url", "mlflow_tracking_uri", "hash_key"), "unused"
    )
    return Settings.model_validate({"landing": landing, **unused})


def land_one(project: Project, settings: Settings, frame: pl.DataFrame, **other: object) -> simulate_module.Delivered:
    """Deliver a frame as the sailings of DAY."""
    given = {"available_at": datetime(2026, 3, 1, 23, tzinfo=UTC), **other}
    return deliver(project, "sailings", DAY, frame, settings=settings, **given)  # type: ignore[arg-type]


def file_of(settings: Settings, feed: str, day: date) -> Path:
    return Path(settings.landing) / "ferries" / feed / str(day) / f"{feed}.csv.gz"


def files_below(settings: Settings) -> dict[str, bytes]:
    root = Path(settings.landing)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def repeats_after_364_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.projects.ferries.simulate.CYCLE_DAYS", 364, raising=False)


class TestFiles:
    def test_a_run_date_gets_its_sailings_and_winds_and_the_logbook_of_the_day_before(
        self, project: Project, settings: Settings
    ) -> None:
        result = simulate(project, Interval(start=DAY, end=DAY + timedelta(days=1)), settings)
        wanted = ["sailings/2026-03-02", "winds/2026-03-02", "logbook/2026-03-01"]
        wanted += ["sailings/2026-03-03", "winds/2026-03-03", "logbook/2026-03-02"]
        names = [f"ferries/{place}/{place.split('/')[0]}.csv.gz" for place in wanted]
        assert sorted(files_below(settings)) == sorted([*names, *(f"{name}.json" for name in names)])
        assert (result.landed, result.unchanged, result.skipped) == (6, 0, None)
        assert result.rows == sum(json.loads(files_below(settings)[f"{name}.json"])["rows"] for name in names)

    def test_no_file_is_made_for_days_before_the_first(self, project: Project, settings: Settings) -> None:
        assert project.first_day == date(2013, 1, 1)
        assert simulate(project, Interval.of(date(2012, 12, 31)), settings).skipped
        assert not Path(settings.landing).exists()
        simulate(project, Interval.of(date(2013, 1, 1)), settings)
        assert {name.split("/")[1] for name in files_below(settings)} == {"sailings", "winds"}

    def test_the_sidecar_describes_the_file(self, project: Project, settings: Settings) -> None:
        simulate(project, Interval.of(DAY), settings)
        for feed, day in project.required(DAY).items():
            path = file_of(settings, feed, day)
            content = path.read_bytes()
            sidecar = json.loads(path.with_name(f"{feed}.csv.gz.json").read_text())
            assert sidecar == {
                "feed": feed,
                "day": str(day),
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "rows": len(gzip.decompress(content).splitlines()) - 1,
                "available_at": usual_available_at(project, feed, day).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }

    def test_the_gzip_header_has_no_time_and_no_name(self, project: Project, settings: Settings) -> None:
        land_one(project, settings, make_frame(project, "sailings", DAY))
        header = file_of(settings, "sailings", DAY).read_bytes()[:8]
        assert header[3:8] == bytes(5)

    def test_more_days_than_the_example_data_has_are_refused(
        self, project: Project, settings: Settings, repeats_after_364_days: None
    ) -> None:
        with pytest.raises(ActionRequiredError, match=r"365 days.*repeat after 364.*Simulate at most 364 days"):
            simulate(project, Interval(start=DAY, end=DAY + timedelta(days=364)), settings)
        assert not Path(settings.landing).exists()

    def test_exactly_as_many_days_are_accepted(
        self,
        project: Project,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
        repeats_after_364_days: None,
    ) -> None:
        asked: list[tuple[str, date]] = []

        def frame(_project: Project, feed: str, day: date) -> pl.DataFrame:
            asked.append((feed, day))
            return pl.DataFrame({"x": [1]})

        monkeypatch.setattr(simulate_module, "make_frame", frame)
        result = simulate(project, Interval(start=DAY, end=DAY + timedelta(days=363)), settings)
        assert len(asked) == len(set(asked)) == 3 * 364 == result.landed

    def test_a_project_without_simulate_py_is_refused(
        self, project: Project, settings: Settings, tmp_path: Path
    ) -> None:
        with pytest.raises(ActionRequiredError, match=r"ferries is not an example project: .* has no simulate\.py"):
            simulate(project.model_copy(update={"folder": tmp_path}), Interval.of(DAY), settings)

    def test_the_error_names_a_column_that_the_example_data_lacks(self, project: Project) -> None:
        feed = project.feeds["winds"]
        other = feed.model_copy(update={"columns": {**feed.columns, "temperature_c": feed.columns["temperature_f"]}})
        changed = project.model_copy(update={"feeds": {**project.feeds, "winds": other}})
        with pytest.raises(
            ActionRequiredError, match=r"no column 'temperature_c' of winds; did you mean 'temperature_f'"
        ):
            make_frame(changed, "winds", DAY)
        with pytest.raises(ActionRequiredError, match=r"no feed 'wind' of ferries; did you mean 'winds'"):
            make_frame(project, "wind", DAY)


class TestDelivery:
    FRAME = pl.DataFrame({"company": ["UA", None], "ferry": [1, 2], "late": [True, None]})

    def test_a_second_run_changes_nothing(self, project: Project, settings: Settings) -> None:
        simulate(project, Interval.of(DAY), settings)
        before = files_below(settings)
        path = file_of(settings, "sailings", DAY)
        stats = [(p.stat().st_ino, p.stat().st_mtime_ns) for p in (path, path.with_name(f"{path.name}.json"))]
        result = simulate(project, Interval.of(DAY), settings)
        assert (result.landed, result.unchanged) == (0, 3)
        assert files_below(settings) == before
        assert [(p.stat().st_ino, p.stat().st_mtime_ns) for p in (path, path.with_name(f"{path.name}.json"))] == stats

    def test_a_different_file_is_refused_and_not_overwritten(self, project: Project, settings: Settings) -> None:
        land_one(project, settings, self.FRAME)
        before = files_below(settings)
        with pytest.raises(
            DeliveryError, match=r"sailings\.csv\.gz is there already, with other content; .*another name"
        ):
            simulate(project, Interval.of(DAY), settings)
        assert before.items() <= files_below(settings).items()

    def test_the_same_file_with_another_time_is_refused(self, project: Project, settings: Settings) -> None:
        land_one(project, settings, self.FRAME)
        before = files_below(settings)
        with pytest.raises(DeliveryError, match=r"says available_at 2026-03-01 23:00.*, not 2026-03-02 12:00"):
            land_one(project, settings, self.FRAME, available_at=datetime(2026, 3, 2, 12, tzinfo=UTC))
        assert files_below(settings) == before

    @pytest.mark.parametrize("content", [None, b"", b'{"feed": "sched'])
    def test_a_file_with_a_missing_or_broken_sidecar_is_refused(
        self, project: Project, settings: Settings, content: bytes | None
    ) -> None:
        land_one(project, settings, self.FRAME)
        path = file_of(settings, "sailings", DAY).with_name("sailings.csv.gz.json")
        path.unlink() if content is None else path.write_bytes(content)
        before = files_below(settings)
        with pytest.raises(DeliveryError, match="without its sidecar" if content is None else "is no sidecar"):
            land_one(project, settings, self.FRAME)
        assert files_below(settings) == before

    @pytest.mark.parametrize(
        "content", [b"", b"company,ferry\n", b"\x1f\x8b\x08\0\0\0\0\0\0\3half", b"\x1f\x8b\x08\0\0\0\0\0\0\3\xff"]
    )
    def test_a_file_that_is_not_gzip_is_refused(self, project: Project, settings: Settings, content: bytes) -> None:
        land_one(project, settings, self.FRAME)
        file_of(settings, "sailings", DAY).write_bytes(content)
        with pytest.raises(DeliveryError, match="with other content"):
            land_one(project, settings, self.FRAME)
        assert file_of(settings, "sailings", DAY).read_bytes() == content

    def test_equal_rows_compressed_by_another_zlib_are_not_a_change(self, project: Project, settings: Settings) -> None:
        frame = make_frame(project, "sailings", DAY)
        path = file_of(settings, "sailings", DAY)
        first = land_one(project, settings, frame)
        other = gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=0)
        sha256 = hashlib.sha256(other).hexdigest()
        assert sha256 != first.sidecar.sha256
        path.write_bytes(other)
        sidecar = first.sidecar.model_copy(update={"sha256": sha256, "size": len(other)})
        path.with_name(f"{path.name}.json").write_text(sidecar.model_dump_json())
        again = land_one(project, settings, frame)
        assert (again.new, again.sidecar.sha256) == (False, sha256)
        assert path.read_bytes() == other

    @pytest.mark.parametrize("killed_at", [1, 2])
    def test_a_killed_writer_leaves_no_partial_delivery_and_the_next_one_succeeds(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch, killed_at: int
    ) -> None:
        """Killed before either file appears: no file is incomplete, and none is without its sidecar."""
        appeared: list[str] = []
        rename = Path.replace

        def killed(source: Path, target: Path) -> None:
            if len(appeared) + 1 == killed_at:
                raise KeyboardInterrupt
            rename(source, target)
            appeared.append(target.name)

        monkeypatch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            land_one(project, settings, self.FRAME.head(1))
        assert appeared == ["sailings.csv.gz.json"][: killed_at - 1]
        assert Landing(project, settings).find("sailings", DAY) == []
        assert [Path(name).name for name in files_below(settings)] == appeared
        monkeypatch.undo()

        other = land_one(project, settings, self.FRAME, available_at=datetime(2026, 3, 1, 12, tzinfo=UTC))
        assert other.new
        written = Landing(project, settings).sidecar(Landing(project, settings).find("sailings", DAY)[0])
        assert written == other.sidecar

    def test_incomplete_files_match_no_pattern(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[str] = []
        rename = Path.replace

        def spy(source: Path, target: Path) -> None:
            seen.append(str(source.relative_to(Path(settings.landing) / project.name)))
            rename(source, target)

        monkeypatch.setattr(Path, "replace", spy)
        land_one(project, settings, self.FRAME)
        assert len(set(seen)) == 2
        assert not any(fnmatch(name, project.feeds["sailings"].path.format(day="*")) for name in seen)

    def test_a_correction_is_another_object_for_the_same_day(self, project: Project, settings: Settings) -> None:
        simulate(project, Interval.of(DAY), settings)
        corrected_at = datetime(2026, 3, 2, 21, 30, tzinfo=UTC)
        frame = make_frame(project, "sailings", DAY).head(10)
        correction = land_one(project, settings, frame, name="correction-1", available_at=corrected_at)
        landing = Landing(project, settings)
        found = landing.find("sailings", DAY)
        assert [Path(f.key).name for f in found] == ["correction-1.csv.gz", "sailings.csv.gz"]
        assert [f.day for f in found] == [DAY, DAY]
        assert found[0].uri == correction.uri
        sidecars = [landing.sidecar(each) for each in found]
        assert [each.available_at for each in sidecars if each] == [
            corrected_at,
            usual_available_at(project, "sailings", DAY),
        ]
        assert simulate(project, Interval.of(DAY), settings).landed == 0

    def test_frames_are_written_as_they_are(self, project: Project, settings: Settings) -> None:
        """Drills land invalid files, with wrong columns or unreadable values. Times of any zone become UTC."""
        moment = datetime(2026, 3, 2, 8, 5, tzinfo=project.zone)
        odd = self.FRAME.with_columns(
            at=pl.Series([moment, None], dtype=pl.Datetime("ms", project.timezone)), x=pl.lit("")
        )
        delivered = land_one(project, settings, odd)
        assert delivered.sidecar.rows == 2
        lines = gzip.decompress(file_of(settings, "sailings", DAY).read_bytes()).decode().splitlines()
        assert lines == ["company,ferry,late,at,x", 'UA,1,true,2026-03-02T13:05:00Z,""', ',2,,,""']

    def test_times_need_a_zone(self, project: Project, settings: Settings) -> None:
        with pytest.raises(ValueError, match="has no timezone"):
            land_one(project, settings, self.FRAME, available_at=datetime.fromisoformat("2026-03-01T23:00"))
        with pytest.raises(ValueError, match="column 'at': timestamps without a timezone"):
            land_one(project, settings, self.FRAME.with_columns(at=pl.lit(datetime.fromisoformat("2026-03-01T23:00"))))
        assert not Path(settings.landing).exists()

    @pytest.mark.parametrize("name", ["../other", "a.csv.gz", "a b", "x/y", "*"])
    def test_names_that_point_outside_the_folder_are_refused(
        self, project: Project, settings: Settings, name: str
    ) -> None:
        with pytest.raises(ActionRequiredError, match=re.escape(f"{name!r} cannot stand for the *")):
            land_one(project, settings, self.FRAME, name=name)
        assert not Path(settings.landing).exists()

    def test_an_unknown_feed_is_refused(self, project: Project, settings: Settings) -> None:
        with pytest.raises(ActionRequiredError, match="ferries has no feed 'sailing'; did you mean 'sailings'"):
            deliver(
                project, "sailing", DAY, self.FRAME, available_at=datetime(2026, 3, 1, tzinfo=UTC), settings=settings
            )

    def test_an_object_store_gets_the_sidecar_before_the_file(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Uses fsspec's in-memory file system, which cannot rename files atomically, like S3."""
        store = fsspec.filesystem("memory")
        put = store.pipe_file
        order: list[str] = []

        def spy(_: object, path: str, value: bytes, **options: str) -> None:
            order.append(path)
            put(path, value, **options)

        monkeypatch.setattr(type(store), "pipe_file", spy)
        settings = make_settings("memory://bucket/landing")
        try:
            assert simulate(project, Interval.of(DAY), settings).landed == 3
            folder = f"/bucket/landing/ferries/sailings/{DAY}"
            assert order[:2] == [f"{folder}/sailings.csv.gz.json", f"{folder}/sailings.csv.gz"]
            assert (
                json.loads(store.cat_file(order[0]))["sha256"] == hashlib.sha256(store.cat_file(order[1])).hexdigest()
            )
            assert simulate(project, Interval.of(DAY), settings).unchanged == 3
            with pytest.raises(DeliveryError):
                land_one(project, settings, self.FRAME)
        finally:
            store.rm("/bucket", recursive=True)


class TestFormats:
    """What is written is what the feed declares, so that `land` reads it."""

    @pytest.fixture
    def declared(self, load_changed: Callable[..., Project], monkeypatch: pytest.MonkeyPatch) -> Project:
        def change(written: dict[str, Any]) -> None:
            feeds = written["feeds"]
            dialect = {"kind": "csv", "delimiter": ";", "decimal": ",", "encoding": "latin-1"}
            local = {"timestamp": "%d.%m.%Y %H:%M:%S", "timezone": "America/New_York"}
            feeds["sailings"] |= {"path": "sailings/{day:%Y/%m/%d}.csv", "format": {**dialect, **local}}
            winds = {"path": "winds/{day}/{hour}.jsonl.gz", "format": {"kind": "jsonl"}, "parts": {"expect": "hours"}}
            feeds["winds"] |= winds
            feeds["logbook"] |= {"path": "logbook/{day}.parquet", "format": {"kind": "parquet"}}
            columns = {"pier": {"type": "string", "class": "public"}, "berths": {"type": "integer", "class": "public"}}
            feeds["piers"] = {"kind": "snapshot", "path": "piers.csv.gz", "key": ["pier"], "columns": columns}
            on = {"valid_on": {"type": "date", "class": "public"}}
            query = "SELECT pier, berths, valid_on FROM fees WHERE valid_on = :day"
            source = {"kind": "sql", "connection": "office", "query": query, "immutable": True}
            of_fees = {"key": ["pier"], "day_column": "valid_on", "columns": columns | on}
            feeds["fees"] = {"source": source, **of_fees}

        piers = pl.DataFrame({"pier": ["BAT", "Zürich"], "berths": [3, None]})
        made = {
            "piers": lambda _, day: piers,
            "fees": lambda _, day: piers.with_columns(valid_on=pl.lit(day)),
        }
        ready = {"piers": (-1, time(12)), "fees": (0, time(1))}
        project = load_changed("ferries", change)
        for name, more in (("FEEDS", made), ("READY_AT", ready)):
            usual = getattr(simulate_module.maker(project), name)
            monkeypatch.setattr(simulate_module.maker(project), name, usual | more)
        return project

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        url = f"sqlite:///{tmp_path / 'office.sqlite'}"
        return make_settings(str(tmp_path / "landing")).model_copy(update={"sources": {"office": SecretStr(url)}})

    def test_each_file_is_read_again_as_it_was_made(self, declared: Project, settings: Settings) -> None:
        simulate(declared, Interval(start=DAY, end=DAY + timedelta(days=1)), settings)
        landing = Landing(declared, settings)
        names = {
            "sailings": "sailings/2026/03/02.csv",
            "logbook": "logbook/2026-03-02.parquet",
            "piers": "piers.csv.gz",
        }
        for name, key in names.items():
            feed = declared.feeds[name]
            [found] = landing.find(name, None if feed.is_snapshot else DAY)
            assert found.key == key
            content = Path(found.uri.removeprefix("file://")).read_bytes()
            records = feed.format.read(content, found.key, feed.layout).records
            made = make_frame(declared, name, DAY)
            assert parsed(records, declared, feed).equals(made), name
        lines = (Path(settings.landing) / "ferries" / names["sailings"]).read_text(encoding="latin-1").splitlines()
        assert re.search(r";\d\d\.\d\d\.2026 \d\d:\d\d:\d\d;.*;\d+,\d;", lines[1])

    @pytest.mark.parametrize(("day", "missing"), [(date(2026, 3, 8), ["02"]), (date(2026, 3, 2), [])])
    def test_each_hour_of_the_day_is_a_file(
        self, declared: Project, settings: Settings, day: date, missing: list[str]
    ) -> None:
        result = simulate(declared, Interval.of(day), settings)
        found = Landing(declared, settings).find("winds", day)
        assert [each.part for each in found] == [f"{n:02}" for n in range(24) if f"{n:02}" not in missing]
        read = [
            declared.feeds["winds"].format.read(Path(each.uri.removeprefix("file://")).read_bytes(), each.key, layout)
            for each in found
            for layout in [declared.feeds["winds"].layout]
        ]
        assert [each.records.height for each in read] == [3] * len(found)
        assert sorted(pl.concat(each.records for each in read)["observed_at"]) == sorted(
            make_frame(declared, "winds", day)["observed_at"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        )
        assert result.landed == len(found) + 4

    def test_rows_of_a_query_go_into_its_database(self, declared: Project, settings: Settings) -> None:
        simulate(declared, Interval(start=DAY, end=DAY + timedelta(days=1)), settings)
        values = {"day": DAY}
        blocks = run_query(declared.feeds["fees"], values, settings, declared.timezone)
        assert blocks.select("pier", "berths", "valid_on").rows() == [
            ("BAT", "3", "2026-03-02"),
            ("Zürich", None, "2026-03-02"),
        ]
        again = simulate(declared, Interval(start=DAY, end=DAY + timedelta(days=1)), settings)
        assert again.landed == 0
        engine = sa.create_engine(settings.sources["office"].get_secret_value())
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE fees SET berths = 4 WHERE valid_on = '2026-03-02' AND pier = 'BAT'"))
        with pytest.raises(DeliveryError, match="connection office: table fees has other rows for 2026-03-02 already"):
            simulate(declared, Interval.of(DAY), settings)

    def test_without_the_database_the_error_names_the_connection(self, declared: Project, settings: Settings) -> None:
        nowhere = settings.model_copy(update={"sources": {}})
        with pytest.raises(ActionRequiredError, match=r"feeds\.fees: .* connection office, which is not declared"):
            simulate(declared, Interval.of(DAY), nowhere)

    def test_a_part_needs_its_name(self, declared: Project, settings: Settings) -> None:
        frame = make_frame(declared, "winds", DAY)
        at = datetime(2026, 3, 2, tzinfo=UTC)
        with pytest.raises(ActionRequiredError, match=r"feeds\.winds: its files need the name of their part"):
            deliver(declared, "winds", DAY, frame, available_at=at, settings=settings)
        with pytest.raises(ActionRequiredError, match=r"feeds\.sailings: its files have no part"):
            deliver(declared, "sailings", DAY, frame, available_at=at, settings=settings, part="07")


def parsed(records: pl.DataFrame, project: Project, feed: Feed) -> pl.DataFrame:
    """Return text as `validate` reads it."""
    return records.select(
        schemas.typed(pl.col(name), column, feed.format, project.timezone).alias(name)
        for name, column in feed.columns.items()
    )
