"""The task `public_page`: beside the steps that change what the page shows, and nothing waits for it."""

from typing import Any

import pytest

from dags import backfill_range, monitor, score
from dags import public_page as module
from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.project import Project
from include.core.public_page import PublicPage

FERRIES = load_project("ferries")
SHOWN = FERRIES.model_copy(update={"public_page": PublicPage(models=("late_ferry",))})


def test_only_a_project_with_a_page_has_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "public_page" not in monitor.monitor(FERRIES).task_ids
    assert "public_page" not in backfill_range.backfill_range(FERRIES).task_ids
    assert "public_page" not in score.score_and_publish(load_model("late_ferry")).task_ids
    monkeypatch.setattr(score, "load_project", lambda _: SHOWN)
    assert "public_page" not in score.score_and_publish(load_model("ferry_delay")).task_ids, "it is not on the page"


def test_it_follows_what_changes_the_page_and_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "load_project", lambda _: SHOWN)
    scoring = score.score_and_publish(load_model("late_ferry")).get_task("public_page")
    monitoring = monitor.monitor(SHOWN).get_task("public_page")
    ranging = backfill_range.backfill_range(SHOWN).get_task("public_page")
    assert scoring.upstream_task_ids == {"publish"}
    assert monitoring.upstream_task_ids == {"monitor"}
    assert {"late_ferry.publish", "outcomes"} < ranging.upstream_task_ids
    assert ranging.trigger_rule == "all_done", "it shows the days that were published, also if others failed"
    assert [each.downstream_task_ids for each in (scoring, monitoring, ranging)] == [set(), set(), set()]


def test_it_makes_the_page_of_the_project_after_the_run_date(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[Any, ...]] = []
    monkeypatch.setattr(module, "run_step", lambda *given: ran.append(given))
    days = Interval(start=FERRIES.first_day, end=FERRIES.first_day)
    monkeypatch.setattr(module, "run_date", lambda project: project.first_day)
    task: Any = monitor.monitor(SHOWN).get_task("public_page")
    task.python_callable()
    assert ran == [("public_page", SHOWN, days)]
    assert isinstance(ran[0][1], Project)
