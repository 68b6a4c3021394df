"""Gate and promote on PostgreSQL, MLflow and Delta.

A version becomes champion only with a decision on this version, these files, these rules and this champion. A person
can force a promotion, and the promotion history records that.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from include.core.errors import ActionRequiredError, DataError
from include.core.interval import Interval
from include.core.records import Promotion
from include.core.settings import Settings
from include.gate import rules
from include.gate.checks.quality import Quality
from include.io import postgres
from include.io.registry import LoadedModel, Registry
from include.io.registry.models import REFERENCE_ROWS
from include.operations.print_report import print_report
from include.steps.evaluate import evaluate
from include.steps.fit import fit
from include.steps.gate import gate
from include.steps.promote import promote, sync_alias
from include.steps.report_version import report_version
from tests.integration import small
from tests.integration.conftest import Copied
from tests.integration.training import MODEL, RUN, after, client, fit_all, train_and_gate
from tests.pages import assert_complete_in_itself

pytestmark = pytest.mark.timeout(300)

NAME = MODEL.name


STRICT = Quality(metric="roc_auc", at_least=0.999)
OTHERS = tuple(check for check in MODEL.gate.checks if check.kind != STRICT.kind)
TOO_STRICT = MODEL.model_copy(update={"gate": MODEL.gate.model_copy(update={"checks": (*OTHERS, STRICT)})})


def read_promotions(settings: Settings) -> list[tuple[int, date]]:
    with postgres.connection.engine(settings).connect() as connection:
        rows = connection.execute(sa.text("SELECT model_version, from_day FROM promotions ORDER BY id"))
        return [(version, day) for version, day in rows]


def publish(settings: Settings, day: date, version: int) -> None:
    """Publish a batch without rows."""
    batch = "00000000-0000-0000-0000-000000000001"
    statements = """
        INSERT INTO models VALUES ('late_ferry', 'ferries', 'late_ferry', 'binary', 't', 'o');
        INSERT INTO batches (batch_id, model, day, model_version, rows, digest, as_of, run_id)
            VALUES (:batch, 'late_ferry', :day, :version, 0, repeat('0', 64), now(), 'test');
        INSERT INTO published VALUES ('late_ferry', :day, :batch, 'test', now());
    """
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text(statements), {"batch": batch, "day": day, "version": version})


def by_hand(settings: Settings, from_day: Interval, version: int, **options: Any) -> Promotion:
    return promote(MODEL, from_day, settings, version=version, **{"by": "Ada", "why": "because", **options})


@pytest.fixture(scope="module")
def gated_once(trained_once: Settings, copied: Copied, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Versions 1 and 2 passed the gate, version 2 on the day after; there is no champion."""
    with copied(trained_once, tmp_path_factory.mktemp("gated")) as settings:
        for days in (0, 1):
            decision = train_and_gate(settings, run_date=after(days))
            assert decision.passed, decision.why_not
        yield settings


@pytest.fixture
def gated(gated_once: Settings, copied: Copied, tmp_path: Path) -> Iterator[Settings]:
    """Return a copy of `gated_once`."""
    with copied(gated_once, tmp_path) as settings:
        yield settings


# --- the gate's record ------------------------------------------------------------------------------------------------


def test_a_decision_is_recorded_with_each_check(trained: Settings) -> None:
    decision = train_and_gate(trained)
    assert (decision.model, decision.model_version, decision.interval, decision.champion) == (NAME, 1, RUN, None)
    with postgres.connection.engine(trained).connect() as connection:
        decided = connection.execute(sa.text("SELECT * FROM gate_decisions")).mappings().one()
        recorded = connection.execute(sa.text("SELECT * FROM gate_checks ORDER BY number")).mappings().all()
    assert (str(decided["gate_id"]), decided["passed"], decided["why_not"]) == (decision.gate_id, True, None)
    assert decided["rows"] == decision.rows == 600
    assert [(c["name"], c["subject"], c["measured"], c["sentence"]) for c in recorded] == [
        (c.name, c.subject, c.measured, c.sentence) for c in decision.checks
    ]
    version = client(trained).get_model_version(NAME, "1")
    assert (version.tags["gate"], version.tags["gate_id"]) == ("passed", decision.gate_id)
    assert client(trained).get_run(version.run_id).data.tags["gate"] == "passed"
    [table] = client(trained).list_artifacts(version.run_id, "gate")
    assert table.path == f"gate/{decision.gate_id}.json"


