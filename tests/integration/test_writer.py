"""The steps and operations run as a member of `writer`, with no right to change tables or immutable rows."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.outbox import ALERTS
from include.core.settings import Settings
from include.io import postgres
from include.operations.decide import withdraw
from include.operations.unpublish import unpublish
from include.runner.run import run
from include.steps.monitor import monitor
from include.steps.outcomes import outcomes
from include.steps.promote import promote
from include.steps.publish import publish
from tests import landing
from tests.conftest import Install
from tests.integration import small
from tests.integration.training import MODEL, after, train_and_gate

pytestmark = pytest.mark.timeout(300)

PROJECT = load_project("ferries")
LATE = load_model("late_ferry")


@pytest.fixture
def settings(install: Install, postgres_url: sa.URL, tmp_path: object) -> Iterator[Settings]:
    """Return settings of an empty installation, whose tasks log in as a writer that is nothing else."""
    server = sa.create_engine(postgres_url.set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection, install(tmp_path) as made:  # type: ignore[arg-type]
        connection.execute(sa.text("CREATE ROLE a_task LOGIN IN ROLE writer"))
        url = sa.make_url(made.database_url.get_secret_value()).set(username="a_task")
        changed = {"database_url": url.render_as_string(hide_password=False)}
        try:
            yield Settings(**{**made.model_dump(), **changed})
        finally:
            connection.execute(sa.text("DROP ROLE a_task"))


def count(settings: Settings, *tables: str) -> dict[str, int]:
    return {table: small.select(settings, f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables}


def test_files_are_landed_validated_and_withdrawn(settings: Settings) -> None:
    interval = Interval.of(landing.DAY)
    landing.deliver_day(PROJECT, settings, landing.DAY)
    run("land", PROJECT, interval, settings)
    run("validate", PROJECT, interval, settings)
    run("validate", PROJECT, interval, settings)
    for delivery_id in landing.deliveries_of(settings).filter(feed="winds")["delivery_id"]:
        withdraw(PROJECT, delivery_id, settings, by="Ada", why="a test")
    assert min(count(settings, "journal", "objects", "quality_results", "step_runs", "locks").values()) > 0


def test_a_version_is_trained_gated_and_promoted(prepared: Settings) -> None:
    decision = train_and_gate(prepared)
    assert decision.passed
    promote(MODEL, after(1), prepared, version=decision.model_version)
    entries = postgres.promotions.read_manual_promotions(prepared, MODEL.name)
    assert postgres.promotions.restore_promotions(prepared, MODEL.name, entries) == 0
    assert min(count(prepared, "gates", "gate_results", "promotions").values()) > 0


def test_scores_are_published_measured_and_unpublished(settings: Settings) -> None:
    first, second = small.DAY, small.DAY + timedelta(days=1)
    both = Interval(start=first, end=second)
    small.prepare(settings, PROJECT, *both.days)
    small.promoted(settings, LATE.name, 1, first)
    small.score(settings, PROJECT, LATE.name, *both.days)
    settings = settings.model_copy(update={"exports": f"{settings.tables}/exports"})
    publish(LATE.model_copy(update={"exports": "csv"}), both, settings)
    small.score(settings, PROJECT, LATE.name, first, version=2)
    publish(LATE, Interval.of(first), settings, versions={first: 2})
    rows = small.logbook_of(first, [0.0, 20.0, 20.0, None])
    known = small.as_of(second) - timedelta(hours=1)
    delivery = small.deliver(settings, PROJECT, "logbook", first, rows, available_from=known)
    for _ in range(2):
        outcomes(PROJECT, Interval.of(second), settings)
        monitor(PROJECT, Interval.of(second), settings)
    withdraw(PROJECT, delivery, settings, by="Ada", why="a test")
    outcomes(PROJECT, Interval.of(second), settings)
    unpublish(LATE, both, settings)
    unpublish(LATE, both, settings)
    alert = postgres.alerts.Alert(subject="late_ferry", rule="a rule", day=second, sentence="A test.")
    postgres.alerts.raise_alerts(settings, PROJECT.name, [alert])
    messages = postgres.messages.Outbox(settings.database_url)
    for record_try in (
        lambda taken: messages.postpone(taken, "answered 429", timedelta(0), timedelta(microseconds=1)),
        lambda taken: messages.give_up(taken, "answered 404"),
    ):
        taken = messages.take([ALERTS], ["chat"])
        assert taken is not None
        record_try(taken)
    assert messages.renew(datetime.now(UTC) - timedelta(days=1)) == 1
    again = messages.take([ALERTS], ["chat"])
    assert again is not None
    messages.mark_sent(again)
    written = ("models", "batches", "predictions", "publications", "prepared_days", "entities_ferries")
    assert min(count(settings, *written, "outcome_days", "performance_daily", "freshness", "alerts").values()) > 0
    assert count(settings, "published") == {"published": 0}
