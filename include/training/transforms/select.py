"""Choose among columns: by looking at them (filter), by fitting models (wrapper), by what a model uses (embedded).

Labels count as the mean outcome of their rows while a model or a statistic chooses, and missing numbers as the median;
what stays is passed on as it was.
"""

from typing import Any, Literal

from pydantic import Field

from include.training.transforms.base import Context, Transform

Chooser = Literal["forest", "linear"]


class _Choice(Transform):
    """A choice among columns."""

    def settings(self, context: Context) -> dict[str, Any]:
        """Return what the function of the same name in `choosing` gets."""
        own = {name: getattr(self, name) for name in type(self).model_fields if name not in ("kind", "columns")}
        return own | {"classifies": context.classifies, "seed": context.seed}

    def step(self, context: Context) -> Any:
        """Return a transformer that keeps columns of a whole frame."""
        from include.training.transforms.fitted import ColumnChoice, Columns

        return ColumnChoice(Columns([*self.columns], self.wants), self.kind, self.settings(context))


class _Filter(_Choice):
    """A choice that does not look at the outcome."""

    def settings(self, context: Context) -> dict[str, Any]:
        """Return the settings alone."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in ("kind", "columns")}


class DropMissing(_Filter):
    """Drop columns of which more than a share is missing, and those without any value."""

    kind: Literal["drop_missing"] = Field(default="drop_missing", description="drop columns with many missing values")
    more_than: float = Field(default=0.5, ge=0, le=1, description="share of rows that is missing")


class DropConstant(_Filter):
    """Drop columns in which one value has nearly all rows; the missing one counts as a value."""

    kind: Literal["drop_constant"] = Field(default="drop_constant", description="drop columns that hardly vary")
    share: float = Field(default=1.0, gt=0, le=1, description="share of rows with the same value", examples=[0.99])


class DropDuplicated(_Filter):
    """Of columns with the same values, keep the first."""

    kind: Literal["drop_duplicated"] = Field(default="drop_duplicated", description="keep one of equal columns")


class DropCorrelated(_Filter):
    """Of numbers that are strongly correlated, keep the first."""

    takes = "number"

    kind: Literal["drop_correlated"] = Field(default="drop_correlated", description="keep one of correlated numbers")
    above: float = Field(default=0.95, gt=0, lt=1, description="absolute correlation", examples=[0.9])
    method: Literal["pearson", "spearman"] = Field(default="pearson", description="of values, or of ranks")


class SelectUnivariate(_Choice):
    """Keep the columns that say most about the outcome, each by itself."""

    kind: Literal["select_univariate"] = Field(
        default="select_univariate", description="keep the columns that say most about the outcome, each by itself"
    )
    keep: int = Field(ge=1, description="how many", examples=[20])
    score: Literal["f", "information"] = Field(default="f", description="F statistic, or mutual information")


class SelectRecursive(_Choice):
    """Fit a model, leave out its weakest column, and repeat that."""

    kind: Literal["select_recursive"] = Field(
        default="select_recursive", description="leave out the weakest column of a model, again and again"
    )
    keep: int = Field(ge=1, description="how many", examples=[20])
    by: Chooser = Field(default="forest", description="the model that says how strong columns are")


class SelectSequential(_Choice):
    """Add the column that improves a model most on later days, and repeat that; or leave out the one it misses least.

    It fits a model for each column and step, so it takes the longest of all.
    """

    kind: Literal["select_sequential"] = Field(
        default="select_sequential", description="add the most useful column, again and again"
    )
    keep: int = Field(ge=1, description="how many", examples=[10])
    by: Chooser = Field(default="linear", description="the model that says how useful columns are")
    direction: Literal["forward", "backward"] = Field(default="forward", description="add columns, or leave them out")


class SelectL1(_Choice):
    """Keep the columns to which a linear model with an L1 penalty gives a weight."""

    kind: Literal["select_l1"] = Field(
        default="select_l1", description="keep the columns to which a linear model with an L1 penalty gives a weight"
    )
    alpha: float = Field(default=0.01, gt=0, description="the penalty: the higher, the fewer columns")


class SelectImportance(_Choice):
    """Keep the columns that have a share of the importance in a random forest."""

    kind: Literal["select_importance"] = Field(
        default="select_importance", description="keep the columns that a random forest uses"
    )
    at_least: float = Field(default=0.01, gt=0, lt=1, description="share of the importance of all columns")
