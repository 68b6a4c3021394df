"""The transforms that `model.yaml` may declare: a class for each `kind`, with its settings and what it does.

To add one: its class and one entry in `AnyTransform`. Those of a family are in one file. What is fitted and stored in a
model is scikit-learn's, feature-engine's or in `fitted`; `choosing` has the functions that choose columns.
"""

from typing import Annotated

from pydantic import Field

from include.training.transforms.base import Context as Context
from include.training.transforms.base import RowRemoval as RowRemoval
from include.training.transforms.base import Transform as Transform
from include.training.transforms.base import wrong_columns as wrong_columns
from include.training.transforms.impute import Impute
from include.training.transforms.labels import LabelCounts, OneHot, Ordinal, RareLabels, TargetMean
from include.training.transforms.numbers import CapOutliers, Discretise, Log, Power, Rank, Scale
from include.training.transforms.rows import RemoveMissingRows, RemoveOutlierRows
from include.training.transforms.select import (
    DropConstant,
    DropCorrelated,
    DropDuplicated,
    DropMissing,
    SelectImportance,
    SelectL1,
    SelectRecursive,
    SelectSequential,
    SelectUnivariate,
)

AnyTransform = Annotated[
    RemoveMissingRows
    | RemoveOutlierRows
    | DropMissing
    | Impute
    | RareLabels
    | OneHot
    | Ordinal
    | LabelCounts
    | TargetMean
    | CapOutliers
    | Discretise
    | Scale
    | Power
    | Log
    | Rank
    | DropConstant
    | DropDuplicated
    | DropCorrelated
    | SelectUnivariate
    | SelectRecursive
    | SelectSequential
    | SelectL1
    | SelectImportance,
    Field(discriminator="kind"),
]
"""Every transform; `kind` says which one an entry of `model.yaml` is."""
