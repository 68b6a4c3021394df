"""Cause each failure that has a page, and fix it with the commands of its page as they are written.

There is one stack. Each drill starts from the same state of all places, so that each of them can run by itself.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import psutil
import pytest
from deltalake import DeltaTable

from include.operations.simulate import deliver, make_frame, usual_available_at
from tests.drills.place import (
    BACKFILL_RANGE,
    BEFORE,
    MODEL,
    MONITOR,
    OTHER_SCORE,
    PREPARE,
    PROJECT,
    ROLLBACK,
    RUN_DATE,
    SCORE,
    SIMULATE,
    TRAIN,
    Drill,
    await_that,
)
from tests.landing import spoil, text_of
from tools import processes

pytestmark = [pytest.mark.stack, pytest.mark.timeout(3600)]

MODEL_YAML = f"include/projects/{PROJECT.name}/models/{MODEL}/model.yaml"
RULES = f"include/projects/{PROJECT.name}/expectations.yaml"
FEATURES = f"include/projects/{PROJECT.name}/features.py"
RUN = f"manual__{PROJECT.cutoff_at(RUN_DATE).isoformat()}"


@pytest.fixture(scope="module")
def drill() -> Iterator[Drill]:
    # not in pytest's folder: the user that runs PostgreSQL for root cannot enter it
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
    drill.fix("wait_for_files")
    drill.fixed("wait_for_files")

    drill.checks("wait_for_features")  # it has no message of its own: the day that is not prepared is one incident
    drill.fix("wait_for_features")
    drill.fixed("wait_for_features")

    drill.alerted("run-timed-out", f"{OTHER_SCORE} failed for {RUN_DATE}", "timed_out")
    drill.checks("run-timed-out")
    assert "✓ 1 day succeeded" in drill.fix("run-timed-out")


def test_a_file_cannot_be_landed(drill: Drill) -> None:
    drill.begin()
    drill.supply()
    path = drill.landed("weather")
    whole, beside = path.read_bytes(), path.with_name(f"{path.name}.json").read_bytes()
    text = text_of(path)
    header, first, *rest = text.splitlines(keepends=True)
    spoil(path, whole[: len(whole) // 2])
    drill.run_date(PREPARE)
    drill.alerted("land", "DeliveryError", "the upload was cut off")
    drill.checks("land", "the gzip stream ends or breaks here")
    spoils = {
        "fields, the header has": lambda: spoil(path, header + first.replace(",", ";", 1) + "".join(rest)),
        "the header changed": lambda: spoil(path, text.replace("visibility_miles", "visibility", 1)),
        "wrong checksum (sha256)": lambda: spoil(path, whole, sha256="0" * 64),
        "wrong size in bytes": lambda: spoil(path, whole, size=1),
        "wrong number of rows": lambda: spoil(path, text, rows=1),
        "not a sidecar": lambda: path.with_name(f"{path.name}.json").write_text("{}"),
        "rows have another date": lambda: spoil(
            path, text.replace(f"{RUN_DATE}T1", f"{RUN_DATE + timedelta(days=9)}T1")
        ),
    }
    for said, plant in spoils.items():
        path.write_bytes(whole)
        path.with_name(f"{path.name}.json").write_bytes(beside)
        plant()
        assert drill.clear(PREPARE, "land") == "failed", said
        drill.checks("land", said)
    drill.fix("land")
    drill.fixed("land")

    spoil(path, text.replace("EWR", "JFK", 1))
    assert drill.clear(PREPARE, "land") == "failed"
    drill.checks("land", "its content changed after it was landed")
    path.write_bytes(whole)
    path.with_name(f"{path.name}.json").write_bytes(beside)
    assert drill.clear(PREPARE, "land") == "success"


def test_a_file_of_the_example_data_was_changed(drill: Drill) -> None:
    drill.begin()
    drill.supply()
    path = drill.landed("weather")
    spoil(path, text_of(path).replace("EWR", "JFK", 1))
    drill.run_date(SIMULATE)
    drill.alerted("simulate")
    drill.checks("simulate")
    drill.fix("simulate")
    drill.fixed("simulate")


def test_a_file_is_refused(drill: Drill) -> None:
    drill.begin()
    drill.supply()
    drill.landed("schedule").unlink()
    rows = make_frame(PROJECT, "schedule", RUN_DATE).with_row_index("n")
    wrong = pl.when(pl.col("n") < 100).then(-1.0).otherwise("distance_miles").alias("distance_miles")
    frame = rows.with_columns(wrong).drop("n")
    at = usual_available_at(PROJECT, "schedule", RUN_DATE)
    deliver(PROJECT, "schedule", RUN_DATE, frame, available_at=at, settings=drill.settings, name="early")
    drill.run_date(PREPARE)
    drill.alerted("validate", "DataError", "has no accepted delivery of schedule")
    drill.checks("validate", "share_of_quarantined_rows_to_be_at_most failed", "has no accepted delivery of …")
    drill.fix("validate", 0)
    drill.fixed("validate")


def test_a_rule_is_wrong(drill: Drill) -> None:
    drill.begin()
    drill.supply()
    drill.change(RULES, "min_value: 10, max_value: 6000", "min_value: 10, max_value: 600")
    drill.run_date(PREPARE)
    drill.alerted("validate", "DataError")
    drill.checks("validate", "share_of_quarantined_rows_to_be_at_most failed")
    drill.undo()
    drill.fix("validate", 1)
    drill.fixed("validate")


def test_a_wrong_rule_quarantined_rows(drill: Drill) -> None:
    drill.begin()
    drill.supply()
    drill.change(RULES, "min_value: 10, max_value: 6000", "min_value: 10, max_value: 2580")
    drill.run_date(PREPARE, ends="success")
    held = "SELECT sum(quarantined_rows) FROM quarantine_counts"
    assert int(drill.sql(held, "nightly")) > 0
    drill.undo()
    said = drill.fix("validate", 2)
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
    ids=["it uses a column that does not exist", "it loses rows"],
)
def test_features_were_broken(drill: Drill, old: str, new: str, said: str) -> None:
    drill.begin()
    drill.supply()
    drill.change(FEATURES, old, new)
    drill.run_date(PREPARE)
    drill.alerted("build_features")
    drill.checks("build_features", said)
    drill.undo()
    drill.fix("build_features")
    drill.fixed("build_features")


def test_the_process_of_a_task_is_killed_in_each_try(drill: Drill) -> None:
    drill.begin()
    drill.supply()
    run_id = drill.trigger(PREPARE)

    def kill() -> bool:
        """Kill the process of the task: a child of the executor's worker, whose title names the task."""
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
    drill.fix("killed")
    drill.fixed("killed")


