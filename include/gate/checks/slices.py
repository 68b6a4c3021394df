"""Is the version worse than a constant for a part of the rows?"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from include.core.base import Config, Name
from include.core.errors import nearest
from include.core.feeds import HORIZON
from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most, excess, show
from include.gate.evidence import Evidence
from include.gate.resampling import Between, between, chance_of_excess, holm, ratio_draws
from include.training.config import Training

if TYPE_CHECKING:  # every DAG file loads this module
    import polars as pl


SURE = 0.05
"""A slice beyond the limit is refused if chance explains it with at most this probability, for all slices together."""


class Group(Config):
    """A slice column that the features do not have: a few labels of one that they do, the others together."""

    of: str = Field(description="feature column", examples=["store"])
    values: dict[str, tuple[str, ...]] = Field(
        min_length=1, description="name of a group -> labels in it", examples=[{"large": ["001", "002"]}]
    )
    otherwise: str = Field(description="name of the group of all other labels", examples=["small"])


class Slices(GateCheck):
    """The loss in each slice against that of the dummy baseline there. It keeps out a model that is bad for some.

    Small slices are left out. A column without a slice that is large enough fails. Of many slices, one is beyond the
    limit by chance: a slice is refused only if chance does not explain it, corrected for the number of slices (Holm
    1979). Whom a model must not fail is the owner's decision, so there is no default.
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
        found = {column: list(self._measured(evidence, column)) for column in self.by}
        measured = [each for each in (*itertools.chain(*found.values()),) if each.chance is not None]
        adjusted = dict(zip(measured, holm([each.chance or 0.0 for each in measured]), strict=True))
        for column, slices in found.items():
            if not slices:
                sentence = f"no {column} has {self.min_rows} rows"
                yield self.verdict(column, None, at_most(self.at_most), sentence, "+.2%")
            for each in slices:
                chance, excused = adjusted.get(each, 0.0), None
                if chance > SURE:
                    excused = f"but among {len(measured)} slices so much can be chance (p {show(chance)} by Holm)"
                limit, ends = at_most(self.at_most), each.between
                yield self.verdict(
                    each.subject, each.excess, limit, each.sentence, "+.2%", between=ends, excused=excused
                )

    def _measured(self, evidence: Evidence, column: str) -> "Iterator[MeasuredSlice]":
        values, by = labels_of(evidence.labels, column, self.groups), evidence.problem_type.chosen_by
        for value in sorted(set(values.drop_nulls())):
            inside = (values == value).fill_null(False).to_numpy()
            if inside.sum() < self.min_rows:
                continue
            subject = f"{column}={value}"
            own = evidence.mean_loss(evidence.challenger.score, inside) if evidence.finite else None
            dummy = evidence.mean_loss(evidence.dummy, inside)
            against = f"{by} {show(own)} against {show(dummy)} of the dummy baseline:"
            sentence, over = f"{subject}, {inside.sum():,} rows: {against}", excess(own, dummy)
            ends = chance = None
            if over is not None:
                days, truth, problem = evidence.days[inside], evidence.truth[inside], evidence.problem_type
                losses = [
                    problem.loss_by_row(truth, score[inside]) for score in (evidence.challenger.score, evidence.dummy)
                ]
                draws, count = ratio_draws(days, *losses, seed=evidence.seed), len(np.unique(days))
                ends = between(draws, days)
                # Of a single day nothing is known about chance: the limit decides alone.
                chance = chance_of_excess(over, self.at_most, draws, count) if count > 1 else None
            yield MeasuredSlice(subject, over, ends, chance, sentence)


@dataclass(frozen=True)
class MeasuredSlice:
    """What was measured of one slice: the share by which its loss is over the dummy baseline's, and its chance."""

    subject: str
    excess: float | None
    between: Between | None
    chance: float | None
    sentence: str


def labels_of(labels: "pl.DataFrame", column: str, groups: Mapping[str, Group]) -> "pl.Series":
    """Return the label of each row in a column of the features, or the group that it is in."""
    import polars as pl

    group = groups.get(column)
    if group is None:
        return labels[column].cast(pl.String)
    named = {label: name for name, members in group.values.items() for label in members}
    return labels[group.of].cast(pl.String).replace_strict(named, default=group.otherwise, return_dtype=pl.String)
