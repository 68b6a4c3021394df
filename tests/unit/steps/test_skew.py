"""An error in one model is a failed check of that model, and the others are checked."""

from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from include.config.loading import load_model
from include.io.postgres.skew import PublishedBatch
from include.monitoring.skew import SkewCheck, SkewMonitor
from include.steps import skew as step
from include.steps.skew import _Published, _Recomputing

DAY = date(2013, 1, 20)
SAMPLE = pl.DataFrame({"horizon": [0], "entity_id": ["a"]}, schema_overrides={"horizon": pl.Int32})


class Recomputing(_Recomputing):
    """Builds rows and compares them without a database."""

    def __init__(self) -> None:
        pass

    def _why_not(self, published: _Published) -> str:
        return ""

    def _build(self, interval: Any, keys: pl.DataFrame) -> pl.DataFrame:
        return keys

    def _compare(self, published: _Published, check: SkewCheck, again: pl.DataFrame) -> SkewCheck:
        if published.model.name == "late_ferry":
            raise ValueError("could not convert string to float: 'N14228'")
        return check


def test_an_error_of_an_estimator_is_alerted_and_affects_no_other_model(caplog: pytest.LogCaptureFixture) -> None:
    models = [load_model("late_ferry"), load_model("ferry_delay")]
    published = [
        _Published(model, PublishedBatch(DAY, model.name, 1, 1, datetime(2013, 1, 20, tzinfo=UTC), 0), SAMPLE)
        for model in models
    ]
    [wrong], [right] = Recomputing().checks(published).values()
    assert (wrong.state, right.state) == ("failed", "compared")
    assert wrong.why == "ValueError; its text is in the log of the step", "a text can have values of rows"
    [alert] = SkewMonitor().alerts(models[0].monitored, wrong)
    assert "late_ferry, version 1, run date 2013-01-20: the published rows cannot be built again" in alert.sentence
    assert SkewMonitor().alerts(models[1].monitored, right) == []


@pytest.mark.parametrize(("changed", "differing"), [(1e-13, {}), (1e-6, {"score": 1})])
def test_scores_of_a_whole_day_may_differ_in_the_last_bits_and_features_may_not(
    monkeypatch: pytest.MonkeyPatch, changed: float, differing: dict[str, int]
) -> None:
    """Executors on another processor may have made the scores."""
    sample = SAMPLE.with_columns(score=pl.lit(0.5), prediction=pl.lit(1.0)).with_columns(
        pl.lit(None, pl.String if name == "label" else pl.Float64).alias(name) for name in ("lower", "upper", "label")
    )
    batch = PublishedBatch(DAY, "a batch", 1, sample.height, datetime(2013, 1, 20, tzinfo=UTC), 0)
    published = _Published(load_model("late_ferry"), batch, sample)
    stored = published.keys.with_columns(wind=pl.lit(7.0))
    recomputing: Any = SimpleNamespace(
        prepared={DAY: None},
        exact=True,
        settings=None,
        _stored=lambda prepared, keys: stored,
        _load=lambda model, version: SimpleNamespace(inputs=("wind",)),
    )
    scored = published.keys.hstack(sample.drop("horizon", "entity_id")).with_columns(pl.col("score") + changed)
    monkeypatch.setattr(step, "score_rows", lambda *_: scored)
    monkeypatch.setattr(step, "summary_of_version", lambda *_: SimpleNamespace(inputs={}, types={"wind": "Float64"}))
    again = stored.with_columns(pl.col("wind") + 1e-13)
    check = _Recomputing._compare(recomputing, published, SkewCheck(DAY, "a batch", 1), again)
    assert (check.features, check.scores, check.exact) == ({"wind": 1}, differing, True)
