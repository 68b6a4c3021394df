"""Rows that are not learned from. They are removed before the pipeline, and no row is removed at scoring."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from include.training.transforms.base import RowRemoval
from include.training.transforms.numbers import METHOD, Method

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class RemoveMissingRows(RowRemoval):
    """Do not learn from rows of which more than a share of the columns is missing."""

    kind: Literal["remove_missing_rows"] = Field(
        default="remove_missing_rows", description="do not learn from rows with many missing values"
    )
    more_than: float = Field(default=0.5, ge=0, lt=1, description="share of the columns that is missing")

    def keeps(self, frame: "pd.DataFrame") -> "np.ndarray":
        """Return whether enough of the columns have a value."""
        among = frame[[*self.columns]] if self.columns else frame
        few: np.ndarray = among.isna().mean(axis=1).to_numpy() <= self.more_than
        return few


class RemoveOutlierRows(RowRemoval):
    """Do not learn from rows with an outlier. A missing number is no outlier."""

    takes = "number"

    kind: Literal["remove_outlier_rows"] = Field(
        default="remove_outlier_rows", description="do not learn from rows with an outlier"
    )
    method: Method = Field(default="iqr", description=METHOD)
    fold: float | None = Field(
        default=None, gt=0, description="how far; by default 3 (mad: 3.5; quantiles: 0.01)", examples=[1.5]
    )

    def keeps(self, frame: "pd.DataFrame") -> "np.ndarray":
        """Return whether all numbers are within the limits."""
        from include.training.transforms.fitted import Capper, Columns

        numbers = frame[Columns(self.columns, "number")(frame)]
        capped = Capper(self.method, self.fold).fit_transform(numbers)
        within: np.ndarray = ((capped == numbers) | numbers.isna()).all(axis=1).to_numpy()
        return within
