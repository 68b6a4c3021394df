"""The models of stores: what they declare, and that their candidates learn."""

import importlib
from typing import Any

import numpy as np
import pandas as pd
import pytest

from include.config.loading import load_model, load_project, model_names

MODELS = ("coupon_used", "demand_level", "units_sold")


def candidate(model: str, params: dict[str, Any]) -> Any:
    build = importlib.import_module(f"include.projects.stores.models.{model}.estimator").build
    return build(params, ["units_7d", "all_missing"], ["department"], 7)


def rows(count: int = 400) -> pd.DataFrame:
    random = np.random.default_rng(5)
    sold = random.gamma(2, 5, count)
    sold[::50] = np.nan
    labels = random.choice(["DELI", "MEAT"], count).astype(object)
    return pd.DataFrame({"units_7d": sold, "all_missing": np.nan, "department": labels, "ignored": 1.0})


def test_there_are_three_of_three_problem_types_and_one_is_trained_weekly() -> None:
    assert model_names("stores") == [*MODELS]
    assert [load_model(name).problem_type for name in MODELS] == ["binary", "multiclass", "count"]
    assert [load_model(name).train_schedule for name in MODELS] == [None, "30 4 * * mon", None]
    assert [load_model(name).horizon_days for name in MODELS] == [0, 0, 6]


def test_the_project_has_each_kind_of_feed() -> None:
    feeds = load_project("stores").feeds
    assert {name: feed.format.kind for name, feed in feeds.items() if feed.source is None} == {
        "plan": "csv",
        "sales": "jsonl",
        "settled": "parquet",
        "departments": "parquet",
    }
    assert feeds["departments"].is_snapshot
    assert feeds["promotions"].source is not None
    assert feeds["settled"].delay_days == 7


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("named", ["linear", "boosted"])
def test_a_candidate_learns_more_where_more_was_sold(model: str, named: str) -> None:
    [params] = [each.params for each in load_model(model).candidates if each.name == named]
    given, frame = dict(params), rows()
    before = frame["units_7d"].fillna(10).to_numpy()
    truth = np.digitize(before, [6, 14]) if model == "demand_level" else before.round()
    truth = (before > 10).astype(int) if model == "coupon_used" else truth
    fitted = candidate(model, given).fit(frame, truth)
    unseen = pd.DataFrame({"units_7d": [1.0, 40.0, np.nan], "all_missing": np.nan, "department": ["NEW", "DELI", None]})
    if model == "units_sold":
        low, high, missing = fitted.predict(unseen)
    else:
        low, high, missing = fitted.predict_proba(unseen)[:, -1]
    assert 0 <= low < high
    assert np.isfinite(missing)
    again = candidate(model, given).fit(frame, truth)
    method = "predict" if model == "units_sold" else "predict_proba"
    assert (getattr(again, method)(unseen) == getattr(fitted, method)(unseen)).all()


@pytest.mark.parametrize("model", MODELS)
def test_an_unknown_kind_is_refused(model: str) -> None:
    with pytest.raises(ValueError, match="kind 'forest': there is linear, boosted"):
        candidate(model, {"kind": "forest"})
