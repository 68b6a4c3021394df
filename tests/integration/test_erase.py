"""A person is erased from every place, everybody else stays as they were, and the person never comes back."""

import gzip
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
import yaml
from deltalake import DeltaTable

from include.core.interval import Interval
from include.core.personal import HashKey
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres
from include.io.tables import Tables
from include.operations import erase as erasing
from include.operations.check import check
from include.operations.simulate import maker
from tests.integration.test_planting import small_model
from tests.landing import deliver_one
from tests.planting import Told, shared_database, stored

pytestmark = pytest.mark.timeout(900)

PERSON, OTHER = "N7ZQX", "N8ABC"
"""The identifiers of the person who is erased, and of another one who stays."""

DAY = date(2013, 1, 14)
SCORED = Interval.of(DAY + timedelta(days=1))
NIGHTS = Interval(start=date(2013, 1, 1), end=SCORED.end)
NEXT = Interval.of(SCORED.end + timedelta(days=1))
FERRY, OTHERS_FERRY = 103, 104


def vessel_in_sailings(in_key: bool) -> Callable[[dict[str, Any]], None]:
    """Return the change that gives a sailing the identifier of its vessel, in the entity's key or beside it."""

    def change(declared: dict[str, Any]) -> None:
        vessel = declared["feeds"]["logbook"]["columns"]["vessel"]
        declared["feeds"]["sailings"]["columns"]["vessel"] = vessel
        if in_key:
            declared["entity"]["key"].append("vessel")
            for feed in ("sailings", "logbook"):
                declared["feeds"][feed]["key"].append("vessel")

    return change


def frame(project: Project, feed: str, day: date) -> pl.DataFrame:
    """Return the rows of a file; one of them is the person's, and one the other person's."""
    rows: pl.DataFrame = maker(project).FEEDS[feed](project.timezone, day)
    if "ferry" in rows.columns:
        named = pl.when(pl.col("ferry") == FERRY).then(pl.lit(PERSON))
        named = named.when(pl.col("ferry") == OTHERS_FERRY).then(pl.lit(OTHER))
        rows = rows.with_columns(vessel=named.otherwise(pl.format("N{}ZX", "ferry")))
    return rows.select([*project.feeds[feed].columns])


def deliver(project: Project, settings: Settings, nights: Interval) -> None:
    for night in nights.days:
        for feed, day in project.required(night).items():
            deliver_one(project, settings, feed, day, frame(project, feed, day))


def swapped(project: Project, settings: Settings) -> None:
    """Deliver a correction in which the person's identifier is in a public column: it is sealed and quarantined."""
    rows = frame(project, "sailings", DAY)
    person = pl.col("ferry") == FERRY + 1000
    more = rows.filter(pl.col("ferry") == FERRY).with_columns(ferry=pl.lit(FERRY + 1000, pl.Int64))
    rows = pl.concat([rows, more]).with_columns(
        origin=pl.when(person).then(pl.lit(PERSON)).otherwise("origin"),
        vessel=pl.when(person).then(pl.lit("N1AAA")).otherwise("vessel"),
    )
    deliver_one(project, settings, "sailings", DAY, rows, name="again")


def loosen(project: Project) -> None:
    """Let a few wrong rows be quarantined."""
    share = {"expect": "share_of_quarantined_rows_to_be_at_most", "max_value": 0.5, "severity": "critical"}
    rules = {feed: [share] for feed in project.feeds}
    (project.folder / "expectations.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")


def prepare(told: Told, project: Project, nights: Interval, settings: Settings) -> None:
    for step in ("land", "validate", "build_features"):
        told.run(step, project, nights, settings)


def train_and_publish(told: Told, project: Project, settings: Settings) -> int:
    model, train = small_model("late_ferry"), Interval.of(DAY)
    fitted = [told.run("fit", model, train, settings, candidate="linear")]
    evaluated = told.run("evaluate", model, train, settings, fitted=fitted)
    decision = told.run("gate", model, train, settings, evaluated=evaluated, fitted=fitted)
    version = int(decision.model_version)
    told.run("promote", model, SCORED, settings, version=version, by="ana", why="a test", force=True)
    publish(told, SCORED, settings, version)
    told.run("outcomes", project, NIGHTS, settings)
    told.run("monitor", project, SCORED, settings)
    return version


def publish(told: Told, day: Interval, settings: Settings, version: int) -> None:
    model = small_model("late_ferry")
    told.run("score", model, day, settings, versions={day.start: version})
    told.run("publish", model, day, settings, versions={day.start: version})


def hashed(settings: Settings, identifier: str = PERSON) -> str:
    return HashKey.of(settings.hash_key.get_secret_value()).hashed(identifier)


