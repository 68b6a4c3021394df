"""The time to score a row does not depend on how full the last call of the estimator was."""

import time
from typing import Any

import numpy as np
import polars as pl
import pytest

from include.steps import gate


class Model:
    """A model whose calls take 4.096 ms each, for 4,096 rows."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        self.seconds += 0.004096 * -(-rows.height // 4096)
        return np.zeros(rows.height)


@pytest.mark.parametrize("rows", [1, 4096, 4097])
def test_the_time_is_divided_by_the_rows_that_the_estimator_got(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    model: Any = Model()
    monkeypatch.setattr(time, "process_time", lambda: model.seconds)
    scores, microseconds = gate._timed(model, pl.DataFrame({"x": range(rows)}))
    assert len(scores) == rows and microseconds == pytest.approx(1)


def test_without_rows_there_is_no_time() -> None:
    model: Any = Model()
    assert gate._timed(model, pl.DataFrame({"x": []}))[1] is None
