"""A backfill of live runs gives the same results to the bit, from landing alone.

The days are first run one by one. Then everything except landing is deleted, and `airflow dags backfill` runs them
again. They include a late delivery, a later correction and a decision of a person.

The tests of this file build on each other and run in this order. They take too long for CI, where tests/integration
shows the same of each step: a restored journal, days in any order, a fit in another installation.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from include.config.loading import load_project
from include.core.interval import Interval
from include.core.settings import Settings
from include.io import postgres
from include.operations.simulate import deliver, make_frame, usual_available_at
from tests.faults import state
from tools import demo, processes
from tools.stack import ROOT, Stack

pytestmark = [pytest.mark.drill, pytest.mark.stack, pytest.mark.timeout(1800)]

PROJECT, MODEL = load_project("flights"), "late_arrival"
HISTORY = Interval(start=PROJECT.first_day, end=date(2013, 2, 13))
FIRST = date(2013, 2, 14)  # the first day whose training passes the gate
CORRECTED = date(2013, 2, 15)  # its actuals are corrected
LATE = date(2013, 2, 16)  # its weather arrives at ten
PREPARE, TRAIN, SCORE, MONITOR = (
    f"{PROJECT.name}_prepare",
    f"{MODEL}_train",
    f"{MODEL}_score",
    f"{PROJECT.name}_monitor",
)

SAME = (
    *("batches", "predictions", "published", f"entities_{PROJECT.name}"),
    *("outcomes", "outcome_days", "prepared_days", "gates", "gate_results", "performance_daily", "quality_results"),
)
"""Tables that a backfill reproduces to the row. Tables with times of runs and messages are left out."""


class Story:
    """A stack and the results of its runs. From one day on, a correction is known and a person's decision is valid."""

    def __init__(self, stack: Stack, prepared_days: Interval, corrected_from: date) -> None:
        self.stack, self.prepared_days, self.corrected_from = stack, prepared_days, corrected_from
        self.before: dict[str, Any] = {}
        self.people = ""

    @property
    def settings(self) -> Settings:
        return demo.settings_of(self.stack)

    def cli(self, *arguments: str, code: int = 0) -> str:
        return self._run([".venv/bin/python", "-m", "include.cli", *arguments], code)

    def airflow(self, *arguments: str, code: int = 0) -> str:
        return self._run([".venv/bin/airflow", *arguments], code)

    def backfill(self, dag_id: str, interval: Interval, *options: str) -> str:
        days = ("-s", str(interval.start), "-e", str(interval.end))
        return self.airflow("dags", "backfill", dag_id, *days, "--reset-dagruns", "-y", *options)

    def _run(self, command: list[str], code: int) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self.stack.cli_environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr[-4000:]}"
        return done.stdout

    def land(self, day: date) -> None:
        """Deliver the files that a run date requires; the weather of LATE is late."""
        for feed, of_day in PROJECT.required(day).items():
            at = usual_available_at(PROJECT, feed, of_day)
            if (feed, day) == ("weather", LATE):
                at = PROJECT.at(day, time(10))
            deliver(PROJECT, feed, of_day, make_frame(PROJECT, feed, of_day), available_at=at, settings=self.settings)

    def correct(self) -> None:
        """Deliver a correction of the actuals, which were wrong by half an hour, days later."""
        rows = make_frame(PROJECT, "actuals", CORRECTED).with_columns(pl.col("arr_delay_minutes") + 30)
        at = datetime.combine(self.corrected_from - timedelta(days=1), time(12), PROJECT.zone)
        deliver(PROJECT, "actuals", CORRECTED, rows, available_at=at, settings=self.settings, name="corrected")

    def read_results(self) -> dict[str, Any]:
        """Return the results of the runs, without times and run ids."""
        found: dict[str, Any] = dict(state.tables(self.stack))
        database = state.database(self.stack)
        found |= {name: database[name] for name in SAME}
        found["champions"] = self.cli_champions()
        fits = state.registry(self.stack)
        found |= {name: fit for name, fit in fits.items() if name.startswith("fit ")}
        return found

    def cli_champions(self) -> dict[date, int]:

        return postgres.promotions.read_champions(self.settings, MODEL, self.prepared_days.shifted(end=1))

    def wipe(self) -> None:
        """Delete everything except landing: tables, models, the shared database and MLflow's."""
        for place in ("tables", "artifacts", "journal"):
            shutil.rmtree(self.stack.home / place)
            (self.stack.home / place).mkdir()
        for name in ("nightly", "mlflow"):
            self.stack.postgres().query(f"DROP DATABASE {name} WITH (FORCE);")
            self.stack.postgres()  # creates the database that is missing
        self.cli("migrate")


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    # not in pytest's folder: each session makes it unreadable for the user that runs PostgreSQL for root
    with tempfile.TemporaryDirectory(prefix="nightly-backfilled-") as folder:
        stack = Stack(Path(folder) / "home")
        stack.start(schedule=False)
        yield Story(stack, Interval(start=FIRST, end=date(2013, 2, 20)), corrected_from=date(2013, 2, 19))
        stack.stop()
        assert processes.find_processes(stack.home) == []


