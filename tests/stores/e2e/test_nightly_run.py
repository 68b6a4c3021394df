"""`make run PROJECT=stores` in the real Airflow: from files, parts and a database to scores that an analyst can query.

The tests of this file build on each other and run in this order.
"""

import gzip
import re
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from include.config.loading import load_project
from include.projects.stores.simulate import SPOILED_ROWS
from tests.differential import frozen
from tests.insight import run_notebook, text_of
from tools import demo, processes, summary
from tools.insight.__main__ import KEPT
from tools.stack import ROOT, Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1500)]

PROJECT = load_project("stores")
HISTORY, RUN_DATES = demo.days_to_run(PROJECT)
ROWS = 40 * 8
"""Departments of a day's plan. Sundays have none."""
CLOCK_CHANGE = date(2017, 3, 12)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    # not in pytest's folder: each session makes it unreadable for the user that runs PostgreSQL for root
    with tempfile.TemporaryDirectory(prefix="nightly-e2e-") as folder:
        stack = Stack(Path(folder) / "home")
        stack.start(schedule=False)
        yield stack
        stack.stop()
        assert processes.find_processes(stack.home) == []


def test_the_nightly_runs_succeed_and_check_finds_nothing(stack: Stack) -> None:
    assert HISTORY.end.weekday() == 0, "the day on which all models are trained"
    assert HISTORY.start <= CLOCK_CHANGE <= HISTORY.end
    assert demo.run(stack, PROJECT, HISTORY, RUN_DATES) == 0


def test_features_scores_and_decisions_are_those_of_the_reference(stack: Stack) -> None:
    differences = frozen.compare(frozen.Frozen.load(PROJECT.name), frozen.read_run(stack, PROJECT))
    assert not differences, frozen.in_words(PROJECT.name, differences)


def test_an_analyst_reads_each_day_that_is_predicted(stack: Stack) -> None:
    reader = stack.cli_environment()["READER_URL"]
    published = (
        "SELECT model, day, target_day - day AS ahead, count(*) AS rows FROM current_predictions GROUP BY 1, 2, 3"
    )
    found = {(row.model, row.day, row.ahead): row.rows for row in summary.query(reader, published)}
    spoiled = RUN_DATES.end
    wanted = {
        (model, day, ahead): ROWS - SPOILED_ROWS * (day.toordinal() + ahead == spoiled.toordinal())
        for day in RUN_DATES.days
        for model, last in (("units_sold", 6), ("demand_level", 0), ("coupon_used", 0))
        for ahead in range(last + 1)
        if (day.toordinal() + ahead) % 7  # 0 is a Sunday
    }
    assert found == wanted


def test_an_analyst_reads_the_reasons_of_the_model_that_declares_them(stack: Stack) -> None:
    reasons = """
    SELECT model, p.day, p.entity_id, max(rank) AS last, bool_and(input <> '') AS named,
        abs(min(base) + min(rest) + sum(contribution) - ln(min(score) / (1 - min(score)))) AS off
    FROM prediction_reasons r JOIN current_predictions p USING (model, day, horizon, entity_id) GROUP BY 1, 2, 3
    """
    found = summary.query(stack.cli_environment()["READER_URL"], reasons)
    assert {(row.model, row.day) for row in found} == {
        ("coupon_used", day) for day in RUN_DATES.days if day.toordinal() % 7
    }
    assert {row.last for row in found} <= {1, 2, 3}
    assert all(row.named and row.off < 1e-4 for row in found)


def test_an_analyst_reads_labels_and_what_the_departments_are(stack: Stack) -> None:
    reader = stack.cli_environment()["READER_URL"]
    labels = summary.query(reader, "SELECT DISTINCT label FROM current_predictions WHERE model = 'demand_level'")
    assert {row.label for row in labels} == {"none", "few", "many"}
    mean = (
        "SELECT department, min(private_brand_share) AS share, avg(score) AS units FROM current_predictions "
        "JOIN stores_entities USING (day, horizon, entity_id) WHERE model = 'units_sold' GROUP BY 1"
    )
    found = {row.department: (row.units, row.share) for row in summary.query(reader, mean)}
    assert len(found) == 8
    assert found["GROCERY"][0] > 10 * found["PASTRY"][0]
    assert all(0 < share < 1 for _, share in found.values()), "the snapshot reaches readers"


