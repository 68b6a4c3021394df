"""Rotation of the hash key: then all is as if all keys had been there from the start, and old hashes are gone.

The entity of the project is a customer, so hashes are in each `entity_id`, and in published predictions.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from deltalake import DeltaTable
from pydantic import SecretStr

from include.config.loading import load_model
from include.core.errors import ActionRequiredError, ConfigError, DataError, LockTimeoutError
from include.core.interval import Interval
from include.core.personal import HashKey
from include.core.point_in_time import known_deliveries
from include.core.project import Project
from include.core.records import Alert, Evaluated, PreparedDay, Rehashed, ScoredDay
from include.core.settings import Settings
from include.io import postgres, rewritten
from include.io.journal import export, read_journal, restore
from include.io.postgres.training_summaries import TrainingSummary
from include.io.tables import Scope, Tables
from include.operations import rehash as operation
from include.operations.check import _batches
from include.operations.erase import erase, look
from include.operations.erase_places import Erasure, ErasureJob
from include.operations.rehash import rehash, write_new_key
from include.operations.revalidate import revalidate
from include.runner.run import run
from include.steps.land import land
from include.steps.outcomes import outcomes
from include.steps.publish import publish_scores
from include.steps.validate import validate
from tests.conftest import Install
from tests.integration.loyalty import FEATURES, FIRST, NAMES, customers, import_from, put_day, write_model, write_rules
from tests.integration.nights import Killed
from tests.integration.training import cloned
from tests.landing import rows_of
from tests.planting import stored

OLD, NEW = "the old key of the tests, which has leaked", "the new key of the tests, known to nobody yet"
RING = json.dumps([OLD, NEW])
DAYS = Interval(start=FIRST, end=FIRST + timedelta(days=2))
NEXT = FIRST + timedelta(days=3)
TABLES = [f"{layer}_drugstore__{feed}" for layer in ("raw", "clean", "quarantine") for feed in ("plan", "sales")]
WHO = {"by": "ana", "why": "the old key leaked"}


def keyed(settings: Settings, key: str) -> Settings:
    return settings.model_copy(update={"hash_key": SecretStr(key)})


def night(project: Project, settings: Settings, days: Interval) -> None:
    """Land, validate, prepare and publish; features and scores are made up, and have the ids of the clean rows."""
    land(project, days, settings)
    validate(project, days, settings)
    tables, journal = Tables(settings), read_journal(settings, project)
    rows = tables.scan("clean_drugstore__plan").filter(pl.col("day").is_between(days.start, days.end)).collect()
    made_up = {"as_of": pl.lit(project.cutoff_at(days.start)), "data_view": pl.lit("point_in_time")}
    features = rows.select("day", "entity_id", "customer", **made_up)
    for table in ("features_drugstore", "scores_sold_pieces"):
        tables.replace(table, features, Scope(days), sort_by=["day", "entity_id"])
    prepared = [
        PreparedDay(
            project=project.name,
            day=day,
            data_view="point_in_time",
            as_of=project.cutoff_at(day),
            watermark=journal.watermark,
            deliveries=tuple(known_deliveries(project, journal, Interval.of(day))["delivery_id"].unique().sort()),
            table_versions={"features_drugstore": 1},
            rows=rows.filter(pl.col("day") == day).height,
        )
        for day in days.days
    ]
    postgres.days.record_prepared_days(settings, project.name, prepared)
    outcomes(project, days, settings)
    scores = rows.sort("day", "_row").select(
        "day", "entity_id", model_version=pl.lit(1, pl.Int64), score=pl.col("_row") / 7, prediction=pl.col("_row") / 7
    )
    for version in (1, 2):  # the first batch is replaced
        publish_scores(
            project,
            load_model("sold_pieces"),
            scores.with_columns(model_version=pl.lit(version, pl.Int64)).lazy(),
            rows.select("day", "entity_id", "store_id").lazy(),
            settings,
            days=[
                ScoredDay(day=day, model_version=version, rows=n)
                for day, n in scores.group_by("day").len().sort("day").iter_rows()
            ],
            as_of={day: project.cutoff_at(day) for day in days.days},
        )
    export(settings, project.name)


@pytest.fixture
def project(load_changed: Callable[..., Project]) -> Iterator[Project]:
    project = load_changed("drugstore", customers)
    write_rules(project)
    write_model(project)
    yield project
    load_model.cache_clear()


@pytest.fixture
def shop(project: Project, settings: Settings) -> Settings:
    """Return an installation whose three days are hashed with the old key."""
    for day in DAYS.days:
        put_day(settings, day)
    night(project, keyed(settings, OLD), DAYS)
    return keyed(settings, OLD)


@contextmanager
def always_had_both(install: Install, folder: Path, project: Project, days: Interval = DAYS) -> Iterator[Settings]:
    """Yield an installation that read the same landing with both keys from the start."""
    with install(folder / "always") as made:
        settings = keyed(made, RING).model_copy(update={"landing": str(folder / "landing")})
        night(project, settings, days)
        yield settings


def in_database(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of the shared database that follow from deliveries and scores."""
    queries = {
        "batches": "SELECT batch_id, model, day, model_version, rows, digest, as_of FROM batches",
        "predictions": "SELECT * FROM predictions",
        "published": "SELECT model, day, batch_id FROM published",
        "publications": "SELECT id, model, day, batch_id, replaced, mode FROM publications",
        "outcomes": "SELECT day, entity_id, value FROM outcomes",
        "outcome_days": "SELECT day, rows, digest FROM outcome_days",
        "entities": "SELECT day, entity_id, store_id FROM entities_drugstore",
    }
    with postgres.connection.engine(settings).connect() as connection:
        return {
            name: sorted(map(tuple, connection.execute(sa.text(query))), key=str) for name, query in queries.items()
        }


