"""Rollback: in one step, readers see the predictions of the version before, all of them or none.

Versions 1 and 2 are trained. Version 1 published the days up to YESTERDAY, and version 2 published TODAY.
"""

import json
import threading
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.records import RolledBack, ScoredDay
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import restore
from include.io.outbox import send_due
from include.io.postgres.champions import read_change_by_run
from include.io.postgres.messages import Outbox
from include.io.registry import Registry
from include.io.tables import Tables
from include.operations import rollback as operation
from include.operations.rollback import plan_rollback, rollback
from include.operations.unpublish import unpublish
from include.steps import publish as publish_step
from include.steps.promote import promote
from include.steps.publish import publish_scores
from tests.integration.training import DAY, MODEL, PROJECT, after, ferries, train_and_gate
from tests.receiver import receiving
from tools.export_model.__main__ import read_version

pytestmark = pytest.mark.timeout(300)

BEFORE, YESTERDAY, TODAY, TOMORROW = (after(days).start for days in (2, 3, 4, 5))
WHO = {"by": "Ada", "why": "version 2 predicts nonsense"}


def entities(*days: date) -> pl.DataFrame:
    """Return what readers see of the entities of days."""
    rows = ferries().filter(pl.col("day").is_in(days)).select("day", "entity_id", "company", "origin", "dest")
    moment = pl.lit(PROJECT.cutoff_at(DAY))
    return rows.with_columns(ferry=pl.lit(1, pl.Int64), departs_at=moment, distance_miles=pl.lit(200.0))


def put(settings: Settings, day: date, version: int, mode: Any = "replace") -> float:
    """Publish scores of a version that nothing else has; returns the score of every row."""
    score = version / 10
    rows = entities(day).select("day", "entity_id", model_version=pl.lit(version, pl.Int64), score=pl.lit(score))
    scores = rows.with_columns(prediction=pl.lit(0.0))
    days = [ScoredDay(day=day, model_version=version, rows=scores.height)]
    as_of = {day: PROJECT.cutoff_at(day)}
    of = entities(day).lazy()
    publish_scores(PROJECT, MODEL, scores.lazy(), of, settings, days=days, as_of=as_of, mode=mode)
    return score


def seen(settings: Settings) -> dict[date, tuple[int, float]]:
    """Return the version and the mean score that readers see of each day."""
    query = "SELECT day, min(model_version), max(model_version), avg(score) FROM current_predictions GROUP BY day"
    with postgres.connection.engine(settings).connect() as connection:
        found = {day: (low, high, score) for day, low, high, score in connection.execute(sa.text(query))}
    assert all(low == high for low, high, _ in found.values()), "readers see two versions of one day"
    return {day: (low, round(score, 6)) for day, (low, _, score) in sorted(found.items())}


def count(settings: Settings, table: str) -> int:
    with postgres.connection.engine(settings).connect() as connection:
        found: int = connection.scalar(sa.text(f"SELECT count(*) FROM {table}"))
    return found


def back(settings: Settings, to: str = "previous", model: Model = MODEL, **options: Any) -> RolledBack:
    """Roll back as the command line and the DAG do."""
    plan = plan_rollback(model, settings, to=to, from_day=options.pop("from_day", None), **{**WHO, **options})
    return rollback(model, plan.interval, settings, to=str(plan.model_version), **{**WHO, **options})


@pytest.fixture
def live(trained: Settings) -> Settings:
    """Version 2 is the champion from TODAY on, by force, and publishes nonsense."""
    promote(MODEL, Interval.of(BEFORE), trained, version=1, by="Ada", why="the first", force=True)
    put(trained, BEFORE, 1)
    put(trained, YESTERDAY, 1)
    promote(MODEL, Interval.of(TODAY), trained, version=2, by="Bob", why="a hunch", force=True)
    put(trained, TODAY, 2)
    return trained


def test_readers_see_the_stored_batch_again_and_past_days_stay(live: Settings) -> None:
    put(live, TODAY, 1, mode="missing")
    assert seen(live)[TODAY] == (2, 0.2)
    live = live.model_copy(update={"exports": f"{live.tables}/exports"})
    done = back(live, model=MODEL.model_copy(update={"exports": "csv"}))
    assert [(day.day, day.state, day.instead_of) for day in done.days] == [(TODAY, "stored", 2)]
    [exported] = Path(str(live.exports)).glob(f"*/*/{TODAY}/manifest.json")
    assert json.loads(exported.read_text())["model_version"] == 1
    assert seen(live) == dict.fromkeys((BEFORE, YESTERDAY, TODAY), (1, 0.1))
    assert done.sentence == (
        f"Readers now see version 1 of late_ferry for {TODAY} (1 from a stored batch). "
        f"It is the champion from {TODAY} on."
    )
    assert Registry(live).aliased(MODEL.name) == 1
    with postgres.connection.engine(live).connect() as connection:
        actions = connection.execute(
            sa.text("SELECT action, by, why FROM human_actions ORDER BY decided_at DESC")
        ).first()
    assert actions is not None
    assert tuple(actions) == ("roll back", *WHO.values())

    again = back(live)
    assert (again.recorded, again.rows, again.model_version) == (False, 0, 1), "`previous` must not undo a rollback"
    assert seen(live)[TODAY] == (1, 0.1)
    assert train_and_gate(live, run_date=after(5)).champion == 1, "the next candidate must beat the champion of now"


