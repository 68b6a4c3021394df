"""publish: complete batches only, once, and only of the requested days; on a real PostgreSQL, also concurrently."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import PublishedDay, ScoredDay
from include.core.settings import Settings, utc_now
from include.io import postgres
from include.io.postgres.predictions import RowsDigest, begin_batch_digest
from include.io.tables import Scope, Tables
from include.operations.unpublish import unpublish
from include.steps import publish as step
from include.steps.publish import publish_scores
from tests.integration import small

DAY = date(2013, 3, 1)
AS_OF = datetime(2013, 3, 1, 8, tzinfo=UTC)


@pytest.fixture
def ferries() -> Project:
    return load_project("ferries")


@pytest.fixture
def late() -> Model:
    return load_model("late_ferry")


def frame(*days: date, rows: int = 4, version: int = 1, shift: float = 0.0) -> pl.DataFrame:
    """Return unsorted scores."""
    made = [
        {
            "day": day,
            "entity_id": f"UA-{n}-BAT-{day:%Y%m%d}",
            "model_version": version,
            "score": (n + 1) / 10 + shift,
            "prediction": float(n % 2),
        }
        for day in days
        for n in range(rows)
    ]
    schema = {
        "day": pl.Date,
        "entity_id": pl.String,
        "model_version": pl.Int64,
        "score": pl.Float64,
        "prediction": pl.Float64,
    }
    return pl.DataFrame(made, schema=schema).reverse()


def entities_of(scores: pl.DataFrame, company: str = "UA") -> pl.DataFrame:
    return scores.select(
        "day",
        "entity_id",
        company=pl.lit(company),
        ferry=pl.lit(1, dtype=pl.Int64),
        origin=pl.lit("BAT"),
        dest=pl.lit(None, dtype=pl.String),
        departs_at=pl.lit(AS_OF),
        distance_miles=pl.lit(200.0),
    )


def asked(scores: pl.DataFrame) -> list[ScoredDay]:
    counted = scores.group_by("day", "model_version").len().iter_rows()
    return [ScoredDay(day=day, model_version=version, rows=rows) for day, version, rows in counted]


@pytest.fixture
def put(ferries: Project, late: Model, settings: Settings) -> Callable[..., list[PublishedDay]]:
    """Return a function that publishes a frame."""

    def put(scores: pl.DataFrame, **options: Any) -> list[PublishedDay]:
        days = options.pop("days", None) or asked(scores)
        entities = options.pop("entities", entities_of(scores))
        model = options.pop("model", late)
        as_of = {d.day: AS_OF for d in days}
        return publish_scores(
            ferries, model, scores.lazy(), entities.lazy(), settings, days=days, as_of=as_of, **options
        )

    return put


def rows(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    with postgres.connection.engine(settings).connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def counts(settings: Settings) -> dict[str, int]:
    tables = ("models", "batches", "predictions", "published", "publications", "entities_ferries")
    return {table: rows(settings, f"SELECT count(*) FROM {table}")[0][0] for table in tables}


def seen(settings: Settings) -> list[tuple[Any, ...]]:
    """Return the rows that analysts read."""
    return rows(
        settings, "SELECT day, entity_id, score, prediction, model_version FROM current_predictions ORDER BY 1, 2"
    )


def content(scores: pl.DataFrame) -> list[tuple[Any, ...]]:
    return scores.select("day", "entity_id", "score", "prediction", "model_version").sort("day", "entity_id").rows()


# --- what readers see -------------------------------------------------------------------------------------------------


def rows_read(settings: Settings) -> int:
    """Return how many rows and entries of indexes PostgreSQL has read of predictions and entities."""
    own = "WHERE relname ~ '^(predictions|entities)'"
    [(of_tables, of_indexes)] = rows(
        settings,
        f"SELECT (SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_user_tables {own}),"
        f" (SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes {own})",
    )
    return int(of_tables + of_indexes)


def test_a_new_day_reads_no_rows_of_the_days_before(put: Any, settings: Settings) -> None:
    before = frame(*(DAY + timedelta(days=n) for n in range(10)), rows=1000).with_columns(score=pl.lit(0.5))
    put(before)
    read = rows_read(settings)
    put(frame(DAY + timedelta(days=10), rows=10))
    assert rows_read(settings) - read < 100


def test_readers_see_what_was_published_to_the_bit(put: Any, settings: Settings, late: Model) -> None:
    scores = frame(DAY, DAY + timedelta(days=1)).with_columns(score=pl.col("score") / 3)
    published = put(scores)

    assert seen(settings) == content(scores)
    assert [(d.day, d.state, d.rows, d.differing) for d in published] == [
        (DAY, "published", 4, 0),
        (DAY + timedelta(days=1), "published", 4, 0),
    ]
    batches = rows(
        settings, "SELECT batch_id::text, day, model_version, rows, digest, as_of, run_id FROM batches ORDER BY day"
    )
    stored = postgres.predictions.read_predictions(
        settings, late.name, Interval(start=DAY, end=DAY + timedelta(days=1))
    )
    for (batch_id, day, version, count, digest, as_of, run_id), result in zip(batches, published, strict=True):
        again = postgres.predictions.batch_digest(stored.filter(pl.col("batch_id") == batch_id))
        assert digest == again
        assert result.batch_id == batch_id == step.batch_id(late.name, day, version, again)
        assert (version, count, as_of, run_id) == (1, 4, AS_OF, "test")
    assert rows(settings, "SELECT * FROM models") == [
        ("late_ferry", "ferries", late.outcome, late.problem_type, late.title, late.owner)
    ]


def test_analysts_slice_predictions_by_entities(put: Any, settings: Settings) -> None:
    put(frame(DAY))
    joined = rows(
        settings,
        "SELECT company, ferry, origin, dest, departs_at, distance_miles, count(*) FROM current_predictions "
        "JOIN ferries_entities USING (day, entity_id) GROUP BY 1, 2, 3, 4, 5, 6",
    )
    assert joined == [("UA", 1, "BAT", None, AS_OF, 200.0, 4)]


def test_equal_content_changes_nothing(put: Any, settings: Settings) -> None:
    first = put(frame(DAY))
    before = rows(settings, "SELECT xmin::text, * FROM published"), counts(settings)
    entities = rows(settings, "SELECT xmin::text, xmax::text, * FROM entities_ferries")
    again = put(frame(DAY).reverse())
    assert (rows(settings, "SELECT xmin::text, * FROM published"), counts(settings)) == before
    assert rows(settings, "SELECT xmin::text, xmax::text, * FROM entities_ferries") == entities
    assert [(d.state, d.batch_id) for d in again] == [("unchanged", first[0].batch_id)]


def test_other_content_replaces_the_batch_and_leaves_a_history(put: Any, settings: Settings) -> None:
    one, two = put(frame(DAY)), put(frame(DAY, shift=0.01))
    assert seen(settings) == content(frame(DAY, shift=0.01))
    back = put(frame(DAY))
    assert seen(settings) == content(frame(DAY))
    assert back[0].batch_id == one[0].batch_id
    assert back[0].state == "published"
    assert counts(settings)["batches"] == 2
    assert rows(settings, "SELECT batch_id::text, replaced::text, mode, run_id FROM publications ORDER BY id") == [
        (one[0].batch_id, None, "replace", "test"),
        (two[0].batch_id, one[0].batch_id, "replace", "test"),
        (one[0].batch_id, two[0].batch_id, "replace", "test"),
    ]


def test_another_version_with_the_same_scores_is_another_batch(put: Any, settings: Settings) -> None:
    put(frame(DAY))
    assert put(frame(DAY, version=2))[0].state == "published"
    assert {row[4] for row in seen(settings)} == {2}


def test_missing_keeps_published_scores_and_counts_differing_rows(put: Any, settings: Settings) -> None:
    other = DAY + timedelta(days=1)
    first = put(frame(DAY))
    changed = frame(DAY, other, rows=5).with_columns(  # of DAY: one row added, one score changed, three unchanged
        score=pl.when(pl.col("entity_id").str.starts_with("UA-2")).then(0.99).otherwise("score")
    )
    result = put(changed, mode="missing")
    assert [(d.day, d.state, d.rows, d.differing) for d in result] == [(DAY, "kept", 5, 2), (other, "published", 5, 0)]
    assert [row for row in seen(settings) if row[0] == DAY] == content(frame(DAY))
    assert counts(settings)["batches"] == 3
    assert counts(settings)["publications"] == 2
    assert rows(settings, f"SELECT batch_id::text FROM published WHERE day = '{DAY}'") == [(first[0].batch_id,)]
    assert put(frame(DAY), mode="missing")[0].state == "unchanged"


def test_a_batch_stored_unpublished_can_be_published_later(put: Any, settings: Settings) -> None:
    put(frame(DAY))
    stored = put(frame(DAY, shift=0.01), mode="missing")
    published = put(frame(DAY, shift=0.01))
    assert published[0].state == "published"
    assert published[0].batch_id == stored[0].batch_id
    assert counts(settings)["batches"] == 2


def test_publications_can_be_undone_one_by_one(put: Any, settings: Settings, late: Model) -> None:
    """Each undo restores what readers saw before, including a batch that was published again; at last, nothing."""
    one, two = put(frame(DAY)), put(frame(DAY, shift=0.01))
    put(frame(DAY))
    undo = partial(unpublish, late, Interval.of(DAY), settings)
    assert [(d.batch_id, d.undone) for d in undo().days] == [(two[0].batch_id, one[0].batch_id)]
    assert seen(settings) == content(frame(DAY, shift=0.01))
    assert [d.batch_id for d in undo().days] == [one[0].batch_id]
    assert seen(settings) == content(frame(DAY))
    assert [d.batch_id for d in undo().days] == [None]
    assert seen(settings) == []
    assert undo().skipped == f"late_ferry: nothing is published of {DAY}"
    assert put(frame(DAY))[0].state == "published"
    assert [d.batch_id for d in undo().days] == [None]
    assert counts(settings)["batches"] == 2
    assert rows(settings, "SELECT mode, model_version, replaced_version FROM publication_history ORDER BY id")[3:] == [
        ("unpublish", 1, 1),
        ("unpublish", 1, 1),
        ("unpublish", None, 1),
        ("replace", 1, None),
        ("unpublish", None, 1),
    ]


def test_undoing_a_run_keeps_days_that_it_did_not_change(put: Any, settings: Settings, late: Model) -> None:
    """A backfill with equal scores publishes nothing. Undoing the newest publication would leave the day empty."""
    other = DAY + timedelta(days=1)
    put(frame(DAY, other))
    began = utc_now()
    put(pl.concat([frame(DAY), frame(other, shift=0.01)]))
    undone = unpublish(late, Interval(start=DAY, end=other), settings, since=began)
    assert [day.day for day in undone.days] == [other]
    assert seen(settings) == content(frame(DAY, other))
    assert unpublish(late, Interval.of(DAY), settings, since=began).rows == 0


def test_only_the_given_days_and_model_are_undone(put: Any, settings: Settings, late: Model) -> None:
    other = DAY + timedelta(days=1)
    put(frame(DAY, other))
    put(frame(DAY, other, shift=0.01))
    assert unpublish(late, Interval.of(other), settings).rows == 1
    assert seen(settings) == content(pl.concat([frame(DAY, shift=0.01), frame(other)]))


def test_entities_are_updated_by_replace_and_kept_by_missing(put: Any, settings: Settings) -> None:
    scores = frame(DAY)
    put(scores)
    put(scores, entities=entities_of(scores, company="B6"), mode="missing")
    assert rows(settings, "SELECT DISTINCT company FROM ferries_entities") == [("UA",)]
    put(scores, entities=entities_of(scores, company="B6"))
    assert rows(settings, "SELECT DISTINCT company FROM ferries_entities") == [("B6",)]
    assert counts(settings)["entities_ferries"] == 4


def test_an_empty_day_is_published_too(put: Any, settings: Settings) -> None:
    result = put(frame(DAY).clear(), days=[ScoredDay(day=DAY, model_version=3, rows=0)])
    assert [(d.day, d.state, d.rows) for d in result] == [(DAY, "published", 0)]
    assert rows(
        settings, "SELECT day, model_version, rows FROM published JOIN batches USING (batch_id, model, day)"
    ) == [(DAY, 3, 0)]


def test_a_changed_declaration_updates_the_row_of_the_model(put: Any, settings: Settings, late: Model) -> None:
    put(frame(DAY))
    put(frame(DAY, shift=0.01), model=late.model_copy(update={"outcome": "ferry_delay", "title": "Other"}))
    assert rows(settings, "SELECT outcome, title, owner FROM models") == [("ferry_delay", "Other", late.owner)]


def test_models_do_not_mix(put: Any, settings: Settings, late: Model) -> None:
    put(frame(DAY))
    put(frame(DAY), model=late.model_copy(update={"name": "another"}))
    assert rows(settings, "SELECT model, count(*) FROM current_predictions GROUP BY 1 ORDER BY 1") == [
        ("another", 4),
        ("late_ferry", 4),
    ]
    assert counts(settings)["batches"] == 2


def test_many_days_are_published_in_transactions_of_whole_days(
    put: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "CHUNK_ROWS", 9)
    scores = frame(*(DAY + timedelta(days=n) for n in range(5)))
    assert len(put(scores)) == 5
    assert seen(settings) == content(scores)
    transactions = rows(settings, "SELECT day, xmin::text FROM predictions GROUP BY 1, 2 ORDER BY 1")
    assert len(transactions) == 5
    assert len({transaction for _, transaction in transactions}) == 3


def test_a_large_day_is_published_in_blocks_as_the_same_batch(
    put: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = DAY + timedelta(days=1)
    scores = frame(DAY, other, rows=90)
    whole = put(scores)
    monkeypatch.setattr(step, "CHUNK_ROWS", 9)
    monkeypatch.setattr(step, "BLOCK_ROWS", 20)
    assert [(d.state, d.batch_id) for d in put(scores)] == [("unchanged", d.batch_id) for d in whole]
    assert [d.state for d in put(scores.with_columns(score=pl.col("score") / 2))] == ["published", "published"]
    assert seen(settings) == content(scores.with_columns(score=pl.col("score") / 2))
    assert counts(settings)["batches"] == 4

    bad = scores.with_columns(score=pl.when(pl.col("entity_id").str.starts_with("UA-77")).then(None).otherwise("score"))
    with pytest.raises(DataError, match=r"2013-03-01: 1 of 90 rows .* null"):
        put(bad)
    assert counts(settings)["batches"] == 4


def test_entities_of_new_days_and_of_days_that_are_there_are_written_together(put: Any, settings: Settings) -> None:
    put(frame(DAY))
    both = frame(DAY, DAY + timedelta(days=1), rows=5, shift=0.01)
    put(both, entities=entities_of(both, "DL"))
    found = rows(settings, "SELECT day, company, count(*) FROM ferries_entities GROUP BY 1, 2 ORDER BY 1")
    assert found == [(DAY, "DL", 5), (DAY + timedelta(days=1), "DL", 5)]


def test_an_entity_that_the_feed_has_twice_is_refused_unless_nothing_is_corrected(put: Any, settings: Settings) -> None:
    scores = frame(DAY)
    twice = pl.concat([entities_of(scores), entities_of(scores, "DL").head(1)])
    with pytest.raises(Exception, match="a second time"):
        put(scores, entities=twice)
    assert set(counts(settings).values()) == {0}
    assert [d.state for d in put(scores, entities=twice, mode="missing")] == ["published"]
    assert counts(settings)["entities_ferries"] == 4


def test_of_a_day_without_scores_too_an_entity_may_come_twice(put: Any, settings: Settings) -> None:
    scores = frame(DAY)
    twice = pl.concat([entities_of(scores), entities_of(scores, "DL").head(1)])
    none = [ScoredDay(day=DAY, model_version=1, rows=0)]
    assert [d.state for d in put(scores.clear(), entities=twice, days=none, mode="missing")] == ["published"]
    assert counts(settings)["entities_ferries"] == 4


def test_columns_of_a_day_are_not_held_until_all_days_are_examined(
    late: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(step, "CHUNK_ROWS", 9)
    digests: list[RowsDigest] = []

    def begin(rows: int) -> RowsDigest:
        digests.append(begin_batch_digest(rows))
        return digests[-1]

    monkeypatch.setattr(step, "begin_batch_digest", begin)
    scores = frame(*(DAY + timedelta(days=n) for n in range(5)))
    chunks = step._verify(late, scores.lazy(), None, sorted(asked(scores), key=lambda d: d.day), tmp_path)
    assert len({found.digest for chunk in chunks for found in chunk.found}) == len(digests) == 5
    assert [digest._kept for digest in digests] == [{}] * 5


# --- what is refused --------------------------------------------------------------------------------------------------

GOOD = frame(DAY, DAY + timedelta(days=1))
FIRST = (pl.col("day") == DAY) & pl.col("entity_id").str.starts_with("UA-1")


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (GOOD.with_columns(score=pl.when(FIRST).then(float("nan")).otherwise("score")), "1 of 4 rows .* NaN"),
        (GOOD.with_columns(score=pl.when(FIRST).then(None).otherwise("score")), "1 of 4 rows .* null"),
        (GOOD.with_columns(prediction=pl.when(FIRST).then(float("inf")).otherwise("prediction")), "1 of 4 rows"),
        (GOOD.with_columns(entity_id=pl.when(FIRST).then(None).otherwise("entity_id")), "4 scores of 3 entities"),
        (pl.concat([GOOD.filter(~FIRST), frame(DAY, rows=1)]), "4 scores of 3 entities"),
        (GOOD.filter(~FIRST), "3 scores, expected 4"),
        (GOOD.filter(pl.col("day") != DAY), "0 scores, expected 4"),
        (pl.concat([GOOD, frame(DAY, rows=5).head(1)]), "5 scores, expected 4"),
        (GOOD.with_columns(model_version=pl.when(FIRST).then(2).otherwise(1)), r"version \[1, 2\], expected version 1"),
        (pl.concat([GOOD, frame(DAY + timedelta(days=7))]), "there are scores, but this day is not to be published"),
    ],
)
def test_bad_scores_are_refused_before_anything_is_written(
    put: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch, scores: pl.DataFrame, says: str
) -> None:
    monkeypatch.setattr(step, "CHUNK_ROWS", 1)  # the other day alone would be valid
    with pytest.raises(DataError, match=f"2013-03-0[18]: (.*)?{says}"):
        put(scores, days=asked(GOOD), entities=entities_of(pl.concat([GOOD, frame(DAY, rows=5)]).unique()))
    assert set(counts(settings).values()) == {0}


def test_scored_entities_that_are_not_in_the_feed_are_refused(put: Any, settings: Settings) -> None:
    with pytest.raises(DataError, match="2013-03-01: 1 of 4 scored entities are not in the feed"):
        put(GOOD, entities=entities_of(GOOD.filter(~FIRST)))
    assert set(counts(settings).values()) == {0}


def test_a_day_that_is_requested_twice_is_refused(put: Any) -> None:
    with pytest.raises(DataError, match="published twice"):
        put(GOOD, days=[*asked(GOOD), ScoredDay(day=DAY, model_version=2, rows=4)])


# --- killed and concurrent processes ----------------------------------------------------------------------------------

PROCESS = """
import sys
import polars as pl
from include.config.loading import load_model

