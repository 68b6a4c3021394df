"""The estimator of arrival_delay: it fits the median of minutes, accepts missing values and is reproducible."""

import numpy as np
import pandas as pd
import pytest

from include.config.loading import load_model
from include.projects.flights.models.arrival_delay.estimator import build
from include.training.config import Candidate

MODEL = load_model("arrival_delay")
ROWS = 3000


def flights() -> tuple[pd.DataFrame, np.ndarray]:
    """Return delays with a long tail, which depend on hour and carrier; some are missing, as in real data."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({
        "hour": rng.uniform(5, 23, ROWS),
        "gust": np.where(rng.random(ROWS) < 0.5, np.nan, rng.uniform(10, 40, ROWS)),
        "carrier": rng.choice(["UA", "EV", None], ROWS, p=[0.6, 0.3, 0.1]),
    })
    delay = (frame["hour"] - 14) * 2 + 10 * (frame["carrier"] == "EV") + rng.exponential(30, ROWS) - 20
    return frame, delay.to_numpy()


@pytest.mark.parametrize("candidate", MODEL.candidates, ids=lambda c: c.name)
def test_it_fits_the_median_of_delays_with_a_long_tail(candidate: Candidate) -> None:
    frame, delay = flights()
    score = build(candidate.params, ["hour", "gust"], ["carrier"], 1).fit(frame, delay).predict(frame)
    assert np.corrcoef(score, frame["hour"])[0, 1] > 0.6
    assert abs(np.median(score - delay)) < 3, "half of the flights must be later than predicted"
    assert score.mean() < delay.mean() - 3, "the fitted value must be a median, and the mean of such delays is higher"


@pytest.mark.parametrize("candidate", MODEL.candidates, ids=lambda c: c.name)
def test_equal_rows_give_an_equal_fit_and_unseen_labels_are_scored(candidate: Candidate) -> None:
    frame, delay = flights()
    scores = [build(candidate.params, ["hour", "gust"], ["carrier"], 1).fit(frame, delay).predict(frame) for _ in "ab"]
    assert (scores[0] == scores[1]).all()
    unseen = frame.head(5).assign(carrier="ZZ", gust=np.nan)
    assert np.isfinite(
        build(candidate.params, ["hour", "gust"], ["carrier"], 1).fit(frame, delay).predict(unseen)
    ).all()


def test_unknown_kinds_and_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="kind 'forest': there is linear, boosted"):
        build({"kind": "forest"}, ["hour"], [], 1)
    with pytest.raises(TypeError, match="depth"):
        build({"kind": "boosted", "depth": 3}, ["hour"], [], 1)
