"""A shop made from `drugstore` whose entity is a customer: an identifier in its key, and in feeds."""

import json
import shutil
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import include.projects
from include.config.loading import load_model
from include.config.model import Model
from include.core.project import Project
from include.core.settings import Settings
from tests.integration.drugstore import moment, put
from tests.own_projects import FOLDER

FIRST = date(2026, 11, 2)
"""The first run date. It is a Monday."""

NAMES = ("Erika Mustermann", "Max Beispiel", "Ada Lovelace", "Alan Turing", "Grace Hopper", "Kurt Goedel")

CUSTOMER = {"type": "string", "class": "identifier", "format": "[A-Z][a-z]+ [A-Z][a-z]+"}


def customers(declared: dict[str, Any]) -> None:
    """Change the declaration of `drugstore`: a plan for each customer and store, and what they bought."""
    feeds = declared["feeds"]
    del feeds["stores"]
    declared["entity"] = {"feed": "plan", "key": ["customer", "store_id"], "public": ["store_id"]}
    feeds["plan"]["key"] = ["customer", "store_id"]
    feeds["plan"]["columns"] = {
        "customer": dict(CUSTOMER),
        "store_id": {"type": "integer", "class": "public"},
        "delivery_date": {"type": "date", "class": "public"},
        "planned": {"type": "integer", "class": "public"},
        "e_mail": {"type": "string", "class": "sensitive"},
    }
    feeds["sales"] |= {"key": ["customer", "store_id"], "delay_days": 1, "lookback_days": 3, "days": "mon-sun"}
    feeds["sales"]["columns"] = {
        "customer": dict(CUSTOMER),
        "store_id": {"type": "integer", "class": "public"},
        "sale_date": {"type": "date", "class": "public"},
        "cashier": {"type": "string", "class": "identifier", "format": "[A-Z][a-z]+ [A-Z][a-z]+"},
        "pieces": {"type": "double", "class": "public"},
    }
    declared["outcomes"] = {"sold": {"feed": "sales", "sql": "pieces", "description": "pieces"}}


def put_day(settings: Settings, run_date: date, names: tuple[str, ...] = NAMES) -> None:
    """Deliver what a run date reads: its plan, and the sales of the day before. One number is not as declared."""
    plan = [
        {
            "customer": name,
            "store_id": 1 + number % 2,
            "delivery_date": str(run_date),
            "planned": 7 if number else "0170 5550199",
            "e_mail": "erika@planted.example",
        }
        for number, name in enumerate(names)
    ]
    text = "".join(f"{json.dumps(row)}\n" for row in plan)
    put(settings, f"plan/{run_date}/plan.jsonl", text.encode(), moment(run_date - timedelta(days=1), 20))
    day = run_date - timedelta(days=1)
    sales = pl.DataFrame({
        "customer": names,
        "store_id": [1 + number % 2 for number in range(len(names))],
        "sale_date": [str(day)] * len(names),
        "cashier": ["Ilse Plantagenet"] * len(names),
        "pieces": [f"{number},5" for number in range(len(names) - 1)] + ["Rosa Luxemburg"],
    })
    put(settings, f"sales/{day}/sales.csv", sales.write_csv(separator=";").encode(), moment(run_date, 1))


def write_rules(project: Project) -> None:
    """Let half of the rows be wrong."""
    share = "{expect: share_of_quarantined_rows_to_be_at_most, max_value: 0.5, severity: critical}"
    text = f"plan:\n  - {share}\nsales:\n  - {share}\n"
    (project.folder / "expectations.yaml").write_text(text, encoding="utf-8")


def write_model(project: Project, **changed: Any) -> Model:
    """Add the model `sold_pieces` to the project, whose categories are customers."""
    source, folder = FOLDER / "ferries" / "models" / "ferry_delay", project.folder / "models" / "sold_pieces"
    shutil.copytree(source, folder, dirs_exist_ok=True)
    declared = yaml.safe_load((source / "model.yaml").read_text(encoding="utf-8"))
    declared |= {"title": "Sold", "outcome": "sold", "numeric": ["planned"], "categorical": ["customer"], **changed}
    declared["monitors"] = []
    checks = [check for check in declared["gate"]["checks"] if check["kind"] != "slices"]
    slices = {"kind": "slices", "by": ["customer"], "min_rows": 300, "at_most": 0.05}
    declared["gate"]["checks"] = [*checks, slices]
    (folder / "model.yaml").write_text(yaml.safe_dump(declared), encoding="utf-8")
    load_model.cache_clear()
    return load_model("sold_pieces")


FEATURES = """
from pyspark.sql import DataFrame

from include.features import Feeds


def build(feeds: Feeds) -> DataFrame:
    visits = feeds.current("plan").drop("delivery_date")
    return feeds.add_windows(visits, "sales", by="customer", days=[1, 3], sold=("sold", "mean"))
"""


def import_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python import the code of the project from this folder, as from those of NIGHTLY_PROJECTS."""
    monkeypatch.setattr(include.projects, "__path__", [str(folder), *include.projects.__path__])
    for name in ("include.projects.drugstore", "include.projects.drugstore.features"):
        monkeypatch.setitem(sys.modules, name, sys)  # so that what is imported meanwhile is removed afterwards
        monkeypatch.delitem(sys.modules, name)
