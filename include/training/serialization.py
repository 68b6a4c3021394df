"""The ways in which a fitted model becomes a file: each is a class with a `kind`. Pure; `io/registry` writes and loads.

A model that is loaded can only be of types that this repository names. What an artifact says about itself is never
asked.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from include.core.base import Config

TRUSTED_TYPES = (
    "feature_engine.encoding.count_frequency.CountFrequencyEncoder",
    "functools.partial",
    "include.training.transforms.fitted.Capper",
    "include.training.transforms.fitted.ColumnChoice",
    "include.training.transforms.fitted.Columns",
    "include.training.transforms.fitted.Discretiser",
    "include.training.transforms.fitted.Imputer",
    "include.training.transforms.fitted.NumberedClasses",
    "include.training.transforms.fitted.RareLabelReplacer",
    "include.training.transforms.fitted.as_array",
    "include.training.transforms.fitted.as_categories",
    "include.training.transforms.fitted.signed_log",
    "include.training.transforms.fitted.within_range",
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.model_selection._split.KFold",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils.validation.check_array",
)
"""The types and functions that every model may contain, beside those that skops trusts by itself.

scikit-learn's histogram boosting has the first of them, univariate selection its score function, and an ensemble keeps
its estimators in a `Bunch`, a dictionary; `KFold` says how a target encoding was cross-fitted. None of them runs what
a file contains; `functools.partial` is built of a function that must be trusted too.
"""


class Skops(Config):
    """A file of skops: data, and names of types. Loading it runs no code of the file."""

    kind: Literal["skops"] = Field(default="skops", description="skops: loading a model runs no code of its file")
    types: tuple[str, ...] = Field(
        default=(),
        description="types and functions that the model may contain beside those of scikit-learn; name one only after "
        "you have read what its constructor does",
        examples=[["lightgbm.sklearn.LGBMClassifier", "lightgbm.basic.Booster"]],
    )

    @property
    def trusted(self) -> list[str]:
        """Everything that a model may contain beside the types that skops trusts by itself."""
        return sorted({*TRUSTED_TYPES, *self.types})


class Cloudpickle(Config):
    """A pickle. Loading it runs whatever its file says, so only the digest protects it."""

    kind: Literal["cloudpickle"] = Field(description="cloudpickle: loading a model runs what its file says")
    reason: str = Field(
        description="why skops cannot take the estimator, for those who review", examples=["it has a lambda of …"]
    )

    @field_validator("reason")
    @classmethod
    def _given(cls, reason: str) -> str:
        if not reason.strip():
            raise ValueError("say why skops cannot take the estimator: loading a pickle runs what its file says")
        return reason


Serialization = Annotated[Skops | Cloudpickle, Field(discriminator="kind")]
"""Every way; `kind` says which one."""
