"""Test the pure parts of `airflow dags backfill`; tests/integration/test_backfill.py runs it on a real stack."""

import argparse
import io
import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from airflow.models.xcom import XComModel
from rich.console import Console
from sqlalchemy.orm import Session

from nightly_backfill import policy, runs
from nightly_backfill.arguments import BACKFILL, REPLACED
from nightly_backfill.ending import RefusedError
from nightly_backfill.follow import Follower
from nightly_backfill.progress import SECONDS_BETWEEN_LINES, Display, sentence
from nightly_backfill.request import conf, count, duration, first_and_last, labels, span

NEW_YORK = ZoneInfo("America/New_York")


def utc(*moments: datetime) -> list[str]:
    return [f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}" for moment in moments]


def test_days_are_whole_in_the_dags_own_timezone_across_the_change_to_summer_time() -> None:
    first, last = first_and_last("2013-03-08", "2013-03-12", NEW_YORK)
    assert utc(first, last) == ["2013-03-08 05:00:00", "2013-03-13 03:59:59"]


def test_one_day_is_enough() -> None:
    assert first_and_last("2013-03-08", None, NEW_YORK) == first_and_last("2013-03-08", "2013-03-08", NEW_YORK)
    assert first_and_last(None, "2013-03-08", NEW_YORK) == first_and_last("2013-03-08", "2013-03-08", NEW_YORK)


