"""Each failure that has a page: planted for real, and mended by the commands of its page as they are written.

One stack; each drill begins with the same state of all places, so that any of them can be run by itself.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import psutil
import pytest
from deltalake import DeltaTable

from include.operations.simulate import deliver, make_frame, usual_available_at
from tests.drills.place import (
    BEFORE,
    MODEL,
    MONITOR,
    OTHER_SCORE,
    PREPARE,
    PROJECT,
    REPLAY,
    REPROCESS,
    RUN_DATE,
    SCORE,
    TRAIN,
    Drill,
    await_that,
)
from tests.landing import spoil, text_of
from tools import processes

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1200)]

MODEL_YAML = f"include/projects/{PROJECT.name}/models/{MODEL}/model.yaml"
RULES = f"include/projects/{PROJECT.name}/expectations.yaml"
FEATURES = f"include/projects/{PROJECT.name}/features.py"
RUN = f"manual__{PROJECT.cutoff_at(RUN_DATE).isoformat()}"


@pytest.fixture(scope="module")
def drill() -> Iterator[Drill]:
    # not in pytest's folder, which each session closes to the user that runs PostgreSQL for root
    with tempfile.TemporaryDirectory(prefix="nightly-drills-") as folder:
        drill = Drill(Path(folder))
        try:
            drill.start()
            yield drill
        finally:
            drill.stop()
            assert processes.find_processes(drill.stack.home) == []


# --- prepare ----------------------------------------------------------------------------------------------------------


def test_a_file_does_not_come(drill: Drill) -> None:
    drill.begin()
    for dag_id in (PREPARE, SCORE, OTHER_SCORE):
        drill.trigger(dag_id)
    for dag_id in (PREPARE, SCORE, OTHER_SCORE):
        assert drill.ended(dag_id, RUN) == "failed"
    drill.alerted("wait_for_files", "AirflowSensorTimeout")
    drill.checks("wait_for_files")
    drill.mend("wait_for_files")
    drill.cured("wait_for_files")

    drill.alerted("wait_for_features", "AirflowSensorTimeout")
    drill.checks("wait_for_features")
    drill.mend("wait_for_features")
    drill.cured("wait_for_features")

    drill.alerted("run-timed-out", f"{OTHER_SCORE} failed for {RUN_DATE}", "timed_out")
    drill.checks("run-timed-out")
    assert "✓ 1 day succeeded" in drill.mend("run-timed-out")


def test_a_file_cannot_be_taken(drill: Drill) -> None:
    drill.begin()
    drill.supply()
    path = drill.landed("weather")
    whole, beside = path.read_bytes(), path.with_name(f"{path.name}.json").read_bytes()
    text = text_of(path)
    header, first, *rest = text.splitlines(keepends=True)
    spoil(path, whole[: len(whole) // 2])
    drill.prepared_day(PREPARE)
    drill.alerted("land", "DeliveryError", "the upload was cut off")
    drill.checks("land", "the gzip stream ends or breaks here")
    spoils = {
        "fields, the header has": lambda: spoil(path, header + first.replace(",", ";", 1) + "".join(rest)),
        "the header changed": lambda: spoil(path, text.replace("visibility_miles", "visibility", 1)),
        "wrong checksum (sha256)": lambda: spoil(path, whole, sha256="0" * 64),
        "wrong size in bytes": lambda: spoil(path, whole, size=1),
        "rows, the sidecar promises": lambda: spoil(path, text, rows=1),
        "not a sidecar": lambda: path.with_name(f"{path.name}.json").write_text("{}"),
        "rows are of another date": lambda: spoil(
            path, text.replace(f"{RUN_DATE}T1", f"{RUN_DATE + timedelta(days=9)}T1")
        ),
    }
    for said, plant in spoils.items():
        path.write_bytes(whole)
        path.with_name(f"{path.name}.json").write_bytes(beside)
        plant()
        assert drill.clear(PREPARE, "land") == "failed", said
        drill.checks("land", said)
    drill.mend("land")
    drill.cured("land")

    spoil(path, text.replace("EWR", "JFK", 1))
    assert drill.clear(PREPARE, "land") == "failed"
    drill.checks("land", "its content changed after it was landed")
    path.write_bytes(whole)
    path.with_name(f"{path.name}.json").write_bytes(beside)
    assert drill.clear(PREPARE, "land") == "success"


def test_a_sample_file_was_changed(drill: Drill) -> None:
    drill.begin()
    drill.supply()
    path = drill.landed("weather")
    spoil(path, text_of(path).replace("EWR", "JFK", 1))
    drill.prepared_day(REPLAY)
    drill.alerted("simulate")
    drill.checks("simulate")
    drill.mend("simulate")
    drill.cured("simulate")


def test_a_file_is_refused(drill: Drill) -> None:
    drill.begin()
    drill.supply()
    drill.landed("schedule").unlink()
    rows = make_frame(PROJECT, "schedule", RUN_DATE).with_row_index("n")
    wrong = pl.when(pl.col("n") < 100).then(-1.0).otherwise("distance_miles").alias("distance_miles")
    frame = rows.with_columns(wrong).drop("n")
    at = usual_available_at(PROJECT, "schedule", RUN_DATE)
    deliver(PROJECT, "schedule", RUN_DATE, frame, available_at=at, settings=drill.settings, name="early")
    drill.prepared_day(PREPARE)
    drill.alerted("validate", "DataError", "has no accepted delivery of schedule")
    drill.checks("validate", "share_of_quarantined_rows_to_be_at_most failed", "has no accepted delivery of …")
    drill.mend("validate", 0)
    drill.cured("validate")


def test_a_rule_is_wrong(drill: Drill) -> None:
    drill.begin()
    drill.supply()
    drill.change(RULES, "min_value: 10, max_value: 6000", "min_value: 10, max_value: 600")
    drill.prepared_day(PREPARE)
    drill.alerted("validate", "DataError")
    drill.checks("validate", "share_of_quarantined_rows_to_be_at_most failed")
    drill.undo()
    drill.mend("validate", 1)
    drill.cured("validate")


def test_rows_that_a_wrong_rule_held_back(drill: Drill) -> None:
    drill.begin()
    drill.supply()
    drill.change(RULES, "min_value: 10, max_value: 6000", "min_value: 10, max_value: 2580")
    drill.prepared_day(PREPARE, ends="success")
    held = "SELECT sum(quarantined_rows) FROM quarantine_counts"
    assert int(drill.sql(held, "nightly")) > 0
    drill.undo()
    said = drill.mend("validate", 2)
    assert "0 stay in quarantine" in said
    assert f"run dates {RUN_DATE} are out of date" in said
    again = drill.type(f"python -m include.cli outdated --project flights --start {RUN_DATE}", code=1)
    assert "has other rows now" in again


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("F.hour(departs) +", 'F.hour("no_such_column") +', "UNRESOLVED_COLUMN"),
        (
            "return flights.select(\n",
            "return flights.limit(9).select(\n",
            "features.py: … rows were made of … entities",
        ),
    ],
    ids=["it asks for a column that is not there", "it loses rows"],
)
def test_features_were_broken(drill: Drill, old: str, new: str, said: str) -> None:
    drill.begin()
    drill.supply()
    drill.change(FEATURES, old, new)
    drill.prepared_day(PREPARE)
    drill.alerted("build_features")
    drill.checks("build_features", said)
    drill.undo()
    drill.mend("build_features")
    drill.cured("build_features")


def test_a_process_is_killed_at_each_try(drill: Drill) -> None:
    drill.begin()
    drill.supply()
    run_id = drill.trigger(PREPARE)

    def kill() -> bool:
        """The process that does the task: a child of the executor's worker, whose title then names the task."""
        state = drill.tasks(PREPARE, run_id).get("build_features")
        for process in processes.find_processes(drill.stack.home) if state == "running" else []:
            with suppress(psutil.Error):
                worker = process.parent()
                if worker and " ".join(worker.cmdline()).startswith("airflow worker -- LocalExecutor: 0"):
                    process.kill()
        return state == "failed"

    await_that(kill, "the last try")
    assert drill.ended(PREPARE, run_id) == "failed"
    drill.alerted("killed", "its process ended without reporting an error")
    drill.checks("killed")
    drill.mend("killed")
    drill.cured("killed")


