"""What the note of a run says. That Airflow writes it is shown on a real stack in tests/integration/test_stack.py."""

from datetime import date
from typing import Any

import pytest

import nightly_notes
from include.core.interval import Interval
from include.core.records import (
    Check,
    FailedDay,
    GateDecision,
    Landed,
    Monitored,
    Promotion,
    Published,
    PublishedDay,
    Ranged,
    Recorded,
    RolledBack,
    Scored,
    ScoredDay,
    StepResult,
    Validated,
)
from nightly_notes import DONE, FAILED, LACKS, MOST, NOTHING, note_of

LATE = {"winds": "knows no accepted file of 2024-03-02, and goes on without"}
LACKING = {"prepared_days": [{"day": "2024-03-03", "lacks": LATE}]}
DAY = date(2024, 3, 3)
ON = Interval.of(DAY)


def note(skipped: tuple[str, ...] = (), failed: tuple[str, ...] = (), **records: StepResult | dict | str) -> str | None:
    """Return the note of a run whose tasks returned these records, as Airflow stores them."""
    found = {
        task.replace("__", "."): [each.model_dump(mode="json") if isinstance(each, StepResult) else each]
        for task, each in records.items()
    }
    return note_of(found, skipped, failed)


def test_the_note_of_prepare_has_rows_deliveries_quarantine_and_what_is_lacking() -> None:
    features = {"interval": {"start": "2024-03-03", "end": "2024-03-03"}, "rows": 1234, **LACKING}
    said = note(
        land=Landed(interval=ON, rows=9, new=3, known=1),
        validate=Validated(interval=ON, rows=8, accepted=3, quarantined=1),
        build_features=features,
    )
    assert said == (
        f"{DONE}2024-03-03 prepared: 1,234 rows of features, 3 new deliveries, 1 row in quarantine\n\n"
        f"{LACKS}winds: 2024-03-03 {LATE['winds']}"
    )


def test_the_note_of_a_published_day_has_rows_version_and_batch() -> None:
    day = PublishedDay(day=DAY, batch_id="b1", state="published", rows=60)
    scored = Scored(interval=ON, rows=60, model="m", table=None, days=(ScoredDay(day=DAY, model_version=3, rows=60),))
    done = Published(interval=ON, rows=60, model="m", days=(day,))
    assert note(score=scored, publish=done) == f"{DONE}2024-03-03: 60 predictions of version 3 published (batch b1)"
    kept = done.model_copy(update={"days": (day.model_copy(update={"state": "kept", "differing": 5}),)})
    assert "readers keep what they see; 5 rows differ" in str(note(score=scored, publish=kept))


def test_a_run_without_a_champion_says_why_nothing_was_published() -> None:
    assert note(("m has no champion",)) == f"{NOTHING}m has no champion"


def test_a_training_says_which_checks_rejected_the_version_or_what_its_report_says() -> None:
    check = Check(name="champion", subject="m", measured=1, threshold=0, passed=False, sentence="the loss is worse")
    decision = GateDecision(
        interval=ON, rows=9, model_version=4, model="m", candidate="c", gate_id="g", champion=3, passed=False,
        checks=(check, check.model_copy(update={"passed": True, "sentence": "fine"})),
    )  # fmt: skip
    rejected = f"{DONE}version 4 rejected (champion): the loss is worse"
    assert note(gate=decision) == note(gate=decision, report="m: a long sentence") == rejected
    passed = decision.model_copy(update={"checks": decision.checks[1:], "passed": True})
    assert note(gate=passed, report="m: version 4 was promoted now") == f"{DONE}m: version 4 was promoted now"


def test_the_note_of_an_approval_and_a_rollback_name_who_decided_and_why() -> None:
    promotion = Promotion(interval=ON, rows=1, model_version=4, model="m", by="ana", why="better")
    assert note(record=promotion) == f"{DONE}version 4 champion from 2024-03-03 on, by ana: better"
    declined = {"model": "m", "model_version": 4, "state": "declined", "by": "ben", "why": "odd", "champion": 3}
    assert note(record=declined) == f"{DONE}version 4 declined, by ben: odd"
    rolled_back = RolledBack(
        interval=ON, rows=1, model_version=2, model="m", by="ana", why="wrong", replaces=3, first_day=DAY,
        recorded=True,
    )  # fmt: skip
    assert note(rollback=rolled_back) == (
        f"{DONE}version 2 is the champion again from 2024-03-03 on, instead of version 3; 1 day changed for readers; "
        "by ana: wrong"
    )