def found(settings: Settings, *needles: str) -> list[str]:
    """Return the places, besides landing, that have one of these texts."""
    databases = (shared_database(settings), settings.mlflow_tracking_uri.get_secret_value())
    texts = [*stored(settings, *databases)]
    assert {"table predictions", "table journal"} <= {where for where, _ in texts}
    return [where for where, text in texts if any(needle in text for needle in needles)]


def in_landing(settings: Settings) -> list[Path]:
    def text(path: Path) -> bytes:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content

    return [p for p in Path(settings.landing).rglob("*") if p.is_file() and PERSON.encode() in text(p)]


def is_proof(settings: Settings, where: str) -> bool:
    return where == "table journal" or where.startswith(settings.journal)


def every_version(settings: Settings) -> dict[tuple[str, int], pl.DataFrame]:
    tables, read = Tables(settings), {}
    for folder in sorted(Path(settings.tables).glob("*/_delta_log")):
        name = folder.parent.name
        for version in range(tables.version(name) + 1):
            rows = tables.scan(name, version).collect()
            read[name, version] = rows.sort(rows.columns)
    return read


def table(settings: Settings, name: str) -> pl.DataFrame:
    with postgres.connection.engine(settings).connect() as connection:
        rows = connection.execute(sa.text(f"SELECT t::text AS row FROM {name} t ORDER BY 1")).scalars()
        return pl.DataFrame({"row": [*rows]}, schema={"row": pl.String})


@pytest.mark.spark
def test_a_person_in_the_key_is_erased_everywhere_and_stays_out(
    load_changed: Callable[..., Project], with_mlflow: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    project, settings, told = load_changed("ferries", vessel_in_sailings(in_key=True)), with_mlflow, Told(caplog)
    loosen(project)
    deliver(project, settings, NIGHTS)
    swapped(project, settings)
    migrate_entities(settings, project)
    prepare(told, project, NIGHTS, settings)
    version = train_and_publish(told, project, settings)
    DeltaTable(str(Path(settings.tables) / "raw_ferries__sailings")).create_checkpoint()

    person, other = hashed(settings), hashed(settings, OTHER)
    sealed = HashKey.of(settings.hash_key.get_secret_value()).seal(PERSON)
    places = found(settings, person, sealed)
    for place in ("predictions", "entities_ferries", "outcomes", "raw_ferries__sailings", "clean_ferries__logbook"):
        assert any(place in where for where in places), place
    for place in ("quarantine_ferries__sailings", "features_ferries", "scores_late_ferry", "checkpoint.parquet"):
        assert any(place in where for where in places), place
    before, published, said = every_version(settings), table(settings, "predictions"), check_text(project, settings)

    looked = erasing.look(project, settings, [PERSON])
    assert not looked.is_clean
    assert every_version(settings).keys() == before.keys()
    done = erasing.erase(project, settings, [PERSON], by="ana", why="ticket 7", remove_originals=True)
    assert done.rows["predictions"] == looked.rows["predictions"] == 1
    assert done.rows["raw_ferries__sailings"] >= len(NIGHTS.days)
    assert done.left == []
    assert erasing.look(project, settings, [PERSON]).is_clean

    assert [where for where in found(settings, person) if not is_proof(settings, where)] == []
    assert found(settings, PERSON, sealed) == []
    assert in_landing(settings) == []
    after = every_version(settings)
    for name, rows in before.items():
        assert after[name].equals(without(rows, person, sealed)), name
    assert table(settings, "predictions").equals(published.filter(~pl.col("row").str.contains(person)))
    assert published.filter(pl.col("row").str.contains(other)).height == 1
    assert check_text(project, settings) == said

    again = erasing.erase(project, settings, [PERSON], by="ana", why="ticket 7")
    assert (again.sequences, +again.rows) == (done.sequences, {})

    deliver(project, settings, NEXT)
    prepare(told, project, NEXT, settings)
    publish(told, NEXT, settings, version)
    told.run("outcomes", project, NEXT, settings)
    assert [where for where in found(settings, person) if not is_proof(settings, where)] == []
    assert found(settings, PERSON) == []
    assert any(other in row for row in table(settings, "predictions")["row"].to_list())
    left_out = table(settings, "data_quality").filter(pl.col("row").str.contains("no_rows_of_erased_persons"))
    assert left_out.height == 2  # sailings of the day, and the logbook of the day before
    assert all(PERSON not in text and person not in text for _, text in told.texts())


def without(rows: pl.DataFrame, *needles: str) -> pl.DataFrame:
    texts = [name for name, kind in rows.schema.items() if kind == pl.String]
    theirs = pl.any_horizontal(pl.col(name).str.contains_any([*needles]).fill_null(value=False) for name in texts)
    return rows.filter(~theirs)


def check_text(project: Project, settings: Settings) -> list[str]:
    return check(project, NIGHTS, settings)


def migrate_entities(settings: Settings, project: Project) -> None:
    with postgres.connection.engine(settings).begin() as connection:
        postgres.migrations.entity_tables.extend(connection, project)
