"""Landing: which objects are deliveries, and from when each is available."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from include.config.loading import load_project
from include.core.project import Project
from include.core.settings import Settings
from include.io import landing as landing_module
from include.io.landing import Found, Landing
from tests.landing import DAY, deliver_one, local, places


@pytest.fixture
def project() -> Project:
    return load_project("ferries")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return places(tmp_path)


def with_path(project: Project, path: str) -> Project:
    feed = project.feeds["sailings"].model_copy(update={"path": path})
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

    def test_sidecars_and_incomplete_files_are_not_deliveries(self, project: Project, settings: Settings) -> None:
        """The feed's pattern matches any name."""
        put(settings, *(f"sailings/{DAY}/{n}" for n in ("a.csv", "a.csv.json", ".a.csv.1.part", "_SUCCESS", "b.json")))
        found = found_by(project, settings, "sailings/{day}/*")
        assert [key.rsplit("/", 1)[1] for key, _ in found] == ["a.csv", "b.json"]

    def test_a_folder_that_is_not_a_day_is_ignored(
        self, project: Project, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        put(settings, f"sailings/{DAY}/a.csv.gz", "sailings/2013-02-30/a.csv.gz", "sailings/old/a.csv.gz")
        assert [f.day for f in Landing(project, settings).find("sailings")] == [DAY]
        assert "2013-02-30 is not a date; the file is ignored" in caplog.text

    def test_a_pattern_may_contain_the_day_twice(self, project: Project, settings: Settings) -> None:
        put(settings, "sailings/2013-03-04/at-2013-03-04-x.csv", "sailings/2013-03-04/at-2013-03-05-x.csv")
        found = found_by(project, settings, "sailings/{day}/at-{day}-*.csv")
        assert found == [("sailings/2013-03-04/at-2013-03-04-x.csv", DAY)]

    def test_a_dot_in_a_pattern_matches_only_a_dot(self, project: Project, settings: Settings) -> None:
        put(settings, f"sailings/{DAY}/a.csv", f"sailings/{DAY}/axcsv")
        assert [key for key, _ in found_by(project, settings, "sailings/{day}/a.csv")] == [f"sailings/{DAY}/a.csv"]

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


class TestAvailability:
    @pytest.fixture
    def found(self, project: Project, settings: Settings) -> Found:
        deliver_one(project, settings, "sailings", DAY, at=local(DAY, 1))
        return Landing(project, settings).find("sailings")[0]

    def test_available_from_comes_from_the_sidecar(self, project: Project, settings: Settings, found: Found) -> None:
        assert Landing(project, settings).available_at(found) == local(DAY, 1)

    def test_available_from_is_in_utc(self, project: Project, settings: Settings, found: Found) -> None:
        path = Path(settings.landing) / "ferries" / f"{found.key}.json"
        said = {**json.loads(path.read_text(encoding="utf-8")), "available_at": "2013-03-04T01:00:00+05:30"}
        path.write_text(json.dumps(said), encoding="utf-8")
        at = Landing(project, settings).available_at(found)
        assert (at, at.tzinfo) == (datetime(2013, 3, 3, 19, 30, tzinfo=UTC), UTC)

    def test_available_from_is_recorded_once(self, project: Project, settings: Settings, found: Found) -> None:
        landing = Landing(project, settings)
        assert landing.taken(found) is None
        landing.take(found, "first", local(DAY, 2))
        landing.take(found, "second", local(DAY, 3))
        assert (landing.taken(found), landing.available_at(found)) == ("first", local(DAY, 2))

    def test_a_manifest_entry_is_written_completely_or_not_at_all(
        self, project: Project, settings: Settings, found: Found, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed after writing and before renaming. The transaction of fsspec would copy from another disk instead."""
        written = []

        def killed(self: Path, target: Path) -> None:
            written.append((self.parent, self.read_bytes(), target))
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            Landing(project, settings).take(found, "digest", local(DAY, 2))
        monkeypatch.undo()
        [(folder, content, target)] = written
        assert folder == target.parent  # the temporary file is on the same disk
        assert json.loads(content)["sha256"] == "digest"
        assert Landing(project, settings).taken(found) is None

    def test_available_from_is_read_with_few_requests(
        self, project: Project, settings: Settings, found: Found, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each request to an object store is a round trip, and a run makes them for each new file."""
        asked: list[str] = []
        read = landing_module.read

        def counted(filesystem: object, path: str) -> bytes | None:
            asked.append(path)
            return read(filesystem, path)

        monkeypatch.setattr(landing_module, "read", counted)
        landing = Landing(project, settings)
        monkeypatch.setattr(landing.fs, "exists", lambda path: pytest.fail("asked whether it is there"))
        landing.available_at(found)
        landing.sidecar(found)
        landing.take(found, "digest", local(DAY, 2))
        assert landing.taken(found) == "digest"
        assert len(asked) == 2

    def test_other_content_or_time_than_another_run_recorded_is_refused(
        self, project: Project, settings: Settings, found: Found
    ) -> None:
        late, early = Landing(project, settings), Landing(project, settings)
        for landing in (late, early):
            assert landing.taken(found) is None
        early.take(found, "digest", local(DAY, 2))
        with pytest.raises(FileExistsError, match="another run just landed it with another content or time"):
            late.take(found, "digest", local(DAY, 3))
        late.take(found, "digest", local(DAY, 2))  # the same entry
