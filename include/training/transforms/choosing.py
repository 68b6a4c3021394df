"""How columns are chosen: each function returns the names of those that stay. Used at a fit only."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_selection import (
    RFE,
    SelectFromModel,
    SelectKBest,
    SequentialFeatureSelector,
    f_classif,
    f_regression,
    mutual_info_classif,
    mutual_info_regression,
)
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.model_selection import KFold, TimeSeriesSplit
from sklearn.preprocessing import StandardScaler, TargetEncoder

from include.training.transforms.fitted import Columns, Imputer, within_range

FOLDS = 3


def drop_missing(X: pd.DataFrame, y: Any, *, more_than: float) -> list[str]:
    """Keep columns of which at most a share is missing; one without any value goes in any case."""
    return [name for name in X if X[name].isna().mean() <= more_than and X[name].notna().any()]


def drop_constant(X: pd.DataFrame, y: Any, *, share: float) -> list[str]:
    """Keep columns in which no value, nor the missing one, has at least a share of the rows."""
    return [name for name in X if X[name].value_counts(normalize=True, dropna=False).iloc[0] < share]


def drop_duplicated(X: pd.DataFrame, y: Any) -> list[str]:
    """Keep the first of columns with the same values."""
    from feature_engine.selection import DropDuplicateFeatures

    if len(X.columns) < 2:
        return [*X]
    dropped = DropDuplicateFeatures(variables=[*X], missing_values="ignore").fit(X).features_to_drop_
    return [name for name in X if name not in dropped]


def drop_correlated(X: pd.DataFrame, y: Any, *, above: float, method: str) -> list[str]:
    """Keep the first of numbers that are correlated; a constant column is correlated with none."""
    strength = within_range(X).corr(method=method).abs()
    kept: list[str] = []
    for name in X:
        if not (strength.loc[name, kept] > above).any():
            kept.append(name)
    return kept


def select_univariate(X: pd.DataFrame, y: Any, *, keep: int, score: str, classifies: bool, seed: int) -> list[str]:
    """Keep the columns that say most about the outcome, each by itself."""
    if score == "information":
        function = mutual_info_classif if classifies else mutual_info_regression

        def measured(values: Any, truth: Any) -> Any:
            return function(values, truth, random_state=seed)

    else:
        measured = f_classif if classifies else f_regression
    return _chosen(SelectKBest(measured, k=min(keep, len(X.columns))), X, y, classifies, seed)


def select_recursive(X: pd.DataFrame, y: Any, *, keep: int, by: str, classifies: bool, seed: int) -> list[str]:
    """Leave out the weakest column of a model, again and again."""
    return _chosen(RFE(_model(by, classifies, seed), n_features_to_select=keep), X, y, classifies, seed)


def select_sequential(
    X: pd.DataFrame, y: Any, *, keep: int, by: str, direction: str, classifies: bool, seed: int
) -> list[str]:
    """Add the best column for later rows, or leave out the one that a model misses least, again and again."""
    if keep >= len(X.columns):
        return [*X]
    chosen = SequentialFeatureSelector(
        _model(by, classifies, seed),
        n_features_to_select=keep,
        direction=direction,
        cv=TimeSeriesSplit(FOLDS),  # rows are sorted by day
    )
    return _chosen(chosen, X, y, classifies, seed)


def select_l1(X: pd.DataFrame, y: Any, *, alpha: float, classifies: bool, seed: int) -> list[str]:
    """Keep the columns to which a linear model with an L1 penalty gives a weight."""
    if classifies:
        model: Any = LogisticRegression(l1_ratio=1, solver="saga", C=1 / alpha, max_iter=1000, random_state=seed)
    else:
        model, y = Lasso(alpha=alpha), _scaled(y)
    return _chosen(SelectFromModel(model, threshold=1e-5), X, y, classifies, seed)


def select_importance(X: pd.DataFrame, y: Any, *, at_least: float, classifies: bool, seed: int) -> list[str]:
    """Keep the columns that have a share of the importance in a random forest."""
    return _chosen(SelectFromModel(_model("forest", classifies, seed), threshold=at_least), X, y, classifies, seed)


def _chosen(chooser: Any, X: pd.DataFrame, y: Any, classifies: bool, seed: int) -> list[str]:
    with np.errstate(divide="ignore", invalid="ignore"):  # a constant column has no score
        support = chooser.fit(_numbers(X, y, classifies, seed), y).get_support()
    return [name for name, stays in zip(X, support, strict=True) if stays]


def _numbers(X: pd.DataFrame, y: Any, classifies: bool, seed: int) -> np.ndarray:
    """Return a column of scaled numbers for each column: medians for missing ones, mean outcomes for labels."""
    filled = Imputer(Columns(takes="number"), "median", indicators=False).fit_transform(X)
    labels = Columns(takes="label")(X)
    if labels:
        target = "continuous" if not classifies or len(np.unique(y)) > 2 else "binary"
        encoded = TargetEncoder(target_type=target, cv=KFold(FOLDS, shuffle=True, random_state=seed)).fit_transform(
            X[labels].fillna("missing"), y
        )
        filled = filled.assign(**{name: encoded[:, number] for number, name in enumerate(labels)})
    return np.asarray(StandardScaler().fit_transform(within_range(filled[[*X]].astype(float))))


def _scaled(y: Any) -> np.ndarray:
    return np.asarray(StandardScaler().fit_transform(np.asarray(y, dtype=float).reshape(-1, 1))).ravel()


def _model(by: str, classifies: bool, seed: int) -> Any:
    """Return the model that says how strong columns are."""
    if by == "linear":
        return LogisticRegression(max_iter=1000, random_state=seed) if classifies else Ridge()
    forest = RandomForestClassifier if classifies else RandomForestRegressor
    return forest(n_estimators=50, max_depth=6, random_state=seed)
