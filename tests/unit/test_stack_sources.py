"""The databases that a local stack gives the feeds of example projects."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from include.core.project import Project
from tools.stack.sources import find_sources


def extracted(written: dict[str, Any]) -> None:
    columns = {"pier": {"type": "string", "class": "public"}, "valid_on": {"type": "date", "class": "public"}}
    query = "SELECT pier, valid_on FROM fees WHERE valid_on = :day"
    source = {"kind": "sql", "connection": "office", "query": query, "immutable": True}
    written["feeds"]["fees"] = {"source": source, "key": ["pier"], "day_column": "valid_on", "columns": columns}


def test_an_example_project_gets_a_file_for_each_connection(
    load_changed: Callable[..., Project], tmp_path: Path
) -> None:
    load_changed("ferries", extracted)
    assert find_sources(Path("/home"))["office"] == Path("/home/sources/office.sqlite")
    (tmp_path / "ferries" / "simulate.py").unlink()
    assert "office" not in find_sources(Path("/home"))


def test_a_project_that_cannot_be_loaded_does_not_stop_the_stack(
    load_changed: Callable[..., Project], tmp_path: Path
) -> None:
    load_changed("ferries", extracted)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "project.yaml").write_text("feeds: 1", encoding="utf-8")
    assert "office" in find_sources(Path("/home"))
