"""Incidents on a real PostgreSQL: one for one cause, in any order of runs, with two writers, and after a crash."""

import itertools
import threading
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from include.core.errors import ActionRequiredError
from include.core.incidents import Failure
from include.core.records import Alert
from include.core.routes import Route, Routing
from include.core.settings import Settings, utc_now
from include.io import postgres
from include.io.postgres.alerts import raise_alerts
from include.io.postgres.incident_failures import put_failure, read_open_failures, recover_failures
from include.io.postgres.incidents import read_incident
from include.operations.incidents import decide_incident, end_of_snooze, lines_of

DAY = date(2013, 3, 1)
RULE = "mae at_most 3"


def later(days: int) -> date:
    return DAY + timedelta(days=days)


def execute(settings: Settings, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    with postgres.connection.engine(settings).begin() as connection:
        result = connection.execute(sa.text(statement), values)
        return [tuple(row) for row in result] if result.returns_rows else []


def texts(settings: Settings) -> list[str]:
    """Return the first line of each message in the outbox."""
    found = execute(settings, "SELECT payload ->> 'text' FROM messages ORDER BY id")
    return [str(text).splitlines()[0] for (text,) in found]


def broken(*days: int, rule: str = RULE, **more: Any) -> list[Alert]:
    about = {"subject": "revenue", "rule": rule, "models": ("revenue",), "effect": "poorer than agreed", **more}
    return [Alert(day=later(n), sentence=f"revenue: {rule} is broken", **about) for n in days]


def look(settings: Settings, day: int, *alerts: Alert, **more: Any) -> None:
    raise_alerts(settings, "shop", alerts, **{"scope": "monitor", "looked": [later(day)], **more})


def incidents(settings: Settings) -> list[tuple[Any, ...]]:
    columns = "rule, first_day - :day, last_day - :day, recovered_day - :day"
    return execute(settings, f"SELECT {columns} FROM incidents ORDER BY rule, first_day", day=DAY)


def clear(settings: Settings) -> None:
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text("ALTER TABLE incident_events DISABLE TRIGGER refuse_change"))
        tables = "incident_events, incident_failures, incident_days, incident_looks, incident_records, alerts, messages"
        connection.execute(sa.text(f"TRUNCATE {tables} CASCADE"))
        connection.execute(sa.text("ALTER TABLE incident_events ENABLE TRIGGER refuse_change"))


def test_a_rule_that_is_broken_for_days_is_one_incident_and_its_recovery_is_sent(settings: Settings) -> None:
    for day in (0, 1, 1, 2):
        look(settings, day, *broken(day))
    look(settings, 3)
    look(settings, 4)
    assert texts(settings) == [f"[high] revenue: {RULE} is broken", f"[recovered] revenue: {RULE}"]
    assert incidents(settings) == [(RULE, 0, 2, 3)]
    assert execute(settings, "SELECT kind, day - :day FROM incident_history ORDER BY id", day=DAY) == [
        ("opened", 0),
        ("recovered", 3),
    ]
    execute(settings, "UPDATE messages SET sent_at = now()")
    assert execute(settings, "SELECT count(*) FROM alert_history WHERE notified_at IS NULL") == [(0,)]


def test_an_update_is_sent_when_it_is_clearly_worse_or_severity_rises(settings: Settings) -> None:
    look(settings, 0, *broken(0, badness=1.0))
    look(settings, 1, *broken(1, badness=1.2))
    look(settings, 2, *broken(2, badness=2.0))
    look(settings, 3, *broken(3, badness=2.2))
    look(settings, 4, *broken(4, badness=2.2, tier=1))
    said = f"revenue: {RULE} is broken"
    assert texts(settings) == [f"[high] {said}", f"[high, worse] {said}", f"[critical, worse] {said}"]


def test_runs_and_backfills_in_any_order_end_with_the_same_incidents(settings: Settings) -> None:
    seen = {0: True, 1: False, 5: True, 6: True, 7: False}
    ends = []
    for order in itertools.islice(itertools.permutations(seen), 0, 120, 17):
        for day in order:
            look(settings, day, *(broken(day) if seen[day] else []))
        ends.append(incidents(settings))
        clear(settings)
    assert ends[0] == [(RULE, 0, 0, 1), (RULE, 5, 6, 7)]
    assert ends == ends[:1] * len(ends)


