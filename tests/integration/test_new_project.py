"""`make new-project`: what it writes from example files is run as it is, up to published predictions."""

import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from include.core.settings import Settings
from include.io.postgres.connection import engine
from tests.bakery import FIRST, write_examples
from tests.integration.shop import PostgreSQL
from tools.new_project.__main__ import find

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
DAYS = 80
LAST = FIRST + timedelta(days=DAYS - 1)


def test_from_example_files_to_published_predictions(settings: Settings, tmp_path: Path) -> None:
    """Nothing is edited, so this shows that the guesses fit together. The last example day is predicted."""
    write_examples(tmp_path / "examples", DAYS)
    projects = tmp_path / "projects"
    environment = os.environ | {
        "NIGHTLY_PROJECTS": str(projects),
        "NIGHTLY_LANDING": settings.landing,
        "NIGHTLY_TABLES": settings.tables,
        "NIGHTLY_ARTIFACTS": settings.artifacts,
        "NIGHTLY_JOURNAL": settings.journal,
        "NIGHTLY_DATABASE_URL": settings.database_url.get_secret_value(),
        "NIGHTLY_MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri.get_secret_value(),
        "NIGHTLY_HASH_KEY": settings.hash_key.get_secret_value(),
    }

    def typed(module: str, *arguments: object) -> str:
        command = [sys.executable, "-m", module, *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    projects.mkdir()
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
    of_model = ("--name", "bakery_actual_sold", "--project", "bakery", "--thresholds")
    assert "threshold quality: metric: mae, at_most: " in typed("tools.new_model", *of_model)
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


def test_tables_of_postgresql_become_sql_feeds(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = PostgreSQL(settings)
    for n in range(30):
        day = FIRST + timedelta(days=n)
        for item in ("bread", "cake", "milk"):
            shop.put((item, f"{n}.25", day, f"{day} 12:00+00"))
    shop.run("CREATE TABLE shop.plan AS SELECT item_id, valid_on AS delivery_day FROM shop.prices")
    url = shop.settings.sources["shop_db"].get_secret_value()
    monkeypatch.setenv("NIGHTLY_SOURCES", json.dumps({"shop_db": url}))
    found = find(None, "Europe/Berlin", "plan", "prices.price", "shop_db", "plan,prices")
    assert found.entity.files.days == [FIRST + timedelta(days=n) for n in range(30)]
    kinds = {name: column.type for name, column in found.result.columns.items()}
    assert kinds == {"item_id": "string", "price": "double", "valid_on": "date", "changed": "timestamp"}
    assert found.result.rows.height == 90
