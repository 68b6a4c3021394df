"""The training report: planted facts are found, texts stay texts, and equal subjects give equal bytes."""

from dataclasses import replace
from datetime import date, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest

from include.config.approval import Approval
from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.records import Check, GateDecision
from include.gate.config import Gate
from include.gate.shadow import Shadow
from include.report import inputs, measures
from include.report.changed import origins
from include.report.figures import roc_points
from include.report.page import make_report, what_follows
from include.report.subject import ReportedVersion, ReportSubject
from include.training.costs import Costs
from include.training.training_set import LABEL
from tests.pages import HOSTILE, MARKUP, Structure, assert_complete_in_itself
from tools.model_card import card

DAY, DAYS, A_DAY = date(2013, 3, 1), 8, 150
NUMERIC, CATEGORICAL = ("wind", "calm", "noise"), ("origin",)
CLASSES = ("early", "on time", "late")
KINDS = ("binary", "multiclass", "regression", "count", "quantile")
COSTS = {
    "binary": Costs(unit="EUR", false_positive=1, false_negative=5),
    "multiclass": Costs(unit="EUR", wrong=2),
    **{kind: Costs(unit="EUR", under=3, over=1) for kind in ("regression", "count", "quantile")},
}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric of scikit-learn takes a millisecond, and a report asks for it often."""
    monkeypatch.setattr(measures, "RESAMPLES", 40)


def rows_of(kind: str, seed: int) -> pl.DataFrame:
    """Return rows in which `wind` alone decides the outcome, `calm` never differs, and `noise` says nothing."""
    rng, count = np.random.default_rng(seed), DAYS * A_DAY
    wind = rng.normal(size=count)
    label = {
        "binary": (rng.random(count) < 1 / (1 + np.exp(-2 * wind))).astype(float),
        "multiclass": np.clip(np.floor(wind + rng.normal(scale=0.3, size=count) + 1.5), 0, 2),
        "count": rng.poisson(np.exp(0.5 * wind + 1)).astype(float),
    }.get(kind, 10 * wind + rng.normal(scale=2, size=count))
    return pl.DataFrame({
        "day": [DAY + timedelta(days=n // A_DAY) for n in range(count)],
        "entity_id": [f"F-{n:04}" for n in range(count)],
        "horizon": np.zeros(count, dtype=np.int16),
        "wind": wind,
        "calm": np.ones(count),
        "noise": rng.normal(size=count),
        "origin": np.array(["BAT", "PAU"])[rng.integers(0, 2, count)],
        "label": label,
    })


def predict(kind: str, rows: pl.DataFrame, *, slope: float = 1.0) -> np.ndarray:
    wind = slope * rows["wind"].to_numpy()
    if kind == "binary":
        return np.asarray(1 / (1 + np.exp(-2 * wind)))
    if kind == "count":
        return np.asarray(np.exp(0.5 * wind + 1))
    if kind == "multiclass":
        near = np.exp(-3 * np.abs(wind[:, None] + 1 - np.arange(3)))
        return np.asarray(near / near.sum(axis=1, keepdims=True))
    return np.stack([10 * wind + 2 * z for z in (-1.2816, 0, 1.2816)], axis=1) if kind == "quantile" else 10 * wind


@cache
def subject_of(kind: str, *, passed: bool = True, champion: bool = True, text: str = "harmless") -> ReportSubject:
    gate = Gate.model_validate({"checks": [{"kind": "slices", "by": ["origin"], "min_rows": 100}]})
    model = load_model("late_ferry").model_copy(
        update={
            "title": text,
            "problem_type": kind,
            "numeric": NUMERIC,
            "categorical": CATEGORICAL,
            "classes": CLASSES if kind == "multiclass" else (),
            "decision_threshold": 0.5,
            "gate": gate,
            "costs": COSTS[kind],
        }
    )
    fitted, holdout = rows_of(kind, 1), rows_of(kind, 2)
    tags = {"git_commit": "abc", "config_digest": "a" * 64, "lock_digest": "b" * 64, "features_version": text}
    version = ReportedVersion(2, predict(kind, holdout), 0.5, NUMERIC, CATEGORICAL, tags, {"scikit-learn": "1.8.0"})
    before = replace(
        version,
        version=1,
        score=predict(kind, holdout, slope=0.3),
        tags={**tags, "config_digest": "c" * 64},
        libraries={"scikit-learn": "1.7.0"},
    )
    check = Check(name="quality", subject="x", measured=1.0, threshold=0.5, passed=passed, sentence=text)
    days = Interval(start=DAY, end=DAY + timedelta(days=DAYS - 1))
    return ReportSubject(
        model=model,
        project=load_project("ferries"),
        decision=GateDecision(
            interval=Interval.of(days.end + timedelta(days=1)),
            rows=holdout.height,
            model_version=2,
            model="late_ferry",
            candidate=text,
            gate_id="g",
            champion=1 if champion else None,
            passed=passed,
            checks=(check,),
        ),
        fit=days,
        validation=days,
        holdout=days,
        fitted_rows=fitted,
        fitted_truth=fitted[LABEL].to_numpy(),
        holdout_rows=holdout,
        challenger=version,
        predict=lambda rows: predict(kind, rows),
        to_beat=before if champion else None,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_has_each_part_and_is_complete_in_itself(kind: str) -> None:
    report = make_report(subject_of(kind))
    for part in (
        *("Period and data", "The gate", "Metrics", "Expected cost", "Slices", "What the version looks at", "Inputs"),
        *("Differences to champion 1", "Rows that moved most", "What changed since champion 1", "How to make it again"),
    ):
        assert f">{part}<" in report.html, part
    special = {"binary": "ROC curve", "multiclass": "Confusion", "quantile": "Coverage of the limits"}
    assert special.get(kind, "Errors by prediction") in report.html
    assert_complete_in_itself(report.html.replace('role="img"', ""), draws=True)
    charts = [tag for tag, attributes in Structure(report.html).elements if ("role", "img") in attributes]
    assert len(charts) > 8, "each picture has a text for people who do not see it"
    assert (
        report.html.count("<desc") == report.html.count('<svg class="chart"') == report.html.count("Numbers</summary")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_permutation_finds_the_planted_input(kind: str) -> None:
    found = measures.importances(subject_of(kind))
    assert found[0].name == "wind"
    assert found[0].low > 0
    assert all(each.mean == 0 for each in found[1:]), "nothing else decides a score"


@pytest.mark.parametrize("kind", KINDS)
def test_an_interval_covers_what_is_measured_and_is_the_same_again(kind: str) -> None:
    subject = subject_of(kind)
    found = measures.metrics_with_intervals(subject, subject.challenger.score)
    loss = found[subject.problem.chosen_by]
    assert loss.low is not None and loss.high is not None
    assert loss.low < loss.value < loss.high
    assert found == measures.metrics_with_intervals(subject, subject.challenger.score)
    better = measures.difference_to_champion(subject)
    assert better is not None and better.high is not None
    assert better.high < 0, "the version is the truth, the champion is not"


def test_an_interval_covers_the_true_mean_about_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "RESAMPLES", 200)
    rng, covered = np.random.default_rng(7), 0
    days = np.repeat(np.arange(20), 10)
    for seed in range(100):
        values = rng.normal(size=20)[days] + rng.normal(size=200)  # rows of a day have a cause in common
        kept = measures.draws(days, seed)
        found = measures.estimates(lambda at, v=values: {"mean": float(v[at].mean())}, np.arange(200), kept)["mean"]
        assert found.low is not None and found.high is not None
        covered += found.low < 0 < found.high
    assert covered >= 85, "rows drawn singly would cover half as often"


def test_costs_are_those_computed_by_hand() -> None:
    subject = subject_of("binary")
    rows = subject.holdout_rows[:8].with_columns(label=pl.Series([0.0, 0, 0, 0, 1, 1, 1, 1]))
    score = np.array([0.1, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1])
    few = replace(subject, holdout_rows=rows, challenger=replace(subject.challenger, score=score), to_beat=None)
    cost = measures.expected_cost(few)
    assert cost is not None
    assert cost.version.value == (2 * 1 + 1 * 5) / 8
    assert cost.constant == 4 * 1 / 8, "calling all of them 1 costs less than missing four"
    assert min(value for _, value in cost.by_threshold) <= cost.version.value
    numbers = replace(subject_of("regression"), to_beat=None)
    rows = numbers.holdout_rows[:2].with_columns(label=pl.Series([10.0, 10.0]))
    scored = replace(numbers.challenger, score=np.array([8.0, 13.0]))
    cost = measures.expected_cost(replace(numbers, holdout_rows=rows, challenger=scored))
    assert cost is not None
    assert cost.version.value == (2 * 3 + 3 * 1) / 2


def test_the_roc_curve_encloses_the_area_that_is_measured() -> None:
    subject = subject_of("binary")
    x, y = np.array(roc_points(subject.truth, subject.challenger.score)).T
    area = subject.problem.metrics(subject.truth, subject.challenger.score)["roc_auc"]
    assert np.trapezoid(y, x) == pytest.approx(area, abs=0.002)


def test_the_page_says_if_inputs_are_described_by_some_of_the_rows() -> None:
    subject = subject_of("binary")
    count = len(subject.fitted_truth)
    page = make_report(replace(subject, fitted_rows=subject.fitted_rows[::2])).html
    assert f"Of {count // 2:,} rows, drawn from the days fitted on" in page
    assert f"{count:,}" in page
    assert "drawn from" not in make_report(subject).html


def test_unusual_inputs_are_named() -> None:
    subject = subject_of("regression")
    count = subject.fitted_rows.height
    large = np.where(np.arange(count) % 25 == 0, 1e9, np.arange(count) % 7 * 1e4)
    fitted = subject.fitted_rows.with_columns(
        wind=pl.Series(np.where(np.arange(count) % 2, np.nan, 1e-3 * np.arange(count))), noise=pl.Series(large)
    )
    holdout = subject.holdout_rows.with_columns(origin=pl.lit("STG"))
    found = {each.name: each for each in inputs.profiles(replace(subject, fitted_rows=fitted, holdout_rows=holdout))}
    assert found["calm"].notes == ("constant",)
    assert found["wind"].missing == 0.5
    assert found["wind"].notes == ("missing 50%", "missing 0% on holdout days")
    assert found["noise"].notes == ("skewed", "outliers 4.0%")
    assert found["origin"].notes == ("unseen on holdout days 100.0%",)
    assert any("Magnitudes differ" in each for each in inputs.assumptions([*found.values()]))


def test_what_changed_against_the_champion_is_marked() -> None:
    found = {each.what: each.changed for each in origins(subject_of("binary"))}
    changed = {what for what, differs in found.items() if differs}
    assert changed == {"digest of model.yaml and estimator.py", "scikit-learn"}


def test_what_follows_a_passed_gate_is_said() -> None:
    subject = subject_of("regression", passed=False)
    declared = {"approval": Approval(allowed=("ana", "ben"), timeout_days=3), "shadow": Shadow(days_with_outcomes=5)}
    asking = replace(subject, model=subject.model.model_copy(update=declared))
    assert "What follows" not in make_report(asking).html, "it was rejected"
    passed = replace(asking, decision=subject_of("regression").decision)
    said = what_follows(passed)
    assert said is not None
    assert "until the outcomes of 5 days are known" in said
    assert "; then ana or ben decides within 3 days" in said
    assert what_follows(subject) is None


def test_expensive_parts_are_made_for_versions_that_passed_only() -> None:
    def never(_: pl.DataFrame) -> np.ndarray:
        raise AssertionError("no rows are scored again")

    page = make_report(replace(subject_of("binary", passed=False), predict=never)).html
    assert "Rejected by the gate" in page
    assert "are made for versions that pass the gate" in page
    assert "Rows that moved most" not in page


def test_a_first_version_and_a_champion_that_cannot_score_have_a_report() -> None:
    assert "no champion yet" in make_report(subject_of("quantile", champion=False)).html
    subject = replace(subject_of("binary"), champion_missing="champion 1 needs x")
    page = make_report(subject).html
    assert "no scores of the champion: champion 1 needs x" in page
    assert "What changed since champion 1" in page


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_a_score_are_counted_and_left_out(kind: str) -> None:
    subject = subject_of(kind, passed=False)
    score, before = subject.challenger.score.copy(), subject.challenger.score.copy()
    score[:7], before[5] = np.nan, np.inf
    assert subject.to_beat is not None
    broken = replace(
        subject,
        challenger=replace(subject.challenger, score=score),
        to_beat=replace(subject.to_beat, score=before),
    )
    report = make_report(broken)
    assert "7 holdout rows are scored as NaN or infinite" in report.html
    assert report.facts["rows"] == len(score) - 7
    assert "champion 1 scores rows" not in report.html, "its row 5 is left out for both"
    before[9] = np.nan
    html = make_report(replace(broken, to_beat=replace(subject.to_beat, score=before))).html
    assert "no scores of the champion: champion 1 scores rows as NaN or infinite" in html
    nothing = replace(subject.challenger, score=np.full_like(score, np.nan))
    assert make_report(replace(subject, challenger=nothing)).facts["rows"] == 0


def test_an_adopted_version_was_not_fitted_on_the_days_before() -> None:
    subject = subject_of("binary")
    tags = {**subject.challenger.tags, "adopted_from": "runs:/abc/model"}
    report = make_report(replace(subject, challenger=replace(subject.challenger, tags=tags)))
    assert ">fitted on<" in make_report(subject).html
    assert ">fitted on<" not in report.html
    assert "the version was fitted elsewhere and adopted" in report.html
    assert "gate --model late_ferry --day 2013-03-09 --version 2" in report.html
    assert "fitted elsewhere and adopted" in card(subject.model, report.facts)


def test_a_row_about_a_person_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "F-0" in make_report(subject_of("binary")).html
    monkeypatch.setattr(ReportSubject, "entities_are_personal", True)
    page = make_report(subject_of("binary")).html
    assert "F-0" not in page
    assert "Rows that moved most" not in page
    assert "a row is about a person" in page


def test_labels_of_personal_columns_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReportSubject, "is_personal", lambda _, column: column == "origin")
    page = make_report(subject_of("binary")).html
    assert "BAT" not in page
    assert "(hidden)" in page


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(text: str) -> None:
    page, harmless = (
        make_report(subject_of("regression", passed=False, champion=False, text=each)).html
        for each in (text, "harmless")
    )
    assert Structure(page).elements == Structure(harmless).elements


def test_labels_with_markup_stay_text_in_charts_and_tables() -> None:
    subject = subject_of("multiclass")
    label = MARKUP[:30]
    rows = [each.with_columns(origin=pl.lit(label)) for each in (subject.fitted_rows, subject.holdout_rows)]
    model = subject.model.model_copy(update={"classes": ("<script>alert(1)</script>", "b", "c")})
    page = make_report(replace(subject, model=model, fitted_rows=rows[0], holdout_rows=rows[1])).html
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("kind", ["binary", "quantile"])
def test_equal_subjects_give_equal_bytes(kind: str) -> None:
    one = make_report(subject_of(kind))
    subject_of.cache_clear()
    other = make_report(subject_of(kind))
    assert one == other
