"""What the gate finds beyond the level of one loss: chance, leaks, slow steps back, groups. On each problem type.

Each planted fault is found by its own check, and a sound model passes all of them.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline

from include.config.model import Model
from include.core.journal import Known
from include.core.records import Check, DayRecord
from include.gate import resampling
from include.gate.checks import shuffled_labels
from include.gate.checks.fairness import Fairness
from include.gate.checks.former_champions import FormerChampions
from include.gate.checks.newer_inputs import NewerInputs, dates_in
from include.gate.checks.shuffled_labels import ShuffledLabels
from include.gate.checks.slices import Slices
from include.gate.evidence import Evidence, FormerChampion
from include.gate.resampling import METRIC_ROWS, between, chance_of_excess, holm, metric_draws, ratio_draws
from include.gate.rules import not_run, run_checks
from include.io.registry import LoadedModel
from include.steps.gate_probes import refit_of, too_late
from include.training.problem_types import get_problem_type
from include.training.transforms.rows import RemoveOutlierRows
from tests.gate_evidence import DAYS, ORIGINS, ROWS, decided, failed, made_up, table, with_score
from tests.unit.gate import test_checks, test_count, test_multiclass, test_quantile

SOUND: dict[str, tuple[Model, Callable[[], Evidence]]] = {
    "binary": (test_checks.BINARY, test_checks.good),
    "multiclass": (test_multiclass.MODEL, test_multiclass.good),
    "regression": (test_checks.REGRESSION, test_checks.good_regression),
    "count": (test_count.MODEL, test_count.good),
    "quantile": (test_quantile.MODEL, test_quantile.good),
}
each_type = pytest.mark.parametrize("kind", SOUND)


def sound(kind: str, **changes: Any) -> tuple[Model, Evidence]:
    model, good = SOUND[kind]
    return model, replace(good(), **changes)


def found(checks: tuple[Check, ...], name: str, subject: str | None = None) -> Check:
    [check] = [each for each in checks if each.name == name and subject in (None, each.subject)]
    return check


# --- intervals --------------------------------------------------------------------------------------------------------


@each_type
def test_each_measured_metric_has_an_interval_around_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "METRIC_DRAWS", 40)
    checks = decided(*sound(kind))
    without = {"enough rows", "single input", "newer inputs", "scoring time", "size", "signature", "shuffled labels"}
    assert {check.name for check in checks if check.low is None} == without, table(checks)
    for check in checks:
        if check.low is not None and check.high is not None and check.measured is not None:
            assert check.low <= check.high, check
            assert "(90% interval " in check.sentence
            # The level and the calibration error of a resample are larger than those of all rows, which are absolute.
            assert check.name in ("calibration", "calibration error") or check.low <= check.measured <= check.high, (
                check
            )


def test_an_interval_is_that_of_days_and_not_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows of a day are alike here: a thousand rows know no more than ten days do."""
    days = np.repeat(np.arange(10), 100).astype("datetime64[D]")
    rate = np.repeat(np.random.default_rng(1).normal(1, 0.1, 10), 100)
    low, high = between(ratio_draws(days, rate, np.ones(1000), seed=1), days) or (0, 0)
    by_days = 2 * 1.645 * rate[::100].std() / np.sqrt(10)
    assert high - low == pytest.approx(by_days, rel=0.15)
    monkeypatch.setattr(resampling, "METRIC_DRAWS", 100)
    again = between(metric_draws(days, lambda rows: float(rate[rows].mean() - 1), seed=1), days) or (0, 0)
    assert again[1] - again[0] == pytest.approx(by_days, rel=0.3)


def test_one_day_has_no_interval() -> None:
    days = np.full(50, np.datetime64("2013-03-01"))
    assert between(ratio_draws(days, np.ones(50), np.ones(50), seed=1), days) is None


def test_the_cost_of_an_interval_does_not_grow_with_the_rows() -> None:
    days = np.datetime64("2013-03-01") + np.arange(40 * METRIC_ROWS) % 10
    measured: list[int] = []
    metric_draws(days, lambda rows: float(measured.append(len(rows)) or 0), seed=1)
    assert max(measured) < 1.2 * METRIC_ROWS