from include.config.loading import load_project
from include.core.settings import Settings
from tests.integration.test_publish import AS_OF, asked, entities_of
from include.steps.publish import publish_scores

scores = pl.read_parquet(sys.argv[1])
days = publish_scores(
    load_project("ferries"), load_model("late_ferry"), scores.lazy(), entities_of(scores).lazy(), Settings(),
    days=asked(scores), as_of={d.day: AS_OF for d in asked(scores)}, mode=sys.argv[2],
)
print("[" + ",".join(d.model_dump_json() for d in days) + "]")
"""


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Return a function that starts another process, which publishes a frame."""
    started: list[subprocess.Popen[str]] = []

    def start(scores: pl.DataFrame, mode: str = "replace", run_id: str = "other") -> "subprocess.Popen[str]":
        path = tmp_path / f"{len(started)}.parquet"
        scores.write_parquet(path)
        variables = settings.model_copy(update={"run_id": run_id}).variables()
        process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(path), mode],
            env=os.environ | variables,
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def result(process: "subprocess.Popen[str]") -> list[dict[str, Any]]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    found: list[dict[str, Any]] = json.loads(out)
    return found


@contextmanager
def blocked(settings: Settings, lock: str, waiting: int) -> Iterator[Callable[[], None]]:
    """Hold a lock, and yield a function that returns once so many other sessions wait for a lock."""
    with postgres.connection.engine(settings).connect() as connection:
        connection.execute(sa.text(lock))

        def until_they_wait() -> None:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                others = rows(
                    settings,
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                    "AND datname = current_database()",
                )
                if others[0][0] >= waiting:
                    return
                time.sleep(0.02)
            raise AssertionError(f"not {waiting} processes wait for a lock")

        yield until_they_wait


