"""What every transform provides, and which columns it is for. Each family has one file beside this one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from include.core.variants import Variant

if TYPE_CHECKING:  # every DAG file loads this module
    import numpy as np
    import pandas as pd

Kind = Literal["number", "label"]


@dataclass(frozen=True)
class Context:
    """What a transform knows of the model.

    Attributes:
        problem_type: of the model.
        seed: of all random numbers.
    """

    problem_type: str
    seed: int

    @property
    def classifies(self) -> bool:
        """Whether the outcome is a class."""
        return self.problem_type in ("binary", "multiclass")


class Transform(Variant):
    """One step between feature columns and estimator; it learns from the days to fit on alone."""

    takes: ClassVar[Kind | None] = None
    """The columns that it can work on; None: all."""
    only_at_fit: ClassVar[bool] = False
    """Whether it only removes rows from those to fit on. No row is ever removed from those to score."""

    columns: tuple[str, ...] = Field(
        default=(),
        description="the columns of `numeric` and `categorical` that it works on; by default all of the right kind, "
        "those that an earlier transform made too",
        examples=[["revenue_7d"]],
    )

    @property
    def wants(self) -> Kind | None:
        """The columns that it can work on; None: all."""
        return self.takes

    def kinds(self, before: dict[str, Kind], problem_type: str) -> dict[str, Kind]:
        """Return the kinds of the columns of `model.yaml` after it, without those that it replaces by others."""
        return before

    def works_on(self, kinds: dict[str, Kind]) -> list[str]:
        """Return the columns of `model.yaml` that it works on."""
        return [name for name, kind in kinds.items() if name in (self.columns or kinds) and self.wants in (None, kind)]

    def step(self, context: Context) -> Any:
        """Return the unfitted scikit-learn transformer of a whole frame."""
        from include.training.transforms.fitted import Columns, on_columns

        return on_columns(self.kind, self.transformer(context), Columns([*self.columns], self.wants))

    def transformer(self, context: Context) -> Any:
        """Return the unfitted scikit-learn transformer of the columns that it works on."""
        raise NotImplementedError


class RowRemoval(Transform):
    """A transform that removes rows from those to fit on, before all others."""

    only_at_fit = True

    def keeps(self, frame: "pd.DataFrame") -> "np.ndarray":
        """Return for each row to fit on whether it stays."""
        raise NotImplementedError


def wrong_columns(
    transforms: Sequence[Transform], numeric: Sequence[str], categorical: Sequence[str], problem_type: str
) -> list[str]:
    """Return a sentence for each column that a transform cannot work on; each begins with its place in the list."""
    from include.core.errors import nearest

    declared: dict[str, Kind] = {**dict.fromkeys(numeric, "number"), **dict.fromkeys(categorical, "label")}
    kinds, problems, others = declared, [], False
    words = {"number": "numbers", "label": "labels"}
    for place, transform in enumerate(transforms):
        if transform.only_at_fit and others:
            problems.append(f"{place}.kind: {transform.kind} removes rows, so it must stand before all other kinds")
        others |= not transform.only_at_fit
        for position, name in enumerate(transform.columns):
            key = f"{place}.columns.{position}"
            if name not in declared:
                problems.append(f"{key}: no column {name!r} in numeric or categorical{nearest(name, declared)}")
            elif name not in kinds:
                problems.append(f"{key}: an earlier transform has replaced {name} by other columns")
            elif transform.wants not in (None, kinds[name]):
                is_, wants = words[kinds[name]], words[str(transform.wants)]
                problems.append(f"{key}: {name} has {is_} here, and {transform.kind} is for {wants}")
        kinds = transform.kinds(kinds, problem_type)
    return problems
