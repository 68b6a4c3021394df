"""Semantic versions of real fits, lineage, and tables as they were."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta

import polars as pl
import pytest
import sqlalchemy as sa

from include.core.errors import ActionRequiredError
from include.core.journal import Entry
from include.core.records import PreparedDay
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import read_journal
from include.io.tables import Tables
from include.operations import lineage
from include.operations import lineage_words as words
from include.operations.show import show
from include.steps.evaluate import evaluate
from include.steps.promote import promote
from tests.integration import small
from tests.integration.training import (
    DAYS,
    MODEL,
    PROJECT,
    WHOLE,
    after,
    client,
    correct,
    enter_all,
    ferries,
    fit_all,
    logbook,
    train_and_gate,
)

NAME = MODEL.name
HISTORY = "SELECT model_version, semantic_version, changed FROM versions ORDER BY model_version"


def test_a_version_is_named_by_what_changed_and_by_its_state(prepared: Settings) -> None:
    settings = prepared.model_copy(update={"git_commit": "2e5fd9ec49a1beef"})
    first = train_and_gate(settings)
    assert first.passed, first.why_not
    assert small.select(settings, HISTORY) == [
        {"model_version": 1, "semantic_version": "1.0.0-registered+2e5fd9ec49a1", "changed": "the first version"}
    ]
    promote(MODEL, after(1), settings, version=1)
    other = MODEL.model_copy(update={"decision_threshold": 0.4})
    evaluate(MODEL, after(1), settings, fitted=fit_all(settings, run_date=after(1)))
    evaluate(other, after(1), settings, fitted=fit_all(settings, other, after(1)))
    for _ in range(2):  # a repeat finds the same version, and names none again
        evaluate(MODEL, after(1), settings, fitted=fit_all(settings, run_date=after(1)))
    assert [tuple(row.values()) for row in small.select(settings, HISTORY)] == [
        (1, "1.0.0+2e5fd9ec49a1", "the first version"),
        (2, "1.0.1-registered+2e5fd9ec49a1", "trained again"),
        (3, "1.1.0-registered+2e5fd9ec49a1", "changed: decision_threshold"),
    ]
    assert client(settings).get_model_version(NAME, "3").tags["semantic_version"] == "1.1.0"
    assert postgres.model_files.read_names(settings, NAME, [2]) == {2: "1.0.1-registered+2e5fd9ec49a1"}
    for view in ("promotion_history", "gate_decisions"):
        [row] = small.select(settings, f"SELECT model_version, semantic_version FROM {view}")
        assert row == {"model_version": 1, "semantic_version": "1.0.0+2e5fd9ec49a1"}


def test_two_registrations_at_once_get_two_names(prepared: Settings) -> None:
    fitted, start = fit_all(prepared), threading.Barrier(2)

    def register(number: int, run_id: str) -> str | None:
        start.wait()
        return postgres.model_files.record_version(prepared, NAME, number, run_id)

    with ThreadPoolExecutor() as pool:
        named = list(pool.map(register, (8, 7), [each.run_id for each in fitted]))
    assert sorted(map(str, named)) == ["1.0.0", "1.1.0"]
    assert postgres.model_files.record_version(prepared, NAME, 7, fitted[0].run_id) == named[1]


# --- lineage, and tables as they were ---------------------------------------------------------------------------------


def used_by(day: date) -> tuple[str, ...]:
    return tuple(sorted(f"{feed}/a/{needed}" for feed, needed in PROJECT.required(day).items()))


def prepare_days(settings: Settings) -> None:
    """Enter deliveries, and the record of each of DAYS with those that it used."""
    tables, rows = Tables(settings), ferries()
    moments = pl.DataFrame({"day": DAYS.days, "as_of": [PROJECT.cutoff_at(day) for day in DAYS.days]})
    features = rows.drop("delay_minutes").join(moments, on="day").with_columns(data_view=pl.lit("point_in_time"))
    written = tables.replace("features_ferries", features, WHOLE, sort_by=["day", "entity_id"])
    tables.replace("clean_ferries__logbook", logbook(rows), WHOLE, sort_by=["day", "entity_id"])
    enter_all(settings)
    watermark = postgres.journal.read_watermark(settings, PROJECT.name)
    days = [
        PreparedDay(
            project=PROJECT.name,
            day=day,
            data_view="point_in_time",
            as_of=PROJECT.cutoff_at(day),
            watermark=watermark,
            deliveries=used_by(day),
            table_versions={"features_ferries": written.version},
            rows=120,
        )
        for day in DAYS.days
    ]
    postgres.days.record_prepared_days(settings, PROJECT.name, days)


def store_batch(settings: Settings, day: date, version: int, number: int) -> str:
    batch = f"00000000-0000-0000-0000-00000000000{number}"
    statements = """
        INSERT INTO models VALUES ('late_ferry', 'ferries', 'late_ferry', 'binary', 't', 'o') ON CONFLICT DO NOTHING;
        INSERT INTO batches (batch_id, model, day, model_version, rows, digest, as_of, run_id)
            VALUES (:batch, 'late_ferry', :day, :version, 0, repeat('0', 64), :as_of, 'test');
        INSERT INTO published VALUES ('late_ferry', :day, :batch, 'test', now())
            ON CONFLICT (model, day) DO UPDATE SET batch_id = excluded.batch_id;
        INSERT INTO publications (model, day, batch_id, mode, run_id, published_at)
            VALUES ('late_ferry', :day, :batch, 'replace', 'test', now());
    """
    values = {"batch": batch, "day": day, "version": version, "as_of": PROJECT.cutoff_at(day)}
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text(statements), values)
    return batch


def test_lineage_leads_from_deliveries_to_predictions_and_back_also_after_a_correction(with_mlflow: Settings) -> None:
    settings, corrected = with_mlflow, date(2013, 3, 12)
    prepare_days(settings)
    correct(settings, corrected, minutes_before_cutoff=60)
    first, second = f"logbook/a/{corrected}", f"logbook/again/{corrected}"
    decision = train_and_gate(settings)
    assert decision.passed, decision.why_not
    promote(MODEL, after(1), settings, version=1)
    scored = after(1).start
    before = store_batch(settings, scored, 1, 1)

    found = lineage.of_version(MODEL, 1, settings)
    assert second in found.outcomes and first not in found.outcomes
    assert [each.delivery_id for each in found.deliveries if each.correction] == [second]
    assert found.version.origin is not None
    assert {each.day: each.deliveries for each in found.days} == {
        day: used_by(day) for day in found.version.origin.days.days
    }
    assert found.tables == {"features_ferries": 1, "clean_ferries__logbook": 2}
    assert [each.passed for each in found.gates] == [True]
    assert [each.from_day for each in found.promotions] == [scored]
    assert [(each.batch_id, each.state, each.record) for each in found.batches] == [(before, "published", 1)]
    assert "└─ late_ferry version 1, published: 2013-03-23" in "\n".join(words.lines(words.version_tree(found)))

    inputs = client(settings).get_run(found.version.mlflow_run).inputs
    logged = inputs.dataset_inputs if inputs else []
    read = {each.dataset.name: {tag.key: tag.value for tag in each.tags} for each in logged}
    assert read["clean_ferries__logbook"].items() >= {"project": "ferries", "feeds": "logbook"}.items()
    assert read["clean_ferries__logbook"]["deliveries"] == str(len(found.outcomes))
    assert second in str([each.dataset.profile for each in logged])

    # the day that was scored is repaired with another delivery, and scored again
    [used] = [each for each in used_by(scored) if each.startswith("logbook")]
    record = read_journal(settings, PROJECT).records[scored]
    newer = tuple(sorted({second, *record.deliveries} - {used}))
    repaired = record.model_copy(update={"number": 2, "deliveries": newer})
    postgres.journal.add_entries(settings, PROJECT.name, [Entry.prepared_day(repaired, by="Ada", why="a test")])
    again = store_batch(settings, scored, 1, 2)
    of_used = lineage.of_delivery(PROJECT, used, settings)
    assert scored in {each.day for each in of_used.days} and scored not in of_used.current
    assert [(each.batch_id, each.state) for each in of_used.scored] == [(before, "published before")]
    of_newer = lineage.of_delivery(PROJECT, second, settings)
    assert [(each.model_version, each.labels) for each in of_newer.versions] == [(1, True)]
    assert [(each.batch_id, each.state, each.record) for each in of_newer.scored] == [(again, "published", 2)]
    assert [each.batch_id for each in of_newer.predicted] == [before, again]
    back = lineage.of_prediction(MODEL, scored, None, settings)
    assert back.batch.batch_id == again and second in {each.delivery_id for each in back.deliveries}
    with pytest.raises(ActionRequiredError, match=r"has no delivery 'logbook/a/2013-03-99'; did you mean 'logbook/a/"):
        lineage.of_delivery(PROJECT, "logbook/a/2013-03-99", settings)

    # the table that the version read differs from the newest one, as the correction made it
    table = "clean_ferries__logbook"
    old, new = show(table, settings, version=1, day=corrected), show(table, settings, day=corrected)
    assert (old.count(), new.count()) == (120, 240)
    assert set(new.head(240)["delivery_id"]) - set(old.head(240)["delivery_id"]) == {second}
    assert show(table, settings, as_of=new.committed_at).version == new.version
    assert show(table, settings, as_of=new.committed_at - timedelta(milliseconds=1)).version == new.version - 1
    with pytest.raises(ActionRequiredError, match=r"has no version 9: it has the versions 0 \(.*UTC\) to 2 \(.*UTC\)"):
        show(table, settings, version=9)
    with pytest.raises(ActionRequiredError, match=r"had no version on 2013-01-01 00:00:00 UTC: it has the versions 0"):
        show(table, settings, as_of=datetime(2013, 1, 1))  # noqa: DTZ001  # as a person types it
    with pytest.raises(
        ActionRequiredError, match=r"no table 'clean_ferries_logbook'.*did you mean 'clean_ferries__log"
    ):
        show("clean_ferries_logbook", settings)
