"""What errors of a model cost, as its owner declares it. Pure: the training report and people read it, no fit does."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from include.core.base import Config
from include.core.errors import nearest

if TYPE_CHECKING:  # every DAG file loads this module
    import numpy as np

Cost = Annotated[float, Field(ge=0)]

KEYS: Mapping[str, tuple[str, ...]] = {
    "binary": ("false_positive", "false_negative"),
    "multiclass": ("wrong",),
    "regression": ("under", "over"),
    "count": ("under", "over"),
    "quantile": ("under", "over"),
}
"""The costs that each problem type needs."""


class Costs(Config):
    """What an error costs, in a unit of the owner. Which keys are needed depends on `problem_type`."""

    unit: str = Field(min_length=1, description="of the costs, in words of the owner", examples=["EUR"])
    false_positive: Cost | None = Field(
        default=None, description="binary: of a prediction of 1 where the outcome is 0", examples=[1]
    )
    false_negative: Cost | None = Field(
        default=None, description="binary: of a prediction of 0 where the outcome is 1", examples=[5]
    )
    under: Cost | None = Field(
        default=None,
        description="numbers: of each unit of the outcome by which a prediction is too low",
        examples=[2],
    )
    over: Cost | None = Field(
        default=None,
        description="numbers: of each unit of the outcome by which a prediction is too high",
        examples=[1],
    )
    wrong: Cost | None = Field(default=None, description="multiclass: of a wrong label", examples=[1])
    matrix: dict[str, dict[str, Cost]] = Field(
        default_factory=dict,
        description="multiclass: pairs of labels that cost another amount than `wrong`: the true label, then the "
        "predicted one",
        examples=[{"many": {"none": 10}}],
    )

    def misfits(self, problem_type: str, classes: tuple[str, ...]) -> Iterator[str]:
        """Yield a sentence for each cost that is missing, or that the problem type does not have.

        Args:
            problem_type: of the model.
            classes: the labels of the outcome, where it has labels.
        """
        needed = KEYS[problem_type]
        has = {key for keys in KEYS.values() for key in keys if getattr(self, key) is not None}
        for key in needed:
            if key not in has:
                yield f"costs.{key}: is needed for a model of problem_type {problem_type}"
        for key in sorted(has - {*needed}):
            yield f"costs.{key}: a model of problem_type {problem_type} has no such cost; it has {', '.join(needed)}"
        if self.matrix and problem_type != "multiclass":
            yield f"costs.matrix: only multiclass has it, and problem_type is {problem_type}"
            return
        for label in [*self.matrix, *(each for row in self.matrix.values() for each in row)]:
            if label not in classes:
                yield f"costs.matrix: no label {label!r}{nearest(label, classes)}"

    def by_row(self, truth: "np.ndarray", prediction: "np.ndarray", classes: tuple[str, ...] = ()) -> "np.ndarray":
        """Return the cost (f64) of each row, in `unit`.

        Args:
            truth: the outcomes; numbers of labels where the outcome has labels.
            prediction: what was predicted, as it is published: the decision, the number, the number of the label.
            classes: the labels of the outcome, where it has labels.
        """
        import numpy as np

        if self.false_positive is not None:
            wrong = np.where(prediction == 1, self.false_positive, self.false_negative or 0.0)
            return np.where(truth == prediction, 0.0, wrong)
        if self.wrong is not None:
            table = np.full((len(classes), len(classes)), self.wrong)
            np.fill_diagonal(table, 0.0)
            for true, row in self.matrix.items():
                for predicted, cost in row.items():
                    table[classes.index(true), classes.index(predicted)] = cost
            return np.asarray(table[truth.astype(np.int64), prediction.astype(np.int64)])
        error = prediction - truth
        return np.asarray(np.where(error > 0, (self.over or 0.0) * error, -(self.under or 0.0) * error))
