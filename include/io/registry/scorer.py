"""The kernel of `score`: it makes the scores of a block of rows, in the worker or on an executor of Spark."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from include.core import schemas
from include.core.errors import DataError
from include.core.horizons import KEY
from include.io.registry.models import LoadedModel, VerifiedModel

OF_ROW = (*KEY, "as_of", "features_version")
"""The columns of a row of features that its score has too."""


def score_rows(loaded: LoadedModel, version: int, rows: pl.DataFrame, top: int | None = None) -> pl.DataFrame:
    """Return the columns of scores for each row. They do not depend on how rows are cut into blocks, to the bit.

    Args:
        loaded: the model.
        version: its number.
        rows: `OF_ROW` and the inputs of the model.
        top: with so many reasons; None: without any.
    """
    kept = rows.select(OF_ROW)
    columns: dict[str, Any] = {}
    finite = np.ones(rows.height, dtype=bool)
    if rows.height:
        scores = loaded.predict(rows)
        columns = loaded.problem.published(scores, loaded.decision_threshold)
        if top is not None:
            columns[schemas.REASONS] = loaded.explain(rows, top)
        finite = np.isfinite(scores).reshape(rows.height, -1).all(axis=1)
    series = (pl.Series(name, values, schemas.STORED_PREDICTION[name]) for name, values in columns.items())
    scored = schemas.with_prediction_columns(kept.with_columns(*series).lazy()).collect()
    scored = scored.with_columns(pl.when(pl.Series(finite)).then("score").otherwise(None).alias("score"))
    return scored.with_columns(model_version=pl.lit(version, pl.Int64))


@dataclass(frozen=True)
class Scorer:
    """A version that scores blocks of rows.

    It travels to executors as the files of the model, which are loaded there as everywhere: so they score their
    reference rows with the libraries of the executor first.

    Attributes:
        model: the name of the model, for messages.
        version: the version.
        verified: its files.
        top: how many reasons each row gets; None: none.
    """

    model: str
    version: int
    verified: VerifiedModel
    top: int | None = None

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model."""
        return self.verified.load()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the loaded model."""
        return {name: value for name, value in vars(self).items() if name != "loaded"}

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the scores (`schemas.SCORES`) of a block of rows.

        Raises:
            DataError: a score is NaN or infinite.
        """
        scores = score_rows(self.loaded, self.version, rows, self.top)
        wrong = scores.filter(~pl.col("score").is_finite() | pl.col("score").is_null())
        if not wrong.is_empty():
            raise DataError(
                f"{self.model}: version {self.version} gives {wrong.height} of {scores.height} rows a score that is "
                f"NaN or infinite, first on {wrong['day'][0]}; nothing was written for these days"
            )
        return scores.select(schemas.SCORES.keys()).cast(schemas.SCORES)  # type: ignore[arg-type]