def assert_same(one: Settings, other: Settings) -> None:
    """Raise if two installations differ in a table, or in the shared database."""
    for table in TABLES:
        mine, theirs = (rows_of(each, table) for each in (one, other))
        names = [name for name in mine.columns if name != "run_id"]
        assert mine.height and mine.select(names).equals(theirs.select(names)), table
    assert in_database(one) == in_database(other)


def old_hashes() -> list[str]:
    key = HashKey.of(OLD)
    return [key.hashed(name) for name in (*NAMES, "Ilse Plantagenet")]


def where_old(settings: Settings) -> list[str]:
    """Return the files and tables that have a hash by the old key alone."""
    needles = old_hashes()
    found = stored(settings, settings.database_url.get_secret_value())
    return sorted({where for where, text in found if any(needle in text for needle in needles)})


def test_after_a_rotation_all_is_as_if_both_keys_had_always_been_there(
    project: Project, shop: Settings, install: Install, tmp_path: Path
) -> None:
    assert len(where_old(shop)) > 10  # what is looked for is there before
    sealed = rows_of(shop, "raw_drugstore__plan")["planned"].str.starts_with("sealed:").sum()
    assert sealed == 3
    labels = {"customer": {"labels": ["0123456789abcdef"]}, "hour": {"low": 1.0, "high": 2.0}}
    postgres.training_summaries.record_summary(shop, "sold_pieces", 1, TrainingSummary(inputs=labels))

    rotated = rehash(keyed(shop, RING), **WHO)
    after = keyed(shop, RING)
    assert set(rotated.hashed) == set(TABLES)
    assert set(rotated.removed) == {"features_drugstore", "scores_sold_pieces"}
    assert rotated.batches == 6
    assert rotated.before == HashKey.of(OLD).fingerprint != rotated.after == HashKey.of(RING).fingerprint
    with always_had_both(install, tmp_path, project) as always:
        assert_same(after, always)
    assert where_old(after) == []
    assert list(_batches("sold_pieces", DAYS, after)) == []
    summary = postgres.training_summaries.read_summary(after, "sold_pieces", 1)
    assert summary and summary.inputs == {**labels, "customer": {"labels": None}}

    assert postgres.days.read_unprepared_days(after, project.name, DAYS) == DAYS.days
    assert set(read_journal(after, project).records) == set(DAYS.days)
    assert rotated.commands == (
        (
            "airflow dags trigger drugstore_backfill_range --run-id after-rehash "
            '--conf \'{"start": "2026-11-02", "end": "2026-11-04"}\''
        ),
        "airflow dags backfill sold_pieces_train -s 2026-11-04 -e 2026-11-04 -y",
    )
    with pytest.raises(DataError, match=r"version 1 of table .*raw_drugstore__plan is gone"):
        Tables(after).open("raw_drugstore__plan", 1)


