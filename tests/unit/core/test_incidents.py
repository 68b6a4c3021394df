"""How run dates make an incident, what is news about it, and what its message says."""

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from include.core.incidents import (
    Details,
    Episode,
    Failure,
    Incident,
    Seen,
    details_of,
    duration,
    episodes,
    merge_causes,
    news,
    severity_of,
    text_of,
)
from include.core.records import Alert

DAY = date(2013, 3, 1)
NOW = datetime(2013, 3, 9, tzinfo=UTC)


def later(days: int) -> date:
    return DAY + timedelta(days=days)


def known(marks: str) -> dict[date, Seen]:
    """Return what run dates know, one character each: `x` seen, `g` gone, `-` clear, ` ` did not look."""
    meant: dict[str, Seen] = {"x": "seen", "g": "gone", "-": "clear"}
    return {later(n): meant[mark] for n, mark in enumerate(marks) if mark != " "}


@pytest.mark.parametrize(
    ("marks", "found"),
    [
        ("--", []),
        ("x", [(0, 0, None)]),
        ("xx-", [(0, 1, 2)]),
        ("-x  x", [(1, 4, None)]),
        ("x   -", [(0, 0, 4)]),
        ("g-", [(0, 0, 0)]),
        ("x--x-", [(0, 3, 4)]),  # back within three days: the same incident
        ("x----x", [(0, 0, 1), (5, 5, None)]),
        ("x-   x-", [(0, 0, 1), (5, 5, 6)]),
    ],
)
def test_an_incident_lasts_from_the_first_to_the_last_run_date_that_saw_it(marks: str, found: list[Any]) -> None:
    days = known(marks)
    expected = [Episode(later(first), later(last), None if end is None else later(end)) for first, last, end in found]
    for order in itertools.islice(itertools.permutations(days.items()), 24):
        assert episodes(dict(order)) == expected


@pytest.mark.parametrize(
    ("tier", "affects", "severity"),
    [
        (1, True, "critical"),
        (2, True, "high"),
        (3, True, "low"),
        (1, False, "high"),
        (2, False, "low"),
        (3, False, "low"),
    ],
)
def test_severity_follows_from_the_tier_and_is_lower_if_readers_notice_nothing(
    tier: int, affects: bool, severity: str
) -> None:
    assert severity_of(tier, affects_readers=affects) == severity


def incident(
    recovered: int | None = None,
    badness: float | None = None,
    severity: Any = "high",
    rule: str = "mae",
    last: int = 0,
    **more: Any,
) -> Incident:
    details = Details(rule, "revenue", severity, "revenue: mae is over 3", "poorer than agreed", badness=badness)
    recovered_day = None if recovered is None else later(recovered)
    sent = {"sent_severity": "high", "sent_badness": 1.0, **more}
    return Incident(4, "shop", details, DAY, later(last), recovered_day, **sent)


SNOOZED: dict[str, Any] = {"snoozed_until": NOW + timedelta(days=1), "snoozed_severity": "high"}
WOKEN: dict[str, Any] = {"snoozed_until": NOW - timedelta(hours=1), "snoozed_severity": "high"}
TAKEN: dict[str, Any] = {"acknowledged_by": "ana"}


@pytest.mark.parametrize(
    ("before", "after", "event", "is_sent"),
    [
        (None, incident(), "opened", True),
        (None, incident(1), None, False),
        (incident(badness=1), incident(badness=1.4), None, False),
        (incident(badness=1), incident(badness=1.5), "updated", True),
        (incident(badness=1, **TAKEN), incident(badness=9, **TAKEN), None, False),
        (incident(**TAKEN), incident(severity="critical", **TAKEN), "updated", True),
        (incident(severity="low"), incident(severity="low"), None, False),
        (incident(), incident(1), "recovered", True),
        (incident(**TAKEN), incident(1, **TAKEN), "recovered", True),
        (incident(sent_severity=None), incident(1, sent_severity=None), "recovered", False),
        (incident(1), incident(), "reopened", True),
        (incident(1), incident(1), None, False),
        (incident(**SNOOZED), incident(badness=9, **SNOOZED), None, False),
        (incident(**SNOOZED), incident(severity="critical", **SNOOZED), "updated", True),
        (incident(**SNOOZED), incident(1, **SNOOZED), "recovered", False),
        (incident(**WOKEN), incident(**WOKEN), "updated", True),
        (incident(**WOKEN), incident(1, **WOKEN), "recovered", True),
        (None, incident(1, rule="skew: unseen labels"), "opened", True),
        (incident(1), incident(4, last=3), None, False),
        (incident(1, rule="skew"), incident(4, rule="skew", last=3), "reopened", True),
        (incident(1, rule="skew"), incident(1, rule="skew"), None, False),
        (None, incident(1, rule="budget_spent"), "opened", True),
        (incident(rule="drift"), incident(1, rule="drift"), "recovered", False),
        (incident(rule="drift"), incident(rule="drift", last=1), "updated", True),
        (incident(rule="drift"), incident(rule="drift"), None, False),
        (incident(rule="drift", **TAKEN), incident(rule="drift", last=1, **TAKEN), None, False),
    ],
)
def test_news_is_what_people_do_not_know_yet(before: Any, after: Incident, event: str | None, is_sent: bool) -> None:
    assert news(before, after, NOW) == (event, is_sent)


