"""S3 gives the same results as folders: landed files, tables, features of a local Spark, and models."""

import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from include.config.loading import load_project
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.paths import pattern
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres, storage
from include.io.landing import Landing
from include.io.registry import Registry
from include.io.tables import Tables
from include.steps.build_features import build_features
from include.steps.land import land
from include.steps.validate import validate
from tests.integration.training import MODEL, train, write_all
from tests.landing import DAY, days, deliver_day, deliver_one, deliveries_of
from tests.s3 import KEYS, on_s3

pytestmark = pytest.mark.timeout(300)

FOUR = days(DAY, 4)
RUN_DATE = Interval.of(DAY)


@pytest.fixture
def project() -> Project:
    return load_project("ferries")


@pytest.fixture
def own(settings: Settings, s3: str) -> Settings:
    return on_s3(settings, s3)


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Use an empty temporary folder; steps must leave nothing in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert [*folder.glob("nightly-spark-*")] == []


def prepared(project: Project, settings: Settings, interval: Interval) -> Settings:
    deliver_day(project, settings, *interval.days)
    land(project, interval, settings)
    validate(project, interval, settings)
    return settings


def content(settings: Settings) -> dict[str, pl.DataFrame]:
    """Map each table to its sorted rows, without columns that differ between two places."""
    filesystem, root = storage.filesystem(settings, settings.tables)
    found = {}
    for path in filesystem.ls(root, detail=False):
        rows = Tables(settings).scan(Path(path).name).collect()
        rows = rows.drop([name for name in ("uri", "modified_at") if name in rows.columns])
        found[Path(path).name] = rows.sort(rows.columns)
    return found


@pytest.mark.spark
def test_nights_are_those_in_folders(
    project: Project,
    own: Settings,
    install: Callable[..., AbstractContextManager[Settings]],
    tmp_path: Path,
    staged: Path,
) -> None:
    with install(tmp_path / "folders") as in_folders:
        prepared(project, in_folders, FOUR)
        prepared(project, own, FOUR)
        for settings in (in_folders, own):
            build_features(project, FOUR, settings)
        build_features(project, FOUR.shifted(end=-2), own)  # again, of a part
        there, here = content(own), content(in_folders)
        without = ["uri", "sequence"]
        assert deliveries_of(own).drop(without).equals(deliveries_of(in_folders).drop(without))
    assert len(here) == 10
    assert there.keys() == here.keys()
    for table, rows in here.items():
        assert rows.height or table.startswith("quarantine")
        assert there[table].equals(rows), table
    assert land(project, FOUR, own).new == 0


