"""An error in one model is a failed check of that model, and the others are checked."""

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from include.config.loading import load_model
from include.io.postgres.skew import PublishedBatch
from include.monitoring.skew import SkewCheck, SkewMonitor
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
