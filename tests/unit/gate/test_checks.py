"""The gate: for each check a model that is bad in that way, and everything that cannot be measured. Fails closed."""

import dataclasses
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss

from include.config.loading import load_model
from include.config.model import Model
from include.core.records import Check
from include.core.threshold import Threshold
from include.gate import checks as gate
from include.gate.checks import Evidence, HoldoutScores
from include.gate.config import Gate, Group, Slices

ROWS, DAYS = 6000, 12
RULES = Gate(
    min_rows=3000,
    quality=(Threshold(metric="roc_auc", at_least=0.65),),
    calibration_gap=0.05,
    calibration_error=0.08,
    better_than_dummy=0.02,
    linear="linear",
    not_worse_than_linear=0.01,
    not_worse_than_champion=0.01,
    resamples=300,
    slices=Slices(
        by=("origin", "size"),
        groups={"size": Group(of="company", values={"large": ("UA", "B6")}, otherwise="small")},
        min_rows=200,
        not_worse_by=0.05,
    ),
    changed_decisions=0.2,
    score_shift=0.08,
    leakage=Threshold(metric="roc_auc", at_most=0.95),
    microseconds_per_row=100,
    megabytes=10,
)
BINARY = load_model("late_ferry").model_copy(update={"gate": RULES})
REGRESSION = BINARY.model_copy(
    update={
        "problem_type": "regression",
        "gate": RULES.model_copy(
            update={
                "quality": (Threshold(metric="mae", at_most=12.0),),
                "calibration_gap": 3.0,
                "calibration_error": None,
                "decision_change": 10.0,
                "score_shift": 6.0,
                "leakage": Threshold(metric="r2", at_most=0.95),
            }
        ),
    }
)


def good(**changes: Any) -> Evidence:
    """A classifier that knows a part of the truth and is well calibrated, beside a champion that is nearly as good."""
    rng = np.random.default_rng(3)
    signal = rng.normal(size=ROWS)
    rate = 1 / (1 + np.exp(-(1.2 * signal - 1.2)))
    companys = rng.choice(["UA", "B6", "EV", "OO"], ROWS)
    evidence = Evidence(
        days=np.datetime64("2013-03-01") + np.arange(ROWS) % DAYS,
        truth=(rng.random(ROWS) < rate).astype(float),
        labels=pl.DataFrame({"origin": rng.choice(["BAT", "PAU"], ROWS), "company": companys}),
        fitted_truth=(rng.random(ROWS) < rate).astype(float),
        challenger=HoldoutScores("version 2", rate, BINARY.features),
        linear=HoldoutScores("linear", np.clip(rate * 0.9 + 0.03, 0, 1), BINARY.features),
        champion=HoldoutScores("champion 1", np.clip(rate * 0.95 + 0.015, 0, 1), BINARY.features),
        champion_saw=date(2013, 2, 20),
        microseconds_per_row=8.0,
        megabytes=0.5,
    )
    return dataclasses.replace(evidence, **changes)


def good_regression(**changes: Any) -> Evidence:
    rng = np.random.default_rng(4)
    expected = rng.normal(5, 15, ROWS)
    before = good()
    evidence = dataclasses.replace(
        before,
        truth=expected + rng.normal(0, 12, ROWS),
        fitted_truth=expected + rng.normal(0, 12, ROWS),
        challenger=HoldoutScores("version 2", expected, BINARY.features),
        linear=HoldoutScores("linear", expected * 0.9, BINARY.features),
        champion=HoldoutScores("champion 1", expected * 0.95, BINARY.features),
    )
    return dataclasses.replace(evidence, **changes)


