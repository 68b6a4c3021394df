"""The estimators of late_ferry: two small pipelines from feature columns to a probability."""

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler


def build(params: Mapping[str, Any], numeric: Sequence[str], categorical: Sequence[str], seed: int) -> Pipeline:
    """Return an unfitted classifier of `kind` linear or boosted; other parameters are keyword arguments of the kind."""
    given = dict(params)
    kinds = {"linear": linear, "boosted": boosted}
    return kinds[given.pop("kind")](list(numeric), list(categorical), seed, **given)


def linear(numeric: list[str], categorical: list[str], seed: int, *, C: float = 1.0) -> Pipeline:
    """Return a logistic regression on scaled numbers and one-hot labels."""
    numbers = Pipeline([
        ("impute", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)),
        ("scale", StandardScaler()),
    ])
    labels = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return Pipeline([
        ("prepare", ColumnTransformer([("numbers", numbers, numeric), ("labels", labels, categorical)])),
        ("classify", LogisticRegression(C=C, max_iter=1000, random_state=seed)),
    ])


def boosted(
    numeric: list[str], categorical: list[str], seed: int, *, max_iter: int = 30, min_samples_leaf: int = 20
) -> Pipeline:
    """Return histogram gradient boosting; missing numbers and unseen labels stay missing."""
    nan = float("nan")
    labels = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=nan, encoded_missing_value=nan)
    classify = HistGradientBoostingClassifier(
        max_iter=max_iter,
        min_samples_leaf=min_samples_leaf,
        categorical_features=list(range(len(categorical))),
        early_stopping=False,
        random_state=seed,
    )
    numbers = VarianceThreshold()  # histogram boosting cannot bin a column without any value
    prepare = ColumnTransformer([("labels", labels, categorical), ("numbers", numbers, numeric)])
    return Pipeline([("prepare", prepare), ("classify", classify)])
