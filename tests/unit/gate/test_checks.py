"""The gate: each check rejects a model that is bad in one way, and what cannot be measured never passes."""

import dataclasses
import importlib
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import pytest
from pydantic import Field

from include.config.loading import load_model
from include.config.model import Model
from include.core.interval import Interval
from include.core.records import Check
from include.gate import rules
from include.gate.checks import AnyCheck, GateCheck
from include.gate.checks.base import at_least
from include.gate.checks.signature import Signature
from include.gate.checks.slices import Slices
from include.gate.config import Gate
from include.gate.evidence import Evidence, FormerChampion, HoldoutScores
from include.gate.resampling import ratio_draws
from include.gate.rules import rules_digest, run_checks
from include.io.postgres.gate_decisions import GateSubject
from include.io.postgres.model_files import RecordedFit
from include.steps.gate import _unseen_days
from include.training.problem_types import get_problem_type
from tests.gate_evidence import made_up
from tools.reference import file_schema, keys

ROWS, DAYS = 6000, 12
SLICES = {
    "kind": "slices",
    "by": ["origin", "size"],
    "groups": {"size": {"of": "company", "values": {"large": ["UA", "B6"]}, "otherwise": "small"}},
    "min_rows": 200,
}
SHARED = [
    {"kind": "enough_rows", "at_least": 3000},
    {"kind": "dummy_baseline", "at_least": 0.02},
    {"kind": "linear_baseline", "at_most": 0.01},
    {"kind": "champion", "min_rows": 3000, "resamples": 300},
    SLICES,
    {"kind": "scoring_time", "at_most": 100},
    {"kind": "size", "at_most": 10},
]


def with_gate(model: Model, *checks: dict[str, Any]) -> Model:
    """Return the model with these checks in its gate, and the defaults for all others."""
    return model.model_copy(update={"gate": Gate.model_validate({"checks": checks})})


BINARY = with_gate(
    load_model("late_ferry"),
    *SHARED,
    {"kind": "quality", "metric": "roc_auc", "at_least": 0.65},
    {"kind": "changed_decisions", "at_most": 0.2},
    {"kind": "score_shift", "at_most": 0.08},
)
REGRESSION = with_gate(
    BINARY.model_copy(update={"problem_type": "regression"}),
    *SHARED,
    {"kind": "quality", "metric": "mae", "at_most": 12.0},
    {"kind": "calibration", "at_most": 3.0},
    {"kind": "changed_decisions", "at_most": 0.2, "over": 10.0},
    {"kind": "score_shift", "at_most": 6.0},
    {"kind": "leakage_check", "metric": "r2", "at_most": 0.95},
)


def decide(model: Model, evidence: Evidence, *changed: GateCheck) -> tuple[Check, ...]:
    """Run the model's checks, some of them with other settings."""
    other = {check.kind: check for check in changed}
    return run_checks([other.get(check.kind, check) for check in model.all_checks], evidence)


def good(**changes: Any) -> Evidence:
    """Return evidence of a well-calibrated classifier with some skill, and of a champion that is nearly as good."""
    rng = np.random.default_rng(3)
    signal = rng.normal(size=ROWS)
    rate = 1 / (1 + np.exp(-(1.2 * signal - 1.2)))
    companies = rng.choice(["UA", "B6", "EV", "OO"], ROWS)
    evidence = Evidence(
        problem_type=get_problem_type("binary"),
        inputs=BINARY.features,
        seed=BINARY.seed,
        days=np.datetime64("2013-03-01") + np.arange(ROWS) % DAYS,
        truth=(rng.random(ROWS) < rate).astype(float),
        labels=made_up(BINARY, rows=ROWS, seed=1).with_columns(
            origin=pl.Series(rng.choice(["BAT", "PAU"], ROWS)), company=pl.Series(companies)
        ),
        fitted=made_up(BINARY, rows=ROWS, seed=2).__getitem__,
        fitted_truth=(rng.random(ROWS) < rate).astype(float),
        challenger=HoldoutScores("version 2", rate, BINARY.features),
        candidates={"linear": HoldoutScores("linear", np.clip(rate * 0.9 + 0.03, 0, 1), BINARY.features)},
        champion=HoldoutScores("champion 1", np.clip(rate * 0.95 + 0.015, 0, 1), BINARY.features),
        champion_saw=date(2013, 2, 20),
        microseconds_per_row=8.0,
        megabytes=0.5,
        too_late=np.zeros(ROWS, dtype=bool),
        refit=lambda _, shuffled, test: np.full(len(test), shuffled.mean()),
        former_champions=lambda most: [FormerChampion(0, np.clip(rate * 0.95 + 0.015, 0, 1), saw=date(2013, 2, 10))],
    )
    return dataclasses.replace(evidence, **changes)


