"""Actions of models: messages about batches, on a real PostgreSQL, with a real receiver and killed senders."""

import json
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.actions import Announcement, TopK
from include.core.interval import Interval
from include.core.settings import Settings
from include.io import outbox as sending
from include.io import postgres
from include.io.channels.webhook import sign
from include.io.outbox import send_due
from include.io.postgres import predictions
from include.io.postgres.messages import LEASE, Outbox
from include.operations.unpublish import unpublish
from include.steps.publish import publish_scores
from tests.integration.processes import processes
from tests.integration.test_publish import AS_OF, DAY, asked, entities_of, frame
from tests.receiver import Answer, Receiver, receiving

pytestmark = pytest.mark.timeout(180)

SECRET = "0123456789abcdef0123"
EVER = 100_000
"""A `max_age_days` that no day of these tests reaches."""


@pytest.fixture
def model() -> Model:
    top = TopK(to="crm", k=2, columns=("company", "origin"), max_age_days=EVER)
    return load_model("late_ferry").model_copy(update={"actions": (top, Announcement(to="crm", max_age_days=EVER))})


@pytest.fixture
def put(settings: Settings, model: Model) -> Callable[..., Any]:
    """Return a function that publishes days, whose scores `shift` and `version` tell apart."""

    def put(*days: date, shift: float = 0.0, version: int = 1, mode: str = "replace", of: Model = model) -> Any:
        scores = frame(*days, shift=shift, version=version)
        about = {"days": asked(scores), "as_of": dict.fromkeys(days, AS_OF), "mode": mode}
        return publish_scores(load_project("ferries"), of, scores.lazy(), entities_of(scores).lazy(), settings, **about)

    return put


def messages(settings: Settings, action: str = "top_k") -> list[dict[str, Any]]:
    """Return the payloads of the messages about an action, in the order in which they were stored."""
    statement = sa.text(
        "SELECT payload FROM outbox WHERE kind = 'action' AND payload ->> 'action' = :action ORDER BY id"
    )
    with postgres.connection.engine(settings).connect() as connection:
        return [row.payload for row in connection.execute(statement, {"action": action})]


def events(settings: Settings) -> list[tuple[str, str, float | None]]:
    """Return run date, event and highest score of each list."""
    return [
        (each["run_date"], each["event"], round(each["top"][0]["score"], 3) if each["top"] else None)
        for each in messages(settings)
    ]


def test_a_batch_sends_its_highest_rows_with_public_columns_only_and_once(put: Any, settings: Settings) -> None:
    [published] = put(DAY)
    [sent], [announced] = messages(settings), messages(settings, "batch")
    assert sent["top"] == [
        {
            "entity_id": f"UA-{n}-BAT-20130301",
            "company": "UA",
            "origin": "BAT",
            "score": score,
            "prediction": prediction,
        }
        for n, score, prediction in ((3, 0.4, 1.0), (2, 0.3, 0.0))
    ]
    expected = {
        "event": "published", "project": "ferries", "model": "late_ferry", "run_date": "2013-03-01",
        "model_version": 1, "batch_id": published.batch_id, "replaces": None, "rows": 4,
    }  # fmt: skip
    assert expected.items() <= sent.items()
    assert expected.items() <= announced.items() and "top" not in announced
    put(DAY)
    assert len(messages(settings)) == 1, "the same batch was sent twice"


def test_what_replaces_or_withdraws_a_batch_sends_its_correction(put: Any, settings: Settings, model: Model) -> None:
    [first] = put(DAY)
    [second] = put(DAY, shift=0.1, version=2)
    put(DAY, shift=0.2, version=3, mode="missing")  # readers keep what they see
    for _ in range(2):
        unpublish(model, Interval.of(DAY), settings)
    day = str(DAY)
    assert events(settings) == [
        (day, "published", 0.4), (day, "corrected", 0.5), (day, "corrected", 0.4), (day, "withdrawn", None),
    ]  # fmt: skip
    pairs = [(each["replaces"], each["batch_id"]) for each in messages(settings)]
    a, b = first.batch_id, second.batch_id
    assert pairs == [(None, a), (a, b), (b, a), (a, None)]
    numbers = [each["publication"] for each in messages(settings)]
    assert numbers == sorted(set(numbers)), "a receiver tells by it which message is newer"


