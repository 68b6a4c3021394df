"""The view `latency`, on a real PostgreSQL: what it takes for landed, prepared and published."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.records import DayRecord
from include.core.settings import Settings
from include.io import postgres
from include.steps.publish import publish_scores
from tests.integration.test_publish import AS_OF, asked, entities_of, frame

DAY = date(2013, 3, 1)
FILES = {"sailings/a.csv@1": "sailings/a.csv", "winds/b.csv@1": "winds/b.csv"}


def execute(settings: Settings, statement: str, **values: Any) -> None:
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text(statement), values)


def put(settings: Settings, shift: float = 0.0) -> None:
    scores, model = frame(DAY, shift=shift), load_model("late_ferry")
    about = {"days": asked(scores), "as_of": {DAY: AS_OF}}
    project = load_project("ferries")
    publish_scores(project, model, scores.lazy(), entities_of(scores).lazy(), settings, **about)


def test_latency_counts_from_the_last_file_or_the_cutoff_to_the_first_published_batch(settings: Settings) -> None:
    now = postgres.journal.read_clock(settings)
    landed = {"sailings/a.csv@1": now - timedelta(minutes=9), "winds/b.csv@1": now - timedelta(minutes=2)}
    for delivery, key in FILES.items():
        execute(
            settings,
            "INSERT INTO objects (project, key, feed, day, size, modified_at, delivery_id, run_id) "
            "VALUES ('ferries', :key, :feed, :day, 1, :at, :delivery, 'r')",
            key=key, feed=key.split("/")[0], day=DAY, at=landed[delivery], delivery=delivery,
        )  # fmt: skip
    deliveries = [Entry(kind="delivery", subject=each, entry={"key": key}) for each, key in FILES.items()]
    cutoff = now - timedelta(minutes=5)
    first = DayRecord(day=DAY, number=1, as_of=cutoff, watermark=2, deliveries=(*FILES,), reconstructed=False)
    postgres.journal.add_entries(settings, "ferries", [*deliveries, Entry.prepared_day(first)])
    put(settings)
    [row] = postgres.latency.read_latency(settings, "ferries", Interval.of(DAY)).iter_rows(named=True)
    assert (row["model"], row["day"], row["reconstructed"]) == ("late_ferry", DAY, False)
    assert row["landed_at"] == row["ready_at"] == landed["winds/b.csv@1"], "the last file came after the cutoff"
    assert 120 <= row["seconds"] < 600
    assert row["prepare_seconds"] + row["publish_seconds"] == pytest.approx(row["seconds"])

    # what comes later changes nothing: another batch, a repair, a corrected file
    put(settings, shift=0.1)
    later = first.model_copy(update={"number": 2})
    postgres.journal.add_entries(settings, "ferries", [Entry.prepared_day(later, by="Ada", why="a correction")])
    assert postgres.latency.read_latency(settings, "ferries", Interval.of(DAY)).row(0, named=True) == row
    execute(settings, "UPDATE objects SET delivery_id = 'winds/b.csv@2', modified_at = :at WHERE key = 'winds/b.csv'",
            at=datetime.now(UTC) + timedelta(hours=1))  # fmt: skip
    [corrected] = postgres.latency.read_latency(settings, "ferries", Interval.of(DAY)).iter_rows(named=True)
    assert row["landed_at"] < corrected["landed_at"] <= row["published_at"], "then it counts from when it was landed"

    execute(settings, "UPDATE objects SET modified_at = :at", at=cutoff - timedelta(hours=9))
    execute(settings, "UPDATE objects SET delivery_id = 'winds/b.csv@1' WHERE key = 'winds/b.csv'")
    [early] = postgres.latency.read_latency(settings, "ferries", Interval.of(DAY)).iter_rows(named=True)
    assert early["ready_at"] == cutoff, "files that were there before the cutoff wait for it"