def test_a_message_says_all_that_on_call_needs_in_a_few_lines() -> None:
    alert = Alert(
        subject="revenue",
        rule="mae at_most 3, 2 of 3 days",
        day=DAY,
        sentence="revenue: mae is over 3 on 2 days. Owner: planning. Runbook: docs/runbooks/alert-rule-broken.md",
        effect="scores are published, but poorer than agreed",
        tier=1,
    )
    told = Incident(4, "shop", details_of(alert), DAY, later(3))
    assert text_of(told, "opened").splitlines() == [
        "[critical] revenue: mae is over 3 on 2 days.",
        "Since: run date 2013-03-01",
        "Readers: scores are published, but poorer than agreed",
        "Safe to run again: yes",
        "Owner: planning",
        "Runbook: docs/runbooks/alert-rule-broken.md",
        "Incident 4 of shop. To acknowledge: python -m include.cli acknowledge --incident 4 --by … --why …",
    ]
    assert text_of(told, "updated").startswith("[critical, worse] revenue")
    over = Incident(4, "shop", details_of(alert), DAY, later(3), later(4))
    assert text_of(over, "recovered").splitlines() == [
        "[recovered] revenue: mae at_most 3, 2 of 3 days",
        "It was seen on 2013-03-01 to 2013-03-04 (4 run dates), and is gone on 2013-03-05.",
        "Incident 4 of shop",
    ]


@pytest.mark.parametrize("owner", ["planning", "ada@example.org", "St. Gallen team"])
def test_owner_and_runbook_stand_at_the_end_of_a_sentence(owner: str) -> None:
    sentence = f"revenue: it is off. Owner: {owner}. Runbook: docs/runbooks/alert-skew.md"
    found = details_of(Alert(subject="revenue", rule="skew", day=DAY, sentence=sentence))
    assert (found.what, found.owner, found.runbook) == (
        "revenue: it is off.",
        owner,
        "docs/runbooks/alert-skew.md",
    )


def test_what_is_found_when_it_is_over_says_so_and_needs_no_acknowledgement() -> None:
    lines = text_of(incident(2, rule="skew"), "opened").splitlines()
    assert "Since: run date 2013-03-01; gone on 2013-03-03, it was found late" in lines
    assert lines[-1] == "Incident 4 of shop"
    announced = text_of(incident(2, rule="libraries_changed a b"), "opened")
    assert "gone" not in announced and "acknowledge" not in announced
    assert text_of(incident(rule="drift"), "updated").startswith("[high, again] ")


def late(model: str, **more: Any) -> Alert:
    about = {"effect": f"{model}: no scores", "models": (model,), "scored_day": DAY, **more}
    return Alert(subject=model, rule="scores_late", day=later(1), sentence=f"{model} is late", **about)


def test_late_scores_of_one_feed_are_one_cause_that_names_all_models() -> None:
    of_feed = {"late_feed": "sales", "because": "feed sales is late"}
    found = merge_causes([late("a", **of_feed), late("b", tier=1, **of_feed), late("c")])
    by_feed, alone = found.values()
    assert (by_feed.rule, by_feed.subject, by_feed.what) == ("feed_late", "sales", "feed sales is late")
    assert (by_feed.models, by_feed.effect, by_feed.severity) == (("a", "b"), "a: no scores; b: no scores", "critical")
    assert (alone.rule, alone.subject) == ("scores_late", "c")


def test_what_readers_see_of_each_model_is_named_once_whatever_it_says() -> None:
    of_feed = {"late_feed": "sales", "because": "feed sales is late"}
    effects = [f"{model}: no scores of today; the newest are old" for model in ("a", "b", "c")]
    [details] = merge_causes([late(each[0], effect=each, **of_feed) for each in effects]).values()
    assert details.effect == "; ".join(effects)


def failure(**more: Any) -> Failure:
    about = {"project": "shop", "dag_id": "shop_prepare", "task_id": "land", "run_id": "r", "day": "2013-03-01"}
    return Failure.model_validate({**about, "what": "it failed", **more})


def test_whatever_waits_for_a_day_that_is_not_prepared_is_the_same_cause() -> None:
    of_day = failure().details
    waits = failure(dag_id="revenue_score", task_id="wait_for_features", is_effect=True)
    assert waits.details.cause == of_day.cause == failure(task_id="", dag_id="shop_prepare").details.cause
    assert failure(day="2013-03-02").details.cause != of_day.cause
    assert failure(dag_id="revenue_score", task_id="score").details.cause != of_day.cause


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(0, "0 min"), (59, "59 min"), (123, "2 h 3 min"), (47 * 60, "47 h 0 min"), (2 * 1440, "2 days")],
)
def test_a_duration_is_in_words(minutes: int, words: str) -> None:
    assert duration(timedelta(minutes=minutes)) == words
