"""Linear models: the baseline of every problem type."""

from typing import Any, Literal

from pydantic import Field

from include.training.estimators.base import Estimator
from include.training.transforms import Context
from include.training.transforms.impute import Impute
from include.training.transforms.labels import OneHot
from include.training.transforms.numbers import Rank, Scale


class Linear(Estimator):
    """Logistic regression, ridge, Poisson regression or quantile regression, as the problem type needs.

    Missing numbers become medians with an indicator, numbers are standardised (ranked, for counts), and labels that are
    left become columns of 0 and 1.
    """

    uses = (Impute, Scale, Rank, OneHot)

    kind: Literal["linear"] = Field(default="linear", description="logistic, ridge, Poisson or quantile regression")
    alpha: float = Field(default=1.0, gt=0, description="the penalty: L2, for quantiles L1", examples=[0.01])

    def preparation(self, context: Context) -> list[tuple[str, Any]]:
        """Return an imputer, a scale and one-hot."""
        # The expected number is an exponential: one of 300 standard deviations would become infinite.
        scale = Rank() if context.problem_type == "count" else Scale()
        last = OneHot()
        return [*((each.kind, each.step(context)) for each in (Impute(), scale)), (last.kind, last.last_step(context))]

    def predictor(self, context: Context, quantile: float | None) -> Any:
        """Return the estimator."""
        from sklearn.compose import TransformedTargetRegressor
        from sklearn.linear_model import LogisticRegression, PoissonRegressor, QuantileRegressor, Ridge
        from sklearn.preprocessing import StandardScaler

        if context.classifies:
            return LogisticRegression(C=1 / self.alpha, max_iter=1000, random_state=context.seed)
        if context.problem_type == "count":
            return PoissonRegressor(alpha=self.alpha, max_iter=1000)
        if quantile is not None:
            regression = QuantileRegressor(quantile=quantile, alpha=self.alpha)
            return TransformedTargetRegressor(regression, transformer=StandardScaler())  # fits any unit
        return Ridge(alpha=self.alpha, tol=1e-10)  # a sparse matrix is solved step by step