def test_a_kill_in_the_middle_leaves_the_former_batch_and_no_partial_rows(
    put: Any, start: Any, settings: Settings
) -> None:
    other = DAY + timedelta(days=1)
    put(frame(DAY))
    before = counts(settings)
    # the process has written batch, predictions and history, and waits to move the pointer
    with blocked(settings, "SELECT * FROM published FOR UPDATE", 1) as until_they_wait:
        process = start(frame(DAY, other, rows=300, shift=0.01))
        until_they_wait()
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        assert seen(settings) == content(frame(DAY))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and rows(
        settings, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ):
        time.sleep(0.02)  # the server notices that the process is gone
    assert counts(settings) == before
    assert seen(settings) == content(frame(DAY))

    again = put(frame(DAY, other, rows=300, shift=0.01))
    assert [d.state for d in again] == ["published", "published"]
    assert seen(settings) == content(frame(DAY, other, rows=300, shift=0.01))


POINTERS = "LOCK TABLE published IN SHARE MODE"  # blocks processes that are about to move a pointer


def test_equal_content_of_two_concurrent_processes_is_one_batch(start: Any, settings: Settings) -> None:
    scores = frame(DAY, DAY + timedelta(days=1), rows=300)
    with blocked(settings, POINTERS, 2) as until_they_wait:
        processes = [start(scores, run_id=name) for name in ("a", "b")]
        until_they_wait()
    states = sorted(tuple(day["state"] for day in result(process)) for process in processes)
    assert states == [("published", "published"), ("unchanged", "unchanged")]
    assert seen(settings) == content(scores)
    assert counts(settings) == {
        "models": 1,
        "batches": 2,
        "predictions": 600,
        "published": 2,
        "publications": 2,
        "entities_ferries": 600,
    }