def score(evidence: Evidence, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
    return {"challenger": dataclasses.replace(evidence.challenger, score=change(evidence.challenger.score))}


def failed(checks: tuple[Check, ...]) -> list[str]:
    return list(dict.fromkeys(check.name for check in checks if not check.passed))


def measured(checks: tuple[Check, ...], name: str, subject: str | None = None) -> float | None:
    [found] = [c.measured for c in checks if c.name == name and subject in (None, c.subject)]
    return found


def test_a_good_model_passes_every_check() -> None:
    for model, evidence in ((BINARY, good()), (REGRESSION, good_regression())):
        checks = gate.run_checks(model, evidence)
        assert failed(checks) == []
        assert list(dict.fromkeys(c.name for c in checks)) == [
            *("enough rows", "absolute quality", "calibration", "dummy baseline", "linear baseline", "champion"),
            *("slice", "differential", "leakage", "scoring time", "size", "signature"),
        ]


def test_without_a_champion_the_absolute_checks_remain() -> None:
    checks = gate.run_checks(BINARY, good(champion=None, champion_saw=None))
    assert failed(checks) == []
    assert {"champion", "differential"}.isdisjoint(c.name for c in checks)


# --- one bad model a check --------------------------------------------------------------------------------------------


def shuffled(evidence: Evidence) -> dict[str, Any]:
    """Scores of the right level in the wrong order: it knows nothing."""
    return score(evidence, lambda s: np.random.default_rng(0).permutation(s))


def too_high(evidence: Evidence) -> dict[str, Any]:
    """The order is right, the level is not."""
    return score(evidence, lambda s: np.clip(s + 0.07, 0, 1))


def too_sure(evidence: Evidence) -> dict[str, Any]:
    """The mean is right; what it calls 90 % is 70 %."""
    flat = evidence.challenger.score
    sure = 1 / (1 + np.exp(-3.4 * (np.log(flat / (1 - flat)) + 0.62)))
    return score(evidence, lambda _: np.clip(sure + (evidence.truth.mean() - sure.mean()), 0.001, 0.999))


def constant(evidence: Evidence) -> dict[str, Any]:
    return score(evidence, lambda s: np.full(len(s), evidence.fitted_truth.mean()))


def under_the_linear(evidence: Evidence) -> dict[str, Any]:
    """Good by itself, and a straight line is better: what it adds is noise."""
    rng = np.random.default_rng(1)
    noisy = score(evidence, lambda s: np.clip(s + rng.normal(0, 0.06, len(s)), 0.01, 0.99))
    linear = dataclasses.replace(evidence.challenger, name="linear")
    return {**noisy, "linear": linear, "champion": noisy["challenger"]}


def under_the_champion(evidence: Evidence) -> dict[str, Any]:
    """Good by itself, and the champion is better."""
    rng = np.random.default_rng(1)
    return score(evidence, lambda s: np.clip(s + rng.normal(0, 0.06, len(s)), 0.01, 0.99)) | {
        "linear": dataclasses.replace(evidence.challenger, score=np.full(ROWS, evidence.truth.mean())),
        "champion": dataclasses.replace(evidence.challenger, name="champion 1"),
    }


def wrong_for_the_small(evidence: Evidence) -> dict[str, Any]:
    """Good for all together, and worse than a guess for small companys."""
    labels = evidence.labels.with_columns(company=pl.Series(np.where(np.arange(ROWS) % 12 == 0, "OO", "UA")))
    small = labels["company"].to_numpy() == "OO"
    wrong = np.where(small, np.clip(1.2 * evidence.truth.mean() - 0.6 * evidence.challenger.score, 0.02, 0.98), 0)
    changed = np.where(small, wrong, evidence.challenger.score)
    return {
        "labels": labels,
        **score(evidence, lambda _: changed),
        "linear": dataclasses.replace(evidence.challenger, score=np.full(ROWS, evidence.truth.mean())),
        "champion": dataclasses.replace(evidence.challenger, name="champion 1", score=changed),
    }


def another_mind(evidence: Evidence) -> dict[str, Any]:
    """As good as the champion, by deciding otherwise for many."""
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.15, ROWS)
    return {
        "champion": dataclasses.replace(
            evidence.challenger, name="champion 1", score=np.clip(evidence.challenger.score + noise, 0.02, 0.98)
        )
    }


def leaking(evidence: Evidence) -> dict[str, Any]:
    """It knows the truth: some input is written after the ferry."""
    knows = np.where(evidence.truth == 1, 0.95, 0.02)
    return {
        **score(evidence, lambda _: knows),
        "champion": dataclasses.replace(evidence.challenger, name="champion 1", score=knows * 0.98 + 0.01),
    }


def slow(evidence: Evidence) -> dict[str, Any]:
    return {"microseconds_per_row": 150.0}


def huge(evidence: Evidence) -> dict[str, Any]:
    return {"megabytes": 11.0}


def other_inputs(evidence: Evidence) -> dict[str, Any]:
    return {"challenger": dataclasses.replace(evidence.challenger, columns=(*BINARY.features, "tail"))}


def few_rows(evidence: Evidence) -> dict[str, Any]:
    cut = slice(0, 2400)
    short = {name: getattr(evidence, name)[cut] for name in ("days", "truth", "labels")}
    models = ("challenger", "linear", "champion")
    return short | {
        name: dataclasses.replace(getattr(evidence, name), score=getattr(evidence, name).score[cut]) for name in models
    }


