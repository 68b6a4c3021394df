"""The asset event of a champion: emitted by each task that can change it, and only if it did."""

from types import SimpleNamespace
from typing import Any

import pytest

from dags import common
from dags.common import announce_champion, champions_asset, predictions_asset
from include.config.loading import load_model, model_names
from include.core.champions import ChampionChange
from include.io.postgres import champions

MODEL = load_model("late_ferry")
CHANGE = ChampionChange(
    promotion=7,
    model="late_ferry",
    model_version=3,
    semantic_version="1.4.2+2e5fd9ec49a1",
    digest="ab" * 32,
    previous_version=2,
    from_day="2013-03-02",
    move="gate",
    forced=False,
    why="passed all checks",
    model_uri="models:/late_ferry/3",
)


def announced(monkeypatch: pytest.MonkeyPatch, change: ChampionChange | None) -> tuple[list[Any], Any]:
    """Return the outlets of the running task afterwards, and the extra of the event."""
    asset = champions_asset(MODEL)
    task = SimpleNamespace(outlets=[asset, predictions_asset(MODEL)])
    events = {asset: SimpleNamespace(extra={})}
    context = {"ti": SimpleNamespace(task=task), "outlet_events": events}
    monkeypatch.setattr(common, "get_current_context", lambda: context)
    monkeypatch.setattr(common, "settings", lambda: None)
    monkeypatch.setattr(champions, "read_change_by_run", lambda settings, model: change)
    announce_champion(MODEL)
    return task.outlets, events[asset].extra


def test_a_change_is_described_in_the_event_without_the_words_of_people(monkeypatch: pytest.MonkeyPatch) -> None:
    outlets, extra = announced(monkeypatch, CHANGE)
    assert champions_asset(MODEL) in outlets
    wanted = {"model": "late_ferry", "model_version": 3, "semantic_version": CHANGE.semantic_version}
    assert wanted.items() <= extra.items()
    assert (extra["digest"], extra["previous_version"], extra["promotion"]) == ("ab" * 32, 2, 7)
    assert "why" not in extra


def test_without_a_change_there_is_no_event_and_other_outlets_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    assert announced(monkeypatch, None) == ([predictions_asset(MODEL)], {})


def test_each_task_with_the_asset_announces_the_champion(bag: Any) -> None:
    found = 0
    for name in model_names():
        asset = champions_asset(load_model(name))
        for dag in bag.dags.values():
            for task in dag.tasks:
                if asset in task.outlets:
                    found += 1
                    assert "announce_champion" in task.python_callable.__code__.co_names, task
    assert found >= 2 * len(model_names())