def test_what_was_scored_before_the_rollback_is_not_published_after_it(live: Settings) -> None:
    """The rollback comes between `score` and `publish` of the same run date."""
    put(live, TODAY, 1, mode="missing")
    back(live)
    before = count(live, "batches")
    said = rf"(?s){TODAY}: the scores are of version 2, but Ada rolled back to version 1 .*Clear `score`"
    for day in (TODAY, TOMORROW):  # of a night that was late, and of the next one
        with pytest.raises(ActionRequiredError, match=said.replace(str(TODAY), str(day))):
            put(live, day, 2)
    assert count(live, "batches") == before
    put(live, TODAY, 2, mode="missing")  # a backfill keeps what readers see
    assert (seen(live)[TODAY], TOMORROW in seen(live)) == ((1, 0.1), False)
    put(live, YESTERDAY, 2)  # a past day, which the rollback left alone
    assert seen(live)[YESTERDAY] == (2, 0.2)


def test_unpublish_after_a_rollback_does_not_show_readers_what_was_rolled_back(live: Settings) -> None:
    put(live, TOMORROW, 1)
    put(live, TOMORROW, 2)
    put(live, TODAY, 1, mode="missing")
    back(live, from_day=TODAY)
    assert (seen(live)[TODAY], seen(live)[TOMORROW]) == ((1, 0.1), (1, 0.1))
    undone = unpublish(MODEL, Interval(start=TODAY, end=TOMORROW), live)
    assert [(day.day, day.batch_id is None) for day in undone.days] == [(TODAY, True), (TOMORROW, False)]
    assert TODAY not in seen(live), "version 2 published it before"
    assert seen(live)[TOMORROW] == (1, 0.1), "version 1 did before that"
    unpublish(MODEL, Interval.of(TOMORROW), live)
    assert [*seen(live)] == [BEFORE, YESTERDAY], "what was passed over does not come back"


