"""A search gives the same trials each time, goes on after a kill, and sees no day that it predicts."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from math import inf
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from threadpoolctl import threadpool_limits

from include.config.loading import load_model
from include.core.interval import Interval
from include.io.registry import LoadedModel
from include.steps import fit as fit_step
from include.training.config import Candidate
from include.training.labelled_rows import LabelledRows
from include.training.search import Search, Searched, Trial, folds, search
from include.training.training_set import TrainingSet
from tests.own_projects import use_own_projects
from tests.unit.training.test_estimators import model_of

DECLARED = Search.model_validate({
    "trials": 24,
    "seed": 3,
    "ranges": {
        "alpha": {"low": 0.001, "high": 10.0, "log": True},
        "depth": {"low": 2, "high": 9},
        "by": {"values": ["a", "b"]},
    },
})


def loss(params: Mapping[str, Any]) -> float:
    return abs(params["alpha"] - 0.1) + abs(params["depth"] - 5) + (params["by"] == "a")


class Trials:
    """Count what is tried, and store it."""

    def __init__(self, stored: Mapping[int, Trial] | None = None, killed_at: int | None = None) -> None:
        self.stored, self.killed_at, self.tried = dict(stored or {}), killed_at, list[int]()

    def run(self, declared: Search = DECLARED, seconds: float = 1.0) -> Searched:
        def try_out(number: int, params: Mapping[str, Any]) -> Trial:
            if number == self.killed_at:
                raise KeyboardInterrupt
            self.tried.append(number)
            return Trial(number, dict(params), loss(params), seconds)

        def keep(trial: Trial) -> None:
            self.stored[trial.number] = trial

        return search(declared, try_out, dict(self.stored), keep)


def test_the_same_seed_gives_the_same_trials_and_another_seed_others() -> None:
    first, second, other = Trials(), Trials(), Trials()
    found = first.run()
    assert second.run() == found
    assert second.stored == first.stored
    assert other.run(DECLARED.model_copy(update={"seed": 4})).best.params != found.best.params
    assert found.best.loss == min(trial.loss for trial in first.stored.values())
    of_random = min(first.stored[number].loss for number in range(10))
    assert found.best.loss < of_random, "it learns from losses"
    assert not found.cut


@pytest.mark.parametrize("killed_at", [1, 9, 17])
def test_a_killed_search_goes_on_and_finds_the_same(killed_at: int) -> None:
    whole, killed = Trials(), Trials(killed_at=killed_at)
    found = whole.run()
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    again = Trials(killed.stored)
    assert again.run() == found
    assert again.stored == whole.stored
    assert again.tried == [*range(killed_at, 24)]


def test_a_stored_trial_of_other_settings_is_tried_again() -> None:
    whole = Trials()
    found = whole.run()
    forged = {**whole.stored, 4: Trial(4, {"alpha": 0.5, "depth": 3, "by": "b"}, -100.0, 1.0)}
    again = Trials(forged)
    assert again.run() == found
    assert again.tried == [4]


def test_minutes_cut_whole_trials_and_the_search_says_so() -> None:
    few = DECLARED.model_copy(update={"minutes": 0.1})
    trials = Trials()
    found = trials.run(few, seconds=1.5)
    assert trials.tried == [0, 1, 2, 3]
    assert found.cut
    assert found.words == "4 of 24 trials (cut by minutes: 0.1; another machine may find other settings)"
    assert Trials(trials.stored).run(few, seconds=99).trials == 4, "what ran before a kill counts"
    assert Trials().run(few, seconds=1000).trials == 1


def test_settings_that_cannot_be_fitted_lose() -> None:
    def try_out(number: int, params: Mapping[str, Any]) -> Trial:
        return Trial(number, params, loss(params) if number % 2 else inf, 1.0, "too deep")

    found = search(DECLARED, try_out, {}, lambda trial: None)
    assert found.best.number % 2
    with pytest.raises(ValueError, match="none of 24 trials could be fitted, the last one because: too deep"):
        search(DECLARED, lambda number, params: Trial(number, params, inf, 1.0, "too deep"), {}, lambda trial: None)


def test_settings_whose_predictions_cannot_be_measured_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions that are infinite are no reason to give up the search; scikit-learn refuses to measure them."""

    def refused(*_: Any) -> None:
        raise ValueError("Input contains infinity")

    monkeypatch.setattr(fit_step, "train", refused)
    use_own_projects()
    model = load_model("late_ferry")
    trial = fit_step._try(model, model.candidates[0], [cast(Any, None)], 3, {})
    assert (trial.number, trial.loss, trial.why) == (3, inf, "Input contains infinity")


def day(number: int) -> date:
    return date(2026, 3, 1) + timedelta(days=number)


def test_each_fold_is_predicted_from_the_days_before_it() -> None:
    days = [day(number) for number in range(20) if number != 12]  # one has no labels
    assert folds(days, 3, 4) == [
        (Interval(start=day(0), end=day(6)), Interval(start=day(7), end=day(10))),
        (Interval(start=day(0), end=day(10)), Interval(start=day(11), end=day(15))),
        (Interval(start=day(0), end=day(15)), Interval(start=day(16), end=day(19))),
    ]
    assert [each.end for _, each in folds(days[:4], 3, 7)] == [day(1), day(2), day(3)]
    with pytest.raises(ValueError, match="3 folds need 4 labelled days to fit on, and there are 3"):
        folds(days[:3], 3, 7)