# --- many slices ------------------------------------------------------------------------------------------------------


def test_holm_adjusts_as_the_textbook_does() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_an_excess_at_the_limit_is_found_by_chance_in_one_of_twenty_cases() -> None:
    rng = np.random.default_rng(1)
    days, chances = np.repeat(np.arange(12), 30).astype("datetime64[D]"), []
    for seed in range(300):
        loss = 1.05 + np.repeat(rng.normal(0, 0.1, 12), 30)
        draws = ratio_draws(days, loss, np.ones(360), seed=seed)
        chances.append(chance_of_excess(float(loss.mean() - 1), 0.05, draws, 12))
    assert np.mean(np.array(chances) < 0.05) == pytest.approx(0.05, abs=0.04)


FIFTY = Slices(by=("store",), min_rows=50, at_most=0.05)


def fifty_stores(seed: int, bad: int | None = None) -> Evidence:
    """Return a holdout of 50 stores in which the model is barely better than a constant, and useless for one."""
    rng = np.random.default_rng(seed)
    _, evidence = sound("regression")
    store = rng.integers(0, 50, ROWS)
    expected, noise = rng.normal(0, 3, ROWS), rng.normal(0, 12, ROWS)
    score = expected + rng.normal(0, 3, ROWS)
    if bad is not None:
        score = np.where(store == bad, score + 25, score)
    return replace(
        evidence,
        truth=expected + noise,
        fitted_truth=expected + noise,
        labels=pl.DataFrame({"store": [f"{n:02}" for n in store]}),
        challenger=replace(evidence.challenger, score=score),
    )


def test_fifty_slices_of_a_sound_model_are_not_refused_by_chance() -> None:
    refused = beyond = 0
    for seed in range(12):
        verdicts = tuple(FIFTY.run(fifty_stores(seed)))
        assert len(verdicts) == 50
        beyond += any(check.measured is not None and check.measured > 0.05 for check in verdicts)
        refused += bool(failed(verdicts))
    assert beyond >= 8, "without the correction, a sound model would be refused on most days"
    assert refused <= 1
    excused = [check.sentence for check in verdicts if (check.measured or 0) > 0.05]
    assert all("but among 50 slices so much can be chance (p " in sentence for sentence in excused)


def test_a_bad_slice_among_fifty_is_refused() -> None:
    for seed in range(4):
        verdicts = tuple(FIFTY.run(fifty_stores(seed, bad=7)))
        assert [check.subject for check in verdicts if not check.passed] == ["store=07"], table(verdicts)


# --- leaks ------------------------------------------------------------------------------------------------------------


def with_input(model: Model, evidence: Evidence, held_out: Any, fitted: Any, name: str | None = None) -> Evidence:
    """Return the evidence with other values in an input of the model, which no score shows."""
    assert evidence.fitted is not None
    rows = evidence.fitted(np.arange(len(evidence.fitted_truth)))
    column = name or model.numeric[0]
    return replace(
        evidence,
        labels=evidence.labels.with_columns(pl.Series(column, held_out)),
        fitted=rows.with_columns(pl.Series(column, fitted)).__getitem__,
    )


@each_type
def test_a_sound_model_passes_and_a_single_input_that_tells_the_outcome_does_not(kind: str) -> None:
    model, evidence = sound(kind)
    assert failed(decided(model, evidence)) == []
    leaked = with_input(model, evidence, evidence.truth, evidence.fitted_truth)
    checks = decided(model, leaked)
    assert failed(checks) == ["single input"], table(checks)
    assert found(checks, "single input").subject == model.numeric[0]
    labels = [f"code {value:.0f}" for value in evidence.truth], [f"code {value:.0f}" for value in evidence.fitted_truth]
    named = with_input(model, evidence, *labels, name=model.categorical[0])
    assert next(iter(named.alone)) == model.categorical[0]


def test_an_input_that_says_nothing_but_has_many_labels_is_no_leak() -> None:
    model, evidence = sound("binary")
    many = with_input(model, evidence, np.arange(ROWS).astype(str), np.arange(ROWS).astype(str), model.categorical[0])
    assert failed(decided(model, many)) == []