def test_a_backfill_of_an_old_day_sends_nothing_and_leaves_todays_incident_open(settings: Settings) -> None:
    look(settings, 9, *broken(9))
    [number] = execute(settings, "SELECT incident FROM incidents")[0]
    look(settings, 1, *broken(1, rule="auc at_least 0.6"), *broken(1))
    look(settings, 2)
    look(settings, 8)
    assert len(texts(settings)) == 1
    assert incidents(settings) == [("auc at_least 0.6", 1, 1, 2), (RULE, 1, 1, 2), (RULE, 9, 9, None)]
    assert execute(settings, "SELECT incident FROM incidents WHERE recovered_day IS NULL") == [(number,)]
    look(settings, 7, *broken(7))
    look(settings, 6, *broken(6))
    assert incidents(settings)[2] == (RULE, 6, 9, None), "a day that is clear in between is the same incident"
    assert len(texts(settings)) == 1


def test_what_is_found_late_is_sent_once_but_not_by_a_backfill(settings: Settings) -> None:
    skew: dict[str, Any] = {"rule": "skew"}
    of_skew = {"scope": "skew"}
    look(settings, 7, **of_skew)
    look(settings, 9, *broken(6, **skew), **of_skew)
    look(settings, 10, *broken(6, **skew), **of_skew)
    assert texts(settings) == ["[high] revenue: skew is broken"]
    look(settings, 11, *broken(6, **skew), *broken(9, **skew), **of_skew)
    look(settings, 5, *broken(1, **skew), **of_skew)
    assert texts(settings)[1:] == ["[high, back again] revenue: skew is broken"]
    [(text,)] = execute(settings, "SELECT payload ->> 'text' FROM messages ORDER BY id LIMIT 1")
    assert "Since: run date 2013-03-07; gone on 2013-03-08, it was found late" in text


def test_what_is_announced_is_sent_for_each_run_date_and_never_as_over(settings: Settings) -> None:
    drift: dict[str, Any] = {"rule": "drift"}
    for day in (0, 0, 1):
        look(settings, day, *broken(day, **drift))
    look(settings, 2)
    look(settings, 3, *broken(3, **drift))
    look(settings, 4)
    said = "revenue: drift is broken"
    assert texts(settings) == [f"[high] {said}", f"[high, again] {said}", f"[high, again] {said}"]


def test_whoever_is_told_of_the_worst_hears_that_it_is_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = (Route(to="pager", severities=("critical",)), Route(to="chat", severities=("high",)))
    routing = Routing(project="shop", owner="data", owners={"revenue": "data"}, routes=routes)
    monkeypatch.setattr("include.io.postgres.incidents.load_routing", lambda project: routing)
    look(settings, 0, *broken(0, tier=1))
    look(settings, 1, *broken(1))
    look(settings, 2)
    assert execute(settings, "SELECT destination, kind FROM messages ORDER BY id") == [
        ("pager", "alerts"),
        ("pager", "recovered"),
    ]


def test_what_a_person_decided_on_is_over_at_once_and_back_if_it_comes_back(settings: Settings) -> None:
    held = broken(0, rule="delivery_held")
    now = {"scope": "land", "as_of_now": True}
    look(settings, 0, *held, **now)
    look(settings, 0, **now)
    look(settings, 0, *held, **now)
    assert [text.split("]")[0] for text in texts(settings)] == ["[high", "[recovered", "[high, back again"]
    assert incidents(settings) == [("delivery_held", 0, 0, None)]


