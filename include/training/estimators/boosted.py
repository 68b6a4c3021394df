"""Boosted trees of scikit-learn."""

from typing import Any, Literal

from pydantic import Field

from include.training.estimators.base import MOST_LABELS, Trees
from include.training.transforms import Context
from include.training.transforms.labels import Ordinal
from include.training.transforms.select import DropMissing

LOSSES = {"regression": "absolute_error", "count": "poisson", "quantile": "quantile"}


class Boosted(Trees):
    """Histogram gradient boosting with the loss by which candidates are chosen.

    Missing numbers stay missing, and each split sends them its own way. Labels that are left are split as sets; unseen
    ones count as missing.
    """

    kind: Literal["boosted"] = Field(default="boosted", description="histogram gradient boosting of scikit-learn")

    def preparation(self, context: Context) -> list[tuple[str, Any]]:
        """Return codes of labels, as categories."""
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer

        from include.training.transforms.fitted import Columns, as_categories, on_columns

        sets = make_pipeline(
            Ordinal(most=MOST_LABELS).transformer(context),
            FunctionTransformer(as_categories, feature_names_out="one-to-one"),
        )
        # Histogram boosting cannot bin a column without any value.
        return [
            ("values", DropMissing(more_than=1).step(context)),
            ("sets", on_columns("sets", sets, Columns(takes="label"))),
        ]

    def predictor(self, context: Context, quantile: float | None) -> Any:
        """Return the estimator."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        settings = self.model_dump(exclude={"kind"}) | {
            "early_stopping": False,  # it would hold back random rows of the same days, which flatters
            "categorical_features": "from_dtype",
            "random_state": context.seed,
        }
        if context.classifies:
            return HistGradientBoostingClassifier(**settings)
        return HistGradientBoostingRegressor(loss=LOSSES[context.problem_type], quantile=quantile, **settings)