def test_the_note_of_monitoring_counts_outcomes_and_names_alerts() -> None:
    outcomes = Recorded(interval=ON, rows=60, days=2)
    quiet = Monitored(interval=ON, rows=4, days=1)
    assert note(outcomes=outcomes, monitor=quiet) == (
        f"{DONE}2024-03-03: 60 outcomes of 2 days recorded, 1 day measured, no alert"
    )
    alert = {"subject": "m", "rule": "drift", "sentence": "…", "day": "2024-03-03"}
    loud = {**quiet.model_dump(mode="json"), "alerts": [alert]}
    assert str(note(monitor=loud)).endswith("1 day measured, 1 alert raised (m: drift)")


def test_the_note_of_a_range_counts_days_and_the_predictions_of_each_model() -> None:
    range_ = Interval(start=date(2024, 3, 1), end=DAY)
    done = Ranged(interval=range_, rows=9, done=(range_,))
    failed = done.model_copy(update={"rows": 6, "failed": (FailedDay(day=DAY, step="publish", why="no rows"),)})
    said = note(build_features=done, outcomes=done, late_ferry__publish=failed, another__publish=done)
    assert said == (
        f"{DONE}2024-03-01 to 2024-03-03: 3 days prepared; another: 9 predictions; "
        "late\\_ferry: 6 predictions, 1 day failed"
    )


def test_the_notes_of_example_data_and_of_messages_count_them() -> None:
    made = {"interval": {"start": "2024-03-03", "end": "2024-03-03"}, "landed": 1, "unchanged": 2, "rows": 9}
    said = note(simulate=made)
    assert said == f"{DONE}2024-03-03: 1 file of example data delivered, 2 were there before"
    assert note_of({"send": [3]}) == f"{DONE}3 messages sent"
    assert note_of({"send": [0]}) is None


def test_a_failed_run_begins_with_what_failed() -> None:
    said = note(failed=("validate",), land=Landed(interval=ON, rows=9, new=3, known=1))
    assert said == f"{FAILED}validate failed; the log says why"


class Run:
    """A run, as far as the listener reads it."""

    def __init__(self, note: str | None) -> None:
        self.dag_id, self.run_id, self.note = "ferries_prepare", "nightly", note


def test_a_run_that_says_nothing_has_no_note() -> None:
    assert note_of({}) is None
    assert (
        note_of({"a": [None, 3, {"rows": 3}], "b": [{"prepared_days": [{"day": "2024-03-03", "lacks": {}}]}]}) is None
    )


def test_the_newest_run_date_comes_first() -> None:
    days = {
        "prepared_days": [{"day": "2024-03-02", "lacks": LATE}, {"day": "2024-03-03", "lacks": {"plan": "is late"}}]
    }
    assert note_of({"x": [days]}) == f"{LACKS}plan: 2024-03-03 is late; winds: 2024-03-02 {LATE['winds']}"


def test_it_fits_into_what_airflow_stores() -> None:
    lacks = {"prepared_days": [{"day": "2024-03-03", "lacks": {"plan": "x" * 2000}}]}
    said = note_of({"report": ["y" * 2000], "build_features": [lacks]})
    assert said is not None
    assert len(said) == MOST
    assert "plan: 2024-03-03 x" in said
    assert said.endswith("…")


@pytest.mark.parametrize(
    ("there", "records", "then"),
    [
        (None, {"x": [LACKING]}, f"{LACKS}winds: 2024-03-03 {LATE['winds']}"),
        ("seen by Ada", {"x": [LACKING]}, "seen by Ada"),
        (f"{LACKS}winds: of an earlier try", {}, None),
        (f"{FAILED}land failed", {"report": ["all is well"]}, f"{DONE}all is well"),
        (None, {}, None),
    ],
)
def test_a_note_of_a_person_stays(
    monkeypatch: pytest.MonkeyPatch, there: str | None, records: dict[str, list[Any]], then: str | None
) -> None:
    monkeypatch.setattr(nightly_notes, "records_of", lambda run: (records, []))
    run: Any = Run(there)
    nightly_notes.on_dag_run_success(run, "")
    assert run.note == then
