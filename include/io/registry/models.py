"""Load logged models and predict with them. Only this module turns rows into scores."""

from dataclasses import dataclass
from typing import Any, Self

import mlflow.sklearn
import numpy as np
import polars as pl
from mlflow.models import Model as LoggedFiles
from mlflow.types import DataType
from threadpoolctl import threadpool_limits

from include.config.model import Model
from include.io.registry.client import MlflowConnection
from include.training.problem_types import get_problem_type
from include.training.training_set import estimator_inputs


@dataclass(frozen=True)
class LoadedModel:
    """An estimator with everything it needs to predict, as it was when the model was logged.

    Attributes:
        estimator: a fitted scikit-learn estimator.
        numeric: its numeric input columns.
        categorical: its input columns with labels.
        problem_type: the kind of problem, which gives the scores their meaning.
        decision_threshold: a score of at least this is predicted as 1 (binary problems).
    """

    estimator: Any
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    problem_type: str
    decision_threshold: float

    @classmethod
    def of(cls, model: Model, estimator: Any) -> Self:
        """Return an estimator that was fitted in this process, with the declarations of its model."""
        return cls(
            estimator=estimator,
            numeric=model.numeric,
            categorical=model.categorical,
            problem_type=model.problem_type,
            decision_threshold=model.decision_threshold,
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that `predict` needs."""
        return (*self.numeric, *self.categorical)

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        """Score rows, on one thread: with more, sums are added in another order and differ in the last bits.

        Args:
            rows: a frame with at least the columns `inputs`.

        Returns:
            One float64 for each row: the probability of 1, or the predicted value.
        """
        with threadpool_limits(1):
            features = estimator_inputs(rows, self.numeric, self.categorical)
            return get_problem_type(self.problem_type).predict(self.estimator, features)


def load(connection: MlflowConnection, uri: str) -> LoadedModel:
    """Load the model of a URI (`models:/…`)."""
    with connection.downloaded(uri) as path:
        files = LoggedFiles.load(path)
        estimator = mlflow.sklearn.load_model(path)
    columns, metadata = files.get_input_schema().inputs, files.metadata or {}
    return LoadedModel(
        estimator=estimator,
        numeric=tuple(c.name for c in columns if c.type is DataType.double),
        categorical=tuple(c.name for c in columns if c.type is DataType.string),
        problem_type=metadata["problem_type"],
        decision_threshold=float(metadata["decision_threshold"]),
    )