def test_a_monitor_that_failed_holds_back_only_recoveries_of_what_it_would_have_seen(settings: Settings) -> None:
    of_a, of_b = broken(0), broken(0, subject="visits", models=("visits",))
    shared = broken(0, rule="scores_late", scored_day=later(-1), late_feed="sales", because="feed sales is late")
    own = broken(0, subject="sales", rule="supplier_late", models=())
    look(settings, 0, *of_a, *of_b, *shared, *own)
    look(settings, 1, blind=["visits"])
    assert sorted(texts(settings)[4:]) == [f"[recovered] revenue: {RULE}", "[recovered] sales: supplier_late"]
    look(settings, 1, blind=["visits", ""])
    assert len(texts(settings)) == 6, "what the first run of the day saw, a later one need not see"
    look(settings, 0)
    assert len(texts(settings)) == 6, "an older run date does not say that anything is over"
    look(settings, 1)
    assert sorted(texts(settings)[6:]) == ["[recovered] feed sales is late", f"[recovered] visits: {RULE}"]


def test_run_dates_with_failed_monitors_end_with_the_same_incidents_in_any_order(settings: Settings) -> None:
    runs: list[tuple[int, bool, tuple[str, ...]]] = [
        (0, True, ()), (1, False, ("revenue",)), (2, True, ("visits",)), (3, False, ("revenue",)), (3, False, ("",)),
    ]  # fmt: skip
    ends = []
    for order in itertools.islice(itertools.permutations(runs), 0, 120, 17):
        for day, is_broken, blind in order:
            look(settings, day, *(broken(day) if is_broken else []), blind=blind)
        ends.append(incidents(settings))
        clear(settings)
    assert ends == [[(RULE, 0, 2, 3)]] * len(ends)


