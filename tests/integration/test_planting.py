"""Personal data in every column of every feed is found nowhere: in a night, and in every format."""

import io
import json
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
import yaml
from pyspark.sql import SparkSession

from include.config.loading import load_model
from include.config.model import Model
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.io import spark
from include.operations.simulate import make_frame
from include.training.config import Candidate
from tests.integration.drugstore import moment, put
from tests.integration.shop import PostgreSQL
from tests.integration.training import GATE
from tests.landing import deliver_one, rows_of, sailings
from tests.planting import PLANTED, Told, assert_nothing_planted, plant, quality_results, shared_database, stored

pytestmark = pytest.mark.timeout(600)

VESSEL, CASHIER = "N7ZQX1", "Ilse Plantagenet"
"""An identifier of each project."""

DAY = date(2013, 1, 14)
NIGHTS = Interval(start=date(2013, 1, 1), end=DAY + timedelta(days=1))
BEFORE = DAY - timedelta(days=1)


def expect(project: Project, at_most: float) -> None:
    """Allow a share of quarantined rows; the other rules stay, but for the numbers of rows."""
    path = project.folder / "expectations.yaml"
    declared = yaml.safe_load(path.read_text(encoding="utf-8"))
    share = {"expect": "share_of_quarantined_rows_to_be_at_most", "max_value": at_most, "severity": "critical"}
    for feed in project.feeds:
        rules = [
            rule
            for rule in declared.get(feed) or []
            if not rule["expect"].startswith(("share_of", "row_count", "table_row"))
        ]
        declared[feed] = [*rules, share]
    path.write_text(yaml.safe_dump(declared), encoding="utf-8")


def minutes(day: date, count: int) -> list[str]:
    return [f"{day}T{15 + n // 60}:{n % 60:02}:00Z" for n in range(count)]


def planted_ferries(project: Project) -> dict[str, tuple[date, pl.DataFrame]]:
    """Map each feed to the day and the rows of a file with planted values."""
    ferry = {"company": "UA", "ferry": "7", "origin": "BAT", "dest": "HOB"}
    numbers = [str(n) for n in range(1000, 1300)]
    sailing = {
        **ferry,
        "departs_at": f"{DAY}T15:00:00Z",
        "arrives_local": "1530",
        "distance_miles": "20.5",
        "is_holiday": "false",
        "contact_email": "captain@planted.example",
    }
    logbook = {
        **ferry,
        "departs_at": f"{BEFORE}T15:00:00Z",
        "vessel": "N1AB",
        **dict.fromkeys(("wait_minutes", "delay_minutes", "crossing_minutes"), "7.0"),
    }
    winds = {**dict.fromkeys(project.feeds["winds"].columns, "5.0"), "origin": "BAT"}
    feeds = project.feeds
    return {
        "sailings": (DAY, plant(feeds["sailings"], sailing, ("ferry", numbers), VESSEL)),
        "logbook": (BEFORE, plant(feeds["logbook"], logbook, ("ferry", numbers), VESSEL)),
        "winds": (DAY, plant(feeds["winds"], winds, ("observed_at", minutes(DAY, 300)), VESSEL)),
    }


def small_model(name: str) -> Model:
    """Return a model of `ferries` that learns from a few days."""
    model = load_model(name)
    return model.model_copy(
        update={
            "candidates": (Candidate(name="linear", params={"kind": "linear", "C": 0.1}),),
            "train_days": 8,
            "validation_days": 1,
            "holdout_days": 2,
            "min_fit_days": 3,
            "gate": GATE,
        }
    )


@pytest.fixture
def event_log(tmp_path: Path) -> Iterator[Path]:
    """Return the folder in which Spark writes its event log."""
    spark.session().stop()
    folder = tmp_path / "events"
    folder.mkdir()
    builder = SparkSession.builder.config("spark.eventLog.enabled", "true")
    builder.config("spark.eventLog.compress", "false").config("spark.eventLog.dir", folder.as_uri()).getOrCreate()
    yield folder
    spark.session().stop()


