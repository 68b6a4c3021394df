"""`make new-project`: what it writes from example files is run as it is, up to published predictions."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from include.core.settings import Settings
from include.io.postgres.connection import engine
from tests.bakery import FIRST, read_examples, write_examples
from tests.integration.processes import processes

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

Typed = Callable[..., str]
ROOT = Path(__file__).parents[2]
DAYS = 80
LAST = FIRST + timedelta(days=DAYS - 1)


@pytest.fixture
def typed(with_mlflow: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Return a function that runs a module as a user would, and returns what it prints."""
    (tmp_path / "projects").mkdir()
    own = with_mlflow.model_copy(update={"sources": {"shop_db": with_mlflow.database_url}})
    for name, value in {**own.variables(), "NIGHTLY_PROJECTS": str(tmp_path / "projects")}.items():
        monkeypatch.setenv(name, value)

    def run(module: str, *arguments: object) -> str:
        if module == "include.cli":  # most commands; each fork has read the files as they are then
            with processes(own, 1) as started:
                typed = {"do": "command_line", "arguments": [*map(str, arguments)]}
                [(code, printed)] = started.all([typed])
            assert code == 0, f"{arguments}:\n{printed[-6000:]}"
            return str(printed)
        command = [sys.executable, "-m", module, *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    return run


@pytest.mark.drill
def test_from_a_database_to_prepared_days(settings: Settings, tmp_path: Path, typed: Typed) -> None:
    """Sales have moments and no date, so their day is that of the project's timezone; e-mail addresses stay there."""
    write_examples(tmp_path / "examples", 20)
    url = settings.database_url.get_secret_value()
    with engine(settings).begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA shop"))
    for name, frame in read_examples(tmp_path / "examples").items():
        frame.write_database(f"shop.{name}", url, engine="adbc")
    tables = "shop.plan, shop.sales:closed_at, shop.stores"
    names = ("--name", "bakery", "--timezone", "Europe/Berlin", "--folder", tmp_path / "projects", "--yes")
    said = typed("tools.new_project", *names, "--database", "shop_db", "--tables", tables)
    assert "Each row of plan gets a prediction of sales.sold (regression)" in " ".join(said.split())
    written = (tmp_path / "projects" / "bakery" / "project.yaml").read_text(encoding="utf-8")
    assert "Kontakt" in written and '\\"Kontakt' not in written, "the query must not select it"
    typed("include.cli", "migrate")
    typed(
        "include.cli",
        "prepare",
        "--project",
        "bakery",
        "--start",
        FIRST + timedelta(days=8),
        "--end",
        FIRST + timedelta(days=9),
    )
    with engine(settings).connect() as connection:
        failed = connection.execute(sa.text("SELECT * FROM data_quality WHERE NOT success AND feed <> 'stores'")).all()
        prepared = connection.execute(sa.text("SELECT day, rows FROM prepared_day_status ORDER BY 1")).all()
    assert failed == []
    assert [tuple(row) for row in prepared] == [(FIRST + timedelta(days=n), 60) for n in (8, 9)]


@pytest.mark.drill
def test_from_example_files_to_published_predictions(settings: Settings, tmp_path: Path, typed: Typed) -> None:
    """Nothing is edited, so this shows that the guesses fit together. The last example day is predicted."""
    write_examples(tmp_path / "examples", DAYS)
    projects = tmp_path / "projects"
    names = ("--name", "bakery", "--timezone", "Europe/Berlin", "--folder", projects)
    said = typed("tools.new_project", *names, "--files", tmp_path / "examples", "--yes")
    assert "Each row of plan gets a prediction of sales.sold (regression)" in " ".join(said.split())
    typed("pytest", "-q", "-p", "no:cacheprovider", projects / "tests" / "bakery")
    shutil.copytree(tmp_path / "examples", Path(settings.landing) / "bakery")
    typed("include.cli", "migrate")
    typed("include.cli", "prepare", "--project", "bakery", "--start", FIRST + timedelta(days=1), "--end", LAST)
    with engine(settings).connect() as connection:
        failed = connection.execute(sa.text("SELECT * FROM data_quality WHERE NOT success AND feed <> 'stores'")).all()
    assert failed == []
    model = ("--model", "bakery_actual_sold")
    of_model = ("--name", "bakery_actual_sold", "--project", "bakery")
    assert "threshold quality: metric: mae, at_most: " in typed("tools.new_model", *of_model, "--thresholds")
    assert "REJECTED" not in typed("include.cli", "gate", *model, "--day", LAST - timedelta(days=1))
    reason = ("--by", "Ada", "--why", "first model")
    typed("include.cli", "promote", *model, "--version", 1, "--from-day", LAST, *reason)
    typed("include.cli", "score", *model, "--start", LAST)
    typed("include.cli", "publish", *model, "--start", LAST)
    with engine(settings).connect() as connection:
        found = connection.execute(
            sa.text("SELECT count(*), count(DISTINCT entity_id), min(score), max(score) FROM current_predictions")
        ).one()
    assert tuple(found[:2]) == (60, 60)
    assert 0 < found[2] < found[3] < 60
