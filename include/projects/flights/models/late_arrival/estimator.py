"""How late_arrival is learned: one scikit-learn Pipeline a candidate, from feature columns to a probability.

Everything that is learned from data is inside the pipeline: what is fitted outside would be fitted on the holdout days,
or differ between training and scoring. Nothing is read or written here, and no day is known.
"""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from inspect import signature
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_selection import SelectPercentile, VarianceThreshold, f_classif
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

NAN = float("nan")
MAX_LABELS = 250  # of one column; HistGradientBoosting bins into 255, and unseen labels need none


def build(params: Mapping[str, Any], numeric: Sequence[str], categorical: Sequence[str], seed: int) -> Pipeline:
    """Return an unfitted classifier.

    Args:
        params: `kind` (linear, boosted) and keyword arguments of the function of that name.
        numeric: columns with numbers (double, NaN for missing).
        categorical: columns with labels (str, None for missing). Other columns are ignored.
        seed: equal arguments and rows give an equal fit.

    Returns:
        A pipeline. Its `predict_proba` gives the probability of 1 in the second column.

    Raises:
        ValueError: there is no such kind or parameter.
    """
    kinds: dict[str, Callable[..., Pipeline]] = {"linear": linear, "boosted": boosted}
    given = dict(params)
    kind = given.pop("kind", None)
    if kind not in kinds:
        raise ValueError(f"kind {kind!r}: there is {', '.join(kinds)}{_nearest(str(kind), kinds)}")
    known = [p.name for p in signature(kinds[kind]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in given:
        if name not in known:
            raise ValueError(f"{kind} has no parameter {name!r}: there is {', '.join(known)}{_nearest(name, known)}")
    return kinds[kind](list(numeric), list(categorical), seed, **given)


def linear(
    numeric: list[str],
    categorical: list[str],
    seed: int,
    *,
    C: float = 1.0,
    keep_percent: int = 100,
    min_label_rows: int = 100,
) -> Pipeline:
    """Logistic regression on scaled numbers, with an indicator for each that can be missing, and on labels one-hot.

    `C`: inverse of the L2 penalty. `keep_percent`: share of the columns kept, by the F statistic. `min_label_rows`:
    labels with fewer rows count as one, together with those never seen.
    """
    numbers = Pipeline([
        ("impute", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)),
        ("scale", StandardScaler()),
    ])
    labels = OneHotEncoder(min_frequency=min_label_rows, handle_unknown="infrequent_if_exist")
    columns = [("numbers", numbers, numeric), ("labels", labels, categorical)]
    return Pipeline([
        ("prepare", ColumnTransformer(columns, sparse_threshold=1.0)),  # labels one-hot are mostly zeros
        ("vary", VarianceThreshold()),  # an hour or a month may be all there is
        ("select", SelectPercentile(f_classif, percentile=keep_percent)),
        ("classify", LogisticRegression(C=C, max_iter=1000, random_state=seed)),
    ])


def boosted(
    numeric: list[str],
    categorical: list[str],
    seed: int,
    *,
    learning_rate: float = 0.1,
    max_iter: int = 100,
    max_leaf_nodes: int = 31,
    min_samples_leaf: int = 20,
    l2_regularization: float = 0.0,
    max_features: float = 1.0,
    min_label_rows: int = 100,
) -> Pipeline:
    """Return histogram gradient boosting.

    Missing numbers stay missing, and each split sends them its own way. Labels are split natively as sets; those with
    fewer than `min_label_rows` rows count as one, and unseen ones as missing.
    """
    labels = OrdinalEncoder(
        min_frequency=min_label_rows,
        max_categories=MAX_LABELS,
        handle_unknown="use_encoded_value",
        unknown_value=NAN,
        encoded_missing_value=NAN,
    )
    classify = HistGradientBoostingClassifier(
        learning_rate=learning_rate,
        max_iter=max_iter,
        max_leaf_nodes=max_leaf_nodes,
        min_samples_leaf=min_samples_leaf,
        l2_regularization=l2_regularization,
        max_features=max_features,
        categorical_features=list(range(len(categorical))),
        early_stopping=False,  # it would hold back random rows of the same days, which flatters
        random_state=seed,
    )
    numbers = VarianceThreshold()  # HistGradientBoosting 1.9.1 cannot bin a column without any value
    prepare = ColumnTransformer([("labels", labels, categorical), ("numbers", numbers, numeric)])
    return Pipeline([("prepare", prepare), ("classify", classify)])


def _nearest(word: str, words: Any) -> str:
    close = get_close_matches(word, list(words), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