@pytest.mark.spark
def test_a_night_with_planted_values_in_every_column_keeps_and_shows_none(
    load_changed: Callable[..., Project],
    with_mlflow: Settings,
    caplog: pytest.LogCaptureFixture,
    event_log: Path,
) -> None:
    """First the files are refused, because too many rows are wrong, then their wrong rows are quarantined."""
    project, settings, told = load_changed("ferries", lambda declared: None), with_mlflow, Told(caplog)
    for night in NIGHTS.days:
        for feed, day in project.required(night).items():
            if (feed, day) not in {(feed, day) for feed, (day, _) in planted_ferries(project).items()}:
                deliver_one(project, settings, feed, day, make_frame(project, feed, day))
    for feed, (day, rows) in planted_ferries(project).items():
        deliver_one(project, settings, feed, day, rows)
    expect(project, 0.05)
    told.run("land", project, NIGHTS, settings)
    with pytest.raises(DataError):
        told.run("validate", project, NIGHTS, settings)
    assert "malformed values" in told.said[-1]
    expect(project, 0.9)
    assert told.run("validate", project, NIGHTS, settings).quarantined > 100
    assert "(form +99 999 9999999)" in quality_results(settings)

    told.run("build_features", project, NIGHTS, settings)
    model, train, scored = small_model("late_ferry"), Interval.of(DAY), Interval.of(NIGHTS.end)
    fitted = [told.run("fit", model, train, settings, candidate="linear")]
    evaluated = told.run("evaluate", model, train, settings, fitted=fitted)
    decision = told.run("gate", model, train, settings, evaluated=evaluated, fitted=fitted)
    told.run("promote", model, scored, settings, version=decision.model_version, by="ana", why="a test", force=True)
    told.run("score", model, scored, settings, versions={NIGHTS.end: decision.model_version})
    told.run("publish", model, scored, settings)
    told.run("outcomes", project, NIGHTS, settings)
    told.run("monitor", project, scored, settings)

    databases = (shared_database(settings), settings.mlflow_tracking_uri.get_secret_value())
    found = [*stored(settings, *databases, besides=(event_log,)), *told.texts()]
    assert_nothing_planted(found, VESSEL)
    assert any("SparkListenerJobEnd" in text for where, text in found if where.startswith(str(event_log)))
    assert {"table predictions", "table model_versions", "table journal"} <= {where for where, text in found if text}
    assert any(".html" in where for where, _ in found)
    assert any(where.endswith("/MLmodel") for where, _ in found)


PRICES = """
SELECT item_id, price, valid_on, changed, buyer, phone FROM shop.planted WHERE valid_on_day = :day ORDER BY item_id
"""


def with_prices(declared: dict[str, Any]) -> None:
    """Add a feed that is extracted, and columns of each class to the others."""
    public = {"class": "public"}
    buyer = {"buyer": {"type": "string", "class": "identifier", "format": "[A-Z][a-z]+ Plantagenet"}}
    personal = {**buyer, "phone": {"type": "string", "class": "sensitive"}, "paid": {"type": "boolean", **public}}
    for feed in declared["feeds"].values():
        feed["columns"] |= personal
    declared["feeds"]["prices"] = {
        "source": {"kind": "sql", "connection": "shop_db", "query": PRICES.strip()},
        "live_from": date(2026, 11, 1),
        "key": ["item_id"],
        "day_column": "valid_on",
        "columns": {
            "item_id": {"type": "string", "format": "[a-z0-9-]+", **public},
            "price": {"type": "double", **public},
            "valid_on": {"type": "date", **public},
            "changed": {"type": "timestamp", **public},
            **buyer,
            "phone": {"type": "string", "class": "sensitive"},
        },
    }


PLAN_DAY = date(2026, 11, 12)
SALES_DAY = PLAN_DAY - timedelta(days=7)
NIGHT = Interval.of(PLAN_DAY)


def planted_shop(project: Project) -> dict[str, pl.DataFrame]:
    """Map each feed of `drugstore` to rows with planted values."""
    items, numbers = [f"i{n}" for n in range(300)], [str(n) for n in range(1, 300)]
    personal = {"buyer": CASHIER, "phone": PLANTED["phone"], "paid": "true"}
    plan = {"item_id": "i1", "store_id": "1", "delivery_date": str(PLAN_DAY), "planned": "7", **personal}
    sale = {"item_id": "i1", "sale_date": str(SALES_DAY), "cashier": PLANTED["name"], "pieces": "2,5", **personal}
    store = {"store_id": "1", "region": "north", "area": "10.5", **personal}
    price = {"item_id": "i1", "price": "1.5", "valid_on": str(PLAN_DAY), "changed": f"{PLAN_DAY}T00:00:00Z", **personal}
    given = {
        "plan": (plan, ("item_id", items)),
        "sales": (sale, ("item_id", items)),
        "stores": (store, ("store_id", numbers)),
        "prices": ({name: price[name] for name in project.feeds["prices"].columns}, ("item_id", items)),
    }
    return {feed: plant(project.feeds[feed], *about, CASHIER) for feed, about in given.items()}


