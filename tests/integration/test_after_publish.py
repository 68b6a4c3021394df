"""`after_publish`: what reads the predictions hears of each change once, also if the step that made it was killed."""

import json
from datetime import date

import pytest
from pydantic import SecretStr

from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.io.outbox import send_due
from include.io.postgres.messages import Outbox
from include.io.postgres.readers_news import announce_publication
from tests.integration.small import select
from tests.receiver import PATH, Answer, receiving

MOVES = """
INSERT INTO models VALUES ('late_ferry', 'ferries', 'late_ferry', 'binary', 't', 'o');
INSERT INTO batches (batch_id, model, day, model_version, rows, digest, as_of, run_id) SELECT
    ('00000000-0000-0000-0000-00000000000' || n)::uuid, 'late_ferry', date '2026-03-08' + n, 1, 0,
    repeat('0', 64), now(), 'r'
FROM generate_series(1, 2) n;
INSERT INTO publications (model, day, batch_id, mode, run_id, published_at)
SELECT model, day, batch_id, 'replace', 'r', now() FROM batches ORDER BY day;
"""


@pytest.fixture
def told() -> Project:
    return load_project("ferries").model_copy(update={"after_publish": ("nightly_power_bi",)})


def test_each_change_of_what_readers_see_asks_once_for_a_refresh(
    settings: Settings, told: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from include.io import postgres

    def announce(project: Project = told) -> list[str]:
        announce_publication(settings, project, "late_ferry")
        return [row["text"] for row in select(settings, "SELECT payload ->> 'text' AS text FROM messages ORDER BY id")]

    def change(statement: str) -> None:
        with postgres.connection.engine(settings).begin() as connection:
            connection.exec_driver_sql(statement)

    assert announce() == []  # nothing is published yet
    change(MOVES)
    assert announce(load_project("ferries")) == []  # nobody wants to hear of it
    first = "late_ferry: 2026-03-10 is published"
    assert announce() == [first]  # one for both days
    assert announce() == [first]  # the step ran again
    change(
        "INSERT INTO publications (model, day, mode, run_id, published_at) "
        "VALUES ('late_ferry', '2026-03-10', 'unpublish', 'r', now())"
    )
    both = [first, "late_ferry: 2026-03-10 was unpublished"]
    assert announce() == both

    monkeypatch.setattr("include.io.postgres.predictions.load_project", lambda _: told)
    postgres.predictions.unpublish(settings, load_model("late_ferry"), Interval.of(date(2026, 3, 9)))
    assert announce(load_project("ferries")) == [*both, "late_ferry: 2026-03-09 was unpublished"]  # no step follows
    with postgres.connection.engine(settings).begin() as connection:
        connection.exec_driver_sql("DELETE FROM messages WHERE payload ->> 'day' = '2026-03-09'")

    outbox = Outbox(SecretStr(settings.database_url.get_secret_value()))
    with receiving() as receiver:
        base = receiver.url.removesuffix(PATH)
        login = {"login_url": f"{base}/token", "client_id": "an-app", "secret": "a-secret"}
        address = json.dumps({"channel": "power_bi", "url": f"{base}/groups/g/datasets/d/refreshes", **login})
        token = Answer(body=b'{"access_token": "a-token"}')
        receiver.planned = [token, Answer(202), token, Answer(429, {"Retry-After": "600"})]
        done = send_due(outbox, lambda _: address, seconds=30)
        assert len(done.sent) == 1
        assert [sentence.endswith(": answered 429") for sentence in done.waiting] == [True]
        assert not send_due(outbox, lambda _: address, seconds=30).sent  # not before the ten minutes have passed
        assert len(receiver.asked) == 4
    held = select(settings, "SELECT not_before > now() + interval '9 min' AS held FROM messages WHERE sent_at IS NULL")
    assert [row["held"] for row in held] == [True]
