"""Boosted trees of LightGBM, a package of requirements-boosting.txt."""

from typing import Any, Literal

from pydantic import Field

from include.training.estimators.base import Trees, array, codes
from include.training.transforms import Context

OBJECTIVES = {
    "binary": "binary",
    "multiclass": "multiclass",
    "regression": "l1",
    "count": "poisson",
    "quantile": "quantile",
}


class LightGbm(Trees):
    """Boosted trees of LightGBM, on one thread. Missing numbers stay missing; labels that are left become numbers."""

    trusted_types = (
        "collections.OrderedDict",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRegressor",
    )
    package = "lightgbm"
    distributions = ("lightgbm",)

    kind: Literal["lightgbm"] = Field(default="lightgbm", description="LightGBM, an optional package")

    def preparation(self, context: Context) -> list[tuple[str, Any]]:
        """Return codes of labels, without names of columns."""
        return [*codes(context), array()]

    def predictor(self, context: Context, quantile: float | None) -> Any:
        """Return the estimator."""
        from lightgbm import LGBMClassifier, LGBMRegressor

        settings: dict[str, Any] = {
            "objective": OBJECTIVES[context.problem_type],
            "learning_rate": self.learning_rate,
            "n_estimators": self.max_iter,
            "num_leaves": self.max_leaf_nodes,
            "min_child_samples": self.min_samples_leaf,
            "colsample_bytree": self.max_features,
            "reg_lambda": self.l2_regularization,
            "random_state": context.seed,
            "deterministic": True,
            "force_row_wise": True,
            "n_jobs": 1,
            "verbose": -1,
        }
        if context.classifies:
            return LGBMClassifier(**settings)
        of_quantile: dict[str, Any] = {} if quantile is None else {"alpha": quantile}
        return LGBMRegressor(**settings, **of_quantile)