def test_two_writers_open_one_incident_with_one_message(settings: Settings) -> None:
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        look(settings, 0, *broken(0), *broken(0, rule="b"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts(settings)) == len(incidents(settings)) == 2


def test_a_late_feed_is_one_incident_and_not_one_for_each_model(settings: Settings) -> None:
    about = {"rule": "scores_late", "day": DAY, "sentence": "late", "scored_day": later(-1)}
    of_feed = {"late_feed": "sales", "because": "feed sales is late"}
    alerts = [
        Alert(subject=model, effect=f"{model}: no scores", models=(model,), **about, **of_feed) for model in ("a", "b")
    ]
    look(settings, 0, *alerts)
    look(settings, 1)
    assert texts(settings) == ["[high] feed sales is late", "[recovered] feed sales is late"]
    assert execute(settings, "SELECT models, effect FROM incidents") == [(["a", "b"], "a: no scores; b: no scores")]
    assert execute(settings, "SELECT rule, subject FROM alerts ORDER BY id") == [
        ("scores_late", "a"),
        ("scores_late", "b"),
    ]


# --- failed tasks and runs --------------------------------------------------------------------------------------------


def failed(task_id: str = "land", dag_id: str = "shop_prepare", **more: Any) -> Failure:
    about = {"project": "shop", "run_id": "r1", "day": str(DAY), "try_number": 4, "effect": "no scores of the day"}
    what = f"{dag_id}.{task_id} failed"
    return Failure.model_validate({**about, "dag_id": dag_id, "task_id": task_id, "what": what, **more})


def put(settings: Settings, *failures: Failure) -> list[bool]:
    """Report failures; return for each whether a message is sent."""
    sent = []
    for failure in failures:
        with postgres.connection.engine(settings).begin() as connection:
            sent.append(put_failure(connection, failure) is not None)
    return sent


def recover(settings: Settings, *succeeded: Failure) -> int:
    keys: Iterable[Any] = [(f.dag_id, f.task_id, f.run_id, f.map_index) for f in succeeded]
    with postgres.connection.engine(settings).begin() as connection:
        return len(recover_failures(connection, keys, "outbox"))


RUN = {"follows_task": True, "try_number": 0}
WAITS = [
    failed("wait_for_features", f"{model}_{kind}", is_effect=True, model=model)
    for model in ("a", "b")
    for kind in ("train", "score")
]


def test_a_failed_task_and_the_run_that_fails_with_it_are_one(settings: Settings) -> None:
    task, run = failed("score", "a_score"), failed("", "a_score", **RUN)
    assert put(settings, task, run, task, run) == [True, False, False, False]
    assert recover(settings) == 0
    assert recover(settings, task) == 1
    assert texts(settings) == ["[high] a_score.score failed", "[recovered] a_score.score failed for 2013-03-01"]
    again = failed("score", "a_score", try_number=8)
    assert put(settings, again, again.model_copy(update={"try_number": 12})) == [True, True]
    assert [text.split("]")[0] for text in texts(settings)[2:]] == ["[high, back again", "[high, failed again"]


def test_the_tasks_of_a_mapped_one_are_one_message_for_each_try(settings: Settings) -> None:
    tries = [failed("fit", "a_train", map_index=n, try_number=t, started_at=None) for t in (4, 8) for n in (0, 1)]
    assert put(settings, *tries) == [True, False, True, False]


def test_a_killed_task_is_reported_by_its_run(settings: Settings) -> None:
    run = failed("", "a_score", **RUN)
    assert put(settings, run, run, failed("", "a_score", follows_task=True, try_number=1)) == [True, False, True]
    again = failed("", "a_score", started_at=utc_now() + timedelta(hours=1), **RUN)
    assert put(settings, again) == [True], "its number counts other things than that of a run that timed out"
    assert put(settings, failed("score", "a_score")) == [True], "the task's own report came after that of its run"
    assert len(incidents(settings)) == 1


@pytest.mark.parametrize("order", ["the cause first", "those that wait first"])
def test_a_day_that_is_not_prepared_is_one_incident_whoever_waits_for_it(settings: Settings, order: str) -> None:
    cause, last = failed("wait_for_files"), failed("", "shop_prepare", **RUN)
    if order == "the cause first":
        assert put(settings, cause, *WAITS, last) == [True, *[False] * 5]
    else:
        assert put(settings, *WAITS, cause, last) == [True, *[False] * 3, True, False]
        assert texts(settings)[1] == "[high, the cause is known] shop_prepare.wait_for_files failed"
    assert put(settings, failed("validate")) == [True], "after the first cause was fixed, there is another one"
    assert recover(settings, cause, *WAITS) == 0
    assert recover(settings, failed("validate")) == 1
    assert texts(settings)[-1] == "[recovered] 2013-03-01 of shop is not prepared"
    assert len(incidents(settings)) == 1


def test_a_step_that_succeeds_in_another_run_or_by_hand_shows_that_it_was_made_good(settings: Settings) -> None:
    one, mapped = failed("land", done_by="land"), failed("fit", "a_train", map_index=1, done_by="fit", model="a")
    put(settings, one, mapped)
    statement = (
        "INSERT INTO step_runs (project, model, step, interval_start, interval_end, state, seconds, run_id, "
        "started_at, ended_at) VALUES ('shop', :model, :step, :day, :day, 'success', 1, 'by-hand', clock_timestamp(), "
        "clock_timestamp())"
    )
    execute(settings, statement, model=None, step="land", day=later(1))
    assert recover(settings) == 0, "it succeeded for another day"
    execute(settings, statement, model=None, step="land", day=DAY)
    execute(settings, statement, model="a", step="fit", day=DAY)
    assert recover(settings) == 1
    with postgres.connection.engine(settings).connect() as connection:
        assert read_open_failures(connection) == [("a_train", "fit", "r1", 1)], "another candidate may have succeeded"


def test_scores_that_are_late_because_of_a_failure_are_no_incident_of_their_own(settings: Settings) -> None:
    put(settings, failed("land", models=("a",)), failed("fit", "b_train", models=("b",), effect=""))
    about = {"rule": "scores_late", "day": later(1), "sentence": "late", "scored_day": DAY, "effect": "no scores"}
    look(settings, 1, *(Alert(subject=model, models=(model,), **about) for model in ("a", "b")))
    assert [rule for rule, *_ in incidents(settings)] == ["not_prepared", "scores_late", "task_failed"]
    [subjects] = execute(settings, "SELECT array_agg(subject) FROM incidents WHERE rule = 'scores_late'")
    assert subjects == (["b"],), "a training that fails makes no scores late"
    with postgres.connection.engine(settings).connect() as connection:
        assert read_incident(connection, 99) is None


def test_a_feed_that_is_late_all_day_is_one_incident_that_is_updated(settings: Settings) -> None:
    about = {"rule": "scores_late", "day": later(1), "sentence": "late", "scored_day": DAY, "effect": "a: no scores"}
    late = Alert(subject="a", models=("a",), late_feed="sales", because="feed sales is late", **about)
    raise_alerts(settings, "shop", [late], scope="monitor")  # as the watcher does when the scores are due
    cause, last = failed("wait_for_files", models=("a", "b")), failed("", "shop_prepare", **RUN)
    assert put(settings, cause, *WAITS, last) == [True, *[False] * 5]
    look(settings, 1, late)  # the next run date knows that, too
    look(settings, 2)
    what = "feed sales is late; then shop_prepare.wait_for_files failed"
    assert texts(settings) == ["[high] feed sales is late", f"[high, the day is not prepared] {what}"]
    assert execute(settings, "SELECT rule, state, models, first_day FROM incidents") == [
        ("not_prepared", "open", ["a", "b"], DAY)
    ]
    assert recover(settings, cause, *WAITS) == 1
    assert texts(settings)[2:] == ["[recovered] 2013-03-01 of shop is not prepared"]
    late_again = late.model_copy(update={"day": later(3), "scored_day": later(2)})
    look(settings, 3, late_again)
    assert texts(settings)[3:] == ["[high] feed sales is late"], "another day is another incident"


def test_a_public_page_that_failed_is_made_good_by_any_later_one(settings: Settings) -> None:
    """Also by hand on another day: the page is of what readers see now."""
    put(settings, failed("public_page", "a_score", done_by="public_page", effect=""))
    assert recover(settings) == 0
    execute(
        settings,
        "INSERT INTO step_runs (project, step, interval_start, interval_end, state, seconds, run_id, started_at, "
        "ended_at) VALUES ('shop', 'public_page', :day, :day, 'success', 1, 'x', clock_timestamp(), clock_timestamp())",
        day=later(9),
    )
    assert recover(settings) == 1
    assert texts(settings)[-1].startswith("[recovered]")


def waited(day: int, **more: Any) -> Failure:
    """Return the failure of a run date that waited for the feed `sales` in vain."""
    about = {"run_id": f"r{day}", "day": str(later(day)), "late_feed": "sales", "done_by": "build_features"}
    return failed("wait_for_files", models=("a", "b"), what=f"no file of {later(day)}", **{**about, **more})


def late_scores(day: int, **more: Any) -> list[Alert]:
    """Return the alerts that the scores of a day are late, because feeds are missing."""
    about = {"rule": "scores_late", "day": later(day + 1), "sentence": "late", "scored_day": later(day)}
    feed = {"late_feed": "prices", "missing_feeds": ("prices", "sales"), "because": f"no delivery of {later(day)}"}
    return [Alert(subject=each, models=(each,), effect="no scores", **about, **{**feed, **more}) for each in ("a", "b")]


def test_a_feed_that_is_late_for_days_is_one_incident_until_each_of_them_arrived(settings: Settings) -> None:
    assert put(settings, waited(0), failed("wait_for_features", "a_score", is_effect=True)) == [True, False]
    raise_alerts(settings, "shop", late_scores(1), scope="monitor")  # as the watcher does when scores are due
    raise_alerts(settings, "shop", late_scores(1), scope="monitor")
    effect = failed("wait_for_features", "a_score", run_id="r1", day=str(later(1)), is_effect=True, done_by="publish")
    run = failed("", run_id="r1", day=str(later(1)), **RUN)
    assert put(settings, effect, waited(1), run, waited(2), waited(2)) == [False, False, False, True, False]
    another = "[high, another day is missing] feed sales is late since run date 2013-03-01; days missing: "
    assert [text.split(".")[0] for text in texts(settings)] == [
        "[high] feed sales is late: run date 2013-03-01 is not prepared without it",
        f"{another}2013-03-01, 2013-03-02",
        f"{another}2013-03-01, 2013-03-02, 2013-03-03",
    ]
    command = "airflow dags backfill shop_prepare -s 2013-03-01 -e 2013-03-03 --rerun-failed-tasks -y"
    assert command in execute(settings, "SELECT payload ->> 'text' FROM messages ORDER BY id DESC LIMIT 1")[0][0]
    assert put(settings, waited(1, try_number=9)) == [True], "somebody cleared it, and it failed again"
    assert recover(settings, waited(0), waited(1), failed("wait_for_features", "a_score"), effect) == 0
    what = "feed sales is late since run date 2013-03-02; days missing: 2013-03-02, 2013-03-03"
    assert execute(settings, "SELECT rule, state, models, what FROM incidents") == [
        ("feed_late", "open", ["a", "b"], what)
    ], "the day that an alert named is not prepared"
    prepared = (
        "INSERT INTO step_runs (project, step, interval_start, interval_end, state, seconds, run_id, started_at, "
        "ended_at) VALUES ('shop', 'build_features', :start, :day, 'success', 1, 'x', clock_timestamp(), "
        "clock_timestamp())"
    )
    execute(settings, prepared, start=DAY, day=later(1))
    assert recover(settings) == 0
    [(what,)] = execute(settings, "SELECT what FROM incidents")
    assert what == "feed sales is late: run date 2013-03-03 is not prepared without it"
    execute(settings, prepared, start=later(2), day=later(2))
    assert recover(settings) == 1
    assert texts(settings)[-1] == "[recovered] feed sales is late"
    before = len(texts(settings))
    for day in (2, 3):
        look(settings, day + 1, *late_scores(day - 1, missing_feeds=()))
    assert (len(texts(settings)), len(incidents(settings))) == (before, 1), "a later look finds what people know"
    assert put(settings, waited(9)) == [True]
    assert [rule for rule, *_ in incidents(settings)] == ["feed_late", "feed_late"], "another time is another incident"


def test_an_incident_of_a_late_feed_names_no_day_that_was_made_good(settings: Settings) -> None:
    """Also if it is the last one, so that the days left are how the sentence began."""
    put(settings, waited(0), waited(1), waited(2))
    assert recover(settings, waited(2)) == 0
    [(what,)] = execute(settings, "SELECT what FROM incidents")
    assert what == "feed sales is late since run date 2013-03-01; days missing: 2013-03-01, 2013-03-02"


def test_what_is_known_later_of_a_late_feed_is_not_another_incident(settings: Settings) -> None:
    """At the deadline nothing has landed, so any feed may be the late one; the next run date knows which it was."""
    any_of = late_scores(0, late_feed="prices, sales", because="at least one of the feeds prices, sales is late")
    raise_alerts(settings, "shop", any_of, scope="monitor")
    look(settings, 1, *late_scores(0, late_feed="sales", missing_feeds=(), because="feed sales was late"))
    assert execute(settings, "SELECT subject, what, state FROM incidents") == [
        ("prices, sales", "feed sales was late", "open")
    ]
    look(settings, 2)
    assert texts(settings) == [
        "[high] at least one of the feeds prices, sales is late",
        "[recovered] at least one of the feeds prices, sales is late",
    ]
    any_of = [each.model_copy(update={"day": later(9), "scored_day": later(8)}) for each in any_of]
    raise_alerts(settings, "shop", any_of, scope="monitor")
    assert put(settings, waited(8)) == [True]
    assert execute(settings, "SELECT subject, state FROM incidents ORDER BY 1") == [
        ("prices, sales", "recovered"),
        ("sales", "open"),
    ], "the task that waited in vain knows which"


def test_two_feeds_that_are_late_for_the_same_days_are_two_incidents(settings: Settings) -> None:
    """One is a file and the other a query: each is waited for by a task of its own, and recovers by itself."""
    rows = {"late_feed": "prices", "what": "no row", "task_id": "extract"}
    files = [waited(0), waited(1)]
    queries = [each.model_copy(update=rows) for each in files]
    assert put(settings, *files, *queries) == [True] * 4
    said = " is late since run date 2013-03-01; days missing: 2013-03-01, 2013-03-02"
    assert execute(settings, "SELECT what FROM incidents ORDER BY subject") == [
        (f"feed prices{said}. no row",),
        (f"feed sales{said}. no file of 2013-03-02",),
    ]
    assert recover(settings, *queries) == 1
    assert texts(settings)[-1] == "[recovered] feed prices is late"
    assert recover(settings, *files) == 1


def test_whoever_notices_a_late_feed_first_its_incident_is_one(settings: Settings) -> None:
    waits = failed("wait_for_features", "a_score", is_effect=True)
    steps: dict[str, Any] = {
        "alert": lambda: raise_alerts(settings, "shop", late_scores(0), scope="monitor"),
        "waits": lambda: put(settings, waits),
        "failed": lambda: put(settings, waited(0)),
    }
    for order in itertools.permutations(steps):
        for name in order:
            steps[name]()
        look(settings, 2)  # a clear look does not end what failed tasks decide about
        [(rule, subject, state)] = execute(settings, "SELECT rule, subject, state FROM incidents")
        assert (rule, subject, state) == ("feed_late", "sales", "open"), order
        assert put(settings, waited(1)) == [True]
        assert recover(settings, waited(0), waited(1), waits) == 1, order
        assert len(incidents(settings)) == 1, order
        clear(settings)


def test_who_acknowledged_a_late_feed_is_not_sent_each_further_day(settings: Settings) -> None:
    put(settings, waited(0))
    [(number,)] = execute(settings, "SELECT incident FROM incidents")
    decide_incident(settings, number, "acknowledge", by="ana", why="the supplier is back on Monday")
    assert put(settings, waited(1)) == [False]
    assert put(settings, waited(2, late_feed="prices")) == [True], "another feed is another cause"
    assert recover(settings, waited(0), waited(1)) == 1
    assert texts(settings)[-1] == "[recovered] feed sales is late"


# --- what people decide -----------------------------------------------------------------------------------------------


def test_people_acknowledge_and_snooze_with_a_reason_and_the_audit_has_it(settings: Settings) -> None:
    look(settings, 0, *broken(0, badness=1.0))
    with pytest.raises(ActionRequiredError, match="needs who decides and why"):
        decide_incident(settings, 1, "acknowledge", by=" ", why="x")
    with pytest.raises(ActionRequiredError, match="ends by itself"):
        decide_incident(settings, 1, "close", by="ana", why="x")
    with pytest.raises(ActionRequiredError, match="within the next 90 days"):
        decide_incident(settings, 1, "snooze", by="ana", why="x", until=utc_now() - timedelta(days=1))
    decide_incident(settings, 1, "acknowledge", by="ana", why="I look")
    look(settings, 1, *broken(1, badness=9.0))
    decide_incident(settings, 1, "snooze", by="ben", why="on Monday", until=end_of_snooze(3, None))
    assert execute(settings, "SELECT state, acknowledged_by, why FROM incidents") == [("snoozed", "ana", "on Monday")]
    [line, *_] = lines_of(settings, is_open=True)
    assert line.startswith("1 [high] snoozed until ") and line.endswith(
        f", since 2013-03-01: revenue: {RULE} is broken"
    )
    assert len(texts(settings)) == 1
    execute(settings, "UPDATE incident_records SET snoozed_until = now() - interval '1 minute'")
    look(settings, 0, *broken(0, badness=9.0))
    assert len(texts(settings)) == 1, "an older run date has no news"
    look(settings, 2, *broken(2, badness=9.0))
    look(settings, 3, *broken(3, badness=9.0))
    assert [text.split("]")[0] for text in texts(settings)[1:]] == ["[high, still there after the snooze"]
    decide_incident(settings, 1, "snooze", by="ben", why="again", until=end_of_snooze(3, None))
    look(settings, 4)
    assert len(texts(settings)) == 2, "who snoozed it does not want to hear that it is over"
    assert execute(settings, "SELECT recovered_day FROM incidents") == [(later(4),)]
    with pytest.raises(ActionRequiredError, match=r"incident 1 \(revenue\) is over"):
        decide_incident(settings, 1, "acknowledge", by="ana", why="late")
    assert execute(settings, "SELECT action, subject, by, why FROM human_actions ORDER BY decided_at") == [
        ("acknowledge", "incident 1: revenue", "ana", "I look"),
        ("snooze", "incident 1: revenue", "ben", "on Monday"),
        ("snooze", "incident 1: revenue", "ben", "again"),
    ]