def test_different_content_of_two_concurrent_processes_is_published_in_turn(
    put: Any, start: Any, settings: Settings
) -> None:
    days = [DAY + timedelta(days=n) for n in range(3)]
    put(frame(*days))
    with blocked(settings, POINTERS, 2) as until_they_wait:
        processes = [start(frame(*days, rows=300, shift=shift), run_id=str(shift)) for shift in (0.01, 0.02)]
        until_they_wait()
    assert [[day["state"] for day in result(process)] for process in processes] == [["published"] * 3] * 2
    history = rows(settings, "SELECT day, run_id, batch_id, replaced FROM publications ORDER BY id")
    runs = [run_id for _, run_id, _, _ in history]
    assert runs in (["test"] * 3 + ["0.01"] * 3 + ["0.02"] * 3, ["test"] * 3 + ["0.02"] * 3 + ["0.01"] * 3)
    assert [(day, replaced) for day, _, _, replaced in history[3:]] == [
        (day, batch) for day, _, batch, _ in history[:6]
    ]
    assert seen(settings) == content(frame(*days, rows=300, shift=float(runs[-1])))


def test_of_two_concurrent_processes_with_missing_one_publishes(start: Any, settings: Settings) -> None:
    with blocked(settings, POINTERS, 2) as until_they_wait:
        processes = [start(frame(DAY, shift=shift), mode="missing") for shift in (0.01, 0.02)]
        until_they_wait()
    found = sorted((day["state"], day["differing"]) for process in processes for day in result(process))
    assert found == [("kept", 4), ("published", 0)]
    assert counts(settings)["batches"] == 2
    assert counts(settings)["publications"] == 1