@pytest.mark.spark
@pytest.mark.drill
def test_files_of_a_failed_commit_belong_to_no_version(
    project: Project, own: Settings, staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_features(project, RUN_DATE, prepared(project, own, FOUR))
    before = content(own)["features_ferries"]
    with monkeypatch.context() as patch:
        patch.setattr(Tables, "replace_files", lambda *_, **__: pytest.fail("cut off"))
        with pytest.raises(pytest.fail.Exception):
            build_features(project, FOUR, own)
    assert content(own)["features_ferries"].equals(before)
    build_features(project, FOUR, own)
    assert content(own)["features_ferries"].height == 4 * 3


def test_objects_of_a_feed_are_found_by_day(project: Project, own: Settings) -> None:
    path = "sailings/*-{day}.csv"
    feeds = {**project.feeds, "sailings": project.feeds["sailings"].model_copy(update={"path": path})}
    landing = Landing(project.model_copy(update={"feeds": feeds}), own)
    names = [f"a-{DAY}.csv", f"a-{DAY}.csv.json", f".a-{DAY}.csv", "a-2013-03-05.csv", f"old/a-{DAY}.csv", "readme.txt"]
    for name in names:
        landing.fs.pipe_file(f"{landing.root}/sailings/{name}", b"content")
    assert [found.uri for found in landing.find("sailings", DAY)] == [f"{own.landing}/ferries/sailings/a-{DAY}.csv"]
    assert [found.day for found in landing.find("sailings")] == [DAY, DAY + timedelta(days=1)]
    [found] = landing.find("sailings", DAY)
    assert (found.size, found.modified_at.utcoffset()) == (7, timedelta())
    assert landing.read(found) == b"content"


@pytest.mark.parametrize("path", ["sailings/{day}/*.csv", "sailings/{day:%Y/%m/%d}/{part}.csv", "sailings/{day}-*.csv"])
def test_a_listing_of_some_days_costs_the_same_whatever_the_history(
    project: Project, own: Settings, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    feeds = {**project.feeds, "sailings": project.feeds["sailings"].model_copy(update={"path": path})}
    landing = Landing(project.model_copy(update={"feeds": feeds}), own)
    sent: list[int] = []
    find = type(landing.fs).find

    def counted(*args: object, **options: object) -> object:
        found = find(*args, **options)
        sent.append(len(found))
        return found

    monkeypatch.setattr(type(landing.fs), "find", counted)
    costs = []
    for count in (10, 100):
        for day in days(DAY + timedelta(days=10 - count), count).days:
            landing.fs.pipe_file(f"{landing.root}/{pattern(path, day).replace('*', 'a')}", b"content")
        sent.clear()
        assert [found.day for found in landing.look({"sailings": days(DAY, 10)}).found] == days(DAY, 10).days
        costs.append([*sent])
    assert costs[0] == costs[1] == [1] * 10


def test_keys_that_cannot_be_deliveries_are_said(project: Project, own: Settings) -> None:
    """An object store has no folders, but some tools put an empty object where one would be."""
    feeds = {**project.feeds, "sailings": project.feeds["sailings"].model_copy(update={"path": "sailings/{day}/*"})}
    landing = Landing(project.model_copy(update={"feeds": feeds}), own)
    names = [
        "",
        "a.csv",
        "ä b#?%41.csv",
        "x.csv.filepart",
        "a\tb.csv",
        "_temporary/0/c.csv",
        "d.csv/part-0.csv",
    ]
    for name in names:
        landing.fs.call_s3("put_object", Bucket=own.landing.split("/")[2], Key=f"landing/ferries/sailings/{DAY}/{name}")
    listing = landing.look({"sailings": DAY})
    folder = f"{own.landing}/ferries/sailings/{DAY}"
    assert [found.uri for found in listing.found] == [f"{folder}/a.csv", f"{folder}/ä b#?%41.csv"]
    assert [landing.read(found) for found in listing.found] == [b"", b""]
    assert [each.why.removeprefix(f"{folder}/")[:40] for each in listing.unusable] == [
        "a\\tb.csv: its name has characters that a",
        "x.csv.filepart: its name ends with .file",
    ]


def test_a_model_is_logged_found_again_and_loaded(with_mlflow: Settings, s3: str) -> None:
    own, before = on_s3(with_mlflow, s3), dict(os.environ)
    write_all(own)
    trained = train(own)
    assert train(own) == trained  # the fit is reused
    registry = Registry(own)
    version = registry.get_version("late_ferry", trained.model_version or 0)
    digest = postgres.model_files.read_versions(own, "late_ferry")[version.version].model_digest
    assert registry.load(version, digest, MODEL).problem_type == "binary"
    assert registry.files(version, digest).megabytes > 0
    kept = storage.filesystem(own, own.artifacts)[0].find(own.artifacts)
    assert any(path.endswith("model.skops") for path in kept)
    filesystem = storage.filesystem(own, own.artifacts)[0]
    for lost, why in (("requirements.txt", "is not what was fitted"), ("", "gone from the artifact store")):
        filesystem.rm([path for path in kept if path.endswith(lost) and filesystem.exists(path)])
        with pytest.raises(ActionRequiredError, match=rf"version 1 of late_ferry.*{why}"):
            registry.load(version, digest, MODEL)
    assert dict(os.environ) == before  # the variables for MLflow are removed again
    assert not [secret for secret in KEYS.values() if any(secret in value for value in os.environ.values())]


def test_without_options_each_library_uses_the_default_credentials_of_aws(
    project: Project, own: Settings, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": s3, "AWS_DEFAULT_REGION": "eu-west-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")  # delta-rs needs it for a server without TLS; AWS uses https
    bare = own.model_copy(update={"storage_options": {}})
    prepared(project, bare, RUN_DATE)
    assert Landing(project, bare).find("logbook", DAY - timedelta(days=1))
    assert content(bare)["raw_ferries__sailings"].height == 3


def test_no_error_contains_a_key(project: Project, own: Settings) -> None:
    elsewhere = {name: f"s3://not-there/{name}" for name in ("landing", "tables")}
    gone = own.model_copy(update=elsewhere)
    for call in (
        lambda: Tables(gone).create("numbers", {"day": pl.Date()}),
        lambda: deliver_one(project, gone, "sailings", DAY),
    ):
        with pytest.raises(Exception, match=r"(?i)bucket") as caught:
            call()
        text = "".join(traceback.format_exception(caught.value))
        assert not [secret for secret in KEYS.values() if secret in text]