def test_a_leak_is_found_although_it_is_missing_for_most_rows_fitted_on() -> None:
    model, evidence = sound("binary")
    seldom = np.where(np.arange(ROWS) % 10 == 0, evidence.fitted_truth, np.nan)
    checks = decided(model, with_input(model, evidence, evidence.truth, seldom))
    assert failed(checks) == ["single input"]


def test_the_leakage_check_names_the_input() -> None:
    model, evidence = sound("binary")
    leaked = with_input(model, evidence, evidence.truth, evidence.fitted_truth)
    checks = decided(model, with_score(leaked, np.where(evidence.truth == 1, 0.95, 0.02), as_champion=True))
    assert failed(checks) == ["leakage check", "single input"], table(checks)
    assert f"(the strongest alone is {model.numeric[0]}, roc_auc 1)" in found(checks, "leakage check").sentence


@each_type
@pytest.mark.parametrize("read_as", ["%Y-%m-%d", "%Y%m%d", "seconds", "milliseconds"])
def test_an_input_that_is_a_date_after_the_target_day_is_refused(kind: str, read_as: str) -> None:
    model, evidence = sound(kind)

    def written(days: np.ndarray) -> Any:
        moments = days.astype("datetime64[s]").astype(np.int64)
        if read_as in ("seconds", "milliseconds"):
            return (moments * (1000 if read_as == "milliseconds" else 1)).astype(float)
        text = pl.Series(days).dt.to_string(read_as)
        return text if "-" in read_as else text.cast(pl.Float64)

    name = model.categorical[0] if read_as == "%Y-%m-%d" else model.numeric[0]
    # Seconds look like any large number, so a person has to say that they are moments.
    declared: dict[str, Any] = {"timestamps": (name,)} if read_as in ("seconds", "milliseconds") else {}
    for ahead, wrong in ((-3, []), (0, []), (2, ["newer inputs"])):
        dated = with_input(model, evidence, written(evidence.days + ahead), written(evidence.days + ahead), name)
        assert failed(tuple(NewerInputs(**declared).run(dated))) == wrong
    if not declared:
        assert failed(decided(model, dated)) == ["newer inputs"]
    assert found(tuple(NewerInputs(**declared).run(dated)), "newer inputs", name).measured == 1.0
    assert failed(tuple(NewerInputs(known_ahead=(name,), **declared).run(dated))) == []


