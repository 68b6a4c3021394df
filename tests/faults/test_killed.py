"""Kill tasks of the real Airflow, or run them twice at once: the result is that of an undisturbed run.

One stack runs one run date three times, each time from the same state: undisturbed, killed at every point of
`points.py`, and with two runs of each DAG at once.
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
from tests.faults.stories import HISTORY, MODEL, MONITOR, PREPARE, PROJECT, RUN_DATE, SCORE, TRAIN, Story
from tools import processes

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

BACKFILLED = f"backfill__{RUN_DATE}T08:00:00+00:00"

DAG_OF = dict.fromkeys(("land", "validate", "build_features"), PREPARE)
DAG_OF |= dict.fromkeys(("fit", "evaluate", "gate", "promote"), TRAIN)
DAG_OF |= dict.fromkeys(("score", "publish"), SCORE)
DAG_OF |= dict.fromkeys(("outcomes", "monitor"), MONITOR)


@dataclass(frozen=True, repr=False)
class Left:
    """Everything that a run date left behind."""

    landing: dict[str, str]
    tables: dict[str, pl.DataFrame]
    database: dict[str, list[str]]
    promotions: list[dict[str, Any]]
    registry: dict[str, Any]
    fits: dict[str, Any]
    check: str

    @classmethod
    def by(cls, story: Story) -> "Left":
        stack = story.stack
        check = story.cli([
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
def story() -> Iterator[Story]:
    # not in pytest's folder: the user that runs PostgreSQL for root cannot enter it
    with tempfile.TemporaryDirectory(prefix="nightly-faults-") as folder:
        story = Story(Path(folder))
        try:
            story.start()
            yield story
        finally:
            story.stack.stop()
            assert processes.find_processes(story.stack.home) == []


@pytest.fixture(scope="module")
def undisturbed(story: Story) -> Left:
    story.run("undisturbed", PREPARE)
    story.run("undisturbed", TRAIN, SCORE, MONITOR)
    return Left.by(story)


@pytest.fixture(scope="module")
def killed(story: Story, undisturbed: Left) -> Left:
    story.restore()
    story.arm()
    story.run("killed", PREPARE)
    story.run("killed", TRAIN, SCORE, MONITOR)
    return Left.by(story)


@pytest.fixture(scope="module")
def doubled(story: Story, killed: Left) -> Left:
    """Run each DAG twice at once: by hand and by a backfill.

    Airflow runs one training at a time, so the second training runs outside of Airflow.
    """
    story.restore()
    for dag_ids in ((PREPARE,), (SCORE, MONITOR)):
        story.trigger("once", *dag_ids)
        backfilled = story.backfill(*dag_ids)
        if dag_ids == (SCORE, MONITOR):
            by_hand = story.begin("tests.faults.train", MODEL, str(RUN_DATE))
            story.run("once", TRAIN)
            output = by_hand.communicate()
            assert by_hand.returncode == 0, output
        story.follow([*((dag_id, "once") for dag_id in dag_ids), *backfilled.items()])
    return Left.by(story)


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


def test_the_undisturbed_run_did_all_its_work(undisturbed: Left) -> None:
    """Otherwise, the other runs would be compared with nothing."""
    assert undisturbed.tables[f"features_{PROJECT}"].filter(pl.col("day") == RUN_DATE).height == 738
    assert [row["model_version"] for row in undisturbed.promotions] == [1, 2], "the new version was not promoted"
    assert undisturbed.registry[f"{MODEL} aliases"] == {"champion": 2}
    assert len([row for row in undisturbed.database["published"] if str(RUN_DATE) in row]) == 1
    assert undisturbed.database["performance_daily"]
    assert {status for statuses in undisturbed.fits.values() for status in statuses.items()} == {("FINISHED", 1)}


@pytest.mark.parametrize("point", POINTS)
def test_each_point_killed_its_task(story: Story, killed: Left, point: str) -> None:
    """Check that the point killed the task that it names, and that Airflow's own retry finished the task."""
    task = POINTS[point].task
    struck = story.struck(point)
    assert struck is not None, "the task never reached this point"
    assert (struck["DAG_ID"], struck["TASK_ID"], struck["DAG_RUN_ID"]) == (DAG_OF[task], task, "killed")
    logs = story.stack.home / "airflow" / "logs" / f"dag_id={DAG_OF[task]}" / "run_id=killed" / f"task_id={task}"
    [log] = logs.rglob(f"attempt={struck['TRY_NUMBER']}.log") if task != "fit" else [None]
    assert log is None or "SIGKILL" in log.read_text(encoding="utf-8")
    tries = [t["try_number"] for t in story.tasks(DAG_OF[task], "killed") if t["task_id"] == task]
    assert sum(tries) - len(tries) == [p.task for p in POINTS.values()].count(task)


def test_a_run_killed_at_every_point_has_the_result_of_an_undisturbed_one(undisturbed: Left, killed: Left) -> None:
    assert_same(killed, undisturbed)
    for digest, statuses in killed.fits.items():
        assert statuses["FINISHED"] == 1, digest
        assert statuses["RUNNING"] == 0, "a run of a killed fit must be marked as killed"
    assert sum(statuses["KILLED"] for statuses in killed.fits.values()) == 1


def test_a_run_and_a_backfill_of_the_same_day_at_once_have_the_result_of_one(
    story: Story, undisturbed: Left, doubled: Left
) -> None:
    for dag_id in (PREPARE, SCORE, MONITOR):
        once, again = (story.tasks(dag_id, run_id) for run_id in ("once", BACKFILLED))
        starts, ends = (
            [f(t[name] for t in run if t[name]) for run in (once, again)]
            for f, name in ((min, "start_date"), (max, "end_date"))
        )
        assert max(starts) < min(ends), f"the runs of {dag_id} were one after the other"
    # the content is equal, and the first of the two publishes it
    published = [line.replace('"mode": "missing"', '"mode": "replace"') for line in doubled.database["publications"]]
    assert_same(replace(doubled, database={**doubled.database, "publications": published}), undisturbed)