def described(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `publish` find entities: the installation has features and no feed of entities."""
    monkeypatch.setattr(publish_step, "_entities", lambda *_: entities(BEFORE, YESTERDAY, TODAY).lazy())


def test_a_day_without_a_stored_batch_is_scored_and_a_kill_before_the_switch_changes_nothing(
    live: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    described(live, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(operation, "_switch", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            back(live)
    assert (seen(live)[TODAY], count(live, "promotions")) == ((2, 0.2), 2), "readers see a rollback that is not done"
    done = back(live)
    scores = Tables(live).scan("scores_late_ferry").filter(pl.col("day") == TODAY).collect()
    assert scores["model_version"].unique().to_list() == [1]
    version, score = seen(live)[TODAY]
    assert version == 1
    assert score == pytest.approx(scores["score"].to_numpy().mean(), abs=1e-6)
    assert (done.rows, done.recorded, done.days[0].state) == (1, True, "stored")

    promote(MODEL, Interval.of(TOMORROW), live, version=2, by="Bob", why="another hunch", force=True)
    with monkeypatch.context() as patch:  # killed after the switch, before the registry followed
        patch.setattr(operation, "sync_alias", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            back(live)
    assert Registry(live).aliased(MODEL.name) == 2
    assert back(live).recorded is False
    assert Registry(live).aliased(MODEL.name) == 1


def test_past_days_change_only_when_asked(live: Settings) -> None:
    for day in (YESTERDAY, TODAY):
        put(live, day, 2)
    put(live, TODAY, 1, mode="missing")
    assert back(live).first_day == TODAY
    assert seen(live)[YESTERDAY] == (2, 0.2)
    done = back(live, from_day=BEFORE)
    assert [(day.day, day.state) for day in done.days] == [
        (BEFORE, "unchanged"),
        (YESTERDAY, "stored"),
        (TODAY, "unchanged"),
    ]
    assert {version for version, _ in seen(live).values()} == {1}


def test_a_champion_from_tomorrow_on_is_rolled_back_too(trained: Settings) -> None:
    promote(MODEL, Interval.of(BEFORE), trained, version=1, by="Ada", why="the first", force=True)
    put(trained, TODAY, 1)
    promote(MODEL, Interval.of(TOMORROW), trained, version=2, by="Bob", why="a hunch", force=True)
    done = back(trained)
    assert (done.recorded, done.rows) == (True, 0)
    days = Interval(start=TODAY, end=after(9).start)
    assert set(postgres.promotions.read_champions(trained, MODEL.name, days).values()) == {1}
    states = postgres.version_moves.read_states(trained, MODEL.name)
    assert (states[1], states[2]) == ("champion", "replaced")


def test_two_rollbacks_at_once_are_one(live: Settings) -> None:
    put(live, TODAY, 1, mode="missing")
    done: list[RolledBack] = []
    threads = [threading.Thread(target=lambda: done.append(back(live))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.model_version for each in done] == [1, 1]
    assert sorted(each.recorded for each in done) == [False, True]
    assert seen(live)[TODAY] == (1, 0.1)


def test_a_training_does_not_promote_what_a_person_replaced(trained: Settings) -> None:
    """It passed the gate, so without that rule the run of its training, cleared, would make it champion again."""
    promote(MODEL, Interval.of(after(1).start), trained, version=1, by="Ada", why="the first", force=True)
    put(trained, after(1).start, 1)
    second = train_and_gate(trained, run_date=after(1))
    assert (second.passed, second.champion) == (True, 1), second.why_not
    assert promote(MODEL, after(2), trained, version=2).held_back is None
    done = back(trained)
    assert (done.model_version, done.first_day) == (1, after(1).start)
    again = train_and_gate(trained, run_date=after(1))
    held = promote(MODEL, after(2), trained, version=2)
    assert again.passed
    assert held.held_back is not None
    assert held.held_back.startswith("Ada replaced version 2, or one with the same files, by version 1")
    assert actions(trained) == [("force promotion", "Ada"), ("roll back", "Ada")]

    decided = decided_by_people(trained)
    change(trained, "DELETE FROM version_moves; DELETE FROM promotions; DELETE FROM journal;")
    assert [restore(trained, PROJECT.name).promotions for _ in range(2)] == [2, 0]
    assert decided_by_people(trained) == decided
    assert actions(trained) == [("force promotion", "Ada"), ("roll back", "Ada")]
    assert promote(MODEL, after(2), trained, version=2).held_back == held.held_back, "a backfill promotes it again"
    assert postgres.promotions.read_renumbered(trained, MODEL.name) == []
    change(
        trained, "UPDATE journal SET entry = jsonb_set(entry, '{model_digest}', '\"other\"') WHERE kind = 'decision'"
    )
    assert {version for _, version in postgres.promotions.read_renumbered(trained, MODEL.name)} == {1}

    change(trained, "DELETE FROM journal")  # as `restore_promotions` leaves it
    assert actions(trained) == [("force promotion", "Ada"), ("roll back", "Ada")]
    change(trained, "UPDATE promotions SET rolled_back_from = NULL")
    assert actions(trained) == [("force promotion", "Ada"), ("promote", "Ada")], "that version was replaced before"
    assert set(postgres.promotions.read_champions(trained, MODEL.name, after(6)).values()) == {1}


def actions(settings: Settings) -> list[tuple[str, ...]]:
    query = "SELECT action, by FROM human_actions ORDER BY decided_at"
    with postgres.connection.engine(settings).connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def decided_by_people(settings: Settings) -> list[Any]:
    """Return the promotions by people and their moves, as they must be after a restore."""
    of_promotion = "promotions p LEFT JOIN version_moves v ON v.promotion_id = p.id"
    columns = "to_jsonb(p) - 'id' - 'gate_id', to_jsonb(v) - 'id' - 'promotion_id' - 'gate_id'"
    query = f"SELECT {columns} FROM {of_promotion} WHERE p.by <> 'gate' ORDER BY p.created_at, v.created_at"
    with postgres.connection.engine(settings).connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def change(settings: Settings, statement: str, **values: Any) -> None:
    """Change rows that nobody can change."""
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text("SET session_replication_role = replica"))
        connection.execute(sa.text(statement), values)


def unprepare(settings: Settings) -> None:
    change(settings, "DELETE FROM prepared_days WHERE day = :day", day=TODAY)


def spoil_files(settings: Settings) -> None:
    run = Registry(settings).get_version(MODEL.name, 1).run_id
    change(settings, "UPDATE fits SET model_digest = repeat('0', 64) WHERE mlflow_run = :run", run=run)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"to": "9"}, "version 9 of late_ferry was never the champion"),
    ({"to": "9", "force": True}, "no version 9"),
    ({"to": "latest"}, "neither a version number nor `previous`"),
    ({"why": " "}, "needs who decided it and why"),
    ({"by": "gate"}, "needs who decided it and why"),
    ({"from_day": DAY}, "it can be champion from the day after"),
    ({"from_day": TOMORROW}, f"nothing is published from {TOMORROW} on"),
]


def test_what_cannot_be_rolled_back_is_refused_and_changes_nothing(live: Settings) -> None:
    for options, said in REFUSED:
        with pytest.raises(ActionRequiredError, match=said):
            back(live, **{"to": "previous", **options})
    for spoil, said in ((unprepare, r"ferries_prepare --conf '{\"day\": \"2013"), (spoil_files, "other files|digest")):
        spoil(live)
        with pytest.raises(ActionRequiredError, match=said):
            back(live)
    assert (seen(live)[TODAY], count(live, "promotions"), count(live, "batches")) == ((2, 0.2), 2, 3)


def test_without_a_champion_before_there_is_nothing_to_roll_back(trained: Settings) -> None:
    with pytest.raises(ActionRequiredError, match="has no champion yet"):
        back(trained)
    promote(MODEL, Interval.of(BEFORE), trained, version=1, by="Ada", why="the first", force=True)
    with pytest.raises(ActionRequiredError, match="version 1 is the first champion, there is none before it"):
        back(trained)
    with pytest.raises(ActionRequiredError, match="version 2 of late_ferry was never the champion, it is registered"):
        back(trained, to="2")


def test_programs_hear_of_each_change_of_the_champion_once(trained: Settings) -> None:
    with postgres.connection.engine(trained).begin() as connection:
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))  # the table is immutable
        connection.execute(
            sa.text("UPDATE model_versions SET semantic_version = model_version || '.0.0', changed = ''")
        )
    told = MODEL.model_copy(update={"champion_messages": "nightly_models"})
    forced: dict[str, Any] = {"why": "a try", "force": True}
    promote(told, Interval.of(BEFORE), trained, version=1, by="Ada", **forced)
    assert (first := read_change_by_run(trained, MODEL.name)) is not None and first.previous_version is None
    promote(told, Interval.of(BEFORE), trained, version=1, by="Ada", **forced)
    promote(told, Interval.of(TOMORROW), trained, version=1, by="Ada", **forced)  # it is the champion already
    promote(told, Interval.of(TOMORROW), trained, version=2, by="Bob", **forced)
    who: dict[str, Any] = {**WHO, "to": "previous"}
    rollback(told, plan_rollback(told, trained, **who).interval, trained, **who)
    assert read_change_by_run(trained.model_copy(update={"run_id": "another"}), MODEL.name) is None
    change = read_change_by_run(trained, MODEL.name)
    exported = read_version(MODEL, None, trained)
    assert (exported.about["version"], exported.about["is_champion"]) == (1, True), "what a program takes then"
    assert change is not None and exported.files.digest == change.digest
    with receiving() as programs:
        signed = {"channel": "webhook", "url": programs.url, "secret": "a secret of both sides"}
        outbox, addresses = Outbox(trained.database_url), {"nightly_models": json.dumps(signed)}
        assert send_due(outbox, addresses.get, seconds=30).given_up == ()
    digests = {n: fit.model_digest for n, fit in postgres.model_files.read_versions(trained, MODEL.name).items()}
    moves = [(1, None, "person"), (2, 1, "person"), (1, 2, "rollback")]
    for got, (version, previous, move) in zip(programs.got, moves, strict=True):
        assert (got.body["model_version"], got.body["previous_version"], got.body["move"]) == (version, previous, move)
        assert got.body["digest"] == digests[version] and got.body["model_uri"] == f"models:/{MODEL.name}/{version}"
        assert got.body["semantic_version"] == f"{version}.0.0", "it is no pre-release any more"
    assert len({got.key for got in programs.got}) == 3
    assert change.model_dump(mode="json").items() <= programs.got[-1].body.items()


def test_a_promotion_that_is_not_committed_and_one_of_a_model_without_the_key_are_no_message(trained: Settings) -> None:
    with pytest.raises(ZeroDivisionError), postgres.promotions.open_promotion_history(trained, MODEL.name) as book:
        book.add(1, BEFORE, by="Ada", why="a try", forced=True, announce_to="nightly_models")
        1 / 0  # noqa: B018
    promote(MODEL, Interval.of(BEFORE), trained, version=1, by="Ada", why="the first", force=True)
    assert count(trained, "messages") == 0