def test_a_customer_before_and_after_has_the_same_hash(
    project: Project, shop: Settings, install: Install, tmp_path: Path
) -> None:
    rehash(keyed(shop, RING), **WHO)
    put_day(shop, NEXT)
    night(project, keyed(shop, RING), Interval.of(NEXT))
    rows = rows_of(shop, "clean_drugstore__plan")
    assert rows.group_by("day").len().height == 4
    assert rows["customer"].n_unique() == len(NAMES) - 1  # the first one's rows are in quarantine
    assert set(rows["customer"]) == {HashKey.of(RING).hashed(name) for name in NAMES[1:]}
    for layer in ("raw", "clean"):
        sold = rows_of(shop, f"{layer}_drugstore__sales")
        assert sold["cashier"].n_unique() == 1
    put_day(shop, FIRST, (*NAMES, "Emmy Noether"))  # a correction of a day from before
    land(project, Interval.of(NEXT), keyed(shop, RING))
    raw = rows_of(shop, "raw_drugstore__plan").filter(pl.col("day") == FIRST)
    assert raw["customer"].n_unique() == len(NAMES) + 1


def test_the_journal_and_the_view_of_human_actions_have_who_and_why(project: Project, shop: Settings) -> None:
    rotated = rehash(keyed(shop, RING), **WHO)
    statement = "SELECT action, subject, by, why FROM human_actions ORDER BY decided_at"
    with postgres.connection.engine(shop).connect() as connection:
        actions = [tuple(row) for row in connection.execute(sa.text(statement))]
    subject = f"hash key {rotated.after}"
    assert actions == [
        ("rehash begun", subject, "ana", "the old key leaked"),
        ("rehash finished", subject, "ana", "the old key leaked"),
    ]
    lines = "".join(path.read_text(encoding="utf-8") for path in Path(shop.journal).rglob("*.jsonl"))
    assert lines.count("rehash finished") == 1
    assert OLD not in lines and NEW not in lines


def publish_labels(project: Project, settings: Settings, odd: str = "") -> None:
    """Publish predictions with labels and probabilities, as a multiclass model makes them.

    Args:
        project: the shop.
        settings: the installation.
        odd: the hash of a customer who gets another score.
    """
    rows, version = Tables(settings).scan("clean_drugstore__plan").collect().sort("day", "entity_id"), 3
    scores = rows.select(
        "day",
        "entity_id",
        model_version=pl.lit(version, pl.Int64),
        score=pl.when(customer=odd).then(0.5).otherwise(0.75),
        prediction=pl.lit(1.0),
        label=pl.lit("few"),
        probabilities=pl.lit('{"none": 0.05, "few": 0.75, "many": 2e-1}'),
    )
    publish_scores(
        project,
        load_model("sold_pieces"),
        scores.lazy(),
        rows.select("day", "entity_id", "store_id").lazy(),
        settings,
        days=[ScoredDay(day=day, model_version=version, rows=n) for day, n in rows.group_by("day").len().iter_rows()],
        as_of={day: project.cutoff_at(day) for day in DAYS.days},
    )


