"""Boosted trees of XGBoost, a package of requirements-boosting.txt."""

from typing import Any, Literal

from pydantic import Field

from include.training.estimators.base import Trees, array, codes
from include.training.transforms import Context

OBJECTIVES = {"regression": "reg:absoluteerror", "count": "count:poisson", "quantile": "reg:quantileerror"}


class XgBoost(Trees):
    """Boosted trees of XGBoost, on one thread. Missing numbers stay missing; labels that are left become numbers."""

    trusted_types = (
        "xgboost.core.Booster",
        "xgboost.sklearn.XGBClassifier",
        "xgboost.sklearn.XGBRegressor",
    )
    package = "xgboost"
    distributions = ("xgboost-cpu", "xgboost")

    kind: Literal["xgboost"] = Field(default="xgboost", description="XGBoost, an optional package")

    def preparation(self, context: Context) -> list[tuple[str, Any]]:
        """Return codes of labels, without names of columns."""
        return [*codes(context), array()]

    def predictor(self, context: Context, quantile: float | None) -> Any:
        """Return the estimator."""
        from xgboost import XGBClassifier, XGBRegressor

        settings = {
            "learning_rate": self.learning_rate,
            "n_estimators": self.max_iter,
            "max_leaves": self.max_leaf_nodes,
            "max_depth": 0,
            "grow_policy": "lossguide",
            "min_child_weight": self.min_samples_leaf,
            "colsample_bytree": self.max_features,
            "reg_lambda": self.l2_regularization,
            "random_state": context.seed,
            "tree_method": "hist",
            "n_jobs": 1,
        }
        if context.problem_type == "multiclass":
            from include.training.transforms.fitted import NumberedClasses

            return NumberedClasses(XGBClassifier(**settings))
        if context.classifies:
            return XGBClassifier(**settings)
        of_quantile = {} if quantile is None else {"quantile_alpha": quantile}
        return XGBRegressor(objective=OBJECTIVES[context.problem_type], **settings, **of_quantile)
