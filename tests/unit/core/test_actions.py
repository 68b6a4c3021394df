"""Which messages an action makes, and what they never have. tests/integration/test_actions.py has the transactions."""

from datetime import UTC, date, datetime

import pytest

from include.config.loading import load_project
from include.core.actions import Announcement, Move, TopK, is_due, message_of, wanted_columns
from include.core.outbox import MAX_TEXT
from tests.own_projects import use_own_projects

use_own_projects()
PROJECT = load_project("ferries")
MOVE = Move(
    publication=7, model="late_ferry", day=date(2024, 3, 1), batch_id="b", replaced=None, model_version=3, rows=60,
    moved_at=datetime(2024, 3, 2, 4, tzinfo=UTC),
)  # fmt: skip
TOP = TopK(to="crm", k=3)


def test_a_row_has_public_columns_and_scores_only() -> None:
    assert set(wanted_columns(TOP, PROJECT)) == {
        "entity_id", *PROJECT.entity.public, "score", "prediction", "lower", "upper", "label",
    }  # fmt: skip
    feed = PROJECT.feeds["sailings"]
    hashed = feed.columns["company"].model_copy(update={"data_class": "identifier"})
    feeds = {**PROJECT.feeds, "sailings": feed.model_copy(update={"columns": {**feed.columns, "company": hashed}})}
    personal = PROJECT.model_copy(update={"feeds": feeds})
    assert "entity_id" not in wanted_columns(TOP, personal), "it is made of an identifier"


def test_columns_that_are_not_public_are_refused_with_the_nearest_right_one() -> None:
    [problem] = TopK(to="crm", k=3, columns=("orgin",)).misfits(PROJECT)
    assert problem.startswith("columns: 'orgin' is not in entity.public of project.yaml") and "origin" in problem
    none = PROJECT.model_copy(update={"entity": PROJECT.entity.model_copy(update={"public": ()})})
    assert TOP.misfits(none) == ["a row has public columns only, and entity.public of project.yaml is empty"]


@pytest.mark.parametrize(
    ("changes", "sent_before", "due"),
    [
        ({}, False, True),
        ({"day": date(2024, 2, 1)}, False, False),
        ({"day": date(2024, 2, 1)}, True, True),
        ({"batch_id": None, "replaced": "a"}, False, False),
        ({"batch_id": None, "replaced": "a"}, True, True),
    ],
)
def test_old_days_send_nothing_unless_something_was_sent(changes: dict, sent_before: bool, due: bool) -> None:
    assert is_due(TOP, MOVE.model_copy(update=changes), PROJECT, sent_before=sent_before) is due


def test_the_same_move_is_the_same_message_and_another_one_is_not() -> None:
    made = [message_of(TOP, each, [], project=PROJECT, run_id="r") for each in (MOVE, MOVE)]
    assert made[0].key == made[1].key
    others = (
        message_of(TOP, MOVE.model_copy(update={"publication": 8}), [], project=PROJECT, run_id="r"),
        message_of(TopK(to="crm", k=3, order="lowest"), MOVE, [], project=PROJECT, run_id="r"),
        message_of(Announcement(to="crm"), MOVE, [], project=PROJECT, run_id="r"),
    )
    assert len({made[0].key, *(each.key for each in others)}) == 4


def test_a_list_is_readable_in_a_chat_and_complete_for_a_program() -> None:
    rows = [
        {"entity_id": f"e{n}", "company": "UA", "departs_at": MOVE.moved_at, "score": 1 / (n + 2)} for n in range(12)
    ]
    payload = message_of(TopK(to="crm", k=12), MOVE, rows, project=PROJECT, run_id="r").payload
    assert len(payload["top"]) == 12
    assert payload["top"][0]["departs_at"] == "2024-03-02T04:00:00+00:00"
    lines = str(payload["text"]).splitlines()
    assert lines[0] == "late_ferry, run date 2024-03-01: 60 predictions of version 3 (batch b)"
    assert lines[2] == "1. company UA, departs_at 2024-03-02T04:00:00+00:00, score 0.5"
    assert lines[-1] == "… and 2 more" and len(lines) == 13
    assert len(str(payload["text"])) <= MAX_TEXT
    withdrawn = MOVE.model_copy(update={"batch_id": None, "replaced": "a"})
    assert "withdrawn" in str(message_of(TOP, withdrawn, [], project=PROJECT, run_id="r").payload["text"])