def test_the_first_versions_pass_the_gate_and_the_weekly_model_is_not_trained_again(stack: Stack) -> None:
    ops = stack.cli_environment()["OPS_READER_URL"]
    decisions = summary.query(ops, summary.DECISIONS, start=HISTORY.end, end=RUN_DATES.end)
    first = {d.model: d.passed for d in decisions if d.day == HISTORY.end}
    assert first == {"units_sold": True, "demand_level": True, "coupon_used": True}
    trained = {(d.model, d.day) for d in decisions if d.day > HISTORY.end}
    assert trained == {(model, day) for model in ("units_sold", "coupon_used") for day in RUN_DATES.days}


def test_each_feed_was_landed_with_its_rows(stack: Stack) -> None:
    settings = demo.settings_of(stack)
    landing = Path(settings.landing) / "stores"
    assert len([*(landing / "sales" / "2017/03/12").glob("*.jsonl.gz")]) == 23, "clocks were put forward"
    raw = Path(settings.tables)
    days = {
        feed: pl.scan_delta(str(raw / f"clean_stores__{feed}")).select("day").unique().collect()["day"].to_list()
        for feed in PROJECT.feeds
    }
    assert CLOCK_CHANGE in days["sales"]
    for feed in ("plan", "promotions", "settled"):
        assert days[feed], feed
        assert 6 not in {day.weekday() for day in days[feed]}, feed
    assert max(days["plan"]) == date(2017, 3, 21), "the plan of the last day ahead"
    assert max(days["settled"]) == date(2017, 3, 8), "a week late"


def test_invalid_rows_are_quarantined_and_the_run_continues(stack: Stack) -> None:
    [found] = summary.query(stack.cli_environment()["OPS_READER_URL"], summary.QUARANTINE)
    assert (found.feed, found.day, found.quarantined_rows) == ("plan", RUN_DATES.end, SPOILED_ROWS)
    assert found.column_name == "mailer_share"


def test_the_notebook_says_what_the_kept_one_says_and_nothing_personal(stack: Stack, tmp_path: Path) -> None:
    """Differences that are meant: type `make run PROJECT=stores`, then `make insight PROJECT=stores KEEP=1`."""
    assert run_notebook(stack, PROJECT, tmp_path) == []
    for written in (text_of(tmp_path), (PROJECT.folder / KEPT).read_text(encoding="utf-8")):
        assert "@example.org" not in written
        assert not re.search(r"\bC\d{6}\b", written)
        assert str(ROOT) not in written and str(stack.home) not in written
    assert (PROJECT.folder / KEPT).stat().st_size < 200_000


def test_no_card_and_no_address_is_stored(stack: Stack) -> None:
    settings = demo.settings_of(stack)
    landed = [gzip.decompress(path.read_bytes()) for path in Path(settings.landing).rglob("*.gz")]
    cards = {card for text in landed for card in re.findall(rb"\bC\d{6}\b", text)}
    assert len(cards) > 500, "the files have no cards"
    assert any(b"@example.org" in text for text in landed), "the files have no addresses"
    files = [path for path in Path(settings.tables).rglob("*") if path.is_file()]
    assert len(files) > 50
    for path in files:
        is_parquet = path.suffix == ".parquet" and "_delta_log" not in path.parts
        text = pl.read_parquet(path, hive_partitioning=False).write_csv().encode() if is_parquet else path.read_bytes()
        assert b"@example.org" not in text, path
        assert not {*re.findall(rb"\bC\d{6}\b", text)} & cards, path
