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
