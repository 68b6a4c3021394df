"""The scores that reproduce compares."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from include.operations.reproduce import _scores


@dataclass(frozen=True)
class Fake:
    """A model that refuses a frame without rows, as estimators do."""

    plus: int

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        assert rows.height
        return rows["x"].to_numpy() + self.plus


def test_parts_without_rows_are_not_scored() -> None:
    rows = pl.DataFrame({"x": [1, 2, 3]})
    models: Any = [Fake(0), Fake(10)]
    before, again = _scores(models, [rows.head(2), rows.clear(), rows.tail(1)])
    assert (before.tolist(), again.tolist()) == ([1, 2, 3], [11, 12, 13])