def good_regression(**changes: Any) -> Evidence:
    rng = np.random.default_rng(4)
    expected = rng.normal(5, 15, ROWS)
    before = good()
    evidence = dataclasses.replace(
        before,
        problem_type=get_problem_type("regression"),
        truth=expected + rng.normal(0, 12, ROWS),
        fitted_truth=expected + rng.normal(0, 12, ROWS),
        challenger=HoldoutScores("version 2", expected, BINARY.features),
        candidates={"linear": HoldoutScores("linear", expected * 0.9, BINARY.features)},
        champion=HoldoutScores("champion 1", expected * 0.95, BINARY.features),
        former_champions=lambda most: [FormerChampion(0, expected * 0.95, saw=date(2013, 2, 10))],
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
        checks = decide(model, evidence)
        assert failed(checks) == []
        of_probabilities = ["calibration error"] if model is BINARY else []
        assert list(dict.fromkeys(c.name for c in checks)) == [
            *("enough rows", "quality", "calibration", *of_probabilities, "dummy baseline", "linear baseline"),
            *("champion", "slices", "changed decisions", "score shift", "leakage check", "single input"),
            *("newer inputs", "scoring time", "size", "signature", "former champions", "shuffled labels"),
        ]


def test_without_a_champion_the_absolute_checks_remain() -> None:
    checks = decide(BINARY, good(champion=None, champion_saw=None))
    assert failed(checks) == []
    assert {"champion", "changed decisions", "score shift"}.isdisjoint(c.name for c in checks)


# --- one bad model per check ------------------------------------------------------------------------------------------


def shuffled(evidence: Evidence) -> dict[str, Any]:
    """Shuffle the scores: their level is right, but they carry no information."""
    return score(evidence, lambda s: np.random.default_rng(0).permutation(s))


def too_high(evidence: Evidence) -> dict[str, Any]:
    """Raise all scores: the order is right, the level is too high."""
    return score(evidence, lambda s: np.clip(s + 0.07, 0, 1))


def too_sure(evidence: Evidence) -> dict[str, Any]:
    """Make the scores overconfident: the mean is right, but of scores of 90 % only 70 % come true."""
    flat = evidence.challenger.score
    sure = 1 / (1 + np.exp(-3.4 * (np.log(flat / (1 - flat)) + 0.62)))
    return score(evidence, lambda _: np.clip(sure + (evidence.truth.mean() - sure.mean()), 0.001, 0.999))


def constant(evidence: Evidence) -> dict[str, Any]:
    return score(evidence, lambda s: np.full(len(s), evidence.fitted_truth.mean()))


def under_the_linear(evidence: Evidence) -> dict[str, Any]:
    """Add noise to the linear baseline's scores: a good model, but worse than the baseline."""
    rng = np.random.default_rng(1)
    noisy = score(evidence, lambda s: np.clip(s + rng.normal(0, 0.06, len(s)), 0.01, 0.99))
    linear = dataclasses.replace(evidence.challenger, name="linear")
    return {**noisy, "candidates": {"linear": linear}, "champion": noisy["challenger"]}


def under_the_champion(evidence: Evidence) -> dict[str, Any]:
    """Add noise to the champion's scores: a good model, but worse than the champion."""
    rng = np.random.default_rng(1)
    return score(evidence, lambda s: np.clip(s + rng.normal(0, 0.06, len(s)), 0.01, 0.99)) | {
        "candidates": {"linear": dataclasses.replace(evidence.challenger, score=np.full(ROWS, evidence.truth.mean()))},
        "champion": dataclasses.replace(evidence.challenger, name="champion 1"),
    }


def wrong_for_the_small(evidence: Evidence) -> dict[str, Any]:
    """Score well overall, but worse than a guess for small companies."""
    labels = evidence.labels.with_columns(company=pl.Series(np.where(np.arange(ROWS) % 12 == 0, "OO", "UA")))
    small = labels["company"].to_numpy() == "OO"
    wrong = np.where(small, np.clip(1.2 * evidence.truth.mean() - 0.6 * evidence.challenger.score, 0.02, 0.98), 0)
    changed = np.where(small, wrong, evidence.challenger.score)
    return {
        "labels": labels,
        **score(evidence, lambda _: changed),
        "candidates": {"linear": dataclasses.replace(evidence.challenger, score=np.full(ROWS, evidence.truth.mean()))},
        "champion": dataclasses.replace(evidence.challenger, name="champion 1", score=changed),
    }


def other_decisions(evidence: Evidence) -> dict[str, Any]:
    """Score as well as the champion, but with other decisions for many rows."""
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.15, ROWS)
    return {
        "champion": dataclasses.replace(
            evidence.challenger, name="champion 1", score=np.clip(evidence.challenger.score + noise, 0.02, 0.98)
        )
    }


