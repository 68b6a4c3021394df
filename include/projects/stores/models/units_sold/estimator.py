"""How units_sold is learned: one scikit-learn Pipeline a candidate, from feature columns to an expected number.

Everything that is learned from data is inside the pipeline: what is fitted outside would be fitted on the holdout days,
or differ between training and scoring. Nothing is read or written here, and no day is known.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import PoissonRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, QuantileTransformer

NAN = float("nan")


def build(params: Mapping[str, Any], numeric: Sequence[str], categorical: Sequence[str], seed: int) -> Pipeline:
    """Return an unfitted regressor with Poisson loss.

    Args:
        params: `kind` (linear, boosted) and keyword arguments of the function of that name.
        numeric: columns with numbers (double, NaN for missing).
        categorical: columns with labels (str, None for missing). Other columns are ignored.
        seed: equal arguments and rows give an equal fit.

    Returns:
        A pipeline.

    Raises:
        ValueError: there is no such kind.
        TypeError: there is no such parameter.
    """
    kinds: dict[str, Callable[..., Pipeline]] = {"linear": linear, "boosted": boosted}
    given = dict(params)
    kind = given.pop("kind", None)
    if kind not in kinds:
        raise ValueError(f"kind {kind!r}: there is {', '.join(kinds)}")
    return kinds[kind](list(numeric), list(categorical), seed, **given)


def linear(numeric: list[str], categorical: list[str], seed: int, *, alpha: float = 0.01) -> Pipeline:
    """Return a Poisson regression on ranks of numbers, with an indicator for each that can be missing, and on labels.

    Ranks, because the expected number is an exponential: a department of 300 units would otherwise become thousands.
    """
    numbers = Pipeline([
        ("impute", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)),
        ("rank", QuantileTransformer(n_quantiles=100, random_state=seed)),
    ])
    labels = OneHotEncoder(handle_unknown="ignore")
    columns = [("numbers", numbers, numeric), ("labels", labels, categorical)]
    return Pipeline([
        ("prepare", ColumnTransformer(columns, sparse_threshold=1.0)),  # labels one-hot are mostly zeros
        ("vary", VarianceThreshold()),  # a month may be all there is
        ("predict", PoissonRegressor(alpha=alpha, max_iter=1000)),
    ])


def boosted(
    numeric: list[str],
    categorical: list[str],
    seed: int,
    *,
    learning_rate: float = 0.05,
    max_iter: int = 120,
    max_leaf_nodes: int = 15,
    min_samples_leaf: int = 40,
    max_features: float = 0.5,
    l2_regularization: float = 5.0,
) -> Pipeline:
    """Return histogram gradient boosting with Poisson loss.

    Missing numbers stay missing, and each split sends them its own way. Labels are split natively as sets; unseen ones
    count as missing.
    """
    labels = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=NAN, encoded_missing_value=NAN)
    predict = HistGradientBoostingRegressor(
        loss="poisson",
        learning_rate=learning_rate,
        max_iter=max_iter,
        max_leaf_nodes=max_leaf_nodes,
        min_samples_leaf=min_samples_leaf,
        max_features=max_features,
        l2_regularization=l2_regularization,
        categorical_features=list(range(len(categorical))),
        early_stopping=False,  # it would hold back random rows of the same days, which flatters
        random_state=seed,
    )
    numbers = VarianceThreshold()  # histogram boosting cannot bin a column without any value
    prepare = ColumnTransformer([("labels", labels, categorical), ("numbers", numbers, numeric)])
    return Pipeline([("prepare", prepare), ("predict", predict)])
