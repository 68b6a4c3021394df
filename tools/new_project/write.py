"""Write the folder of a project from what the examples say, with a comment where a person should look."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from include.core.errors import ActionRequiredError
from tools.new_model import render as render_model
from tools.new_project.columns import FEW, FoundColumn
from tools.new_project.relations import LABELS, FoundFeed, FoundProject

TEMPLATES = Path(__file__).parents[1] / "templates"
SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"
WINDOWS = (7, 28)
HOLDOUT_DAYS = 14
TEST = "tests/test_project.py"
"""The test among the texts; `write` puts it where tests of projects are."""


def render(project: FoundProject, name: str, title: str, owner: str, folder: Path) -> dict[str, str]:
    """Return the text of each file of the project, by its path below the folder."""
    model = f"{name}_{project.outcome_name}"[:40].strip("_")
    values = {
        "name": name,
        "title": title,
        "owner": owner,
        "built_by": owner,
        "project": project,
        "windows": WINDOWS,
        "expectations": {feed.name: [*_expectations(feed)] for feed in project.feeds.values()},
        "columns": {
            feed.name: [_declared(each, leaking=_leaks(project, feed, each)) for each in feed.columns.values()]
            for feed in project.feeds.values()
        },
        "groups": [*map(_in_python, groups(project))],
        "whole_key": _in_python(project.history) if project.history else "",
        "dropped": dropped(project),
        "lookups": {each: _looked_up(project, each) for each in project.lookups},
        "model": model,
        **_model(project),
        "feed_format": {feed.name: feed.format.line() for feed in project.feeds.values()},
    }
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # no HTML
    )
    environment.filters["in_yaml"] = lambda text: json.dumps(text, ensure_ascii=False)
    texts = {
        path.stem: environment.get_template(f"project/{path.name}").render(
            values, schema=os.path.relpath(SCHEMAS, folder)
        )
        for path in sorted((TEMPLATES / "project").glob("*.j2"))
    }
    texts[TEST] = environment.get_template("tests/test_project.py.j2").render(values)
    titled = {"name": model, "project": name, "title": model.replace("_", " ").capitalize()}
    of_model = render_model(values | titled, folder / "models" / model)
    texts |= {f"models/{model}/{file}": text for file, text in of_model.items()}
    return texts


def check(texts: dict[str, str], name: str) -> None:
    """Refuse texts that are no sound project, without writing them where they belong.

    Raises:
        ActionRequiredError: says what is wrong.
    """
    import subprocess
    import sys

    with tempfile.TemporaryDirectory() as root:
        write(texts, Path(root) / name)
        environment = os.environ | {"NIGHTLY_PROJECTS": root}
        done = subprocess.run(
            [sys.executable, "-m", "include.cli", "check_config", "--project", name],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        found = (done.stdout + done.stderr).replace(f"{root}/", "").strip()
        raise ActionRequiredError(f"what was found is no sound project, so nothing was written:\n{found}")


def write(texts: dict[str, str], folder: Path, tests: Path | None = None) -> None:
    """Write the files, last the one by which a folder is a project.

    Args:
        texts: the files.
        folder: of the project.
        tests: the folder of its tests; None leaves them out.
    """
    for path in sorted(texts, key="project.yaml".__eq__):
        if path != TEST:
            _write(folder / path, texts[path])
    if tests is not None:
        _write(tests / f"test_{folder.name}.py", texts[TEST])
        package = tests / "__init__.py"  # by it, `make` knows that a project has tests
        if not package.exists():
            _write(package, f'"""Unit tests of {folder.name}."""\n')
        if not (tests.parent / "__init__.py").exists():
            _write(tests.parent / "__init__.py", f'"""Tests of {folder.name}."""\n')


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def dropped(project: FoundProject) -> list[str]:
    """Return the columns of the entities that are no features: times, identifiers and labels with many values."""
    inputs, columns = _of_entity(project), project.entity.columns.values()
    return [column.name for column in columns if column.data_class != "sensitive" and column.name not in inputs]


def _inputs(feed: FoundFeed) -> list[str]:
    """Return the columns that can be inputs of a model."""
    columns = feed.columns.values()
    numbers = [c.name for c in columns if c.is_number and not (c.type == "integer" and c.name in feed.key)]
    labels = [c.name for c in columns if c.is_label and 1 < c.distinct <= LABELS]
    return [*numbers, *labels]


def _of_entity(project: FoundProject) -> list[str]:
    """Return the columns of the entities that can be inputs of a model; none that says the outcome."""
    return [name for name in _inputs(project.entity) if name not in project.leaking]


def _looked_up(project: FoundProject, name: str) -> list[str]:
    """Return the columns of a snapshot that entities get."""
    feed = project.feeds[name]
    return [each for each in _inputs(feed) if each not in project.entity.columns and each not in feed.key]


def _model(project: FoundProject) -> dict[str, Any]:
    feeds = [(project.entity, _of_entity(project))]
    feeds += [(project.feeds[each], _looked_up(project, each)) for each in project.lookups]
    numeric = [column for feed, names in feeds for column in names if not feed.columns[column].is_label]
    labels = [column for feed, names in feeds for column in names if feed.columns[column].is_label]
    windows = [
        f"mean_{project.outcome_name}_{'_'.join(group)}_{days}d" for group in groups(project) for days in WINDOWS
    ]
    if project.history:
        windows.append(f"{project.outcome_name}_{'_'.join(project.history)}_lag7")
    rows = project.entity.rows_a_day[len(project.entity.rows_a_day) // 2]
    labelled = [feed.columns[column].distinct for feed, names in feeds for column in names if column in labels]
    about = f"{project.outcome.name} of {project.result.name}"
    return {
        "numeric": ["day_of_week", "month", "is_weekend", *numeric, *windows],
        "categorical": labels,
        "outcome": project.outcome_name,
        "problem_type": project.problem_type,
        "about": about,
        "question": f"What will {about} be?",
        "train_days": 60,
        "validation_days": 7,
        "holdout_days": HOLDOUT_DAYS,
        "min_fit_days": 28,
        "unit": _unit(project.outcome),
        "label_rows": _scaled(rows / 5),
        "leaf_rows": _scaled(rows / 2.5),
        "least_rows": max(20, rows * HOLDOUT_DAYS // 2),
        "least_slice": max(10, rows * HOLDOUT_DAYS // 2 // max(labelled[:1] or [1])),
    }


def groups(project: FoundProject) -> list[tuple[str, ...]]:
    """Return the groups over which features aggregate the outcome; the last is the whole key, if it has history."""
    found: list[tuple[str, ...]] = [(name,) for name in project.groups]
    return [*found, project.history] if project.history and project.history not in found else found


def _scaled(rows: float) -> int:
    """Return the fewest rows of a label, or of a leaf, of so many in a training of about 40 days; at most 100."""
    return round(min(max(rows, 5), 100))


def _unit(outcome: FoundColumn) -> float:
    """Return a tenth of what the best constant is off by, in the outcome's unit: a start for thresholds."""
    values = outcome.values.cast(pl.Float64).drop_nulls()
    spread = float((values - values.median()).abs().mean() or 0)  # type: ignore[arg-type]
    return float(f"{spread / 10:.1g}") or 1.0