def another_threshold(evidence: Evidence) -> dict[str, Any]:
    """Keep the champion's scores, but decide otherwise for many rows because of another threshold."""
    return {
        "champion": dataclasses.replace(evidence.challenger, name="champion 1"),
        "challenger": dataclasses.replace(evidence.challenger, decision_threshold=0.25),
    }


def leaking(evidence: Evidence) -> dict[str, Any]:
    """Leak the outcome, as a model with an input that is recorded after the ferry's arrival does."""
    leaked = np.where(evidence.truth == 1, 0.95, 0.02)
    return {
        **score(evidence, lambda _: leaked),
        "champion": dataclasses.replace(evidence.challenger, name="champion 1", score=leaked * 0.98 + 0.01),
    }


def slow(evidence: Evidence) -> dict[str, Any]:
    return {"microseconds_per_row": 150.0}


def huge(evidence: Evidence) -> dict[str, Any]:
    return {"megabytes": 11.0}


def other_inputs(evidence: Evidence) -> dict[str, Any]:
    return {"challenger": dataclasses.replace(evidence.challenger, columns=(*BINARY.features, "tail"))}


def few_rows(evidence: Evidence) -> dict[str, Any]:
    cut = slice(0, 2400)
    short = {name: getattr(evidence, name)[cut] for name in ("days", "truth", "labels", "too_late")}
    models = {name: shortened(getattr(evidence, name), 2400) for name in ("challenger", "champion")}
    return short | models | {"candidates": {"linear": shortened(evidence.candidates["linear"], 2400)}}


def shortened(scores: HoldoutScores, rows: int) -> HoldoutScores:
    return dataclasses.replace(scores, score=scores.score[:rows])