@pytest.mark.parametrize(
    "values",
    [
        np.arange(ROWS) % 24,
        np.full(ROWS, 20130301.0),
        np.linspace(0, 1e7, ROWS),
        np.linspace(1.2e9, 1.6e9, ROWS).round(),  # amounts, which would be moments of 2008 to 2020
        np.linspace(1.2e12, 1.6e12, ROWS).round(),
        ["B6", "UA"] * (ROWS // 2),
    ],
)
def test_numbers_and_labels_that_are_no_dates_are_not_read_as_such(values: Any) -> None:
    days = np.datetime64("2013-03-01") + np.arange(ROWS) % DAYS
    assert dates_in(pl.Series(values), days) is None


def test_columns_of_dates_and_timestamps_are_dates() -> None:
    days = np.datetime64("2013-03-01") + np.arange(ROWS) % DAYS
    for values in (pl.Series(days), pl.Series(days).cast(pl.Datetime("us", "UTC")).dt.offset_by("3h")):
        found_dates = dates_in(values, days)
        assert found_dates is not None
        assert (found_dates == days).all()


@each_type
def test_a_holdout_whose_files_usually_came_too_late_is_refused(kind: str) -> None:
    model, evidence = sound(kind)
    late = (evidence.days - evidence.days.min()).astype(int)
    assert failed(tuple(NewerInputs().run(replace(evidence, too_late=late < 3)))) == []
    checks = decided(model, replace(evidence, too_late=late < 6))
    assert failed(checks) == ["newer inputs"], table(checks)
    assert "(6 days): 50.0%" in found(checks, "newer inputs", "deliveries").sentence
    assert failed(tuple(NewerInputs().run(replace(evidence, too_late=None)))) == ["newer inputs"]


def test_a_row_is_too_late_if_its_day_was_prepared_with_a_delivery_that_came_later() -> None:
    first = date(2013, 3, 1)
    at = {n: datetime(2013, 3, 1 + n, 5, tzinfo=UTC) for n in range(3)}
    records = {
        first + timedelta(days=n): DayRecord(
            day=first + timedelta(days=n), number=1, as_of=at[n], watermark=9, deliveries=(f"d{n}", "old"),
            reconstructed=False,
        )
        for n in range(3)
    }  # fmt: skip
    came = [at[0], at[1] + timedelta(minutes=1), at[2] - timedelta(hours=1), at[0] - timedelta(days=1)]
    deliveries = pl.DataFrame({"delivery_id": ["d0", "d1", "d2", "old"], "available_from": came})
    rows = pl.DataFrame({"day": [first + timedelta(days=n) for n in (0, 1, 1, 2, 7)]})
    assert too_late(rows, Known(9, deliveries, records)).tolist() == [False, True, True, False, False]


# --- shuffled outcomes ------------------------------------------------------------------------------------------------


class KnowsOutcomes(ClassifierMixin, BaseEstimator):
    """A planted fault: it has a table of outcomes, made when it was written, and learns nothing."""

    def __init__(self, known: dict[float, float] | None = None) -> None:
        self.known = known

    def fit(self, features: Any, outcomes: Any) -> "KnowsOutcomes":
        self.classes_ = np.array([0.0, 1.0])
        return self

    def predict_proba(self, features: Any) -> np.ndarray:
        rate = np.array([(self.known or {}).get(value, 0.5) for value in features.iloc[:, 0]])
        return np.column_stack([1 - rate, rate])


def refitted(estimator: Any) -> tuple[Model, Evidence]:
    """Return evidence of a model whose refits are real: of this estimator on a number that tells much."""
    model, evidence = sound("binary")
    rng = np.random.default_rng(1)
    name = model.numeric[0]
    held_out, fitted = (
        made_up(model, rows=ROWS, seed=seed).with_columns(
            pl.Series(name, np.round(truth + rng.normal(0, 1.0, ROWS), 6))
        )
        for seed, truth in ((1, evidence.truth), (2, evidence.fitted_truth))
    )
    if isinstance(estimator, KnowsOutcomes):
        estimator.known = dict(zip(held_out[name], np.where(evidence.truth == 1, 0.6, 0.2), strict=True))
    loaded = LoadedModel(estimator, (name,), (), "binary", 0.5)
    return model, replace(evidence, refit=refit_of(loaded, fitted.__getitem__, held_out))


def test_a_pipeline_that_learns_from_outcomes_knows_nothing_of_shuffled_ones() -> None:
    checks = decided(*refitted(make_pipeline(LogisticRegression())))
    assert failed(checks) == []
    verdict = found(checks, "shuffled labels")
    assert verdict.measured == pytest.approx(0.0, abs=0.01)
    assert "(1 fits)" in verdict.sentence


def test_a_pipeline_that_has_a_table_of_outcomes_is_refused() -> None:
    checks = decided(*refitted(KnowsOutcomes()))
    assert failed(checks) == ["shuffled labels"], table(checks)


@each_type
def test_scores_of_holdout_outcomes_after_shuffling_are_refused(kind: str) -> None:
    model, evidence = sound(kind)
    score = evidence.challenger.score
    checks = decided(model, replace(evidence, refit=lambda _, shuffled, test: score[test]))
    assert failed(checks) == ["shuffled labels"], table(checks)


def test_a_sample_of_counts_gets_rare_numbers_only_if_it_has_one_number() -> None:
    """A row of each rare, large number would shift the level of the sample: seen on real sales."""
    count, rare = get_problem_type("count"), np.arange(100.0, 120.0)
    spread = np.concatenate([np.tile([0.0, 1.0], 1000), rare])
    assert len(shuffled_labels._sample(count, spread, 50, seed=1)) == 50
    constant = np.concatenate([np.zeros(2000), rare])
    kept = shuffled_labels._sample(count, constant, 5, seed=1)
    assert set(constant[kept]) >= {0.0, *rare}


def test_a_rare_outcome_that_the_sample_misses_is_no_reason_to_refuse() -> None:
    rng, rows = np.random.default_rng(1), 4000
    features = pl.DataFrame({"number": rng.normal(size=rows)})
    truth = np.zeros(rows)
    truth[rng.choice(rows, 2, replace=False)] = 1
    refit = refit_of(
        LoadedModel(make_pipeline(LogisticRegression()), ("number",), (), "binary", 0.5), features.__getitem__, features
    )
    _, evidence = sound("binary")
    [verdict] = ShuffledLabels(rows=100).run(replace(evidence, truth=truth, fitted_truth=truth, refit=refit))
    assert verdict.passed, verdict.sentence


def test_a_refit_learns_from_the_rows_that_the_fit_learned_from() -> None:
    """Rows that the candidate removes would else decide the refit: here, an outlier that moves the line."""
    number = np.append(np.linspace(0, 1, 199), 1e6)
    features = pl.DataFrame({"number": number})
    loaded = LoadedModel(make_pipeline(LinearRegression()), ("number",), (), "regression", 0.5)
    every, truth = np.arange(200), np.append(2 * number[:199], -1e6)
    removed = (RemoveOutlierRows(),)
    assert refit_of(loaded, features.__getitem__, features, removed)(every, truth, every[:199]) == pytest.approx(
        truth[:199]
    )
    assert abs(refit_of(loaded, features.__getitem__, features)(every, truth, every[:199]) - truth[:199]).max() > 1


def test_luck_after_one_shuffle_is_not_refused() -> None:
    _, evidence = sound("binary")
    lucky = iter([evidence.challenger.score, np.full(ROWS, evidence.truth.mean())])
    [verdict] = ShuffledLabels(rows=ROWS).run(replace(evidence, refit=lambda _, shuffled, test: next(lucky)[test]))
    assert verdict.passed
    assert "(2 fits)" in verdict.sentence


def test_an_estimator_that_cannot_be_fitted_again_fails_unless_it_was_adopted() -> None:
    model, evidence = sound("binary")

    def broken(*_: Any) -> np.ndarray:
        raise RuntimeError("needs a graphics card")

    checks = decided(model, replace(evidence, refit=broken))
    assert failed(checks) == ["shuffled labels"]
    assert "(RuntimeError: needs a graphics card)" in found(checks, "shuffled labels").sentence
    adopted = decided(model, replace(evidence, refit=broken, adopted=True))
    assert failed(adopted) == []
    assert "shuffled labels" not in {check.name for check in adopted}


# --- slow degradation -------------------------------------------------------------------------------------------------


def weaker(kind: str, score: np.ndarray, by: float) -> np.ndarray:
    """Return scores that are worse by a share: some rows get those of another row."""
    changed = score.copy()
    rows = np.arange(len(score)) % 1000 < by * 1000
    changed[rows] = np.roll(score[rows], 7, axis=0)
    return changed


@each_type
def test_many_small_steps_back_are_refused_together(kind: str) -> None:
    """The champion is hardly better than the challenger, and the one before the one before it much better."""
    model, evidence = sound(kind)
    best, least = evidence.challenger.score, weaker(kind, evidence.challenger.score, 0.15)
    assert evidence.champion is not None
    slow = replace(
        evidence,
        challenger=replace(evidence.challenger, score=least),
        champion=replace(evidence.champion, score=least),
        candidates={"linear": replace(evidence.candidates["linear"], score=least)},
        former_champions=lambda most: [
            FormerChampion(3, weaker(kind, best, 0.1), saw=date(2013, 2, 18)),
            FormerChampion(2, best, saw=date(2013, 2, 10)),
            FormerChampion(1, missing="its files are gone"),
        ][:most],
    )
    checks = decided(model, slow)
    assert failed(checks) == ["former champions"], table(checks)
    verdict = found(checks, "former champions")
    assert "against former champion 2 on 6,000 rows" in verdict.sentence
    assert "left out: version 1 (its files are gone)" in verdict.sentence


def test_former_champions_that_are_gone_or_hardly_better_fail_nothing() -> None:
    _, evidence = sound("regression")
    rng = np.random.default_rng(1)
    lucky = evidence.challenger.score + 0.02 * (evidence.truth - evidence.challenger.score) * rng.integers(0, 2, ROWS)
    for former in (
        [FormerChampion(1, missing="its files are gone")],
        [FormerChampion(1, np.full(ROWS, np.nan))],
        [FormerChampion(1, lucky, saw=date(2013, 2, 1))],
        [],
    ):
        [verdict] = FormerChampions().run(replace(evidence, former_champions=lambda most, of=former: of))
        assert verdict.passed, verdict.sentence


def test_without_the_current_champion_former_ones_are_no_comparison() -> None:
    _, evidence = sound("regression")
    for changed in (
        replace(evidence, champion=None, champion_missing="its files are gone"),
        replace(evidence, former_champions=None),
        replace(evidence, champion_saw=date(2013, 4, 1)),
    ):
        [verdict] = FormerChampions().run(changed)
        assert (verdict.passed, verdict.measured) == (False, None)


# --- fairness ---------------------------------------------------------------------------------------------------------

EQUAL = Fairness(by="origin", rates_at_most=0.1, errors_at_most=0.15)


def of_origins(evidence: Evidence) -> Evidence:
    return replace(evidence, labels=evidence.labels.with_columns(origin=pl.Series(ORIGINS)))


@each_type
def test_groups_that_are_treated_alike_pass(kind: str) -> None:
    _, evidence = sound(kind)
    verdicts = tuple(EQUAL.run(of_origins(evidence)))
    assert [check.subject for check in verdicts] == ["origin: rates", "origin: errors"]
    assert failed(verdicts) == [], table(verdicts)
    assert all(check.low is not None for check in verdicts)


@each_type
def test_a_group_that_is_treated_otherwise_is_refused(kind: str) -> None:
    """One group gets scores as if its rows were others', and as high as the highest."""
    _, evidence = sound(kind)
    score, odd = evidence.challenger.score, ORIGINS == "PAU"
    raised = np.roll(score, 1, axis=1) if kind == "multiclass" else score + (0.3 if kind == "binary" else 20)
    changed = np.where(odd if score.ndim == 1 else odd[:, None], raised, score)
    verdicts = tuple(EQUAL.run(of_origins(replace(evidence, challenger=replace(evidence.challenger, score=changed)))))
    assert all(not check.passed for check in verdicts), table(verdicts)
    assert "PAU " in verdicts[0].sentence


def test_fairness_runs_only_if_it_is_declared() -> None:
    model, _ = sound("binary")
    assert "fairness" not in {check.kind for check in model.all_checks}


def test_groups_that_are_not_there_or_too_small_are_not_fair() -> None:
    _, evidence = sound("binary")
    missing = evidence.labels.drop("origin")
    for changed in (
        replace(evidence, labels=missing),
        replace(evidence, labels=missing.with_columns(origin=pl.lit("A"))),
    ):
        verdicts = tuple(EQUAL.run(changed))
        assert [(check.measured, check.passed) for check in verdicts] == [(None, False)] * 2


# --- expensive checks -------------------------------------------------------------------------------------------------


def test_expensive_checks_run_only_for_a_version_that_passes_the_others() -> None:
    def forbidden(*_: Any) -> Any:
        pytest.fail("a version that failed was fitted again")

    model, evidence = sound("binary")
    checks = decided(model, replace(evidence, megabytes=99.0, refit=forbidden, former_champions=forbidden))
    assert failed(checks) == ["size"]
    assert not_run(model.all_checks, checks) == ["former champions", "shuffled labels"]
    passed = run_checks(model.all_checks, evidence)
    assert not_run(model.all_checks, passed) == []
    assert [check.name for check in passed[-2:]] == ["former champions", "shuffled labels"]