def test_a_rollback_sends_the_correction_in_its_transaction(put: Any, settings: Settings, model: Model) -> None:
    [first] = put(DAY)
    [second] = put(DAY, shift=0.1, version=2)
    for commits in (False, True):
        with postgres.connection.engine(settings).connect() as connection, connection.begin() as transaction:
            to, seen = {DAY: first.batch_id}, {DAY: second.batch_id}
            predictions.point_readers(connection, "rolled-back", model, to, seen)
            (transaction.commit if commits else transaction.rollback)()
        assert [event for _, event, _ in events(settings)] == ["published", "corrected"] + ["corrected"] * commits


def test_history_sends_nothing_but_a_correction_of_what_was_sent_does(
    put: Any, settings: Settings, model: Model
) -> None:
    young = model.model_copy(update={"actions": (TopK(to="crm", k=2, max_age_days=7),)})
    put(DAY, of=young)
    assert messages(settings) == [], "the run date is years old"
    unpublish(young, Interval.of(DAY), settings)
    assert messages(settings) == [], "nothing was sent that could be withdrawn"
    put(DAY)
    put(DAY, shift=0.1, version=2, of=young)
    assert [event for _, event, _ in events(settings)] == ["published", "corrected"]


def test_there_is_no_message_about_half_a_night(put: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def then_fails(*given: Any) -> None:
        assert real(*given) == 4
        raise RuntimeError("killed")

    real = predictions.put_actions
    monkeypatch.setattr(predictions, "put_actions", then_fails)
    with pytest.raises(RuntimeError):
        put(DAY, DAY + timedelta(days=1))
    assert messages(settings) == []
    monkeypatch.undo()
    put(DAY, DAY + timedelta(days=1))
    assert [day for day, *_ in events(settings)] == ["2013-03-01", "2013-03-02"]


# --- a receiver of your own -------------------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def destination(receiver: Receiver) -> str:
    return json.dumps({"channel": "webhook", "url": receiver.url, "secret": SECRET})


def pass_time(settings: Settings, time: timedelta) -> None:
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text("UPDATE messages SET not_before = not_before - :time"), {"time": time})


def test_a_receiver_that_fails_hangs_and_hangs_up_gets_each_signed_message_in_the_end(
    put: Any, settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "TRY_SECONDS", 1)
    outbox = Outbox(settings.database_url)
    receiver.planned = [Answer(500), Answer(seconds=3), Answer(drops=True), Answer(200)]
    put(DAY)
    for _ in range(4):
        send_due(outbox, {"crm": destination(receiver)}.get, seconds=20)
        pass_time(settings, timedelta(hours=1))
    # what hung accepted it, too: at least once, with the same key
    assert {request.body["action"] for request in receiver.got} == {"top_k", "batch"}
    assert len(set(receiver.keys)) == 2
    for request in receiver.asked:
        stamp = request.headers["X-Nightly-Timestamp"]
        assert request.headers["X-Nightly-Signature"] == sign(SECRET, stamp, request.raw)
        assert (request.body["kind"], request.body["subject"]) == ("action", "late_ferry")
    with postgres.connection.engine(settings).connect() as connection:
        assert {*connection.scalars(sa.text("SELECT state FROM outbox"))} == {"sent"}


def test_a_sender_that_is_killed_between_sending_and_recording_sends_again_with_the_same_key(
    put: Any, settings: Settings, receiver: Receiver
) -> None:
    put(DAY)
    own = settings.model_copy(update={"destinations": {"crm": SecretStr(destination(receiver))}})
    with processes(own, 1) as started:
        started.all([
            {"do": "kill", "at": "include.io.postgres.messages:Outbox.mark_sent", "call": 1, "when": "before"}
        ])
        assert started.all([{"do": "send"}]) == [None], "the sender was not killed"
    pass_time(settings, LEASE)
    send_due(Outbox(settings.database_url), {"crm": destination(receiver)}.get, seconds=20)
    first, *others = receiver.keys
    assert others.count(first) == 1
    assert len({*receiver.keys}) == 2