def test_a_day_of_a_range_is_not_done(drill: Drill) -> None:
    drill.begin()
    after = RUN_DATE + timedelta(days=1)
    drill.supply()
    drill.supply(after)
    folder = drill.stack.home / "landing" / PROJECT.name / "weather" / str(after)
    shutil.rmtree(folder)
    drill.run(BACKFILL_RANGE, "redo-february", start=str(RUN_DATE), end=str(after))
    assert drill.ended(BACKFILL_RANGE, "redo-february") == "failed"
    drill.alerted("report", "these days were not done")
    drill.checks("report")
    drill.supply(after)
    drill.fix("report")
    drill.fixed("report")


# --- train ------------------------------------------------------------------------------------------------------------


def test_a_candidate_is_declared_wrong(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.change(MODEL_YAML, "kind: linear, C: 0.01", "kind: linear, Cc: 0.01")
    drill.run_date(TRAIN)
    drill.alerted("fit", "ConfigError")
    drill.checks("fit", "model.yaml: candidates, …")
    drill.undo()
    drill.fix("fit")
    drill.fixed("fit")


def test_the_files_of_a_fit_are_lost(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.run_date(TRAIN, ends="success")
    log = drill.type(f"airflow tasks log {TRAIN} {RUN} fit --map-index 0")
    drill.clear(TRAIN, "fit")
    log = drill.type(f"airflow tasks log {TRAIN} {RUN} fit --map-index 0")
    [run_id] = {word.strip(",.") for word in log.split("MLflow run ")[1].split()[:1]}
    for folder in (drill.stack.home / "artifacts").rglob(f"*{_model_of(drill, run_id)}*"):
        if folder.is_dir():
            shutil.rmtree(folder)
    assert drill.clear(TRAIN, "evaluate") == "failed"
    drill.alerted("evaluate")
    drill.checks("evaluate", "gone from the artifact store")
    drill.fix("evaluate", given=[("0123456789abcdef0123456789abcdef", run_id)])
    drill.fixed("evaluate")


def test_the_files_of_the_champion_are_lost(drill: Drill) -> None:
    drill.begin(prepared=True)
    folder = _files_of_champion(drill)
    away = drill.stack.home / "backup-of-artifacts"
    folder.rename(away)
    drill.run_date(TRAIN)
    drill.alerted("gate")
    drill.checks("gate", "gone from the artifact store")
    away.rename(folder)
    drill.fix("gate")
    drill.fixed("gate")


def test_the_rules_change_between_gate_and_promotion(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.sql(
        "SET session_replication_role = replica; DELETE FROM promotions;",  # as if there was no champion before
        "nightly",
    )
    drill.run_date(TRAIN, ends="success")
    assert drill.tasks(TRAIN, RUN)["promote"] == "success", "the gate rejected it"
    drill.change(MODEL_YAML, "dummy_baseline, at_least: 0.005", "dummy_baseline, at_least: 0.004")
    assert drill.clear(TRAIN, "promote") == "failed"
    drill.alerted("promote", "ActionRequiredError")
    drill.checks("promote", "was checked by other rules than those of model.yaml and the gate's code now")
    drill.fix("promote")
    drill.fixed("promote")


# --- score ------------------------------------------------------------------------------------------------------------


def test_a_day_of_features_is_lost(drill: Drill) -> None:
    drill.begin(prepared=True)
    shutil.rmtree(drill.stack.home / "tables" / f"features_{PROJECT.name}" / f"day={RUN_DATE}")
    drill.run_date(SCORE)
    drill.alerted("score", "DataError")
    drill.checks("score", "build the features again")
    drill.fix("score", 0)
    drill.fixed("score")


def test_the_files_of_the_scoring_champion_are_lost(drill: Drill) -> None:
    drill.begin(prepared=True)
    promote = (
        f"python -m include.cli promote --model {MODEL} --version 2 --from-day {RUN_DATE} --by Ben --why drill --force"
    )
    drill.type(promote)
    shutil.rmtree(_files_of_champion(drill))
    drill.run_date(SCORE)
    drill.alerted("score")
    drill.checks("score", "gone from the artifact store")
    drill.fix("score", 1)
    drill.fixed("score")


def test_scores_and_prepared_day_do_not_agree(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.run_date(SCORE, ends="success")
    table = DeltaTable(str(drill.stack.home / "tables" / f"scores_{MODEL}"))
    table.delete(f"day = '{RUN_DATE}' AND score > 0.5")
    assert drill.clear(SCORE, "publish") == "failed"
    drill.alerted("publish", "nothing was published")
    drill.checks("publish", "scores, expected")
    drill.fix("publish")
    drill.fixed("publish")


def test_the_database_refuses_the_login(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.run_date(SCORE, ends="success")
    drill.type(f"python -m include.cli unpublish --model {MODEL} --day {RUN_DATE}")
    drill.sql("ALTER ROLE writer NOLOGIN;")
    try:
        assert drill.clear(SCORE, "publish") == "failed"
        drill.alerted("publish", "OperationalError; its text is in the log")
        drill.checks("no-answer", "is not permitted to log in")
        drill.fix("no-answer")
        drill.fixed("no-answer")
    finally:
        drill.sql("ALTER ROLE writer LOGIN;")


# --- monitor ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "table"), [("outcomes", "outcomes"), ("monitor", "performance_daily")])
def test_writing_to_a_table_is_not_permitted(drill: Drill, page: str, table: str) -> None:
    drill.begin(prepared=True)
    drill.sql(f"REVOKE INSERT ON {table} FROM writer;", "nightly")
    drill.run_date(MONITOR)
    drill.alerted(page)
    drill.checks(page, "permission denied")
    drill.fix("no-answer", 0)
    drill.fix(page)
    drill.fixed(page)


def test_a_model_breaks_a_rule_and_the_webhook_is_gone(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.type(
        f"python -m include.cli promote --model {MODEL} --version 2 --from-day {RUN_DATE} --by Ben --why drill --force"
    )
    drill.change(
        MODEL_YAML,
        "{metric: roc_auc, at_least: 0.55, days: 3, of: 7} ",
        "{metric: roc_auc, at_least: 0.99, days: 1, of: 1} ",
    )
    drill.webhook.status = 404
    drill.run_date(MONITOR)
    drill.checks("alert", "answered 4…")
    drill.webhook.status = 200
    drill.fix("alert", WEBHOOK_URL=f"{drill.webhook.url}-another")
    drill.fixed("alert")
    drill.alerted("alert-rule-broken", "roc_auc is under 0.99 on 1 of the newest 1 days measured", str(BEFORE))
    drill.undo()
    drill.checks("alert-rule-broken")
    drill.fix("alert-rule-broken")
    drill.fixed("alert-rule-broken")


def test_a_bad_model_is_rolled_back_by_one_form(drill: Drill) -> None:
    """Version 2 is forced, an alert is raised, and one form later readers see the scores of version 1 again.

    Of the run date, version 1 has a stored batch; the day after has to be scored by the run.
    """
    drill.begin(prepared=True)
    times: dict[str, datetime] = {}

    def note(what: str) -> None:
        times[what] = datetime.now(UTC)
        sys.stdout.write(f"\n{times[what]:%H:%M:%S} UTC  {what}")
        sys.stdout.flush()

    next_day, say = RUN_DATE + timedelta(days=1), "python -m include.cli"
    drill.run_date(SCORE, ends="success")
    old = _scores_seen(drill, RUN_DATE)
    note("readers see version 1")
    drill.type(f"{say} unpublish --model {MODEL} --day {RUN_DATE}")
    drill.type(f"{say} promote --model {MODEL} --version 2 --from-day {RUN_DATE} --by Ben --why hunch --force")
    note("version 2 is promoted by force")
    drill.supply(next_day)
    drill.type(f"{say} prepare --project {PROJECT.name} --start {next_day}")
    for step in ("score", "publish"):
        drill.type(f"{say} {step} --model {MODEL} --start {RUN_DATE} --end {next_day}")
    bad = _scores_seen(drill, RUN_DATE)
    assert bad and old and bad != old
    note("readers see version 2")
    rule = "{metric: roc_auc, at_least: %s, days: %s}"
    drill.change(MODEL_YAML, rule % ("0.55", "3, of: 7"), rule % ("0.99", "1, of: 1"))
    drill.run_date(MONITOR, next_day, "success")
    drill.alerted("alert-rule-broken", "roc_auc is under 0.99", str(RUN_DATE))
    note("alert")
    drill.undo()

    drill.checks("rollback")
    note("form sent")
    drill.run(ROLLBACK, "undo-2", version="previous", why="drill", by="Ada", from_day=str(RUN_DATE))
    await_that(lambda: _scores_seen(drill, RUN_DATE) == old, "the scores of version 1", pause=1)
    note("readers see version 1 again")
    assert drill.ended(ROLLBACK, "undo-2") == "success"
    note("run ended")
    minutes = (times["readers see version 1 again"] - times["alert"]).total_seconds() / 60
    sys.stdout.write(f"\n{minutes:.1f} minutes from the alert to the old scores\n")
    assert drill.tasks(ROLLBACK, "undo-2") == {"score": "success", "rollback": "success"}
    assert _scores_seen(drill, next_day)
    assert {row.split("|")[0] for row in _scores_seen(drill, next_day)} == {"1"}
    drill.fixed("rollback")
    assert "as before" in drill.fix("rollback"), "the command does the rollback of the form again, and changes nothing"
    assert _scores_seen(drill, RUN_DATE) == old
    drill.type(f"{say} check --project {PROJECT.name} --start {RUN_DATE} --end {next_day}")
    assert times["readers see version 1 again"] - times["form sent"] < timedelta(minutes=5)


def _scores_seen(drill: Drill, day: date) -> list[str]:
    """Return version, entity and score of each row that readers see of a day."""
    query = f"SELECT model_version, entity_id, score FROM current_predictions WHERE model = '{MODEL}' AND day = '{day}'"
    found = drill.type(f'psql "$READER_URL" -Atc "{query} ORDER BY entity_id"')
    return [line for line in found.splitlines() if "|" in line]


def test_scores_are_late(drill: Drill) -> None:
    """Late scores raise an alert only in live runs, so this run date is today."""
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
    drill.fix("alert-scores-late", given=given)
    drill.fixed("alert-scores-late", given=given)


# --- backfills --------------------------------------------------------------------------------------------------------


def test_a_few_days_are_backfilled(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.run_date(SCORE, ends="success")
    seen = _published(drill)
    backfill, replace, undo = drill.written("backfill-a-day", "A few days")
    assert drill.type(backfill).count("✓ 2 days succeeded") == 4
    assert _published(drill) == seen
    drill.type(replace)
    assert _published(drill) == seen, "publishing the same scores must change nothing"
    drill.type(undo)
    assert not any(day.startswith(str(RUN_DATE)) for day in _published(drill))
    drill.type(f"python -m include.cli publish --model {MODEL} --start {RUN_DATE}")
    drill.fixed("backfill-a-day")


def test_a_long_range_is_backfilled(drill: Drill) -> None:
    drill.begin(prepared=True)
    [redo] = drill.written("backfill-a-day", "A long range")
    drill.type(redo)
    assert drill.ended(BACKFILL_RANGE, "redo-2013") == "success"
    drill.fixed("backfill-a-day")


def test_a_correction_came_later(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.run_date(SCORE, ends="success")
    rows = make_frame(PROJECT, "actuals", BEFORE - timedelta(days=1)).with_columns(pl.col("arr_delay_minutes") + 30)
    at = PROJECT.cutoff_at(RUN_DATE + timedelta(days=3))
    day = BEFORE - timedelta(days=1)
    deliver(PROJECT, "actuals", day, rows, available_at=at, settings=drill.settings, name="corrected")
    [outdated] = drill.written("backfill-a-day", "Corrected days")
    said = drill.type(outdated, code=1)
    for n, command in enumerate(line for line in said.splitlines() if line.startswith("airflow dags trigger")):
        drill.type(f"{command} --run-id outdated-{n}")
        assert drill.ended(BACKFILL_RANGE, f"outdated-{n}") == "success"
    drill.fixed("backfill-a-day")


def test_everything_except_landing_is_lost(drill: Drill) -> None:
    drill.begin(prepared=True)
    drill.run_date(SCORE, ends="success")
    seen = _published(drill)
    decide = f"--model {MODEL} --version 1 --from-day {RUN_DATE + timedelta(days=1)} --by Ada --why storms"
    drill.type(f"python -m include.cli promote {decide} --force")
    promotions, first, then = drill.written("backfill-a-day", "From landing alone")
    drill.type(promotions)
    drill.wipe()
    drill.type(first)
    assert drill.ended(BACKFILL_RANGE, "restore") == "success"
    drill.type(then)
    drill.fixed("backfill-a-day")
    assert _published(drill) == seen


def _published(drill: Drill) -> set[str]:
    """Return each published day with its batch."""
    pointers = f"SELECT day || ' ' || batch_id FROM published WHERE model = '{MODEL}'"
    return set(drill.sql(pointers, "nightly").splitlines())


def _files_of_champion(drill: Drill) -> Path:
    """Return the folder with the newest champion's model."""
    version = drill.sql("SELECT model_version FROM promotions ORDER BY from_day DESC, id DESC LIMIT 1", "nightly")
    run_id = drill.sql(f"SELECT run_id FROM model_versions WHERE name = '{MODEL}' AND version = {version}", "mlflow")
    [folder] = (p for p in (drill.stack.home / "artifacts").rglob(_model_of(drill, run_id)) if p.is_dir())
    return folder


def _model_of(drill: Drill, run_id: str) -> str:
    """Return the id of the logged model of an MLflow run."""
    return drill.sql(f"SELECT model_id FROM logged_models WHERE source_run_id = '{run_id}'", "mlflow")