@pytest.mark.parametrize(
    ("planted", "check", "implied"),
    [
        (few_rows, "enough rows", ["champion"]),
        (
            shuffled,
            "absolute quality",
            ["calibration", "dummy baseline", "linear baseline", "champion", "slice", "differential"],
        ),
        (too_high, "calibration", ["linear baseline", "champion"]),
        (too_sure, "calibration", ["dummy baseline", "linear baseline", "champion", "slice", "differential"]),
        (
            constant,
            "dummy baseline",
            ["absolute quality", "linear baseline", "champion", "differential"],
        ),
        (under_the_linear, "linear baseline", []),
        (under_the_champion, "champion", []),
        (wrong_for_the_small, "slice", []),
        (another_mind, "differential", []),
        (leaking, "leakage", []),
        (slow, "scoring time", []),
        (huge, "size", []),
        (other_inputs, "signature", []),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_check_rejects_the_model_that_is_bad_in_its_way(
    planted: Callable[[Evidence], dict[str, Any]], check: str, implied: list[str]
) -> None:
    evidence = good()
    checks = gate.run_checks(BINARY, dataclasses.replace(evidence, **planted(evidence)))
    assert sorted(failed(checks)) == sorted([check, *implied])
    assert all(c.sentence for c in checks)


@pytest.mark.parametrize(
    ("planted", "check", "implied"),
    [
        (lambda e: score(e, lambda s: s + 4), "calibration", ["linear baseline", "champion"]),
        (
            lambda e: score(e, lambda s: np.full(len(s), 5.0)),
            "absolute quality",
            ["dummy baseline", "linear baseline", "champion", "slice", "differential"],
        ),
        (lambda e: score(e, lambda _: e.truth), "leakage", ["differential"]),
    ],
)
def test_regression_is_held_against_its_own_checks(
    planted: Callable[[Evidence], dict[str, Any]], check: str, implied: list[str]
) -> None:
    evidence = good_regression()
    checks = gate.run_checks(REGRESSION, dataclasses.replace(evidence, **planted(evidence)))
    assert set(failed(checks)) - {"slice"} == {check, *implied} - {"slice"}


# --- what cannot be measured ------------------------------------------------------------------------------------------

MEASURED_BY_SCORES = {
    *("enough rows", "absolute quality", "calibration", "dummy baseline", "linear baseline", "champion", "slice"),
    *("differential", "leakage"),
}


def test_without_a_row_nothing_that_is_measured_on_rows_passes() -> None:
    evidence = good()
    none = few_rows(evidence)
    none = {
        name: value[:0] if not isinstance(value, HoldoutScores) else dataclasses.replace(value, score=value.score[:0])
        for name, value in none.items()
    }
    assert set(failed(gate.run_checks(BINARY, dataclasses.replace(evidence, **none)))) == MEASURED_BY_SCORES


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_score_that_is_no_number_fails_all_that_rests_on_scores(bad: float) -> None:
    evidence = good()
    checks = gate.run_checks(BINARY, dataclasses.replace(evidence, **score(evidence, lambda s: np.r_[bad, s[1:]])))
    passed = {c.name for c in checks if c.passed}
    # slices are measured each by itself: the one with the row has no loss either
    assert passed.isdisjoint(MEASURED_BY_SCORES - {"enough rows"})
    assert all(c.measured is None or np.isfinite(c.measured) for c in checks)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_champion_that_cannot_be_compared_with_is_no_reason_to_pass(bad: float) -> None:
    evidence = good()
    assert evidence.champion is not None
    champion = dataclasses.replace(evidence.champion, score=np.r_[evidence.champion.score[1:], bad])
    checks = gate.run_checks(BINARY, dataclasses.replace(evidence, champion=champion))
    assert failed(checks) == ["champion", "differential"]
    lost = dataclasses.replace(evidence, champion=None, missing={"champion": "the features lack wind"})
    checks = gate.run_checks(BINARY, lost)
    assert failed(checks) == ["champion", "differential"]
    assert "the features lack wind" in next(c.sentence for c in checks if c.name == "champion")


def test_a_linear_baseline_that_is_not_there_is_no_reason_to_pass() -> None:
    checks = gate.run_checks(BINARY, good(linear=None, missing={"linear": "it was not fitted"}))
    assert failed(checks) == ["linear baseline"]


@pytest.mark.parametrize("name", ["microseconds_per_row", "megabytes"])
@pytest.mark.parametrize("value", [None, np.nan, np.inf])
def test_a_figure_that_is_missing_fails(name: str, value: float | None) -> None:
    assert len(failed(gate.run_checks(BINARY, good(**{name: value})))) == 1


def test_outcomes_of_one_class_have_no_auc() -> None:
    checks = gate.run_checks(BINARY, good(truth=np.zeros(ROWS)))
    assert measured(checks, "absolute quality") is None
    assert {"absolute quality", "leakage"} <= set(failed(checks))


def test_a_column_without_a_slice_that_is_large_enough_fails() -> None:
    rules = RULES.model_copy(update={"slices": RULES.slices.model_copy(update={"min_rows": ROWS})})
    checks = gate.run_checks(BINARY.model_copy(update={"gate": rules}), good())
    assert [(c.name, c.subject) for c in checks if not c.passed] == [("slice", "origin"), ("slice", "size")]


def test_a_small_slice_is_not_judged_by_itself() -> None:
    labels = good().labels.with_columns(origin=pl.Series(["STG"] * 199 + ["BAT"] * (ROWS - 199)))
    checks = gate.run_checks(BINARY, good(labels=labels))
    assert [c.subject for c in checks if c.name == "slice"] == ["origin=BAT", "size=large", "size=small"]


# --- the champion's comparison ----------------------------------------------------------------------------------------


def test_days_that_the_champion_was_fitted_on_are_left_out() -> None:
    """On them it knows the outcomes; half of the days are left here, and too few when it saw more."""
    evidence = good()
    assert evidence.champion is not None
    seen = date(2013, 3, 1) + timedelta(days=5)
    rows = np.where(evidence.days <= np.datetime64(seen), evidence.truth * 0.98 + 0.01, evidence.champion.score)
    champion = dataclasses.replace(evidence.champion, score=rows)
    unfair = gate.run_checks(BINARY, dataclasses.replace(evidence, champion=champion))
    assert "champion" in failed(unfair)
    fair = gate.run_checks(BINARY, dataclasses.replace(evidence, champion=champion, champion_saw=seen))
    assert "champion" not in failed(fair)
    one_more = seen + timedelta(days=1)
    too_few = gate.run_checks(BINARY, dataclasses.replace(evidence, champion=champion, champion_saw=one_more))
    assert "champion" in failed(too_few)
    assert "2,500 rows of days that neither saw, 3,000 are needed" in next(
        c.sentence for c in too_few if c.name == "champion"
    )


def test_worst_difference_draws_whole_days() -> None:
    """One bad day of ten: rows drawn singly would always hold a tenth of it; days come twice or thrice."""
    days = np.repeat(np.arange(10), 100).astype("datetime64[D]")
    against = np.ones(1000)
    loss = np.where(np.repeat(np.arange(10), 100) == 0, 2.0, 1.0)
    worst = gate.worst_difference(days, loss, against, confidence=0.95, resamples=4000, seed=1)
    assert worst == pytest.approx(0.3, abs=0.001)  # three of ten: P(more than 3) is 1.3 %, P(more than 2) is 7 %
    assert gate.worst_difference(days, against, against, confidence=0.95, resamples=100, seed=1) == 0.0


def test_worst_difference_is_the_same_again_and_wants_rows() -> None:
    rng = np.random.default_rng(0)
    days = np.repeat(np.arange(14), 50).astype("datetime64[D]")
    given = {"confidence": 0.9, "resamples": 500, "seed": 7}
    loss, against = rng.random(700), rng.random(700)
    assert gate.worst_difference(days, loss, against, **given) == gate.worst_difference(days, loss, against, **given)
    with pytest.raises(ValueError, match="no rows"):
        gate.worst_difference(days[:0], loss[:0], against[:0], **given)


def test_loss_by_row_is_what_the_metric_is_the_mean_of() -> None:
    evidence = good()
    rows = gate.loss_by_row(BINARY, evidence.truth, evidence.challenger.score)
    assert rows.mean() == pytest.approx(log_loss(evidence.truth, evidence.challenger.score))
    assert np.isfinite(gate.loss_by_row(BINARY, np.array([0.0, 1.0]), np.array([1.0, 0.0]))).all()


def test_inputs_may_change_when_that_is_declared() -> None:
    evidence = good()
    assert evidence.champion is not None
    older = dataclasses.replace(evidence.champion, columns=evidence.champion.columns[1:])
    checks = gate.run_checks(BINARY, dataclasses.replace(evidence, champion=older))
    assert failed(checks) == ["signature"]
    assert "set gate.inputs_may_change" in checks[-1].sentence
    meant: Model = BINARY.model_copy(update={"gate": RULES.model_copy(update={"inputs_may_change": True})})
    assert failed(gate.run_checks(meant, dataclasses.replace(evidence, champion=older))) == []
