"""Random forests."""

from typing import Any, Literal

from pydantic import Field

from include.training.estimators.base import Estimator, array, codes
from include.training.transforms import Context
from include.training.transforms.labels import Ordinal
from include.training.transforms.select import DropMissing


class Forest(Estimator):
    """A random forest. Missing numbers stay missing, and labels that are left become numbers."""

    problem_types = ("binary", "multiclass", "regression", "count")
    uses = (DropMissing, Ordinal)
    # It has positions of nodes, which nothing checks: a forged one can end the process. Only the digest protects it.
    trusted_types = ("sklearn.tree._tree.Tree",)

    kind: Literal["forest"] = Field(default="forest", description="a random forest of scikit-learn")
    trees: int = Field(default=100, ge=1, description="how many", examples=[200])
    max_depth: int | None = Field(default=12, ge=1, description="the most splits above a leaf")
    min_samples_leaf: int = Field(default=20, ge=1, description="the fewest rows of a leaf")
    max_features: float = Field(default=0.4, gt=0, le=1, description="share of the columns that a split may use")

    def preparation(self, context: Context) -> list[tuple[str, Any]]:
        """Return codes of labels, and numbers that float32 can hold."""
        return [*codes(context), array()]

    def predictor(self, context: Context, quantile: float | None) -> Any:
        """Return the estimator."""
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        settings = self.model_dump(exclude={"kind", "trees"}) | {
            "n_estimators": self.trees,
            "random_state": context.seed,
        }
        if context.classifies:
            return RandomForestClassifier(**settings)
        return RandomForestRegressor(
            criterion="poisson" if context.problem_type == "count" else "squared_error", **settings
        )