def test_predictions_with_labels_are_rotated(
    project: Project, shop: Settings, install: Install, tmp_path: Path
) -> None:
    publish_labels(project, shop)
    assert rehash(keyed(shop, RING), **WHO).batches == 9
    with always_had_both(install, tmp_path, project) as always:
        publish_labels(project, always)
        assert_same(keyed(shop, RING), always)
    assert where_old(keyed(shop, RING)) == []
    assert list(_batches("sold_pieces", DAYS, shop)) == []


def test_batches_that_are_equal_since_a_person_was_erased_become_one(project: Project, shop: Settings) -> None:
    """They differ in that person's rows, or are of a day that was published again. Their moves stay."""
    person = HashKey.of(OLD).hashed(NAMES[1])
    publish_labels(project, shop)
    publish_labels(project, shop, odd=person)
    erase(project, shop, [NAMES[1]], by="ana", why="a ticket")
    publish_labels(project, shop)
    before = in_database(shop)
    assert len(before["batches"]) == 6 + 3 * 3
    ring = keyed(shop, RING)
    assert rehash(ring, **WHO).batches == 6 + 3 * 3
    after = in_database(shop)
    assert len(after["batches"]) == 6 + 3
    assert len(after["publications"]) == len(before["publications"])
    assert list(_batches("sold_pieces", DAYS, ring)) == []
    pointers = postgres.predictions.read_pointers(ring, "sold_pieces", DAYS)
    assert len(pointers) == 3
    versions = []
    for _ in range(4):
        versions.append(postgres.predictions.read_pointers(ring, "sold_pieces", DAYS)["model_version"].to_list())
        postgres.predictions.unpublish(ring, load_model("sold_pieces"), DAYS)
    assert versions == [[3] * 3, [3] * 3, [3] * 3, [2] * 3]
    publish_labels(project, ring)
    assert len(in_database(ring)["batches"]) == 6 + 3


# --- killed, and run again --------------------------------------------------------------------------------------------

KILLS: list[tuple[Any, str, Sequence[int]]] = [
    (postgres.hash_keys, "begin", [1]),
    (operation, "export", [1]),
    (rewritten, "write_deltalake", [1] * 6),  # each run does the next table
    (rewritten, "remove", [1] * 2),
    (DeltaTable, "vacuum", range(1, 7)),
    (DeltaTable, "create_checkpoint", range(1, 7)),
    (rewritten, "forget", range(1, 7)),
    (postgres.hash_keys, "_hash_batch", range(1, 7)),
    (postgres.hash_keys, "enter", [1]),
]
"""What changes something outside of the process, and after which of its calls the process ends."""


@contextmanager
def killed_after(owner: Any, name: str, call: int) -> Iterator[None]:
    """End the process after the n-th call of a function."""
    original, calls = getattr(owner, name), 0

    def struck(*given: Any, **named: Any) -> Any:
        nonlocal calls
        result = original(*given, **named)
        calls += 1
        if calls == call:
            raise Killed
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, struck)
        yield


def test_a_rotation_that_is_killed_after_each_change_is_continued(
    project: Project, shop: Settings, install: Install, tmp_path: Path
) -> None:
    """Each run is killed once more after the next change, and the one after it continues."""
    ring = keyed(shop, RING)
    for owner, name, calls in KILLS:
        for call in calls:
            with killed_after(owner, name, call), pytest.raises(Killed):
                rehash(ring, **WHO)
        for step in ("land", "validate"):
            with pytest.raises(ActionRequiredError, match=r"has not finished.*cli rehash --by NAME --why REASON"):
                run(step, project, DAYS, keyed(shop, OLD))
    rotated = rehash(ring, **WHO)
    assert (rotated.hashed, rotated.batches) == ((), 6)
    with always_had_both(install, tmp_path, project) as always:
        assert_same(ring, always)
    assert where_old(ring) == []
    run("land", project, DAYS, ring)
    with pytest.raises(ActionRequiredError, match="all rows are hashed with these keys already"):
        rehash(ring, **WHO)


