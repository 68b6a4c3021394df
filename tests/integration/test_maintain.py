"""maintain: what grows with the years shrinks, and nothing that was recorded is lost."""

import json
import os
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from deltalake import DeltaTable, Schema
from typer.testing import CliRunner

from include import cli
from include.config.loading import load_project
from include.core.interval import Interval
from include.core.names import features_table, scores_table
from include.core.project import Project
from include.core.records import FitOrigin, Maintained, MaintainedTable
from include.core.settings import Settings
from include.io import postgres, table_upkeep
from include.io.tables import CONFIGURATION, Scope, Tables
from include.operations.maintain import maintain, named_versions, reach
from tests.integration import small
from tests.integration.processes import processes
from tests.integration.upkeep import NO_GRACE, write_parts
from tests.landing import places
from tests.s3 import on_s3
from tests.writers import TABLE, frame, rows_of, stored

DAY = small.DAY
LATER = DAY + timedelta(days=1)
MODEL = "late_ferry"
FOUR = ("a", "b", "c", "d")


@pytest.fixture
def project() -> Project:
    return load_project("ferries").model_copy(update={"first_day": DAY})


@pytest.fixture(params=["folder", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Return places in a folder and on S3, without a database."""
    found = places(tmp_path)
    return found if request.param == "folder" else on_s3(found, request.getfixturevalue("s3"))


def today(project: Project) -> Interval:
    """Return a day from which compaction reaches all days of these tests."""
    return Interval.of(LATER + timedelta(days=reach(project) + 10))


def files_in(folder: str) -> dict[str, tuple[int, int]]:
    """Map each file below a folder to its size and time."""
    found = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def of_table(done: Maintained, table: str) -> MaintainedTable:
    return next(each for each in done.tables if each.table == table)


# --- compaction


def test_small_files_of_old_days_become_one_and_every_version_stays(anywhere: Settings) -> None:
    tables = Tables(anywhere)
    before = write_parts(tables, DAY, *FOUR)
    write_parts(tables, LATER, *FOUR)
    rows = [stored(tables, version) for version in range(before + 1)]
    looked = table_upkeep.small_files(tables, TABLE, LATER)
    assert (looked.days, looked.files) == ((DAY,), 4)
    assert table_upkeep.compact(tables, TABLE, LATER) == looked
    assert len(tables.open(TABLE).file_uris()) == 1 + 4, "the later day was in reach of corrections"
    assert [stored(tables, version) for version in range(before + 1)] == rows
    expected = rows_of(*(frame(day, 1, 2, 3, who=name) for day in (DAY, LATER) for name in FOUR))
    assert stored(tables) == expected
    version = tables.version(TABLE)
    assert table_upkeep.compact(tables, TABLE, LATER).files == 0
    assert tables.version(TABLE) == version, "a second time there is nothing to do, and no commit"


@pytest.mark.parametrize("place", ["folder", pytest.param("s3", marks=pytest.mark.drill)])
def test_compaction_beside_writers_loses_no_row(place: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    settings = places(tmp_path)
    if place == "s3":
        settings = on_s3(settings, request.getfixturevalue("s3"))
    tables = Tables(settings)
    write_parts(tables, DAY, *FOUR)
    upkeep = "tests.integration.upkeep"
    with processes(settings, 3) as started:
        writing = {"do": "run_function", "at": f"{upkeep}:replace_part", "arguments": [str(DAY), "a", 3]}
        compacting = {"do": "run_function", "at": f"{upkeep}:compact_before", "arguments": [str(LATER)]}
        started.all([writing, compacting, compacting])
    assert stored(tables) == rows_of(frame(DAY, 2, 3, who="a"), *(frame(DAY, 1, 2, 3, who=name) for name in "bcd"))
    commits = table_upkeep.commits(tables, TABLE)
    assert tables.open(TABLE).transaction_version(TABLE) == len(commits) - 1, "each commit counted the transaction"


def test_an_old_table_gets_the_properties_of_new_ones(tmp_path: Path) -> None:
    tables = Tables(places(tmp_path))
    DeltaTable.create(
        tables.uri(TABLE), schema=Schema.from_arrow(frame(DAY, 1).to_arrow().schema), partition_by=["day"]
    )
    assert table_upkeep.missing_properties(tables, TABLE) == CONFIGURATION
    table_upkeep.set_properties(tables, TABLE)
    assert table_upkeep.missing_properties(tables, TABLE) == {}
    version = tables.version(TABLE)
    table_upkeep.set_properties(tables, TABLE)
    assert tables.version(TABLE) == version


def test_a_feed_that_looks_for_corrections_of_all_days_keeps_them_as_they_are(
    settings: Settings, project: Project
) -> None:
    feeds = {name: feed.model_copy(update={"corrections_days": 10**7}) for name, feed in project.feeds.items()}
    for_ever = project.model_copy(update={"feeds": feeds})
    small.prepare(settings, project, DAY)
    done = maintain(for_ever, today(project), settings, only=["compact"])
    assert {each.compacted_files for each in done.tables} == {0}


# --- vacuum


@pytest.fixture
def years(settings: Settings, project: Project) -> Settings:
    """A prepared day whose features were built three times: first recorded, then scored and fitted, then nothing."""
    small.prepare(settings, project, DAY)  # version 1: named by the prepared day
    tables, table = Tables(settings), features_table(project.name)
    for _ in range(3):  # versions 2 to 4
        rows = tables.scan(table).collect().with_columns(as_of=pl.col("as_of") + timedelta(hours=1))
        tables.replace(table, rows, Scope(Interval.of(DAY)), sort_by=["entity_id"])
    small.score(settings, project, MODEL, DAY)  # it read version 1
    scores = tables.scan(scores_table(MODEL)).collect().with_columns(features_version=pl.lit(2, pl.Int64))
    tables.replace(scores_table(MODEL), scores, Scope(Interval.of(DAY)), sort_by=["entity_id"])
    return settings


def readable(settings: Settings, table: str) -> list[int]:
    """Return the versions of a table whose rows can be read."""
    tables, found = Tables(settings), []
    for version in range(tables.version(table) + 1):
        try:
            tables.scan(table, version).collect()
        except FileNotFoundError:
            continue
        found.append(version)
    return found


def test_files_of_named_versions_stay_and_all_others_go(years: Settings, project: Project) -> None:
    table = features_table(project.name)
    assert readable(years, table) == [0, 1, 2, 3, 4]
    before = files_in(years.tables)
    looked = maintain(project, today(project), years, dry_run=True, grace=NO_GRACE)
    assert files_in(years.tables) == before, "a dry run changes nothing"
    done = maintain(project, today(project), years, grace=NO_GRACE)
    assert done.model_copy(update={"dry_run": True}) == looked
    assert of_table(done, table).kept == {"a prepared day": 1, "stored scores": 1, "the newest version": 1}
    assert of_table(done, table).removed_files == 1
    assert of_table(done, table).removed_bytes > 0
    assert readable(years, table) == [0, 1, 2, 4, 5, 6], "version 0 is empty, and 5 and 6 are notes of the vacuum"
    assert not maintain(project, today(project), years, grace=NO_GRACE).rows


def test_what_a_fit_or_a_training_names_stays(years: Settings, project: Project) -> None:
    origin = FitOrigin(
        git_commit="c",
        declared={},
        data_view="point_in_time",
        as_of=small.as_of(DAY),
        watermark=1,
        days=Interval.of(DAY),
        run_dates=Interval.of(DAY),
        missing=(),
        features_version=3,
        first_features_version=3,
        outcome_version=0,
    )
    with postgres.connection.engine(years).begin() as connection:
        row = {
            "mlflow_run": "run",
            "model": MODEL,
            "candidate": "linear",
            "fit_end": DAY,
            "fit_digest": "f" * 64,
            "model_digest": "a" * 64,
            "run_id": "test",
            "origin": origin.model_dump(mode="json"),
        }
        connection.execute(postgres.schema.fits.insert(), row)
    done = maintain(project, today(project), years, grace=NO_GRACE)
    assert of_table(done, features_table(project.name)).removed_files == 0
    assert readable(years, features_table(project.name)) == [0, 1, 2, 3, 4]


def test_what_was_written_a_moment_ago_stays(years: Settings, project: Project) -> None:
    """A step that runs may read a version that nothing names yet, and a writer has files that no commit names yet."""
    orphan = Path(Tables(years).uri(features_table(project.name)), f"day={DAY}", "part-of-a-writer.parquet")
    orphan.write_bytes(b"not committed")
    assert maintain(project, today(project), years).rows == 0
    os.utime(orphan, (0, 0))  # the writer was killed long ago
    assert maintain(project, today(project), years).rows == 1
    assert not orphan.exists()
    assert readable(years, features_table(project.name))[:5] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("at", ["include.io.table_upkeep:compact", "include.io.table_upkeep:vacuum"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_maintenance_is_finished_by_the_next_one(
    years: Settings, project: Project, at: str, when: str
) -> None:
    def kept() -> list[int]:
        return [n for n in readable(years, features_table(project.name)) if n <= 4]

    with processes(years, 1) as started:
        started.all([{"do": "kill", "at": at, "call": 1, "when": when}])
        command = {"do": "run_function", "at": "tests.integration.upkeep:maintain_now"}
        assert started.all([{**command, "arguments": [str(today(project).end)]}]) == [None]
    assert set(kept()) >= {0, 1, 2, 4}
    maintain(project, today(project), years, grace=NO_GRACE)
    assert kept() == [0, 1, 2, 4]


# --- the command


def test_the_command_says_what_was_kept_and_why_and_prints_its_record_in_a_pipe(
    years: Settings, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*options: str) -> str:
        done = CliRunner().invoke(cli.app, ["maintain", "--project", "ferries", *options], env=years.variables())
        assert done.exit_code == 0, done.output
        return done.stdout

    table = features_table(project.name)
    record = Maintained.model_validate_json(said("--dry-run"))
    assert record.dry_run and table in {each.table for each in record.tables}
    with monkeypatch.context() as patch:
        patch.setattr("include.cli_records.terminal_width", lambda: 200)  # a terminal
        assert json.loads(said("--dry-run", "--json")) == record.model_dump(mode="json")
        words = said("--dry-run")
        assert f"{table}: 5 versions stay readable: 1 for a prepared day, 2 for a step may still read it" in words
        assert "This was a dry run: nothing was changed." in words
        assert small.select(years, "SELECT step FROM step_runs WHERE step = 'maintain'") == []
        assert "stay readable" not in said("--only", "compact")
    assert small.select(years, "SELECT state FROM step_runs WHERE step = 'maintain'") == [{"state": "success"}]


def test_what_a_fit_without_an_origin_read_is_asked_in_mlflow(
    trained: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older version of the product did not record it."""
    project = load_project("ferries")
    fits = postgres.schema.fits.c
    named = postgres.named_versions.read_named_versions(trained, project)
    with postgres.connection.engine(trained).connect() as connection:
        everything = list(connection.scalars(sa.select(fits.mlflow_run)))
    unknown = postgres.named_versions
    monkeypatch.setattr(unknown, "read_fits_without_origin", lambda *_: everything)
    monkeypatch.setattr(unknown, "read_named_versions", lambda *_: {})
    asked = named_versions(project, trained, Tables(trained))
    assert asked[features_table(project.name)].keys() == named[features_table(project.name)].keys()
    assert named[features_table(project.name)]