BOOSTED = {"name": "boosted", "estimator": {"kind": "boosted", "max_iter": 7}}


@pytest.mark.parametrize(
    ("ranges", "says"),
    [
        ({"learning_rat": {"low": 0.1, "high": 0.2}}, "boosted has no such setting; did you mean 'learning_rate'"),
        ({"learning_rate": {"low": 0.1, "high": 2.0}}, "search.ranges.learning_rate: 2.0: .*less than or equal to 1"),
        ({"max_iter": {"low": 1, "high": 9.5}}, "search.ranges.max_iter: 9.5: .*integer"),
        ({"max_iter": {"low": 9, "high": 9}}, r"low \(9\) must be below high \(9\)"),
        ({"max_iter": {"low": 0, "high": 9, "log": True}}, "begins above 0"),
        ({"max_iter": {"low": 1}}, "needs `low` and `high`, or `values`"),
        ({"max_iter": {"values": [1, 2], "log": True}}, "has `values`, so it cannot have `low`, `high` or `log`"),
        ({"max_iter": {"values": [5, 0]}}, "search.ranges.max_iter: 0: .*greater than or equal to 1"),
        ({}, "at least 1 item"),
    ],
)
def test_a_range_that_the_estimator_does_not_take_is_refused(ranges: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Candidate.model_validate({**BOOSTED, "search": {"trials": 3, "ranges": ranges}})


def test_found_settings_become_those_of_the_candidate() -> None:
    declared = Candidate.model_validate({
        **BOOSTED,
        "search": {"trials": 3, "ranges": {"learning_rate": {"low": 0.1, "high": 0.2}}},
    })
    settled = declared.with_settings({"learning_rate": 0.15})
    assert settled.shown["learning_rate"] == 0.15
    assert settled.shown["max_iter"] == 7
    assert settled.search is None
    of_python = Candidate.model_validate({"name": "own", "params": {"kind": "x", "C": 1}})
    assert of_python.with_settings({"C": 2}).params == {"kind": "x", "C": 2}


SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {},
    "boosted": {"max_iter": 4},
    "forest": {"trees": 3},
    "lightgbm": {"max_iter": 4},
    "xgboost": {"max_iter": 4},
}
RANGES: dict[str, dict[str, Any]] = {
    "linear": {"alpha": {"low": 1.0, "high": 1000.0, "log": True}},
    "forest": {"max_features": {"low": 0.05, "high": 0.4}, "min_samples_leaf": {"low": 20, "high": 200}},
}
OF_TREES = {"learning_rate": {"low": 0.02, "high": 0.3}, "max_leaf_nodes": {"low": 4, "high": 15}}
COLUMNS = tuple(f"n{number}" for number in range(60))


def two_days(kind: str) -> TrainingSet:
    """Return a day to fit on and a day to predict. Linear algebra divides so many numbers among threads."""
    random, each = np.random.default_rng(6), [12_000 if kind == "linear" else 1_500, 1_000]
    made = pl.DataFrame({name: random.normal(size=sum(each)) for name in COLUMNS})
    late = made["n0"].to_numpy() + random.normal(size=sum(each)) > 0
    frame = made.with_columns(
        pl.Series("day", [day(0)] * each[0] + [day(1)] * each[1]),
        entity_id=pl.int_range(sum(each)).cast(pl.String),
        horizon=pl.lit(0, pl.Int16),
        label=pl.Series(late.astype(float)),
    )
    fit, compared = Interval.of(day(0)), Interval.of(day(1))
    return TrainingSet(day(1), datetime(2026, 4, 1, tzinfo=UTC), LabelledRows.of(frame), fit, compared, compared, ())


def searched_and_fitted(kind: str, threads: int, days: TrainingSet) -> tuple[list[tuple[str, float]], bytes]:
    """Search where libraries may use so many threads; return the trials, and the scores of the best."""
    declared = model_of("binary", estimator={"kind": kind, **SETTINGS[kind]})
    model = declared.model_copy(update={"numeric": COLUMNS, "categorical": ()})
    [candidate] = model.candidates
    tried: list[tuple[str, float]] = []
    with threadpool_limits(threads):
        found = search(
            Search.model_validate({"trials": 2, "seed": 3, "ranges": RANGES.get(kind, OF_TREES)}),
            lambda number, params: fit_step._try(model, candidate, [days], number, params),
            {},
            lambda trial: tried.append((str(trial.params), trial.loss)),
        )
        best = fit_step.train(model, candidate.with_settings(found.best.params), days)
        return tried, LoadedModel.of(model, best).predict(days.validation_rows).tobytes()


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_search_and_its_fit_are_the_same_on_one_core_and_on_two(kind: str) -> None:
    days = two_days(kind)
    tried, scores = searched_and_fitted(kind, 1, days)
    assert len({loss for _, loss in tried}) == 2, "the trials differ, so that the comparison says something"
    assert searched_and_fitted(kind, 2, days) == (tried, scores)
