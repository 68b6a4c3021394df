"""Differences of declarations: their keys, their values, what they decide, and the digest of what makes features."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from include.config.loading import load_project, read_project
from include.core.changes import Effect, differences, effect_in_model, effect_in_project, features_digest
from include.core.project import Project
from include.training.config import Training
from tests.own_projects import FOLDER


def said(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [each.what for each in differences("project.yaml", before, after, lambda _: Effect.FEATURES)]


def test_differences_name_the_key_and_both_values() -> None:
    before = {"feeds": {"sales": {"lookback_days": 27, "days": ["mon", "tue"]}}, "title": "Sales"}
    after = {"feeds": {"sales": {"lookback_days": 55, "days": ["tue", "sat"], "arrives": "09:00:00"}}, "title": "Sales"}
    assert said(before, after) == [
        "feeds.sales.lookback_days: 27 → 55",
        "feeds.sales.days: added sat; removed mon",
        "feeds.sales.arrives: (not declared) → 09:00:00",
    ]
    assert said(after, after) == []


def test_entries_of_a_list_are_compared_by_name_and_their_order_is_a_difference() -> None:
    one, other = {"kind": "quality", "metric": "mae", "at_most": 3}, {"kind": "size", "at_most": 5}
    assert said({"checks": [one, other]}, {"checks": [{**one, "at_most": 2}, other]}) == [
        "checks[quality].at_most: 3 → 2"
    ]
    assert said({"checks": [one, other]}, {"checks": [other, one]}) == ["checks: another order"]
    assert said({"checks": [one]}, {"checks": [one, one, other]}) == ["checks[quality#2]: added", "checks[size]: added"]
    assert said({"numeric": ["a", "b"]}, {"numeric": ["b", "a"]}) == ["numeric: another order"]


@pytest.mark.parametrize(
    "key", ["source.query", "source.connection", "databricks.secrets.database_url", "settings.api_token", "password"]
)
def test_values_that_may_be_secret_are_not_shown(key: str) -> None:
    first, _, rest = key.partition(".")
    before, after = ({first: {rest: value} if rest else value} for value in ("hunter2", "hunter3"))
    for found in said(before, after):
        assert "hunter" not in found and "not shown" in found
    assert said({"wheels": "s3://key@x"}, {"wheels": "s3://y"}) == ["wheels: changed (its value is not shown)"]


def test_a_long_or_hostile_value_is_one_short_line() -> None:
    [found] = said({"title": "a"}, {"title": "b\n\x1b[2J" + "c" * 500})
    assert len(found) < 100 and "\n" not in found and "\x1b" not in found


@pytest.mark.parametrize(
    ("key", "effect"),
    [
        ("title", Effect.WORDS),
        ("feeds.sales.columns.units.description", Effect.WORDS),
        ("feeds.sales", Effect.READING),
        ("feeds.sales.lookback_days", Effect.READING),
        ("feeds.sales.format.delimiter", Effect.ARRIVAL),
        ("feeds.sales.source.query", Effect.ARRIVAL),
        ("feeds.sales.columns.units.format", Effect.ARRIVAL),
        ("feeds.sales.columns.units.type", Effect.FEATURES),
        ("feeds.sales.columns.format", Effect.FEATURES),
        ("cutoff", Effect.ARRIVAL),
        ("timezone", Effect.FEATURES),
        ("entity.where", Effect.FEATURES),
        ("entity.public", Effect.ENTITIES),
        ("schedule", Effect.RUNS),
        ("notify[0].to", Effect.RUNS),
        ("databricks.new_cluster.num_workers", Effect.RUNS),
        ("outcomes.read.sql", Effect.FEATURES),
        ("outcomes.unread.sql", Effect.OUTCOMES),
        ("a_key_of_tomorrow", Effect.FEATURES),
    ],
)
def test_each_key_of_a_project_decides_one_thing(key: str, effect: Effect) -> None:
    assert effect_in_project(key, {"read"}) is effect


@pytest.mark.parametrize(
    ("key", "effect"),
    [
        ("owner", Effect.WORDS),
        ("gate.checks[quality].at_least", Effect.GATE),
        ("monitors[performance].rules", Effect.MONITORS),
        ("tier", Effect.MONITORS),
        ("candidates[linear].params.C", Effect.FIT),
        ("train_days", Effect.FIT),
        ("train_schedule", Effect.RUNS),
        ("run_on.fit", Effect.RUNS),
    ],
)
def test_each_key_of_a_model_decides_one_thing(key: str, effect: Effect) -> None:
    assert effect_in_model(key, Training.model_fields) is effect


def changed(folder: Path, file: str, old: str, new: str) -> Project:
    copy = folder / "ferries"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(FOLDER / "ferries", copy)
    text = (copy / file).read_text(encoding="utf-8")
    assert old in text
    (copy / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    return read_project(copy / "project.yaml")


MORE_OUTCOMES = "outcomes:\n  waited: {feed: logbook, sql: wait_minutes}\n"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("project.yaml", "title: Ferries", "title: Boats"),
        ("project.yaml", "the company that runs it", "who runs it"),
        ("project.yaml", "path: winds/", "path: wind/"),
        ("project.yaml", 'cutoff: "03:00"', 'cutoff: "02:00"'),
        ("project.yaml", "outcomes:", MORE_OUTCOMES),
        ("project.yaml", 'sql: "delay_minutes"', 'sql: "delay_minutes + 1"'),  # no feature reads it
        ("features.py", "import Feeds\n", "import Feeds\n\n# ferry_delay\n"),
        ("features.py", '"""Return one row', '"""ferry_delay: return one row'),
        ("simulate.py", "import", "import math  # noqa\nimport"),
        ("expectations.yaml", "\n", "\n# a comment\n"),
    ],
)
def test_what_makes_no_other_feature_leaves_the_digest(tmp_path: Path, file: str, old: str, new: str) -> None:
    assert features_digest(changed(tmp_path, file, old, new)) == features_digest(load_project("ferries"))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("project.yaml", "lookback_days: 27", "lookback_days: 28"),
        ("project.yaml", "delay_minutes > 15", "delay_minutes > 20"),  # late_rate reads it
        ("project.yaml", "key: [company, ferry, origin, departs_at]\n  public", "key: [company, ferry]\n  public"),
        ("project.yaml", "temperature_f: {type: double", "temperature_f: {type: integer"),
        ("features.py", ">= 5", ">= 4"),
        ("features.py", 'ferries, "logbook", by', 'ferries.drop("x"), "logbook", by'),
    ],
)
def test_what_makes_other_features_changes_the_digest(tmp_path: Path, file: str, old: str, new: str) -> None:
    assert features_digest(changed(tmp_path, file, old, new)) != features_digest(load_project("ferries"))


@pytest.mark.parametrize("call", ['feeds.current("logbook")', "feeds.history(NAME)"])
def test_an_outcome_of_a_feed_that_is_read_with_all_columns_decides_features(tmp_path: Path, call: str) -> None:
    """The code does not name the outcome, but its column may be among the features."""
    before = changed(tmp_path / "one", "features.py", "    return ferries.drop", f"    {call}\n    return ferries.drop")
    after = changed(tmp_path / "two", "features.py", "    return ferries.drop", f"    {call}\n    return ferries.drop")
    text = (after.folder / "project.yaml").read_text(encoding="utf-8").replace("outcomes:", MORE_OUTCOMES)
    (after.folder / "project.yaml").write_text(text, encoding="utf-8")
    assert features_digest(before) != features_digest(read_project(after.folder / "project.yaml"))


def test_a_helper_module_of_the_project_counts(tmp_path: Path) -> None:
    project = changed(tmp_path, "features.py", "\n", "\n")
    before = features_digest(project)
    (project.folder / "helpers.py").write_text("LIMIT = 3\n", encoding="utf-8")
    assert features_digest(project) != before


@pytest.mark.parametrize(("value", "same"), [(0, True), (3, False)])
def test_a_key_of_a_later_version_counts_only_with_another_value_than_nothing(value: int, *, same: bool) -> None:
    """Otherwise an upgrade would seem to change all prepared days."""

    class LaterProject(Project):
        later: int = 0

    project = load_project("ferries")
    declared = {name: getattr(project, name) for name in Project.model_fields}
    later = LaterProject.model_construct(**declared, later=value)
    assert (features_digest(later) == features_digest(project)) == same
