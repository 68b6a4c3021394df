"""check: no finding for a consistent installation, and a sentence for each inconsistency."""

import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import ScoredDay
from include.core.settings import Settings
from include.io import postgres
from include.io.tables import Scope, Tables
from include.operations import check as checking
from include.operations.check import check
from include.steps.publish import publish
from tests.integration import small
from tests.integration.small import DAY

INTERVAL = Interval(start=DAY, end=DAY + timedelta(days=2))


class KnownVersions:
    """A fake registry with versions 1 and 2. Creating the tables of MLflow takes seconds; one test uses them."""

    def __init__(self, settings: Settings) -> None:
        pass

    def get_version(self, model: str, version: int) -> None:
        if version not in (1, 2):
            raise ActionRequiredError(f"{model} has no version {version} in the registry")


@pytest.fixture
def ferries() -> Project:
    return load_project("ferries")


@pytest.fixture
def late() -> Model:
    return load_model("late_ferry")


@pytest.fixture
def published(settings: Settings, ferries: Project, late: Model, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Three days, scored and published; version 2 is champion from the third on. The second has another batch too."""
    monkeypatch.setattr(checking, "Registry", KnownVersions)
    second, third = INTERVAL.days[1:]
    small.prepare(settings, ferries, *INTERVAL.days)
    small.promoted(settings, late.name, 1, DAY)
    small.promoted(settings, late.name, 2, third)
    for day, version in zip(INTERVAL.days, (1, 1, 2), strict=True):
        small.score(settings, ferries, late.name, day, version=version)
    small.score(settings, ferries, late.name, second, version=2)
    publish(late, INTERVAL, settings)
    stored = publish(
        late, Interval.of(second), settings, mode="missing", days=[ScoredDay(day=second, model_version=2, rows=4)]
    )
    assert stored.days[0].state == "kept"
    return settings


@pytest.fixture
def damage(published: Settings) -> Callable[..., None]:
    """Return a function that changes one row as only a superuser can, without triggers and foreign keys."""

    def damage(statement: str, **values: Any) -> None:
        with postgres.connection.engine(published).begin() as connection:
            connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
            assert connection.execute(sa.text(statement), values).rowcount == 1

    return damage


def test_a_consistent_installation_has_no_finding(published: Settings, ferries: Project) -> None:
    assert check(ferries, INTERVAL, published) == []


ROW = "batch_id = (SELECT batch_id FROM published WHERE day = '2013-03-02') AND entity_id LIKE 'UA-1-%'"
UNPUBLISHED = "batch_id NOT IN (SELECT batch_id FROM published) AND entity_id LIKE 'UA-1-%'"


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (f"UPDATE predictions SET score = score + 1e-15 WHERE {ROW}", ["2013-03-02: batch .*digest differs"]),
        (f"UPDATE predictions SET prediction = 1 WHERE {ROW}", ["2013-03-02: batch .*digest differs"]),
        (
            f"UPDATE predictions SET entity_id = 'UA-9' WHERE {ROW}",
            ["the digest differs", "1 published .* no row of entities"],
        ),
        (
            f"UPDATE predictions SET score = 0 WHERE {UNPUBLISHED}",
            [r"2013-03-02: batch .*version 2.*digest differs"],
        ),
        (f"DELETE FROM predictions WHERE {ROW}", ["2013-03-02: batch .* says 4 rows, predictions has 3", "digest"]),
        (
            f"UPDATE predictions SET day = '2013-03-03' WHERE {ROW}",
            ["2013-03-02: batch .* 1 rows .* another model or day"],
        ),
        (
            "UPDATE batches SET model_version = 2 WHERE model_version = 1 AND day = '2013-03-02'",
            ["id does not follow", "version 2, but when run test published it, .* had version 1"],
        ),
        (
            "UPDATE batches SET rows = 5 WHERE day = '2013-03-01'",
            [
                "2013-03-01: batch .* says 5 rows, predictions has 4",
                "2013-03-01: .* has 5 rows, the prepared day has 4",
            ],
        ),
        (
            "UPDATE published SET batch_id = gen_random_uuid() WHERE day = '2013-03-01'",
            ["2013-03-01: published batch .* does not exist"],
        ),
        (
            (
                "UPDATE published SET batch_id = other.batch_id FROM published AS other "
                "WHERE published.day = '2013-03-01' AND other.day = '2013-03-02'"
            ),
            [
                "2013-03-01: .* belongs to late_ferry 2013-03-02",
                "2013-03-01: .*no prepared day has that time",
            ],
        ),
        (
            "DELETE FROM published WHERE day = '2013-03-03'",
            ["2013-03-03: version 2 is champion by the promotion history, but nothing is published"],
        ),
        (
            "UPDATE prepared_days SET rows = 3 WHERE day = '2013-03-02'",
            ["prepared day .* has 3 rows, features_ferries has 4", "prepared day has 3"],
        ),
        (
            "UPDATE prepared_days SET as_of = as_of + interval '1 hour' WHERE day = '2013-03-02'",
            ["2013-03-02: .* as of 2013-03-02 08:00:00 UTC, but no prepared day"],
        ),
        (
            "DELETE FROM prepared_days WHERE day = '2013-03-02'",
            [
                "2013-03-02 is not prepared",
                "features_ferries has 4 rows .* the day is not prepared",
                "no prepared day has that time",
            ],
        ),
        (
            "DELETE FROM promotions WHERE model_version = 1",
            ["2013-03-01: .* version 1, .* had no champion", "2013-03-02: .* version 1, .* had no champion"],
        ),
        (
            "UPDATE promotions SET model_version = 7 WHERE model_version = 2",
            [
                "2013-03-03: .* version 2, .* had version 7",
                "2013-03-03: the promotion history names version 7 .* no version 7",
            ],
        ),
        (
            "DELETE FROM entities_ferries WHERE day = '2013-03-01' AND entity_id LIKE 'UA-1-%'",
            ["2013-03-01: 1 published predictions have no row of entities"],
        ),
    ],
)
def test_one_damaged_row_is_found(
    published: Settings, ferries: Project, damage: Any, statement: str, says: list[str]
) -> None:
    damage(statement)
    findings = check(ferries, INTERVAL, published)
    assert len(findings) == len(says), findings
    for finding, expected in zip(findings, says, strict=True):
        assert re.search(expected, finding), finding


def test_a_promotion_after_publication_is_not_a_finding(published: Settings, ferries: Project) -> None:
    small.promoted(published, "late_ferry", 2, INTERVAL.days[1])
    assert check(ferries, INTERVAL, published) == []


def test_features_with_missing_rows_are_found(published: Settings, ferries: Project) -> None:
    tables, day = Tables(published), INTERVAL.days[1]
    tables.replace("features_ferries", lambda rows: rows.head(3), Scope(Interval.of(day)), sort_by=["entity_id"])
    findings = check(ferries, INTERVAL, published)
    assert len(findings) == 1
    assert "ferries 2013-03-02: the prepared day (point_in_time) has 4 rows, features_ferries has 3" in findings[0]


def test_a_day_that_was_never_prepared_is_found(published: Settings, ferries: Project) -> None:
    beyond = Interval(start=DAY, end=INTERVAL.end + timedelta(days=1))
    assert check(ferries, beyond, published) == [
        "ferries 2013-03-04 is not prepared. Run: python -m include.cli prepare --project ferries --start 2013-03-04"
    ]


def test_days_before_the_first_champion_need_nothing_published(published: Settings, ferries: Project) -> None:
    before = date(2013, 2, 28)
    small.prepare(published, ferries, before)
    assert check(ferries, Interval(start=before, end=INTERVAL.end), published) == []


def test_a_version_that_is_not_in_the_registry_is_found(settings: Settings, ferries: Project) -> None:
    """Uses MLflow's own registry, which is empty."""
    small.promoted(settings, "late_ferry", 1, DAY)
    findings = check(ferries, Interval.of(DAY), settings)
    assert (
        findings[0]
        == "ferries 2013-03-01 is not prepared. Run: python -m include.cli prepare --project ferries --start 2013-03-01"
    )
    assert findings[1].startswith("late_ferry 2013-03-01: the promotion history names version 1 as champion, but")
