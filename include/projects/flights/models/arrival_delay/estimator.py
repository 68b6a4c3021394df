"""How arrival_delay is learned: one scikit-learn Pipeline a candidate, from feature columns to a value.

Everything that is learned from data is inside the pipeline: what is fitted outside would be fitted on the holdout days,
or differ between training and scoring. Nothing is read or written here, and no day is known.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import SGDRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

NAN = float("nan")
MIN_LABEL_ROWS = 100  # labels with fewer rows count as one, together with those never seen
MAX_LABELS = 250  # of one column; histogram boosting bins into 255


def build(params: Mapping[str, Any], numeric: Sequence[str], categorical: Sequence[str], seed: int) -> Pipeline:
    """Return an unfitted regressor.

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
    """Return a linear regression of the absolute error on scaled numbers and one-hot labels; the outcome is scaled too.

    Each number that can be missing has an indicator. `alpha` is the L2 penalty.
    """
    # without a margin, this loss is the absolute error: what candidates are chosen by
    predict = SGDRegressor("epsilon_insensitive", epsilon=0, alpha=alpha, average=True, random_state=seed)
    numbers = Pipeline([
        ("impute", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)),
        ("scale", StandardScaler()),
    ])
    # Not sparse, unlike elsewhere: descent adapts the intercept of a sparse matrix more slowly and ends higher.
    labels = OneHotEncoder(min_frequency=MIN_LABEL_ROWS, handle_unknown="infrequent_if_exist", sparse_output=False)
    return Pipeline([
        ("prepare", ColumnTransformer([("numbers", numbers, numeric), ("labels", labels, categorical)])),
        ("vary", VarianceThreshold()),  # an hour or a month may be all there is
        # the steps of the descent have a fixed length, so that they fit an outcome in euros only when it is scaled
        ("predict", TransformedTargetRegressor(predict, transformer=StandardScaler())),
    ])


def boosted(
    numeric: list[str],
    categorical: list[str],
    seed: int,
    *,
    learning_rate: float = 0.1,
    max_iter: int = 100,
    max_leaf_nodes: int = 15,
    min_samples_leaf: int = 100,
    max_features: float = 0.4,
    l2_regularization: float = 5.0,
) -> Pipeline:
    """Return histogram gradient boosting of the absolute error.

    Missing numbers stay missing, and each split sends them its own way. Labels are split natively as sets; rare ones
    count as one, and unseen ones as missing.
    """
    labels = OrdinalEncoder(
        min_frequency=MIN_LABEL_ROWS,
        max_categories=MAX_LABELS,
        handle_unknown="use_encoded_value",
        unknown_value=NAN,
        encoded_missing_value=NAN,
    )
    predict = HistGradientBoostingRegressor(
        loss="absolute_error",  # what candidates are chosen by: a few extreme rows must not decide
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
