"""The scikit-learn transformers of our own, for what no library does as scoring needs it. They are stored in models.

Each row is transformed by itself, so that scores do not depend on how rows are cut into blocks. What is fitted is plain
data. A value that the fit never saw (unseen label, missing number) never raises.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.compose import ColumnTransformer

MOST_SAMPLED = 1000
NO_LABEL = "missing"
"""What stands for a missing label where a column has no other label to take."""
FOLDS = {"iqr": 3.0, "gaussian": 3.0, "mad": 3.5, "quantiles": 0.01}
"""How far from the middle an outlier begins, by method, if `model.yaml` says nothing."""
LARGEST = 1e30
"""Numbers are cut there before they are squared, averaged or kept as float32, so that none becomes infinite."""


class Columns(BaseEstimator):
    """The columns of a frame that a transform works on: those named, or all of a kind, as far as they are there.

    `with_values` leaves out those without any value, for a transformer that cannot be fitted on them.
    """

    def __init__(self, names: Sequence[str] = (), takes: str | None = None, with_values: bool = False) -> None:
        self.names = names
        self.takes = takes
        self.with_values = with_values

    def __call__(self, frame: pd.DataFrame) -> list[str]:
        """Return their names, in the order of the frame."""
        return [
            name
            for name, dtype in frame.dtypes.items()
            if (not self.names or name in self.names)
            and self.takes in (None, "number" if pd.api.types.is_numeric_dtype(dtype) else "label")
            and (not self.with_values or frame[name].notna().any())
        ]


def on_columns(name: str, transformer: Any, columns: Columns) -> ColumnTransformer:
    """Return a transformer of a whole frame that transforms some columns and passes on the others, as a frame."""
    return ColumnTransformer(
        [(name, transformer, columns)], remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")


def into_matrix(name: str, transformer: Any, columns: Columns) -> ColumnTransformer:
    """Return a transformer of a whole frame into a matrix, which is sparse if what it makes of these columns is."""
    return ColumnTransformer([(name, transformer, columns)], remainder="passthrough", sparse_threshold=1.0)


class Imputer(TransformerMixin, BaseEstimator):
    """Fill missing numbers and labels of a frame, and say which were missing.

    A column without any value is filled with 0, or with `missing`. A random sample is drawn by a hash of the row, so
    that a row gets the same value in whatever block it is scored.
    """

    def __init__(self, columns: Columns, by: str, value: Any = None, indicators: bool = True, seed: int = 0) -> None:
        self.columns = columns
        self.by = by
        self.value = value
        self.indicators = indicators
        self.seed = seed

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Learn what to fill in from these rows."""
        self.fill_ = {name: self._learned(X[name]) for name in self.columns(X)}
        self.indicated_ = [name for name in self.fill_ if self.indicators and X[name].isna().any()]
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the frame without missing values in these columns."""
        filled: dict[str, Any] = {}
        for position, (name, values) in enumerate(self.fill_.items()):
            missing = X[name].isna()
            if missing.any():
                column = X[name].copy()
                column[missing] = self._chosen(X[missing], values, position)
                filled[name] = column
        indicators = {f"{name}_is_missing": X[name].isna().astype(float) for name in self.indicated_}
        return X.assign(**filled, **indicators)

    def _learned(self, column: pd.Series) -> list[Any]:
        there = column.dropna()
        is_number = pd.api.types.is_numeric_dtype(column)
        if self.by == "constant":
            return [self.value]
        if there.empty:
            return [0.0 if is_number else NO_LABEL]
        if self.by == "mode":
            return [there.mode().iloc[0]]
        if self.by == "random_sample":
            drawn = there.sample(min(len(there), MOST_SAMPLED), random_state=self.seed)
            return list(drawn)
        return [float(getattr(there.clip(-LARGEST, LARGEST), self.by)())]

    def _chosen(self, rows: pd.DataFrame, values: list[Any], position: int) -> Any:
        if len(values) == 1:
            return values[0]
        hashes = pd.util.hash_pandas_object(rows, index=False).to_numpy()
        mixed = pd.util.hash_array(hashes ^ np.uint64(self.seed * 1_000_003 + position))
        return [values[number] for number in mixed % np.uint64(len(values))]


class NumberedClasses(ClassifierMixin, BaseEstimator):
    """A classifier whose estimator wants the classes 0, 1, 2, … without a gap: days to fit on can lack a class."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, X: Any, y: Any) -> Self:
        """Fit a copy of the estimator on the numbers of the classes that are there."""
        self.classes_, numbers = np.unique(y, return_inverse=True)
        self.estimator_ = clone(self.estimator).fit(X, numbers)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each of `classes_`."""
        return np.asarray(self.estimator_.predict_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable of `classes_`."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


class RareLabelReplacer(TransformerMixin, BaseEstimator):
    """Replace rare labels and those that the fit never saw by one label; missing ones stay missing."""

    def __init__(self, less_than: float, label: str) -> None:
        self.less_than = less_than
        self.label = label

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Learn the frequent labels of each column."""
        shares = {name: X[name].value_counts(normalize=True, dropna=False) for name in X}
        self.frequent_ = {
            name: sorted(label for label, share in of.items() if share >= self.less_than and not pd.isna(label))
            for name, of in shares.items()
        }
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the frame with frequent labels and the one for all others."""
        return X.assign(**{
            name: X[name].where(X[name].isin(labels) | X[name].isna(), self.label)
            for name, labels in self.frequent_.items()
        })

    def get_feature_names_out(self, names: Any = None) -> Any:
        """Return the names as they are."""
        return names


class Capper(TransformerMixin, BaseEstimator):
    """Bring numbers outside limits to the limits; missing ones stay missing."""

    def __init__(self, method: str, fold: float | None = None) -> None:
        self.method = method
        self.fold = fold

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Learn the limits of each column; a column without any value has none."""
        self.limits_ = {name: limits(X[name], self.method, self.fold) for name in X}
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the frame with capped numbers."""
        return X.assign(**{name: X[name].clip(*self.limits_[name]) for name in X})

    def get_feature_names_out(self, names: Any = None) -> Any:
        """Return the names as they are."""
        return names


def limits(column: pd.Series, method: str, fold: float | None) -> tuple[float | None, float | None]:
    """Return the lowest and the highest number that is no outlier; None without any number, or if all are alike."""
    there = column.dropna().clip(-LARGEST, LARGEST)
    if there.empty:
        return None, None
    if fold is None:
        fold = FOLDS[method]
    if method == "quantiles":
        return float(there.quantile(fold)), float(there.quantile(1 - fold))
    if method == "gaussian":
        middle, spread = float(there.mean()), float(there.std(ddof=0))
        low, high = middle, middle
    elif method == "mad":
        middle = float(there.median())
        spread = 1.4826 * float((there - middle).abs().median())
        low, high = middle, middle
    else:
        low, high = float(there.quantile(0.25)), float(there.quantile(0.75))
        spread = high - low
    # Where most rows are alike, everything else would be an outlier.
    return (low - fold * spread, high + fold * spread) if spread > 0 else (None, None)


class Discretiser(TransformerMixin, BaseEstimator):
    """Replace numbers by the number of their bin, from 0; missing ones stay missing."""

    def __init__(self, bins: int, by: str) -> None:
        self.bins = bins
        self.by = by

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Learn the edges between the bins of each column; equal edges are one."""
        self.edges_ = {name: self._edges(X[name].dropna().clip(-LARGEST, LARGEST)) for name in X}
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the frame with the numbers of bins."""
        return X.assign(**{name: self._binned(X[name], edges) for name, edges in self.edges_.items()})

    def get_feature_names_out(self, names: Any = None) -> Any:
        """Return the names as they are."""
        return names

    def _edges(self, there: pd.Series) -> list[float]:
        if there.empty:
            return []
        if self.by == "width":
            inner = np.linspace(there.min(), there.max(), self.bins + 1)[1:-1]
        else:
            inner = np.quantile(there, np.linspace(0, 1, self.bins + 1)[1:-1])
        return [float(edge) for edge in np.unique(inner)]

    @staticmethod
    def _binned(column: pd.Series, edges: list[float]) -> pd.Series:
        return pd.Series(np.searchsorted(edges, column, side="right"), column.index, float).where(column.notna())


class ColumnChoice(TransformerMixin, BaseEstimator):
    """Keep some columns of a frame. What chooses them is used at the fit, and not stored."""

    def __init__(self, columns: Columns, by: str, settings: dict[str, Any]) -> None:
        self.columns = columns
        self.by = by
        self.settings = settings

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Choose among the columns that it is for; all others stay."""
        from include.training.transforms import choosing

        among = self.columns(X)
        keep = set(getattr(choosing, self.by)(X[among], y, **self.settings)) if among else set()
        self.kept_ = [name for name in X if name not in among or name in keep]
        if not self.kept_:
            raise ValueError(f"{self.by} leaves no column: let it choose less strictly, or name its `columns`")
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the columns that were kept."""
        return X[self.kept_]


def signed_log(X: pd.DataFrame) -> pd.DataFrame:
    """Return the logarithm of 1 + |x| with the sign of x, which is defined for every number."""
    return np.sign(X) * np.log1p(np.abs(X))


def within_range(X: pd.DataFrame) -> pd.DataFrame:
    """Return numbers that can be squared: none beyond ±1e30."""
    return X.clip(-LARGEST, LARGEST)


def as_categories(X: pd.DataFrame) -> pd.DataFrame:
    """Return codes as categories, which histogram boosting splits as sets."""
    return X.astype("category")


def as_array(X: pd.DataFrame) -> np.ndarray:
    """Return the numbers without the names of columns, of which some libraries refuse characters."""
    return np.clip(np.asarray(X, dtype=np.float64), -LARGEST, LARGEST)
