"""Approval on PostgreSQL, MLflow and Delta: a version that passed the gate waits for a person; the champion stays."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from include.config.approval import Approval
from include.core.errors import ActionRequiredError
from include.core.lifecycle import State
from include.core.records import Promotion
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import read_exported
from include.io.registry import Registry
from include.operations.approve import approve, decline
from include.operations.pending import expire, read_pending
from include.operations.question import ask
from include.steps import promote as promote_step
from include.steps.promote import promote
from tests.integration import small
from tests.integration.training import MODEL, after, train_and_gate

pytestmark = pytest.mark.timeout(300)

NAME = MODEL.name
ASKED = MODEL.model_copy(update={"approval": Approval(allowed=("Ana", "Ben"))})


def pass_gate(settings: Settings, version: int) -> Promotion:
    """Train the version's run date and let the gate decide: version 1 is of the first day, 2 of the next, and so on."""
    decision = train_and_gate(settings, ASKED, run_date=after(version - 1))
    assert (decision.passed, decision.model_version) == (True, version), decision.why_not
    return promote(ASKED, after(version), settings, version=version)


def states(settings: Settings) -> dict[int, State]:
    """Return the states of the versions that went through the gate; the fixture has versions 1 and 2."""
    found = postgres.version_moves.read_states(settings, NAME)
    return {version: state for version, state in sorted(found.items()) if state is not State.REGISTERED}


def actions(settings: Settings) -> list[tuple[str, ...]]:
    rows = small.select(settings, "SELECT action, subject, by, why FROM human_actions ORDER BY decided_at")
    return [tuple(row.values()) for row in rows]


def exported(settings: Settings) -> list[str]:
    """Return the decisions about versions that the export of the journal has."""
    try:
        lines = read_exported(settings, MODEL.project).values()
    except ActionRequiredError:
        return []
    return [line["entry"]["decision"] for line in lines if line["kind"] == "decision"]


def execute(settings: Settings, statement: str) -> None:
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text(statement))


