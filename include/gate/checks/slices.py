"""Is the version worse than a constant for a part of the rows?"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from include.core.base import Config, Name
from include.core.errors import nearest
from include.core.feeds import HORIZON
from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most, excess, show
from include.gate.evidence import Evidence
from include.training.config import Training

if TYPE_CHECKING:  # every DAG file loads this module
    import polars as pl


class Group(Config):
    """A slice column that the features do not have: a few labels of one that they do, the others together."""

    of: str = Field(description="feature column", examples=["store"])
    values: dict[str, tuple[str, ...]] = Field(
        min_length=1, description="name of a group -> labels in it", examples=[{"large": ["001", "002"]}]
    )
    otherwise: str = Field(description="name of the group of all other labels", examples=["small"])


class Slices(GateCheck):
    """The loss in each slice against that of the dummy baseline there. It keeps out a model that is bad for some.

    Small slices are left out. A column without a slice that is large enough fails. Whom a model must not fail is the
    owner's decision, so there is no default.
    """

    kind: Literal["slices"] = "slices"
    by: tuple[str, ...] = Field(
        min_length=1,
        description="feature columns, names of `groups`, or horizon",
        examples=[["region", "store_size", "horizon"]],
    )
    groups: dict[Name, Group] = Field(default_factory=dict, description="columns that are made for this check")
    min_rows: int = Field(default=300, ge=1, description="a smaller slice is not checked by itself")
    at_most: float = Field(default=0.05, description="share by which the loss may be over the dummy baseline's there")

    @property
    def subject(self) -> str:
        """The columns."""
        return ", ".join(self.by)

    def require_fit(self, model: Training) -> None:
        """Refuse columns that the features do not have."""
        horizon = [HORIZON] if model.horizon_days else []
        for name in self.by:
            if name not in self.groups and name not in (*model.features, *horizon):
                raise ValueError(f"by: no feature or group {name!r}{nearest(name, model.features)}")
        for name, group in self.groups.items():
            if group.of not in model.categorical:
                known = nearest(group.of, model.categorical)
                raise ValueError(f"groups.{name}.of: no categorical feature {group.of!r}{known}")

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Yield a verdict for each slice that is large enough."""
        for column in self.by:
            verdicts = list(self._verdicts(evidence, column))
            if not verdicts:
                sentence = f"no {column} has {self.min_rows} rows"
                verdicts = [self.verdict(column, None, at_most(self.at_most), sentence, "+.2%")]
            yield from verdicts

    def _verdicts(self, evidence: Evidence, column: str) -> Iterator[Check]:
        values, by = self._values(evidence.labels, column), evidence.problem_type.chosen_by
        for value in sorted(set(values.drop_nulls())):
            inside = (values == value).fill_null(False).to_numpy()
            if inside.sum() < self.min_rows:
                continue
            subject = f"{column}={value}"
            own = evidence.mean_loss(evidence.challenger.score, inside) if evidence.finite else None
            dummy = evidence.mean_loss(evidence.dummy, inside)
            against = f"{by} {show(own)} against {show(dummy)} of the dummy baseline:"
            sentence = f"{subject}, {inside.sum():,} rows: {against}"
            yield self.verdict(subject, excess(own, dummy), at_most(self.at_most), sentence, "+.2%")

    def _values(self, labels: "pl.DataFrame", column: str) -> "pl.Series":
        import polars as pl

        group = self.groups.get(column)
        if group is None:
            return labels[column].cast(pl.String)
        named = {label: name for name, members in group.values.items() for label in members}
        return labels[group.of].cast(pl.String).replace_strict(named, default=group.otherwise, return_dtype=pl.String)