# --- the step, on tables ----------------------------------------------------------------------------------------------

DAYS = [DAY + timedelta(days=n) for n in range(3)]
INTERVAL = Interval(start=DAYS[0], end=DAYS[-1])


@pytest.fixture
def scored(settings: Settings, ferries: Project, late: Model) -> Settings:
    """Three prepared days; the first without a champion, the other two scored."""
    small.prepare(settings, ferries, *DAYS)
    small.promoted(settings, late.name, 1, DAYS[1])
    small.promoted(settings, late.name, 2, DAYS[2])
    small.score(settings, ferries, late.name, DAYS[1], DAYS[2], version=1)
    small.score(settings, ferries, late.name, DAYS[1], DAYS[2], version=2)
    return settings


def test_each_day_with_a_champion_is_published_with_its_entities(scored: Settings, late: Model) -> None:
    published = step.publish(late, INTERVAL, scored)
    assert [(d.day, d.state, d.rows) for d in published.days] == [(DAYS[1], "published", 4), (DAYS[2], "published", 4)]
    assert (published.rows, published.model, published.interval) == (8, "late_ferry", INTERVAL)
    assert rows(
        scored,
        "SELECT day, model_version, as_of, dest, departs_at, count(*) FROM current_predictions "
        "JOIN ferries_entities USING (day, entity_id) GROUP BY 1, 2, 3, 4, 5 ORDER BY 1",
    ) == [
        (day, version, small.as_of(day), "HOB", small.as_of(day) + timedelta(hours=7), 4)
        for day, version in ((DAYS[1], 1), (DAYS[2], 2))
    ]


