"""The estimator of ferry_delay: a small pipeline from feature columns to minutes."""

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder


def build(params: Mapping[str, Any], numeric: Sequence[str], categorical: Sequence[str], seed: int) -> Pipeline:
    """Return an unfitted regressor; `params` are those of a ridge regression."""
    numbers = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    labels = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    prepare = ColumnTransformer([("numbers", numbers, list(numeric)), ("labels", labels, list(categorical))])
    return Pipeline([("prepare", prepare), ("predict", Ridge(random_state=seed, **params))])
