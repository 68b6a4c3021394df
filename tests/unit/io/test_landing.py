"""Landing: find the objects that are deliveries, and read their sidecars."""

import os
import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from include.config.loading import load_project
from include.core.errors import DeliveryError
from include.core.feeds import Parts
from include.core.interval import Interval
from include.core.paths import pattern
from include.core.project import Project
from include.core.settings import Settings
from include.io import landing as landing_module
from include.io.landing import Found, Landing, NotAFileError, write_whole
from tests.landing import DAY, days, deliver_one, local, places


@pytest.fixture
def project() -> Project:
    return load_project("ferries")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return places(tmp_path)


def with_path(project: Project, path: str, **declared: object) -> Project:
    feed = project.feeds["sailings"].model_copy(update={"path": path, **declared})
    return project.model_copy(update={"feeds": {**project.feeds, "sailings": feed}})


def put(settings: Settings, *keys: str) -> None:
    for key in keys:
        path = Path(settings.landing) / "ferries" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content", encoding="utf-8")


def found_by(project: Project, settings: Settings, path: str) -> list[tuple[str, date]]:
    return [(f.key, f.day) for f in Landing(with_path(project, path), settings).find("sailings")]


class TestFind:
    def test_deliveries_are_sorted_by_day_and_name(self, project: Project, settings: Settings) -> None:
        put(settings, f"sailings/{DAY}/b.csv.gz", f"sailings/{DAY}/a.csv.gz", "sailings/2013-03-03/c.csv.gz")
        landing = Landing(project, settings)
        assert [(f.day, f.key.rsplit("/", 1)[1]) for f in landing.find("sailings")] == [
            (date(2013, 3, 3), "c.csv.gz"),
            (DAY, "a.csv.gz"),
            (DAY, "b.csv.gz"),
        ]
        assert len(landing.find("sailings", DAY)) == 2
        assert landing.find("winds") == []

    @pytest.mark.parametrize("path_day", [-1, 1])
    def test_files_can_be_named_by_a_neighbour_of_the_day_of_their_rows(
        self, project: Project, settings: Settings, path_day: int
    ) -> None:
        named = DAY + timedelta(days=path_day)
        put(settings, f"sailings/{named}/1.csv", f"sailings/{named}/DONE", f"sailings/{DAY}/1.csv")
        declared = with_path(project, "sailings/{day}/{part}.csv", path_day=path_day, parts=Parts(marker="DONE"))
        landing = Landing(declared, settings)
        for asked in (DAY, Interval.of(DAY)):
            listing = landing.look({"sailings": asked})
            assert [(found.key, found.day) for found in listing.found] == [(f"sailings/{named}/1.csv", DAY)]
            assert [*listing.markers] == [("sailings", DAY)]
        assert [found.day for found in landing.find("sailings")] == sorted({DAY, DAY - timedelta(days=path_day)})
        assert f"/sailings/{named}/" in landing.pattern("sailings", DAY)

    def test_a_day_before_the_first_one_is_no_day(self, project: Project, settings: Settings) -> None:
        put(settings, "sailings/0001-01-01/a.csv")
        assert Landing(with_path(project, "sailings/{day}/*", path_day=1), settings).find("sailings") == []

    @pytest.mark.parametrize(
        ("path", "one_by_one"),
        [
            ("sailings/{day}/*.csv", True),
            ("sailings/{day:%Y/%m/%d}/{part}.csv", True),
            ("sailings/{day}.csv", True),
            ("sailings/{day}-*.csv", False),  # each listing would read the whole folder
            ("*/{day}/a.csv", False),
        ],
    )
    def test_ten_years_of_history_cost_as_much_as_ten_days(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch, path: str, *, one_by_one: bool
    ) -> None:
        listed: list[tuple[str, int]] = []
        ls, asked = LocalFileSystem.ls, days(DAY, 10)

        def counted(filesystem: LocalFileSystem, folder: str, *args: object, **options: object) -> object:
            found = ls(filesystem, folder, *args, **options)
            listed.append((folder, len(found)))
            return found

        def keys(count: int) -> list[str]:
            found = days(asked.end - timedelta(days=count - 1), count).days
            return [pattern(path, day).replace("*", "a") for day in found]

        monkeypatch.setattr(LocalFileSystem, "ls", counted)
        costs = []
        for count in (10, 3650):
            put(settings, *keys(count))
            listed.clear()
            found = Landing(with_path(project, path), settings).look({"sailings": asked}).found
            assert [each.day for each in found] == asked.days
            costs.append(list(listed))
        assert (costs[0] == costs[1]) == one_by_one

    @pytest.mark.parametrize(
        ("most", "listings"), [(3, [DAY, DAY + timedelta(days=1), DAY + timedelta(days=2)]), (2, [None])]
    )
    def test_a_long_range_is_one_listing(
        self,
        project: Project,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
        most: int,
        listings: list[date | None],
    ) -> None:
        put(settings, *(f"sailings/{day}/a.csv.gz" for day in days(DAY, 4).days))
        asked: list[date | None] = []
        look = Landing._look
        monkeypatch.setattr(landing_module, "MAX_LISTINGS", most)
        monkeypatch.setattr(Landing, "_look", lambda self, feed, day: asked.append(day) or look(self, feed, day))
        assert len(Landing(project, settings).look({"sailings": days(DAY, 3)}).found) == 3
        assert asked == listings

    def test_a_folder_that_is_not_a_day_is_ignored(
        self, project: Project, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        put(settings, f"sailings/{DAY}/a.csv.gz", "sailings/2013-02-30/a.csv.gz", "sailings/old/a.csv.gz")
        assert [f.day for f in Landing(project, settings).find("sailings")] == [DAY]
        assert "2013-02-30/a.csv.gz: its day is not a date; the file is ignored" in caplog.text

    def test_a_name_that_is_not_utf8_is_said(self, project: Project, settings: Settings) -> None:
        put(settings, f"sailings/{DAY}/a\udcff.csv", f"sailings/{DAY}/b.csv")
        listing = Landing(with_path(project, "sailings/{day}/*"), settings).look({"sailings": DAY})
        assert [found.key for found in listing.found] == [f"sailings/{DAY}/b.csv"]
        [unusable] = listing.unusable
        assert r"a\udcff.csv: its name has characters that are not printable, or are not UTF-8" in unusable.why
        assert unusable.why.encode()

    def test_a_long_name_is_said(self, project: Project, settings: Settings) -> None:
        """The journal has an index of names, and PostgreSQL refuses to index one of a few kilobytes."""
        deep = "/".join("ä" * 100 for _ in range(6))
        put(settings, f"sailings/{DAY}/{deep}")
        [unusable] = (
            Landing(with_path(project, "sailings/{day}/*/*/*/*/*/*"), settings).look({"sailings": DAY}).unusable
        )
        assert "its name has more than 1,024 bytes" in unusable.why

    def test_links_and_folders_are_said_and_not_followed(
        self, project: Project, settings: Settings, tmp_path: Path
    ) -> None:
        put(settings, f"sailings/{DAY}/a.csv/part-0.csv", "sailings/old/c.csv", f"sailings/{DAY}/c.csv")
        folder = Path(settings.landing) / "ferries" / "sailings"
        (tmp_path / "secret.csv").write_text("secret")
        (folder / str(DAY) / "b.csv").symlink_to(tmp_path / "secret.csv")
        (folder / str(DAY) / "d.csv").symlink_to("/nowhere")
        (folder / "2013-03-05").symlink_to(folder / "old")
        (folder / "2013-02-30").symlink_to(folder / "old")
        listing = Landing(with_path(project, "sailings/{day}/*.csv"), settings).look({"sailings": None})
        assert [found.key for found in listing.found] == [f"sailings/{DAY}/c.csv"]
        link = "it is a symbolic link, and links are not followed; put the file itself here"
        assert [(each.day, each.why.removeprefix(f"file://{folder}/")) for each in listing.unusable] == [
            (DAY, f"{DAY}/a.csv: it is a folder, and the path of the feed, sailings/{{day}}/*.csv, is one of files"),
            (DAY, f"{DAY}/b.csv: {link}"),
            (DAY, f"{DAY}/d.csv: {link}"),
            (date(2013, 3, 5), f"2013-03-05: {link}"),
        ]

    def test_a_time_of_change_that_no_clock_has_is_said(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(settings, f"sailings/{DAY}/a.csv.gz", f"sailings/{DAY}/b.csv.gz")
        info = LocalFileSystem.info

        def odd(filesystem: LocalFileSystem, path: object, **named: object) -> dict[str, object]:
            found = info(filesystem, path, **named)
            return {**found, "mtime": 1e12} if found["name"].endswith("a.csv.gz") else found

        monkeypatch.setattr(LocalFileSystem, "info", odd)
        listing = Landing(project, settings).look({"sailings": DAY})
        assert [found.key for found in listing.found] == [f"sailings/{DAY}/b.csv.gz"]
        assert [each.why.rpartition(": ")[2] for each in listing.unusable] == ["its time of change is out of range"]

    def test_a_new_file_is_found_at_once(
        self, project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """File systems of object stores cache listings, so that a sensor would never find a new file."""
        landing = Landing(project, settings)
        kept: dict[str, dict[str, object]] = {}
        glob = landing.fs.glob

        def keeping(path: str, **named: object) -> dict[str, object]:
            return kept.setdefault(path, glob(path, **named))

        monkeypatch.setattr(landing.fs, "glob", keeping)
        monkeypatch.setattr(landing.fs, "invalidate_cache", kept.clear)
        assert landing.find("sailings") == []
        put(settings, f"sailings/{DAY}/a.csv.gz")
        assert len(landing.find("sailings")) == 1


class TestSidecar:
    @pytest.fixture
    def found(self, project: Project, settings: Settings) -> Found:
        deliver_one(project, settings, "sailings", DAY, at=local(DAY, 1))
        return Landing(project, settings).find("sailings")[0]

    def test_it_is_read_once(
        self, project: Project, settings: Settings, found: Found, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In an object store each read is a round trip."""
        asked: list[str] = []
        read = Landing._read

        def counted(landing: Landing, key: str, size: int) -> bytes:
            asked.append(key)
            return read(landing, key, size)

        monkeypatch.setattr(Landing, "_read", counted)
        landing = Landing(project, settings)
        monkeypatch.setattr(landing.fs, "exists", lambda path: pytest.fail("asked whether it is there"))
        first, second = landing.sidecar(found), landing.sidecar(found)
        assert first is not None and first == second
        assert first.available_at == local(DAY, 1)
        assert len(asked) == 1

    @pytest.mark.parametrize("name", ["size", "rows"])
    @pytest.mark.parametrize("number", ["9" * 4_000, "-1"])
    def test_a_number_that_no_file_has_is_not_in_the_message(
        self, project: Project, settings: Settings, found: Found, name: str, number: str
    ) -> None:
        landing = Landing(project, settings)
        path = Path(f"{landing.root}/{found.key}.json")
        text = re.sub(rf'"{name}": ?[0-9]+', f'"{name}": {number}', path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DeliveryError, match=rf"not a sidecar \({name}: Input should be") as caught:
            landing.sidecar(found)
        assert len(str(caught.value)) < 500


NO_FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pipe": (os.mkfifo, "it is not a file"),
    "a folder": (Path.mkdir, "it is not a file"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "it is a symbolic link"),
    "a link to a secret": (lambda path: path.symlink_to("/etc/passwd"), "it is a symbolic link"),
}
"""What another user of the landing folder can put where a file is read, and what is said about it."""


@pytest.mark.timeout(20)  # a pipe without a writer, and a device, can be read for ever
class TestReading:
    @pytest.fixture
    def found(self, project: Project, settings: Settings) -> Found:
        deliver_one(project, settings, "sailings", DAY, at=local(DAY, 1))
        return Landing(project, settings).find("sailings")[0]

    @pytest.mark.parametrize("what", NO_FILES)
    def test_what_takes_the_place_of_a_file_is_not_read(
        self, project: Project, settings: Settings, found: Found, what: str
    ) -> None:
        put_there, said = NO_FILES[what]
        landing = Landing(project, settings)
        path = Path(landing.root) / found.key
        path.unlink()
        put_there(path)
        with pytest.raises(NotAFileError, match=said):
            landing.read(found)

    @pytest.mark.parametrize("what", NO_FILES)
    def test_what_is_no_file_is_no_sidecar(self, project: Project, settings: Settings, found: Found, what: str) -> None:
        put_there, said = NO_FILES[what]
        landing = Landing(project, settings)
        path = Path(f"{landing.root}/{found.key}.json")
        path.unlink()
        put_there(path)
        with pytest.raises(DeliveryError, match=rf"csv\.gz\.json: {said}.*; put the sidecar itself here"):
            landing.sidecar(found)

    def test_of_a_file_that_has_grown_one_byte_more_is_read(
        self, project: Project, settings: Settings, found: Found
    ) -> None:
        landing = Landing(project, settings)
        with (Path(landing.root) / found.key).open("ab") as file:
            file.truncate(1 << 40)  # a terabyte, and no block of the disk
        assert len(landing.read(found)) == found.size + 1


class TestWriting:
    def test_a_file_appears_whole_or_not_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A writer is killed after the bytes and before the name."""
        written = []

        def killed(self: Path, target: Path) -> None:
            written.append((self.parent, self.read_bytes(), target))
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_whole(LocalFileSystem(), f"{tmp_path}/file", b"all")
        [(folder, content, target)] = written
        assert folder == target.parent  # on the same disk
        assert content == b"all"
        assert list(tmp_path.iterdir()) == []
