"""extract: rows of real databases become deliveries, with what counts from when, and what is wrong said."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
import yaml

from include.config.loading import load_project
from include.core.errors import DeliveryError, UnreachableError
from include.core.intake import NotYetError
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres
from include.steps import extract as extract_module
from include.steps.extract import extract
from include.steps.land import land
from include.steps.validate import validate
from tests.integration.drugstore import put_plan
from tests.integration.shop import AS_OF, FIRST, PASSWORD, PLAIN, PostgreSQL, Sqlite, prices, settings_of
from tests.landing import deliveries_of, rows_of
from tests.own_projects import FOLDER

Load = Callable[..., Project]
DAY = FIRST + timedelta(days=4)
RUN = Interval.of(DAY)


@pytest.fixture
def shop(settings: Settings) -> PostgreSQL:
    return PostgreSQL(settings)


@pytest.fixture
def declare_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Return a function that declares the feed `prices` in a copy of `drugstore`; see `shop.prices`."""
    folder = tmp_path / "projects" / "drugstore"
    shutil.copytree(FOLDER / "drugstore", folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("NIGHTLY_PROJECTS", str(folder.parent))

    def load(query: str = PLAIN, **keys: Any) -> Project:
        declared = yaml.safe_load((FOLDER / "drugstore" / "project.yaml").read_text(encoding="utf-8"))
        prices(query, **keys)(declared)
        (folder / "project.yaml").write_text(yaml.safe_dump(declared), encoding="utf-8")
        load_project.cache_clear()
        return load_project("drugstore")

    yield load
    load_project.cache_clear()


@pytest.fixture
def project(declare_prices: Load) -> Project:
    return declare_prices(AS_OF, live_from=None)


def asked(monkeypatch: pytest.MonkeyPatch) -> list[date]:
    """Return a list that gets the day of each query that is run."""
    days: list[date] = []
    run_query = extract_module.run_query

    def counted(feed: Any, values: Any, settings: Settings) -> pl.DataFrame:
        days.append(values["day"])
        return run_query(feed, values, settings)

    monkeypatch.setattr(extract_module, "run_query", counted)
    return days


class TestPastDays:
    def test_a_run_date_extracts_what_it_reads(self, project: Project, shop: PostgreSQL) -> None:
        shop.put_days(Interval(start=FIRST, end=DAY).days)
        extracted = extract(project, RUN, shop.settings)
        assert (extracted.new, extracted.rows, extracted.known, extracted.left) == (3, 6, 0, ())
        listed = deliveries_of(shop.settings, project.name)
        assert listed["day"].to_list() == [DAY - timedelta(days=n) for n in (2, 1, 0)]
        assert listed["key"][-1] == f"sql/prices/{DAY}"
        assert listed["delivery_id"][-1] == f"sql/prices/{DAY}@{listed['sha256'][-1][:16]}"
        raw = rows_of(shop.settings, "raw_drugstore__prices")
        assert raw.filter(pl.col("day") == DAY).select("_row", "item_id", "price", "valid_on", "changed").rows() == [
            (1, "i1", "1.500", str(DAY), f"{DAY - timedelta(days=1)}T18:00:00Z"),
            (2, "i2", "2.250", str(DAY), f"{DAY - timedelta(days=1)}T18:00:00Z"),
        ]
        again = extract(project, RUN, shop.settings)
        assert (again.new, again.known) == (0, 0)