def test_a_time_is_used_unchanged() -> None:
    assert utc(*first_and_last("2013-03-08T03:00", "2013-03-08T12:00:00+00:00", NEW_YORK)) == [
        "2013-03-08 08:00:00",
        "2013-03-08 12:00:00",
    ]


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (None, None, "no days are given"),
        ("2013-03-08", "2013-03-07", "did you mean -s 2013-03-07 -e 2013-03-08"),
        ("2013-02-29", None, "'2013-02-29' is neither a day"),
        ("yesterday", None, "'yesterday' is neither a day"),
    ],
)
def test_an_invalid_range_is_refused(start: str | None, end: str | None, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        first_and_last(start, end, NEW_YORK)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "a JSON object"),
        ('{"day": "2013-03-01"}', "'day' would make every run"),
        ('{"start": "2013-03-01"}', "'start' would make every run"),
        ('{"end": "2013-03-01"}', "'end' would make every run"),
        ('{"publsh": "replace"}', "no param 'publsh'; did you mean publish"),
    ],
)
def test_an_invalid_conf_is_refused(text: str, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        conf(text, {"day": None, "start": None, "end": None, "publish": "missing"})


def test_a_conf_with_params_of_the_dag_is_used() -> None:
    assert conf('{"publish": "replace"}', {"publish": "missing"}) == {"publish": "replace"}
    assert conf(None, {}) == {}


def test_days_counts_and_durations_are_written_briefly() -> None:
    assert span(["2013-03-03", "2013-02-28", "2013-03-01", "2013-03-05"]) == (
        "2013-02-28 to 2013-03-01, 2013-03-03, 2013-03-05"
    )
    assert span(f"2013-{month:02}-01" for month in range(1, 13)).endswith(", 2013-10-01 and 2 more")
    assert [count(1), count(2), count(3, "run")] == ["1 day", "2 days", "3 runs"]
    assert [duration(s) for s in (0.2, 80, 700, 11100)] == ["1 s", "80 s", "12 min", "3 h 05 min"]


def test_runs_are_named_by_day_or_by_day_and_time_if_a_day_has_several() -> None:
    morning = datetime(2013, 3, 8, 4, tzinfo=UTC)
    assert list(labels([morning], NEW_YORK).values()) == ["2013-03-07"]
    hours = [morning, morning + timedelta(hours=2)]
    assert list(labels([*hours, morning + timedelta(hours=3)], NEW_YORK).values())[1] == "2013-03-08 01:00"


def test_progress_shows_done_failed_running_and_the_time_left() -> None:
    states = {"success": 3, "failed": 1, "running": 2, "queued": 4}
    assert sentence(states, before=2, elapsed=20) == "4 of 10 days done, 1 failed, 2 running, about 60 s left"
    assert sentence(states, before=4, elapsed=20) == "4 of 10 days done, 1 failed, 2 running"


def test_without_a_terminal_progress_is_printed_when_it_changed_but_not_too_often() -> None:
    now, out = [0.0], io.StringIO()
    with Display(Console(file=out, width=120), before=0, clock=lambda: now[0]) as display:
        for after, states in [
            (0.0, Counter(queued=3)),
            (1.0, Counter(queued=2, running=1)),
            (SECONDS_BETWEEN_LINES, Counter(queued=1, running=1, success=1)),
            (2 * SECONDS_BETWEEN_LINES, Counter(queued=1, running=1, success=1)),
            (2 * SECONDS_BETWEEN_LINES + 1, Counter(success=3)),
        ]:
            now[0] = after
            display.show(states)
    assert out.getvalue().splitlines() == [
        "0 of 3 days done, 0 failed, 0 running",
        "1 of 3 days done, 0 failed, 1 running, about 10 s left",
        "3 of 3 days done, 0 failed, 0 running",
    ]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("airflow dags backfill")
    for arg in BACKFILL.args:
        arg.add_to_parser(made)
    return made


def test_options_of_airflow_2_that_still_have_a_meaning_are_accepted() -> None:
    typed = (
        "ferries_score -s 2013-03-01 -e 2013-03-02 --dry-run --rerun-failed-tasks --reset-dagruns -y --run-backwards"
    )
    args = parser().parse_args([*typed.split(), "--max-active-runs", "2", "-c", "{}"])
    assert (args.dag_id, args.start_date, args.end_date, args.conf) == (
        "ferries_score",
        "2013-03-01",
        "2013-03-02",
        "{}",
    )
    assert args.dry_run and args.rerun_failed_tasks and args.reset_dagruns and args.yes and args.run_backwards
    assert args.max_active_runs == 2


@pytest.mark.parametrize("flag", [flag for flags in REPLACED for flag in flags])
@pytest.mark.parametrize("place", [["{}", "dag"], ["dag", "{}"], ["dag", "{}", "value"]])
def test_options_without_a_meaning_are_refused_with_their_replacement(
    flag: str, place: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        parser().parse_args([word.format(flag) for word in place])
    assert refused.value.code == 2
    [instead] = [text for flags, text in REPLACED.items() if flag in flags]
    assert f"{flag} is an option of Airflow 2 and means nothing in Airflow 3: {instead}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pool", "run_type", "of_task", "expected"),
    [
        ("backfill", "backfill", "default_pool", "backfill"),
        ("backfill", "scheduled", "default_pool", "default_pool"),
        ("backfill", "backfill", "own", "own"),
        ("backfill", None, "default_pool", "default_pool"),
        (None, "backfill", "default_pool", "default_pool"),
    ],
)
def test_tasks_of_backfills_use_the_pool_of_backfills_if_one_is_set(
    monkeypatch: pytest.MonkeyPatch, pool: str | None, run_type: str | None, of_task: str, expected: str
) -> None:
    monkeypatch.setattr(policy, "POOL", pool)
    task: Any = SimpleNamespace(pool=of_task)
    policy.task_instance_mutation_hook(task, run_type and SimpleNamespace(run_type=run_type))
    assert task.pool == expected


def test_a_reset_run_uses_the_pool_of_backfills_also_if_it_was_scheduled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "POOL", "backfill")
    task: Any = SimpleNamespace(pool="default_pool")
    with policy.resetting():
        policy.task_instance_mutation_hook(task, SimpleNamespace(run_type="scheduled"))
    assert task.pool == "backfill"


@pytest.mark.parametrize("pool", ["backfill", None])
def test_airflow_calls_the_hook_for_new_tasks_only_if_a_pool_is_set(pool: str | None) -> None:
    code = "from airflow import settings; settings.initialize(); print(settings.task_instance_mutation_hook.is_noop)"
    named = {"AIRFLOW__NIGHTLY__BACKFILL_POOL": pool} if pool else {}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **named}
    )
    assert done.stdout.splitlines()[-1] == str(pool is None)