def _in_python(group: tuple[str, ...]) -> str:
    """Return how a group of columns is written in Python."""
    texts = [json.dumps(name, ensure_ascii=False) for name in group]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


def _leaks(project: FoundProject, feed: FoundFeed, column: FoundColumn) -> bool:
    return feed is project.entity and column.name in project.leaking


def _declared(column: FoundColumn, *, leaking: bool = False) -> str:
    """Return the declaration of a column, as one line of YAML."""
    parts = [f"type: {column.type}", f"class: {column.data_class}"]
    if column.format is not None:
        parts.append(f"format: {json.dumps(column.format, ensure_ascii=False)}")
    if column.optional:
        parts.append("optional: true")
    name = column.name if re.fullmatch(r"[A-Za-z_]\w*", column.name) else json.dumps(column.name, ensure_ascii=False)
    says = "in the examples it says the outcome, so it is no feature" if leaking else ""
    check = "; ".join(filter(None, [column.check, says]))
    comment = f"   # CHECK: {check}" if check else ""
    return f"{name}: {{{', '.join(parts)}}}{comment}"


def _expectations(feed: FoundFeed) -> Iterator[str]:
    """Yield expectations that hold for the examples, with room to spare."""
    if not feed.is_snapshot:
        most = 10 * max(feed.rows_a_day)
        yield f"{{expect: table_row_count_to_be_between, min_value: 1, max_value: {most}, severity: critical}}"
        yield "{expect: row_count_to_be_near_history, days: 28, min_ratio: 0.3, max_ratio: 3, severity: warning}"
    for column in feed.columns.values():
        if column.data_class != "public" or not column.distinct:
            continue
        name = json.dumps(column.name, ensure_ascii=False)
        values = column.values.drop_nulls()
        if column.is_label and column.distinct <= FEW and values.len() >= 10 * column.distinct:
            found = json.dumps(sorted(values.unique()), ensure_ascii=False)
            yield f"{{expect: column_values_to_be_in_set, column: {name}, value_set: {found}, severity: warning}}"
        if column.type in ("integer", "double") and column.name not in feed.key:
            least, most_value = _range(values)
            yield (
                f"{{expect: column_values_to_be_between, column: {name}, min_value: {least}, max_value: {most_value}, "
                "severity: warning}"
            )
        if column.values.null_count() == 0 and column.name not in feed.key and not column.optional:
            yield f"{{expect: column_values_to_not_be_null, column: {name}, mostly: 0.99, severity: warning}}"


def _range(values: pl.Series) -> tuple[float, float]:
    """Return a range of numbers, wider than that of the examples by its width on both sides; not below 0 if none is."""
    least, most = float(values.min()), float(values.max())  # type: ignore[arg-type]
    width = (most - least) or abs(most) or 1.0
    return (0 if least >= 0 else _round(least - width)), _round(most + width)


def _round(value: float) -> float:
    rounded = float(f"{value:.2g}")
    return int(rounded) if rounded.is_integer() else rounded