def test_a_day_of_a_range_is_not_done(drill: Drill) -> None:
    drill.begin()
    after = RUN_DATE + timedelta(days=1)
    drill.supply()
    drill.supply(after)
    folder = drill.stack.home / "landing" / PROJECT.name / "weather" / str(after)
    shutil.rmtree(folder)
    drill.run(REPROCESS, "redo-february", start=str(RUN_DATE), end=str(after))
    assert drill.ended(REPROCESS, "redo-february") == "failed"
    drill.alerted("report", "these days were not done")
    drill.checks("report")
    drill.supply(after)
    drill.mend("report")
    drill.cured("report")


# --- train ------------------------------------------------------------------------------------------------------------


def test_a_candidate_is_declared_wrong(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.change(MODEL_YAML, "kind: linear, C: 0.01", "kind: linear, Cc: 0.01")
    drill.prepared_day(TRAIN)
    drill.alerted("fit", "ConfigError")
    drill.checks("fit", "model.yaml: candidates, …")
    drill.undo()
    drill.mend("fit")
    drill.cured("fit")


def test_the_files_of_a_fit_are_lost(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.prepared_day(TRAIN, ends="success")
    log = drill.type(f"airflow tasks log {TRAIN} {RUN} fit --map-index 0")
    drill.clear(TRAIN, "fit")
    log = drill.type(f"airflow tasks log {TRAIN} {RUN} fit --map-index 0")
    [run_id] = {word.strip(",.") for word in log.split("MLflow run ")[1].split()[:1]}
    for folder in (drill.stack.home / "artifacts").rglob(f"*{_model_of(drill, run_id)}*"):
        if folder.is_dir():
            shutil.rmtree(folder)
    assert drill.clear(TRAIN, "evaluate") == "failed"
    drill.alerted("evaluate")
    drill.checks("evaluate", "No such artifact")
    drill.mend("evaluate", given=[("0123456789abcdef0123456789abcdef", run_id)])
    drill.cured("evaluate")


def test_the_files_of_the_champion_are_lost(drill: Drill) -> None:
    drill.begin(prepared=True)
    folder = _files_of_champion(drill)
    away = drill.stack.home / "backup-of-artifacts"
    folder.rename(away)
    drill.prepared_day(TRAIN)
    drill.alerted("gate")
    drill.checks("gate", "No such artifact")
    away.rename(folder)
    drill.mend("gate")
    drill.cured("gate")


def test_the_rules_change_between_gate_and_promotion(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.sql(
        "SET session_replication_role = replica; DELETE FROM promotions;",  # as before the first champion
        "nightly",
    )
    drill.prepared_day(TRAIN, ends="success")
    assert drill.tasks(TRAIN, RUN)["promote"] == "success", "the gate rejected it"
    drill.change(MODEL_YAML, "dummy_baseline, at_least: 0.005", "dummy_baseline, at_least: 0.004")
    assert drill.clear(TRAIN, "promote") == "failed"
    drill.alerted("promote", "ActionRequiredError")
    drill.checks("promote", "was checked by other rules than those of model.yaml and the gate's code now")
    drill.mend("promote")
    drill.cured("promote")


# --- score ------------------------------------------------------------------------------------------------------------


def test_a_day_of_features_is_lost(drill: Drill) -> None:
    drill.begin(prepared=True)
    DeltaTable(str(drill.stack.home / "tables" / f"features_{PROJECT.name}")).delete(f"day = '{RUN_DATE}'")
    drill.prepared_day(SCORE)
    drill.alerted("score", "DataError")
    drill.checks("score", "has no features of")
    drill.mend("score", 0)
    drill.cured("score")


def test_the_champion_that_scores_is_lost(drill: Drill) -> None:
    drill.begin(prepared=True)
    promote = (
        f"python -m include.cli promote --model {MODEL} --version 2 --from-day {RUN_DATE} --by Ben --why drill --force"
    )
    drill.type(promote)
    shutil.rmtree(_files_of_champion(drill))
    drill.prepared_day(SCORE)
    drill.alerted("score")
    drill.checks("score", "No such artifact")
    drill.mend("score", 1)
    drill.cured("score")


def test_scores_and_night_do_not_agree(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.prepared_day(SCORE, ends="success")
    table = DeltaTable(str(drill.stack.home / "tables" / f"scores_{MODEL}"))
    table.delete(f"day = '{RUN_DATE}' AND score > 0.5")
    assert drill.clear(SCORE, "publish") == "failed"
    drill.alerted("publish", "nothing was published")
    drill.checks("publish", "scores, expected")
    drill.mend("publish")
    drill.cured("publish")


def test_the_database_lets_nobody_in(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.prepared_day(SCORE, ends="success")
    drill.type(f"python -m include.cli unpublish --model {MODEL} --day {RUN_DATE}")
    drill.sql("ALTER ROLE nightly NOLOGIN;")
    try:
        assert drill.clear(SCORE, "publish") == "failed"
        drill.alerted("publish", "OperationalError; its text is in the log")
        drill.checks("no-answer", "is not permitted to log in")
        drill.mend("no-answer")
        drill.cured("no-answer")
    finally:
        drill.sql("ALTER ROLE nightly LOGIN;")


# --- monitor ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "table"), [("outcomes", "outcomes"), ("monitor", "performance_daily")])
def test_a_table_may_not_be_written(drill: Drill, page: str, table: str) -> None:
    drill.begin(prepared=True)
    drill.sql(f"REVOKE INSERT ON {table} FROM nightly;", "nightly")
    drill.prepared_day(MONITOR)
    drill.alerted(page)
    drill.checks(page, "permission denied")
    drill.mend("no-answer", 0)
    drill.mend(page)
    drill.cured(page)


def test_a_model_is_too_poor_and_nobody_can_be_told(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.type(
        f"python -m include.cli promote --model {MODEL} --version 2 --from-day {RUN_DATE} --by Ben --why drill --force"
    )
    drill.change(
        MODEL_YAML,
        "{metric: roc_auc, at_least: 0.55, days: 3, of: 7} ",
        "{metric: roc_auc, at_least: 0.99, days: 1, of: 1} ",
    )
    drill.webhook.status = 500
    drill.prepared_day(MONITOR)
    drill.checks("alert", "answered 5…")
    drill.webhook.status = 200
    drill.mend("alert", WEBHOOK_URL=f"{drill.webhook.url}-another")
    drill.cured("alert")
    drill.alerted("alert-rule-broken", "roc_auc is under 0.99 on 1 of the newest 1 days measured", str(BEFORE))
    drill.undo()
    drill.checks("alert-rule-broken")
    drill.mend("alert-rule-broken")
    drill.cured("alert-rule-broken")


def test_scores_are_late(drill: Drill) -> None:
    """Late scores are told of in live nights only, so that this one is of today."""
    drill.begin()
    today = datetime.now(PROJECT.zone).date()
    given = [(str(RUN_DATE), str(today))]
    drill.change(MODEL_YAML, 'publish_by: "06:00"', 'publish_by: "23:59"')
    days = f"--project {PROJECT.name} --start {today} --end {today + timedelta(days=1)}"
    for step in ("simulate", "prepare"):
        drill.type(f"python -m include.cli {step} {days}")
    drill.run(MONITOR, "late", day=str(today + timedelta(days=1)))
    assert drill.ended(MONITOR, "late") == "success"
    drill.alerted("alert-scores-late", f"late_arrival: no scores of {today} are published, which were due by")
    drill.undo()
    drill.mend("alert-scores-late", given=given)
    drill.cured("alert-scores-late", given=given)


# --- to do nights again -----------------------------------------------------------------------------------------------


def test_a_few_nights_are_replayed(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.prepared_day(SCORE, ends="success")
    seen = _published(drill)
    simulate, replace, back = drill.written("backfill-a-day", "A few nights")
    assert drill.type(simulate).count("✓ 2 days succeeded") == 4
    assert _published(drill) == seen
    drill.type(replace)
    assert _published(drill) == seen, "the same scores are no other publication"
    drill.type(back)
    assert not any(day.startswith(str(RUN_DATE)) for day in _published(drill))
    drill.type(f"python -m include.cli publish --model {MODEL} --start {RUN_DATE}")
    drill.cured("backfill-a-day")


def test_a_long_range_is_replayed(drill: Drill) -> None:
    drill.begin(prepared=True)
    [redo] = drill.written("backfill-a-day", "A long range")
    drill.type(redo)
    assert drill.ended(REPROCESS, "redo-2013") == "success"
    drill.cured("backfill-a-day")


def test_a_correction_came_later(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.prepared_day(SCORE, ends="success")
    rows = make_frame(PROJECT, "actuals", BEFORE - timedelta(days=1)).with_columns(pl.col("arr_delay_minutes") + 30)
    at = PROJECT.cutoff_at(RUN_DATE + timedelta(days=3))
    day = BEFORE - timedelta(days=1)
    deliver(PROJECT, "actuals", day, rows, available_at=at, settings=drill.settings, name="corrected")
    [outdated] = drill.written("backfill-a-day", "What was corrected since")
    said = drill.type(outdated, code=1)
    for n, command in enumerate(line for line in said.splitlines() if line.startswith("airflow dags trigger")):
        drill.type(f"{command} --run-id stale-{n}")
        assert drill.ended(REPROCESS, f"stale-{n}") == "success"
    drill.cured("backfill-a-day")


def test_everything_is_lost_but_landing(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.prepared_day(SCORE, ends="success")
    seen = _published(drill)
    decide = f"--model {MODEL} --version 1 --from-day {RUN_DATE + timedelta(days=1)} --by Ada --why storms"
    drill.type(f"python -m include.cli promote {decide} --force")
    promotions, first, then = drill.written("backfill-a-day", "From landing alone")
    drill.type(promotions)
    drill.wipe()
    drill.type(first)
    assert drill.ended(REPROCESS, "restore") == "success"
    drill.type(then)
    drill.cured("backfill-a-day")
    assert _published(drill) == seen


def _published(drill: Drill) -> set[str]:
    """Each published day with its batch."""
    pointers = f"SELECT day || ' ' || batch_id FROM published WHERE model = '{MODEL}'"
    return set(drill.sql(pointers, "nightly").splitlines())


def _files_of_champion(drill: Drill) -> Path:
    """The folder of the newest champion's model."""
    version = drill.sql("SELECT model_version FROM promotions ORDER BY from_day DESC, id DESC LIMIT 1", "nightly")
    run_id = drill.sql(f"SELECT run_id FROM model_versions WHERE name = '{MODEL}' AND version = {version}", "mlflow")
    [folder] = (p for p in (drill.stack.home / "artifacts").rglob(_model_of(drill, run_id)) if p.is_dir())
    return folder


def _model_of(drill: Drill, run_id: str) -> str:
    """The id of the logged model of an MLflow run."""
    return drill.sql(f"SELECT model_id FROM logged_models WHERE source_run_id = '{run_id}'", "mlflow")
