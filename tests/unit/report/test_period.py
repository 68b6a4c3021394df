"""Reports of periods: costs, sentences, and pages that are equal to the byte and run nothing."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from include.config.loading import load_model
from include.core.periods import Period, Reports
from include.io.channels.base import Attachment
from include.report import period_words as words
from include.report.period_facts import (
    CostDay,
    DayErrors,
    DayOfVersion,
    DriftedFeature,
    IncidentFound,
    LossDay,
    MetricDay,
    ModelPeriod,
    PeriodFacts,
    Promoted,
    StepTotal,
    SupplierFound,
    VersionDecided,
    baseline_decision,
    cost_of,
    worths,
)
from include.report.period_page import make_period_page
from include.steps.report_period import MAX_ATTACHED, messages_of
from include.training.costs import Costs
from tests.pages import HOSTILE, MARKUP, Structure, assert_complete_in_itself

WEEK = Period.containing("week", date(2026, 3, 4))
DAYS = WEEK.days.days
BINARY = Costs(unit="EUR", false_positive=1, false_negative=5)


def model(name: str = "late", **changes: Any) -> ModelPeriod:
    made = ModelPeriod(
        name=name,
        title=name.title(),
        metric="log_loss",
        meanings={"log_loss": "mean loss", "roc_auc": "ranking"},
        unit="EUR",
        due=DAYS,
        published=[DayOfVersion(day, 3, 1000) for day in DAYS],
        window=WEEK.days,
        losses=[LossDay(day, 100, 0.4, 0.5) for day in DAYS],
        losses_before=[LossDay(day, 100, 0.5, 0.5) for day in WEEK.before.days.days],
        metrics=[MetricDay(day, "log_loss", 0.4, 100) for day in DAYS],
        costs=[CostDay(day, 100, 50.0, 80.0) for day in DAYS],
        drifted=[DriftedFeature("input", "wind", 3, 2.0, "its values moved", 0.6)],
        watched=9,
        decided=[VersionDecided(DAYS[0], 4, "linear", False, ("log_loss is too high",))],
        promoted=[Promoted(DAYS[2], 3, False, False, None, "passed the gate")],
    )
    return replace(made, **changes)


def facts(*models: ModelPeriod, **changes: Any) -> PeriodFacts:
    made = PeriodFacts(
        project="piers",
        title="Piers",
        owner="data-team",
        period=WEEK,
        due=DAYS,
        prepared=DAYS,
        models=models or (model(),),
        incidents=[
            IncidentFound("critical", "scores_late", "late", DAYS[1], DAYS[4]),
            IncidentFound("low", "drift", "late", DAYS[5], None, "wind moved"),
        ],
        suppliers=[SupplierFound("harbour", ("winds",), 7, 2, 1, 6, 0, 10_000, 25, 1)],
        steps=[StepTotal("fit", 7, 0, 700.0, 900.0, 1.5), StepTotal("score", 7, 1, 70.0, 90.0, 0.25)],
        currency="USD",
    )
    return replace(made, **changes)


# --- costs ------------------------------------------------------------------------------------------------------------


def test_pairs_of_labels_cost_what_their_rows_cost() -> None:
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(0, 2, 500).astype(float), rng.integers(0, 2, 500).astype(float)
    pairs = {(t, p): int(((truth == t) & (predicted == p)).sum()) for t in (0, 1) for p in (0, 1)}
    found = cost_of(BINARY, (), DayErrors(DAYS[0], 1, 500, pairs), baseline=1.0)
    assert found.cost == BINARY.by_row(truth, predicted).sum()
    assert found.baseline == BINARY.by_row(truth, np.ones(500)).sum()


def test_amounts_cost_what_their_rows_cost() -> None:
    costs, rng = Costs(unit="EUR", under=3, over=1), np.random.default_rng(2)
    error = rng.normal(size=500)
    errors = DayErrors(DAYS[0], 1, 500, None, -error[error < 0].sum(), error[error > 0].sum())
    found = cost_of(costs, (), errors, baseline=None)
    assert found.cost == pytest.approx(costs.by_row(np.zeros(500), error).sum())
    assert found.baseline is None, "what the baseline would have cost is not known"


@pytest.mark.parametrize(("share", "decision"), [(0.1, 0.0), (0.2, 1.0), (0.9, 1.0)])
def test_the_baseline_of_labels_is_the_decision_that_was_cheapest_in_training(share: float, decision: float) -> None:
    """At a share of 0.1, to predict 1 for everybody costs 0.9, and 0 for everybody 0.5."""
    late = load_model("late_ferry").model_copy(update={"costs": BINARY})
    assert baseline_decision(late, share) == decision


def test_units_are_never_added() -> None:
    found = worths([model(), model("delay", unit="minutes"), model("more"), model("free", unit=None, costs=())])
    assert [(each.unit, each.cost, each.saved) for each in found] == [("EUR", 700, 420), ("minutes", 350, 210)]


def test_rows_without_a_baseline_are_not_counted_as_saved() -> None:
    costs = [CostDay(DAYS[0], 100, 50.0, 80.0), CostDay(DAYS[1], 100, 40.0, None)]
    assert words.worth(facts(model(costs=costs))) == (
        "Errors cost 90.00 EUR; on the 100 outcomes that can be compared, that is 30.00 EUR less than the best "
        "constant would have cost."
    )


# --- sentences --------------------------------------------------------------------------------------------------------


def test_a_manager_reads_five_sentences_and_a_chat_three() -> None:
    assert words.summary(facts()) == [
        "1 model made 7,000 predictions on 7 of 7 days; no day is missing.",
        (
            "The log_loss of late was 0.4 on 700 known outcomes, 20% better than the dummy baseline and 20% better "
            "than the week before."
        ),
        "Errors cost 350 EUR, 210 EUR less than the best constant would have cost.",
        (
            "There were 2 incidents, 1 of them critical; the longest (scores_late of late) lasted 3 days, and 1 is "
            "still open; 1 feature drifted."
        ),
        (
            "1 version became champion and the gate rejected 1; 0.25% of 10,000 delivered rows were quarantined; 2 of "
            "7 deliveries came late; the pipeline cost 1.75 USD."
        ),
    ]
    assert len(words.short_summary(facts())) == 3


def test_what_is_missing_stands_first() -> None:
    without = model(published=[DayOfVersion(day, 3, 1000) for day in DAYS if day not in (DAYS[1], DAYS[3], DAYS[4])])
    found = words.summary(facts(without, prepared=[day for day in DAYS if day != DAYS[1]]))
    assert found[0] == (
        "Incomplete: no data were prepared for 2026-03-03 and no predictions of late for 2026-03-05 to 2026-03-06. "
        "1 model made 4,000 predictions on 4 of 7 days."
    )
    assert "Incomplete" in Structure(make_period_page(facts(without))).text


def test_a_worse_week_says_so() -> None:
    worse = model(
        losses=[LossDay(day, 100, 0.6, 0.5) for day in DAYS], costs=[CostDay(day, 100, 80.0, 50.0) for day in DAYS]
    )
    said = " ".join(words.summary(facts(worse)))
    assert "20% worse than the dummy baseline and 20% worse than the week before" in said
    assert "210 EUR more than the best constant" in said


def test_nothing_is_invented_where_nothing_is_known() -> None:
    empty = model(due=(), published=(), losses=(), losses_before=(), metrics=(), costs=(), drifted=(), decided=())
    found = words.summary(facts(empty, incidents=(), suppliers=(), steps=()))
    assert found == [
        "Nothing was predicted, because no model had a champion yet.",
        "How good they were is not known yet: no outcome became known.",
        "There was no incident, and nothing drifted.",
        "1 version became champion and the gate rejected 0.",
    ]


def test_many_models_are_one_sentence_that_names_the_worst() -> None:
    worse = model("slow", losses=[LossDay(day, 10, 0.75, 0.7) for day in DAYS])
    assert words.quality(facts(model("a"), model("b"), worse)) == (
        "2 of 3 measured models were better than the dummy baseline; not better: slow; slow lost most against the "
        "week before: its loss rose by 50%."
    )


@pytest.mark.parametrize(
    ("first", "recovered", "days"), [(DAYS[0], DAYS[1], 1), (DAYS[5], None, 2), (DAYS[0] - timedelta(3), DAYS[0], 3)]
)
def test_an_incident_lasts_from_its_first_run_date_to_the_first_without_it(
    first: date, recovered: date | None, days: int
) -> None:
    assert IncidentFound("low", "drift", "late", first, recovered).lasted(WEEK.days.end) == days


# --- the page and its message -----------------------------------------------------------------------------------------


def test_equal_facts_give_equal_bytes_and_a_page_that_loads_nothing() -> None:
    page = make_period_page(facts())
    assert page == make_period_page(facts())
    assert_complete_in_itself(page, draws=True)
    for sentence in words.summary(facts()):
        assert sentence in Structure(page).text


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_from_outside_stay_texts(text: str) -> None:
    hostile = model(
        promoted=[Promoted(DAYS[0], 3, True, False, None, text)],
        decided=[VersionDecided(DAYS[0], 4, text, False, (text,))],
        drifted=[DriftedFeature("input", text, 1, 1.5, "moved", 1.0)],
        retrained=[(DAYS[0], text)],
    )
    page = make_period_page(facts(hostile, incidents=[IncidentFound("low", text, text, DAYS[0], None, text)]))
    assert_complete_in_itself(page, draws=True)
    assert MARKUP not in page
    assert not {"\u202e", "\x1b", "\u200b"} & {*page}, "a character that nobody sees must be visible"


def message(pdf: bytes | None, **declared: Any) -> dict[str, Any]:
    reports = Reports(to=("desk", "mail"), **declared)
    one, other = messages_of(facts(), reports, reports.to, "s3://tables/_reports/piers/week/2026-W10.html", pdf, "r")
    assert (one.destination, other.destination) == ("desk", "mail")
    assert one.key != other.key and one.payload == other.payload
    return one.payload


def test_a_message_has_three_sentences_the_place_and_the_pdf() -> None:
    payload = message(b"%PDF")
    lines = payload["text"].splitlines()
    assert lines[0] == "Piers: Week 10 of 2026 (2026-03-02 to 2026-03-08)"
    assert lines[1:4] == words.short_summary(facts())
    assert lines[4:] == ["Report: s3://tables/_reports/piers/week/2026-W10.html"]
    assert (
        payload["attachment"] == Attachment("piers-2026-W10.pdf", "application/pdf", b"%PDF").in_payload["attachment"]
    )


def test_a_declared_link_stands_in_the_message() -> None:
    link = {"link": "https://files.example.com/_reports/"}
    assert message(b"%PDF", **link)["text"].endswith(
        "Report: https://files.example.com/_reports/piers/week/2026-W10.pdf"
    )
    assert message(None, **link)["text"].endswith("/piers/week/2026-W10.html")


@pytest.mark.parametrize("pdf", [None, b" " * (MAX_ATTACHED + 1)], ids=["none", "too large"])
def test_a_message_without_a_pdf_is_sent_all_the_same(pdf: bytes | None) -> None:
    assert "attachment" not in message(pdf)