def deliver_shop(settings: Settings, files: dict[str, pl.DataFrame]) -> Settings:
    """Deliver JSON lines, CSV and Parquet, and write the rows of the query; return settings with its connection."""
    at, content = moment(PLAN_DAY - timedelta(days=1), 20), io.BytesIO()
    lines = "".join(f"{json.dumps(row)}\n" for row in files["plan"].to_dicts())
    put(settings, f"plan/{PLAN_DAY}/plan.jsonl", lines.encode(), at)
    put(settings, f"sales/{SALES_DAY}/sales.csv", files["sales"].write_csv(separator=";").encode(), at)
    files["stores"].write_parquet(content)
    put(settings, "stores/stores.parquet", content.getvalue(), at)
    shop = PostgreSQL(settings)
    names = ", ".join(f"{name} text" for name in files["prices"].columns)
    shop.run(f"CREATE TABLE shop.planted ({names}, valid_on_day date)")
    with shop.engine.begin() as connection:
        values = ", ".join(f":{name}" for name in files["prices"].columns)
        statement = sa.text(f"INSERT INTO shop.planted VALUES ({values}, '{PLAN_DAY}')")
        connection.execute(statement, files["prices"].to_dicts())
    return shop.settings


def test_no_format_and_no_query_lets_a_planted_value_through(
    load_changed: Callable[..., Project], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    project, told = load_changed("drugstore", with_prices), Told(caplog)
    settings = deliver_shop(settings, planted_shop(project))
    expect(project, 0.05)
    told.run("extract", project, NIGHT, settings)
    assert told.run("land", project, NIGHT, settings).refused == ()
    with pytest.raises(DataError):
        told.run("validate", project, NIGHT, settings)
    results = quality_results(settings)
    for feed in project.feeds:
        assert f",{feed}," in results
    expect(project, 0.9)
    validated = told.run("validate", project, NIGHT, settings)
    assert (validated.accepted, validated.refused) == (4, ())
    for feed, rows in planted_shop(project).items():
        assert rows_of(settings, f"quarantine_drugstore__{feed}").height > rows.height / 4, feed
        assert rows_of(settings, f"clean_drugstore__{feed}").height >= rows.height / 2, feed
    found = [*stored(settings, shared_database(settings)), *told.texts()]
    assert_nothing_planted(found, CASHIER)


def test_free_text_is_in_tables_and_in_no_message(
    load_changed: Callable[..., Project], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """A public text column without a format has any form; nobody but readers of tables sees what is in it."""
    project, told = load_changed("ferries", lambda declared: None), Told(caplog)
    text = list(PLANTED.values())
    rows = sailings(DAY, 40).with_columns(arrives_local=pl.Series([text[n % len(text)] for n in range(40)]))
    deliver_one(project, settings, "sailings", DAY, rows)
    regex = {"expect": "column_values_to_match_regex", "column": "arrives_local", "regex": "^[0-9]{4}$"}
    common = {"expect": "column_most_common_value_to_be_in_set", "column": "arrives_local", "value_set": ["1530"]}
    rules = {"sailings": [{**rule, "severity": "warning"} for rule in (regex, common)]}
    (project.folder / "expectations.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    told.run("land", project, Interval.of(DAY), settings, sweep=True)
    with pytest.raises(DataError):  # other files of the day are not there
        told.run("validate", project, Interval.of(DAY), settings)
    assert PLANTED["name"] in rows_of(settings, "clean_ferries__sailings")["arrives_local"]
    results = quality_results(settings)
    assert "(form aaaaa aaaaaaaaaa)" in results
    assert "(hidden)" in results
    elsewhere = [each for each in stored(settings, shared_database(settings)) if "__sailings" not in each[0]]
    assert_nothing_planted([*elsewhere, *told.texts()], VESSEL)