@pytest.mark.parametrize(
    ("planted", "check", "implied"),
    [
        (few_rows, "enough rows", ["champion"]),
        (
            shuffled,
            "quality",
            [
                *("calibration error", "dummy baseline", "linear baseline", "champion", "slices"),
                *("changed decisions", "score shift"),
            ],
        ),
        (too_high, "calibration", ["linear baseline", "champion"]),
        (
            too_sure,
            "calibration error",
            ["dummy baseline", "linear baseline", "champion", "slices", "score shift"],
        ),
        (constant, "dummy baseline", ["quality", "linear baseline", "champion", "score shift"]),
        (under_the_linear, "linear baseline", []),
        (under_the_champion, "champion", []),
        (wrong_for_the_small, "slices", []),
        (other_decisions, "score shift", []),
        (another_threshold, "changed decisions", []),
        (leaking, "leakage check", []),
        (slow, "scoring time", []),
        (huge, "size", []),
        (other_inputs, "signature", []),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_check_rejects_a_model_that_is_bad_in_this_way(
    planted: Callable[[Evidence], dict[str, Any]], check: str, implied: list[str]
) -> None:
    evidence = good()
    checks = decide(BINARY, dataclasses.replace(evidence, **planted(evidence)))
    assert sorted(failed(checks)) == sorted([check, *implied])
    assert all(c.sentence for c in checks)


@pytest.mark.parametrize(
    ("planted", "check", "implied"),
    [
        (lambda e: score(e, lambda s: s + 4), "calibration", ["linear baseline", "champion"]),
        (
            lambda e: score(e, lambda s: np.full(len(s), 5.0)),
            "quality",
            ["dummy baseline", "linear baseline", "champion", "slices", "changed decisions", "score shift"],
        ),
        (lambda e: score(e, lambda _: e.truth), "leakage check", ["changed decisions", "score shift"]),
    ],
)
def test_a_regression_has_checks_of_its_own(
    planted: Callable[[Evidence], dict[str, Any]], check: str, implied: list[str]
) -> None:
    evidence = good_regression()
    checks = decide(REGRESSION, dataclasses.replace(evidence, **planted(evidence)))
    assert set(failed(checks)) - {"slices"} == {check, *implied} - {"slices"}


# --- what cannot be measured ------------------------------------------------------------------------------------------

MEASURED_BY_SCORES = {
    *("enough rows", "quality", "calibration", "calibration error", "dummy baseline", "linear baseline"),
    *("champion", "slices", "changed decisions", "score shift", "leakage check"),
}
MEASURED_BY_ROWS = MEASURED_BY_SCORES | {"single input", "newer inputs"}


def test_without_rows_no_check_that_measures_rows_passes() -> None:
    evidence = good()
    none = {name: getattr(evidence, name)[:0] for name in ("days", "truth", "labels", "too_late")}
    none |= {name: shortened(getattr(evidence, name), 0) for name in ("challenger", "champion")}
    none |= {"candidates": {"linear": shortened(evidence.candidates["linear"], 0)}}
    assert set(failed(decide(BINARY, dataclasses.replace(evidence, **none)))) == MEASURED_BY_ROWS


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_score_that_is_not_finite_fails_every_check_that_uses_scores(bad: float) -> None:
    evidence = good()
    checks = decide(BINARY, dataclasses.replace(evidence, **score(evidence, lambda s: np.r_[bad, s[1:]])))
    passed = {c.name for c in checks if c.passed}
    # Each slice is measured separately; the slice with this row has no loss either.
    assert passed.isdisjoint(MEASURED_BY_SCORES - {"enough rows"})
    assert all(c.measured is None or np.isfinite(c.measured) for c in checks)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_champion_that_cannot_be_compared_fails_the_checks_against_it(bad: float) -> None:
    evidence = good()
    assert evidence.champion is not None
    champion = dataclasses.replace(evidence.champion, score=np.r_[evidence.champion.score[1:], bad])
    checks = decide(BINARY, dataclasses.replace(evidence, champion=champion))
    assert failed(checks) == ["champion", "changed decisions", "score shift"]
    lost = dataclasses.replace(evidence, champion=None, champion_missing="the features lack wind")
    checks = decide(BINARY, lost)
    assert failed(checks) == ["champion", "changed decisions", "score shift"]
    assert "the features lack wind" in next(c.sentence for c in checks if c.name == "champion")


def test_a_missing_linear_baseline_fails_its_check() -> None:
    checks = decide(BINARY, good(candidates={}))
    assert failed(checks) == ["linear baseline"]


@pytest.mark.parametrize("name", ["microseconds_per_row", "megabytes"])
@pytest.mark.parametrize("value", [None, np.nan, np.inf])
def test_a_missing_measurement_fails(name: str, value: float | None) -> None:
    assert len(failed(decide(BINARY, good(**{name: value})))) == 1


def test_outcomes_of_one_class_have_no_auc() -> None:
    checks = decide(BINARY, good(truth=np.zeros(ROWS)))
    assert measured(checks, "quality") is None
    assert {"quality", "leakage check"} <= set(failed(checks))


def test_a_column_without_a_slice_that_is_large_enough_fails() -> None:
    checks = decide(BINARY, good(), Slices.model_validate({**SLICES, "min_rows": ROWS}))
    assert [(c.name, c.subject) for c in checks if not c.passed] == [("slices", "origin"), ("slices", "size")]


def test_a_small_slice_is_not_checked() -> None:
    labels = good().labels.with_columns(origin=pl.Series(["STG"] * 199 + ["BAT"] * (ROWS - 199)))
    checks = decide(BINARY, good(labels=labels))
    assert [c.subject for c in checks if c.name == "slices"] == ["origin=BAT", "size=large", "size=small"]


# --- the champion's comparison ----------------------------------------------------------------------------------------


def test_days_that_the_champion_was_fitted_on_are_not_compared() -> None:
    """The champion has seen the outcomes of these days. Half of the days remain here; one day fewer is too few."""
    evidence = good()
    assert evidence.champion is not None
    seen = date(2013, 3, 1) + timedelta(days=5)
    rows = np.where(evidence.days <= np.datetime64(seen), evidence.truth * 0.98 + 0.01, evidence.champion.score)
    champion = dataclasses.replace(evidence.champion, score=rows)
    unfair = decide(BINARY, dataclasses.replace(evidence, champion=champion))
    assert "champion" in failed(unfair)
    fair = decide(BINARY, dataclasses.replace(evidence, champion=champion, champion_saw=seen))
    assert "champion" not in failed(fair)
    one_more = seen + timedelta(days=1)
    too_few = decide(BINARY, dataclasses.replace(evidence, champion=champion, champion_saw=one_more))
    assert "champion" in failed(too_few)
    assert "2,500 rows of days that neither saw, 3,000 are needed" in next(
        c.sentence for c in too_few if c.name == "champion"
    )


def test_worst_difference_resamples_whole_days() -> None:
    """One of ten days is bad. Single rows would always be a tenth bad; a whole day can be drawn two or three times."""
    days = np.repeat(np.arange(10), 100).astype("datetime64[D]")
    against = np.ones(1000)
    loss = np.where(np.repeat(np.arange(10), 100) == 0, 2.0, 1.0)
    worst = np.quantile(ratio_draws(days, loss, against, resamples=4000, seed=1), 0.95)
    assert worst == pytest.approx(0.3, abs=0.001)  # three of ten days: P(more than 3) is 1.3 %, P(more than 2) is 7 %
    assert (ratio_draws(days, against, against, resamples=100, seed=1) == 0.0).all()


def test_worst_difference_is_reproducible_and_refuses_no_rows() -> None:
    rng = np.random.default_rng(0)
    days = np.repeat(np.arange(14), 50).astype("datetime64[D]")
    loss, against = rng.random(700), rng.random(700)
    first, second = (ratio_draws(days, loss, against, resamples=500, seed=7) for _ in range(2))
    assert (first == second).all()
    with pytest.raises(ValueError, match="no rows"):
        ratio_draws(days[:0], loss[:0], against[:0], seed=7)


@pytest.mark.parametrize("evidence", [good(), good_regression()], ids=["binary", "regression"])
def test_the_loss_is_the_metric_that_chooses_candidates(evidence: Evidence) -> None:
    assert evidence.mean_loss(evidence.challenger.score) == pytest.approx(evidence.loss)


def test_the_loss_of_a_certain_but_wrong_score_is_finite() -> None:
    assert np.isfinite(get_problem_type("binary").loss_by_row(np.array([0.0, 1.0]), np.array([1.0, 0.0]))).all()


def test_inputs_may_change_if_the_model_declares_it() -> None:
    evidence = good()
    assert evidence.champion is not None
    older = dataclasses.replace(evidence.champion, columns=evidence.champion.columns[1:])
    checks = decide(BINARY, dataclasses.replace(evidence, champion=older))
    assert failed(checks) == ["signature"]
    assert "{kind: signature, inputs_may_change: true}" in checks[-1].sentence
    assert (
        failed(decide(BINARY, dataclasses.replace(evidence, champion=older), Signature(inputs_may_change=True))) == []
    )


# --- the rules, and a new check ---------------------------------------------------------------------------------------


class Spread(GateCheck):
    """A throw-away check: reject a model whose scores hardly differ."""

    kind: Literal["spread"] = "spread"
    at_least: float = Field(default=0.05, description="standard deviation of the scores")

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Measure the spread of the scores."""
        yield self.verdict("scores", float(evidence.challenger.score.std()), at_least(self.at_least), "spread:")


class GateWithSpread(Gate):
    checks: tuple[Annotated[AnyCheck | Spread, Field(discriminator="kind")], ...]


class ModelWithSpread(Model):
    gate: GateWithSpread


def test_a_new_check_is_one_class_and_one_entry() -> None:
    declared = {**BINARY.model_dump(), "folder": BINARY.folder}
    by_default = ModelWithSpread.model_validate(declared)
    assert by_default.all_checks == (*BINARY.all_checks, Spread())
    assert failed(decide(by_default, good())) == []
    declared["gate"]["checks"] = [*declared["gate"]["checks"], {"kind": "spread", "at_least": 0.9}]
    strict = ModelWithSpread.model_validate(declared)
    [found] = [check for check in decide(strict, good()) if not check.passed]
    assert (found.name, found.sentence) == ("spread", "spread: 0.2022; at least 0.9 is required")

    digests = {rules_digest(model.all_checks, "binary") for model in (BINARY, by_default, strict)}
    assert len(digests) == 3, "the digest covers the check's settings and its file"
    assert rules_digest(BINARY.all_checks, "binary") in digests, "a check that does not run does not change the digest"
    reference = "\n".join(keys(file_schema(ModelWithSpread, "model.yaml")))
    assert "| `at_least` | number | `0.05` | standard deviation of the scores |" in reference


class Silent(GateCheck):
    """A throw-away check that returns no result."""

    kind: Literal["silent"] = "silent"

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Yield nothing."""
        yield from ()


def test_a_check_without_a_result_fails() -> None:
    [verdict] = run_checks([Silent()], good())
    assert (verdict.name, verdict.passed) == ("silent", False)


def test_the_rules_digest_covers_the_code_that_runs_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[Any] = []

    def recorded(given: list[Any]) -> str:
        sources[:] = given
        return ""

    monkeypatch.setattr(rules, "code_digest", recorded)
    rules_digest([check for check in BINARY.all_checks if check.kind in ("size", "quality")], "binary")
    assert sorted(Path(getattr(source, "__file__", source)).name for source in sources) == [
        *("base.py", "base.py", "binary.py", "calibration.py", "evidence.py", "gate.py", "gate_probes.py"),
        *("quality.py", "relative_errors.py", "resampling.py", "rules.py", "single_inputs.py", "size.py"),
        "threshold.py",
    ]


CHECK = """
from typing import Literal

from include.gate.checks import GateCheck


class Changing(GateCheck):
    kind: Literal["changing"] = "changing"

    def run(self, evidence):
        yield self.verdict("rows", RESULT)
"""


def test_changed_code_changes_the_rules_digest_and_a_comment_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "changing.py"
    path.write_text(CHECK, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    [check] = importlib.import_module("changing").Changing.defaults("binary")

    def digest(text: str) -> str:
        path.write_text(text, encoding="utf-8")
        return rules_digest([check], "binary")

    assert digest(CHECK) == digest(CHECK + "\n# a comment\n") != digest(CHECK.replace("RESULT", "1.0"))


# --- adopted versions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("until", "seen"), [(date(2013, 3, 9), 0), (date(2013, 3, 10), 1), (date(2013, 4, 1), 5)])
def test_an_adopted_version_is_rejected_if_it_may_have_seen_a_holdout_day(until: date, seen: int) -> None:
    holdout = Interval(start=date(2013, 3, 10), end=date(2013, 3, 14))
    fit = RecordedFit("run", "m", "adopted", until, "fit", "files", None, None, adopted_from="models:/old/3")
    subject = GateSubject("m", 1, date(2013, 3, 15), "adopted", None, "files", "rules", holdout, holdout, 10)
    [check] = _unseen_days(fit, subject)
    assert (check.measured, check.passed) == (seen, seen == 0)
    said = f"adopted from models:/old/3, where it was fitted; by the word of who adopted it, on outcomes up to {until}"
    assert check.sentence.startswith(said)
    assert _unseen_days(dataclasses.replace(fit, adopted_from=None), subject) == ()
