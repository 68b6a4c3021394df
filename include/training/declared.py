"""What a candidate declares in `model.yaml` alone: the pipeline it becomes, and the code that decides its fit. Pure."""

import hashlib
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.core.code import code_digest
from include.training.estimators import Estimator
from include.training.estimators.plugin import Plugin
from include.training.problem_types import ProblemType
from include.training.transforms import Context, RowRemoval, Transform

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FITTED = ("fitted.py", "choosing.py")
"""What all transforms share, beside their own file."""


def pipeline(estimator: Estimator, transforms: Sequence[Transform], problem: ProblemType, seed: int) -> Any:
    """Return the unfitted scikit-learn Pipeline of the transforms, in their order, and the estimator.

    Rows are removed before, by `rows_to_fit`: a Pipeline would also have to remove them from those to score.
    """
    from sklearn.pipeline import Pipeline

    context = Context(problem.kind, seed)
    steps = [
        (f"{place}_{each.kind}", each.step(context)) for place, each in enumerate(transforms) if not each.only_at_fit
    ]
    return Pipeline([*steps, *estimator.steps(context, problem)])


def rows_to_fit(transforms: Sequence[Transform], frame: "pd.DataFrame") -> "np.ndarray":
    """Return for each row whether it is learned from: one removal after the other, each of what the one before left."""
    import numpy as np

    stays = np.ones(len(frame), dtype=bool)
    for each in transforms:
        if isinstance(each, RowRemoval):
            stays[stays] = each.keeps(frame[stays])
    if not stays.any():
        removing = ", ".join(each.kind for each in transforms if each.only_at_fit)
        raise ValueError(f"{removing}: no row to fit on is left; remove fewer")
    return stays


def declared_digest(estimator: Estimator, transforms: Sequence[Transform]) -> str:
    """Digest of the product's code that a declared candidate uses, and of the packages that the lock does not have."""
    estimators = [estimator, *([estimator.own] if isinstance(estimator, Plugin) else [])]
    kinds = [type(each) for each in (*transforms, *estimators)] + [used for each in estimators for used in each.uses]
    classes = [base for kind in kinds for base in kind.__mro__]
    own = [Path(inspect.getfile(base)) for base in classes if issubclass(base, Transform | Estimator)]
    folder = Path(inspect.getfile(Transform)).parent
    code = code_digest([Path(__file__), *(folder / name for name in FITTED), *dict.fromkeys(own)])
    packages = [each.version for each in estimators if each.version]
    return hashlib.sha256(json.dumps([code, packages]).encode()).hexdigest()
