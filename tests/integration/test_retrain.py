"""retrain on a real PostgreSQL: one request for a run date, none within the cool-down, none for past days."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest

from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.records import Alert
from include.core.settings import Settings
from include.io import postgres
from include.steps.retrain import retrain
from tests.integration import small

DAY = date(2013, 3, 1)
PROJECT = load_project("ferries")
MONTHLY = load_model("late_ferry").model_copy(update={"train_schedule": "0 4 1 * *", "retrain": "on_degradation"})


def at(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    monkeypatch.setattr(postgres.journal, "read_clock", lambda _: moment)


def alert(settings: Settings, rule: str, day: date, subject: str = "late_ferry") -> None:
    raised = Alert(subject=subject, rule=rule, day=day, sentence=f"{rule} is broken")
    postgres.alerts.raise_alerts(settings, PROJECT.name, [raised])


def test_a_training_is_asked_for_once_and_not_within_the_cool_down(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, PROJECT.at(DAY, time(4)))
    alert(settings, "drift: inputs", DAY)
    alert(settings, "degradation: slices", DAY, subject="ferry_delay")
    found = retrain(MONTHLY, Interval.of(DAY), settings)
    assert found.skipped == "no alert of 2013-03-01 asks for a training"
    alert(settings, "degradation: slices", DAY)
    first, again = (retrain(MONTHLY, Interval.of(DAY), settings) for _ in range(2))
    assert first.why == again.why == "degradation: slices: degradation: slices is broken"
    assert again.skipped is None, "a task that was killed before it started the run starts it now"
    fitted(settings, DAY)
    for days, asked in ((6, False), (7, True)):
        later = DAY + timedelta(days=days)
        at(monkeypatch, PROJECT.at(later, time(4)))
        alert(settings, "degradation: age", later)
        found = retrain(MONTHLY, Interval.of(later), settings)
        assert (found.why is not None) == asked, days
    requests = small.select(settings, "SELECT model, day, rules FROM retraining_requests ORDER BY day")
    assert [(each["day"], each["rules"]) for each in requests] == [
        (DAY, ["degradation: slices"]),
        (DAY + timedelta(days=7), ["degradation: age"]),
    ]


def fitted(settings: Settings, day: date) -> None:
    moment = datetime(2013, 3, 1, tzinfo=UTC)
    about: dict[str, Any] = {"state": "success", "started_at": moment, "ended_at": moment, "model": "late_ferry"}
    postgres.audit.record_step(settings, "fit", PROJECT.name, Interval.of(day), **about)


def test_a_request_whose_task_was_killed_before_it_started_the_run_blocks_no_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    day_after = DAY + timedelta(days=1)
    for day in (DAY, day_after):
        at(monkeypatch, PROJECT.at(day, time(4)))
        alert(settings, "degradation: slices", day)
        # the process is killed here, so nothing starts the run
        assert retrain(MONTHLY, Interval.of(day), settings).skipped is None, day
    fitted(settings, day_after)
    later = DAY + timedelta(days=2)
    at(monkeypatch, PROJECT.at(later, time(4)))
    alert(settings, "degradation: slices", later)
    found = retrain(MONTHLY, Interval.of(later), settings)
    assert found.skipped == "a training of 2013-03-02 was asked for and began, and retrain.cool_down_days is 7"


def test_of_trainings_that_did_not_start_within_a_day_one_begins(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their runs wait, such as those of a paused DAG, and then follow each other."""
    days = [DAY + timedelta(days=n) for n in range(4)]
    first, second, third, last = days

    def replaced(day: date, model: str = MONTHLY.name) -> str | None:
        return postgres.retrainings.why_replaced(settings, model, day, cool_down_days=7)

    for day in days[:3]:
        at(monkeypatch, PROJECT.at(day, time(4)))
        alert(settings, "degradation: slices", day)
        assert retrain(MONTHLY, Interval.of(day), settings).skipped is None, "one that waits does not block the next"
    assert [replaced(day) for day in days[:3]] == [*[f"a training of {third} was asked for since"] * 2, None]
    assert replaced(first, "ferry_delay") is None
    fitted(settings, second)  # it had looked before the third one was asked for
    assert replaced(second) is None, "a run that began can be repeated"
    assert replaced(third) == f"the training of {second}, which was asked for before, began meanwhile"
    at(monkeypatch, PROJECT.at(last, time(4)))
    alert(settings, "degradation: slices", last)
    assert retrain(MONTHLY, Interval.of(last), settings).skipped is not None
    month_later = DAY + timedelta(days=31)
    at(monkeypatch, PROJECT.at(month_later, time(4)))
    alert(settings, "degradation: slices", month_later)
    assert retrain(MONTHLY, Interval.of(month_later), settings).skipped is None
    assert replaced(month_later) is None, "the cool-down is over"


def test_a_past_run_date_asks_for_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    alert(settings, "degradation: slices", DAY)
    at(monkeypatch, PROJECT.cutoff_at(DAY + timedelta(days=1)))
    found = retrain(MONTHLY, Interval.of(DAY), settings)
    assert found.skipped == "2013-03-01 is past, and a backfill asks for no training"
    at(monkeypatch, PROJECT.cutoff_at(DAY + timedelta(days=1)) - timedelta(seconds=1))
    assert retrain(MONTHLY, Interval.of(DAY), settings).skipped is None