def test_a_training_leaves_its_report_which_is_the_same_again(trained: Settings) -> None:
    train_and_gate(trained)
    by_hand(trained, after(1), 1)
    decision = train_and_gate(trained, run_date=after(1))
    assert decision.champion == 1
    made = report_version(MODEL, after(1), trained, decision=decision)
    version = client(trained).get_model_version(NAME, "2")
    assert version.tags["report"] == made.report == f"report/{decision.gate_id}.html"
    page = Path(client(trained).download_artifacts(version.run_id, made.report)).read_text(encoding="utf-8")
    assert hashlib.sha256(page.encode()).hexdigest() == made.digest
    assert_complete_in_itself(page, draws=True)
    for part in ("Late ferry, version 2", "What changed since champion 1", MODEL.digest[:12], "2013-03-23"):
        assert part in page, part
    facts = Registry(trained).read_facts(Registry(trained).get_version(NAME, 2))
    assert facts is not None
    assert facts["importances"][0]["name"] == "leaving_hour", "the planted cause of late ferries"
    assert report_version(MODEL, after(1), trained, decision=decision) == made
    assert print_report(MODEL, 2, trained).endswith(f"{made.report.removesuffix('.html')}.pdf")
    promote(MODEL, after(2), trained, version=2)
    [row] = small.select(trained, "SELECT report FROM promotion_history WHERE model_version = 2")
    assert row["report"] == f"runs:/{version.run_id}/{made.report}"