def test_a_rotation_that_is_killed_after_its_last_change_is_finished(project: Project, shop: Settings) -> None:
    with killed_after(postgres.hash_keys, "finish", 1), pytest.raises(Killed):
        rehash(keyed(shop, RING), **WHO)
    before = in_database(shop)
    with pytest.raises(ActionRequiredError, match=r"already(?s:.*)airflow dags trigger drugstore_backfill_range"):
        rehash(keyed(shop, RING), **WHO)
    assert in_database(shop) == before
    lines = "".join(path.read_text(encoding="utf-8") for path in Path(shop.journal).rglob("*.jsonl"))
    assert "rehash finished" in lines
    run("land", project, DAYS, keyed(shop, RING))


CODE = """
import sys
from tests.killing import end_this_process, wrap
from include.io import rewritten
wrap(rewritten, "write_deltalake", 3, "after", end_this_process)
from include.cli import main
main()
"""


def test_a_process_that_dies_leaves_no_lock_behind(
    project: Project, shop: Settings, install: Install, tmp_path: Path
) -> None:
    ring = keyed(shop, RING)
    command = [sys.executable, "-c", CODE, "rehash", "--by", "ana", "--why", "the old key leaked"]
    environment = {**os.environ, **ring.variables(), "NIGHTLY_PROJECTS": str(tmp_path)}
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == -9, ended.stderr
    assert OLD not in ended.stderr and NEW not in ended.stderr
    assert len(rehash(ring, **WHO).hashed) == 3
    with always_had_both(install, tmp_path, project) as always:
        assert_same(ring, always)


def test_nobody_is_erased_between_two_runs_of_a_rotation(
    project: Project, shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = keyed(shop, RING)
    with killed_after(rewritten, "write_deltalake", 2), pytest.raises(Killed):
        rehash(ring, **WHO)
    for erasing in (look, partial(erase, by="ana", why="a ticket")):
        for settings in (shop, ring):
            with pytest.raises(ActionRequiredError, match=r"has not finished.*cli rehash --by NAME --why REASON"):
                erasing(project, settings, [NAMES[1]])
    assert not read_journal(shop, project).erased.hashes
    rehash(ring, **WHO)

    looking, newer = ErasureJob.look, keyed(shop, json.dumps([OLD, NEW, f"{NEW}, and another one"]))

    def rotated_meanwhile(job: ErasureJob, found: Erasure) -> None:
        with pytest.raises(LockTimeoutError, match="a step or an erasure is running, or another rehash"):
            rehash(newer, **WHO)
        looking(job, found)

    monkeypatch.setattr(ErasureJob, "look", rotated_meanwhile)
    assert not look(project, ring, [NAMES[1]]).is_clean
    assert erase(project, ring, [NAMES[1]], by="ana", why="a ticket").rows["predictions"] == 6


def plant_old(project: Project, settings: Settings) -> Path:
    """Write the hash of a person by the old key where no rotation changes it; return the file of a model."""
    person, day = HashKey.of(OLD).hashed(NAMES[1]), DAYS.end
    alert = Alert(subject=f"slice {person}", rule="late", day=day, sentence=f"{person} is late")
    postgres.alerts.raise_alerts(settings, project.name, [alert])
    with postgres.connection.engine(settings).begin() as connection:
        of_slice = {"slice": "customer", "slice_value": person, "metric": "mae", "value": 1.0, "rows": 1, "digest": "x"}
        about = {"model": "sold_pieces", "day": day, "model_version": 1, "run_id": "by-hand"}
        connection.execute(sa.insert(postgres.schema.performance_daily).values(**of_slice, **about))
        connection.execute(sa.update(postgres.schema.quality_results).values(observed=f"also {person}"))
    file = Path(settings.artifacts) / "1" / "model" / "categories.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps([person]), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(False, id="after the rotation"),
        pytest.param(True, id="before, and again after it", marks=pytest.mark.drill),
    ],
)
def test_who_is_erased_after_a_rotation_is_erased_by_the_hashes_of_before_too(
    project: Project, shop: Settings, again: bool
) -> None:
    """The rotation leaves texts for people, and files of models, as they are."""
    ring, old = keyed(shop, RING), HashKey.of(OLD).hashed(NAMES[1])
    if again:
        erase(project, shop, [NAMES[1]], by="ana", why="a ticket")
    file = plant_old(project, shop)
    rehash(ring, **WHO)
    looked = look(project, ring, [] if again else [NAMES[1]])
    done = erase(project, ring, [] if again else [NAMES[1]], by="ana", why="a ticket")
    for found in (looked, done):
        counts = [found.rows[name] for name in ("alerts", "messages", "performance_daily")]
        assert counts == [1, 1, 1]
        assert found.rows["quality_results"] > 1
        assert any(str(file).endswith(text.split(": ")[1].rpartition("artifacts/")[2]) for text in found.left)
    texts = stored(ring, ring.database_url.get_secret_value())
    left = {where for where, text in texts if old in text}
    assert left <= {"table journal", str(file)} | {str(path) for path in Path(ring.journal).rglob("*.jsonl")}
    assert str(file) in left


