"""What the note of a run says. That Airflow writes it is shown on a real stack in tests/integration/test_stack.py."""

from typing import Any

import pytest

import nightly_notes
from nightly_notes import BEGIN, MOST, note_of

LATE = {"winds": "knows no accepted file of 2024-03-02, and goes on without"}
LACKING = {"prepared_days": [{"day": "2024-03-03", "lacks": LATE}]}


class Run:
    """A run, as far as the listener reads it."""

    def __init__(self, note: str | None) -> None:
        self.dag_id, self.run_id, self.note = "ferries_prepare", "nightly", note


def test_a_run_that_lacks_nothing_has_no_note() -> None:
    assert note_of([]) is None
    assert note_of([None, "text", 3, {"rows": 3}, {"prepared_days": [{"day": "2024-03-03", "lacks": {}}]}]) is None


def test_the_newest_run_date_comes_first() -> None:
    days = {
        "prepared_days": [{"day": "2024-03-02", "lacks": LATE}, {"day": "2024-03-03", "lacks": {"plan": "is late"}}]
    }
    assert note_of([{"rows": 1}, days]) == f"{BEGIN}plan: 2024-03-03 is late; winds: 2024-03-02 {LATE['winds']}"


def test_it_fits_into_what_airflow_stores() -> None:
    note = note_of([{"prepared_days": [{"day": "2024-03-03", "lacks": {"plan": "x" * 2000}}]}])
    assert note is not None
    assert len(note) == MOST
    assert note.endswith("…")


@pytest.mark.parametrize(
    ("there", "records", "then"),
    [
        (
            None,
            [{"prepared_days": [{"day": "2024-03-03", "lacks": LATE}]}],
            f"{BEGIN}winds: 2024-03-03 {LATE['winds']}",
        ),
        ("seen by Ada", [{"prepared_days": [{"day": "2024-03-03", "lacks": LATE}]}], "seen by Ada"),
        (f"{BEGIN}winds: of an earlier try", [], None),
        (None, [], None),
    ],
)
def test_a_note_of_a_person_stays(
    monkeypatch: pytest.MonkeyPatch, there: str | None, records: list[Any], then: str | None
) -> None:
    monkeypatch.setattr(nightly_notes, "records_of", lambda run: records)
    run: Any = Run(there)
    nightly_notes.on_dag_run_success(run, "")
    assert run.note == then
