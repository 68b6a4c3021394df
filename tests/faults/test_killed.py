"""Tasks of the real Airflow, killed in the middle or run twice at once: all places end as after a night undisturbed.

One stack, and one night three times over, each from the same state: undisturbed, killed at every point of
`points.py`, and with each DAG's run doubled.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.faults import state
from tests.faults.points import POINTS
from tests.faults.prepared_days import HISTORY, MODEL, MONITOR, PREPARE, PROJECT, RUN_DATE, SCORE, TRAIN, Nights
from tools import processes

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

BACKFILLED = f"backfill__{RUN_DATE}T08:00:00+00:00"

DAG_OF = dict.fromkeys(("land", "validate", "build_features"), PREPARE)
DAG_OF |= dict.fromkeys(("fit", "evaluate", "gate", "promote"), TRAIN)
DAG_OF |= dict.fromkeys(("score", "publish"), SCORE)
DAG_OF |= dict.fromkeys(("outcomes", "monitor"), MONITOR)


@dataclass(frozen=True, repr=False)
class Left:
    """What a night left behind."""

    landing: dict[str, str]
    tables: dict[str, pl.DataFrame]
    database: dict[str, list[str]]
    promotions: list[dict[str, Any]]
    registry: dict[str, Any]
    fits: dict[str, Any]
    check: str

    @classmethod
    def by(cls, prepared_days: Nights) -> "Left":
        stack = prepared_days.stack
        check = prepared_days.cli([
            "check",
            "--project",
            PROJECT,
            "--start",
            str(HISTORY.start),
            "--end",
            str(RUN_DATE),
        ])
        return cls(
            landing=state.landing(stack),
            tables=state.tables(stack),
            database=state.database(stack),
            promotions=state.promotions(stack),
            registry=state.registry(stack),
            fits=state.fits(stack),
            check=check,
        )


@pytest.fixture(scope="module")
def prepared_days() -> Iterator[Nights]:
    # not in pytest's folder, which each session closes to the user that runs PostgreSQL for root
    with tempfile.TemporaryDirectory(prefix="nightly-faults-") as folder:
        prepared_days = Nights(Path(folder))
        try:
            prepared_days.start()
            yield prepared_days
        finally:
            prepared_days.stack.stop()
            assert processes.find_processes(prepared_days.stack.home) == []


@pytest.fixture(scope="module")
def undisturbed(prepared_days: Nights) -> Left:
    prepared_days.run("undisturbed", PREPARE)
    prepared_days.run("undisturbed", TRAIN, SCORE, MONITOR)
    return Left.by(prepared_days)


@pytest.fixture(scope="module")
def killed(prepared_days: Nights, undisturbed: Left) -> Left:
    prepared_days.restore()
    prepared_days.arm()
    prepared_days.run("killed", PREPARE)
    prepared_days.run("killed", TRAIN, SCORE, MONITOR)
    return Left.by(prepared_days)


@pytest.fixture(scope="module")
def doubled(prepared_days: Nights, killed: Left) -> Left:
    """Each DAG by a run of its own and by one of a backfill. Training goes one run at a time in Airflow, so that the
    second one is by hand."""
    prepared_days.restore()
    for dag_ids in ((PREPARE,), (SCORE, MONITOR)):
        prepared_days.trigger("once", *dag_ids)
        backfilled = prepared_days.backfill(*dag_ids)
        if dag_ids == (SCORE, MONITOR):
            by_hand = prepared_days.begin("tests.faults.train", MODEL, str(RUN_DATE))
            prepared_days.run("once", TRAIN)
            said = by_hand.communicate()
            assert by_hand.returncode == 0, said
        prepared_days.follow([*((dag_id, "once") for dag_id in dag_ids), *backfilled.items()])
    return Left.by(prepared_days)


def assert_same_lines(ours: dict[str, list[str]], theirs: dict[str, list[str]]) -> None:
    assert ours.keys() == theirs.keys()
    for table, lines in ours.items():
        more, fewer = set(lines) - set(theirs[table]), set(theirs[table]) - set(lines)
        assert not more and not fewer, f"{table}: {sorted(more)[:3]} instead of {sorted(fewer)[:3]}"
        assert len(lines) == len(theirs[table]), f"{table} has rows twice"


def assert_same(ours: Left, theirs: Left) -> None:
    assert ours.landing == theirs.landing
    assert ours.tables.keys() == theirs.tables.keys()
    for table, rows in ours.tables.items():
        assert rows.equals(theirs.tables[table]), table
    assert_same_lines(ours.database, theirs.database)
    assert ours.promotions == theirs.promotions
    assert ours.registry == theirs.registry
    assert ours.check == theirs.check


def test_the_undisturbed_night_did_all_its_work(undisturbed: Left) -> None:
    """Or the others would be compared with nothing."""
    assert undisturbed.tables[f"features_{PROJECT}"].filter(pl.col("day") == RUN_DATE).height == 738
    assert [row["model_version"] for row in undisturbed.promotions] == [1, 2], "the night's version was not promoted"
    assert undisturbed.registry[f"{MODEL} aliases"] == {"champion": 2}
    assert len([row for row in undisturbed.database["published"] if str(RUN_DATE) in row]) == 1
    assert undisturbed.database["performance_daily"]
    assert {status for statuses in undisturbed.fits.values() for status in statuses.items()} == {("FINISHED", 1)}


@pytest.mark.parametrize("point", POINTS)
def test_was_killed(prepared_days: Nights, killed: Left, point: str) -> None:
    """In the task it names, by the signal, and taken up by Airflow's own retry."""
    task = POINTS[point].task
    struck = prepared_days.struck(point)
    assert struck is not None, "the task never came by here"
    assert (struck["DAG_ID"], struck["TASK_ID"], struck["DAG_RUN_ID"]) == (DAG_OF[task], task, "killed")
    logs = (
        prepared_days.stack.home / "airflow" / "logs" / f"dag_id={DAG_OF[task]}" / "run_id=killed" / f"task_id={task}"
    )
    [log] = logs.rglob(f"attempt={struck['TRY_NUMBER']}.log") if task != "fit" else [None]
    assert log is None or "SIGKILL" in log.read_text(encoding="utf-8")
    tries = [t["try_number"] for t in prepared_days.tasks(DAG_OF[task], "killed") if t["task_id"] == task]
    assert sum(tries) - len(tries) == [p.task for p in POINTS.values()].count(task)


def test_killed_at_every_point_the_night_is_that_of_an_undisturbed_one(undisturbed: Left, killed: Left) -> None:
    assert_same(killed, undisturbed)
    for digest, statuses in killed.fits.items():
        assert statuses["FINISHED"] == 1, digest
        assert statuses["RUNNING"] == 0, "what a killed fit left behind is marked"
    assert sum(statuses["KILLED"] for statuses in killed.fits.values()) == 1


def test_a_nights_run_and_a_backfill_of_it_at_once_are_that_of_one(
    prepared_days: Nights, undisturbed: Left, doubled: Left
) -> None:
    for dag_id in (PREPARE, SCORE, MONITOR):
        once, again = (prepared_days.tasks(dag_id, run_id) for run_id in ("once", BACKFILLED))
        starts, ends = (
            [f(t[name] for t in run if t[name]) for run in (once, again)]
            for f, name in ((min, "start_date"), (max, "end_date"))
        )
        assert max(starts) < min(ends), f"the runs of {dag_id} were one after the other"
    # of equal content, whoever comes first publishes it
    published = [line.replace('"mode": "missing"', '"mode": "replace"') for line in doubled.database["publications"]]
    assert_same(replace(doubled, database={**doubled.database, "publications": published}), undisturbed)