@pytest.fixture(scope="module")
def airflow(story: Story) -> demo.AirflowApi:
    airflow = demo.AirflowApi(story.stack, PROJECT)
    airflow.wait_for_dags([PREPARE, TRAIN, SCORE, MONITOR, f"{PROJECT.name}_backfill_range"])
    return airflow


def assert_same(name: str, one: Any, other: Any) -> None:
    if isinstance(one, pl.DataFrame):
        assert one.equals(other), name
    elif isinstance(one, dict):
        differ = {key: (one.get(key), other.get(key)) for key in one.keys() | other.keys()}
        assert {key: pair for key, pair in differ.items() if pair[0] != pair[1]} == {}, name
    else:
        assert one == other, name


def prepare_history(airflow: demo.AirflowApi, run_id: str, day: date) -> None:
    """Prepare the history in one run. Each run needs a different logical date, which `day` gives."""
    conf = {"start": str(HISTORY.start), "end": str(HISTORY.end)}
    airflow.follow(airflow.run([f"{PROJECT.name}_backfill_range"], run_id, day, **conf))


def test_nightly_runs_succeed_and_promote(story: Story, airflow: demo.AirflowApi) -> None:
    story.cli("migrate")
    for day in HISTORY.days:
        story.land(day)
    prepare_history(airflow, "live", HISTORY.start)
    for day in story.prepared_days.days:
        story.land(day)
        if day == story.corrected_from:
            story.correct()
        airflow.follow(airflow.run([PREPARE, TRAIN, SCORE, MONITOR], f"live__{day}", day))
        if day == story.corrected_from - timedelta(days=1):
            decide = ("--from-day", str(story.corrected_from), "--by", "Ada", "--why", "storms", "--force")
            version = "2" if story.cli_champions()[story.corrected_from] != 2 else "1"
            story.cli("promote", "--model", MODEL, "--version", version, *decide)
    story.before = story.read_results()
    story.people = story.cli("promotions", "--model", MODEL)
    gates, champions = story.before["gates"], story.before["champions"]
    assert len(gates) == len(story.prepared_days.days)
    assert len(set(champions.values())) > 1, "no model was promoted"
    assert champions[story.corrected_from] != champions[story.corrected_from - timedelta(days=1)]
    prepared_days = story.before["prepared_days"]
    late = PROJECT.at(LATE, time(10))
    assert sum(late.isoformat()[:16] in prepared_day for prepared_day in prepared_days) == 1, prepared_days
    assert (
        sum("corrected" in prepared_day for prepared_day in prepared_days)
        == (story.prepared_days.end - story.corrected_from).days + 1
    )


def test_a_backfill_from_landing_gives_the_same_results_to_the_bit(story: Story, airflow: demo.AirflowApi) -> None:
    story.wipe()
    people = story.stack.home / "promotions.json"
    people.write_text(story.people, encoding="utf-8")
    assert story.cli("restore_promotions", "--model", MODEL, "--file", str(people)) == "1 of 1 rows written\n"
    prepare_history(airflow, "backfilled", HISTORY.end)
    story.backfill(PREPARE, story.prepared_days, "--run-backwards")  # in any order
    story.backfill(
        TRAIN, story.prepared_days, "-c", '{"displace_newer": true}'
    )  # the person's promotion is newer than all others
    story.backfill(SCORE, story.prepared_days)
    story.backfill(MONITOR, story.prepared_days)
    after = story.read_results()
    assert after.keys() == story.before.keys()
    for name, before in story.before.items():
        assert_same(name, after[name], before)
    days = ("--start", str(HISTORY.start), "--end", str(story.prepared_days.end))
    story.cli("check", "--project", PROJECT.name, *days)


def test_days_that_a_correction_put_out_of_date_are_listed_and_can_be_rebuilt(story: Story) -> None:
    days = ("--project", PROJECT.name, "--start", str(story.prepared_days.start), "--end", str(story.prepared_days.end))
    outdated = story.cli("outdated", *days, code=1)
    out_of_date = Interval(start=CORRECTED + timedelta(days=1), end=story.corrected_from - timedelta(days=1))
    for day in story.prepared_days.days:
        assert (f"{day} features:" in outdated) == (day in out_of_date.days), outdated
    before = story.read_results()
    latest = ("-c", '{"data": "latest"}')
    story.backfill(PREPARE, out_of_date, *latest)
    story.backfill(SCORE, out_of_date, "-c", '{"data": "latest", "publish": "replace"}')
    assert "prepared days is out of date" in story.cli("outdated", *days)
    story.cli("check", *days)

    made = state.tables(story.stack)[f"features_{PROJECT.name}"].filter(pl.col("day").is_in(out_of_date.days))
    prepared_day, latest_rows = (
        made.filter(data_view=data_view).drop("as_of", "data_view") for data_view in ("point_in_time", "latest")
    )
    assert prepared_day.height == latest_rows.height
    assert not prepared_day.equals(latest_rows)
    after = story.read_results()
    for name in (f"scores_{MODEL}", "gates"):  # stored beside the original rows, not over them
        assert_same(name, after[name], before[name])
    assert after["published"] != before["published"]

    story.cli("unpublish", "--model", MODEL, *days[2:4], "--end", str(story.prepared_days.end))
    # Days that were published only once have no earlier batch.
    assert story.read_results()["published"] != before["published"]
