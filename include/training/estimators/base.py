"""What every estimator of a `kind` provides. One file beside this one for each of them."""

import importlib.util
from abc import abstractmethod
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

from pydantic import Field

from include.core.variants import Variant
from include.training.problem_types import ProblemType
from include.training.transforms import Context, Transform
from include.training.transforms.labels import Ordinal
from include.training.transforms.select import DropMissing

MOST_LABELS = 250
"""Of one column; histogram boosting bins into 255."""


class Estimator(Variant):
    """An estimator that needs no Python: it prepares what the declared transforms left, and predicts.

    It is fitted on one thread, so that it is the same on a machine with one core and with more.
    """

    problem_types: ClassVar[tuple[str, ...]] = ("binary", "multiclass", "regression", "count", "quantile")
    """What it can predict."""
    trusted_types: ClassVar[tuple[str, ...]] = ()
    """What its fitted models may contain beside `TRUSTED_TYPES` of `include/training/serialization.py`."""
    uses: ClassVar[tuple[type[Transform], ...]] = ()
    """The transforms that it prepares with."""
    package: ClassVar[str | None] = None
    """A package that the production lock does not have, if it needs one."""
    distributions: ClassVar[tuple[str, ...]] = ()
    """What can install that package. Its version decides a fit too, as the lock does for all other packages."""

    @property
    def version(self) -> str:
        """Name and version of the package; empty if it needs none."""
        for name in self.distributions:
            with suppress(PackageNotFoundError):
                return f"{name} {version(name)}"
        return ""

    def require_fit(self, problem_type: str) -> None:
        """Raise ValueError when it cannot be fitted for a problem type, or its package is missing."""
        if problem_type not in self.problem_types:
            raise ValueError(f"{self.kind} cannot predict {problem_type}; it can {', '.join(self.problem_types)}")
        if self.package and importlib.util.find_spec(self.package) is None:
            raise ValueError(
                f"{self.kind} needs the package {self.package}, which is not installed: "
                "add requirements-boosting.txt to the image (docs/transforms.md)"
            )

    @abstractmethod
    def preparation(self, context: Context) -> list[tuple[str, Any]]:
        """Return the steps for what is still a label or missing when it comes to the estimator."""

    @abstractmethod
    def predictor(self, context: Context, quantile: float | None) -> Any:
        """Return the unfitted scikit-learn estimator; of one quantile, where quantiles are predicted."""

    def steps(self, context: Context, problem: ProblemType) -> list[tuple[str, Any]]:
        """Return the last steps of the pipeline."""
        quantiles = getattr(problem, "quantiles", ())
        if context.problem_type == "quantile":
            from sklearn.ensemble import VotingRegressor

            predict: Any = VotingRegressor([
                (f"q{n}", self.predictor(context, quantile)) for n, quantile in enumerate(quantiles)
            ])
        else:
            predict = self.predictor(context, None)
        return [*self.preparation(context), ("predict", predict)]


class Trees(Estimator):
    """Settings that all boosted trees share."""

    uses = (DropMissing, Ordinal)

    learning_rate: float = Field(default=0.1, gt=0, le=1, description="how much each tree counts", examples=[0.05])
    max_iter: int = Field(default=100, ge=1, description="how many trees", examples=[200])
    max_leaf_nodes: int = Field(default=15, ge=2, description="the most leaves of a tree", examples=[31])
    min_samples_leaf: int = Field(default=100, ge=1, description="the fewest rows of a leaf", examples=[20])
    max_features: float = Field(default=0.4, gt=0, le=1, description="share of the columns that a split may use")
    l2_regularization: float = Field(default=5.0, ge=0, description="the L2 penalty of the leaves")


def codes(context: Context) -> list[tuple[str, Any]]:
    """Return steps that drop columns without any value and replace labels by numbers; missing ones stay missing."""
    return [
        ("values", DropMissing(more_than=1).step(context)),
        ("codes", Ordinal(most=MOST_LABELS).step(context)),
    ]


def array() -> tuple[str, Any]:
    """Return the step that leaves the names of columns out."""
    from sklearn.preprocessing import FunctionTransformer

    from include.training.transforms.fitted import as_array

    return "array", FunctionTransformer(as_array)
