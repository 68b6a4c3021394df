"""Numbers: outliers, bins, scales and shapes. A missing number stays missing."""

from typing import Any, Literal

from pydantic import Field

from include.training.transforms.base import Context, Transform

Method = Literal["iqr", "gaussian", "mad", "quantiles"]
METHOD = (
    "iqr: `fold` quartile distances beyond the quartiles; gaussian: `fold` standard deviations from the mean; mad: "
    "`fold` median deviations from the median, in the unit of a standard deviation; quantiles: below the quantile "
    "`fold` or above 1 - `fold`"
)


class CapOutliers(Transform):
    """Bring outliers to the nearest limit. A column in which most values are alike has no outliers."""

    takes = "number"

    kind: Literal["cap_outliers"] = Field(default="cap_outliers", description="bring outliers to the nearest limit")
    method: Method = Field(default="iqr", description=METHOD)
    fold: float | None = Field(
        default=None, gt=0, description="how far; by default 3 (mad: 3.5; quantiles: 0.01)", examples=[1.5]
    )

    def transformer(self, context: Context) -> Any:
        """Return our own: feature-engine's refuses constant columns."""
        from include.training.transforms.fitted import Capper

        return Capper(self.method, self.fold)


class Discretise(Transform):
    """Replace a number by the number of its bin, from 0."""

    takes = "number"

    kind: Literal["discretise"] = Field(default="discretise", description="replace a number by the number of its bin")
    bins: int = Field(default=10, ge=2, description="how many")
    by: Literal["quantiles", "width"] = Field(default="quantiles", description="bins of equal rows, or of equal width")

    def transformer(self, context: Context) -> Any:
        """Return our own: scikit-learn's refuses a missing number, when scoring too."""
        from include.training.transforms.fitted import Discretiser

        return Discretiser(self.bins, self.by)


class Scale(Transform):
    """Bring numbers to one scale."""

    takes = "number"

    kind: Literal["scale"] = Field(default="scale", description="bring numbers to one scale")
    by: Literal["standard", "range", "robust"] = Field(
        default="standard",
        description="standard: mean 0 and standard deviation 1; range: from 0 to 1; robust: by median and quartiles",
    )

    def transformer(self, context: Context) -> Any:
        """Return scikit-learn's, of numbers that can be squared."""
        from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

        return _within_range({"standard": StandardScaler, "range": MinMaxScaler, "robust": RobustScaler}[self.by]())


class Power(Transform):
    """Bring numbers nearer to a normal distribution (Yeo and Johnson 2000), then to one scale."""

    takes = "number"

    kind: Literal["power"] = Field(default="power", description="bring numbers nearer to a normal distribution")

    def step(self, context: Context) -> Any:
        """Return a transformer of all but the columns without any value, which stay as they are."""
        from include.training.transforms.fitted import Columns, on_columns

        return on_columns(self.kind, self.transformer(context), Columns([*self.columns], self.wants, with_values=True))

    def transformer(self, context: Context) -> Any:
        """Return scikit-learn's, of numbers whose powers are finite: in steps of the quartile distance."""
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import PowerTransformer, RobustScaler

        return _within_range(make_pipeline(RobustScaler(), PowerTransformer()))


class Log(Transform):
    """Take the logarithm of 1 + |x|, with the sign of x: it is defined for 0 and for negative numbers."""

    takes = "number"

    kind: Literal["log"] = Field(default="log", description="the logarithm of 1 + |x|, with the sign of x")

    def transformer(self, context: Context) -> Any:
        """Return scikit-learn's."""
        from sklearn.preprocessing import FunctionTransformer

        from include.training.transforms.fitted import signed_log

        return FunctionTransformer(signed_log, feature_names_out="one-to-one")


class Rank(Transform):
    """Replace a number by its rank among the rows to fit on, from 0 to 1."""

    takes = "number"

    kind: Literal["rank"] = Field(default="rank", description="replace a number by its rank, from 0 to 1")
    quantiles: int = Field(default=100, ge=2, description="between how many of them ranks are interpolated")

    def transformer(self, context: Context) -> Any:
        """Return scikit-learn's."""
        from sklearn.preprocessing import QuantileTransformer

        return _within_range(QuantileTransformer(n_quantiles=self.quantiles, random_state=context.seed))


def _within_range(transformer: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    from include.training.transforms.fitted import within_range

    return make_pipeline(FunctionTransformer(within_range, feature_names_out="one-to-one"), transformer)