def test_a_new_key_is_written_where_only_its_owner_reads_it(shop: Settings, tmp_path: Path) -> None:
    file = tmp_path / "ring.json"
    fingerprint = write_new_key(shop, file)
    assert file.stat().st_mode & 0o777 == 0o600
    text = json.loads(file.read_text(encoding="utf-8"))["nightly_hash_key"]["password"]
    assert json.loads(text)[0] == OLD
    assert HashKey.of(text).fingerprint == fingerprint
    with pytest.raises(ActionRequiredError, match="exists: name a new file"):
        write_new_key(shop, file)
    assert rehash(keyed(shop, text), **WHO).after == fingerprint


# --- made again -------------------------------------------------------------------------------------------------------

LONG = Interval(start=FIRST, end=FIRST + timedelta(days=7))


@pytest.mark.spark
@pytest.mark.timeout(400)
def test_what_is_made_again_is_as_if_both_keys_had_always_been_there(
    project: Project,
    with_mlflow: Settings,
    install: Install,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgres_url: sa.URL,
    mlflow_made: str,
) -> None:
    """Features by Spark, and a model whose categories are customers; the steps are those of the printed commands."""
    import_from(tmp_path, monkeypatch)
    (project.folder / "features.py").write_text(FEATURES, encoding="utf-8")
    write_model(
        project,
        numeric=["planned", "sold_customer_1d", "sold_customer_3d"],
        train_days=7,
        validation_days=2,
        holdout_days=2,
        min_fit_days=3,
    )

    def prepare(settings: Settings) -> None:
        for step in ("land", "validate", "build_features"):
            run(step, project, LONG, settings)

    def trained(settings: Settings) -> dict[str, float]:
        model, day = load_model("sold_pieces"), Interval.of(LONG.end)
        fitted = [run("fit", model, day, settings, candidate=each.name) for each in model.candidates]
        evaluated: Evaluated = run("evaluate", model, day, settings, fitted=fitted)  # type: ignore[assignment]
        run("score", model, day, settings, versions={LONG.end: evaluated.model_version})
        return evaluated.metrics

    for day in LONG.days:
        put_day(with_mlflow, day)
    prepare(keyed(with_mlflow, OLD))
    trained(keyed(with_mlflow, OLD))
    ring = keyed(with_mlflow, RING)
    records = read_journal(ring, project).records
    assert set(rehash(ring, **WHO).removed) == {"features_drugstore", "scores_sold_pieces"}
    with pytest.raises(DataError, match="has no features of 2026-11-09"):
        run("score", load_model("sold_pieces"), Interval.of(LONG.end), ring, versions={LONG.end: 1})
    prepare(ring)
    metrics = trained(ring)
    assert read_journal(ring, project).records == records  # nothing is prepared otherwise
    with install(tmp_path / "always") as made, cloned(postgres_url, mlflow_made) as mlflow:
        places = {"landing": ring.landing, "mlflow_tracking_uri": mlflow}
        always = keyed(made, RING).model_copy(update=places)
        prepare(always)
        assert trained(always) == metrics
        for table in ("features_drugstore", "scores_sold_pieces"):
            mine, theirs = (rows_of(each, table, "day", "entity_id", "as_of") for each in (ring, always))
            same = [name for name in mine.columns if name not in ("features_version", "model_version")]
            assert mine.height and mine.filter(day=LONG.end).select(same).equals(
                theirs.filter(day=LONG.end).select(same)
            )
    in_tables = [path for path in where_old(ring) if "/artifacts/" not in path]
    assert in_tables == []  # the model from before has its categories; the page about security says so