def test_a_version_waits_until_a_person_approves_it(trained: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    held = pass_gate(trained, 1)
    assert held.held_back is not None
    assert "it is pending until " in held.held_back
    assert (states(trained), Registry(trained).aliased(NAME)) == ({1: State.PENDING}, None)
    for by, why, says in (("Eve", "now", "Eve may not decide"), ("gate", "x", "not a person"), ("Ana", " ", "--why")):
        with pytest.raises(ActionRequiredError, match=says):
            approve(ASKED, 1, trained, by=by, why=why)
    with pytest.raises(ActionRequiredError, match=r"is pending: python -m include.cli approve"):
        promote(ASKED, after(1), trained, version=1, by="Eve", why="past the approval")
    with pytest.raises(ActionRequiredError, match=r"other files .* than those that were shown"):
        approve(ASKED, 1, trained, by="Ana", why="looks right", shown="0" * 64)
    assert states(trained) == {1: State.PENDING}
    with monkeypatch.context() as patch:  # killed after the commit
        patch.setattr(promote_step, "sync_alias", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            approve(ASKED, 1, trained, by="Ana", why="looks right")
    assert (states(trained), Registry(trained).aliased(NAME), exported(trained)) == ({1: State.CHAMPION}, None, [])
    promoted = approve(ASKED, 1, trained, by="Ana", why="looks right")  # the task is tried again
    assert (promoted.rows, exported(trained)) == (0, ["approve"])
    assert (promoted.interval, promoted.by, promoted.forced) == (after(1), "Ana", False)
    assert (states(trained), Registry(trained).aliased(NAME)) == ({1: State.CHAMPION}, 1)
    assert actions(trained) == [("approve", f"late_ferry version 1 from {after(1).start}", "Ana", "looks right")]
    again = pass_gate(trained, 1)  # the training runs again, as in a backfill
    assert (again.rows, again.by, again.skipped) == (0, "Ana", None)
    with pytest.raises(ActionRequiredError, match="not pending but champion, by Ana: looks right"):
        approve(ASKED, 1, trained, by="Ben", why="me too")
    assert len(actions(trained)) == 1


def test_a_declined_version_stays_declined_and_a_newer_one_supersedes_what_waits(trained: Settings) -> None:
    pass_gate(trained, 1)
    decline(ASKED, 1, trained, by="Ben", why="storms")
    declined = decline(ASKED, 1, trained, by="Ben", why="storms")
    assert declined.why == "storms"
    with pytest.raises(ActionRequiredError, match="not pending but declined, by Ben: storms"):
        decline(ASKED, 1, trained, by="Ana", why="me too")
    assert (declined.state, declined.champion) == ("declined", None)
    again = pass_gate(trained, 1)
    assert again.held_back == "it is declined, by Ben: storms"
    pass_gate(trained, 2)
    pass_gate(trained, 3)
    assert states(trained) == {1: State.DECLINED, 2: State.SUPERSEDED, 3: State.PENDING}
    with pytest.raises(ActionRequiredError, match="not pending but superseded, by nightly-ml: version 3, of a later"):
        approve(ASKED, 2, trained, by="Ana", why="late")
    pass_gate(trained, 2)
    assert states(trained)[2] is State.SUPERSEDED
    pending = read_pending(ASKED, trained)
    assert pending is not None
    assert pending.move.model_version == 3
    forced = promote(ASKED, after(4), trained, version=1, by="Ben", why="no storms", force=True)
    assert forced.forced
    assert states(trained)[1] is State.CHAMPION
    assert [row[0] for row in actions(trained)] == ["decline", "force promotion"]


def test_what_nobody_decided_about_in_time_expires(trained: Settings) -> None:
    pass_gate(trained, 1)
    execute(
        trained,
        "SET session_replication_role = replica; UPDATE version_moves SET expires_at = now() - interval '1 minute'",
    )
    with pytest.raises(ActionRequiredError, match="not pending but expired, by nightly-ml: nobody decided until"):
        approve(ASKED, 1, trained, by="Ana", why="late")
    assert expire(ASKED, trained) == []
    assert states(trained) == {1: State.EXPIRED}
    assert actions(trained) == []


def test_a_version_is_not_approved_against_a_champion_that_it_was_not_compared_with(trained: Settings) -> None:
    """A person changed the champion while the version waited: people saw figures against another one."""
    pass_gate(trained, 1)
    promote(ASKED, after(3), trained, version=2, by="Eve", why="the one before was bad", force=True)
    question = ask(ASKED, 1, trained, {})
    assert question is not None
    assert "Before anybody can approve version 1, run the gate" in question.body
    with pytest.raises(ActionRequiredError, match=r"Eve made version 2 the champion since .*first run the gate"):
        approve(ASKED, 1, trained, by="Ana", why="looks right")
    assert states(trained) == {1: State.PENDING, 2: State.CHAMPION}
    decision = train_and_gate(trained, ASKED)
    assert (decision.passed, decision.champion) == (True, 2), decision.why_not
    question = ask(ASKED, 1, trained, {})
    assert question is not None
    assert "compared with version 2" in question.body
    assert "Before anybody" not in question.body
    assert approve(ASKED, 1, trained, by="Ana", why="still right").rows == 1


def test_what_nothing_decides_about_any_more_is_ended(trained: Settings) -> None:
    """`approval`, or `shadow`, is removed from model.yaml while a version waits."""
    pass_gate(trained, 1)
    train_and_gate(trained, MODEL, run_date=after(1))
    assert states(trained) == {1: State.EXPIRED}
    [*_, move] = postgres.version_moves.read_moves(trained, NAME, 1)
    assert "model.yaml declares neither shadow nor approval any more" in move.why


def test_a_recorded_decision_counts_for_its_files_only_and_asks_nobody_again(trained: Settings) -> None:
    """In an installation that was restored from the journal, a backfill applies what people decided."""
    pass_gate(trained, 1)
    approve(ASKED, 1, trained, by="Ana", why="looks right")
    pass_gate(trained, 2)
    decline(ASKED, 2, trained, by="Ben", why="storms")
    [rows] = small.select(trained, "SELECT json_agg(p) AS rows FROM promotion_history p")
    execute(
        trained,
        "SET session_replication_role = replica; DELETE FROM version_moves; DELETE FROM promotions;",
    )
    assert pass_gate(trained, 1).by == "Ana"
    assert pass_gate(trained, 2).held_back == "Ben declined it: storms"
    assert states(trained) == {1: State.CHAMPION, 2: State.DECLINED}
    [again] = small.select(trained, "SELECT json_agg(p) AS rows FROM promotion_history p")
    for row in (rows["rows"][0], again["rows"][0]):
        del row["id"], row["created_at"]
    assert again == rows
    assert [row[0] for row in actions(trained)] == ["approve", "decline"]
    execute(
        trained,
        "SET session_replication_role = replica; DELETE FROM version_moves; DELETE FROM promotions; "
        "UPDATE journal SET entry = jsonb_set(entry, '{model_digest}', '\"other\"') WHERE kind = 'decision'",
    )
    assert "it is pending until" in str(pass_gate(trained, 1).held_back)
    assert timedelta(days=6) < (read_pending(ASKED, trained).move.expires_at - postgres.journal.read_clock(trained))  # type: ignore[union-attr,operator]
