"""Prepared data of production on a laptop: a fraction of the entities, hashed again, and nothing else.

Production lands and validates real files of a shop whose entities are customers; a laptop fits and scores.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from include.config.loading import load_model, load_project
from include.core.errors import ActionRequiredError, ConfigError, DataError
from include.core.fraction import in_fraction
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.personal import HashKey
from include.core.point_in_time import known_deliveries
from include.core.production import Production
from include.core.project import Project
from include.core.records import PreparedDay, Pulled
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import export, read_journal
from include.io.tables import Scope, Tables
from include.operations import pull as operation
from include.operations.decide import withdraw
from include.operations.pull import pull
from include.operations.rehash import rehash
from include.operations.repair import repair
from include.runner.run import run
from include.steps.land import land
from include.steps.validate import validate
from tests.conftest import Install
from tests.integration.loyalty import FIRST, customers, import_from, put_day, write_model, write_rules
from tests.integration.nights import Killed
from tests.integration.test_rehash import killed_after
from tests.landing import rows_of
from tests.planting import stored

PRODUCTION, LAPTOP = "the key of production, which never leaves it", "the key of a laptop, made by its owner"
NAMES = tuple(f"{first} {last}" for first in ("Ada", "Max", "Eva", "Kurt", "Rosa") for last in ("Wolf", "Lang", "Kern"))
DAYS = Interval(start=FIRST, end=FIRST + timedelta(days=6))
SHARE = 0.4
WHO = {"by": "dan", "why": "to try a feature"}


@dataclass
class Two:
    """Production, and a laptop that reads it."""

    project: Project
    production: Settings
    laptop: Settings

    @property
    def source(self) -> Settings:
        """Return production as the laptop sees it: with the login of a person on call."""
        url = sa.make_url(self.production.database_url.get_secret_value()).set(username="dan")
        there = Production(
            tables=self.production.tables,
            journal=self.production.journal,
            database_url=SecretStr(url.render_as_string(hide_password=False)),
        )
        return there.read_with(self.laptop)

    def pull(self, days: Interval = DAYS, fraction: float = SHARE, key: str = LAPTOP) -> Pulled:
        laptop = self.laptop.model_copy(update={"hash_key": SecretStr(key)})
        return pull(self.project, days, laptop, self.source, fraction=fraction, **WHO)

    def audit(self) -> list[tuple[Any, ...]]:
        statement = "SELECT project, first_day, last_day, entity_fraction, by, why, login, rows FROM data_pulls"
        return query(self.source, f"{statement} ORDER BY begun_at")


def query(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    with postgres.connection.engine(settings).connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def prepare(project: Project, settings: Settings, days: Interval) -> None:
    """Land, validate and record the days; the features are a number, and a customer twice."""
    land(project, days, settings)
    validate(project, days, settings)
    tables, journal = Tables(settings), read_journal(settings, project)
    rows = tables.scan("clean_drugstore__plan").filter(pl.col("day").is_between(days.start, days.end)).collect()
    moments = pl.DataFrame({"day": days.days, "as_of": [project.cutoff_at(day) for day in days.days]})
    features = rows.join(moments, on="day").select(
        "day",
        "entity_id",
        "planned",
        "customer",
        "as_of",
        shopper=pl.format("shopper {} of {}", "customer", "store_id"),
        data_view=pl.lit("point_in_time"),
    )
    written = tables.replace("features_drugstore", features, Scope(days), sort_by=["day", "entity_id"])
    counted = dict(rows.group_by("day").len().iter_rows())
    prepared = [
        PreparedDay(
            project=project.name,
            day=day,
            data_view="point_in_time",
            as_of=project.cutoff_at(day),
            watermark=journal.watermark,
            deliveries=tuple(known_deliveries(project, journal, Interval.of(day))["delivery_id"].unique().sort()),
            table_versions={"features_drugstore": written.version},
            rows=counted[day],
        )
        for day in days.days
    ]
    postgres.days.record_prepared_days(settings, project.name, prepared)
    export(settings, project.name)


@pytest.fixture
def two(
    load_changed: Callable[..., Project],
    with_mlflow: Settings,
    install: Install,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Two]:
    project = load_changed("drugstore", customers)
    import_from(tmp_path, monkeypatch)
    write_rules(project)
    write_model(project, train_days=6, validation_days=1, holdout_days=2, min_fit_days=3)
    with install(tmp_path / "production") as made, login_of_dan(made):
        production = made.model_copy(update={"hash_key": SecretStr(PRODUCTION)})
        for day in DAYS.days:
            put_day(production, day, NAMES)
        prepare(project, production, DAYS)
        yield Two(project, production, with_mlflow.model_copy(update={"hash_key": SecretStr(LAPTOP)}))
    load_model.cache_clear()


@contextmanager
def login_of_dan(settings: Settings) -> Iterator[None]:
    """Make a login of the role ops_reader. Roles belong to the server, so it is removed at the end."""
    made = postgres.connection.engine(settings)
    with made.begin() as connection:
        connection.execute(sa.text("CREATE ROLE dan LOGIN IN ROLE ops_reader"))
    yield
    with made.begin() as connection:
        connection.execute(sa.text("DROP ROLE dan"))


def entities(settings: Settings, table: str) -> set[str]:
    return set(rows_of(settings, table, "day", "entity_id")["entity_id"])


def hashes(key: str) -> list[str]:
    return [HashKey.of(key).hashed(name) for name in (*NAMES, "Ilse Plantagenet")]


def test_a_fraction_comes_hashed_again_and_nothing_else(two: Two) -> None:
    pulled = two.pull()
    assert pulled.days == tuple(DAYS.days)
    ring = HashKey.of(json.dumps([PRODUCTION, LAPTOP]))
    there = rows_of(two.production, "features_drugstore", "day", "entity_id").filter(in_fraction(SHARE))
    here = rows_of(two.laptop, "features_drugstore", "day", "entity_id")
    assert 0 < here.height == there.height == pulled.rows < len(NAMES) * 7 * 0.8
    again = {HashKey.of(PRODUCTION).hashed(name): ring.hashed(name) for name in NAMES}
    store = pl.col("entity_id").str.slice(-1)
    expected = there.with_columns(customer=pl.col("customer").replace_strict(again)).with_columns(
        entity_id=pl.format("{}-{}", "customer", store), shopper=pl.format("shopper {} of {}", "customer", store)
    )
    assert here.equals(expected.select(here.columns).sort("day", "entity_id"))
    of_days = {tuple(sorted(part["entity_id"])) for _, part in here.group_by("day")}
    assert len(of_days) == 1  # the same entities on each day
    sales = rows_of(two.laptop, "clean_drugstore__sales")
    assert sales.height > 0
    assert set(sales["entity_id"]) <= {entity for day in of_days for entity in day}
    assert set(sales["cashier"]) == {ring.hashed("Ilse Plantagenet")}

    names = sorted(path.name for path in Path(two.laptop.tables).iterdir())
    assert names == ["clean_drugstore__sales", "features_drugstore"]
    needles = [
        *hashes(PRODUCTION),
        *hashes(LAPTOP),
        *NAMES,
        "planted.example",
        "5550199",
        "sealed:",
        PRODUCTION,
        LAPTOP,
    ]
    for where, text in stored(two.laptop, two.laptop.database_url.get_secret_value()):
        assert [needle for needle in needles if needle in text] == [], where


def test_the_laptop_fits_evaluates_and_scores(two: Two) -> None:
    pulled, model = two.pull(), load_model("sold_pieces")
    train = Interval.of(DAYS.end)
    fitted = [run("fit", model, train, two.laptop, candidate=each.name) for each in model.candidates]
    evaluated = run("evaluate", model, train, two.laptop, fitted=fitted)
    assert evaluated.model_version == 1
    scored = run("score", model, train, two.laptop, versions={DAYS.end: 1})
    assert 0 < scored.rows == rows_of(two.laptop, "features_drugstore", "day").filter(day=DAYS.end).height
    assert pulled.rows > scored.rows


def test_the_audit_of_production_has_each_pull_and_on_call_reads_it(two: Two) -> None:
    first, later = Interval(start=DAYS.start, end=DAYS.days[5]), DAYS
    rows = [two.pull(days).rows for days in (first, later, later)]
    about = ("dan", "to try a feature", "dan")
    assert two.audit() == [
        ("drugstore", days.start, days.end, SHARE, *about, n)
        for days, n in zip((first, later, later), rows, strict=True)
    ]
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        query(two.source, "INSERT INTO pulls DEFAULT VALUES")
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        query(two.source, "SELECT key_in_use('drugstore')")


def test_without_a_line_in_the_audit_nothing_is_read(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    query_of_owner(two.production, "REVOKE EXECUTE ON FUNCTION begin_pull FROM ops_reader")
    scanned = list[str]()
    monkeypatch.setattr(Tables, "scan", lambda self, table, version=None: scanned.append(self.uri(table)))
    monkeypatch.setattr(operation, "read_exported", lambda *given: scanned.append("journal"))
    with pytest.raises(ActionRequiredError, match=r"could not be entered into the audit .*permission denied"):
        two.pull()
    assert scanned == []
    assert not Path(two.laptop.tables).exists()


def query_of_owner(settings: Settings, statement: str) -> None:
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text(statement))


def state(settings: Settings) -> list[Any]:
    """Return what a pull leaves on the laptop, without the numbers of entries and versions."""
    journal = read_journal(settings, load_project("drugstore"))
    return [
        *(
            rows_of(settings, table, "day", "entity_id").rows()
            for table in ("features_drugstore", "clean_drugstore__sales")
        ),
        journal.deliveries.drop("sequence").sort("delivery_id").rows(),
        sorted((day, record.as_of, record.deliveries) for day, record in journal.records.items()),
        query(settings, "SELECT day, data_view, rows, number FROM prepared_days ORDER BY day"),
    ]


def test_a_pull_that_was_killed_or_is_repeated_ends_the_same(two: Two, install: Install, tmp_path: Path) -> None:
    for owner, name, call in (
        (postgres.pulls, "begin_pull", 1),
        (Tables, "replace", 1),
        (Tables, "replace", 2),
        (postgres.pulls, "end_pull", 1),
        (operation, "_enter", 1),
        (postgres.days, "record_prepared_days", 1),
    ):
        with killed_after(owner, name, call), pytest.raises(Killed):
            two.pull()
    two.pull()
    killed = state(two.laptop)
    two.pull()
    assert state(two.laptop) == killed
    assert len(two.audit()) == 8
    with install(tmp_path / "another") as another:
        at_once = Two(two.project, two.production, another.model_copy(update={"hash_key": SecretStr(LAPTOP)}))
        at_once.pull()
        assert state(at_once.laptop) == killed


def test_two_pulls_of_neighbouring_days_are_one(two: Two, install: Install, tmp_path: Path) -> None:
    two.pull(Interval(start=DAYS.start, end=DAYS.days[4]))
    two.pull(Interval(start=DAYS.days[5], end=DAYS.end))
    with install(tmp_path / "another") as another:
        at_once = Two(two.project, two.production, another.model_copy(update={"hash_key": SecretStr(LAPTOP)}))
        at_once.pull()
        assert state(at_once.laptop) == state(two.laptop)


def test_rows_of_two_laptops_do_not_meet(two: Two, install: Install, tmp_path: Path) -> None:
    two.pull()
    with install(tmp_path / "another") as another:
        other = Two(two.project, two.production, another)
        other.pull(key="the key of another laptop, made by its owner")
        mine, theirs = (rows_of(each.laptop, "features_drugstore", "day")["customer"] for each in (two, other))
    assert mine.n_unique() == theirs.n_unique()
    assert set(mine).isdisjoint(theirs)


def test_a_repair_in_production_comes_with_the_next_pull(two: Two) -> None:
    two.pull()
    deliveries = read_journal(two.production, two.project).deliveries
    [sold] = deliveries.filter(feed="sales", day=DAYS.days[-2])["delivery_id"]
    withdraw(two.project, sold, two.production, by="ana", why="a test")
    repair(two.project, Interval.of(DAYS.end), two.production, by="ana", why="a test")
    assert read_journal(two.production, two.project).records[DAYS.end].number == 2
    two.pull()
    here = read_journal(two.laptop, two.project).deliveries.filter(delivery_id=sold)
    assert here.select("verdict", "why").row(0) == (
        "refused",
        "it is withdrawn in the installation that it was pulled from",
    )
    assert read_journal(two.laptop, two.project).records[DAYS.end].number == 2
    assert query(two.laptop, f"SELECT number FROM prepared_days WHERE day = '{DAYS.end}'") == [(2,)]


REFUSED: list[tuple[str, float, str]] = [
    (PRODUCTION, SHARE, "has the key of the other installation"),
    (json.dumps([PRODUCTION, LAPTOP]), SHARE, "has the key of the other installation"),
    ("another key of this laptop, made by its owner", SHARE, "an earlier pull had another key here"),
    (LAPTOP, 0.2, "an earlier pull had another entity fraction"),
    (LAPTOP, 1.0, "it is a share of the entities"),
    ("short", SHARE, "has 5 bytes"),
]


def test_what_would_not_meet_is_refused(two: Two) -> None:
    two.pull()
    before = state(two.laptop)
    for key, fraction, said in REFUSED:
        with pytest.raises(ConfigError, match=said):
            two.pull(key=key, fraction=fraction)
    assert state(two.laptop) == before


def test_files_are_not_landed_beside_pulled_rows_and_the_other_way_round(two: Two) -> None:
    two.pull()
    put_day(two.laptop, FIRST, NAMES)
    with pytest.raises(ActionRequiredError, match="its rows were pulled from another installation"):
        land(two.project, Interval.of(FIRST), two.laptop)
    other = Two(two.project, two.production, two.production)
    with pytest.raises(ActionRequiredError, match="are the same: pull reads from the one"):
        pull(two.project, DAYS, two.production, two.production, fraction=SHARE, **WHO)
    own = two.production.model_copy(update={"tables": "/nowhere", "journal": two.production.journal})
    with pytest.raises(ActionRequiredError, match="has landed files of drugstore itself"):
        pull(two.project, DAYS, own, other.source.model_copy(update={"journal": "/elsewhere"}), fraction=SHARE, **WHO)


def test_nothing_is_pulled_while_the_key_is_rotated(two: Two) -> None:
    ring = json.dumps([PRODUCTION, "the next key of production, which nobody knows"])
    rotating = two.production.model_copy(update={"hash_key": SecretStr(ring)})
    with killed_after(postgres.hash_keys, "begin", 1), pytest.raises(Killed):
        rehash(rotating, **WHO)
    with pytest.raises(ActionRequiredError, match="the hash key of drugstore is being rotated"):
        two.pull()


def begin_erasure(two: Two) -> int:
    with postgres.journal.write_journal(two.production, two.project.name) as writer:
        [number] = writer.add([Entry(kind="erasure", subject="h:" + "0" * 64, entry={}, **WHO)])
    return number


def test_nothing_is_pulled_before_an_erasure_has_finished(two: Two) -> None:
    number = begin_erasure(two)
    with pytest.raises(ActionRequiredError, match=r"person from drugstore is not finished.*nothing was read"):
        two.pull()
    assert two.audit() == []
    postgres.erasures.finish(two.production, two.project.name, [number])
    assert two.pull().rows > 0


@pytest.mark.parametrize("finished", [True, False])
def test_a_pull_ends_in_an_error_if_a_person_was_erased_meanwhile(
    two: Two, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    copy = operation._copy

    def copied(*given: Any) -> Any:
        number = begin_erasure(two)
        if finished:
            postgres.erasures.finish(two.production, two.project.name, [number])
        return copy(*given)

    monkeypatch.setattr(operation, "_copy", copied)
    with pytest.raises(ActionRequiredError, match=r"a person was erased .*after its rows were read\. Do not use them"):
        two.pull()
    assert [rows for *_, rows in two.audit()] == [None], "it has not ended"
    assert read_journal(two.laptop, two.project).entries.is_empty()


def test_days_that_nobody_prepared_are_refused(two: Two) -> None:
    with pytest.raises(DataError, match="no day of 2030-01-01 is prepared"):
        two.pull(Interval.of(FIRST.replace(year=2030, month=1, day=1)))