def test_other_airflow_commands_import_little_of_this_package() -> None:
    code = """
import json, sys
from airflow.cli import cli_parser
[dags] = [g for g in cli_parser.airflow_commands if g.name == "dags"]
ours = sorted(name for name in sys.modules if name.startswith("nightly_backfill."))
print(json.dumps([ours, "backfill" in [c.name for c in dags.subcommands]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, added = json.loads(done.stdout.splitlines()[-1])
    assert added, "the provider is not installed: make setup"
    assert set(loaded) <= {"nightly_backfill.arguments", "nightly_backfill.policy"}


@pytest.mark.parametrize(
    "changed",
    ["del config.ARG_TASK_ID", "config.core_commands[:] = [c for c in config.core_commands if c.name != 'dags']"],
)
def test_other_airflow_commands_work_if_the_internals_of_airflow_changed(changed: str) -> None:
    code = f"""
import sys
from airflow.cli import cli_config as config
{changed}
sys.argv = ["airflow", "version"]
from airflow.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("3.")
    assert "error" in (done.stdout + done.stderr).lower(), "the error is logged"


NO_CHAMPION = "late_ferry has no champion for {}; nothing to score"


def followed(monkeypatch: pytest.MonkeyPatch, states: list[str], reasons: dict[str, str]) -> tuple[int, str]:
    """Follow a backfill of ended runs, one a day from 2013-03-01; return exit code and output."""
    moments = [datetime(2013, 3, 1 + n, 8, tzinfo=UTC) for n in range(len(states))]
    names = labels(moments, NEW_YORK)
    there = {m: runs.Run(names[m], m, state) for m, state in zip(moments, states, strict=True)}
    monkeypatch.setattr(runs, "at", lambda dag_id, moments: there)
    monkeypatch.setattr(runs, "active", lambda dag_id: None)
    monkeypatch.setattr(runs, "failed_tasks", lambda dag_id, run_id: [])
    monkeypatch.setattr(runs, "conf_of", lambda backfill_id: {})
    monkeypatch.setattr(runs, "skipped_because", lambda dag_id, run_ids: reasons)
    out = io.StringIO()
    follower = Follower(Console(file=out, width=200), "late_ferry_score", 1, names, set(), in_order=False)
    return follower.follow(), out.getvalue()


def test_days_for_which_nothing_was_done_are_skipped_and_not_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {day: NO_CHAMPION.format(day) for day in ("2013-03-01", "2013-03-02")}
    code, said = followed(monkeypatch, ["success"] * 2, reasons)
    assert code == 0
    because = "skipped: 2013-03-01 to 2013-03-02, because late_ferry has no champion for the day; nothing to score"
    assert "! 0 of 2 days succeeded; nothing was done for the others" in said
    assert because in said
    code, said = followed(monkeypatch, ["success", "success", "failed", "success"], reasons)
    assert code == 1
    assert "✗ 1 of 4 days succeeded; failed: 2013-03-03" in said and because in said
    assert "✓ 2 days succeeded" in followed(monkeypatch, ["success"] * 2, {})[1]


def test_a_run_did_nothing_if_a_step_was_skipped_and_none_returned_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    XComModel.__table__.create(engine)
    record = {"interval": {"start": "2013-03-01", "end": "2013-03-01"}, "rows": 4}
    stored = [
        ("nothing", "wait_for_features", "return_value", True),
        ("nothing", "score", "skipped", "no champion"),
        ("done", "note", "return_value", "a text"),
        ("held back", "gate", "return_value", record),
        ("held back", "promote", "skipped", "a later promotion is there"),
        ("done", "score", "return_value", record),
        ("other", "score", "skipped", "not asked for"),
    ]
    rows = [
        {"dag_run_id": n, "dag_id": "d", "run_id": run_id, "task_id": task, "key": key, "value": value}
        for n, (run_id, task, key, value) in enumerate(stored)
    ]
    with engine.begin() as connection:
        connection.execute(sa.insert(XComModel.__table__), rows)
    monkeypatch.setattr(runs, "create_session", lambda: Session(engine))
    assert runs.skipped_because("d", ["nothing", "held back", "done"]) == {"nothing": "no champion"}
