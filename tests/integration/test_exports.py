"""`exports`: files in S3 are what readers see, whole or recognisably not, also after a kill and with two writers."""

import csv
import hashlib
import io
import json
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.errors import ConfigError
from include.core.interval import Interval
from include.core.settings import Settings
from include.io import exports, landing, postgres, storage
from include.io.exports import Place, export_published
from include.operations.unpublish import unpublish
from include.steps.publish import publish, publish_scores
from tests.integration import small
from tests.integration.small import select
from tests.integration.test_publish import AS_OF, DAY, asked, entities_of, frame
from tests.integration.two_writers import write_at_once
from tests.s3 import on_s3

NEXT = DAY + timedelta(days=1)


@pytest.fixture
def own(settings: Settings, s3: str) -> Settings:
    own = on_s3(settings, s3)
    return own.model_copy(update={"exports": own.landing.replace("landing", "exports")})


@pytest.fixture
def model() -> Model:
    return load_model("late_ferry").model_copy(update={"exports": "parquet"})


@pytest.fixture
def put(own: Settings, model: Model) -> Callable[..., None]:
    """Return a function that publishes days and stops before the export, as a killed step does."""

    def put(*days: date, shift: float = 0.0) -> None:
        scores = frame(*days, shift=shift)
        about: dict[str, Any] = {"days": asked(scores), "as_of": dict.fromkeys(days, AS_OF)}
        publish_scores(load_project("ferries"), model, scores.lazy(), entities_of(scores).lazy(), own, **about)

    return put


@pytest.fixture
def export(own: Settings, model: Model) -> Callable[..., None]:
    return lambda *days, of=model: export_published(own, load_project("ferries"), of, days)


def files(own: Settings) -> dict[str, bytes]:
    """Return all files of exports by their paths below the model's folder."""
    filesystem, root = storage.filesystem(own, str(own.exports))
    start = f"{root}/ferries/late_ferry/"
    return {path.removeprefix(start): filesystem.cat_file(path) for path in filesystem.find(root)}


def manifest(own: Settings, day: date = DAY) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files(own)[f"{day}/manifest.json"])
    return found


def batch_seen(own: Settings, day: date = DAY) -> str:
    [row] = select(own, f"SELECT batch_id::text AS batch FROM published WHERE day = '{day}'")
    return str(row["batch"])


def test_a_day_is_a_file_of_what_readers_see_without_outcomes_and_its_manifest(
    put: Any, export: Any, own: Settings, model: Model
) -> None:
    put(DAY)
    export(DAY)
    about, first = manifest(own), files(own)
    assert first.keys() == {f"{DAY}/predictions.parquet", f"{DAY}/manifest.json"}
    content = first[f"{DAY}/predictions.parquet"]
    assert about["sha256"] == hashlib.sha256(content).hexdigest()
    assert (about["batch_id"], about["rows"], about["bytes"]) == (batch_seen(own), 4, len(content))
    rows = pl.read_parquet(io.BytesIO(content))
    assert rows.columns == about["columns"] == [
        "day", "target_day", "horizon", "entity_id", "company", "ferry", "origin", "dest", "departs_at",
        "distance_miles", "score", "prediction", "model_version", "semantic_version", "as_of", "batch_id",
    ]  # fmt: skip
    assert rows["score"].to_list() == [0.1, 0.2, 0.3, 0.4]
    assert (rows["departs_at"].dtype, rows["day"].dtype) == (pl.Datetime("us", "UTC"), pl.Date())

    export(DAY)
    assert files(own) == first  # the step ran again
    export(DAY, of=model.model_copy(update={"exports": "csv"}))
    after = files(own)
    assert after.keys() == {f"{DAY}/predictions.csv", f"{DAY}/manifest.json"}  # the other format is gone
    [line, *_] = csv.DictReader(io.StringIO(after[f"{DAY}/predictions.csv"].decode()))
    assert (line["company"], line["score"], line["departs_at"]) == ("UA", "0.1", "2013-03-01T08:00:00.000000Z")


def test_what_was_cut_off_is_repaired_by_the_next_call(
    put: Any, export: Any, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(DAY)
    export(DAY)
    before = files(own)[f"{DAY}/predictions.parquet"]
    put(DAY, shift=0.1)
    write = landing.write_whole

    def killed(filesystem: Any, path: str, data: bytes) -> None:
        if path.endswith("manifest.json"):
            raise KeyboardInterrupt
        write(filesystem, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(exports, "write_whole", killed)
        with pytest.raises(KeyboardInterrupt):
            export(DAY)
    half = files(own)
    assert half.keys() == {f"{DAY}/predictions.parquet"}  # no manifest: a reader sees that it is not whole
    assert half[f"{DAY}/predictions.parquet"] != before

    put(NEXT)
    export(NEXT)  # the next night repairs the night before
    assert manifest(own)["batch_id"] == batch_seen(own)
    assert manifest(own)["sha256"] == hashlib.sha256(half[f"{DAY}/predictions.parquet"]).hexdigest()


def test_files_follow_readers_back_to_the_batch_before_and_to_none(
    put: Any, export: Any, own: Settings, model: Model
) -> None:
    put(DAY)
    export(DAY)
    before, moved = files(own), manifest(own)
    put(DAY, shift=0.1)
    export(DAY)
    assert manifest(own)["batch_id"] == batch_seen(own) != moved["batch_id"]
    unpublish(model, Interval.of(DAY), own)
    data = f"{DAY}/predictions.parquet"
    assert files(own)[data] == before[data]  # the same bytes for the same batch
    assert manifest(own)["publication"] > moved["publication"]
    unpublish(model, Interval.of(DAY), own)
    assert files(own) == {}


def test_of_two_writers_the_last_one_writes_what_readers_see(
    put: Any, export: Any, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(DAY)
    write_at_once(monkeypatch, Place, "put", lambda: export(DAY), lambda: put(DAY, shift=0.1))
    assert manifest(own)["batch_id"] == batch_seen(own)


def test_the_step_writes_the_files_also_if_it_was_killed_after_its_commit(own: Settings, model: Model) -> None:
    project = load_project("ferries")
    small.prepare(own, project, DAY)
    small.promoted(own, model.name, 1, DAY)
    small.score(own, project, model.name, DAY)
    with pytest.raises(ConfigError, match=r"exports: parquet: .* connection nightly_tables"):
        publish(model, Interval.of(DAY), own.model_copy(update={"exports": None}))
    assert batch_seen(own)  # readers have it all the same
    with postgres.connection.engine(own).begin() as connection:
        connection.exec_driver_sql("ALTER TABLE publications DISABLE TRIGGER USER")
        connection.exec_driver_sql("UPDATE publications SET published_at = published_at - interval '1 year'")
    assert [day.state for day in publish(model, Interval.of(DAY), own).days] == ["unchanged"]
    assert manifest(own)["batch_id"] == batch_seen(own)