# --- refused ----------------------------------------------------------------------------------------------------------


def test_a_step_and_a_rotation_never_run_at_once(project: Project, shop: Settings) -> None:
    running = pytest.raises(LockTimeoutError, match="a step or an erasure is running, or another rehash")
    step = partial(postgres.running.running, shop, project.name)
    with step(), step(), running:
        rehash(keyed(shop, RING), **WHO)
    with postgres.hash_keys.rotating(shop):
        with pytest.raises(LockTimeoutError, match="the hash key is being rotated"):
            run("land", project, DAYS, shop)
        for erasing in (look, partial(erase, by="ana", why="a ticket")):
            with pytest.raises(LockTimeoutError, match="the hash key is being rotated"):
                erasing(project, shop, [NAMES[1]])
        with pytest.raises(LockTimeoutError, match="or another rehash"):
            rehash(keyed(shop, RING), **WHO)
    assert postgres.hash_keys.read_rotations(shop) == {}
    run("land", project, DAYS, shop)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (OLD, "all rows are hashed with these keys already"),
        (NEW, "does not begin with the keys that rows are hashed with"),
        (json.dumps([NEW, OLD]), "does not begin with the keys that rows are hashed with"),
        (json.dumps([OLD, OLD]), "key 2 of 2, comes twice"),
        (json.dumps([OLD, "short"]), "key 2 of 2, has 5 bytes"),
        (f'["{OLD}", "{NEW}"', "no JSON list of keys"),
    ],
)
def test_keys_that_continue_nothing_are_refused(shop: Settings, key: str, said: str) -> None:
    before = in_database(shop), [rows_of(shop, table).rows() for table in TABLES]
    with pytest.raises(ActionRequiredError, match=said) as refused:
        rehash(keyed(shop, key), **WHO)
    assert OLD not in str(refused.value) and NEW not in str(refused.value)
    assert before == (in_database(shop), [rows_of(shop, table).rows() for table in TABLES])
    assert postgres.hash_keys.read_rotations(shop) == {}


def test_with_a_new_key_in_the_list_nothing_lands_before_the_rotation(project: Project, shop: Settings) -> None:
    with pytest.raises(ConfigError, match=r"are not hashed with them yet.*cli rehash --by NAME --why REASON"):
        land(project, DAYS, keyed(shop, RING))


def test_another_new_key_does_not_continue_a_rotation(shop: Settings) -> None:
    with killed_after(postgres.hash_keys, "begin", 1), pytest.raises(Killed):
        rehash(keyed(shop, RING), **WHO)
    other = json.dumps([OLD, f"{NEW}, and another one"])
    with pytest.raises(ConfigError, match="was begun and has not finished; finish it with those keys first"):
        rehash(keyed(shop, other), **WHO)


