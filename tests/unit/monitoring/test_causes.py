"""Late scores are blamed on the required feed that was late, and on nothing else."""

from datetime import date, datetime, timedelta
from typing import Any

import pytest

from include.config.loading import load_project
from include.core.incidents import merge_causes
from include.core.records import Alert
from include.monitoring.causes import LateFeed, Origins, late_feeds, name_causes, name_faulty

DAY = date(2013, 3, 4)
FERRIES = load_project("ferries")
CUTOFF = FERRIES.cutoff_at(DAY)
REQUIRED = FERRIES.required_days(DAY)
IN_TIME = {needed: CUTOFF - timedelta(hours=1) for needed in REQUIRED}
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("came", "prepared", "says"),
    [
        (-HOUR, HOUR, ""),
        (timedelta(0), HOUR, ""),
        (2 * HOUR, 3 * HOUR, "was late: its delivery of"),
        (2 * HOUR, None, "was late: its delivery of"),
        (30 * HOUR, HOUR, ""),  # a correction: the day was prepared before it
        (None, None, "is late: it has no accepted delivery of"),
    ],
)
def test_a_required_feed_is_late_if_it_came_after_the_cutoff_and_the_day_waited_for_it(
    came: timedelta | None, prepared: timedelta | None, says: str
) -> None:
    slot = REQUIRED[0]
    known: dict[tuple[str, date], datetime] = {k: at for k, at in IN_TIME.items() if k != slot}
    if came is not None:
        known[slot] = CUTOFF + came
    found = late_feeds(FERRIES, DAY, known, None if prepared is None else CUTOFF + prepared)
    assert [*found] == ([slot[0]] if says else [])
    late = found.get(slot[0], LateFeed(""))
    assert says in late.sentence and late.is_missing == (bool(says) and came is None)


def test_only_late_scores_have_a_late_feed_as_their_cause() -> None:
    late = Alert(subject="a", rule="scores_late", day=DAY + timedelta(days=1), sentence="late", scored_day=DAY)
    other = Alert(subject="a", rule="mae at_most 3", day=DAY, sentence="poor")
    feeds = {"sailings": LateFeed("feed sailings was late"), "winds": LateFeed("feed winds is late", is_missing=True)}
    named = name_causes([late, other], lambda day: feeds if day == DAY else {})
    assert (named[0].late_feed, named[0].because) == ("winds", "feed sailings was late; feed winds is late")
    assert named[0].missing_feeds == ("winds",)
    came = {feed: LateFeed(f"feed {feed} was late") for feed in ("sailings", "winds")}
    assert name_causes([late], lambda _: came)[0].late_feed == "sailings"
    assert named[1] == other
    assert name_causes([late], lambda _: {}) == [late]


def test_all_feeds_without_a_delivery_are_named_since_each_may_be_the_late_one() -> None:
    late = Alert(subject="a", rule="scores_late", day=DAY + timedelta(days=1), sentence="late", scored_day=DAY)
    found = late_feeds(FERRIES, DAY, {}, None)
    [named] = name_causes([late], lambda _: found)
    assert named.missing_feeds == tuple(dict.fromkeys(feed for feed, _ in REQUIRED)) and len(named.missing_feeds) > 1
    what = f"at least one of the feeds {named.late_feed} is late"
    assert named.late_feed == ", ".join(named.missing_feeds)
    assert named.because == f"{what}: none of them has an accepted delivery that {DAY} needs"
    [details] = merge_causes([named]).values()
    assert (details.subject, details.what) == (named.late_feed, named.because)


ORIGINS = Origins(FERRIES, (FERRIES.folder / "features.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("column", "origin"),
    [
        ("distance_miles", "feed sailings"),
        ("dest", "feed sailings"),
        ("temperature_f", "feed winds"),
        ("winds_missing", "feed winds"),
        ("late_rate_company_28d", "feed logbook"),
        ("(rows)", "feed sailings"),
        ("outcome late_ferry", "feed logbook"),
        ("month", "column month"),
        ("late_rate_company", "column late_rate_company"),
    ],
)
def test_a_feature_is_of_the_feed_that_names_show(column: str, origin: str) -> None:
    assert ORIGINS.of(column) == origin


def test_a_function_that_asks_for_one_feed_names_its_columns() -> None:
    code = """
def same_weekday(rows, feeds):
    rows = feeds.add_lags(rows, "logbook", by=("company",), ages=[7], waits=("wait_minutes", "sum"))
    return rows.withColumn(f"waits_{week}_weeks_before", value)
"""
    made = Origins(FERRIES, code)
    assert made.of("waits_3_weeks_before") == made.of("waits_company_lag7") == "feed logbook"
    assert made.of("weeks_before") == "column weeks_before"


def drift(model: str, *drifted: str, day: date = DAY, **more: Any) -> Alert:
    about = {"models": (model,), "drifted": drifted, "because": f"{drifted[0] if drifted else 'score'} moved", **more}
    sentence = f"{model}: drift. Owner: {model}-team. Runbook: docs/runbooks/alert-drift.md"
    return Alert(subject=model, rule="drift", day=day, sentence=sentence, **about)


def test_what_a_faulty_feed_does_to_several_models_is_one_cause() -> None:
    wrong = "scores from wrong inputs"
    alerts = [
        drift("c", "temperature_f", tier=1),
        drift("a", "temperature_f", effect=wrong),
        drift("b", "month", "pressure_millibars", "humidity_percent"),
        drift("alone", "distance_miles"),
        drift("scores"),
        drift("a", "distance_miles", day=DAY + timedelta(days=1)),
    ]
    named = name_faulty(alerts, ORIGINS)
    assert [each.faulty for each in named] == ["feed winds"] * 3 + ["feed sailings", "", "feed sailings"]
    assert name_faulty(list(reversed(alerts)), ORIGINS) == named[::-1], "in any order of models"
    merged, alone, scores = merge_causes([each for each in named if each.day == DAY]).values()
    assert (merged.subject, merged.models, merged.severity) == ("feed winds", ("c", "a", "b"), "high")
    assert (merged.effect, merged.owner, merged.runbook) == (wrong, "", "docs/runbooks/alert-drift.md")
    assert (
        "drift of feed winds on 2013-03-04, compared with the weeks before: c, a: temperature_f moved; b:"
        in merged.what
    )
    assert (alone.subject, alone.owner, scores.subject, scores.what) == (
        "feed sailings",
        "alone-team",
        "scores",
        "scores: drift.",
    )
