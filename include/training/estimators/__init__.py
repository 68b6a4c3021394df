"""The estimators that `model.yaml` may declare instead of `estimator.py`: a class for each `kind`.

To add one: its file and one entry in `AnyEstimator`; or a package with the entry point `nightly_ml.estimators`.
"""

from typing import Annotated

from pydantic import Field

from include.training.estimators.base import Estimator as Estimator
from include.training.estimators.boosted import Boosted
from include.training.estimators.forest import Forest
from include.training.estimators.lightgbm import LightGbm
from include.training.estimators.linear import Linear
from include.training.estimators.plugin import Plugin
from include.training.estimators.xgboost import XgBoost

AnyEstimator = Annotated[
    Linear | Boosted | Forest | LightGbm | XgBoost | Plugin,
    Field(discriminator="kind"),
]
"""Every estimator; `kind` says which one."""

TYPES_OF_KINDS = tuple(name for kind in (Linear, Boosted, Forest, LightGbm, XgBoost) for name in kind.trusted_types)
"""What the fitted models of all kinds of the product may contain."""