def test_a_writer_needs_the_owner(project: Project, shop: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks log in as a writer, who cannot change published predictions."""
    url = sa.make_url(shop.database_url.get_secret_value())
    owner = postgres.connection.engine(shop)
    with owner.begin() as connection:
        connection.execute(sa.text("CREATE ROLE another_task LOGIN IN ROLE writer"))
    try:
        login = url.set(username="another_task").render_as_string(hide_password=False)
        ring = keyed(shop, RING).model_copy(update={"database_url": SecretStr(login)})
        with pytest.raises(ActionRequiredError, match="only the owner of the shared database can change them"):
            rehash(ring, **WHO)
        assert postgres.hash_keys.read_rotations(ring) == {}
        monkeypatch.setenv("NIGHTLY_DATABASE_OWNER_URL", url.render_as_string(hide_password=False))
        assert rehash(ring, **WHO).batches == 6
        run("land", project, DAYS, ring)
        with owner.connect() as connection, pytest.raises(sa.exc.InternalError, match="predictions is never changed"):
            connection.execute(sa.text("DELETE FROM predictions"))
    finally:
        with owner.begin() as connection:
            connection.execute(sa.text("DROP ROLE another_task"))


def test_raw_tables_of_an_older_backup_are_refused(project: Project, shop: Settings, tmp_path: Path) -> None:
    raw = Path(shop.tables) / "raw_drugstore__sales"
    shutil.copytree(raw, tmp_path / "backup")
    rehash(keyed(shop, RING), **WHO)
    shutil.rmtree(raw)
    shutil.copytree(tmp_path / "backup", raw)
    for step in (land, revalidate):
        with pytest.raises(ActionRequiredError, match="raw_drugstore__sales is from before the rotation"):
            step(project, DAYS, keyed(shop, RING))


def test_raw_tables_journal_and_keys_make_the_rest_again(
    project: Project, shop: Settings, install: Install, tmp_path: Path
) -> None:
    rehash(keyed(shop, RING), **WHO)
    for feed in ("plan", "sales"):
        shutil.copytree(
            Path(shop.tables) / f"raw_drugstore__{feed}", tmp_path / "new" / "tables" / f"raw_drugstore__{feed}"
        )
    with install(tmp_path / "new") as empty:
        new = empty.model_copy(update={"landing": shop.landing, "journal": shop.journal})
        restore(new, project.name)
        with pytest.raises(ConfigError, match="is another one than before"):
            land(project, DAYS, keyed(new, OLD))
        assert land(project, DAYS, keyed(new, RING)).new == 0
        validate(project, DAYS, keyed(new, RING))
        for table in TABLES:
            mine, theirs = (rows_of(each, table).drop("run_id", strict=False) for each in (new, shop))
            assert mine.height and mine.equals(theirs), table


def test_a_table_that_nobody_declares_is_not_left_behind(shop: Settings) -> None:
    Tables(shop).create("raw_drugstore__returns", {"day": pl.Date(), "customer": pl.String()})
    with pytest.raises(ActionRequiredError, match="it is not known which of their columns are hashed: raw_drugstore__"):
        rehash(keyed(shop, RING), **WHO)


@pytest.mark.drill
def test_twice_rotated_is_as_if_three_keys_had_always_been_there(
    project: Project, shop: Settings, install: Install, tmp_path: Path
) -> None:
    third = json.dumps([OLD, NEW, "a third key, since the second one leaked too"])
    first: Rehashed = rehash(keyed(shop, RING), **WHO)
    second = rehash(keyed(shop, third), **WHO)
    assert second.before == first.after
    with install(tmp_path / "always") as made:
        settings = keyed(made, third).model_copy(update={"landing": str(tmp_path / "landing")})
        night(project, settings, DAYS)
        assert_same(keyed(shop, third), settings)