def test_the_days_of_the_record_of_score_are_published_with_its_version(scored: Settings, late: Model) -> None:
    day = ScoredDay(day=DAYS[1], model_version=2, rows=4)
    assert [d.day for d in step.publish(late, INTERVAL, scored, days=[day]).days] == [DAYS[1]]
    assert rows(scored, "SELECT DISTINCT day, model_version FROM current_predictions") == [(DAYS[1], 2)]


def test_without_a_champion_nothing_is_published(scored: Settings, late: Model) -> None:
    published = step.publish(late, Interval.of(DAYS[0]), scored)
    assert (published.days, published.rows) == ((), 0)


def test_a_prepared_day_without_rows_is_published(settings: Settings, ferries: Project, late: Model) -> None:
    small.prepare(settings, ferries, DAYS[0])
    small.prepare(settings, ferries, DAYS[1], count=0)
    small.score(settings, ferries, late.name, DAYS[0])
    small.promoted(settings, late.name, 1, DAYS[0])
    published = step.publish(late, Interval(start=DAYS[0], end=DAYS[1]), settings)
    assert [(d.day, d.state, d.rows) for d in published.days] == [(DAYS[0], "published", 4), (DAYS[1], "published", 0)]


@pytest.mark.parametrize(
    ("table", "change", "says"),
    [
        ("scores_late_ferry", lambda rows: rows.sort("model_version").slice(1), "3 scores, expected 4"),
        ("scores_late_ferry", lambda rows: rows.with_columns(as_of=pl.lit(AS_OF)), "not from the prepared day"),
        ("clean_ferries__sailings", lambda rows: rows.slice(1), "1 of 4 scored entities are not in the feed"),
    ],
)
def test_prepared_day_scores_and_entities_must_agree(
    scored: Settings, late: Model, table: str, change: Callable[[pl.DataFrame], pl.DataFrame], says: str
) -> None:
    Tables(scored).replace(table, change, Scope(Interval.of(DAYS[1])), sort_by=["day"])
    with pytest.raises(DataError, match=f"2013-03-02: .*({says})"):
        step.publish(late, INTERVAL, scored)
    assert counts(scored)["batches"] == 0