def test_a_second_run_returns_the_recorded_decision(trained: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is checked again, even if the step was killed before MLflow had the decision."""
    first = train_and_gate(trained)
    client(trained).delete_model_version_tag(NAME, "1", "gate")
    monkeypatch.setattr(rules, "run_checks", lambda *_: pytest.fail("checked again"))
    assert train_and_gate(trained) == first
    assert client(trained).get_model_version(NAME, "1").tags["gate"] == "passed"


def test_each_version_scores_the_holdout_once(gated: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Challenger, linear baseline and champion score it once, and so does the fit on shuffled outcomes.

    The scoring time is measured on the challenger.
    """
    by_hand(gated, after(2), 1)
    fitted = fit_all(gated, run_date=after(3))
    evaluated = evaluate(MODEL, after(3), gated, fitted=fitted)
    scored: list[int] = []
    predict = LoadedModel.predict

    def counted(loaded: LoadedModel, rows: Any) -> Any:
        scored.append(rows.height)
        return predict(loaded, rows)

    monkeypatch.setattr(LoadedModel, "predict", counted)
    decision = gate(MODEL, after(3), gated, evaluated=evaluated, fitted=fitted)
    assert decision.champion == 1
    models = 3 if evaluated.candidate == "linear" else 4
    assert [rows for rows in scored if rows > REFERENCE_ROWS] == [evaluated.rows] * models
    [time] = [check for check in decision.checks if check.name == "scoring time"]
    assert time.measured is not None
    assert time.measured > 0


def test_a_rejection_is_logged_and_the_version_cannot_be_promoted(
    trained: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    decision = train_and_gate(trained, TOO_STRICT)
    assert not decision.passed
    assert decision.why_not is not None
    assert decision.why_not.startswith("roc_auc 0.8")
    assert "✗ quality: roc_auc" in caplog.text
    assert client(trained).get_model_version(NAME, "1").tags["gate"].startswith("rejected: roc_auc")
    with pytest.raises(ActionRequiredError, match="version 1 of late_ferry was rejected by the gate: roc_auc"):
        promote(TOO_STRICT, after(1), trained, version=1)
    assert read_promotions(trained) == []


def test_a_version_must_beat_the_champion_of_earlier_trainings(gated: Settings) -> None:
    """This holds for its live run and for its backfill, whatever was promoted later."""
    promote(MODEL, after(1), gated, version=1)
    second = train_and_gate(gated, run_date=after(1))
    assert second.champion == 1
    assert {c.name for c in second.checks} >= {"champion", "changed decisions", "score shift"}
    promote(MODEL, after(2), gated, version=2)
    assert train_and_gate(gated).champion is None
    assert train_and_gate(gated, run_date=after(1)) == second


def test_a_version_of_another_day_is_refused_by_the_gate(trained: Settings) -> None:
    from include.steps.evaluate import evaluate
    from include.steps.gate import gate
    from tests.integration.training import fit_all

    fitted = fit_all(trained)
    evaluated = evaluate(MODEL, RUN, trained, fitted=fitted)
    with pytest.raises(DataError, match="has the run date 2013-03-22, not 2013-03-23"):
        gate(MODEL, after(1), trained, evaluated=evaluated, fitted=fitted)


def test_without_the_linear_baseline_no_version_passes(trained: Settings) -> None:
    from include.steps.evaluate import evaluate
    from include.steps.gate import gate
    from tests.integration.training import fit_all

    fitted = fit_all(trained)
    evaluated = evaluate(MODEL, RUN, trained, fitted=fitted)
    decision = gate(MODEL, RUN, trained, evaluated=evaluated, fitted=[f for f in fitted if f.candidate != "linear"])
    assert [c.name for c in decision.checks if not c.passed] == ["linear baseline"]
    assert "it was not fitted" in (decision.why_not or "")


def test_the_database_refuses_a_decision_that_its_checks_do_not_support(gated: Settings) -> None:
    copied = (
        "INSERT INTO gates SELECT gen_random_uuid(), model, model_version, day, candidate, champion_version, "
        "model_digest, rules_digest, true, checks, holdout_start, holdout_end, rows, run_id, decided_at, "
        "validation_start, validation_end FROM gates LIMIT 1"
    )
    with (
        pytest.raises(sa.exc.DBAPIError, match=r"has 0 checks"),
        postgres.connection.engine(gated).begin() as connection,
    ):
        connection.execute(sa.text(copied))
    with (
        pytest.raises(sa.exc.DBAPIError, match="never changed"),
        postgres.connection.engine(gated).begin() as connection,
    ):
        connection.execute(sa.text("UPDATE gate_results SET passed = true"))


# --- what promote verifies --------------------------------------------------------------------------------------------


def no_record(settings: Settings) -> int:
    return 1


def record_of_another_version(settings: Settings) -> int:
    train_and_gate(settings, run_date=after(1))
    return 1


def another_champion_since(settings: Settings) -> int:
    train_and_gate(settings, run_date=after(1))
    train_and_gate(settings)
    promote(MODEL, after(1), settings, version=1)
    return 2


def other_files_since(settings: Settings) -> int:
    train_and_gate(settings)
    path = Path(settings.artifacts).rglob("model.skops")
    uri = Registry(settings).get_fit(client(settings).get_model_version(NAME, "1").run_id).model_id
    [file] = [p for p in path if uri in str(p)]
    file.write_bytes(file.read_bytes() + b"x")
    return 1


@pytest.mark.parametrize("hand", [False, True], ids=["gate", "hand"])
@pytest.mark.parametrize(
    ("since", "says"),
    [
        (no_record, r"version 1 of late_ferry has no decision.*cli gate --model late_ferry --day 2013-03-22"),
        (record_of_another_version, "version 1 of late_ferry has no decision"),
        (another_champion_since, "was compared with no champion, but now it has to beat version 1"),
        (other_files_since, "is not what was fitted"),
    ],
)
def test_a_promotion_needs_a_decision_that_is_still_valid(
    trained: Settings, since: Callable[[Settings], int], says: str, hand: bool, tmp_path: Path
) -> None:
    import shutil

    own = trained
    if since is other_files_since:  # all tests of this module share the files
        kept = Path(trained.artifacts).with_name("artifacts-kept")
        shutil.copytree(trained.artifacts, kept)
    try:
        version = since(own)
        before = read_promotions(own)
        with pytest.raises(ActionRequiredError, match=says):
            if hand:
                by_hand(own, after(3), version)
            else:
                promote(MODEL, after(3), own, version=version)
        assert read_promotions(own) == before
    finally:
        if since is other_files_since:
            shutil.rmtree(trained.artifacts)
            kept.rename(trained.artifacts)


def test_a_decision_by_other_rules_cannot_promote(gated: Settings) -> None:
    with pytest.raises(ActionRequiredError, match="checked by other rules"):
        promote(TOO_STRICT, after(3), gated, version=1)
    assert read_promotions(gated) == []


# --- by the gate ------------------------------------------------------------------------------------------------------


def test_a_decision_promotes_once(gated: Settings) -> None:
    first = promote(MODEL, after(1), gated, version=1)
    assert (first.rows, first.by, first.interval) == (1, "gate", after(1))
    assert first.why.startswith("passed all ")
    train_and_gate(gated, run_date=after(1))
    promote(MODEL, after(2), gated, version=2)
    by_hand(gated, after(4), 1, why="version 2 was bad")
    again = promote(MODEL, after(2), gated, version=2)
    assert (again.rows, again.by, again.interval) == (0, "gate", after(2)), "it was the champion until Ada's day"
    assert read_promotions(gated) == [(1, after(1).start), (2, after(2).start), (1, after(4).start)]
    assert Registry(gated).aliased(NAME) == 1


def test_a_promotion_takes_effect_after_the_newest_published_day(gated: Settings) -> None:
    publish(gated, after(4).start, 9)
    assert promote(MODEL, after(1), gated, version=1).interval == after(5)


def test_a_past_training_replaces_a_newer_champion_only_with_displace_newer(gated: Settings) -> None:
    promote(MODEL, after(2), gated, version=2)
    held = promote(MODEL, after(1), gated, version=1)
    assert (held.rows, held.skipped) == (0, held.held_back)
    assert held.held_back is not None
    assert "champion 2 was decided on 2013-03-23, later than 2013-03-22" in held.held_back
    assert read_promotions(gated) == [(2, after(2).start)]
    displaced = promote(MODEL, after(3), gated, version=1, displace_newer=True)
    assert (displaced.rows, displaced.interval) == (1, after(3))
    assert Registry(gated).aliased(NAME) == 1


def test_a_rollback_by_hand_survives_the_rerun_of_a_past_training(gated: Settings) -> None:
    """A rollback belongs to the day on which it takes effect, whatever the run date of its version's training."""
    promote(MODEL, after(1), gated, version=1)
    train_and_gate(gated, run_date=after(1))
    promote(MODEL, after(2), gated, version=2)
    third = train_and_gate(gated, run_date=after(2))
    assert (third.champion, third.passed) == (2, True), third.why_not
    promote(MODEL, after(3), gated, version=3)
    by_hand(gated, after(6), 1, why="storms")
    before = read_promotions(gated)
    assert train_and_gate(gated, run_date=after(2)) == third
    assert promote(MODEL, after(3), gated, version=3).rows == 0
    assert read_promotions(gated) == before
    assert Registry(gated).aliased(NAME) == 1
    assert train_and_gate(gated, run_date=after(6)).champion == 1


def test_a_promotion_by_hand_stays_even_if_a_training_of_an_earlier_day_runs_later(gated: Settings) -> None:
    """A backfill restores promotions by hand first, and must end with the champions of the live runs."""
    promote(MODEL, after(1), gated, version=1)
    train_and_gate(gated, run_date=after(1))
    promote(MODEL, after(2), gated, version=2)
    by_hand(gated, after(3), 1, why="storms")
    third = train_and_gate(gated, run_date=after(2))
    assert (third.champion, third.passed) == (2, True), third.why_not  # the champion of its live run
    before = read_promotions(gated)
    for displace_newer in (False, True):
        held = promote(MODEL, after(3), gated, version=3, displace_newer=displace_newer)
        assert held.held_back == f"Ada made version 1 champion from {after(3).start} on, by hand"
    assert read_promotions(gated) == before
    assert train_and_gate(gated, run_date=after(3)).champion == 1


def test_promotions_by_hand_are_restored_into_an_empty_promotion_history(gated: Settings, tmp_path: Path) -> None:
    promote(MODEL, after(1), gated, version=1)
    train_and_gate(gated, run_date=after(1))
    promote(MODEL, after(2), gated, version=2)
    by_hand(gated, after(4), 1, why="storms")
    rows = postgres.promotions.read_manual_promotions(gated, NAME)
    assert [(row.model_version, row.from_day, row.why) for row in rows] == [(1, after(4).start, "storms")]
    with postgres.connection.engine(gated).begin() as connection:
        connection.execute(sa.text("ALTER TABLE promotions DISABLE TRIGGER ALL"))
        connection.execute(sa.text("DELETE FROM promotions"))
        connection.execute(sa.text("ALTER TABLE promotions ENABLE TRIGGER ALL"))
    assert postgres.promotions.restore_promotions(gated, NAME, rows) == 1
    assert postgres.promotions.restore_promotions(gated, NAME, rows) == 0
    assert [vars(row) | {"id": 0} for row in postgres.promotions.read_manual_promotions(gated, NAME)] == [
        vars(row) | {"id": 0, "gate_id": None} for row in rows
    ]
    # then the trainings, in the order of their days
    promote(MODEL, after(1), gated, version=1, displace_newer=True)
    promote(MODEL, after(2), gated, version=2, displace_newer=True)
    whole = Interval(start=after(1).start, end=after(5).start)
    assert postgres.promotions.read_champions(gated, NAME, whole) == dict(zip(whole.days, [1, 2, 2, 1, 1], strict=True))


def test_a_decision_by_the_current_rules_stays_valid_after_other_rules_were_tried(gated: Settings) -> None:
    assert not train_and_gate(gated, TOO_STRICT).passed
    assert promote(MODEL, after(1), gated, version=1).rows == 1


def test_a_rollback_to_a_former_champion_ignores_the_current_rules(gated: Settings) -> None:
    promote(MODEL, after(1), gated, version=1)
    train_and_gate(gated, run_date=after(1))
    promote(MODEL, after(2), gated, version=2)
    back = promote(TOO_STRICT, after(3), gated, version=1, by="Ada", why="version 2 was wrong about storms")
    assert (back.rows, back.forced) == (1, False)
    with pytest.raises(ActionRequiredError, match="checked by other rules"):
        promote(TOO_STRICT, after(4), gated, version=2, displace_newer=True)


def test_a_promotion_from_before_the_gate_existed_stays_valid(gated: Settings) -> None:
    """Its row has neither a run date of a training nor a decision."""
    small.promoted(gated, NAME, 1, after(1).start, by="Ada", why="first")
    assert postgres.promotions.read_champions(gated, NAME, after(1)) == {after(1).start: 1}
    decision = train_and_gate(gated, run_date=after(1))
    assert (decision.champion, decision.passed) == (1, True)
    assert promote(MODEL, after(2), gated, version=2).rows == 1


def test_concurrent_equal_promotions_are_one_row(gated: Settings) -> None:
    start, made = threading.Barrier(4), []

    def work() -> None:
        start.wait()
        made.append(promote(MODEL, after(1), gated, version=1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(p.rows for p in made) == [0, 0, 0, 1]
    assert read_promotions(gated) == [(1, after(1).start)]


def test_a_promotion_waits_for_a_running_publication(gated: Settings) -> None:
    """Otherwise a day that the promotion takes as unpublished could be published with the previous champion."""
    made: list[Promotion] = []
    thread = threading.Thread(target=lambda: made.append(promote(MODEL, after(1), gated, version=1)))
    with postgres.connection.engine(gated).begin() as publishing:
        postgres.connection.lock(publishing, f"publish {NAME}")
        thread.start()
        thread.join(timeout=3)
        assert not made
        publish(gated, after(1).start, 9)
    thread.join()
    assert made[0].interval == after(2)


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_a_forced_promotion_is_recorded_as_forced(trained: Settings) -> None:
    train_and_gate(trained, TOO_STRICT)
    promotion = by_hand(trained, after(1), 1, force=True, why="the rule is wrong, see ticket 7")
    assert promotion.forced
    with postgres.connection.engine(trained).connect() as connection:
        row = connection.execute(
            sa.text("SELECT model_version, forced, by, why, trained_day FROM promotion_history")
        ).one()
    assert tuple(row) == (1, True, "Ada", "the rule is wrong, see ticket 7", RUN.start)


@pytest.mark.parametrize("options", [{"why": " "}, {"by": " "}, {"by": "gate", "why": "x"}])
def test_only_a_person_with_a_reason_can_force_a_promotion(trained: Settings, options: dict[str, str]) -> None:
    with pytest.raises(ActionRequiredError, match=r"who decided it and why|only a person can force"):
        by_hand(trained, after(1), 1, force=True, **options)
    assert read_promotions(trained) == []


def test_a_promotion_writes_the_promotion_history_then_the_alias(gated: Settings) -> None:
    promotion = promote(MODEL, after(1), gated, version=1, by="Ada", why="first")
    assert (promotion.interval, promotion.model_version, promotion.rows) == (after(1), 1, 1)
    assert (promotion.model, promotion.by, promotion.why) == ("late_ferry", "Ada", "first")
    assert read_promotions(gated) == [(1, after(1).start)]
    assert Registry(gated).aliased("late_ferry") == 1
    assert postgres.promotions.read_champions(gated, "late_ferry", RUN.shifted(end=1)) == {after(1).start: 1}


def test_a_second_promotion_writes_nothing_and_syncs_the_alias(gated: Settings) -> None:
    promote(MODEL, after(1), gated, version=1, by="Ada", why="first")
    client(gated).set_registered_model_alias("late_ferry", "champion", "2")
    publish(gated, after(3).start, 1)
    again = promote(MODEL, after(1), gated, version=1, by="Ada", why="first")
    assert again.rows == 0
    assert read_promotions(gated) == [(1, after(1).start)]
    assert Registry(gated).aliased("late_ferry") == 1


def test_after_a_kill_before_the_alias_was_set_the_alias_is_synced(
    gated: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch, pytest.raises(ConnectionError):
        patch.setattr(Registry, "point", fails)
        promote(MODEL, after(1), gated, version=1, by="Ada", why="first")
    assert read_promotions(gated) == [(1, after(1).start)]
    assert Registry(gated).aliased("late_ferry") is None
    assert sync_alias(MODEL, gated) == 1
    assert Registry(gated).aliased("late_ferry") == 1


def test_the_alias_follows_the_promotion_history_not_the_last_promotion(gated: Settings) -> None:
    promote(MODEL, after(5), gated, version=2, by="Ada", why="better")
    promote(MODEL, after(2), gated, version=1, by="Ada", why="until then")
    assert Registry(gated).aliased("late_ferry") == 2
    days = Interval(start=after(2).start, end=after(5).start)
    assert list(postgres.promotions.read_champions(gated, "late_ferry", days).values()) == [1, 1, 1, 2]


def test_without_a_champion_there_is_no_alias(gated: Settings) -> None:
    assert sync_alias(MODEL, gated) is None
    assert Registry(gated).aliased("late_ferry") is None


def test_a_promotion_from_a_published_day_on_is_refused(gated: Settings) -> None:
    promote(MODEL, after(2), gated, version=1, by="Ada", why="first")
    publish(gated, after(4).start, 1)
    train_and_gate(gated, run_date=after(1))
    for days in (3, 4):
        with pytest.raises(ActionRequiredError, match=r"2013-03-26, the newest day published.*rewrite the past"):
            promote(MODEL, after(days), gated, version=2, by="Ada", why="better")
    assert read_promotions(gated) == [(1, after(2).start)]
    assert Registry(gated).aliased("late_ferry") == 1
    promote(MODEL, after(5), gated, version=2, by="Ada", why="better")
    assert read_promotions(gated) == [(1, after(2).start), (2, after(5).start)]


@pytest.mark.parametrize("days", [0, -9])
def test_a_version_cannot_be_champion_of_days_up_to_its_run_date(gated: Settings, days: int) -> None:
    with pytest.raises(ActionRequiredError, match=r"trained on 2013-03-22.*from the day after"):
        promote(MODEL, after(days), gated, version=1, by="Ada", why="first")
    assert read_promotions(gated) == []


def test_an_unknown_version_is_refused(gated: Settings) -> None:
    with pytest.raises(ActionRequiredError, match="no version 3 in the registry; the newest are 2, 1"):
        promote(MODEL, after(3), gated, version=3, by="Ada", why="first")
    assert read_promotions(gated) == []


def test_a_version_that_was_not_evaluated_is_refused(gated: Settings) -> None:
    """A step leaves such a version if it is killed right after it created it."""
    fit_run = Registry(gated).get_fit(fit(MODEL, after(2), gated, candidate="linear").run_id)
    client(gated).create_model_version("late_ferry", f"runs:/{fit_run.run_id}/x", fit_run.run_id, tags=fit_run.tags)
    with pytest.raises(ActionRequiredError, match="version 3 of late_ferry was not made by evaluate"):
        promote(MODEL, after(4), gated, version=3, by="Ada", why="first")
    assert read_promotions(gated) == []


def test_a_version_of_another_model_is_refused(gated: Settings) -> None:
    client(gated).set_model_version_tag("late_ferry", "1", "model", "another")
    with pytest.raises(ActionRequiredError, match="was not made by evaluate"):
        promote(MODEL, after(4), gated, version=1, by="Ada", why="first")


@pytest.mark.parametrize(("by", "why"), [("", "better"), ("Ada", " ")])
def test_a_promotion_by_hand_needs_a_person_and_a_reason(gated: Settings, by: str, why: str) -> None:
    with pytest.raises(ActionRequiredError, match="who decided it and why"):
        promote(MODEL, after(1), gated, version=1, by=by, why=why)
