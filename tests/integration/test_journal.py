"""The journal: numbers in the order of commits, states at a watermark, decisions, export and restore."""

import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from fsspec.implementations.local import LocalFileSystem
from typer.testing import CliRunner

from include import cli
from include.config.loading import load_project
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.project import Project
from include.core.records import Featured, PreparedDay, TableRef
from include.core.settings import NO_DATABASE, Settings
from include.io import postgres
from include.io.journal import Restored, _newest_exported, begin_remote, export, read_journal, require_exported, restore
from include.operations.decide import accept, withdraw
from include.runner.run import record, run
from include.steps.land import land
from include.steps.validate import validate
from tests.deliveries import delivery, enter
from tests.landing import DAY, deliver_day, deliver_one, deliveries_of, local, rows_of, sailings

Install = Callable[..., AbstractContextManager[Settings]]
RUN_DATE = Interval.of(DAY)


@pytest.fixture
def project() -> Project:
    return load_project("ferries")


def entries(settings: Settings) -> pl.DataFrame:
    return postgres.journal.read_entries(settings, "ferries")


def test_writers_at_once_get_numbers_without_gaps(project: Project, settings: Settings) -> None:
    def write(who: int) -> None:
        for n in range(10):
            enter(settings, project, delivery("winds", DAY, f"{who}-{n}@x", available_from=local(DAY, 1)))

    threads = [threading.Thread(target=write, args=[who]) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entries(settings)["sequence"].to_list() == list(range(1, 81))


def test_entries_are_never_changed(project: Project, settings: Settings) -> None:
    enter(settings, project, delivery("winds", DAY, "a@x", available_from=local(DAY, 1)))
    for statement in ("UPDATE journal SET why = 'x'", "DELETE FROM journal", "TRUNCATE journal"):
        with (
            pytest.raises(sa.exc.DBAPIError, match="journal is never changed"),
            postgres.connection.engine(settings).begin() as connection,
        ):
            connection.execute(sa.text(statement))


def test_a_watermark_keeps_the_state_that_it_had(project: Project, settings: Settings) -> None:
    deliver_day(project, settings, DAY)
    land(project, RUN_DATE, settings)
    landed = read_journal(settings, project)
    validate(project, RUN_DATE, settings)
    accepted = read_journal(settings, project)
    [winds] = deliveries_of(settings).filter(pl.col("feed") == "winds")["delivery_id"]
    withdraw(project, winds, settings, by="Ada", why="a wrong station")
    assert set(landed.deliveries["verdict"]) == {"landed"}
    assert set(accepted.deliveries["verdict"]) == {"accepted"}
    for known in (landed, accepted):
        assert read_journal(settings, project, known.watermark).deliveries.equals(known.deliveries)
    now = dict(read_journal(settings, project).deliveries.select("delivery_id", "verdict").rows())
    assert now[winds] == "withdrawn"


def test_a_step_without_the_database_reads_the_copy(project: Project, settings: Settings) -> None:
    deliver_day(project, settings, DAY)
    land(project, RUN_DATE, settings)
    watermark = begin_remote(settings, project, copy=True)
    validate(project, RUN_DATE, settings)
    remote = settings.model_copy(update={"database_url": type(settings.database_url)(NO_DATABASE)})
    there, here = read_journal(remote, project, watermark), read_journal(settings, project, watermark)
    assert there.deliveries.equals(here.deliveries)
    assert set(there.deliveries["verdict"]) == {"landed"}


def test_a_delivery_is_withdrawn_and_accepted_again(project: Project, settings: Settings) -> None:
    deliver_day(project, settings, DAY)
    path = deliver_one(project, settings, "sailings", DAY, sailings(DAY, 4), at=local(DAY, 1), name="again")
    for step in ("land", "validate"):
        run(step, project, RUN_DATE, settings)
    [again] = deliveries_of(settings).filter(pl.col("key").str.contains(path.name))["delivery_id"]

    def verdict() -> str:
        return str(deliveries_of(settings).filter(pl.col("delivery_id") == again)["verdict"].item())

    withdraw(project, again, settings, by="Ada", why="a test file")
    run("validate", project, RUN_DATE, settings)
    assert verdict() == "withdrawn", "only a person brings it back"
    count = entries(settings).height
    withdraw(project, again, settings, by="Bob", why="the same")
    assert entries(settings).height == count
    accept(project, again, settings, by="Ada", why="it was right")
    assert verdict() == "landed"
    run("validate", project, RUN_DATE, settings)
    assert verdict() == "accepted"
    with postgres.connection.engine(settings).connect() as connection:
        found = connection.execute(sa.text("SELECT action, subject, by, why FROM human_actions ORDER BY decided_at"))
        assert [tuple(row) for row in found] == [
            ("withdraw", again, "Ada", "a test file"),
            ("accept", again, "Ada", "it was right"),
        ]


def test_a_decision_needs_a_delivery_a_person_and_a_reason(project: Project, settings: Settings) -> None:
    deliver_day(project, settings, DAY)
    land(project, RUN_DATE, settings)
    [winds] = deliveries_of(settings).filter(pl.col("feed") == "winds")["delivery_id"]
    with pytest.raises(ActionRequiredError, match=f"did you mean '{winds}'"):
        withdraw(project, winds[:-1], settings, by="Ada", why="x")
    for by, why in (("", "x"), ("Ada", " ")):
        with pytest.raises(ActionRequiredError, match="needs who decides and why"):
            withdraw(project, winds, settings, by=by, why=why)


def test_a_refused_delivery_cannot_be_accepted(project: Project, settings: Settings) -> None:
    enter(settings, project, delivery("winds", DAY, "a@x", available_from=local(DAY, 1), verdict="refused"))
    with pytest.raises(ActionRequiredError, match="was refused by validation: a test says so"):
        accept(project, "a@x", settings, by="Ada", why="x")


def test_steps_export_their_entries_before_they_succeed(project: Project, settings: Settings) -> None:
    deliver_day(project, settings, DAY)
    files = []
    for step in ("land", "validate", "validate"):
        run(step, project, RUN_DATE, settings)
        folder = Path(settings.journal) / "ferries"
        files.append(sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jsonl")))
    assert files[0] == ["000000000/000000000001-000000000003.jsonl"]
    assert files[1] == [*files[0], "000000000/000000000004-000000000006.jsonl"]
    assert files[2] == files[1]
    line = json.loads((Path(settings.journal) / "ferries" / files[0][0]).read_text().splitlines()[0])
    assert line.keys() == {"sequence", "kind", "subject", "entry", "by", "why", "run_id", "recorded_at"}


def test_a_restored_journal_is_the_same_and_clean_rows_are_made_again(
    project: Project, settings: Settings, install: Install, tmp_path: Path
) -> None:
    """The database and all tables but the raw ones are gone."""
    deliver_day(project, settings, DAY)
    run("land", project, RUN_DATE, settings)
    run("validate", project, RUN_DATE, settings)
    clean = rows_of(settings, "clean_ferries__sailings")
    with install(tmp_path / "new") as new:
        again = new.model_copy(update={"journal": settings.journal, "landing": str(tmp_path / "nothing")})
        for raw in Path(settings.tables).glob("raw_*"):
            (Path(new.tables)).mkdir(parents=True, exist_ok=True)
            raw.rename(Path(new.tables) / raw.name)
        assert restore(again, "ferries") == Restored(6, ())
        assert restore(again, "ferries") == Restored(0, ())
        assert entries(again).equals(entries(settings))
        validate(project, RUN_DATE, again)
        assert rows_of(again, "clean_ferries__sailings").equals(clean)
        assert entries(again).equals(entries(settings))


def test_a_restore_names_what_is_missing_or_different(
    project: Project, settings: Settings, install: Install, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        enter(settings, project, delivery("winds", DAY, f"{name}@x", available_from=local(DAY, 1)))
        export(settings, "ferries")
    with install(tmp_path / "new") as new:
        again = new.model_copy(update={"journal": settings.journal})
        enter(again, project, delivery("winds", DAY, "other@x", available_from=local(DAY, 1)))
        with pytest.raises(ActionRequiredError, match="entry 1 of the journal in the database is not the exported one"):
            restore(again, "ferries")
        (Path(settings.journal) / "ferries" / "000000000" / "000000000001-000000000002.jsonl").unlink()
        with pytest.raises(ActionRequiredError, match="lacks entries, the first is 1"):
            restore(again, "ferries")


def test_a_restore_from_a_place_without_an_export_is_refused(project: Project, settings: Settings) -> None:
    with pytest.raises(ActionRequiredError, match=r"ferries: there is no export of the journal in .*/journal/ferries"):
        restore(settings, project.name)


def test_a_restore_leaves_entries_that_are_not_exported_and_says_how_to_export_them(
    project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(settings, project, delivery("winds", DAY, "a@x", available_from=local(DAY, 1)))
    export(settings, "ferries")
    enter(settings, project, delivery("winds", DAY, "b@x", available_from=local(DAY, 1)))
    before = entries(settings)
    monkeypatch.setattr(cli, "_settings", lambda: settings)
    command = ["--project", "ferries"]
    restored = CliRunner().invoke(cli.app, ["journal", "restore", *command])
    assert restored.exit_code == 0
    assert restored.output.splitlines() == [
        "0 entries restored",
        (
            "the export lacks 2 entries, which only the database has: 3 to 4; they stay. To export them, run: "
            "python -m include.cli journal export --project ferries"
        ),
    ]
    assert entries(settings).equals(before)
    assert CliRunner().invoke(cli.app, ["journal", "export", *command]).output == "exported up to entry 4\n"
    assert restore(settings, "ferries") == Restored(0, ())


def test_the_newest_export_is_found_without_listing_older_folders(
    project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(settings.journal) / "ferries"
    for first in (1, 500, 999, 1000, 4998):
        path = folder / f"{first // 1000:09d}" / f"{first:012d}-{first + 1:012d}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (folder / "000000005").mkdir()  # left by a run that was killed before it wrote the file
    listed: list[str] = []
    ls = LocalFileSystem.ls

    def listing(self: LocalFileSystem, path: str, **options: bool) -> list[str]:
        listed.append(path.removeprefix(str(folder)))
        return ls(self, path, **options)  # type: ignore[no-any-return]

    monkeypatch.setattr(LocalFileSystem, "ls", listing)
    assert _newest_exported(LocalFileSystem(), str(folder)) == 4999
    assert listed == ["", "/000000005", "/000000004"]
    with pytest.raises(ActionRequiredError, match=r"has entries up to 4999, but the journal .* ends at 0"):
        require_exported(settings, "ferries")


def test_a_result_from_databricks_is_not_recorded_in_a_database_behind_its_export(
    project: Project, settings: Settings, install: Install, tmp_path: Path
) -> None:
    enter(settings, project, delivery("winds", DAY, "a@x", available_from=local(DAY, 1)))
    export(settings, "ferries")
    prepared_day = PreparedDay(
        project="ferries", day=DAY, data_view="point_in_time", as_of=local(DAY, 3), watermark=0, deliveries=(),
        table_versions={}, rows=0,
    )  # fmt: skip
    table = TableRef(table="features_ferries", version=0, interval=RUN_DATE, rows=0)
    built = Featured(interval=RUN_DATE, rows=0, table=table, prepared_days=(prepared_day,))
    with install(tmp_path / "new") as new:
        emptied = new.model_copy(update={"journal": settings.journal})
        with pytest.raises(ActionRequiredError, match="the database was emptied"):
            record("build_features", project, RUN_DATE, built, emptied, local(DAY, 3), 0)
        assert entries(emptied).is_empty()


def test_entries_are_the_same_from_blocks_and_one_by_one(settings: Settings, project: Project) -> None:
    entries = [
        Entry.verdict(f"sailings/{n}", "sailings", DAY, "a 'quoted' \"reason\"" if n % 2 else None) for n in range(600)
    ]
    for first, last in ((0, 100), (100, 101), (101, 600)):  # the last of these makes two blocks at once
        postgres.journal.add_entries(settings, project.name, entries[first:last])
    with postgres.connection.engine(settings).connect() as connection:
        blocks = connection.scalars(sa.select(postgres.schema.journal_blocks.c.last_sequence)).all()
        text = "SELECT sequence, kind, subject, entry::text, why FROM journal WHERE project = :p ORDER BY sequence"
        expected = [tuple(row) for row in connection.execute(sa.text(text), {"p": project.name})]
    assert sorted(blocks) == [250, 500]
    for watermark in (0, 1, 249, 250, 251, 499, 500, 501, 600, None):
        found = postgres.journal.read_entries(settings, project.name, watermark)
        assert found.rows() == expected[:watermark], watermark
    with pytest.raises(sa.exc.DBAPIError, match="never changed"), postgres.connection.engine(settings).begin() as own:
        own.execute(sa.update(postgres.schema.journal_blocks).values(entries="[]"))