@pytest.mark.parametrize(("count", "differs"), [(4, False), (3, True)])
def test_scores_of_features_that_were_built_again_are_published_if_the_features_are_equal(
    scored: Settings, ferries: Project, late: Model, count: int, differs: bool
) -> None:
    tables, scope = Tables(scored), Scope(Interval.of(DAYS[1]))
    [before] = postgres.days.read_prepared_days(scored, ferries.name, scope.interval)
    features = tables.scan("features_ferries").filter(scope.expr()).collect()
    other = pl.when(pl.int_range(pl.len()) < count).then("entity_id").otherwise(pl.lit("another"))
    again = tables.replace("features_ferries", features.with_columns(entity_id=other), scope, sort_by=["entity_id"])
    versions = {"features_ferries": again.version}
    built = before.model_copy(update={"table_versions": versions})
    assert again.version > before.table_versions["features_ferries"]
    postgres.days.record_prepared_days(scored, ferries.name, [built])
    if differs:
        with pytest.raises(DataError, match="2013-03-02: its features were built again after it was scored, and diff"):
            step.publish(late, INTERVAL, scored)
        assert counts(scored)["batches"] == 0
    else:
        assert step.publish(late, INTERVAL, scored).rows == 8


def test_a_day_that_is_not_prepared_is_refused(scored: Settings, late: Model) -> None:
    with pytest.raises(DataError, match="2013-03-04: ferries is not prepared"):
        step.publish(late, Interval(start=DAYS[0], end=DAYS[2] + timedelta(days=1)), scored)
    assert counts(scored)["batches"] == 0


