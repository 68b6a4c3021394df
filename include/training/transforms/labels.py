"""Labels: rare and unseen ones, and what becomes of them."""

from typing import Any, Literal

from pydantic import Field

from include.training.transforms.base import Context, Kind, Transform


class RareLabels(Transform):
    """Replace rare labels, and those that the fit never saw, by one label. Missing ones stay missing."""

    takes = "label"

    kind: Literal["rare_labels"] = Field(default="rare_labels", description="replace rare and unseen labels by one")
    less_than: float = Field(default=0.01, gt=0, lt=1, description="share of rows below which a label is rare")
    label: str = Field(default="other", description="what they become")

    def transformer(self, context: Context) -> Any:
        """Return our own: feature-engine's takes a missing label for a rare one."""
        from include.training.transforms.fitted import RareLabelReplacer

        return RareLabelReplacer(self.less_than, self.label)


class OneHot(Transform):
    """Make a column of 0 and 1 for each label. Rare labels share one; an unseen one is read as rare, or has only 0."""

    takes = "label"

    kind: Literal["one_hot"] = Field(default="one_hot", description="a column of 0 and 1 for each label")
    min_rows: int = Field(default=1, ge=1, description="labels with fewer rows share one column")
    most: int = Field(
        default=100, ge=1, description="the most columns that are made of one; more labels share the last"
    )

    def kinds(self, before: dict[str, Kind], problem_type: str) -> dict[str, Kind]:
        """Return the columns without those that it replaces."""
        replaced = self.works_on(before)
        return {name: kind for name, kind in before.items() if name not in replaced}

    def transformer(self, context: Context) -> Any:
        """Return scikit-learn's."""
        return self._encoder(sparse=False)

    def last_step(self, context: Context) -> Any:
        """Return what makes one sparse matrix of a whole frame, for an estimator that takes one."""
        from include.training.transforms.fitted import Columns, into_matrix

        return into_matrix(self.kind, self._encoder(sparse=True), Columns([*self.columns], self.wants))

    def _encoder(self, *, sparse: bool) -> Any:
        from sklearn.preprocessing import OneHotEncoder

        return OneHotEncoder(
            handle_unknown="infrequent_if_exist",
            min_frequency=self.min_rows,
            max_categories=self.most,
            sparse_output=sparse,
        )


class _Encoding(Transform):
    """Labels become numbers in a column of the same name."""

    takes = "label"

    def kinds(self, before: dict[str, Kind], problem_type: str) -> dict[str, Kind]:
        """Return the columns with numbers in place of labels."""
        return before | dict.fromkeys(self.works_on(before), "number")


class Ordinal(_Encoding):
    """Replace labels by numbers in alphabetical order. Unseen and missing ones are missing numbers."""

    kind: Literal["ordinal"] = Field(default="ordinal", description="replace labels by numbers in alphabetical order")
    min_rows: int = Field(default=1, ge=1, description="labels with fewer rows share one number")
    most: int | None = Field(
        default=None, ge=1, description="the most numbers; more labels share the last", examples=[50]
    )

    def transformer(self, context: Context) -> Any:
        """Return scikit-learn's."""
        from sklearn.preprocessing import OrdinalEncoder

        return OrdinalEncoder(
            min_frequency=self.min_rows,
            max_categories=self.most,
            handle_unknown="use_encoded_value",
            unknown_value=float("nan"),
            encoded_missing_value=float("nan"),
        )


class LabelCounts(_Encoding):
    """Replace a label by how many of the rows to fit on have it; 0 for an unseen or missing one."""

    kind: Literal["label_counts"] = Field(
        default="label_counts", description="replace labels by how often they come on the days to fit on"
    )
    as_share: bool = Field(default=False, description="the share of rows instead of their number")

    def transformer(self, context: Context) -> Any:
        """Return feature-engine's."""
        from feature_engine.encoding import CountFrequencyEncoder

        method = "frequency" if self.as_share else "count"
        return CountFrequencyEncoder(
            encoding_method=method, missing_values="ignore", unseen="encode", ignore_format=True
        )


class TargetMean(_Encoding):
    """Replace a label by the mean outcome of its rows, drawn towards the mean of all.

    It is cross-fitted: on the days to fit on, the mean in a row comes from other rows, so that an estimator learns how
    good the encoding is for rows that it never saw. An unseen label has the mean of all. With several classes there
    is a column for each.
    """

    kind: Literal["target_mean"] = Field(
        default="target_mean", description="replace labels by the mean outcome, cross-fitted"
    )
    smooth: float | None = Field(
        default=None,
        ge=0,
        description="how many rows of the mean of all are added; by default it follows from the variance",
        examples=[20],
    )
    folds: int = Field(default=5, ge=2, description="parts of the rows; the mean of one comes from the others")

    def kinds(self, before: dict[str, Kind], problem_type: str) -> dict[str, Kind]:
        """Return the columns with numbers in place of labels; without them if there is one for each class."""
        if problem_type != "multiclass":
            return super().kinds(before, problem_type)
        replaced = self.works_on(before)
        return {name: kind for name, kind in before.items() if name not in replaced}

    def transformer(self, context: Context) -> Any:
        """Return scikit-learn's."""
        from sklearn.model_selection import KFold
        from sklearn.preprocessing import TargetEncoder

        return TargetEncoder(
            target_type=context.problem_type if context.classifies else "continuous",
            smooth="auto" if self.smooth is None else self.smooth,
            cv=KFold(self.folds, shuffle=True, random_state=context.seed),
        )
