"""Fill in what is missing."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from include.training.transforms.base import Context, Kind, Transform


class Impute(Transform):
    """Fill in missing numbers and labels, and add a column that says which were missing.

    Mean and median are for numbers, mode and random sample for both, and a constant for what it is, number or label. A
    random sample draws from the values of the days to fit on by a hash of the row, so that a row always gets the same
    one; the model stores up to 1,000 values of the column. A column without any value gets 0, or the label `missing`.
    """

    kind: Literal["impute"] = Field(default="impute", description="fill in missing values")
    by: Literal["mean", "median", "mode", "constant", "random_sample"] = Field(
        default="median", description="what is filled in", examples=["random_sample"]
    )
    value: float | str | None = Field(default=None, description="constant: the number or the label", examples=[-1])
    indicators: bool = Field(
        default=True, description="add a column `…_is_missing` for each in which values are missing on the days to fit"
    )

    @model_validator(mode="after")
    def _value_for_constant(self) -> Self:
        if (self.by == "constant") != (self.value is not None):
            raise ValueError(
                "value: is for `by: constant` only" if self.value is not None else "constant needs `value`"
            )
        return self

    @property
    def wants(self) -> Kind | None:
        """The columns that it can work on, which depends on what is filled in."""
        if self.by in ("mean", "median"):
            return "number"
        if self.by == "constant":
            return "label" if isinstance(self.value, str) else "number"
        return None

    def step(self, context: Context) -> Any:
        """Return the imputer of a whole frame, because a random sample looks at the whole row."""
        from include.training.transforms.fitted import Columns, Imputer

        return Imputer(Columns([*self.columns], self.wants), self.by, self.value, self.indicators, context.seed)