# --- reasons ----------------------------------------------------------------------------------------------------------

REASONS = "SELECT entity_id, rank, input, contribution, base, rest, model_version FROM prediction_reasons ORDER BY 1, 2"


def with_reasons(scores: pl.DataFrame, contribution: float = -0.1) -> pl.DataFrame:
    told = {"base": -1.5, "rest": 0.0625, "top": [["wind", 1e-7], ["Ålesund's hour", contribution]]}
    return scores.with_columns(reasons=pl.lit(json.dumps(told)))


def reasons_of(scores: pl.DataFrame, contribution: float = -0.1) -> list[tuple[Any, ...]]:
    return [
        (entity, rank, name, number, -1.5, 0.0625, version)
        for entity, version in scores.select("entity_id", "model_version").sort("entity_id").iter_rows()
        for rank, name, number in ((1, "wind", 1e-7), (2, "Ålesund's hour", contribution))
    ]


def test_reasons_are_published_and_taken_back_with_their_batch(
    put: Any, settings: Settings, late: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, other = frame(DAY), frame(DAY, version=2, shift=0.1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(postgres.predictions, "_write_entities", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        put(with_reasons(scores))
    assert counts(settings)["predictions"] == 0, "killed at the end of the transaction"
    [first] = put(with_reasons(scores))
    assert rows(settings, REASONS) == reasons_of(scores)
    assert [day.state for day in put(with_reasons(scores))] == ["unchanged"]
    assert rows(settings, REASONS) == reasons_of(scores), "a backfill does not double them"
    assert [day.state for day in put(with_reasons(scores, 0.5), mode="missing")] == ["kept"]
    assert rows(settings, REASONS) == reasons_of(scores)

    put(other)  # of a model whose `explanations` were removed
    assert rows(settings, REASONS) == []
    unpublish(late, Interval.of(DAY), settings)
    assert rows(settings, REASONS) == reasons_of(scores)
    stored = postgres.predictions.read_predictions(settings, late.name, Interval.of(DAY))
    of_first = stored.filter(pl.col("batch_id") == first.batch_id)
    digest = rows(settings, f"SELECT digest FROM batches WHERE batch_id = '{first.batch_id}'")[0][0]
    assert postgres.predictions.batch_digest(of_first) == digest, "what is read back must have the digest of the batch"
    changed = with_reasons(of_first.drop("reasons"), 0.5)
    assert postgres.predictions.batch_digest(changed) != digest, "the digest must cover the reasons"
